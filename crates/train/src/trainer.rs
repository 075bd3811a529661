//! The training itself: rows into the buffer, batches out of it, and a checkpoint now and then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use llamascope_compute::{Cpu, Kernel, Precision, Rows};
use llamascope_pipeline::config::{self, Choice};
use llamascope_pipeline::corpus::{Corpus, CorpusSpec};
use llamascope_pipeline::source::open_model;
use llamascope_pipeline::{Observer, Surroundings};
use llamascope_record::Tap;
use serde_json::json;

use crate::buffer::Buffer;
use crate::curve;
use crate::dictionary::Dictionary;
use crate::export::{Exported, export, write_record};
use crate::measure::Measured;
use crate::metrics::{self, Metrics, Window};
use crate::parameters::Arrays;
use crate::settings::{Kind, Settings};
use crate::source::{Place, Source};
use crate::store::{Counts, State, Store};
use crate::{Error, Watch};

/// What a training has come to.
#[derive(Debug)]
pub struct Finished {
    /// The output folder.
    pub folder: PathBuf,
    /// By layer.
    pub exported: Vec<Exported>,
}

/// How far a training is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Steps so far.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Rows that the next round of the buffer has and needs.
    pub reading: (u64, u64),
    /// What was measured last, if anything was.
    pub metrics: Option<Metrics>,
    /// Tokens a second of this sitting.
    pub tokens_per_s: f64,
    /// Estimate of what is left.
    pub left: Option<Duration>,
}

/// Trains what the settings say. A checkpoint in the output folder is gone on from, unless `fresh`.
///
/// # Errors
/// Settings, model or text that cannot be used; a checkpoint of other settings; numbers that overflow; a full disk; an
/// interruption, after a checkpoint was written.
pub fn train(
    settings: &Settings,
    fresh: bool,
    surroundings: &Surroundings,
    watch: &dyn Watch,
) -> Result<Finished, Error> {
    let threads = settings.threads.map_or(0, |threads| threads.get());
    let kernel = surroundings.kernel.unwrap_or_else(Kernel::detect);
    let cpu = |precision| {
        let unavailable = |error| {
            let what = format!("cannot start {threads} threads: {error}");
            Error::from(llamascope_pipeline::Error::Unavailable(what))
        };
        Cpu::with_kernel(threads, precision, kernel).map_err(unavailable)
    };
    let own = cpu(Precision::F32)?;
    if let Some(path) = &settings.activations {
        let layers: Vec<usize> = match &settings.layers {
            config::LayerSelection::Only(layers) => layers.iter().copied().collect(),
            config::LayerSelection::All => {
                let what = "rows of a file are trained on by layer: write `layers: [10]` instead of `all`".into();
                return Err(Error::Mismatch(what));
            }
        };
        let source = Source::file(path, &layers)?;
        let name = settings.name.clone().unwrap_or_else(|| "Rows".to_owned());
        return Trainer { settings, cpu: &own, source: &source, layers, name, watch }.run(fresh, surroundings);
    }
    let observer: &dyn Observer = watch;
    let (checkpoint, path) =
        open_model(&settings.model_id, settings.revision.as_deref(), &settings.layers, &surroundings.hub, observer)?;
    let layers = settings.layers.resolve(checkpoint.config.n_layers).map_err(llamascope_pipeline::Error::from)?;
    if settings.context > checkpoint.config.context {
        return Err(Error::Mismatch(format!(
            "`context` is {}, the model takes {} tokens: make it smaller",
            settings.context, checkpoint.config.context
        )));
    }
    observer.stage("opening the text");
    let corpus = Corpus::open(&CorpusSpec {
        files: settings.text.clone(),
        text_column: settings.text_column.clone(),
        context: settings.context,
        max_tokens: None,
        shuffle: Some(settings.seed),
    })?;
    let model_cpu = cpu(match settings.dtype {
        config::Precision::Float32 => Precision::F32,
        config::Precision::Float16 => Precision::F16,
        config::Precision::Bfloat16 => Precision::Bf16,
    })?;
    let taps = layers.iter().map(|layer| Tap { layer: *layer, site: settings.site }).collect();
    let source = Source::model(&model_cpu, &checkpoint, &corpus, taps, settings.context);
    let name = settings.name.clone().or_else(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| "Model".to_owned());
    Trainer { settings, cpu: &own, source: &source, layers, name, watch }.run(fresh, surroundings)
}

struct Trainer<'a> {
    settings: &'a Settings,
    cpu: &'a Cpu,
    source: &'a Source<'a>,
    layers: Vec<usize>,
    name: String,
    watch: &'a dyn Watch,
}

/// Since when this sitting lasts, and where it began.
struct Sitting {
    begun: Instant,
    tokens: u64,
    step: u64,
}

impl Trainer<'_> {
    fn run(&self, fresh: bool, surroundings: &Surroundings) -> Result<Finished, Error> {
        let settings = self.settings;
        let folder = &settings.output_dir;
        std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        let store = Store::new(folder);
        let data = self.source.fingerprint();
        let latest = if fresh { store.clear().map(|()| None)? } else { store.latest() };
        let mut begun = Instant::now();
        let mut state = match latest {
            Some(path) => {
                self.watch.note(&format!("going on from {}", path.display()));
                store.load(&path, settings, &data)?
            }
            None => {
                self.check_length()?;
                begun = Instant::now();
                self.begin(begun)?
            }
        };
        let mut lines = metrics::read(folder, state.counts.step);
        metrics::rewrite(folder, &lines)?;
        let sitting = Sitting { begun, tokens: state.counts.tokens, step: state.counts.step };
        let sitting = if state.counts.step == 0 { Sitting { tokens: 0, ..sitting } } else { sitting };
        self.steps(&store, &data, &mut state, &mut lines, &sitting)?;
        self.finish(&store, &data, &state, &lines, surroundings)
    }

    /// Finds out before hours have passed whether there is enough text.
    fn check_length(&self) -> Result<(), Error> {
        let Settings { tokens, epochs, massive, .. } = self.settings;
        self.watch.stage("counting the tokens of the text");
        // A token in fifty may be massive.
        let spare = |tokens: u64| if *massive > 0.0 { tokens / 50 } else { 0 };
        let wanted = tokens + spare(*tokens);
        let found = self.source.count(wanted.div_ceil(*epochs), self.watch)?.saturating_mul(*epochs);
        if found < wanted {
            let possible = found - spare(found);
            return Err(Error::TooShort { found, wanted: *tokens, possible });
        }
        Ok(())
    }

    /// Fills the buffer for the first time, measures the layers, and makes SAEs for them.
    fn begin(&self, begun: Instant) -> Result<State, Error> {
        let settings = self.settings;
        self.watch.stage(&format!("reading the first {} rows", settings.buffer));
        let mut counts = Counts { massive: vec![0; self.layers.len()], ..Counts::default() };
        let mut chunks: Vec<Vec<Rows>> = vec![Vec::new(); self.layers.len()];
        let (mut read, wanted) = (0u64, settings.buffer as u64);
        let enough = self.source.read(Place::default(), settings.epochs, self.watch, |rows, place| {
            read += rows[0].n() as u64;
            counts.place = place;
            chunks.iter_mut().zip(rows).for_each(|(chunks, rows)| chunks.push(rows));
            self.tell(0, (read.min(wanted), wanted), None, read as f64 / begun.elapsed().as_secs_f64(), None);
            read < wanted
        })?;
        if !enough {
            return Err(Error::TooShort { found: read, wanted: settings.tokens, possible: read / 2 });
        }
        let measured: Vec<Measured> = chunks.iter().map(|chunks| Measured::of(chunks, settings.massive)).collect();
        for (layer, measured) in self.layers.iter().zip(&measured) {
            let norm = measured.mean_norm;
            if !(norm.is_finite() && measured.factor().is_normal()) {
                return Err(Error::Mismatch(format!("layer {layer}: the rows have a mean length of {norm}")));
            }
            let median = measured.median;
            self.watch.note(&format!("layer {layer}: rows have a mean length of {norm:.2} (median {median:.2})"));
        }
        let mut buffer = Buffer::new(self.layers.len(), self.source.d(), settings.seed);
        for chunk in 0..chunks[0].len() {
            let rows: Vec<&Rows> = chunks.iter().map(|chunks| &chunks[chunk]).collect();
            buffer.push(&keep(&rows, &measured, settings.massive, &mut counts));
        }
        drop(chunks);
        let missing = settings.buffer.saturating_sub(buffer.len());
        self.read(missing, &measured, &mut counts, &|_| {})?.iter().for_each(|rows| buffer.push(rows));
        let dictionaries = self.layers.iter().zip(measured).enumerate().map(|(at, (layer, measured))| {
            let sample = buffer.batch(0, 0, buffer.len().min(4096));
            Dictionary::new(self.cpu, settings, *layer, measured, &buffer.gather(self.cpu, at, &sample))
        });
        Ok(State { counts, dictionaries: dictionaries.collect(), buffer })
    }

    /// Reads at least so many rows that are kept. `counts` changes only when all of them are there, so that an
    /// interruption leaves everything as it was.
    fn read(
        &self,
        wanted: usize,
        measured: &[Measured],
        counts: &mut Counts,
        tell: &dyn Fn(u64),
    ) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let (settings, d) = (self.settings, self.source.d());
        let (mut new, mut count, mut after) = (Vec::new(), 0, counts.clone());
        if wanted == 0 {
            return Ok(new);
        }
        let enough = self.source.read(counts.place, settings.epochs, self.watch, |rows, place| {
            let kept = keep(&rows.iter().collect::<Vec<_>>(), measured, settings.massive, &mut after);
            after.place = place;
            count += kept[0].len() / d;
            new.push(kept);
            tell(count.min(wanted) as u64);
            count < wanted
        })?;
        if !enough {
            let found = after.tokens - after.left_out;
            return Err(Error::TooShort { found, wanted: settings.tokens, possible: found / 100 * 99 });
        }
        *counts = after;
        Ok(new)
    }

    /// All steps that are left.
    fn steps(
        &self,
        store: &Store,
        data: &str,
        state: &mut State,
        lines: &mut Vec<Metrics>,
        sitting: &Sitting,
    ) -> Result<(), Error> {
        let settings = self.settings;
        let (steps, per_round) = (settings.total_steps(), settings.steps_per_refill());
        let mut scratch = Arrays::zeros(self.source.d(), settings.expansion * self.source.d());
        let mut windows = vec![Window::default(); self.layers.len()];
        let interval = Duration::from_secs_f64(60.0 * settings.checkpoint_minutes);
        let mut saved = Instant::now();
        while state.counts.step < steps {
            let step = state.counts.step;
            if self.watch.cancelled() {
                return Err(self.interrupted(store, data, state));
            }
            if step / per_round > state.counts.round
                && let Err(error) = self.refill(state, sitting, lines.last())
            {
                return Err(if error.is_interruption() { self.interrupted(store, data, state) } else { error });
            }
            let which = state.buffer.batch(state.counts.round, step % per_round, settings.batch);
            let mut broken = None;
            for (at, (dictionary, window)) in state.dictionaries.iter_mut().zip(&mut windows).enumerate() {
                let x = state.buffer.gather(self.cpu, at, &which);
                let outcome = dictionary.step(self.cpu, settings, step, &x, &mut scratch);
                if !outcome.is_finite() {
                    broken = Some(dictionary.layer);
                    break;
                }
                window.add(&outcome);
            }
            if let Some(layer) = broken {
                let kept = match store.latest() {
                    Some(path) => format!("the last good checkpoint is {}", path.display()),
                    None => "there is no checkpoint yet".to_owned(),
                };
                return Err(Error::NonFinite { what: "loss", layer, step, kept });
            }
            state.counts.step += 1;
            let rate = (state.counts.tokens - sitting.tokens) as f64 / sitting.begun.elapsed().as_secs_f64();
            let save = saved.elapsed() >= interval;
            if state.counts.step.is_multiple_of(settings.log_every) || save || state.counts.step == steps {
                let metrics = self.metrics(state, &windows, rate);
                windows.fill(Window::default());
                metrics::append(&settings.output_dir, &metrics)?;
                lines.push(metrics);
            }
            self.tell(state.counts.step, (0, 0), lines.last(), rate, self.left(state, sitting));
            if save {
                store.save(settings, data, state)?;
                saved = Instant::now();
            }
        }
        Ok(())
    }

    /// Ends a round: half of the buffer becomes new. Rows are read before the old ones leave.
    fn refill(&self, state: &mut State, sitting: &Sitting, last: Option<&Metrics>) -> Result<(), Error> {
        let settings = self.settings;
        let State { counts, dictionaries, buffer } = state;
        let measured: Vec<Measured> = dictionaries.iter().map(|dictionary| dictionary.measured.clone()).collect();
        let missing = (settings.buffer + settings.half()).saturating_sub(buffer.len());
        let (step, begun) = (counts.step, counts.tokens - sitting.tokens);
        let tell = |read| {
            let rate = (begun + read) as f64 / sitting.begun.elapsed().as_secs_f64();
            self.tell(step, (read, missing as u64), last, rate, None);
        };
        let new = self.read(missing, &measured, counts, &tell)?;
        let served = settings.steps_per_refill() as usize * settings.batch;
        buffer.end_round(counts.round, served, settings.half());
        new.iter().for_each(|rows| buffer.push(rows));
        counts.round += 1;
        Ok(())
    }

    fn metrics(&self, state: &State, windows: &[Window], tokens_per_s: f64) -> Metrics {
        let settings = self.settings;
        let last = state.counts.step - 1;
        let layers = state.dictionaries.iter().zip(windows).filter(|(_, window)| !window.is_empty());
        Metrics {
            step: state.counts.step,
            tokens: state.counts.tokens,
            learning_rate: settings.learning_rate_at(last),
            k: (settings.kind != Kind::Relu).then(|| settings.k_at(last)),
            tokens_per_s,
            layers: layers
                .map(|(dictionary, window)| {
                    let dead = dictionary.dead(settings) as f64 / dictionary.parameters.f as f64;
                    window.metrics(dictionary.layer, dead)
                })
                .collect(),
        }
    }

    fn interrupted(&self, store: &Store, data: &str, state: &State) -> Error {
        match store.save(self.settings, data, state) {
            Ok(path) => {
                let kept = format!("the same command goes on from {}", path.display());
                Error::Interrupted { kept }
            }
            Err(error) => error,
        }
    }

    fn left(&self, state: &State, sitting: &Sitting) -> Option<Duration> {
        let done = state.counts.step - sitting.step;
        let left = self.settings.total_steps() - state.counts.step;
        (done > 0).then(|| sitting.begun.elapsed().mul_f64(left as f64 / done as f64))
    }

    fn tell(&self, step: u64, reading: (u64, u64), last: Option<&Metrics>, tokens_per_s: f64, left: Option<Duration>) {
        let steps = self.settings.total_steps();
        self.watch.training(&Progress { step, steps, reading, metrics: last.cloned(), tokens_per_s, left });
    }

    /// Writes the SAEs, the curves and the record of it all.
    fn finish(
        &self,
        store: &Store,
        data: &str,
        state: &State,
        lines: &[Metrics],
        surroundings: &Surroundings,
    ) -> Result<Finished, Error> {
        let settings = self.settings;
        self.watch.stage("writing the SAEs");
        store.save(settings, data, state)?;
        let mut exported = Vec::new();
        for (dictionary, rows) in state.dictionaries.iter().zip(&state.buffer.rows) {
            let rows = Rows::from_vec(state.buffer.len(), state.buffer.d, rows.clone());
            exported.push(export(self.cpu, settings, &self.name, dictionary, &rows)?);
        }
        let massive = self.layers.iter().zip(&state.counts.massive);
        let massive: Vec<_> = massive.map(|(layer, rows)| json!({"layer": layer, "rows": rows})).collect();
        let record = json!({
            "program": surroundings.program,
            "settings": settings.to_json(),
            "data_blake3": data,
            "steps": state.counts.step,
            "tokens": state.counts.tokens,
            "tokens_left_out_as_massive": state.counts.left_out,
            "massive_rows_by_layer": massive,
            "layers": exported,
            "dtype_of_model": settings.dtype.name(),
        });
        write_record(&settings.output_dir, &record)?;
        curve::write(&settings.output_dir, &self.name, &self.layers, lines)?;
        Ok(Finished { folder: settings.output_dir.clone(), exported })
    }
}

/// The rows of a chunk, scaled, without those of tokens that are massive at any layer; counts them.
fn keep(chunk: &[&Rows], measured: &[Measured], massive: f64, counts: &mut Counts) -> Vec<Vec<f32>> {
    let n = chunk[0].n();
    let mut stays = vec![true; n];
    for ((rows, measured), count) in chunk.iter().zip(measured).zip(&mut counts.massive) {
        for (row, stays) in stays.iter_mut().enumerate() {
            if measured.is_massive(rows.row(row), massive) {
                *count += 1;
                *stays = false;
            }
        }
    }
    counts.tokens += n as u64;
    counts.left_out += stays.iter().filter(|stays| !**stays).count() as u64;
    let kept = chunk.iter().zip(measured).map(|(rows, measured)| {
        let factor = measured.factor();
        let rows = (0..n).filter(|row| stays[*row]).map(|row| rows.row(row));
        rows.flat_map(|row| row.iter().map(move |x| x * factor)).collect()
    });
    kept.collect()
}
