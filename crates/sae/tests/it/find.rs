use std::path::Path;

use llamascope_record::{Site, Tap};
use llamascope_sae::{Convention, Error, Sae, find_saes};

use crate::files::Numbers;
use crate::{llama_scope, r1_distill, saelens};

fn tap(layer: usize, site: Site) -> Tap {
    Tap { layer, site }
}

fn scope(root: &Path, name: &str, hook: &str) {
    let sae = Numbers::new(8, 16);
    llama_scope::write(root, name, &sae, &llama_scope::hyperparams(&sae, hook, 2.5, 2.5));
}

#[test]
fn all_formats_are_found_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    scope(root.path(), "Llama3_1-8B-Base-L10R-8x", "blocks.10.hook_resid_post");
    scope(root.path(), "Demo-L2A-8x", "blocks.2.hook_attn_out");
    r1_distill::write(root.path(), "L5R", &Numbers::new(16, 64), 1.0);
    let sae = Numbers::new(8, 16);
    saelens::write(root.path(), "mine", &sae, &saelens::config(&sae, "standard", "blocks.1.hook_mlp_out", ""));
    std::fs::create_dir(root.path().join("notes")).unwrap();
    std::fs::write(root.path().join("README.md"), "").unwrap();

    let found = find_saes(root.path()).unwrap();
    let taps: Vec<_> = found.keys().copied().collect();
    let expected = [tap(1, Site::MlpOut), tap(2, Site::AttnOut), tap(5, Site::ResidPost), tap(10, Site::ResidPost)];
    assert_eq!(taps, expected);
    for (tap, folder) in found {
        assert_eq!(Sae::open(&folder, Convention::Saelens).unwrap().tap, tap);
        assert_eq!(find_saes(&folder).unwrap().into_iter().collect::<Vec<_>>(), [(tap, folder)]);
    }
}

#[test]
fn two_for_one_place_are_both_named() {
    let root = tempfile::tempdir().unwrap();
    scope(root.path(), "a-L3R-8x", "blocks.3.hook_resid_post");
    scope(root.path(), "b-L3R-32x", "blocks.3.hook_resid_post");
    let error = find_saes(root.path()).unwrap_err();
    assert!(matches!(error, Error::Duplicate { .. }));
    let text = error.to_string();
    assert!(
        text.contains("a-L3R-8x") && text.contains("b-L3R-32x") && text.contains("blocks.3.hook_resid_post"),
        "{text}"
    );
}

#[test]
fn nothing_found_says_what_was_looked_for() {
    let root = tempfile::tempdir().unwrap();
    let failed = |path: &Path| find_saes(path).unwrap_err().to_string();
    let text = failed(root.path());
    assert!(text.contains("hyperparams.json") && text.contains("cfg.json") && text.contains("config.json"), "{text}");
    std::fs::write(root.path().join("ae.pt"), "").unwrap();
    assert!(failed(root.path()).contains("`ae.pt` is a Python pickle"));
    assert!(failed(&root.path().join("ae.pt")).contains("is a file"));
    assert!(failed(&root.path().join("absent")).contains("absent"));
    assert!(matches!(Sae::open(&root.path().join("absent"), Convention::Saelens), Err(Error::Io { .. })));
    // A folder that is named as an SAE and has no files is a broken download, not something to pass over.
    std::fs::create_dir(root.path().join("X-L3R-8x")).unwrap();
    let text = failed(root.path());
    assert!(text.contains("X-L3R-8x") && text.contains("hyperparams.json"), "{text}");
    // The folder of a model has a config.json as well.
    let model = tempfile::tempdir().unwrap();
    std::fs::write(model.path().join("config.json"), "{}").unwrap();
    std::fs::write(model.path().join("model.safetensors"), "").unwrap();
    assert!(failed(model.path()).contains("does not hold an SAE"));
}
