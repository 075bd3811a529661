//! Comparing the folders of two runs.

use std::collections::BTreeSet;

use llamascope_record::run::{Run, RunError};

use super::{Comparer, Comparison, Difference, Side};

/// Why two runs cannot be compared at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A file of a run that cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A layer whose features do not mean the same in both runs.
    #[error("layer {layer}: the {what} is {a} in run A and {b} in run B: their features have nothing in common")]
    Incomparable {
        /// The layer.
        layer: usize,
        /// `d_sae` or `hook point`.
        what: &'static str,
        /// In run A.
        a: String,
        /// In run B.
        b: String,
    },
}

/// Compares two runs, reading one sentence of one layer at a time.
///
/// # Errors
/// A file that cannot be read, or a layer whose dictionaries differ in size or place according to the manifests.
pub fn compare_runs(a: &Run, b: &Run) -> Result<Comparison, CompareError> {
    let mut comparer = Comparer::default();
    for (run, side) in [(a, Side::A), (b, Side::B)] {
        if run.manifest.as_ref().is_some_and(|manifest| !manifest.complete) {
            comparer.differs(Difference::Incomplete { run: side });
        }
    }
    for (layer, only_in) in union(a.layers(), b.layers()) {
        if let Some(only_in) = only_in {
            comparer.differs(Difference::Layer { only_in, layer });
            continue;
        }
        comparable(a, b, layer)?;
        for (sentence, only_in) in union(&a.sentences_in(layer), &b.sentences_in(layer)) {
            match only_in {
                Some(only_in) => comparer.differs(Difference::Sentence { only_in, layer, sentence }),
                None => comparer.sentence(layer, sentence, &a.rows(layer, sentence)?, &b.rows(layer, sentence)?),
            }
        }
    }
    Ok(comparer.finish())
}

/// The numbers of both lists, ascending, with the side of those that only one of them has.
fn union(a: &[usize], b: &[usize]) -> impl Iterator<Item = (usize, Option<Side>)> + use<> {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
    let all: Vec<_> = a.union(&b).copied().collect();
    all.into_iter().map(move |number| {
        let only_in = match (a.contains(&number), b.contains(&number)) {
            (true, false) => Some(Side::A),
            (false, true) => Some(Side::B),
            _ => None,
        };
        (number, only_in)
    })
}

/// Whether the dictionaries of a layer have the same size and read at the same place, as far as the manifests tell.
fn comparable(a: &Run, b: &Run, layer: usize) -> Result<(), CompareError> {
    let sae = |run: &Run| {
        let saes = run.manifest.as_ref().map_or(&[][..], |manifest| &manifest.saes);
        saes.iter().find(|sae| sae.layer == layer).map(|sae| (sae.d_sae.to_string(), sae.hook.clone()))
    };
    let Some(((d_sae_a, hook_a), (d_sae_b, hook_b))) = sae(a).zip(sae(b)) else { return Ok(()) };
    for (what, a, b) in [("d_sae", d_sae_a, d_sae_b), ("hook point", hook_a, hook_b)] {
        if a != b {
            return Err(CompareError::Incomparable { layer, what, a, b });
        }
    }
    Ok(())
}
