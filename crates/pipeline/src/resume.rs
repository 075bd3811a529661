//! A run that was stopped, taken up again.
//!
//! A run folder holds everything that it takes: the settings and hashes in its manifest, the sentences, the hash of every
//! file that is whole. What is there is hashed, not computed again; what is missing is computed as it would have been, so
//! that the finished folder is the same to the byte. Whatever could make it another is refused by name: settings,
//! program, tokenizer, input at once; weights when they are read, before any row of theirs is written.

use std::path::Path;

use llamascope_compute::Device;
use llamascope_record::open_file;
use llamascope_record::run::{
    Entry, Hex, Ledger, MANIFEST, Manifest, Run, RunWriter, SENTENCES, SUMS, SaeInfo, Status, read_manifest,
};

use crate::Error;
use crate::config::{ConfigFile, Overrides, RunConfig};
use crate::engine::part_of_sae;
use crate::observer::Observer;
use crate::residual::Kept;
use crate::run::{Finished, Input, Prepared, Surroundings, open_device, prepare, work};

/// Settings that say how the work is done and not what comes out.
const FREE: [&str; 2] = ["memory", "threads"];

/// Goes on with the run in the folder `run` where it stood, and completes it; of a complete one, whatever is missing or
/// damaged is computed again. `given` are settings that somebody gave once more; only memory and threads may differ.
///
/// # Errors
/// [`Error::Resume`] for a run that is not what it was or cannot be taken up, naming the difference; then as
/// [`run`](crate::run()).
pub fn resume(
    run: &Path,
    given: Overrides,
    surroundings: &Surroundings,
    observer: &dyn Observer,
) -> Result<Finished, Error> {
    let writer = RunWriter::reopen(run, surroundings.disk.clone())?;
    if !writer.is_locked() {
        observer.note("note: this file system knows no locks: nothing keeps a second process off the run folder");
    }
    let refuse = |what: String| Error::Resume { run: run.into(), what };
    let Some(mut manifest) = read_manifest(&run.join(MANIFEST))? else {
        Run::open(run)?;
        return Err(refuse(format!("it has no {MANIFEST}; start a new run")));
    };
    let Some(sentences_blake3) = manifest.sentences_blake3.clone() else {
        return Err(refuse(format!("it was made by {}, which could not resume; start a new run", manifest.program)));
    };
    if manifest.program != surroundings.program {
        return Err(refuse(format!(
            "it was begun by {}, this is {}: go on with that version, or start a new run",
            manifest.program, surroundings.program
        )));
    }
    let config = settings(run, &manifest, given)?;
    observer.run_folder(run);
    observer.stage(&format!("looking at what is there of {}", run.display()));
    let stop = || observer.cancelled();
    let device = open_device(&config, surroundings)?;
    let mut ledger = device.on_host(|| Ledger::load(run, &manifest, &stop))?;
    if stop() {
        return Err(Error::Interrupted { run: Some(run.into()) });
    }
    writer.remove_leftovers()?;
    let right = |name: &str, blake3: Option<&String>| {
        let mut hasher = blake3::Hasher::new();
        let read = open_file(&run.join(name)).is_ok_and(|file| hasher.update_reader(file).is_ok());
        read && blake3.is_some_and(|blake3| hasher.finalize().to_hex().as_str() == blake3)
    };
    let sentences_are_there = right(SENTENCES, Some(&sentences_blake3));
    if ledger.is_whole() && sentences_are_there && right(SUMS, manifest.rows_blake3.as_ref()) {
        observer.note(&format!("all {} files are there", ledger.finished_files()));
        return complete(&writer, manifest, &ledger);
    }
    for sae in &manifest.saes {
        if let Ok(hash) = blake3::Hash::from_hex(&sae.blake3) {
            ledger.add(Entry::Weights { part: part_of_sae(sae.layer), blake3: Hex(hash) });
        }
    }

    // As much as before, if there is as much.
    let memory = config.memory.unwrap_or(manifest.memory_bytes.min(surroundings.memory.saturating_mul(2)));
    let mut prepared = prepare(&config, device, memory, surroundings, observer)?;
    if let Some(what) = difference(&manifest, &prepared.manifest) {
        return Err(refuse(format!("{what}: put back what was there, or start a new run")));
    }
    if prepared.manifest.sentences_blake3.as_ref() != Some(&sentences_blake3) {
        let what =
            if sentences_are_there { other_sentence(run, &prepared.input)? } else { "the input is another".into() };
        return Err(refuse(format!("{what}: put the old input back, or start a new run")));
    }
    if !sentences_are_there {
        writer.write_sentences(&prepared.input.sentences, &prepared.input.tokens)?;
    }

    let (sentences, there) = (prepared.input.sentences.len(), ledger.finished_sentences());
    let why = if manifest.status == Status::Running {
        "; it was killed (if for want of memory: --memory sets less)"
    } else {
        ""
    };
    observer.note(&format!("{there} of {sentences} sentences are there{why}"));
    let taps = prepared.taps();
    let done = |sentence: usize| -> Vec<bool> {
        taps.iter().map(|layer| ledger.has(*layer, &(sentence..sentence + 1))).collect()
    };
    prepared.waves = prepared.waves.rest(done, &vec![true; taps.len()]);
    let kept = kept(run, &prepared, &ledger, &taps);

    manifest.status = Status::Running;
    manifest.complete = false;
    writer.write_manifest(&manifest)?;
    work(&prepared, &writer, manifest, ledger, &kept, surroundings, observer)
}

/// The settings of a run; those that are given again must be the same.
fn settings(run: &Path, manifest: &Manifest, given: Overrides) -> Result<RunConfig, Error> {
    let stored = ConfigFile::parse(&run.join(MANIFEST), manifest.config.to_string().as_bytes())?;
    let before = RunConfig::resolve(Some(stored.clone()), Overrides::default())?.to_json();
    let config = RunConfig::resolve(Some(stored), given)?;
    let now = config.to_json();
    for (key, flag) in crate::config::KEYS {
        if before.get(key) != now.get(key) && !FREE.contains(&key) {
            let shown = |config: &serde_json::Value| config.get(key).map_or("nothing".into(), ToString::to_string);
            return Err(Error::Unavailable(format!(
                "{}: a resume goes on with the settings of the run, where {key} ({flag}) is {}, not {}: leave it out, or \
                 start a new run",
                run.display(),
                shown(&before),
                shown(&now)
            )));
        }
    }
    Ok(config)
}

/// A run of which every file is there: what is left to do is to say so.
fn complete(writer: &RunWriter, mut manifest: Manifest, ledger: &Ledger) -> Result<Finished, Error> {
    writer.settle(ledger)?;
    writer.remove_journal()?;
    if !manifest.complete || manifest.status != Status::Complete {
        manifest.complete = true;
        manifest.status = Status::Complete;
        writer.write_manifest(&manifest)?;
    }
    Ok(Finished { path: writer.path().into(), manifest })
}

/// What of model, tokenizer, SAEs and rounding is not what it was, if anything is.
fn difference(then: &Manifest, now: &Manifest) -> Option<String> {
    let differ =
        |what: &str, then: String, now: String| (then != now).then(|| format!("{what} was {then}, now it is {now}"));
    let files = |manifest: &Manifest| {
        let name = |path: &str| Path::new(path).file_name().map(|name| name.display().to_string()).unwrap_or_default();
        let files = manifest.model.files.iter().map(|file| format!("{} ({} bytes)", name(&file.path), file.bytes));
        files.collect::<Vec<_>>().join(", ")
    };
    let shape = |manifest: &Manifest| {
        let model = &manifest.model;
        format!(
            "{} of {} layers, d_model {}, vocabulary {}",
            model.architecture, model.n_layers, model.d_model, model.vocab
        )
    };
    let sae = |sae: Option<&SaeInfo>| match sae {
        None => "none".into(),
        Some(SaeInfo { hook, format, convention, activation, d_in, d_sae, .. }) => {
            format!("{hook}, {format}, {activation}, convention {convention}, {d_in} -> {d_sae}")
        }
    };
    let sae_of = |manifest: &Manifest, layer: usize| sae(manifest.saes.iter().find(|sae| sae.layer == layer));
    // AMX adds products up in an order of its own.
    let order = |manifest: &Manifest| manifest.device.kernel == "amx";
    differ("the model", shape(then), shape(now))
        .or_else(|| differ("the model's files", files(then), files(now)))
        .or_else(|| {
            let [before, after] = [then, now].map(|manifest| format!("BLAKE3 {}", manifest.model.tokenizer_blake3));
            differ("the tokenizer", before, after)
        })
        .or_else(|| {
            let layers = then.saes.iter().chain(&now.saes).map(|sae| sae.layer);
            layers
                .into_iter()
                .find_map(|at| differ(&format!("the SAE of layer {at}"), sae_of(then, at), sae_of(now, at)))
        })
        .or_else(|| {
            (order(then) != order(now)).then(|| {
                let [before, after] = [then, now].map(|manifest| &manifest.device.kernel);
                format!("rows were computed by the kernel `{before}`, here by `{after}`, which rounds otherwise")
            })
        })
}

/// The first sentence that is not what it was.
fn other_sentence(run: &Path, input: &Input) -> Result<String, Error> {
    /// Letters of a sentence that are shown.
    const SHOWN: usize = 60;
    let shown = |text: &str| {
        let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
        format!("{:?}{more}", text.chars().take(SHOWN).collect::<String>())
    };
    let records = Run::open(run)?.sentence_records()?;
    let now = input.sentences.iter().zip(&input.tokens);
    for (record, (sentence, tokens)) in records.iter().zip(now) {
        let place = format!("sentence {} ({})", record.index, input.place(record.index));
        if record.sentence.text != sentence.text {
            return Ok(format!("{place} was {}, now it is {}", shown(&record.sentence.text), shown(&sentence.text)));
        }
        if record.sentence.source != sentence.source || record.tokens != *tokens {
            return Ok(format!("{place} had another place or other tokens"));
        }
    }
    Ok(format!("the input had {} sentences, now it has {}", records.len(), input.sentences.len()))
}

/// The chunks that were on their way.
fn kept(run: &Path, prepared: &Prepared, ledger: &Ledger, taps: &[usize]) -> Kept {
    let rows =
        |sentences: &std::ops::Range<usize>| prepared.input.tokens[sentences.clone()].iter().map(|t| t.len()).sum();
    let wanted: Vec<_> =
        prepared.waves.waves.iter().flatten().map(|sentences| (sentences.clone(), rows(sentences))).collect();
    Kept::load(run, ledger, &wanted, taps, prepared.width())
}
