//! The sentences and tokens of a run, as two files of an index.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::container::{Identity, Key, Kind, META_NONE, Sealed, Writer};
use super::error::{IndexError, IndexProblem};
use super::health::Health;
use crate::run::SentenceRecord;
use crate::{Sentence, Source, Span, Tokens};

/// File with texts, origins and what was found in the run as a whole.
pub(super) const TEXTS: &str = "texts.idx";
/// File with the tokens.
pub(super) const TOKENS: &str = "tokens.idx";

/// Most bytes of different token strings and file names, which are held in memory while they are gathered.
const STRINGS_LIMIT: usize = 256 << 20;

/// Sections of the texts.
mod texts {
    /// UTF-8, one text after the other.
    pub const BODY: usize = 0;
    /// Where each text starts and the last one ends, u64.
    pub const PTR: usize = 1;
    /// Which name of a file, u32 a sentence.
    pub const FILE: usize = 2;
    /// Line in that file, u64 a sentence.
    pub const LINE: usize = 3;
    /// Names of files: bounds, u64, and bytes.
    pub const NAMES: [usize; 2] = [4, 5];
    /// JSON.
    pub const HEALTH: usize = 6;
}

/// Sections of the tokens.
mod tokens {
    /// Of each sentence: count n, 1 if it is known by its rows alone; ids, strings, starts and ends of spans, n each, all
    /// u32; n flags of a byte, and zeros up to a multiple of 8 bytes.
    pub const BODY: usize = 0;
    /// Where each sentence starts and the last one ends, u64.
    pub const PTR: usize = 1;
    /// First row of each sentence, and the number of all, u32.
    pub const FIRST_ROW: usize = 2;
    /// Different strings of tokens: bounds, u64, and bytes.
    pub const STRINGS: [usize; 2] = [3, 4];
}

const SPECIAL: u8 = 1;
const BOS: u8 = 2;

/// Different strings in order of their first appearance.
#[derive(Default)]
struct Strings {
    numbers: HashMap<Box<str>, u32>,
    bounds: Vec<u64>,
    bytes: Vec<u8>,
}

impl Strings {
    fn number(&mut self, text: &str) -> Option<u32> {
        if let Some(&number) = self.numbers.get(text) {
            return Some(number);
        }
        if self.bytes.len() + text.len() > STRINGS_LIMIT {
            return None;
        }
        let number = u32::try_from(self.numbers.len()).ok()?;
        self.bounds.push(self.bytes.len() as u64);
        self.bytes.extend(text.as_bytes());
        self.numbers.insert(text.into(), number);
        Some(number)
    }

    fn write(mut self, file: &mut Writer) -> Result<(), IndexError> {
        self.bounds.push(self.bytes.len() as u64);
        file.section(&self.bounds)?;
        file.section(&self.bytes)
    }
}

/// Writes both files, a sentence after the other.
pub(super) struct TablesWriter {
    texts: Writer,
    text_ptr: Vec<u64>,
    file: Vec<u32>,
    line: Vec<u64>,
    names: Strings,
    tokens: Writer,
    token_ptr: Vec<u64>,
    first_row: Vec<u32>,
    strings: Strings,
}

impl TablesWriter {
    pub fn create(texts: &Path, tokens: &Path) -> Result<TablesWriter, IndexError> {
        Ok(TablesWriter {
            texts: Writer::create(texts)?,
            text_ptr: vec![0],
            file: Vec::new(),
            line: Vec::new(),
            names: Strings::default(),
            tokens: Writer::create(tokens)?,
            token_ptr: vec![0],
            first_row: vec![0],
            strings: Strings::default(),
        })
    }

    /// Adds the next sentence.
    pub fn add(&mut self, record: &SentenceRecord, from_rows: bool) -> Result<(), IndexError> {
        let Sentence { text, source } = &record.sentence;
        let full = |path: &Path| {
            let what = "its different token strings take more than 256 MiB, or there are more than 2^32 - 1 rows";
            IndexError::new(path, IndexProblem::TooLarge(what.to_owned()))
        };
        self.texts.write(text.as_bytes())?;
        self.text_ptr.push(self.texts.offset());
        self.file.push(self.names.number(&source.file).ok_or_else(|| full(self.texts.path()))?);
        self.line.push(source.line);

        let tokens = &record.tokens;
        let n = tokens.len();
        let mut words = Vec::with_capacity(2 + 4 * n);
        words.extend([n as u32, u32::from(from_rows)]);
        words.extend(&tokens.ids);
        for string in &tokens.strs {
            words.push(self.strings.number(string).ok_or_else(|| full(self.tokens.path()))?);
        }
        words.extend(tokens.spans.iter().map(|span| span.start));
        words.extend(tokens.spans.iter().map(|span| span.end));
        let flag = |(&special, &bos)| u8::from(special) * SPECIAL + u8::from(bos) * BOS;
        let mut flags: Vec<u8> = tokens.special.iter().zip(&tokens.bos).map(flag).collect();
        flags.resize(n.next_multiple_of(8), 0);
        self.tokens.write(bytemuck::cast_slice(&words))?;
        self.tokens.write(&flags)?;
        self.token_ptr.push(self.tokens.offset());
        let rows = self.first_row.last().copied().unwrap_or(0).checked_add(tokens.output_positions().count() as u32);
        // The last number is kept free: it stands for no row.
        self.first_row.push(rows.filter(|&rows| rows < u32::MAX).ok_or_else(|| full(self.tokens.path()))?);
        Ok(())
    }

    /// Seals the tokens first: the rows are read against them. What is left is sealed at the end.
    pub fn finish_tokens(mut self, key: Key) -> Result<TextsWriter, IndexError> {
        self.tokens.end_section()?;
        self.tokens.section(&self.token_ptr)?;
        self.tokens.section(&self.first_row)?;
        self.strings.write(&mut self.tokens)?;
        self.tokens.finish(Identity { kind: Kind::Tokens, layer: 0, key }, META_NONE)?;
        self.texts.end_section()?;
        self.texts.section(&self.text_ptr)?;
        self.texts.section(&self.file)?;
        self.texts.section(&self.line)?;
        self.names.write(&mut self.texts)?;
        Ok(TextsWriter(self.texts))
    }
}

/// The file of texts, all but what was found.
pub(super) struct TextsWriter(Writer);

impl TextsWriter {
    pub fn finish(mut self, key: Key, health: &Health) -> Result<(), IndexError> {
        self.0.section(&serde_json::to_vec(health).expect("numbers and texts are JSON"))?;
        self.0.finish(Identity { kind: Kind::Texts, layer: 0, key }, META_NONE).map(drop)
    }
}

/// One sentence as the index holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedSentence {
    /// Text, origin and tokens, BOS included.
    pub record: SentenceRecord,
    /// Whether the run has no record of it: text and tokens are put together from the rows, vocabulary ids are 0, and
    /// positions that have no row count as BOS.
    pub from_rows: bool,
    /// Its rows' numbers in the run: one for each token that is not BOS, in order.
    pub rows: Range<u32>,
}

/// The tokens of all sentences.
#[derive(Debug)]
pub(super) struct TokenTable {
    file: Sealed,
}

impl TokenTable {
    pub fn open(path: &Path, key: Key) -> Result<TokenTable, IndexError> {
        let file = Sealed::open(path, Identity { kind: Kind::Tokens, layer: 0, key })?;
        let table = TokenTable { file };
        let rows = table.first_rows()?;
        let sentences = table.file.section_len(tokens::PTR) / 8;
        if rows.is_empty() || rows.len() != sentences || rows[0] != 0 || !rows.is_sorted() {
            return Err(table.file.corrupt("the numbers of rows"));
        }
        Ok(table)
    }

    pub fn file(&self) -> &Sealed {
        &self.file
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.file.section_len(tokens::FIRST_ROW) / 4 - 1
    }

    /// First row of each sentence, and the number of all.
    pub fn first_rows(&self) -> Result<&[u32], IndexError> {
        self.file.all(tokens::FIRST_ROW)
    }

    /// Where a sentence stands, how many tokens it has, and whether its rows alone tell it.
    fn head(&self, number: usize) -> Result<(u64, u64, bool), IndexError> {
        let start = self.file.numbers::<u64>(tokens::PTR, 8 * number as u64, 1)?[0];
        let head = self.file.numbers::<u32>(tokens::BODY, start, 2)?;
        Ok((start, head[0].into(), head[1] != 0))
    }

    /// How many tokens a sentence has, BOS included.
    pub fn token_count(&self, number: usize) -> Result<usize, IndexError> {
        self.head(number).map(|(_, n, _)| n as usize)
    }

    /// The positions of a sentence's rows.
    pub fn output_positions(&self, number: usize, positions: &mut Vec<u32>) -> Result<(), IndexError> {
        let (start, n, _) = self.head(number)?;
        let flags = self.file.numbers::<u8>(tokens::BODY, start.saturating_add(8 + 16 * n), n)?;
        positions.clear();
        positions.extend(flags.iter().zip(0..).filter(|(flags, _)| **flags & BOS == 0).map(|(_, at)| at));
        Ok(())
    }

    pub fn tokens(&self, number: usize) -> Result<(Tokens, bool), IndexError> {
        let (start, n, from_rows) = self.head(number)?;
        let words = self.file.numbers::<u32>(tokens::BODY, start.saturating_add(8), 4 * n)?;
        let flags = self.file.numbers::<u8>(tokens::BODY, start.saturating_add(8 + 16 * n), n)?;
        let n = n as usize;
        let strs =
            words[n..2 * n].iter().map(|&string| string_of(&self.file, tokens::STRINGS, string).map(str::to_owned));
        let spans = words[2 * n..3 * n].iter().zip(&words[3 * n..]);
        let tokens = Tokens {
            ids: words[..n].to_vec(),
            spans: spans.map(|(&start, &end)| Span { start, end }).collect(),
            strs: strs.collect::<Result<_, _>>()?,
            special: flags.iter().map(|flags| flags & SPECIAL != 0).collect(),
            bos: flags.iter().map(|flags| flags & BOS != 0).collect(),
        };
        Ok((tokens, from_rows))
    }
}

/// The texts of all sentences.
#[derive(Debug)]
pub(super) struct TextTable {
    file: Sealed,
}

impl TextTable {
    pub fn open(path: &Path, key: Key) -> Result<TextTable, IndexError> {
        Ok(TextTable { file: Sealed::open(path, Identity { kind: Kind::Texts, layer: 0, key })? })
    }

    pub fn file(&self) -> &Sealed {
        &self.file
    }

    pub fn health(&self) -> Result<Health, IndexError> {
        let json = self.file.all::<u8>(texts::HEALTH)?;
        serde_json::from_slice(json).map_err(|_| self.file.corrupt("its findings"))
    }

    pub fn text(&self, number: usize) -> Result<&str, IndexError> {
        let bounds = self.file.numbers::<u64>(texts::PTR, 8 * number as u64, 2)?;
        let bytes = self.file.bytes(texts::BODY, bounds[0]..bounds[1])?;
        std::str::from_utf8(bytes).map_err(|_| self.file.corrupt("a text"))
    }

    pub fn source(&self, number: usize) -> Result<Source, IndexError> {
        let file = self.file.numbers::<u32>(texts::FILE, 4 * number as u64, 1)?[0];
        let line = self.file.numbers::<u64>(texts::LINE, 8 * number as u64, 1)?[0];
        Ok(Source { file: string_of(&self.file, texts::NAMES, file)?.to_owned(), line })
    }
}

fn string_of(file: &Sealed, [bounds, bytes]: [usize; 2], number: u32) -> Result<&str, IndexError> {
    let bounds = file.numbers::<u64>(bounds, 8 * u64::from(number), 2)?;
    let bytes = file.bytes(bytes, bounds[0]..bounds[1])?;
    std::str::from_utf8(bytes).map_err(|_| file.corrupt("a string"))
}
