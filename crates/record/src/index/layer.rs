//! One layer of an index: rows by sentence, postings and statistics by feature.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::container::{Identity, Key, Kind, Meta, Sealed};
use super::error::{IndexError, IndexProblem};
use super::health::Health;
use super::rows::{self, Row, SMALL, SentenceRows};

/// Bins of a histogram of values.
pub const HISTOGRAM_BINS: usize = 96;
/// Bins between a power of two and the next.
const BINS_AN_OCTAVE: u32 = 4;
/// Exponent of the lower edge of the first bin.
const FIRST_EXPONENT: i32 = -10;
/// Ranks that earn points: the first one earns as many, the last one 1.
pub const RANK_CAP: u32 = 100;

/// Sections of the postings.
pub(super) mod sections {
    /// Feature after feature, by ascending id: row (u32) and value (the bits of an f32), by ascending row.
    pub const BODY: usize = 0;
    /// A record a feature, by ascending id.
    pub const STATS: usize = 1;
    /// The features in order of their slots, u32.
    pub const SLOTS: usize = 2;
    /// A histogram a feature, in the order of the records, u32.
    pub const HISTOGRAMS: usize = 3;
    /// JSON.
    pub const HEALTH: usize = 4;
}

/// Words (u32) of a record: what [`FeatureStats`] has, and where the postings begin.
pub(super) const RECORD: usize = 14;
/// A record in the file.
pub(super) type Record = [u32; RECORD];

/// What the file of a layer's rows tells beside them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerCounts {
    pub d_sae: u64,
    pub rows: u64,
    pub nnz: u64,
    pub points: u64,
    pub l0_max: u64,
    /// Whether ids have 16 bits.
    pub small: bool,
}

impl LayerCounts {
    pub fn to_meta(self) -> Meta {
        [self.d_sae, self.rows, self.nnz, self.points, self.l0_max, self.small.into(), 0, 0]
    }

    fn from_meta(meta: &Meta) -> Option<LayerCounts> {
        let [d_sae, rows, nnz, points, l0_max, small, ..] = *meta;
        let counts = LayerCounts { d_sae, rows, nnz, points, l0_max, small: small == 1 };
        (d_sae <= u64::from(u32::MAX) + 1 && (!counts.small || d_sae <= SMALL as u64)).then_some(counts)
    }
}

/// What a feature did in the run, at one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureStats {
    /// The feature.
    pub id: u32,
    /// Its place among the layer's features by points, largest first, equal ones by ascending id. Colours go by it.
    pub slot: u32,
    /// Tokens in which it is active; at least 1.
    pub tokens: u32,
    /// Sentences in which it is active.
    pub sentences: u32,
    /// Row with its largest value, the first of equals.
    pub argmax: u32,
    /// Sum of its points: 100 in a token where it ranks first, 1 for rank 100, 0 below.
    pub points: u64,
    /// Sum of its values, added up in f64 in order of rows.
    pub sum: f64,
    /// Largest value.
    pub max: f32,
    /// Smallest value.
    pub min: f32,
}

impl FeatureStats {
    /// The frequency score among `rows` tokens, in `[0, 100]`.
    pub fn score(&self, rows: u64) -> f64 {
        if rows == 0 { 0.0 } else { self.points as f64 / rows as f64 }
    }

    /// Mean value over the tokens in which it is active.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.tokens)
    }

    pub(super) fn to_record(self, first_posting: u64) -> Record {
        let [points, sum] = [self.points, self.sum.to_bits()];
        let halves = |number: u64| [number as u32, (number >> 32) as u32];
        let [points, sum, first] = [points, sum, first_posting].map(halves);
        let (max, min) = (self.max.to_bits(), self.min.to_bits());
        [
            self.id,
            self.slot,
            self.tokens,
            self.sentences,
            self.argmax,
            points[0],
            points[1],
            sum[0],
            sum[1],
            max,
            min,
            first[0],
            first[1],
            0,
        ]
    }

    fn from_record(record: &Record) -> (FeatureStats, u64) {
        let long = |at: usize| u64::from(record[at]) | u64::from(record[at + 1]) << 32;
        let stats = FeatureStats {
            id: record[0],
            slot: record[1],
            tokens: record[2],
            sentences: record[3],
            argmax: record[4],
            points: long(5),
            sum: f64::from_bits(long(7)),
            max: f32::from_bits(record[9]),
            min: f32::from_bits(record[10]),
        };
        (stats, long(11))
    }
}

/// The bin of a value: the first and the last one take what lies beyond the edges.
pub fn bin_of(value: f32) -> usize {
    // Exponent and first bits of the fraction, as they stand in an f32: bins of equal width inside an octave.
    let shift = f32::MANTISSA_DIGITS - 1 - BINS_AN_OCTAVE.trailing_zeros();
    let first = (127 + FIRST_EXPONENT) as u32 * BINS_AN_OCTAVE;
    ((value.to_bits() >> shift).saturating_sub(first) as usize).min(HISTOGRAM_BINS - 1)
}

/// Lower edge of a bin: an octave has four, of equal width, and the first begins at 2^-10.
pub fn bin_edge(bin: usize) -> f32 {
    let (octave, part) = (bin as u32 / BINS_AN_OCTAVE, bin as u32 % BINS_AN_OCTAVE);
    2f32.powi(octave as i32 + FIRST_EXPONENT) * (1.0 + part as f32 / BINS_AN_OCTAVE as f32)
}

/// Where a feature is active.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posting {
    /// Number of the row in the run.
    pub row: u32,
    /// The feature's value there.
    pub val: f32,
}

/// All places where a feature is active, by ascending row.
#[derive(Clone, Copy, Debug)]
pub struct Postings<'a>(&'a [[u32; 2]]);

impl<'a> Postings<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn get(self, at: usize) -> Posting {
        let [row, val] = self.0[at];
        Posting { row, val: f32::from_bits(val) }
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Posting> + DoubleEndedIterator + 'a {
        self.0.iter().map(|&[row, val]| Posting { row, val: f32::from_bits(val) })
    }

    /// Those in some rows.
    pub fn within(self, rows: Range<u32>) -> Postings<'a> {
        let start = self.0.partition_point(|posting| posting[0] < rows.start);
        let end = self.0.partition_point(|posting| posting[0] < rows.end);
        Postings(&self.0[start..end.max(start)])
    }
}

/// One layer of a run's index.
#[derive(Debug)]
pub struct LayerIndex {
    number: usize,
    hook: String,
    counts: LayerCounts,
    first_rows: Arc<[u32]>,
    rows: Sealed,
    postings: Sealed,
}

/// Names of a layer's two files.
pub(super) fn file_names(layer: usize) -> [String; 2] {
    let layer = crate::run::layer_name(layer);
    [format!("{layer}.rows.idx"), format!("{layer}.postings.idx")]
}

impl LayerIndex {
    pub(super) fn open(
        folder: &Path,
        number: usize,
        hook: &str,
        key: Key,
        first_rows: Arc<[u32]>,
    ) -> Result<LayerIndex, IndexError> {
        let [rows, postings] = file_names(number).map(|name| folder.join(name));
        let identity = |kind| Identity { kind, layer: number as u32, key };
        let rows = Sealed::open(&rows, identity(Kind::Rows))?;
        let postings = Sealed::open(&postings, identity(Kind::Postings))?;
        let counts = LayerCounts::from_meta(rows.meta()).ok_or_else(|| rows.corrupt("its counts"))?;
        if rows.section_len(rows::PTR) != 8 * first_rows.len() {
            return Err(rows.corrupt("its number of sentences"));
        }
        let layer = LayerIndex { number, hook: hook.to_owned(), counts, first_rows, rows, postings };
        layer.check_records()?;
        Ok(layer)
    }

    /// Checks once what every look-up relies on.
    fn check_records(&self) -> Result<(), IndexError> {
        let records = self.records()?;
        let slots = self.by_slot()?;
        let (mut next, mut seen) = (0u64, vec![false; records.len()]);
        let rows = self.first_rows.last().copied().unwrap_or(0);
        for (at, record) in records.iter().enumerate() {
            let (stats, first) = FeatureStats::from_record(record);
            let ascending = at == 0 || records[at - 1][0] < stats.id;
            let slot = stats.slot as usize;
            let its_own = slots.get(slot) == Some(&stats.id) && seen.get(slot) == Some(&false);
            let place = stats.argmax < rows && stats.tokens <= rows && stats.tokens > 0;
            if !ascending || !its_own || !place || first != next || u64::from(stats.id) >= self.counts.d_sae {
                return Err(self.postings.corrupt("a record of a feature"));
            }
            seen[slot] = true;
            next += u64::from(stats.tokens);
        }
        let whole = self.postings.section_len(sections::BODY) as u64 == 8 * next
            && self.postings.section_len(sections::HISTOGRAMS) == 4 * HISTOGRAM_BINS * records.len()
            && slots.len() == records.len()
            && next == self.counts.nnz;
        if whole { Ok(()) } else { Err(self.postings.corrupt("its lengths")) }
    }

    /// The layer, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The hook point that was read; empty where the run does not tell.
    pub fn hook(&self) -> &str {
        &self.hook
    }

    /// Features of the dictionary; in a run that does not tell, one more than the largest id.
    pub fn d_sae(&self) -> usize {
        self.counts.d_sae as usize
    }

    /// Rows that are there, those without an active feature included: the tokens that a score is a mean over.
    pub fn rows(&self) -> u64 {
        self.counts.rows
    }

    /// Active features over all rows.
    pub fn nnz(&self) -> u64 {
        self.counts.nnz
    }

    /// Points of all features together.
    pub fn points(&self) -> u64 {
        self.counts.points
    }

    /// Most active features in a row.
    pub fn l0_max(&self) -> u64 {
        self.counts.l0_max
    }

    /// Bytes of the layer's files.
    pub fn bytes(&self) -> u64 {
        self.rows.size() + self.postings.size()
    }

    pub(super) fn health(&self) -> Result<Health, IndexError> {
        let json = self.postings.all::<u8>(sections::HEALTH)?;
        serde_json::from_slice(json).map_err(|_| self.postings.corrupt("its findings"))
    }

    pub(super) fn verify(&self) -> Result<(), IndexError> {
        self.rows.verify_all()?;
        self.postings.verify_all()
    }

    /// All rows of a sentence.
    ///
    /// # Errors
    /// [`IndexProblem::NoSentence`]; [`IndexProblem::Corrupt`], after which the index is to be built anew.
    pub fn sentence(&self, number: usize) -> Result<SentenceRows<'_>, IndexError> {
        let Some(bounds) = self.first_rows.get(number..number + 2) else {
            let problem = IndexProblem::NoSentence { number, sentences: self.first_rows.len() - 1 };
            return Err(IndexError::new(self.rows.path(), problem));
        };
        rows::read(&self.rows, number, (bounds[1] - bounds[0]) as usize, self.d_sae(), self.counts.small)
    }

    /// A row by its number in the run.
    ///
    /// # Errors
    /// [`IndexProblem::NoRow`]; [`IndexProblem::Corrupt`].
    pub fn row(&self, row: u32) -> Result<Row<'_>, IndexError> {
        let rows = self.first_rows.last().copied().unwrap_or(0);
        if row >= rows {
            return Err(IndexError::new(self.rows.path(), IndexProblem::NoRow { row, rows }));
        }
        let sentence = self.first_rows.partition_point(|&first| first <= row) - 1;
        Ok(self.sentence(sentence)?.row((row - self.first_rows[sentence]) as usize))
    }

    /// How many features are active at least once.
    pub fn seen(&self) -> usize {
        self.postings.section_len(sections::STATS) / size_of::<Record>()
    }

    fn records(&self) -> Result<&[Record], IndexError> {
        self.postings.all(sections::STATS)
    }

    /// The features that are active at least once, by ascending id.
    pub fn features(&self) -> Result<impl ExactSizeIterator<Item = FeatureStats> + '_, IndexError> {
        Ok(self.records()?.iter().map(|record| FeatureStats::from_record(record).0))
    }

    /// The features that are active at least once, by slot.
    pub fn by_slot(&self) -> Result<&[u32], IndexError> {
        self.postings.all(sections::SLOTS)
    }

    /// Place of a feature among the records, and the record.
    fn find(&self, feature: u32) -> Result<Option<(usize, FeatureStats, u64)>, IndexError> {
        let records = self.records()?;
        Ok(records.binary_search_by_key(&feature, |record| record[0]).ok().map(|at| {
            let (stats, first) = FeatureStats::from_record(&records[at]);
            (at, stats, first)
        }))
    }

    /// What a feature did; none if it is never active.
    pub fn stats(&self, feature: u32) -> Result<Option<FeatureStats>, IndexError> {
        Ok(self.find(feature)?.map(|(_, stats, _)| stats))
    }

    /// How a feature's values are distributed, see [`bin_edge`]; none if it is never active.
    pub fn histogram(&self, feature: u32) -> Result<Option<[u32; HISTOGRAM_BINS]>, IndexError> {
        let Some((at, ..)) = self.find(feature)? else { return Ok(None) };
        let bytes = size_of::<[u32; HISTOGRAM_BINS]>() as u64;
        Ok(Some(self.postings.numbers::<[u32; HISTOGRAM_BINS]>(sections::HISTOGRAMS, at as u64 * bytes, 1)?[0]))
    }

    /// Where a feature is active; empty if it never is.
    pub fn postings(&self, feature: u32) -> Result<Postings<'_>, IndexError> {
        let Some((_, stats, first)) = self.find(feature)? else { return Ok(Postings(&[])) };
        self.postings.numbers(sections::BODY, 8 * first, stats.tokens.into()).map(Postings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_holds_what_lies_between_its_edges() {
        for bin in 0..HISTOGRAM_BINS {
            assert_eq!(bin_of(bin_edge(bin)), bin);
            assert!(bin == 0 || bin_of(bin_edge(bin).next_down()) == bin - 1);
        }
        assert_eq!(bin_edge(0), 1.0 / 1024.0);
        assert_eq!((bin_edge(40), bin_edge(41), bin_edge(44)), (1.0, 1.25, 2.0));
        assert_eq!((bin_of(f32::MIN_POSITIVE), bin_of(f32::MAX)), (0, HISTOGRAM_BINS - 1));
    }
}
