//! Keeping a typed sentence: a run of its own beside the one that it was scored against.

use std::path::{Path, PathBuf};

use llamascope_record::run::{Counts, Ledger, Manifest, RunWriter, Status, Timings, sentences_blake3};
use llamascope_record::{Sentence, Source};

use super::{LiveError, Session, Typed};
use crate::Error;
use crate::engine::Output;
use crate::run::seal;
use crate::sink::Sink;

/// What stands where other runs name an input file.
const TYPED: &str = "typed";

/// The moment, which libraries do not read themselves.
#[derive(Clone, Debug)]
pub struct Moment {
    /// As `YYYYMMDD_HHMMSS`, for the folder's name.
    pub stamp: String,
    /// As RFC 3339 has it.
    pub started: String,
}

impl Session {
    /// Writes a typed sentence as a run in `output_dir`, with the settings of the run `like`; returns its folder.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn store(
        &self,
        text: &str,
        typed: &Typed,
        like: &Manifest,
        output_dir: &Path,
        moment: Moment,
    ) -> Result<PathBuf, LiveError> {
        let tokens = std::slice::from_ref(&typed.tokens);
        let writer = RunWriter::create(output_dir, &moment.stamp).map_err(Error::from)?;
        let mut config = like.config.clone();
        if let Some(config) = config.as_object_mut() {
            config.insert("input_csvs".into(), serde_json::json!([TYPED]));
        }
        let kept = |layer: usize| typed.layers.iter().any(|encoded| encoded.layer == layer);
        let sentences = [Sentence { text: text.to_owned(), source: Source { file: TYPED.into(), line: 1 } }];
        let mut manifest = Manifest {
            program: like.program.clone(),
            started: moment.started,
            config,
            model: like.model.clone(),
            saes: like.saes.iter().filter(|sae| kept(sae.layer)).cloned().collect(),
            device: like.device.clone(),
            counts: Counts { sentences: 1, tokens: typed.tokens.len() as u64, ..Counts::default() },
            waves: 1,
            sentences_blake3: Some(sentences_blake3(&sentences, tokens)),
            ..Manifest::default()
        };
        writer.write_manifest(&manifest).map_err(Error::from)?;
        writer.write_sentences(&sentences, tokens).map_err(Error::from)?;
        let ledger = Ledger::new(manifest.saes.iter().map(|sae| sae.layer), 1);
        let mut sink = Sink::new(&writer, tokens, &manifest.saes, ledger, &())?;
        for encoded in &typed.layers {
            sink.take(Output::Rows(encoded.clone()))?;
        }
        let written = sink.finish();
        let tally = written.tally.expect("the run is new");
        seal(&writer, &mut manifest, &tally, &written.ledger)?;
        manifest.timings = Timings { total_s: typed.seconds, ..Timings::default() };
        (manifest.status, manifest.complete) = (Status::Complete, true);
        writer.write_manifest(&manifest).map_err(Error::from)?;
        Ok(writer.path().into())
    }
}
