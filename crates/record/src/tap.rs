//! Where in the network something is read: a layer and a site in it, named as TransformerLens names hook points.

use std::fmt;
use std::str::FromStr;

/// A place inside a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The residual stream after the layer, before any final norm (`hook_resid_post`; Llama Scope position `R`).
    ResidPost,
    /// The attention's output before it is added to the residual stream (`hook_attn_out`; position `A`).
    AttnOut,
    /// The MLP's input after its norm (`ln2.hook_normalized`; where a transcoder, position `TC`, reads).
    MlpIn,
    /// The MLP's output before it is added to the residual stream (`hook_mlp_out`; position `M`).
    MlpOut,
}

impl Site {
    /// The TransformerLens name inside a block.
    pub fn hook(self) -> &'static str {
        match self {
            Site::ResidPost => "hook_resid_post",
            Site::AttnOut => "hook_attn_out",
            Site::MlpIn => "ln2.hook_normalized",
            Site::MlpOut => "hook_mlp_out",
        }
    }
}

/// A site of one layer. Written `blocks.{layer}.{hook}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tap {
    /// Decoder layer, from 0.
    pub layer: usize,
    /// Site in that layer.
    pub site: Site,
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks.{}.{}", self.layer, self.site.hook())
    }
}

/// A hook point that is not one of the sites that can be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "hook point `{0}` is not one of blocks.N.{{hook_resid_post, hook_attn_out, ln2.hook_normalized, hook_mlp_out}}"
)]
pub struct UnknownHook(pub String);

impl FromStr for Tap {
    type Err = UnknownHook;

    fn from_str(text: &str) -> Result<Self, UnknownHook> {
        let unknown = || UnknownHook(text.to_owned());
        let (layer, hook) = text.strip_prefix("blocks.").and_then(|t| t.split_once('.')).ok_or_else(unknown)?;
        let layer = layer.parse().map_err(|_| unknown())?;
        let site = [Site::ResidPost, Site::AttnOut, Site::MlpIn, Site::MlpOut].into_iter().find(|s| s.hook() == hook);
        Ok(Tap { layer, site: site.ok_or_else(unknown)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_reads_back_what_it_writes() {
        for site in [Site::ResidPost, Site::AttnOut, Site::MlpIn, Site::MlpOut] {
            let tap = Tap { layer: 31, site };
            assert_eq!(tap.to_string().parse::<Tap>().unwrap(), tap);
        }
        for bad in ["", "blocks.", "blocks.x.hook_mlp_out", "blocks.1.hook_resid_pre", "layers.1.hook_mlp_out"] {
            assert!(bad.parse::<Tap>().is_err(), "{bad}");
        }
    }
}
