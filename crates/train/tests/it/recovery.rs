//! Interruptions, threads and broken checkpoints.

use llamascope_train::settings::{Kind, Layout};

use crate::support::{Impatient, Job};

#[test]
fn an_interrupted_training_ends_with_the_same_bytes() {
    for kind in [Kind::TopK, Kind::BatchTopK, Kind::Relu] {
        let job = || Job::new().with(|settings| (settings.kind, settings.l1) = (kind, 0.3));
        let whole = job();
        whole.train().unwrap();
        // At the first step, between two of them, many times, and just before the end.
        for stops in [vec![0, 0, 1], vec![37, 61, 1, 0, 90], vec![270]] {
            let job = job();
            for stop in stops {
                let watch = Impatient::new(stop);
                let error = job.watched(&watch).unwrap_err();
                assert!(error.is_interruption(), "{error}");
                let path = job.checkpoint().unwrap();
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
            let watch = Impatient::new(usize::MAX);
            job.watched(&watch).unwrap();
            assert!(watch.notes.lock().unwrap().iter().any(|note| note.contains("going on from")));
            assert!(job.result() == whole.result(), "{kind:?}: other bytes after an interruption");
            // What is finished is not done again, and stays what it is.
            job.train().unwrap();
            assert!(job.result() == whole.result(), "{kind:?}: other bytes when nothing was left to do");
        }
    }
}

#[test]
fn any_number_of_threads_trains_the_same_sae() {
    for kind in [Kind::TopK, Kind::BatchTopK, Kind::Relu] {
        let of = |threads: usize| {
            let job = Job::new().with(|settings| {
                settings.kind = kind;
                settings.threads = Some(threads.try_into().unwrap());
                settings.layouts = vec![Layout::Saelens, Layout::LlamaScope];
            });
            job.train().unwrap();
            job.result()
        };
        let one = of(1);
        assert!(one == of(2) && one == of(3), "{kind:?}");
    }
}

#[test]
fn another_seed_is_another_sae() {
    let of = |seed| {
        let job = Job::new().with(|settings| settings.seed = seed);
        job.train().unwrap();
        job.result()
    };
    assert!(of(1) != of(2));
}

#[test]
fn a_checkpoint_of_other_settings_or_rows_is_refused_and_kept() {
    let job = Job::new();
    job.watched(&Impatient::new(20)).unwrap_err();
    let kept = job.checkpoint().unwrap();
    let job = job.with(|settings| settings.learning_rate = 1e-3);
    let error = job.train().unwrap_err();
    assert!(error.is_usage());
    let error = error.to_string();
    for part in ["`learning_rate` 0.005, now it is 0.001", "--fresh", kept.to_str().unwrap()] {
        assert!(error.contains(part), "{error}");
    }
    let job = job.with(|settings| settings.learning_rate = 5e-3);
    let other = vec![(3, crate::support::rows(40_000, 5)), (8, crate::support::rows(40_000, 6))];
    crate::support::write_rows(job.settings.activations.as_ref().unwrap(), &other);
    assert!(job.fails().contains("the bytes of the text or rows"));
    assert_eq!(job.checkpoint(), Some(kept));
    // What changes no number may change.
    let job = Job { settings: job.settings, ..job }.with(|settings| {
        settings.threads = None;
        settings.log_every = 3;
        settings.checkpoint_minutes = 1.0;
    });
    let same = vec![(3, crate::support::rows(40_000, 1)), (8, crate::support::rows(40_000, 2))];
    crate::support::write_rows(job.settings.activations.as_ref().unwrap(), &same);
    job.train().unwrap();
}

#[test]
fn a_broken_checkpoint_is_named_and_nothing_is_trained() {
    let job = Job::new();
    job.watched(&Impatient::new(20)).unwrap_err();
    let path = job.checkpoint().unwrap();
    let cut = |name: &str, to: usize| {
        let file = path.join(name);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..to.min(bytes.len())]).unwrap();
        let error = job.fails();
        assert!(error.contains(path.to_str().unwrap()), "{name}: {error}");
        std::fs::write(&file, bytes).unwrap();
    };
    for name in ["state.json", "layer_03.safetensors", "layer_08.safetensors", "buffer.safetensors"] {
        for to in [0, 100, 5000] {
            cut(name, to);
        }
        let file = path.join(name);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(job.fails().contains(name), "{name}");
        std::fs::write(&file, bytes).unwrap();
    }
    // Counts that lie.
    let file = path.join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let changes: [fn(&mut serde_json::Value); 6] = [
        |state| state["version"] = 99.into(),
        |state| state["uses"] = serde_json::json!([1, 2]),
        |state| state["unseen"][0] = serde_json::json!([1, 2]),
        |state| state["layers"] = serde_json::json!([3]),
        |state| state["counts"]["step"] = u64::MAX.into(),
        |state| state["counts"]["round"] = u64::MAX.into(),
    ];
    for change in changes {
        let mut state = state.clone();
        change(&mut state);
        std::fs::write(&file, state.to_string()).unwrap();
        let error = job.fails();
        assert!(error.contains("--fresh"), "{error}");
    }
    std::fs::write(&file, state.to_string()).unwrap();
    job.train().unwrap();
}
