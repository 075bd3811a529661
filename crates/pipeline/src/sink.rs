//! The far end of the engine: rows are formatted, written, counted and entered in the journal on a thread of their own.

use std::time::{Duration, Instant};

use llamascope_record::Tokens;
use llamascope_record::run::{Entry, Hex, Journal, Ledger, ResidualWriter, RunWriter, SaeInfo, Tally, output_rows};

use crate::Error;
use crate::engine::{Encoded, Output};
use crate::observer::Observer;
use crate::residual::Saved;

/// What has been written.
pub(crate) struct Sink<'a> {
    writer: &'a RunWriter,
    tokens: &'a [Tokens],
    journal: Journal,
    observer: &'a dyn Observer,
    written: Written,
    residual: Residual,
}

/// What is left when the sink is done, be it with an error.
pub(crate) struct Written {
    /// What is finished of the run.
    pub ledger: Ledger,
    /// The rows that were written; none in a run that was resumed, whose rows are counted from its files.
    pub tally: Option<Tally>,
    /// Time that writing took.
    pub busy: Duration,
}

/// The file of rows on their way. It only saves work: where it cannot be written the run goes on without it.
enum Residual {
    Idle,
    Open(ResidualWriter),
    GivenUp,
}

impl<'a> Sink<'a> {
    /// Goes on from `ledger`.
    pub fn new(
        writer: &'a RunWriter,
        tokens: &'a [Tokens],
        saes: &[SaeInfo],
        ledger: Ledger,
        observer: &'a dyn Observer,
    ) -> Result<Self, Error> {
        let tally = (ledger.finished_files() == 0).then(|| Tally::new(saes));
        Ok(Sink {
            writer,
            tokens,
            journal: writer.journal(&ledger)?,
            observer,
            written: Written { ledger, tally, busy: Duration::ZERO },
            residual: Residual::Idle,
        })
    }

    /// Takes what the engine gives.
    pub fn take(&mut self, output: Output) -> Result<(), Error> {
        let started = Instant::now();
        match output {
            Output::Weights { part, blake3 } => self.enter(Entry::Weights { part, blake3: Hex(blake3) })?,
            Output::Rows(encoded) => self.rows(encoded)?,
            Output::Residual(saved) => self.keep(saved),
        }
        self.written.busy += started.elapsed();
        Ok(())
    }

    /// Writes the files of some sentences, and then enters them.
    fn rows(&mut self, encoded: Encoded) -> Result<(), Error> {
        let Encoded { layer, sentences, rows } = encoded;
        let first = sentences.start;
        let mut hashes = Vec::with_capacity(sentences.len());
        let mut from = 0;
        for sentence in sentences {
            let tokens = &self.tokens[sentence];
            let to = from + tokens.output_positions().count();
            let rows = rows.slice(from..to);
            from = to;
            hashes.push(Hex(self.writer.write_rows(layer, sentence, tokens, &rows)?));
            if let Some(tally) = &mut self.written.tally {
                let output = output_rows(tokens, &rows).expect("write_rows has checked the number of rows");
                tally.add(layer, sentence, output);
            }
        }
        self.enter(Entry::Rows { layer, first, blake3: hashes })
    }

    fn enter(&mut self, entry: Entry) -> Result<(), Error> {
        self.journal.append(&entry)?;
        self.written.ledger.add(entry);
        Ok(())
    }

    fn keep(&mut self, saved: Saved) {
        if let Residual::GivenUp = self.residual {
            return;
        }
        let mut write = || {
            let mut file = match std::mem::replace(&mut self.residual, Residual::Idle) {
                Residual::Open(file) => file,
                _ => self.writer.residual()?,
            };
            saved.write(|bytes| file.write(bytes))?;
            if saved.last {
                return file.finish();
            }
            self.residual = Residual::Open(file);
            Ok(())
        };
        if let Err(error) = write() {
            self.observer.warn(&format!("{error}; the run goes on, a resume will have more to compute again"));
            self.residual = Residual::GivenUp;
        }
    }

    /// What has been written.
    pub fn finish(self) -> Written {
        self.written
    }
}
