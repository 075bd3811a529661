//! What is kept of each feature while a text goes by: its strongest contexts, the tokens it is active on most, counts.

use std::collections::HashMap;

use llamascope_record::explored::{Feature, Window};
use llamascope_record::{SparseRows, Tokens};

use super::Keep;
use crate::Error;
use crate::corpus::{Context, Corpus};

/// Token types that are counted of each feature at a time.
const COUNTERS: usize = 32;

/// Where a row of a chunk stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Which context of the chunk.
    pub context: u32,
    /// Position in it.
    pub position: u32,
    /// Whether it is that of a BOS.
    pub bos: bool,
}

impl Place {
    /// The places of a context's tokens.
    pub(super) fn all(context: u32, tokens: &Tokens) -> impl Iterator<Item = Place> {
        (0..).zip(&tokens.bos).map(move |(position, bos)| Place { context, position, bos: *bos })
    }
}

/// The number of the empty piece.
const BLANK: u32 = 0;

/// Pieces of text by number, each once.
pub(super) struct Pieces {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces { numbers: [(String::new(), BLANK)].into(), texts: vec![String::new()] }
    }
}

impl Pieces {
    /// The number of a text.
    pub(super) fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    pub(super) fn intern_all(&mut self, texts: Vec<Vec<String>>) -> Vec<Vec<u32>> {
        texts.iter().map(|texts| texts.iter().map(|text| self.intern(text)).collect()).collect()
    }

    /// Numbers the texts that some features use anew, the most used first: short numbers make short files. Gives those texts.
    pub(super) fn used_by(&self, features: &mut [Feature]) -> Vec<String> {
        let mut uses = vec![0u64; self.texts.len()];
        features.iter_mut().for_each(|feature| named(feature, |piece| uses[*piece as usize] += 1));
        let mut used: Vec<usize> = (0..uses.len()).filter(|piece| uses[*piece] > 0).collect();
        used.sort_unstable_by_key(|piece| (std::cmp::Reverse(uses[*piece]), &self.texts[*piece]));
        let mut anew = vec![0; self.texts.len()];
        (0..).zip(&used).for_each(|(number, piece)| anew[*piece] = number);
        features.iter_mut().for_each(|feature| named(feature, |piece| *piece = anew[*piece as usize]));
        used.into_iter().map(|piece| self.texts[piece].clone()).collect()
    }
}

/// Shows every piece that a feature names.
fn named(feature: &mut Feature, mut show: impl FnMut(&mut u32)) {
    feature.types.iter_mut().for_each(|(piece, _)| show(piece));
    feature.promoted.iter_mut().for_each(|(piece, _)| show(piece));
    feature.contexts.iter_mut().flat_map(|window| &mut window.tokens).for_each(show);
}

/// A piece of text for each token of a context: a character that is several tokens stands with the first of them.
pub(super) fn texts(context: &Context, corpus: &Corpus) -> Result<Vec<String>, Error> {
    let strs = &context.tokens.strs;
    if !strs.iter().any(|text| text.contains('\u{fffd}')) {
        return Ok(strs.clone());
    }
    let document = corpus.document(context.document as usize)?;
    let mut texts = vec![String::new(); strs.len()];
    for group in context.tokens.groups(&document.text) {
        texts[group.tokens.start] = group.text;
    }
    Ok(texts)
}

/// Three significant digits: what is shown of a value.
pub(super) fn rounded(value: f32) -> f32 {
    format!("{value:.2e}").parse().expect("a number that was just printed")
}

/// What a chunk of rows was made of, whichever the SAE.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub contexts: &'a [Context],
    /// The pieces of each context.
    pub texts: &'a [Vec<u32>],
    /// The piece of each row.
    pub types: &'a [u32],
    /// Where each row comes from.
    pub places: &'a [Place],
}

/// All features of one SAE.
pub(super) struct Strongest {
    keep: Keep,
    features: Vec<Kept>,
}

#[derive(Clone, Default)]
struct Kept {
    rows: u64,
    max: f32,
    /// Counters of Misra and Gries (1982): a type that is on more than a 33rd of the rows is among them, and no count is
    /// too large.
    types: Vec<(u32, u64)>,
    /// By value descending, equal ones in order of the text.
    contexts: Vec<(f32, Window)>,
}

impl Strongest {
    pub(super) fn new(d_sae: usize, keep: Keep) -> Strongest {
        Strongest { keep, features: vec![Kept::default(); d_sae] }
    }

    pub(super) fn keep(&self) -> Keep {
        self.keep
    }

    /// Takes in the rows `kept` of a chunk.
    pub(super) fn add(&mut self, chunk: &Chunk, kept: &[usize], features: &SparseRows) {
        let Chunk { contexts, texts, types, places } = *chunk;
        let of_row = |(row, (ids, vals)): (&usize, (&[u32], &[f32]))| {
            ids.iter().zip(vals).map(|(id, val)| (*id, *row, *val)).collect::<Vec<_>>()
        };
        let mut active: Vec<(u32, usize, f32)> = kept.iter().zip(features.iter()).flat_map(of_row).collect();
        active.sort_unstable_by_key(|(id, row, _)| (*id, *row));
        for rows in active.chunk_by(|a, b| a.0 == b.0) {
            let feature = &mut self.features[rows[0].0 as usize];
            feature.rows += rows.len() as u64;
            rows.iter().for_each(|(_, row, _)| feature.count(types[*row]));
            for rows in rows.chunk_by(|a, b| places[a.1].context == places[b.1].context) {
                // The first of the largest.
                let peak = rows.iter().fold(&rows[0], |best, row| if row.2 > best.2 { row } else { best });
                feature.max = feature.max.max(peak.2);
                let full = feature.contexts.len() >= self.keep.contexts;
                if full && feature.contexts.last().is_none_or(|last| peak.2 <= last.0) {
                    continue;
                }
                let number = places[peak.1].context as usize;
                let values = rows.iter().map(|(_, row, val)| (places[*row].position as usize, *val));
                let at = places[peak.1].position as usize;
                let window = window(&contexts[number], &texts[number], at, values, self.keep);
                feature.offer(peak.2, window, self.keep);
            }
        }
    }

    /// What was found of the features that were active, in ascending order of ids; without promoted tokens.
    pub(super) fn features(&self, pieces: &Pieces) -> Vec<Feature> {
        let feature = |(id, kept): (u32, &Kept)| {
            let mut types = kept.types.clone();
            types.sort_by(|a, b| {
                b.1.cmp(&a.1).then_with(|| pieces.texts[a.0 as usize].cmp(&pieces.texts[b.0 as usize]))
            });
            // A count may be too small by this share of the rows: types below it are no better than those left out.
            types.retain(|(_, count)| count * (COUNTERS as u64 + 1) >= kept.rows);
            types.truncate(self.keep.types);
            let contexts = kept.contexts.iter().map(|(_, window)| window.clone()).collect();
            Feature { id, rows: kept.rows, max: kept.max, types, promoted: Vec::new(), contexts }
        };
        (0..).zip(&self.features).filter(|(_, kept)| kept.rows > 0).map(feature).collect()
    }
}

impl Kept {
    fn count(&mut self, kind: u32) {
        if let Some((_, count)) = self.types.iter_mut().find(|(known, _)| *known == kind) {
            *count += 1;
        } else if self.types.len() < COUNTERS {
            self.types.push((kind, 1));
        } else {
            self.types.iter_mut().for_each(|(_, count)| *count -= 1);
            self.types.retain(|(_, count)| *count > 0);
        }
    }

    /// Takes a context in where it belongs. One that looks like another is not taken twice.
    fn offer(&mut self, value: f32, window: Window, keep: Keep) {
        let looks_like = |other: &Window| (&other.tokens, other.at) == (&window.tokens, window.at);
        if let Some(same) = self.contexts.iter().position(|(_, other)| looks_like(other)) {
            if self.contexts[same].0 >= value {
                return;
            }
            self.contexts.remove(same);
        }
        let at = self.contexts.partition_point(|(other, _)| *other >= value);
        self.contexts.insert(at, (value, window));
        self.contexts.truncate(keep.contexts);
    }
}

/// What stands around a token, without any BOS at the beginning.
fn window(
    context: &Context,
    texts: &[u32],
    at: usize,
    values: impl Iterator<Item = (usize, f32)>,
    keep: Keep,
) -> Window {
    let bos = &context.tokens.bos;
    let first = bos.iter().take_while(|bos| **bos).count();
    let mut start = at.saturating_sub(keep.before).max(first).min(at);
    // A character of several tokens stands with the first of them.
    while start > first && texts[start] == BLANK {
        start -= 1;
    }
    let end = (at + keep.after + 1).min(texts.len());
    let inside = |(place, _): &(usize, f32)| (start..end).contains(place);
    Window {
        document: context.document,
        offset: context.offset + (start - bos[..start].iter().filter(|bos| **bos).count()) as u32,
        more: (start > first, end < texts.len()),
        at: at - start,
        tokens: texts[start..end].to_vec(),
        values: values.filter(inside).map(|(place, value)| (place - start, rounded(value))).collect(),
    }
}
