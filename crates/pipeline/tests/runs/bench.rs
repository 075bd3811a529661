//! Whole runs inside a benchmark. What a run does is tested elsewhere; here, that it is measured.

use std::time::Duration;

use llamascope_pipeline::bench::{Scale, bench};
use llamascope_pipeline::config::{Precision, RunConfig};

use crate::support::{Job, MODEL, SAES};

#[test]
fn runs_are_measured_and_removed() {
    let job = Job::new(MODEL, SAES);
    let nothing_else = Scale {
        time: Duration::ZERO,
        memory: 1 << 12,
        tokens: Vec::new(),
        shapes: Vec::new(),
        models: Vec::new(),
        sentences: 1,
    };
    let dtypes = [Precision::Float32, Precision::Bfloat16];
    let runs = dtypes.map(|dtype| RunConfig { dtype, ..job.config.clone() });
    let bench = bench(&nothing_else, 2, &runs, job.folder.path(), &job.surroundings, &()).unwrap();
    assert_eq!(job.folder.path().read_dir().unwrap().count(), 0);
    assert_eq!(bench.runs.iter().map(|run| run.dtype).collect::<Vec<_>>(), ["float32", "bfloat16"]);
    for run in &bench.runs {
        assert_eq!((run.tokens, run.sentences), (789, 12));
        let shares = [run.arithmetic_s, run.share, run.tokens_per_s, run.forward_s, run.encode_s, run.load_s];
        assert!(shares.iter().all(|x| *x > 0.0 && x.is_finite()), "{run:?}");
        assert!(run.forward_s + run.encode_s + run.tokenize_s + run.load_s <= run.total_s, "{run:?}");
    }
    let json = serde_json::to_value(&bench).unwrap();
    for key in ["model", "layers", "tokens_per_s", "arithmetic_s", "share", "first_row_s", "write_s", "total_s"] {
        assert!(!json["runs"][0][key].is_null(), "{key}");
    }
    assert!(bench.to_tables().contains("whole run"));
}
