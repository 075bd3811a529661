//! A run that is still being written shows what is there.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Client, copy_of_run};

#[test]
fn a_run_that_grows_is_read_again() {
    let (folder, run) = copy_of_run();
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    let mut running = manifest.clone();
    (running["status"], running["complete"]) = (json!("running"), json!(false));
    fs::write(run.join("run.json"), running.to_string()).unwrap();
    let last = "layer_00/sentence_0007.jsonl";
    let kept = fs::read(run.join(last)).unwrap();
    fs::remove_file(run.join(last)).unwrap();

    let client = Client::of(&folder.path().join("outputs"));
    let before = client.ok("");
    assert_eq!(before["status"], "running");
    assert_eq!(client.ok("/sentences/7/activations?layers=0")["missing"], json!([0]));
    fs::write(run.join(last), kept).unwrap();
    fs::write(run.join("run.json"), manifest.to_string()).unwrap();
    for _ in 0..400 {
        let now = client.ok("");
        if now["status"] == "complete" && now["generation"] != before["generation"] {
            assert_eq!(client.ok("/sentences/7/activations?layers=0")["missing"], json!([]));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the finished run is not shown");
}
