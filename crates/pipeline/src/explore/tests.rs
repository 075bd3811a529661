//! Bookkeeping; what `explore` writes is held against the rows of a run in `tests/runs`.

use llamascope_record::{Span, SparseRows, Tokens};

use super::strongest::{Chunk, Pieces, Place, Strongest, rounded};
use super::*;

const KEEP: Keep = Keep { contexts: 2, before: 1, after: 1, types: 8 };

/// A context of one-letter tokens behind a BOS.
fn context(document: u32, letters: &str) -> Context {
    let strs: Vec<String> = std::iter::once("<s>".into()).chain(letters.chars().map(|c| c.to_string())).collect();
    let spans = (0..strs.len() as u32).map(|at| Span { start: at.saturating_sub(1), end: at }).collect();
    let bos = (0..strs.len()).map(|at| at == 0).collect();
    let tokens = Tokens { ids: vec![0; strs.len()], spans, special: vec![false; strs.len()], bos, strs };
    Context { document, offset: 0, tokens, after: Position::default() }
}

/// What is found of feature 1 when it has these values on the letters.
fn found(texts: &[(&str, &[f32])]) -> (Vec<Feature>, Vec<String>) {
    let (mut strongest, mut pieces) = (Strongest::new(3, KEEP), Pieces::default());
    for (number, (letters, values)) in (0..).zip(texts) {
        let contexts = [context(number, letters)];
        let texts = pieces.intern_all(vec![contexts[0].tokens.strs.clone()]);
        let places: Vec<Place> = Place::all(0, &contexts[0].tokens).collect();
        let kept: Vec<usize> = (1..places.len()).collect();
        let vals: Vec<f32> = values.iter().copied().filter(|value| *value > 0.0).collect();
        let mut ptr = vec![0];
        values.iter().for_each(|value| ptr.push(ptr[ptr.len() - 1] + usize::from(*value > 0.0)));
        let rows = SparseRows::new(3, ptr, vec![1; vals.len()], vals).unwrap();
        let chunk = Chunk { contexts: &contexts, texts: &texts, types: &texts[0], places: &places };
        strongest.add(&chunk, &kept, &rows);
    }
    let mut features = strongest.features(&pieces);
    let texts = pieces.used_by(&mut features);
    (features, texts)
}

#[test]
fn the_strongest_contexts_are_kept_in_order_each_once() {
    let (features, texts) = found(&[
        ("abc", &[0.0, 1.0, 0.5]),
        ("abd", &[2.0, 0.0, 0.0]),
        ("abc", &[0.0, 3.0, 0.0]),
        ("xyz", &[0.0, 0.0, 2.0]),
        ("xyz", &[0.0, 0.0, 2.0]),
    ]);
    let [feature] = &features[..] else { panic!("one feature was active") };
    assert_eq!((feature.id, feature.rows, feature.max), (1, 6, 3.0));
    let shown: Vec<(u32, String, usize)> = feature
        .contexts
        .iter()
        .map(|w| (w.document, w.tokens.iter().map(|piece| texts[*piece as usize].as_str()).collect(), w.at))
        .collect();
    // Equal values in the order of the text; the window of the first holds no BOS.
    assert_eq!(shown, [(2, "abc".to_owned(), 1), (1, "ab".to_owned(), 0)]);
    assert_eq!(feature.contexts[1].more, (false, true));
    assert_eq!(feature.contexts[0].values, [(1, 3.0)]);
}

#[test]
fn counts_of_token_types_are_never_too_large_and_miss_none_that_is_frequent() {
    let letters: String =
        (0..2000).map(|n| if n % 3 == 0 { 'e' } else { char::from_u32(0x4e00 + n % 400).unwrap() }).collect();
    let values = vec![1.0; 2000];
    let (features, texts) = found(&[(&letters, &values)]);
    let of = |letter: &str| features[0].types.iter().find(|(piece, _)| texts[*piece as usize] == letter);
    let most = letters.chars().filter(|letter| *letter == 'e').count() as u64;
    let count = of("e").expect("a third of all").1;
    assert!(count <= most && count >= most - 2000 / 33, "{count} of {most}");
    assert_eq!(features[0].types[0], *of("e").unwrap());
}

#[test]
fn values_are_shown_with_three_digits() {
    assert_eq!([1.23456f32, 0.000_123_456, 98766.0].map(rounded), [1.23, 0.000_123, 98800.0]);
}
