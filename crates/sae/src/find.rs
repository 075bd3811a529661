//! Which SAEs a folder holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llamascope_record::{Site, Tap};

use crate::checkpoint::{pickle_in, refuse_pickle};
use crate::config::Config;
use crate::{Error, Format, llama_scope, r1_distill, saelens};

const LOOKED_FOR: &str = "looked for `hyperparams.json` (Llama Scope), `cfg.json` (SAELens) and `config.json` with \
                          `sae_weights.safetensors` (Llama Scope R1-Distill)";

/// The SAEs under a folder by where they read: those of its subfolders, or the folder itself if it is one.
///
/// Only names and configuration files are looked at. Subfolders that are no SAE are passed over; one whose name says that
/// it should be one (`...-L5R-8x`) and is not is an error, as are two SAEs for one place.
pub fn find_saes(folder: &Path) -> Result<BTreeMap<Tap, PathBuf>, Error> {
    check_is_folder(folder)?;
    if let Some(format) = known_format(folder) {
        return Ok(BTreeMap::from([(tap(folder, format)?, folder.into())]));
    }
    let mut entries = Vec::new();
    let io = |source| Error::Io { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    entries.sort();
    let mut found = BTreeMap::new();
    for path in entries.into_iter().filter(|path| path.is_dir()) {
        if known_format(&path).is_none() && named_tap(&path).is_none() {
            continue;
        }
        let tap = tap(&path, format_of(&path)?)?;
        if let Some(first) = found.insert(tap, path.clone()) {
            return Err(Error::Duplicate { tap, first, second: path });
        }
    }
    if found.is_empty() { Err(nothing_in(folder, " nor do its subfolders")) } else { Ok(found) }
}

/// The format of one SAE's folder.
pub(crate) fn format_of(folder: &Path) -> Result<Format, Error> {
    check_is_folder(folder)?;
    known_format(folder).ok_or_else(|| nothing_in(folder, ""))
}

fn check_is_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::metadata(folder) {
        Err(source) => Err(Error::Io { path: folder.into(), source }),
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::Folder { path: folder.into(), what: "is a file; name the folder that it lies in".into() }),
    }
}

fn known_format(folder: &Path) -> Option<Format> {
    let has = |name: &str| folder.join(name).is_file();
    if has(llama_scope::CONFIG) {
        Some(Format::LlamaScope)
    } else if has(saelens::CONFIG) {
        Some(Format::Saelens)
    } else if has(r1_distill::CONFIG) && has(r1_distill::WEIGHTS) {
        // A `config.json` alone is any model.
        Some(Format::R1Distill)
    } else {
        None
    }
}

fn nothing_in(folder: &Path, also: &str) -> Error {
    let hint = pickle_in(folder).map(|name| format!("; {}", refuse_pickle(&name))).unwrap_or_default();
    Error::Folder { path: folder.into(), what: format!("does not hold an SAE{also}; {LOOKED_FOR}{hint}") }
}

fn tap(folder: &Path, format: Format) -> Result<Tap, Error> {
    match format {
        Format::LlamaScope => llama_scope::tap(folder),
        Format::R1Distill => r1_distill::tap(folder),
        Format::Saelens => saelens::tap(folder),
    }
}

/// The tap of OpenMOSS' two formats: `hook_point_in`, and the same from the folder's name if that ends as theirs do.
pub(crate) fn openmoss_tap(folder: &Path, config: &Config) -> Result<Tap, Error> {
    let key = "hook_point_in";
    let tap: Tap =
        config.text(key)?.parse().map_err(|unknown| config.error(key, format!("cannot be read: {unknown}")))?;
    match named_tap(folder) {
        Some(named) if named != tap => {
            let what = format!("is `{tap}`, but the folder's name says `{named}`: one of them is of another SAE");
            Err(config.error(key, what))
        }
        _ => Ok(tap),
    }
}

/// The tap that a folder's name ends in: `L{N}{R|A|M|TC}`, after a hyphen if at all, with an expansion `-{E}x` or without.
fn named_tap(folder: &Path) -> Option<Tap> {
    let name = folder.file_name()?.to_str()?;
    let stem = match name.rsplit_once('-') {
        Some((stem, last)) if last.strip_suffix('x').is_some_and(|e| e.parse::<u32>().is_ok()) => stem,
        _ => name,
    };
    let last = stem.rsplit('-').next()?.strip_prefix('L')?;
    let digits = last.find(|c: char| !c.is_ascii_digit())?;
    let site = match &last[digits..] {
        "R" => Site::ResidPost,
        "A" => Site::AttnOut,
        "M" => Site::MlpOut,
        "TC" => Site::MlpIn,
        _ => return None,
    };
    Some(Tap { layer: last[..digits].parse().ok()?, site })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_layer_and_site() {
        for (name, layer, site) in [
            ("Llama3_1-8B-Base-L0R-8x", 0, Site::ResidPost),
            ("Demo-L10R-8x", 10, Site::ResidPost),
            ("Llama3_1-8B-Base-L31TC-32x", 31, Site::MlpIn),
            ("L7A-8x", 7, Site::AttnOut),
            ("L15R", 15, Site::ResidPost),
            ("x-L2M", 2, Site::MlpOut),
        ] {
            assert_eq!(named_tap(Path::new(name)), Some(Tap { layer, site }), "{name}");
        }
        for name in
            ["", "L", "LR-8x", "L1", "L1Q-8x", "XL1R-8x", "L1R-x8", "Llama", "L99999999999999999999R-8x", "1R-8x"]
        {
            assert_eq!(named_tap(Path::new(name)), None, "{name}");
        }
    }
}
