//! The tokens that features promote: as the viewer asks it of one feature, for all of them.

use llamascope_compute::{Cpu, Device, Rows};
use llamascope_model::Checkpoint;
use llamascope_record::explored::Feature;
use llamascope_sae::Decoder;
use rayon::prelude::*;

use super::strongest::{Pieces, rounded};
use crate::Error;
use crate::live::largest;
use crate::observer::Observer;

/// Features whose logits are held at once.
const BLOCK: usize = 64;

/// Gives every feature the `k` tokens with the largest logits: decoder vector, times the gain of the final norm, times the
/// unembedding.
///
/// # Errors
/// A checkpoint without final norm or unembedding, an interruption.
pub(super) fn fill(
    device: &Cpu,
    checkpoint: &Checkpoint,
    decoder: &Decoder,
    features: &mut [Feature],
    pieces: &mut Pieces,
    k: usize,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let (gain, head) = (checkpoint.final_norm()?, device.matrix(&checkpoint.head()?));
    for block in features.chunks_mut(BLOCK) {
        if observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        let vector = |feature: &Feature| {
            let mut direction = decoder.direction(feature.id as usize);
            direction.iter_mut().zip(&gain).for_each(|(d, gain)| *d *= gain);
            direction
        };
        let vectors: Vec<f32> = block.iter().flat_map(vector).collect();
        let logits = device.linear(&Rows::from_vec(block.len(), gain.len(), vectors), &head);
        let best: Vec<Vec<(u32, f32)>> = device.on_host(|| {
            let of = |row: usize| largest((0..).zip(logits.row(row).iter().copied()).collect(), k);
            (0..block.len()).into_par_iter().map(of).collect()
        });
        for (feature, best) in block.iter_mut().zip(best) {
            let finite = best.into_iter().filter(|(_, logit)| logit.is_finite());
            let token =
                |(id, logit)| (pieces.intern(checkpoint.tokenizer.token(id).unwrap_or_default()), rounded(logit));
            feature.promoted = finite.map(token).collect();
        }
    }
    Ok(())
}
