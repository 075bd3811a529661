//! The rows of one layer as the index holds them: a block a sentence, found by its number.
//!
//! A block is `n`, the sentence's number of rows, and `nnz`, all its features (u32 each); where each row begins and the
//! last one ends (`n + 1` of u32); a bit for every row that is there, in words of u32; `nnz` ids, of 16 bits if the
//! dictionary allows, with zeros up to a multiple of 4 bytes; `nnz` values (f32). A sentence without a file at this layer
//! has a block of no bytes.

use std::ops::Range;

use bytemuck::cast_slice;

use super::container::Sealed;
use super::error::IndexError;

/// Sections of the file.
pub(super) const BODY: usize = 0;
/// Where each block starts and the last one ends, u64.
pub(super) const PTR: usize = 1;

/// Ids of this many features fit in 16 bits.
pub(super) const SMALL: usize = 1 << 16;

/// Ids of features, as wide as the dictionary needs.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// Of a dictionary of at most 65,536 features.
    Small(&'a [u16]),
    /// Of a larger one.
    Large(&'a [u32]),
}

impl<'a> Ids<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Ids::Small(ids) => ids.len(),
            Ids::Large(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The id at a place.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn get(self, at: usize) -> u32 {
        match self {
            Ids::Small(ids) => ids[at].into(),
            Ids::Large(ids) => ids[at],
        }
    }

    /// All of them in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        (0..self.len()).map(move |at| self.get(at))
    }

    /// A copy in 32 bits.
    pub fn to_vec(self) -> Vec<u32> {
        self.iter().collect()
    }

    fn slice(self, range: Range<usize>) -> Ids<'a> {
        match self {
            Ids::Small(ids) => Ids::Small(&ids[range]),
            Ids::Large(ids) => Ids::Large(&ids[range]),
        }
    }
}

/// The active features of one token: by value descending, equal ones by ascending id.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    there: bool,
    ids: Ids<'a>,
    vals: &'a [f32],
}

impl<'a> Row<'a> {
    /// Whether the run has the row; one that it does not have is empty, and does not count in a score.
    pub fn is_there(&self) -> bool {
        self.there
    }

    /// How many features are active: L0 of the token.
    pub fn len(&self) -> usize {
        self.vals.len()
    }

    /// Whether no feature is active.
    pub fn is_empty(&self) -> bool {
        self.vals.is_empty()
    }

    /// The features.
    pub fn ids(&self) -> Ids<'a> {
        self.ids
    }

    /// Their values.
    pub fn vals(&self) -> &'a [f32] {
        self.vals
    }

    /// Features with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f32)> + 'a {
        self.ids.iter().zip(self.vals.iter().copied())
    }
}

/// The rows of one sentence at one layer, one for every token of the sentence that is not BOS.
#[derive(Clone, Copy, Debug)]
pub struct SentenceRows<'a> {
    bounds: &'a [u32],
    there: &'a [u32],
    ids: Ids<'a>,
    vals: &'a [f32],
    /// How many rows; bounds may be missing where the layer has no file of the sentence.
    len: usize,
}

impl<'a> SentenceRows<'a> {
    /// How many rows there are, missing ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the sentence has no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Active features of all rows together.
    pub fn nnz(&self) -> usize {
        self.vals.len()
    }

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, nth: usize) -> Row<'a> {
        assert!(nth < self.len, "row {nth} of {}", self.len);
        let Some(bounds) = self.bounds.get(nth..nth + 2) else {
            return Row { there: false, ids: Ids::Large(&[]), vals: &[] };
        };
        let range = bounds[0] as usize..bounds[1] as usize;
        let there = self.there[nth / 32] >> (nth % 32) & 1 == 1;
        Row { there, ids: self.ids.slice(range.clone()), vals: &self.vals[range] }
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'a>> + 'a {
        let rows = *self;
        (0..self.len).map(move |nth| rows.row(nth))
    }
}

/// Finds the block of a sentence that has `len` rows, and checks everything that an access relies on.
pub(super) fn read<'a>(
    file: &'a Sealed,
    number: usize,
    len: usize,
    d_sae: usize,
    small: bool,
) -> Result<SentenceRows<'a>, IndexError> {
    let bounds = file.numbers::<u64>(PTR, 8 * number as u64, 2)?;
    let block = file.bytes(BODY, bounds[0]..bounds[1])?;
    parse(block, len, d_sae, small).ok_or_else(|| file.corrupt("a row"))
}

/// Takes a block apart.
pub(super) fn parse(block: &[u8], len: usize, d_sae: usize, small: bool) -> Option<SentenceRows<'_>> {
    if block.is_empty() {
        let ids = if small { Ids::Small(&[]) } else { Ids::Large(&[]) };
        return Some(SentenceRows { bounds: &[], there: &[], ids, vals: &[], len });
    }
    let words: &[u32] = bytemuck::try_cast_slice(block).ok()?;
    let (&[n, nnz], rest) = words.split_first_chunk()?;
    let (n, nnz) = (n as usize, nnz as usize);
    let (bounds, rest) = rest.split_at_checked(n.checked_add(1)?)?;
    let (there, rest) = rest.split_at_checked(n.div_ceil(32))?;
    let (ids, rest) = rest.split_at_checked(if small { nnz.div_ceil(2) } else { nnz })?;
    let ids = if small { Ids::Small(cast_slice::<u32, u16>(ids).get(..nnz)?) } else { Ids::Large(ids) };
    let covered = bounds.first() == Some(&0) && bounds.last() == Some(&(nnz as u32)) && bounds.is_sorted();
    let known = match ids {
        Ids::Small(ids) => ids.iter().all(|&id| usize::from(id) < d_sae),
        Ids::Large(ids) => ids.iter().all(|&id| (id as usize) < d_sae),
    };
    let vals = cast_slice::<u32, f32>(rest);
    (n == len && covered && known && rest.len() == nnz).then_some(SentenceRows { bounds, there, ids, vals, len })
}

/// A block while it is made.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub bounds: Vec<u32>,
    pub there: Vec<u32>,
    pub ids: Vec<u32>,
    pub vals: Vec<f32>,
}

impl Block {
    /// A block of `n` rows, none of them there.
    pub fn begin(n: usize) -> Block {
        Block { bounds: vec![0], there: vec![0; n.div_ceil(32)], ..Block::default() }
    }

    /// Ends the rows up to the one before `nth` that have not ended.
    pub fn end_before(&mut self, nth: usize) {
        self.bounds.resize(nth + 1, self.ids.len() as u32);
    }

    /// Ends row `nth`, to which all features since the last end belong.
    pub fn end_row(&mut self, nth: usize) {
        self.bounds.push(self.ids.len() as u32);
        self.there[nth / 32] |= 1 << (nth % 32);
    }

    /// The bytes of the block.
    pub fn encode(&self, small: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 4 * (self.bounds.len() + self.there.len() + 2 * self.ids.len()));
        bytes.extend(cast_slice::<u32, u8>(&[self.bounds.len() as u32 - 1, self.ids.len() as u32]));
        bytes.extend(cast_slice::<u32, u8>(&self.bounds));
        bytes.extend(cast_slice::<u32, u8>(&self.there));
        if small {
            bytes.extend(self.ids.iter().flat_map(|&id| (id as u16).to_ne_bytes()));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        } else {
            bytes.extend(cast_slice::<u32, u8>(&self.ids));
        }
        bytes.extend(cast_slice::<f32, u8>(&self.vals));
        bytes
    }
}
