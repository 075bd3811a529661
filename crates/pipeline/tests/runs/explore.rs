//! `explore` against the rows of a run over the same sentences, and what it refuses.

use std::collections::BTreeMap;
use std::fs;

use llamascope_pipeline::config::{LayerSelection, Precision};
use llamascope_pipeline::explore::{ExploreSpec, Keep, Written, explore};
use llamascope_pipeline::{Error, Observer};
use llamascope_record::explored::Explored;
use llamascope_record::run::{MANIFEST, read_manifest};
use llamascope_sae::Convention;

use crate::support::{Job, MODEL, SAES, fixture};

fn spec(job: &Job) -> ExploreSpec {
    ExploreSpec {
        model: fixture(MODEL).display().to_string(),
        revision: None,
        sae: fixture(SAES).display().to_string(),
        layers: LayerSelection::All,
        convention: Convention::Saelens,
        files: vec![fixture(MODEL).parent().unwrap().join("sentences.csv")],
        text_column: None,
        tokens: None,
        context: 100_000,
        keep: Keep { contexts: 3, before: 4, after: 2, types: 50 },
        dtype: Precision::Float32,
        threads: Some(2.try_into().unwrap()),
        output: Some(job.folder.path().join("explored")),
    }
}

fn run(spec: &ExploreSpec, job: &Job) -> Result<Vec<Written>, String> {
    explore(spec, &job.surroundings, &()).map_err(|error| error.to_string())
}

/// Sentence, position, value of an activation.
type Place = (usize, usize, f32);

#[test]
fn what_is_found_is_what_a_run_over_the_same_text_holds() {
    let job = Job::new(MODEL, SAES);
    let held = job.open();
    let manifest = read_manifest(&held.path().join(MANIFEST)).unwrap().unwrap();
    let records = held.sentence_records().unwrap();
    let written = run(&spec(&job), &job).unwrap();
    assert_eq!(written.len(), manifest.saes.len());
    for (file, sae) in written.iter().zip(&manifest.saes) {
        let found = Explored::open(&file.path).unwrap();
        let header = found.header();
        // The run is found by what the SAE is.
        assert_eq!((header.layer, &header.sae_blake3), (sae.layer, &sae.blake3));
        let mut places = BTreeMap::<u32, Vec<Place>>::new();
        let mut rows = 0;
        for sentence in held.sentences_in(sae.layer) {
            for row in held.rows(sae.layer, sentence).unwrap() {
                rows += 1;
                for (id, val) in row.feat_ids.iter().zip(&row.feat_vals) {
                    places.entry(*id).or_default().push((sentence, row.token_pos as usize, *val));
                }
            }
        }
        // No row of this model is massive.
        assert_eq!((header.rows, file.rows, file.seen), (rows, rows, places.len()));
        assert_eq!(found.ids().collect::<Vec<_>>(), places.keys().copied().collect::<Vec<_>>());
        for (id, places) in &places {
            let feature = found.feature(*id).unwrap().unwrap();
            let largest = places.iter().fold(0.0f32, |max, place| max.max(place.2));
            assert_eq!((feature.rows, feature.max), (places.len() as u64, largest));
            assert_eq!(feature.promoted.len(), 50);
            assert!(feature.promoted.is_sorted_by(|a, b| a.1 >= b.1));
            // The strongest context is there with the words around the token and the values on them.
            let top = &feature.contexts[0];
            let near = |a: f32, b: f32| (a - b).abs() <= 5.001e-3 * b;
            let value = |at: usize| top.values.iter().find(|(place, _)| *place == at).map(|(_, value)| *value);
            assert!(near(value(top.at).unwrap(), largest));
            let sentence = top.document as usize;
            let tokens = &records[sentence].tokens;
            // Offsets count no BOS; one sentence begins with two.
            let first = top.offset as usize + tokens.bos.iter().filter(|bos| **bos).count();
            assert!(places.iter().any(|place| *place == (sentence, first + top.at, largest)));
            for at in 0..top.tokens.len() {
                let here =
                    places.iter().find(|place| (place.0, place.1) == (sentence, first + at)).map(|place| place.2);
                assert!(match (value(at), here) {
                    (Some(found), Some(held)) => near(found, held),
                    (found, held) => found.is_none() && held.is_none(),
                });
            }
            let text: String = top.tokens.iter().map(|piece| found.piece(*piece)).collect();
            let spans = &tokens.spans[first..first + top.tokens.len()];
            let whole = &records[sentence].sentence.text;
            // Tokens that split a character stand for all of it.
            let (start, end) = (spans[0].start as usize, spans[spans.len() - 1].end as usize);
            assert!(text.trim().starts_with(whole[start..end].trim()), "{text} is not {}", &whole[start..end]);
            assert!(whole[start..].trim_start().starts_with(text.trim()), "{text} is not in {whole}");
            assert!(feature.contexts.len() <= 3 && feature.contexts.iter().all(|window| window.tokens.len() <= 7 + 3));
        }
    }
}

#[test]
fn the_same_text_gives_the_same_bytes_with_any_number_of_threads() {
    let job = Job::new(MODEL, SAES);
    let bytes = |spec: &ExploreSpec| -> Vec<Vec<u8>> {
        run(spec, &job).unwrap().iter().map(|file| fs::read(&file.path).unwrap()).collect()
    };
    let two = bytes(&spec(&job));
    let one = bytes(&ExploreSpec { threads: Some(1.try_into().unwrap()), ..spec(&job) });
    assert!(one == two);
}

#[test]
fn what_cannot_be_explored_is_said_and_leaves_nothing() {
    let job = Job::new(MODEL, SAES);
    let hub = run(&ExploreSpec { sae: "llama_scope_lxr_8x".into(), output: None, ..spec(&job) }, &job).unwrap_err();
    assert!(hub.contains("--output-dir"), "{hub}");
    let layer = run(&ExploreSpec { layers: LayerSelection::Only([9].into()), ..spec(&job) }, &job).unwrap_err();
    assert!(layer.contains('9'), "{layer}");

    /// Stops at the first sign of progress.
    #[derive(Default)]
    struct Impatient(std::sync::atomic::AtomicBool, std::sync::Mutex<String>);
    impl Observer for Impatient {
        fn progress(&self, _: llamascope_pipeline::Progress) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        fn cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
        fn warn(&self, text: &str) {
            self.1.lock().unwrap().push_str(text);
        }
    }
    let impatient = Impatient::default();
    let stopped = explore(&spec(&job), &job.surroundings, &impatient);
    assert!(stopped.as_ref().is_err_and(Error::is_interruption));
    assert!(impatient.1.lock().unwrap().contains("nothing was written"));
    assert_eq!(fs::read_dir(job.folder.path().join("explored")).unwrap().count(), 0);
}
