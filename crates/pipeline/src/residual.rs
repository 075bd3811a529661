//! Rows on their way through the layers, kept on the disk now and then, so that a run that is stopped goes on between two
//! layers instead of at the first one.
//!
//! The file is a sequence of chunks, each by itself: seven numbers of eight bytes, little-endian (a mark, the first
//! sentence and the one after the last, the layer that comes next, rows, width, zero), the rows as f32, and the BLAKE3 of
//! both. A chunk that is not exactly so does not count.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use llamascope_compute::Rows;
use llamascope_record::open_file;
use llamascope_record::run::{Ledger, RESIDUAL, RESUME, RunError};

use crate::engine::{EMBEDDING, part_of_layer};

const MARK: u64 = u64::from_le_bytes(*b"LSRESID1");
const HEADER: usize = 56;
const HASH: usize = 32;
/// Largest chunk that is read, in numbers: 4 GiB.
const MAX_NUMBERS: u64 = 1 << 30;

/// A chunk of a wave, between two layers.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Its sentences.
    pub sentences: Range<usize>,
    /// The layer that its rows enter next.
    pub next: usize,
    /// Its residual stream.
    pub rows: Rows,
    /// Whether it is the last chunk of the wave.
    pub last: bool,
}

impl Saved {
    /// Gives the chunk's bytes, piece by piece.
    pub(crate) fn write(&self, mut out: impl FnMut(&[u8]) -> Result<(), RunError>) -> Result<(), RunError> {
        const PIECE: usize = 16 << 10;
        let numbers = [
            MARK,
            self.sentences.start as u64,
            self.sentences.end as u64,
            self.next as u64,
            self.rows.n() as u64,
            self.rows.d() as u64,
            0,
        ];
        let mut hasher = blake3::Hasher::new();
        let mut both = |bytes: &[u8]| {
            hasher.update(bytes);
            out(bytes)
        };
        both(&numbers.map(u64::to_le_bytes).concat())?;
        let mut bytes = Vec::with_capacity(4 * PIECE);
        for piece in self.rows.data().chunks(PIECE) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|number| number.to_le_bytes()));
            both(&bytes)?;
        }
        let hash = hasher.finalize();
        out(hash.as_bytes())
    }
}

/// Chunks that were kept, by their first sentence; each is taken once.
#[derive(Debug, Default)]
pub struct Kept(Mutex<BTreeMap<usize, Saved>>);

impl Kept {
    /// Reads the chunks of a run that a resume can go on with: those of which every layer behind them is in the ledger,
    /// weights and rows. `wanted` are the chunks that the run is going to make, which tell how many rows each has.
    pub(crate) fn load(
        run: &Path,
        ledger: &Ledger,
        wanted: &[(Range<usize>, usize)],
        taps: &[usize],
        width: usize,
    ) -> Kept {
        let mut kept = BTreeMap::new();
        let Ok(file) = open_file(&run.join(RESUME).join(RESIDUAL)) else {
            return Kept::default();
        };
        let mut file = BufReader::new(file);
        while let Some(saved) = read(&mut file) {
            let is_wanted = wanted.iter().any(|(sentences, rows)| {
                (sentences, *rows, width) == (&saved.sentences, saved.rows.n(), saved.rows.d())
            });
            let behind =
                taps.iter().filter(|layer| **layer < saved.next).all(|layer| ledger.has(*layer, &saved.sentences));
            let ahead = taps.iter().any(|layer| *layer >= saved.next);
            let read = ahead && (0..saved.next).all(|layer| ledger.weights(&part_of_layer(layer)).is_some());
            if is_wanted && behind && read && ledger.weights(EMBEDDING).is_some() {
                kept.insert(saved.sentences.start, saved);
            }
        }
        Kept(Mutex::new(kept))
    }

    /// Takes the chunk of these sentences.
    pub(crate) fn take(&self, sentences: &Range<usize>) -> Option<Saved> {
        let mut kept = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.remove(&sentences.start).filter(|saved| saved.sentences == *sentences)
    }
}

/// The next chunk of a file; none at its end or where it is not as it was written.
fn read(file: &mut impl Read) -> Option<Saved> {
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    let number = |at: usize| u64::from_le_bytes(header[8 * at..][..8].try_into().expect("eight bytes"));
    let [mark, first, end, next, n, d, zero] = std::array::from_fn(number);
    let count = n.checked_mul(d).filter(|count| *count <= MAX_NUMBERS && mark == MARK && zero == 0 && first < end)?;
    // Grows with what is there, not with what the header says.
    let mut bytes = Vec::new();
    file.take(4 * count + HASH as u64).read_to_end(&mut bytes).ok()?;
    let (rows, hash) = bytes.split_at_checked(4 * count as usize)?;
    let found = blake3::Hasher::new().update(&header).update(rows).finalize();
    if found.as_bytes()[..] != *hash {
        return None;
    }
    let numbers = rows.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Some(Saved {
        sentences: first as usize..end as usize,
        next: next as usize,
        rows: Rows::from_vec(n as usize, d as usize, numbers),
        last: false,
    })
}

/// When to keep the rows of a wave: as often as it costs next to nothing.
pub(crate) struct Occasion {
    since: Instant,
    cost: Duration,
}

impl Occasion {
    /// What is between two times, over what one costs.
    const APART: u32 = 50;
    /// Bytes that are kept in well under the second that a stop has.
    pub const AT_A_STOP: usize = 256 << 20;

    pub fn new() -> Self {
        Occasion { since: Instant::now(), cost: Duration::ZERO }
    }

    /// Whether this is one.
    pub fn is_there(&self) -> bool {
        self.since.elapsed() >= self.cost * Self::APART
    }

    /// It was used, which began at `begun`.
    pub fn used(&mut self, begun: Instant) {
        self.cost = begun.elapsed();
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(saved: &[Saved]) -> Vec<u8> {
        let mut all = Vec::new();
        for saved in saved {
            saved
                .write(|bytes| {
                    all.extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
        }
        all
    }

    fn saved(first: usize, next: usize) -> Saved {
        let numbers = (0..6).map(|i| i as f32 * 0.3 - 1.0).collect();
        Saved { sentences: first..first + 2, next, rows: Rows::from_vec(2, 3, numbers), last: false }
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let bytes = bytes(&[saved(0, 3), saved(2, 4)]);
        let mut file = &bytes[..];
        for expected in [saved(0, 3), saved(2, 4)] {
            let found = read(&mut file).unwrap();
            assert_eq!((found.sentences, found.next), (expected.sentences, expected.next));
            assert_eq!(found.rows.data(), expected.rows.data());
        }
        assert!(read(&mut file).is_none());
    }

    #[test]
    fn a_chunk_that_is_cut_or_changed_does_not_count() {
        let whole = bytes(&[saved(5, 1)]);
        for cut in 0..whole.len() {
            assert!(read(&mut &whole[..cut]).is_none(), "cut at {cut}");
            let mut changed = whole.clone();
            changed[cut] ^= 0x10;
            assert!(read(&mut &changed[..]).is_none(), "changed at {cut}");
        }
    }
}
