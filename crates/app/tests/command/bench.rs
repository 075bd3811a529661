//! `bench`, as far as it says no: measuring is slow in a build for tests.

use crate::shell::Shell;

#[test]
fn half_a_run_is_no_run() {
    let done = Shell::new().run(&["bench", "--model", "model.gguf"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("--sae"), "{done:?}");
    assert_eq!(done.stdout, "");
}
