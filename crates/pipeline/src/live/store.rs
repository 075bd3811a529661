//! Keeping a typed sentence: a run of its own beside the one that it was scored against.

use std::path::{Path, PathBuf};

use llamascope_record::run::{Counts, Manifest, RunWriter, Status, Timings};
use llamascope_record::{Sentence, Source};

use super::{LiveError, Session, Typed};
use crate::Error;
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
        let saes = typed.layers.iter().map(|encoded| Ok((*self.sae(encoded.layer)?).clone()));
        let saes = saes.collect::<Result<Vec<_>, LiveError>>()?;
        let tokens = std::slice::from_ref(&typed.tokens);
        let writer = RunWriter::create(output_dir, &moment.stamp).map_err(Error::from)?;
        let mut config = like.config.clone();
        if let Some(config) = config.as_object_mut() {
            config.insert("input_csvs".into(), serde_json::json!([TYPED]));
        }
        let kept = |layer: usize| saes.iter().any(|sae| sae.tap.layer == layer);
        let mut manifest = Manifest {
            program: like.program.clone(),
            started: moment.started,
            config,
            model: like.model.clone(),
            saes: like.saes.iter().filter(|sae| kept(sae.layer)).cloned().collect(),
            device: like.device.clone(),
            counts: Counts { sentences: 1, tokens: typed.tokens.len() as u64, ..Counts::default() },
            waves: 1,
            ..Manifest::default()
        };
        writer.write_manifest(&manifest).map_err(Error::from)?;
        let sentence = Sentence { text: text.to_owned(), source: Source { file: TYPED.into(), line: 1 } };
        writer.write_sentences(&[sentence], tokens).map_err(Error::from)?;
        let mut sink = Sink::new(&writer, tokens, &saes);
        for encoded in &typed.layers {
            sink.take(encoded.clone())?;
        }
        let (layers, fingerprint, _) = sink.finish();
        manifest.counts.rows = layers.iter().map(|layer| layer.rows).sum();
        manifest.layers = layers;
        manifest.timings = Timings { total_s: typed.seconds, ..Timings::default() };
        manifest.fingerprint = Some(fingerprint);
        (manifest.status, manifest.complete) = (Status::Complete, true);
        writer.write_manifest(&manifest).map_err(Error::from)?;
        Ok(writer.path().into())
    }
}
