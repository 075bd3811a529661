//! What must not run says why, names the place and the way out, and leaves nothing half-written.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use llamascope_pipeline::config::{LayerSelection, RunConfig};
use llamascope_pipeline::{Error, Observer, Progress};
use llamascope_record::run::{Manifest, Run, Status};

use crate::support::{Job, MODEL, SAES, files, fixture, rows_files};

/// A run with SAEs of the fixtures under other names.
fn with_saes(copies: &[(&str, &str)]) -> Job {
    let mut job = Job::new(MODEL, SAES);
    let saes = job.folder.path().join("saes");
    for (from, name) in copies {
        for (file, bytes) in files(&fixture(from)) {
            let path = saes.join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    job.config.sae_release = saes.display().to_string();
    job
}

/// A run of the fixture with another setting.
fn with(set: impl FnOnce(&mut RunConfig)) -> Job {
    let mut job = Job::new(MODEL, SAES);
    set(&mut job.config);
    job
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_written() {
    let l1r = "llama3/saes/Llama3_1-8B-Base-L1R-8x";
    let l1a = "llama3/saes_a/Llama3_1-8B-Base-L1A-8x";
    let long = ["fine", &"long ".repeat(600)];
    let cases: Vec<(&str, Job, &[&str])> = vec![
        ("SAE of another width", Job::new(MODEL, "tied/saes_topk"), &["saes_topk", "rows of 32", "d_model 48"]),
        ("model of another width", Job::new("tied/model", SAES), &["rows of 48", "d_model 32"]),
        ("layer without SAE", Job::new(MODEL, "llama3/saes_a").layers([0, 1]), &["no SAE for layer 0", "has layers 1"]),
        ("layer out of range", Job::new(MODEL, SAES).layers([1, 3]), &["layer 3 does not exist", "3 layers, 0 to 2"]),
        (
            "SAE of a layer that the model does not have",
            with_saes(&[(l1r, "L7R-8x")]).editing("saes/L7R-8x/hyperparams.json", "blocks.1.", "blocks.7."),
            &["L7R-8x", "reads layer 7", "layers 0 to 2"],
        ),
        (
            "SAE of another layer than its folder says",
            with_saes(&[(l1r, "L0R-8x")]),
            &["L0R-8x", "blocks.1.hook_resid_post", "blocks.0.hook_resid_post"],
        ),
        (
            "SAE of another site than its folder says",
            with_saes(&[(l1r, "Llama3_1-8B-Base-L1A-8x")]),
            &["L1A", "blocks.1.hook_resid_post", "blocks.1.hook_attn_out"],
        ),
        (
            "two sites of one layer",
            with_saes(&[(l1r, "L1R-8x"), (l1a, "L1A-8x")]),
            &["layer 1 has SAEs for", "hook_resid_post", "hook_attn_out", "give the folder of one"],
        ),
        ("two SAEs of one place", with_saes(&[(l1r, "a-L1R"), (l1r, "b-L1R")]), &["a-L1R", "b-L1R"]),
        ("no SAE at all", with(|config| config.sae_release = config.model_id.clone()), &["does not hold an SAE"]),
        (
            "no such release",
            with(|config| config.sae_release = "llama_scope_lxr_9x".into()),
            &["llama_scope_lxr_9x", "llama_scope_lxr_8x"],
        ),
        (
            "release of another model",
            with(|config| config.sae_release = "llama_scope_lxr_8x".into()),
            &["32 layers, d_model 4096", "3 layers and d_model 48"],
        ),
        ("no such model", with(|config| config.model_id = "no/such/model".into()), &["no/such/model", "not a hub id"]),
        ("no such input", with(|config| config.input_csvs = vec!["no.csv".into()]), &["no.csv"]),
        (
            "too long a sentence",
            Job::new(MODEL, SAES).over(&long),
            &["sentences.jsonl:2", "1802 tokens", "context is 512", "--truncate"],
        ),
    ];
    for (what, job, says) in cases {
        let error = job.fails();
        for part in says {
            assert!(error.contains(part), "{what}: `{error}` does not say `{part}`");
        }
        assert!(!job.config.output_dir.exists(), "{what}: there is an output folder");
    }
}

#[test]
fn what_was_typed_wrong_is_told_from_what_does_not_fit() {
    assert!(Job::new(MODEL, SAES).layers([3]).try_run(&()).unwrap_err().is_usage());
    assert!(!Job::new(MODEL, "tied/saes_topk").try_run(&()).unwrap_err().is_usage());
}

#[test]
fn all_layers_are_those_that_the_folder_has() {
    for (saes, layers) in
        [(SAES, &[0, 1, 2][..]), ("llama3/saes_a", &[1]), ("llama3/saes/Llama3_1-8B-Base-L2R-8x", &[2])]
    {
        let job = Job::new(MODEL, saes);
        assert_eq!(job.config.layers, LayerSelection::All);
        let run = job.open();
        assert_eq!(run.layers(), layers, "{saes}");
        assert_eq!(run.manifest.unwrap().saes.len(), layers.len(), "{saes}");
    }
}

#[test]
fn a_long_sentence_is_cut_on_request() {
    let mut job = Job::new(MODEL, SAES).over(&["fine", &"long ".repeat(600)]);
    job.config.truncate = true;
    let run = job.open();
    assert_eq!(run.manifest.as_ref().unwrap().counts.truncated, 1);
    assert_eq!(run.rows(0, 1).unwrap().last().unwrap().token_pos, 511);
}

#[test]
fn numbers_that_are_not_finite_name_their_layer_and_the_run_has_failed() {
    for (name, value, layer) in [
        ("model.embed_tokens.weight", f32::NAN, 0),
        ("model.layers.1.mlp.down_proj.weight", f32::NAN, 1),
        ("model.layers.1.self_attn.q_proj.weight", f32::NAN, 1),
        ("model.layers.2.input_layernorm.weight", f32::INFINITY, 2),
        ("model.layers.2.mlp.down_proj.weight", f32::INFINITY, 2),
    ] {
        let job = Job::new(MODEL, SAES).remade(|tensor, values| {
            if tensor == name {
                values.fill(value)
            }
        });
        let error = job.try_run(&()).unwrap_err();
        assert!(matches!(*error, Error::NonFinite { layer: found, .. } if found == layer), "{name}: {error}");
        assert!(error.to_string().contains(&format!("after layer {layer}")), "{error}");
        let run = Run::open(&job.config.output_dir.join("run_20260102_030405")).unwrap();
        let manifest = run.manifest.as_ref().unwrap();
        assert_eq!((manifest.status, manifest.complete), (Status::Failed, false), "{name}");
        assert_eq!(manifest.fingerprint, None);
        assert_eq!(run.layers(), (0..layer).collect::<Vec<_>>(), "{name}: the layers before are there");
    }
}

/// Stops the work at the `at`-th progress report.
struct StopsAt {
    at: usize,
    reports: AtomicUsize,
}

impl Observer for StopsAt {
    fn progress(&self, _: Progress) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.reports.load(Ordering::Relaxed) >= self.at
    }
}

#[test]
fn an_interrupted_run_says_so_and_every_file_that_exists_is_whole() {
    let mut job = Job::new(MODEL, SAES);
    job.config.memory = Some(1);
    let whole = job.run();
    let whole_rows = rows_files(&whole.path);
    assert!(whole.manifest.waves > 5, "{} waves", whole.manifest.waves);
    let before = Job::new(MODEL, SAES);
    let error = before.try_run(&StopsAt { at: 0, reports: AtomicUsize::new(0) }).unwrap_err();
    assert!(matches!(*error, Error::Interrupted { run: None }), "{error}");
    assert!(!before.config.output_dir.exists(), "stopped before the work: no folder");
    for at in [1, 7, 11] {
        let error = job.try_run(&StopsAt { at, reports: AtomicUsize::new(0) }).unwrap_err();
        assert!(error.is_interruption(), "{error}");
        let Error::Interrupted { run: Some(path) } = &*error else { panic!("{error:?}") };
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let manifest: Manifest = serde_json::from_slice(&fs::read(path.join("run.json")).unwrap()).unwrap();
        assert_eq!((manifest.status, manifest.complete), (Status::Interrupted, false));
        assert_eq!(
            fs::read(path.join("sentences.jsonl")).unwrap(),
            fs::read(whole.path.join("sentences.jsonl")).unwrap()
        );
        let rows = rows_files(path);
        assert!(!rows.is_empty(), "what was finished is there");
        assert!(rows.len() < whole_rows.len());
        assert!(rows.iter().all(|file| whole_rows.contains(file)), "a file that is not whole, stopped at {at}");
        let mut others: Vec<_> = files(path).into_iter().map(|(name, _)| name).collect();
        others.retain(|name| !name.starts_with("layer_"));
        assert_eq!(others, ["resume/journal.jsonl", "resume/residual.bin", "run.json", "sentences.jsonl"]);
    }
}

#[test]
fn a_file_in_the_place_of_the_output_folder_is_named() {
    let job = Job::new(MODEL, SAES);
    fs::write(&job.config.output_dir, "mine").unwrap();
    let error = job.fails();
    assert!(error.contains("outputs") && error.contains("choose another output_dir"), "{error}");
    assert_eq!(fs::read(&job.config.output_dir).unwrap(), b"mine");
}
