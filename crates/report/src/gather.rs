//! What a picture needs of a run, taken from its index.

use llamascope_record::index::{IndexError, LayerIndex, RunIndex};

use crate::chart::SentenceRows;
use crate::paint::{Paints, Style};
use crate::score::{FeaturePoints, Scope, Score};

/// The name of a run's model, empty where nothing is known: the id on the hub, or the last part of a path, because where it
/// lies says nothing to a reader.
pub fn model(index: &RunIndex) -> &str {
    index.manifest().map_or("", |manifest| short_name(&manifest.model.id))
}

fn short_name(id: &str) -> &str {
    let on_hub = id.matches('/').count() <= 1 && !id.starts_with(['/', '.']) && !id.contains('\\');
    let name = if on_hub { id } else { id.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(id) };
    name.strip_suffix(".gguf").unwrap_or(name)
}

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

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn a_model_is_called_by_its_id_or_the_end_of_its_path() {
        for (id, name) in [
            ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
            ("target/models/small/SmolLM2.Q4_1.gguf", "SmolLM2.Q4_1"),
            ("/models/llama/", "llama"),
            ("./tiny", "tiny"),
            ("C:\\models\\a.gguf", "a"),
            ("", ""),
        ] {
            assert_eq!(short_name(id), name);
        }
    }
}
