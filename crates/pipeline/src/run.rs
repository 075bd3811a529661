//! The main job: sentences in, a run folder out.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use llamascope_compute::{Cpu, Device, Kernel, Precision, Tensor};
use llamascope_model::Checkpoint;
use llamascope_record::run::{Counts, DeviceInfo, FileInfo, Manifest, ModelInfo, RunWriter, SaeInfo, Status, Timings};
use llamascope_record::sentence::read_sentences;
use llamascope_record::{Sentence, Tokens};
use llamascope_sae::{Activation, Sae};

use crate::Error;
use crate::config::{self, DeviceChoice, RunConfig};
use crate::engine::{self, Extraction, Measured};
use crate::fetch::HubOptions;
use crate::observer::Observer;
use crate::sink::Sink;
use crate::source::{open_model, open_saes};
use crate::wave;

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
struct Input {
    sentences: Vec<Sentence>,
    tokens: Vec<Tokens>,
    blank_lines: u64,
    truncated: u64,
}

/// Does what the config says.
///
/// # Errors
/// Whatever is wrong with config, model, SAEs or input, before anything is written; afterwards a full disk, rows that
/// are not finite, an interruption: the folder then says so and holds what was finished.
pub fn run(config: &RunConfig, surroundings: &Surroundings, observer: &dyn Observer) -> Result<Finished, Error> {
    let started = Instant::now();
    let device = open_device(config, surroundings)?;
    let hub = &surroundings.hub;
    let revision = config.revision.as_deref();
    let (checkpoint, model_path) = open_model(&config.model_id, revision, &config.layers, hub, observer)?;
    let convention = config.sae_convention;
    let saes = open_saes(&config.sae_release, convention, &config.layers, &checkpoint, hub, observer)?;
    let load_s = started.elapsed().as_secs_f64();

    let tokenising = Instant::now();
    let input = read_input(config, &checkpoint, &device, observer)?;
    let tokenize_s = tokenising.elapsed().as_secs_f64();
    let memory = config.memory.unwrap_or(surroundings.memory);
    let waves = plan_waves(&checkpoint, &saes, &input.tokens, memory)?;

    let writer = RunWriter::create(&config.output_dir, &surroundings.stamp)?;
    let mut manifest = Manifest {
        program: surroundings.program.clone(),
        started: surroundings.started.clone(),
        config: config.to_json(),
        model: model_info(config, &checkpoint, &model_path)?,
        saes: saes.iter().map(sae_info).collect(),
        device: device_info(&device),
        counts: input.counts(),
        waves: waves.waves.len() as u64,
        ..Manifest::default()
    };
    writer.write_manifest(&manifest)?;
    if let Err(error) = writer.write_sentences(&input.sentences, &input.tokens) {
        manifest.status = Status::Failed;
        // The first error is the one to tell: on a full disk this write fails for the same reason.
        let _ = writer.write_manifest(&manifest);
        return Err(error.into());
    }

    observer.stage(&format!("running {} tokens through layers 0 to {}", manifest.counts.tokens, last_layer(&saes)));
    let extraction =
        Extraction { device: &device, checkpoint: &checkpoint, saes: &saes, tokens: &input.tokens, waves: &waves };
    let (result, sink) = extract(&extraction, Sink::new(&writer, &input.tokens, &saes), observer);

    let (layers, fingerprint, write_time) = sink.finish();
    manifest.counts.rows = layers.iter().map(|layer| layer.rows).sum();
    manifest.layers = layers;
    let total_s = started.elapsed().as_secs_f64();
    let measured = result.as_ref().ok().cloned().unwrap_or_default();
    let (forward_s, encode_s) = (measured.forward.as_secs_f64(), measured.encode.as_secs_f64());
    let working_s = total_s - load_s;
    manifest.timings = Timings {
        load_s,
        tokenize_s,
        forward_s,
        encode_s,
        write_s: write_time.as_secs_f64(),
        total_s,
        tokens_per_s: if working_s > 0.0 { manifest.counts.tokens as f64 / working_s } else { 0.0 },
    };
    manifest.peak_memory_bytes = (surroundings.peak_memory)();
    match result {
        Ok(measured) => {
            manifest.model.weights_blake3 = Some(measured.weights_blake3);
            for (sae, blake3) in manifest.saes.iter_mut().zip(measured.sae_blake3) {
                sae.blake3 = blake3;
            }
            manifest.fingerprint = Some(fingerprint);
            manifest.status = Status::Complete;
            manifest.complete = true;
            writer.write_manifest(&manifest)?;
            warn_of_odd_density(&saes, &manifest, observer);
            Ok(Finished { path: writer.path().into(), manifest })
        }
        Err(mut error) => {
            if let Error::NonFinite { sentence, place, .. } = &mut error {
                *place = format!(" at {}", input.place(*sentence));
            }
            let interrupted = error.is_interruption();
            manifest.status = if interrupted { Status::Interrupted } else { Status::Failed };
            // The first error is the one to tell: on a full disk this write fails for the same reason.
            let _ = writer.write_manifest(&manifest);
            Err(if interrupted { Error::Interrupted { run: Some(writer.path().into()) } } else { error })
        }
    }
}

/// Runs the engine, with the sink on a thread of its own. The sink is returned in any case, with what it has written.
fn extract<'a, D: Device>(
    extraction: &Extraction<'_, D>,
    mut sink: Sink<'a>,
    observer: &dyn Observer,
) -> (Result<Measured, Error>, Sink<'a>) {
    std::thread::scope(|scope| {
        // A few chunks in flight: the engine waits when the disk is slower than it.
        let (sender, receiver) = sync_channel::<engine::Encoded>(4);
        let writing = scope.spawn(move || {
            let result = receiver.iter().try_for_each(|encoded| sink.take(encoded));
            (result, sink)
        });
        let computed = extraction.run(observer, |encoded| {
            // The writer is gone only after an error of its own, which is told below.
            sender.send(encoded).map_err(|_| Error::Interrupted { run: None })
        });
        drop(sender);
        let (written, sink) = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (written.and(computed), sink)
    })
}

fn open_device(config: &RunConfig, surroundings: &Surroundings) -> Result<Cpu, Error> {
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
    fn place(&self, sentence: usize) -> String {
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
