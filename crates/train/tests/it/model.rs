//! Trainings on what a model makes of a text.

use llamascope_pipeline::config::LayerSelection;
use llamascope_record::Site;
use llamascope_sae::{Convention, Sae};
use llamascope_train::Settings;
use llamascope_train::settings::Kind;

use crate::support::{Impatient, Job, fixture};

fn text() -> String {
    let words = ["Paris", "is", "the", "capital", "of", "France", "東京", "1234", "and", "so", "on,", "again"];
    let line = |n: usize| (0..n % 23 + 9).map(|i| words[(i * n + i * i) % words.len()]).collect::<Vec<_>>().join(" ");
    (1..700).map(|n| line(n) + "\n").collect()
}

fn job() -> Job {
    let job = Job::new();
    let file = job.folder.path().join("text.txt");
    std::fs::write(&file, text()).unwrap();
    job.with(|settings| {
        *settings = Settings {
            activations: None,
            model_id: fixture("llama3/model").display().to_string(),
            text: vec![file],
            context: 24,
            layers: LayerSelection::Only([0, 2].into()),
            tokens: 16_000,
            kind: Kind::BatchTopK,
            ..settings.clone()
        }
    })
}

#[test]
fn several_layers_of_a_model_are_trained_in_one_pass_and_go_on_where_they_stopped() {
    let whole = job();
    let finished = whole.train().unwrap();
    assert_eq!(finished.exported.len(), 2);
    for exported in &finished.exported {
        let sae = Sae::open(&exported.folders[0], Convention::Saelens).unwrap();
        assert_eq!((sae.tap.layer, sae.tap.site, sae.d_in()), (exported.layer, Site::ResidPost, 48));
        assert!(exported.explained_variance > 0.3, "{exported:?}");
        assert!(
            exported.folders[0].file_name().unwrap().to_str().unwrap().ends_with(&format!("L{}R-3x", exported.layer))
        );
    }
    let parts = job();
    for stop in [30, 5, 60] {
        assert!(parts.watched(&Impatient::new(stop)).unwrap_err().is_interruption());
    }
    parts.train().unwrap();
    assert!(parts.result() == whole.result());
}

#[test]
fn other_sites_are_trained_on() {
    for (site, position) in [(Site::AttnOut, 'A'), (Site::MlpOut, 'M')] {
        let job = job().with(|settings| (settings.site, settings.layers) = (site, LayerSelection::Only([1].into())));
        let finished = job.train().unwrap();
        let folder = &finished.exported[0].folders[0];
        assert!(folder.to_str().unwrap().ends_with(&format!("L1{position}-3x")), "{folder:?}");
        assert_eq!(Sae::open(folder, Convention::Saelens).unwrap().tap.site, site);
    }
}

#[test]
fn what_the_model_or_text_cannot_give_is_said_before_anything_is_trained() {
    let says = |change: fn(&mut Settings), parts: &[&str]| {
        let job = job().with(change);
        let error = job.fails();
        parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
        assert!(job.checkpoint().is_none());
    };
    says(|settings| settings.tokens = 4_000_000, &["`tokens` asks for 4000000", "set `tokens: ", "`epochs`"]);
    says(|settings| settings.layers = LayerSelection::Only([2, 3].into()), &["layer 3 does not exist", "0 to 2"]);
    says(|settings| settings.context = 4096, &["`context` is 4096", "takes 512 tokens"]);
    says(|settings| settings.text = vec!["nowhere.txt".into()], &["nowhere.txt"]);
    says(|settings| settings.model_id = "nowhere.gguf".into(), &["nowhere.gguf"]);
}
