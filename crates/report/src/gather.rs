//! What a picture needs of a run, taken from its index.

use llamascope_record::index::{IndexError, LayerIndex, RunIndex};

use crate::chart::SentenceRows;
use crate::paint::{Paints, Style};
use crate::score::{FeaturePoints, Scope, Score};

/// The score of all rows of a layer.
///
/// # Errors
/// An index that cannot be read.
pub fn run_score(layer: &LayerIndex) -> Result<Score, IndexError> {
    let points = |stats: llamascope_record::index::FeatureStats| {
        (stats.id, FeaturePoints { tokens: stats.tokens.into(), points: stats.points, max: stats.max })
    };
    Ok(Score::from_counts(layer.rows(), layer.features()?.map(points)))
}

/// The score of the sentences in the scope, while `shown` is looked at.
///
/// # Errors
/// An index that cannot be read.
pub fn scope_score(index: &RunIndex, layer: &LayerIndex, scope: &Scope, shown: usize) -> Result<Score, IndexError> {
    if *scope == Scope::Run {
        return run_score(layer);
    }
    let mut score = Score::default();
    let sentences: Vec<usize> = match scope {
        Scope::Run => Vec::new(),
        Scope::Sentence => vec![shown],
        Scope::Selection(_) => (0..index.sentences()).filter(|&sentence| scope.holds(sentence, shown)).collect(),
    };
    for sentence in sentences {
        for row in layer.sentence(sentence)?.iter().filter(|row| row.is_there()) {
            score.add(&row.ids().to_vec(), row.vals());
        }
    }
    Ok(score)
}

/// The colours of a layer's features.
///
/// # Errors
/// An index that cannot be read.
pub fn paints(
    index: &RunIndex,
    layer: &LayerIndex,
    scope: &Scope,
    shown: usize,
    style: Style,
) -> Result<Paints, IndexError> {
    let run = run_score(layer)?;
    let scoped = if *scope == Scope::Run { run.clone() } else { scope_score(index, layer, scope, shown)? };
    Ok(Paints::new(style, layer.number(), &run, scoped))
}

/// The rows of a sentence at a layer, with its tokens.
///
/// # Errors
/// No such sentence, or an index that cannot be read.
pub fn sentence_rows(index: &RunIndex, layer: &LayerIndex, sentence: usize) -> Result<SentenceRows, IndexError> {
    let record = index.sentence(sentence)?.record;
    let features = layer.sentence(sentence)?.iter().map(|row| row.iter().collect()).collect();
    Ok(SentenceRows::new(sentence, &record.sentence.text, &record.tokens, features))
}
