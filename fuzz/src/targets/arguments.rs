//! Small texts: flags, names of releases and hooks, `.env` files.

use std::str;

use llamascope_pipeline::config::{LayerSelection, format_memory, parse_memory, parse_threads};
use llamascope_pipeline::fetch::{looks_like_hub_id, parse_dotenv};
use llamascope_record::Tap;
use llamascope_report::score::Scope;
use llamascope_report::text;
use llamascope_sae::Convention;

use crate::Target;

/// See the module. A range of layers takes ten bytes and stands for ten thousand numbers.
pub const TARGET: Target = Target { name: "arguments", run, seeds, base_bytes: 1 << 20, bytes_per_byte: 1 << 10 };

fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(layers) = text.parse::<LayerSelection>() {
        assert_eq!(layers.to_string().parse::<LayerSelection>().expect("its own text"), layers);
        let _ = layers.resolve(32);
    }
    if let Ok(bytes) = parse_memory(text) {
        // A number with a fraction is read as f64, which holds whole numbers up to 2^53.
        assert!(bytes >= 1 << 53 || parse_memory(&format_memory(bytes)) == Ok(bytes));
    }
    if let Ok(threads) = parse_threads(text) {
        assert_eq!(parse_threads(&threads.to_string()), Ok(threads));
    }
    if let Ok(tap) = text.parse::<Tap>() {
        assert_eq!(tap.to_string().parse::<Tap>().expect("its own text"), tap);
    }
    let _ = text.parse::<Scope>().map(|scope| scope.holds(3, 3));
    let _ = text.parse::<Convention>().map_err(|error| error.to_string());
    let _ = llamascope_sae::release(text).map_err(|error| error.to_string());
    let _ = looks_like_hub_id(text);
    if let Ok(variables) = parse_dotenv(text) {
        let fine = |name: &str| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        assert!(variables.iter().all(|(name, value)| fine(name) && !value.contains('\0')));
    }
    for shown in [text::plain(text), text::visible(text), text::fit(&text::plain(text), 20)] {
        assert!(!shown.contains(['\u{1b}', '\n', '\0']), "a control character reaches the terminal: {shown:?}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "0,5,9-12",
        "all",
        "1.5 GiB",
        "512MB",
        "64",
        "blocks.12.hook_resid_post",
        "llama_scope_lxr_8x",
        "fnlp/Llama-Scope",
        "neuronpedia",
        "export HF_TOKEN = \"hf_\\\"a\\n\" # mine\nA='b'\n",
        "0-9,12",
        "\u{1b}[31mred\t\u{6771}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
