//! The main job: sentences in, a run folder out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use llamascope_compute::{Cpu, Device, Kernel, Precision, Tensor};
use llamascope_model::Checkpoint;
use llamascope_record::run::{
    Counts, DeviceInfo, Disk, FileInfo, Ledger, Manifest, ModelInfo, RunWriter, SaeInfo, Status, Tally, Timings,
    sentences_blake3, tally_files,
};
use llamascope_record::sentence::read_sentences;
use llamascope_record::{Sentence, Tokens};
use llamascope_sae::{Activation, Sae};

use crate::Error;
use crate::config::{self, DeviceChoice, RunConfig};
use crate::engine::{self, Extraction, Measured};
use crate::fetch::HubOptions;
use crate::observer::Observer;
use crate::residual::Kept;
use crate::sink::{Sink, Written};
use crate::source::{open_model, open_saes};
use crate::wave::{self, Waves};

/// What a run needs to know of the machine and the moment: libraries read neither environment nor clock.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The hub and its cache.
    pub hub: HubOptions,
    /// Memory budget in bytes where the config has none.
    pub memory: u64,
    /// A kernel to use instead of the best one.
    pub kernel: Option<Kernel>,
    /// The program's name and version.
    pub program: String,
    /// The start as `YYYYMMDD_HHMMSS`, for the folder's name.
    pub stamp: String,
    /// The start as RFC 3339 has it.
    pub started: String,
    /// Tells the most memory that the process has had, in bytes.
    pub peak_memory: fn() -> Option<u64>,
    /// What run folders are written to: the disk itself, but in tests.
    pub disk: Disk,
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// The run folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Sentences of all input files, tokenised.
pub(crate) struct Input {
    pub sentences: Vec<Sentence>,
    pub tokens: Vec<Tokens>,
    blank_lines: u64,
    truncated: u64,
}

/// A run of which everything is open and checked, and nothing written.
pub(crate) struct Prepared {
    started: Instant,
    device: Cpu,
    checkpoint: Checkpoint,
    saes: Vec<Sae>,
    pub input: Input,
    pub waves: Waves,
    /// The manifest of a new run.
    pub manifest: Manifest,
    /// What was measured so far.
    pub timings: Timings,
}

/// Does what the config says.
///
/// # Errors
/// Whatever is wrong with config, model, SAEs or input, before anything is written; afterwards a full disk, rows that
/// are not finite, an interruption: the folder then says so and holds what was finished.
pub fn run(config: &RunConfig, surroundings: &Surroundings, observer: &dyn Observer) -> Result<Finished, Error> {
    let memory = config.memory.unwrap_or(surroundings.memory);
    let device = open_device(config, surroundings)?;
    let prepared = prepare(config, device, memory, surroundings, observer)?;
    let writer = RunWriter::create_on(&config.output_dir, &surroundings.stamp, surroundings.disk.clone())?;
    if !writer.is_locked() {
        observer.note("note: this file system knows no locks: nothing keeps a second process off the run folder");
    }
    let mut manifest = prepared.manifest.clone();
    writer.write_manifest(&manifest)?;
    observer.run_folder(writer.path());
    if let Err(error) = writer.write_sentences(&prepared.input.sentences, &prepared.input.tokens) {
        manifest.status = Status::Failed;
        // The first error is the one to tell: on a full disk this write fails for the same reason.
        let _ = writer.write_manifest(&manifest);
        return Err(error.into());
    }
    let ledger = Ledger::new(prepared.taps(), prepared.input.sentences.len());
    work(&prepared, &writer, manifest, ledger, &Kept::default(), surroundings, observer)
}

/// Opens and checks everything that a run needs.
pub(crate) fn prepare(
    config: &RunConfig,
    device: Cpu,
    memory: u64,
    surroundings: &Surroundings,
    observer: &dyn Observer,
) -> Result<Prepared, Error> {
    let started = Instant::now();
    let hub = &surroundings.hub;
    let revision = config.revision.as_deref();
    let (checkpoint, model_path) = open_model(&config.model_id, revision, &config.layers, hub, observer)?;
    let convention = config.sae_convention;
    let saes = open_saes(&config.sae_release, convention, &config.layers, &checkpoint, hub, observer)?;
    let load_s = started.elapsed().as_secs_f64();

    let tokenising = Instant::now();
    let input = read_input(config, &checkpoint, &device, observer)?;
    let tokenize_s = tokenising.elapsed().as_secs_f64();
    let waves = plan_waves(&checkpoint, &saes, &input.tokens, memory)?;
    let manifest = Manifest {
        program: surroundings.program.clone(),
        started: surroundings.started.clone(),
        config: config.to_json(),
        model: model_info(config, &checkpoint, &model_path)?,
        saes: saes.iter().map(sae_info).collect(),
        device: device_info(&device),
        counts: input.counts(),
        waves: waves.waves.len() as u64,
        memory_bytes: memory,
        sentences_blake3: Some(sentences_blake3(&input.sentences, &input.tokens)),
        ..Manifest::default()
    };
    if observer.cancelled() {
        return Err(Error::Interrupted { run: None });
    }
    let timings = Timings { load_s, tokenize_s, ..Timings::default() };
    Ok(Prepared { started, device, checkpoint, saes, input, waves, manifest, timings })
}

/// Computes what `ledger` lacks, and finishes the run or says in its manifest how it ended. The manifest's timings are
/// those of its earlier parts.
pub(crate) fn work(
    prepared: &Prepared,
    writer: &RunWriter,
    mut manifest: Manifest,
    ledger: Ledger,
    kept: &Kept,
    surroundings: &Surroundings,
    observer: &dyn Observer,
) -> Result<Finished, Error> {
    let Prepared { device, checkpoint, saes, input, waves, .. } = prepared;
    let tokens = &input.tokens;
    let left: u64 = waves.waves.iter().flatten().cloned().flatten().map(|sentence| tokens[sentence].len() as u64).sum();
    observer.stage(&format!("running {left} tokens through layers 0 to {}", prepared.last_layer()));
    let sink = Sink::new(writer, tokens, &manifest.saes, ledger.clone(), observer);
    let mut measured = Measured::default();
    let (result, written) = match sink {
        Ok(sink) => {
            let extraction = Extraction { device, checkpoint, saes, tokens, waves, before: &ledger, kept };
            extract(&extraction, sink, observer, &mut measured)
        }
        Err(error) => (Err(error), None),
    };
    let parts = Parts { measured, write_s: written.as_ref().map_or(0.0, |written| written.busy.as_secs_f64()) };
    if let Some(tally) = written.as_ref().and_then(|written| written.tally.as_ref()) {
        manifest.layers = tally.summaries();
        manifest.counts.rows = manifest.layers.iter().map(|layer| layer.rows).sum();
    }
    let earlier = manifest.timings.clone();
    // Told before the run is sealed: should the mark that it is complete be lost, what was measured is not.
    manifest.timings = timings(prepared, &earlier, &parts, manifest.counts.tokens);
    manifest.peak_memory_bytes = (surroundings.peak_memory)().max(manifest.peak_memory_bytes);
    let finished = result.and_then(|()| {
        let written = written.expect("there unless the result is an error");
        finish(writer, &mut manifest, &parts.measured, written, prepared, observer)
    });
    manifest.timings = timings(prepared, &earlier, &parts, manifest.counts.tokens);
    manifest.peak_memory_bytes = (surroundings.peak_memory)().max(manifest.peak_memory_bytes);
    let completed = finished.and_then(|()| {
        manifest.status = Status::Complete;
        manifest.complete = true;
        Ok(writer.write_manifest(&manifest)?)
    });
    match completed {
        Ok(()) => {
            warn_of_odd_density(saes, &manifest, observer);
            Ok(Finished { path: writer.path().into(), manifest })
        }
        Err(mut error) => {
            if let Error::NonFinite { sentence, place, .. } = &mut error {
                *place = format!(" at {}", input.place(*sentence));
            }
            let interrupted = error.is_interruption();
            manifest.status = if interrupted { Status::Interrupted } else { Status::Failed };
            manifest.complete = false;
            // The first error is the one to tell: on a full disk this write fails for the same reason.
            let _ = writer.write_manifest(&manifest);
            Err(if interrupted { Error::Interrupted { run: Some(writer.path().into()) } } else { error })
        }
    }
}

/// Brings everything of a run to the disk but the mark that it is complete.
fn finish(
    writer: &RunWriter,
    manifest: &mut Manifest,
    measured: &Measured,
    written: Written,
    prepared: &Prepared,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let Written { ledger, tally, .. } = written;
    let tally = match tally {
        Some(tally) => Some(tally),
        None => {
            observer.stage(&format!("counting the rows of {} files", ledger.finished_files()));
            let (tokens, stop) = (&prepared.input.tokens, || observer.cancelled());
            prepared.device.on_host(|| tally_files(writer.path(), &manifest.saes, tokens, &ledger, &stop))?
        }
    };
    let tally = tally.ok_or(Error::Interrupted { run: None })?;
    let fingerprint = tally.fingerprint();
    let same = |before: &Option<String>, now: &str| before.as_deref().is_none_or(|before| before == now);
    if !same(&manifest.fingerprint, &fingerprint) || !same(&manifest.model.weights_blake3, &measured.weights_blake3) {
        return Err(Error::Mismatch(format!(
            "{}: the rows that were computed now are not those that the run had (fingerprint {fingerprint} instead of {}): \
             the weights are not what they were",
            writer.path().display(),
            manifest.fingerprint.as_deref().unwrap_or("none")
        )));
    }
    manifest.model.weights_blake3 = Some(measured.weights_blake3.clone());
    for (sae, blake3) in manifest.saes.iter_mut().zip(&measured.sae_blake3) {
        sae.blake3.clone_from(blake3);
    }
    seal(writer, manifest, &tally, &ledger)
}

/// Sums a run up whose rows are all written, and waits until it is on the disk.
pub(crate) fn seal(writer: &RunWriter, manifest: &mut Manifest, tally: &Tally, ledger: &Ledger) -> Result<(), Error> {
    manifest.layers = tally.summaries();
    manifest.counts.rows = manifest.layers.iter().map(|layer| layer.rows).sum();
    manifest.fingerprint = Some(tally.fingerprint());
    manifest.rows_blake3 = Some(writer.write_sums(ledger)?.to_hex().to_string());
    // From here on the run is known by its list of files; the journal goes when that and all rows are on the disk.
    writer.write_manifest(manifest)?;
    writer.settle(ledger)?;
    writer.remove_journal()?;
    Ok(())
}

/// Where the time of this part of a run went.
struct Parts {
    measured: Measured,
    write_s: f64,
}

/// The timings of a run after another part of it.
fn timings(prepared: &Prepared, earlier: &Timings, parts: &Parts, tokens: u64) -> Timings {
    let now = &prepared.timings;
    let (load_s, total_s) = (earlier.load_s + now.load_s, earlier.total_s + prepared.started.elapsed().as_secs_f64());
    let working_s = total_s - load_s;
    Timings {
        load_s,
        tokenize_s: earlier.tokenize_s + now.tokenize_s,
        forward_s: earlier.forward_s + parts.measured.forward.as_secs_f64(),
        encode_s: earlier.encode_s + parts.measured.encode.as_secs_f64(),
        write_s: earlier.write_s + parts.write_s,
        candidates: earlier.candidates.saturating_add(parts.measured.candidates),
        total_s,
        tokens_per_s: if working_s > 0.0 { tokens as f64 / working_s } else { 0.0 },
    }
}

/// Runs the engine, with the sink on a thread of its own. What was measured and what was written is told in any case, but
/// for a panic of the sink.
fn extract<'a, D: Device>(
    extraction: &Extraction<'_, D>,
    mut sink: Sink<'a>,
    observer: &dyn Observer,
    measured: &mut Measured,
) -> (Result<(), Error>, Option<Written>) {
    std::thread::scope(|scope| {
        // A few chunks in flight: the engine waits when the disk is slower than it.
        let (sender, receiver) = sync_channel::<engine::Output>(4);
        let writing = std::thread::Builder::new().name("writer".into()).spawn_scoped(scope, move || {
            let result = receiver.iter().try_for_each(|output| sink.take(output));
            (result, sink.finish())
        });
        let writing = match writing {
            Ok(writing) => writing,
            Err(error) => return (Err(Error::Unavailable(format!("cannot start a thread: {error}"))), None),
        };
        // A panic is a mistake of ours. It must not leave a run that nobody knows how to go on with.
        let computed = catch_unwind(AssertUnwindSafe(|| {
            let send = |output| {
                // The writer is gone only after an error of its own, which is told below.
                sender.send(output).map_err(|_| Error::Interrupted { run: None })
            };
            extraction.run(observer, send, measured)
        }));
        drop(sender);
        let computed = computed.unwrap_or_else(|panic| Err(panicked(&*panic)));
        match writing.join() {
            Ok((written, rest)) => (written.and(computed), Some(rest)),
            Err(panic) => (Err(panicked(&*panic)), None),
        }
    })
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    Error::Panicked(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into()))
}

pub(crate) fn open_device(config: &RunConfig, surroundings: &Surroundings) -> Result<Cpu, Error> {
    match config.device {
        DeviceChoice::Auto | DeviceChoice::Cpu => {}
        other => {
            return Err(Error::Unavailable(format!(
                "device `{}`: this build computes on the CPU only; use `device: auto` or `device: cpu`",
                config::Choice::name(other)
            )));
        }
    }
    let precision = match config.dtype {
        config::Precision::Float32 => Precision::F32,
        config::Precision::Float16 => Precision::F16,
        config::Precision::Bfloat16 => Precision::Bf16,
    };
    let threads = config.threads.map_or(0, |threads| threads.get());
    Cpu::with_kernel(threads, precision, surroundings.kernel.unwrap_or_else(Kernel::detect))
        .map_err(|error| Error::Unavailable(format!("cannot start {threads} threads: {error}")))
}

fn read_input(
    config: &RunConfig,
    checkpoint: &Checkpoint,
    device: &Cpu,
    observer: &dyn Observer,
) -> Result<Input, Error> {
    let mut input = Input { sentences: Vec::new(), tokens: Vec::new(), blank_lines: 0, truncated: 0 };
    for path in &config.input_csvs {
        let file = read_sentences(path, &path.to_string_lossy(), config.text_column.as_deref())?;
        input.blank_lines += file.blank_lines;
        input.sentences.extend(file.sentences);
    }
    observer.stage(&format!("tokenising {} sentences", input.sentences.len()));
    let texts: Vec<&str> = input.sentences.iter().map(|sentence| sentence.text.as_str()).collect();
    let tokenised = device.on_host(|| checkpoint.tokenizer.encode_batch(&texts));
    let mut tokens = tokenised.map_err(|error| match error {
        llamascope_model::Error::Sentence { index, source } => {
            Error::Tokenise { place: input.place(index), source: *source }
        }
        other => Error::Model(other),
    })?;
    let context = checkpoint.config.context;
    for (index, tokens) in tokens.iter_mut().enumerate().filter(|(_, tokens)| tokens.len() > context) {
        if !config.truncate {
            return Err(Error::Mismatch(format!(
                "{}: this sentence has {} tokens, the model's context is {context}: split it, or cut such sentences with \
                 --truncate",
                input.place(index),
                tokens.len()
            )));
        }
        tokens.truncate(context);
        input.truncated += 1;
    }
    input.tokens = tokens;
    Ok(input)
}

impl Input {
    /// Where a sentence stands, as `file:line`.
    pub fn place(&self, sentence: usize) -> String {
        let source = &self.sentences[sentence].source;
        format!("{}:{}", source.file, source.line)
    }

    fn counts(&self) -> Counts {
        Counts {
            sentences: self.sentences.len() as u64,
            empty_sentences: self.tokens.iter().filter(|t| t.output_positions().next().is_none()).count() as u64,
            blank_lines: self.blank_lines,
            truncated: self.truncated,
            tokens: self.tokens.iter().map(|tokens| tokens.len() as u64).sum(),
            rows: 0,
        }
    }
}

impl Prepared {
    /// The layers that are read, ascending.
    pub fn taps(&self) -> Vec<usize> {
        self.saes.iter().map(|sae| sae.tap.layer).collect()
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.checkpoint.config.d_model
    }

    fn last_layer(&self) -> usize {
        last_layer(&self.saes)
    }
}

fn last_layer(saes: &[Sae]) -> usize {
    saes.last().map_or(0, |sae| sae.tap.layer)
}

/// Divides the sentences, knowing how many bytes of weights go by.
fn plan_waves(checkpoint: &Checkpoint, saes: &[Sae], tokens: &[Tokens], memory: u64) -> Result<wave::Waves, Error> {
    let bytes = |tensor: &Tensor| tensor.bytes().len() as u64;
    let (mut largest, mut all) = (0, bytes(&checkpoint.embedding()?));
    for layer in 0..=last_layer(saes) {
        let weights = checkpoint.layer(layer)?;
        let sae = saes.iter().find(|sae| sae.tap.layer == layer).map_or(0, |sae| bytes(&sae.w_enc));
        let layer: u64 = engine::tensors(&weights).map(bytes).sum::<u64>() + sae;
        largest = largest.max(layer);
        all += layer;
    }
    let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
    Ok(wave::plan(&checkpoint.config, &lengths, memory, largest, all))
}

fn model_info(config: &RunConfig, checkpoint: &Checkpoint, path: &std::path::Path) -> Result<ModelInfo, Error> {
    let tokenizer = checkpoint.tokenizer.to_json()?;
    let files = checkpoint.tensors.files();
    Ok(ModelInfo {
        id: config.model_id.clone(),
        path: path.display().to_string(),
        architecture: checkpoint.architecture.clone(),
        n_layers: checkpoint.config.n_layers,
        d_model: checkpoint.config.d_model,
        vocab: checkpoint.config.vocab,
        files: files.into_iter().map(|(path, bytes)| FileInfo { path: path.display().to_string(), bytes }).collect(),
        weights_blake3: None,
        tokenizer_blake3: blake3::hash(tokenizer.as_bytes()).to_hex().to_string(),
    })
}

fn sae_info(sae: &Sae) -> SaeInfo {
    let activation = match &sae.activation {
        Activation::Relu => "relu".to_owned(),
        Activation::JumpRelu(_) => "jumprelu".to_owned(),
        Activation::TopK(k) => format!("topk {k}"),
    };
    SaeInfo {
        layer: sae.tap.layer,
        hook: sae.tap.to_string(),
        path: sae.path.display().to_string(),
        format: sae.format.to_string(),
        convention: sae.convention.map_or("native", |convention| convention.name()).into(),
        activation,
        d_in: sae.d_in(),
        d_sae: sae.d_sae(),
        blake3: String::new(),
        decoder_norm_mean: sae.decoder_norm.map(|norm| norm.mean),
        l0_target: sae.l0_target,
    }
}

fn device_info(device: &Cpu) -> DeviceInfo {
    let info = device.info();
    DeviceInfo { name: info.name, kernel: info.kernel, threads: info.threads, dtype: info.dtype }
}

/// Factor between the mean L0 and the SAE's own target beyond which something is probably wrong.
const ODD_DENSITY: f64 = 4.0;

fn warn_of_odd_density(saes: &[Sae], manifest: &Manifest, observer: &dyn Observer) {
    for (sae, layer) in saes.iter().zip(&manifest.layers) {
        let Some(target) = sae.l0_target.filter(|target| layer.rows > 0 && *target > 0.0) else {
            continue;
        };
        if layer.l0_mean > target * ODD_DENSITY || layer.l0_mean < target / ODD_DENSITY {
            observer.warn(&format!(
                "{}: {:.1} features a token on average, this SAE was made for about {target}: is it the SAE of this model \
                 and layer, in the right convention?",
                layer.hook, layer.l0_mean
            ));
        }
    }
}
