//! What a feature may mean: the features that are active with it, those whose decoder vectors are near, and the tokens
//! that it promotes.

use llamascope_record::index::LayerIndex;
use serde::Serialize;

use super::table::Feature;
use super::{Scope, layer_and_feature};
use crate::answer::Answer;
use crate::ask::Ask;
use crate::library::OpenRun;
use crate::problem::Problem;

/// Tokens that are looked at for features active together: evenly spread over those where the feature is.
const SAMPLED: usize = 1000;

#[derive(Serialize)]
struct Neighbor {
    feature: Feature,
    cosine: Option<f32>,
    together: Option<u32>,
    jaccard: Option<f64>,
    lift: Option<f64>,
}

#[derive(Serialize)]
struct Neighbors {
    by: &'static str,
    sampled: Option<usize>,
    of: Option<usize>,
    items: Vec<Neighbor>,
}

pub fn neighbors(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let (layer, id) = layer_and_feature(run, ask)?;
    let by_decoder = ask.choice("by", &[("coact", false), ("decoder", true)])?;
    let k = ask.within("k", 1..=100)?.unwrap_or(20);
    ask.done()?;
    if !by_decoder {
        return Answer::json(&coactive(run, layer, id, k)?);
    }
    let nearest = scope.library.session(run)?.neighbors(layer.number(), id, k)?;
    let neighbor = |(id, cosine): (u32, f32)| {
        let feature = Feature::of(run, layer, id, layer.stats(id)?.as_ref());
        Ok(Neighbor { feature, cosine: Some(cosine), together: None, jaccard: None, lift: None })
    };
    let items = nearest.into_iter().map(neighbor).collect::<Result<_, Problem>>()?;
    Answer::json(&Neighbors { by: "decoder", sampled: None, of: None, items })
}

/// Counts the features of a bounded sample of the rows that have `id`.
fn coactive(run: &OpenRun, layer: &LayerIndex, id: u32, k: usize) -> Result<Neighbors, Problem> {
    let postings = layer.postings(id)?;
    let of = postings.len();
    let sampled = of.min(SAMPLED);
    let mut together = vec![0u32; layer.d_sae()];
    for nth in 0..sampled {
        let row = postings.get((nth as u64 * of as u64 / sampled as u64) as usize).row;
        for other in layer.row(row)?.ids().iter() {
            together[other as usize] += 1;
        }
    }
    let mut found: Vec<(u32, u32, f64)> = Vec::new();
    for (other, &count) in (0u32..).zip(&together).filter(|(other, count)| **count > 0 && *other != id) {
        // The sample stands for all rows that have the feature.
        let both = f64::from(count) * of as f64 / sampled as f64;
        let others = layer.stats(other)?.map_or(0.0, |stats| f64::from(stats.tokens));
        found.push((other, count, both / (of as f64 + others - both).max(both)));
    }
    found.sort_unstable_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    found.truncate(k);
    let neighbor = |(other, count, jaccard): (u32, u32, f64)| {
        let feature = Feature::of(run, layer, other, layer.stats(other)?.as_ref());
        let lift = f64::from(count) / sampled as f64 / feature.density.max(f64::MIN_POSITIVE);
        Ok(Neighbor { feature, cosine: None, together: Some(count), jaccard: Some(jaccard), lift: Some(lift) })
    };
    let items = found.into_iter().map(neighbor).collect::<Result<_, Problem>>()?;
    Ok(Neighbors { by: "coact", sampled: Some(sampled), of: Some(of), items })
}

#[derive(Serialize)]
struct TokenLogit {
    id: u32,
    text: String,
    logit: f32,
}

#[derive(Serialize)]
struct Logits {
    layer: usize,
    id: u32,
    promoted: Vec<TokenLogit>,
    suppressed: Vec<TokenLogit>,
    mean: f64,
    std: f64,
}

pub fn logits(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let (layer, id) = layer_and_feature(&scope.run, ask)?;
    let k = ask.within("k", 1..=100)?.unwrap_or(10);
    ask.done()?;
    let logits = scope.library.session(&scope.run)?.logits(layer.number(), id, k)?;
    let tokens = |tokens: Vec<(u32, String, f32)>| {
        tokens.into_iter().map(|(id, text, logit)| TokenLogit { id, text, logit }).collect()
    };
    Answer::json(&Logits {
        layer: layer.number(),
        id,
        promoted: tokens(logits.promoted),
        suppressed: tokens(logits.suppressed),
        mean: logits.mean,
        std: logits.std,
    })
}
