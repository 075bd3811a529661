//! A corpus: files of documents, read as contexts of tokens, never all of it in memory.
//!
//! A document is cut into windows of at most `context` tokens, each with a BOS of its own where the model has one; the
//! last window of a document may be shorter. Every window is a text of its own to the model: nothing attends across
//! windows. Files, order and place are all deterministic: from a [`Position`] the same contexts follow again.

use std::collections::VecDeque;
use std::path::PathBuf;

use llamascope_model::Tokenizer;
use llamascope_record::sentence::{Document, Documents};
use llamascope_record::{Span, Tokens};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Documents that are tokenised together.
const BLOCK: usize = 256;
/// Bytes of text from which a block is full.
const BLOCK_BYTES: usize = 4 << 20;
/// Tokens that a context has at least: one alone predicts nothing.
const LEAST_TOKENS: usize = 2;

/// Which corpus, and how it is cut.
#[derive(Clone, Debug)]
pub struct CorpusSpec {
    /// Files of documents, read one after the other: `.txt`, `.jsonl`, `.csv` as
    /// [`read_sentences`](llamascope_record::read_sentences) reads them.
    pub files: Vec<PathBuf>,
    /// Column or key that holds the text.
    pub text_column: Option<String>,
    /// Most tokens of a context, BOS included; at least 2.
    pub context: usize,
    /// Tokens after which the corpus ends, BOS included; the last context is cut.
    pub max_tokens: Option<u64>,
    /// Reads the documents in an order drawn with this seed instead of the files' order.
    pub shuffle: Option<u64>,
}

/// An open corpus.
pub struct Corpus {
    files: Vec<Documents>,
    /// Number of the first document of each file.
    starts: Vec<usize>,
    documents: usize,
    /// Documents in the order of reading, where that is not the files'.
    order: Option<Vec<u32>>,
    context: usize,
    max_tokens: u64,
    blake3: String,
}

/// A place in a corpus between two contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// How many documents have been begun and finished, in the order of reading.
    pub document: u64,
    /// Tokens of the next document that have been read, without any BOS.
    pub offset: u64,
    /// Tokens of all contexts so far, BOS included.
    pub tokens: u64,
}

/// A window of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The document's number over all files, in the files' order: see [`Corpus::document`].
    pub document: u32,
    /// Where the window starts: tokens of the document before it, without any BOS.
    pub offset: u32,
    /// Its tokens; spans are those of the document's text.
    pub tokens: Tokens,
    /// Where the corpus goes on after it.
    pub after: Position,
}

impl Corpus {
    /// Opens the files and finds everything that is wrong with them.
    ///
    /// # Errors
    /// No files, files that cannot be read or hold no document, a context of fewer than 2 tokens.
    pub fn open(spec: &CorpusSpec) -> Result<Corpus, Error> {
        if spec.files.is_empty() {
            return Err(Error::Unavailable("no text was given: name a file with --input".into()));
        }
        if spec.context < LEAST_TOKENS {
            return Err(Error::Unavailable(format!(
                "contexts of {} tokens hold nothing to predict: give at least {LEAST_TOKENS}",
                spec.context
            )));
        }
        let mut hasher = blake3::Hasher::new();
        let (mut files, mut starts, mut documents) = (Vec::new(), Vec::new(), 0usize);
        for path in &spec.files {
            let file = Documents::open(path, &path.to_string_lossy(), spec.text_column.as_deref())?;
            hasher.update(file.blake3().as_bytes());
            starts.push(documents);
            documents += file.len();
            files.push(file);
        }
        let count = u32::try_from(documents)
            .map_err(|_| Error::Unavailable(format!("{documents} documents are more than can be numbered")))?;
        Ok(Corpus {
            files,
            starts,
            documents,
            order: spec.shuffle.map(|seed| shuffled(count, seed)),
            context: spec.context,
            max_tokens: spec.max_tokens.unwrap_or(u64::MAX),
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// BLAKE3 over the files' bytes, in order: tells one corpus from another.
    pub fn blake3(&self) -> &str {
        &self.blake3
    }

    /// The document of this number over all files, in the files' order.
    ///
    /// # Errors
    /// A file that has changed since it was opened.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn document(&self, number: usize) -> Result<Document, Error> {
        let (file, index) = self.locate(number);
        Ok(self.files[file].read(index)?)
    }

    /// Where a document stands, as `file:line`.
    ///
    /// # Errors
    /// As [`Corpus::document`].
    pub fn place(&self, number: usize) -> Result<String, Error> {
        let (file, index) = self.locate(number);
        Ok(format!("{}:{}", self.files[file].shown_as(), self.files[file].read(index)?.line))
    }

    /// The contexts from a place on.
    pub fn contexts<'a>(&'a self, tokenizer: &'a Tokenizer, from: Position) -> Contexts<'a> {
        Contexts { corpus: self, tokenizer, position: from, next: from.document, ready: VecDeque::new() }
    }

    /// The windows of one document, whatever the limit in tokens: what [`Contexts`] gives of it.
    ///
    /// # Errors
    /// A text that the tokenizer does not take.
    pub fn windows(&self, tokenizer: &Tokenizer, number: usize) -> Result<Vec<(u32, Tokens)>, Error> {
        let tokens = self.tokenise(tokenizer, &[number])?.swap_remove(0);
        Ok(windows(tokens, self.context))
    }

    /// Bytes of a document's record.
    fn bytes(&self, number: usize) -> usize {
        let (file, index) = self.locate(number);
        self.files[file].bytes(index)
    }

    /// The file of a document, and its number in that.
    fn locate(&self, number: usize) -> (usize, usize) {
        let file = self.starts.partition_point(|start| *start <= number) - 1;
        (file, number - self.starts[file])
    }

    /// The document read at place `index`.
    fn number(&self, index: u64) -> Option<usize> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.documents)?;
        Some(self.order.as_ref().map_or(index, |order| order[index] as usize))
    }

    fn tokenise(&self, tokenizer: &Tokenizer, numbers: &[usize]) -> Result<Vec<Tokens>, Error> {
        let texts = numbers.iter().map(|number| Ok(self.document(*number)?.text));
        let texts = texts.collect::<Result<Vec<String>, Error>>()?;
        tokenizer.encode_batch(&texts).map_err(|error| match error {
            llamascope_model::Error::Sentence { index, source } => {
                let place = self.place(numbers[index]).unwrap_or_else(|error| error.to_string());
                Error::Tokenise { place, source: *source }
            }
            other => Error::Model(other),
        })
    }
}

/// The contexts of a corpus, one after another. Tokenising is done on the threads of the current rayon pool, some
/// documents ahead.
pub struct Contexts<'a> {
    corpus: &'a Corpus,
    tokenizer: &'a Tokenizer,
    /// Behind the last context that was handed out.
    position: Position,
    /// The next document to tokenise.
    next: u64,
    ready: VecDeque<Context>,
}

impl Contexts<'_> {
    /// The place behind the last context that was handed out.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next contexts, as many as have at most `rows` tokens together, but at least one. None are left when there is
    /// none in the answer.
    ///
    /// # Errors
    /// Files that have changed, texts that the tokenizer does not take.
    pub fn batch(&mut self, rows: usize) -> Result<Vec<Context>, Error> {
        let (mut batch, mut sum) = (Vec::new(), 0);
        while let Some(context) = self.peek()? {
            sum += context.tokens.len();
            if sum > rows && !batch.is_empty() {
                break;
            }
            batch.extend(self.take());
        }
        Ok(batch)
    }

    fn peek(&mut self) -> Result<Option<&Context>, Error> {
        if self.left() < LEAST_TOKENS {
            return Ok(None);
        }
        while self.ready.is_empty() && self.fill()? {}
        Ok(self.ready.front())
    }

    /// Tokens to the limit.
    fn left(&self) -> usize {
        usize::try_from(self.corpus.max_tokens.saturating_sub(self.position.tokens)).unwrap_or(usize::MAX)
    }

    /// Hands out the context in front, cut to what the limit leaves.
    fn take(&mut self) -> Option<Context> {
        let mut context = self.ready.pop_front()?;
        context.tokens.truncate(self.left());
        context.after.tokens = self.position.tokens + context.tokens.len() as u64;
        self.position = context.after;
        Some(context)
    }

    /// Tokenises some more documents. False when there are no more.
    fn fill(&mut self) -> Result<bool, Error> {
        let (mut numbers, mut bytes) = (Vec::new(), 0);
        let first = self.next;
        while let Some(number) = self.corpus.number(self.next).filter(|_| numbers.len() < BLOCK && bytes < BLOCK_BYTES)
        {
            numbers.push(number);
            bytes += self.corpus.bytes(number);
            self.next += 1;
        }
        let tokenised = self.corpus.tokenise(self.tokenizer, &numbers)?;
        for ((index, number), tokens) in (first..).zip(&numbers).zip(tokenised) {
            let windows = windows(tokens, self.corpus.context);
            let skipped = if index == self.position.document { self.position.offset } else { 0 };
            let ends: Vec<u32> = windows.iter().skip(1).map(|window| window.0).collect();
            for (at, (offset, tokens)) in windows.into_iter().enumerate() {
                if u64::from(offset) < skipped {
                    continue;
                }
                let after = match ends.get(at) {
                    Some(end) => Position { document: index, offset: (*end).into(), tokens: 0 },
                    None => Position { document: index + 1, offset: 0, tokens: 0 },
                };
                self.ready.push_back(Context { document: *number as u32, offset, tokens, after });
            }
        }
        Ok(!numbers.is_empty())
    }
}

/// The windows of a document, each with the number of its tokens before it, BOS not counted.
fn windows(document: Tokens, context: usize) -> Vec<(u32, Tokens)> {
    let bos = usize::from(document.bos.first() == Some(&true));
    let mut windows = Vec::new();
    let mut start = bos;
    while start < document.len() {
        let end = document.len().min(start + context - bos);
        let mut tokens = document.slice(0..bos);
        // The BOS of a later window stands where that begins.
        if let (Some(span), Some(first)) = (tokens.spans.first_mut(), document.spans.get(start)) {
            *span = Span { start: first.start, end: first.start };
        }
        tokens.append(document.slice(start..end));
        if tokens.len() >= LEAST_TOKENS {
            windows.push(((start - bos) as u32, tokens));
        }
        start = end;
    }
    windows
}

/// The numbers below `count` in an order drawn with `seed`: Fisher and Yates' shuffle with the numbers of SplitMix64
/// (Steele, Lea and Flood 2014).
fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = seed;
    for last in (1..order.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of a 128-bit product: even enough for any count of documents.
        order.swap(last, ((u128::from(z) * (last as u128 + 1)) >> 64) as usize);
    }
    order
}

#[cfg(test)]
mod tests;
