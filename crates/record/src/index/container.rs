//! The one file format of an index: sections of plain numbers, sealed by hashes (BLAKE3).
//!
//! ```text
//! header, 128 bytes: magic, version, byte order, kind, layer, length of the file, where the directory stands, key,
//!                    hash of the directory, hash of the header itself
//! sections           one after the other, each from a multiple of 8 bytes on
//! directory          numbers of the kind's own, where each section stands, the hash of every 64 KiB of the sections
//! ```
//!
//! Opening a file checks header and directory; a block of the sections is hashed when it is first looked at. So a file
//! of gigabytes opens at once, and no byte is believed that is not the byte that was written. Numbers stand in the byte
//! order of the machine: an index is made again, not carried about.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use memmap2::Mmap;

use super::error::IndexError;

/// Version of all files of an index.
pub(super) const VERSION: u32 = 1;
/// Which state of which run a file belongs to.
pub(super) type Key = [u8; 32];
/// Numbers that a kind of file keeps beside its sections.
pub(super) type Meta = [u64; META];

/// For kinds that keep none.
pub(super) const META_NONE: Meta = [0; META];

const META: usize = 8;
const MAGIC: &[u8; 8] = b"LSINDEX\0";
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER: usize = 128;
/// Where the hash of the header stands in it.
const SEAL: usize = 104;
/// Bytes of a file that may be looked at before its pages are given back: an index of many gigabytes would fill the memory of
/// the process page by page, though it needs few of them at a time.
const KEPT: u64 = 32 << 20;
/// What is hashed at once: small enough that a look-up is quick, large enough that the hashes are few.
const BLOCK: usize = 64 << 10;
const HASH: usize = 32;
const ALIGN: u64 = 8;
/// Most sections that a kind of file has.
const SECTIONS: usize = 16;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Texts = 1,
    Tokens = 2,
    Rows = 3,
    Postings = 4,
}

/// What a file is: it is opened as this or not at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub kind: Kind,
    /// The layer, for the files of one; else 0.
    pub layer: u32,
    pub key: Key,
}

/// Writes a file from its start to its end, hashing what goes by.
pub(super) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    /// Bytes of the sections so far.
    length: u64,
    begun: u64,
    block: blake3::Hasher,
    in_block: usize,
    hashes: Vec<[u8; HASH]>,
    sections: Vec<Range<u64>>,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Writer, IndexError> {
        let open = || -> io::Result<BufWriter<File>> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
            file.write_all(&[0; HEADER])?;
            Ok(file)
        };
        Ok(Writer {
            file: open().map_err(|error| IndexError::write(path, error))?,
            path: path.to_owned(),
            length: 0,
            begun: 0,
            block: blake3::Hasher::new(),
            in_block: 0,
            hashes: Vec::new(),
            sections: Vec::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the present section so far.
    pub fn offset(&self) -> u64 {
        self.length - self.begun
    }

    /// Appends to the present section.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), IndexError> {
        self.file.write_all(bytes).map_err(|error| IndexError::write(&self.path, error))?;
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            if self.in_block == BLOCK {
                self.end_block();
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.hashes.push(*self.block.finalize().as_bytes());
        self.block.reset();
        self.in_block = 0;
    }

    /// Ends the present section; the next bytes begin another.
    pub fn end_section(&mut self) -> Result<(), IndexError> {
        self.sections.push(self.begun..self.length);
        let padding = self.length.next_multiple_of(ALIGN) - self.length;
        self.write(&[0; ALIGN as usize][..padding as usize])?;
        self.begun = self.length;
        Ok(())
    }

    /// Writes a whole section.
    pub fn section<T: Pod>(&mut self, items: &[T]) -> Result<(), IndexError> {
        self.write(bytemuck::cast_slice(items))?;
        self.end_section()
    }

    /// The first section as it was written, to be read again before the file is finished.
    pub fn first_section(&mut self) -> Result<File, IndexError> {
        let open = |file: &mut BufWriter<File>| -> io::Result<File> {
            file.flush()?;
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(HEADER as u64))?;
            Ok(file)
        };
        open(&mut self.file).map_err(|error| IndexError::write(&self.path, error))
    }

    /// Seals the file. Tells its size.
    pub fn finish(mut self, identity: Identity, meta: Meta) -> Result<u64, IndexError> {
        if self.in_block > 0 {
            self.end_block();
        }
        let mut directory = bytemuck::cast_slice::<u64, u8>(&meta).to_vec();
        directory.extend((self.sections.len() as u64).to_ne_bytes());
        for section in &self.sections {
            directory.extend(section.start.to_ne_bytes());
            directory.extend(section.end.to_ne_bytes());
        }
        directory.extend(self.hashes.as_flattened());
        let at = HEADER as u64 + self.length;
        let length = at + directory.len() as u64;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        for number in [VERSION, BYTE_ORDER, identity.kind as u32, identity.layer] {
            header.extend(number.to_ne_bytes());
        }
        header.extend(length.to_ne_bytes());
        header.extend(at.to_ne_bytes());
        header.extend(identity.key);
        header.extend(blake3::hash(&directory).as_bytes());
        let seal = blake3::hash(&header);
        header.extend(&seal.as_bytes()[..HEADER - SEAL]);
        let mut end = || -> io::Result<()> {
            self.file.write_all(&directory)?;
            self.file.flush()?;
            let file = self.file.get_mut();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)
        };
        end().map_err(|error| IndexError::write(&self.path, error))?;
        Ok(length)
    }
}

/// A file that was opened: mapped, and its header and directory checked.
#[derive(Debug)]
pub(super) struct Sealed {
    path: PathBuf,
    map: Mmap,
    meta: Meta,
    /// Where the sections stand in the map.
    sections: Vec<Range<usize>>,
    /// End of the sections in the map.
    end: usize,
    /// Start of the hashes in the map.
    hashes: usize,
    /// A bit for every block that was found to be what was written.
    verified: Box<[AtomicU64]>,
    /// Bytes of the blocks that were looked at since pages were given back.
    looked_at: AtomicU64,
}

impl Sealed {
    /// Opens a file that must be what `expected` says.
    pub fn open(path: &Path, expected: Identity) -> Result<Sealed, IndexError> {
        use super::error::IndexProblem::Stale;
        let corrupt = |what| IndexError::corrupt(path, what);
        let map = map(path).map_err(|error| IndexError::read(path, error))?;
        let header = map.get(..HEADER).ok_or_else(|| corrupt("it ends in its header"))?;
        if header[SEAL..] != blake3::hash(&header[..SEAL]).as_bytes()[..HEADER - SEAL] {
            return Err(corrupt("its header"));
        }
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if header[..8] != *MAGIC || [word(8), word(12)] != [VERSION, BYTE_ORDER] {
            // Of another version of this program, or another machine: as good as of another state.
            return Err(IndexError::new(path, Stale));
        }
        if [word(16), word(20)] != [expected.kind as u32, expected.layer] {
            return Err(corrupt("it stands under the name of another file"));
        }
        if header[40..72] != expected.key {
            return Err(IndexError::new(path, Stale));
        }
        let (length, at) = (long(24), long(32));
        if length != map.len() as u64 || at < HEADER as u64 || at > length {
            return Err(corrupt("its length"));
        }
        let end = at as usize;
        let directory = &map[end..];
        if header[72..104] != *blake3::hash(directory).as_bytes() {
            return Err(corrupt("its directory"));
        }
        let numbers = |at: usize, count: usize| -> Option<Vec<u64>> {
            let bytes = directory.get(at..at.checked_add(count.checked_mul(8)?)?)?;
            Some(bytes.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().expect("eight bytes"))).collect())
        };
        let read = || -> Option<(Meta, Vec<Range<usize>>, usize)> {
            let head = numbers(0, META + 1)?;
            let count = usize::try_from(head[META]).ok().filter(|&count| count <= SECTIONS)?;
            let bounds = numbers((META + 1) * 8, 2 * count)?;
            let mut sections = Vec::with_capacity(count);
            for pair in bounds.chunks_exact(2) {
                let (from, to) = (pair[0].checked_add(HEADER as u64)?, pair[1].checked_add(HEADER as u64)?);
                if from > to || to > at || from % ALIGN != 0 {
                    return None;
                }
                sections.push(from as usize..to as usize);
            }
            let hashes = (META + 1 + 2 * count) * 8;
            let blocks = (end - HEADER).div_ceil(BLOCK);
            (directory.len() - hashes == blocks.checked_mul(HASH)?).then_some(())?;
            Some((head[..META].try_into().expect("as many"), sections, end + hashes))
        };
        let (meta, sections, hashes) = read().ok_or_else(|| corrupt("its directory"))?;
        let words = (end - HEADER).div_ceil(BLOCK).div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        let looked_at = AtomicU64::new(0);
        Ok(Sealed { path: path.to_owned(), meta, sections, end, hashes, verified, looked_at, map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file.
    pub fn size(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// This file is not what was written, or was not written as it must be.
    pub fn corrupt(&self, what: &'static str) -> IndexError {
        IndexError::corrupt(&self.path, what)
    }

    /// Number of bytes of a section; 0 for one that is not there.
    pub fn section_len(&self, section: usize) -> usize {
        self.sections.get(section).map_or(0, |range| range.len())
    }

    /// Bytes of a section, checked.
    pub fn bytes(&self, section: usize, range: Range<u64>) -> Result<&[u8], IndexError> {
        let outside = || self.corrupt("an offset outside its section");
        let place = self.sections.get(section).ok_or_else(outside)?;
        if range.start > range.end || range.end > place.len() as u64 {
            return Err(outside());
        }
        let range = place.start + range.start as usize..place.start + range.end as usize;
        self.verify(range.clone())?;
        Ok(&self.map[range])
    }

    /// `count` numbers of a section from the byte `at` on, checked.
    pub fn numbers<T: Pod>(&self, section: usize, at: u64, count: u64) -> Result<&[T], IndexError> {
        let length = count.checked_mul(size_of::<T>() as u64);
        let end = length.and_then(|length| at.checked_add(length)).ok_or_else(|| self.corrupt("a count"))?;
        bytemuck::try_cast_slice(self.bytes(section, at..end)?).map_err(|_| self.corrupt("an offset that is odd"))
    }

    /// A whole section of numbers, checked.
    pub fn all<T: Pod>(&self, section: usize) -> Result<&[T], IndexError> {
        let length = self.section_len(section);
        if !length.is_multiple_of(size_of::<T>()) {
            return Err(self.corrupt("the length of a section"));
        }
        self.numbers(section, 0, (length / size_of::<T>()) as u64)
    }

    /// Checks all of it.
    pub fn verify_all(&self) -> Result<(), IndexError> {
        self.verify(HEADER..self.end)
    }

    /// Hashes the blocks under a range of the map, if that was not done before.
    fn verify(&self, range: Range<usize>) -> Result<(), IndexError> {
        if range.is_empty() {
            return Ok(());
        }
        let blocks = (range.start - HEADER) / BLOCK..=(range.end - 1 - HEADER) / BLOCK;
        let bytes = (blocks.end() - blocks.start() + 1) * BLOCK;
        if self.looked_at.fetch_add(bytes as u64, Ordering::Relaxed) > KEPT {
            self.looked_at.store(0, Ordering::Relaxed);
            self.give_back();
        }
        for block in blocks {
            let (word, bit) = (&self.verified[block / 64], 1 << (block % 64));
            // Two threads may hash the same block; they find the same.
            if word.load(Ordering::Relaxed) & bit == 0 {
                let start = HEADER + block * BLOCK;
                let bytes = &self.map[start..self.end.min(start + BLOCK)];
                let hash = self.hashes + block * HASH;
                if self.map[hash..hash + HASH] != *blake3::hash(bytes).as_bytes() {
                    return Err(self.corrupt("the hash of a block"));
                }
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Takes the pages of the map out of this process' memory; the system's cache of files keeps them as long as it likes.
    #[allow(unsafe_code)]
    fn give_back(&self) {
        // SAFETY: the map is read-only and of a file that is never changed in place, so pages come back with the same bytes.
        #[cfg(unix)]
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

/// Maps a file for reading.
#[allow(unsafe_code)]
fn map(path: &Path) -> io::Result<Mmap> {
    // Asked first, because opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(path)?;
    // SAFETY: the map is only read, as plain bytes that are valid whatever they are. Files of an index are never changed
    // in place: a new one is written beside the old and renamed, which leaves this map as it is.
    unsafe { Mmap::map(&file) }
}
