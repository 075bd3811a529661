//! Trainings that cannot be: each says why, where, and what to do.

use std::path::PathBuf;

use crate::support::{D, Job, rows, write_rows};

#[test]
fn rows_that_cannot_be_trained_on() {
    let job = Job::new();
    let file: PathBuf = job.settings.activations.clone().unwrap();
    write_rows(&file, &[(3, rows(20_000, 1)), (8, rows(20_000, 1))]);
    let error = job.fails();
    assert!(error.contains("20000 tokens") && error.contains("`epochs`"), "{error}");
    write_rows(&file, &[(3, rows(40_000, 1))]);
    assert!(job.fails().contains("layer.8"));
    write_rows(&file, &[(3, rows(40_000, 1)), (8, rows(30_000, 1))]);
    assert!(job.fails().contains("all must have the same rows"));
    write_rows(&file, &[(3, rows(40_000, 1)), (8, vec![0.0; 40_000 * D])]);
    assert!(job.fails().contains("layer 8: the rows have a mean length of 0"));
    std::fs::write(&file, "nothing of the kind").unwrap();
    assert!(job.fails().contains("rows.safetensors"));
    std::fs::remove_file(&file).unwrap();
    assert!(job.fails().contains("rows.safetensors"));
    assert!(job.checkpoint().is_none());
}

#[test]
fn a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_checkpoint() {
    let mut broken = rows(40_000, 2);
    broken[20_000 * D] = 1e25;
    let job = Job::new().with(|settings| settings.massive = 0.0);
    write_rows(job.settings.activations.as_ref().unwrap(), &[(3, rows(40_000, 1)), (8, broken.clone())]);
    let error = job.fails();
    assert!(
        error.contains("of layer 8 is not finite at step") && error.contains("there is no checkpoint yet"),
        "{error}"
    );
    assert!(error.contains("`learning_rate`"), "{error}");

    // A checkpoint after every step: the last one is from before the step that failed.
    let job = job.with(|settings| settings.checkpoint_minutes = 0.0);
    let error = job.fails();
    let kept = job.checkpoint().unwrap();
    assert!(error.contains(&format!("the last good checkpoint is {}", kept.display())), "{error}");
    let step: u64 = kept.file_name().unwrap().to_str().unwrap().strip_prefix("step_").unwrap().parse().unwrap();
    assert!(error.contains(&format!("at step {step}:")), "{error}");
    assert_eq!(job.fails().replace(&error, ""), "", "the same again");

    // Rows that are no numbers are found as well.
    broken[20_000 * D] = f32::NAN;
    write_rows(job.settings.activations.as_ref().unwrap(), &[(3, rows(40_000, 1)), (8, broken)]);
    let other = Job { settings: job.settings, ..job }.with(|settings| settings.output_dir.push("other"));
    assert!(other.fails().contains("not finite"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let job = Job::new().with(|settings| settings.output_dir.push("a file/in the way"));
    std::fs::create_dir_all(job.settings.output_dir.parent().unwrap().parent().unwrap()).unwrap();
    std::fs::write(job.settings.output_dir.parent().unwrap(), "").unwrap();
    assert!(job.fails().contains("a file"));
}
