//! Building the two files of a layer: rows first, counting as they go by, then postings by counting sort.
//!
//! Memory, whatever the run's size: the files in hand (twice [`BATCH_BYTES`] and their rows), [`BAND`] postings, and
//! what is kept for each feature and each sentence.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rayon::prelude::*;

use super::build::Watched;
use super::clean::{self, Cleaned, FEATURE_LIMIT, Place, Scratch};
use super::container::{Identity, Kind, META_NONE, Writer};
use super::error::IndexError;
use super::gather::BATCH_BYTES;
use super::health::{FindingKind, Findings};
use super::layer::{FeatureStats, HISTOGRAM_BINS, LayerCounts, RANK_CAP, Record, bin_of};
use super::rows::{self, Ids, SMALL};
use super::source::{RowsFile, Source};
use super::tables::TokenTable;
use crate::run::{layer_name, sentence_name};

/// Postings that are sorted at once: 128 MiB.
const BAND: usize = 16 << 20;
/// Bytes of rows that are read at once to be sorted.
const READ_BYTES: u64 = 4 << 20;
/// Most sentences of a batch.
const BATCH_SENTENCES: usize = 4096;
/// Sorting is about this part of the work of parsing.
const SORTING: u64 = 4;

/// What a file of `bytes` means in work.
pub(super) fn work(bytes: u64) -> u64 {
    bytes + bytes / SORTING
}

/// What is counted of a feature while the rows go by.
#[derive(Clone, Copy)]
struct Count {
    points: u64,
    tokens: u32,
    sentences: u32,
    last_sentence: u32,
}

const UNSEEN: Count = Count { points: 0, tokens: 0, sentences: 0, last_sentence: u32::MAX };

/// Builds both files of a layer at `paths`.
pub(super) fn build(
    source: &Source,
    layer: usize,
    files: &[RowsFile],
    tokens: &TokenTable,
    [rows_path, postings_path]: [PathBuf; 2],
    mut findings: Findings,
    watch: &Watched<'_>,
) -> Result<(), IndexError> {
    let d_sae = source.d_sae(layer).map(|d_sae| d_sae.min(FEATURE_LIMIT));
    let mut rows = Writer::create(&rows_path)?;
    let mut gathered = Gathered {
        small: d_sae.is_some_and(|d_sae| d_sae <= SMALL),
        ptr: vec![0],
        features: Vec::new(),
        counts: LayerCounts::default(),
    };
    let input = Input { source, layer, d_sae: d_sae.unwrap_or(FEATURE_LIMIT), files, tokens };
    gathered.write_rows(&input, &mut rows, &mut findings, watch)?;
    let counts = LayerCounts {
        d_sae: d_sae.unwrap_or(gathered.features.len()) as u64,
        small: gathered.small,
        ..gathered.counts
    };
    rows.end_section()?;
    rows.section(&gathered.ptr)?;
    let written = rows.first_section()?;

    let mut postings = Writer::create(&postings_path)?;
    let slots = gathered.slots();
    let (records, histograms) = Sorter::new(&gathered, tokens.first_rows()?, counts.d_sae as usize).write(
        written,
        &slots,
        &mut postings,
        |part| {
            let bytes: u64 = files.iter().map(|file| file.bytes / SORTING).sum();
            watch.advance((bytes as f64 * part) as u64);
            watch.check()
        },
    )?;
    postings.section(&records)?;
    postings.section(&slots)?;
    postings.section(&histograms)?;
    postings.section(&serde_json::to_vec(&findings.into_health()).expect("numbers and texts are JSON"))?;
    let identity = |kind| Identity { kind, layer: layer as u32, key: source.key };
    postings.finish(identity(Kind::Postings), META_NONE)?;
    rows.finish(identity(Kind::Rows), counts.to_meta())?;
    Ok(())
}

/// What the rows of a layer are read from.
struct Input<'a> {
    source: &'a Source,
    layer: usize,
    d_sae: usize,
    files: &'a [RowsFile],
    tokens: &'a TokenTable,
}

impl Input<'_> {
    /// Size of a sentence's file; 0 if there is none.
    fn bytes(&self, sentence: usize) -> u64 {
        let found = self.files.binary_search_by_key(&sentence, |file| file.sentence);
        found.map_or(0, |at| self.files[at].bytes)
    }

    /// The sentences from `first` on that are read at once.
    fn batch(&self, first: usize) -> std::ops::Range<usize> {
        let (mut last, mut bytes) = (first, 0);
        let end = self.tokens.len().min(first + BATCH_SENTENCES);
        while last < end && (bytes < BATCH_BYTES || last == first) {
            bytes += self.bytes(last);
            last += 1;
        }
        first..last
    }

    /// Reads the files of some sentences.
    fn read(&self, sentences: std::ops::Range<usize>) -> Result<Vec<(Cleaned, Vec<u8>)>, IndexError> {
        let small = self.d_sae <= SMALL;
        let read = |(scratch, positions): &mut (Scratch, Vec<u32>), sentence| {
            self.tokens.output_positions(sentence, positions)?;
            let Input { source, layer, d_sae, .. } = *self;
            let cleaned = clean::read(Place { run: &source.run, layer, sentence, d_sae, positions }, scratch);
            let bytes = cleaned.block.as_ref().map(|block| block.encode(small)).unwrap_or_default();
            Ok((cleaned, bytes))
        };
        sentences.into_par_iter().map_init(Default::default, read).collect()
    }
}

/// A layer's rows while they are gathered.
struct Gathered {
    small: bool,
    /// Where the blocks of the sentences start and the last one ends.
    ptr: Vec<u64>,
    /// By id, as far as ids were seen.
    features: Vec<Count>,
    counts: LayerCounts,
}

impl Gathered {
    fn write_rows(
        &mut self,
        input: &Input<'_>,
        rows: &mut Writer,
        findings: &mut Findings,
        watch: &Watched<'_>,
    ) -> Result<(), IndexError> {
        for file in input.files.iter().filter(|file| file.sentence >= input.tokens.len()) {
            let name = format!("{}/{}", layer_name(input.layer), sentence_name(file.sentence));
            findings.add(FindingKind::UnknownSentence, Some(input.layer), &name, None, String::new());
        }
        let mut sentences = input.batch(0);
        let mut batch = input.read(sentences.clone())?;
        while !sentences.is_empty() {
            watch.check()?;
            let next = input.batch(sentences.end);
            // The next files are read while these are written and counted.
            let (read, written) = rayon::join(
                || input.read(next.clone()),
                || {
                    let bytes = sentences.clone().map(|sentence| input.bytes(sentence)).sum();
                    for (sentence, (cleaned, bytes)) in sentences.zip(batch) {
                        self.take(sentence, cleaned, &bytes, rows, findings)?;
                    }
                    watch.advance(bytes);
                    Ok::<_, IndexError>(())
                },
            );
            written?;
            (sentences, batch) = (next, read?);
        }
        Ok(())
    }

    fn take(
        &mut self,
        sentence: usize,
        cleaned: Cleaned,
        bytes: &[u8],
        rows: &mut Writer,
        findings: &mut Findings,
    ) -> Result<(), IndexError> {
        rows.write(bytes)?;
        self.ptr.push(rows.offset());
        findings.append(cleaned.findings);
        let Some(block) = cleaned.block else { return Ok(()) };
        let largest = block.ids.iter().max().map_or(0, |&id| id as usize + 1);
        if largest > self.features.len() {
            self.features.resize(largest, UNSEEN);
        }
        for bounds in block.bounds.windows(2) {
            let ids = &block.ids[bounds[0] as usize..bounds[1] as usize];
            for (&id, rank) in ids.iter().zip(1..) {
                let count = &mut self.features[id as usize];
                let points = u64::from((RANK_CAP + 1).saturating_sub(rank));
                count.points += points;
                self.counts.points += points;
                count.tokens += 1;
                if count.last_sentence != sentence as u32 {
                    count.last_sentence = sentence as u32;
                    count.sentences += 1;
                }
            }
            self.counts.l0_max = self.counts.l0_max.max(ids.len() as u64);
        }
        self.counts.rows += block.there.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.counts.nnz += block.ids.len() as u64;
        Ok(())
    }

    /// The features that were seen, by points, largest first, equal ones by ascending id.
    fn slots(&self) -> Vec<u32> {
        let seen = self.features.iter().zip(0u32..).filter(|(count, _)| count.tokens > 0);
        let mut slots: Vec<(u64, u32)> = seen.map(|(count, id)| (count.points, id)).collect();
        slots.par_sort_unstable_by_key(|&(points, id)| (std::cmp::Reverse(points), id));
        slots.into_iter().map(|(_, id)| id).collect()
    }
}

/// Puts the entries of all rows in order of features: band after band of the sorted entries, with all rows read again
/// for each.
struct Sorter<'a> {
    gathered: &'a Gathered,
    first_rows: &'a [u32],
    d_sae: usize,
    /// Place of each feature's first posting.
    starts: Vec<u64>,
}

/// What is added up over a feature's postings.
struct Sums {
    sum: f64,
    max: f32,
    min: f32,
    argmax: u32,
    histogram: [u32; HISTOGRAM_BINS],
}

const NOTHING: Sums = Sums { sum: 0.0, max: 0.0, min: f32::INFINITY, argmax: 0, histogram: [0; HISTOGRAM_BINS] };

type Histogram = [u32; HISTOGRAM_BINS];

impl<'a> Sorter<'a> {
    fn new(gathered: &'a Gathered, first_rows: &'a [u32], d_sae: usize) -> Sorter<'a> {
        let mut next = 0;
        let mut start = |count: &Count| {
            let start = next;
            next += u64::from(count.tokens);
            start
        };
        let starts = gathered.features.iter().map(&mut start).collect();
        Sorter { gathered, first_rows, d_sae, starts }
    }

    /// Writes the postings; gives the records and histograms of the features seen.
    fn write(
        &self,
        mut rows: File,
        slots: &[u32],
        postings: &mut Writer,
        mut advance: impl FnMut(f64) -> Result<(), IndexError>,
    ) -> Result<(Vec<Record>, Vec<Histogram>), IndexError> {
        let features = &self.gathered.features;
        let mut slot_of = vec![0; features.len()];
        for (&id, slot) in slots.iter().zip(0..) {
            slot_of[id as usize] = slot;
        }
        let mut records = Vec::with_capacity(slots.len());
        let mut histograms = Vec::with_capacity(slots.len());
        let nnz = self.gathered.counts.nnz;
        let mut band = vec![[0u32; 2]; BAND.min(nnz as usize)];
        let (mut sums, mut id, mut from) = (NOTHING, 0, 0);
        while from < nnz {
            let to = nnz.min(from + band.len() as u64);
            let band = &mut band[..(to - from) as usize];
            self.fill(&mut rows, from, band, postings)?;
            postings.write(bytemuck::cast_slice(band))?;
            // Features may begin in one band and end in another.
            while let Some(count) = features.get(id) {
                let (start, end) = (self.starts[id], self.starts[id] + u64::from(count.tokens));
                if start >= to && count.tokens > 0 {
                    break;
                }
                let part = start.max(from).min(to) - from..end.min(to).max(from) - from;
                sums.add(&band[part.start as usize..part.end as usize]);
                if end > to {
                    break;
                }
                if count.tokens > 0 {
                    let Sums { sum, max, min, argmax, histogram } = std::mem::replace(&mut sums, NOTHING);
                    let Count { points, tokens, sentences, .. } = *count;
                    let (slot, id) = (slot_of[id], id as u32);
                    let stats = FeatureStats { id, slot, tokens, sentences, argmax, points, sum, max, min };
                    records.push(stats.to_record(start));
                    histograms.push(histogram);
                }
                id += 1;
            }
            advance((to - from) as f64 / nnz as f64)?;
            from = to;
        }
        postings.end_section()?;
        Ok((records, histograms))
    }

    /// Fills a band: the sorted entries from place `from` on.
    fn fill(&self, rows: &mut File, from: u64, band: &mut [[u32; 2]], postings: &Writer) -> Result<(), IndexError> {
        use std::io::Seek;
        let fail = |error| IndexError::read(postings.path(), error);
        let start = rows.stream_position().map_err(fail)?;
        let mut places = self.starts.clone();
        let ptr = &self.gathered.ptr;
        let mut buffer: Vec<u64> = Vec::new();
        let mut sentence = 0;
        while sentence + 1 < ptr.len() {
            let first = sentence;
            sentence += 1;
            while sentence + 1 < ptr.len() && ptr[sentence + 1] - ptr[first] <= READ_BYTES {
                sentence += 1;
            }
            let length = (ptr[sentence] - ptr[first]) as usize;
            buffer.resize(length.div_ceil(8), 0);
            let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut buffer)[..length];
            rows.read_exact(bytes).map_err(fail)?;
            for number in first..sentence {
                let block = &bytes[(ptr[number] - ptr[first]) as usize..(ptr[number + 1] - ptr[first]) as usize];
                let row = self.first_rows[number];
                let len = (self.first_rows[number + 1] - row) as usize;
                let block = rows::parse(block, len, self.d_sae, self.gathered.small);
                let block = block.ok_or_else(|| IndexError::corrupt(postings.path(), "rows that were just written"))?;
                for (row, features) in (row..).zip(block.iter()) {
                    match features.ids() {
                        Ids::Small(ids) => scatter(ids, features.vals(), row, from, &mut places, band),
                        Ids::Large(ids) => scatter(ids, features.vals(), row, from, &mut places, band),
                    }
                }
            }
        }
        rows.seek(std::io::SeekFrom::Start(start)).map_err(fail)?;
        Ok(())
    }
}

/// Puts the entries of a row in their places, if these lie in the band.
fn scatter<Id: Copy + Into<u32>>(
    ids: &[Id],
    vals: &[f32],
    row: u32,
    from: u64,
    places: &mut [u64],
    band: &mut [[u32; 2]],
) {
    for (&id, value) in ids.iter().zip(vals) {
        let id: u32 = id.into();
        let place = &mut places[id as usize];
        if let Some(posting) = band.get_mut(place.wrapping_sub(from) as usize) {
            *posting = [row, value.to_bits()];
        }
        *place += 1;
    }
}

impl Sums {
    fn add(&mut self, postings: &[[u32; 2]]) {
        for &[row, bits] in postings {
            let value = f32::from_bits(bits);
            self.sum += f64::from(value);
            if value > self.max {
                (self.max, self.argmax) = (value, row);
            }
            self.min = self.min.min(value);
            self.histogram[bin_of(value)] += 1;
        }
    }
}
