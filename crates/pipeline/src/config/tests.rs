//! Whole config files: what is accepted, what is refused, and in which words.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(yaml: &str) -> Result<Overrides, ConfigError> {
    ConfigFile::parse(Path::new("config.yaml"), yaml.as_bytes()).map(|file| file.settings)
}

fn says(yaml: &str) -> String {
    parse(yaml).unwrap_err().to_string()
}

fn resolve(yaml: &str, flags: Overrides) -> Result<RunConfig, ConfigError> {
    RunConfig::resolve(Some(ConfigFile::parse(Path::new("config.yaml"), yaml.as_bytes())?), flags)
}

const LLAMA: &str = r#"
# model
model_id: "meta-llama/Llama-3.1-8B"
sae_release: "llama_scope_lxr_8x"
dtype: "float16"  # or "float32"
device: "auto"    # "auto", "mps", "cuda", "cpu"
# layers
layers: [0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 31]
# input
input_csvs:
  - "data/sentences1.csv"
  - "data/sentences2.csv"
# output
output_dir: "outputs"
"#;

const MINIMAL: &str = "model_id: m\nsae_release: s\ninput_csvs: in.csv\n";

fn only(layers: &[usize]) -> Option<LayerSelection> {
    Some(LayerSelection::Only(layers.iter().copied().collect()))
}

#[test]
fn a_full_file_is_read() {
    let config = resolve(LLAMA, Overrides::default()).unwrap();
    let expected = RunConfig {
        model_id: "meta-llama/Llama-3.1-8B".into(),
        sae_release: "llama_scope_lxr_8x".into(),
        dtype: Precision::Float16,
        device: DeviceChoice::Auto,
        layers: only(&[0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 31]).unwrap(),
        input_csvs: vec!["data/sentences1.csv".into(), "data/sentences2.csv".into()],
        output_dir: "outputs".into(),
        text_column: None,
        sae_convention: Convention::Saelens,
        memory: None,
        threads: None,
        truncate: false,
        revision: None,
    };
    assert_eq!(config, expected);
}

#[test]
fn what_is_not_given_has_a_default() {
    let config = resolve(MINIMAL, Overrides::default()).unwrap();
    assert_eq!((config.dtype, config.device), (Precision::Float32, DeviceChoice::Auto));
    assert_eq!((config.layers, config.output_dir), (LayerSelection::All, "outputs".into()));
    assert_eq!((config.sae_convention, config.truncate), (Convention::Saelens, false));
    assert_eq!(config.input_csvs, [PathBuf::from("in.csv")]);
    let blank = parse("layers:\nmemory: ~\ninput_csvs: null\n").unwrap();
    assert_eq!(blank, Overrides::default());
}

#[test]
fn the_other_keys_are_read() {
    let read = parse(
        "text_column: text\nsae_convention: neuronpedia\nmemory: 1.5GiB\nthreads: 2\ntruncate: true\nrevision: v1\n",
    );
    let expected = Overrides {
        text_column: Some("text".into()),
        sae_convention: Some(Convention::Neuronpedia),
        memory: Some(3 << 29),
        threads: NonZeroUsize::new(2),
        truncate: Some(true),
        revision: Some("v1".into()),
        ..Overrides::default()
    };
    assert_eq!(read.unwrap(), expected);
}

#[test]
fn layers_are_a_list_or_text() {
    assert_eq!(parse("layers: all").unwrap().layers, Some(LayerSelection::All));
    assert_eq!(parse("layers: 5").unwrap().layers, only(&[5]));
    assert_eq!(parse("layers: 0,5,9-12").unwrap().layers, only(&[0, 5, 9, 10, 11, 12]));
    assert_eq!(parse("layers:\n- 7\n- 3\n- 7\n").unwrap().layers, only(&[3, 7]));
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides {
        model_id: Some("other".into()),
        layers: only(&[3]),
        input_csvs: Some(vec!["b.csv".into()]),
        device: Some(DeviceChoice::Cpu),
        ..Overrides::default()
    };
    let config = resolve(LLAMA, flags.clone()).unwrap();
    assert_eq!((config.model_id.as_str(), config.device), ("other", DeviceChoice::Cpu));
    assert_eq!((Some(config.layers), Some(config.input_csvs)), (flags.layers, flags.input_csvs));
    assert_eq!((config.sae_release.as_str(), config.dtype), ("llama_scope_lxr_8x", Precision::Float16));
}

#[test]
fn every_key_of_the_list_can_be_overridden_and_is_known_to_the_file() {
    for (key, flag) in KEYS {
        assert!(flag.starts_with("--"), "{flag}");
        assert_eq!(parse(&format!("{key}:\n")).unwrap(), Overrides::default(), "{key}");
    }
    let all = Overrides {
        text_column: Some("t".into()),
        memory: Some(1 << 30),
        threads: NonZeroUsize::new(1),
        revision: Some("main".into()),
        ..Overrides::default()
    };
    let json = resolve(MINIMAL, all).unwrap().to_json();
    let written: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(written, KEYS.map(|(key, _)| key));
}

#[test]
fn the_record_of_a_configuration_reads_back() {
    let plain = resolve(LLAMA, Overrides::default()).unwrap();
    let told = Overrides {
        sae_convention: Some(Convention::Openmoss),
        memory: Some(2_000_000_000),
        threads: NonZeroUsize::new(8),
        truncate: Some(true),
        revision: Some("0755".into()),
        layers: Some(LayerSelection::All),
        text_column: Some("文".into()),
        ..Overrides::default()
    };
    for config in [resolve(LLAMA, told).unwrap(), plain] {
        let json = config.to_json().to_string();
        assert_eq!(resolve(&json, Overrides::default()).unwrap(), config, "{json}");
    }
    let json = resolve(MINIMAL, Overrides::default()).unwrap().to_json().to_string();
    let expected = concat!(
        r#"{"model_id":"m","sae_release":"s","dtype":"float32","device":"auto","layers":"all","input_csvs":["in.csv"],"#,
        r#""output_dir":"outputs","sae_convention":"saelens","truncate":false}"#
    );
    assert_eq!(json, expected);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
    let known = "the keys are model_id, sae_release, dtype, device, layers, input_csvs, output_dir, text_column, \
                 sae_convention, memory, threads, truncate, revision";
    for (yaml, expected) in [
        ("dtype: float32\nmodle_id: x\n", "config.yaml:2: unknown key `modle_id`: did you mean `model_id`?"),
        ("model: x\n", "config.yaml:1: unknown key `model`: did you mean `model_id`?"),
        ("output-dir: x\n", "config.yaml:1: unknown key `output-dir`: did you mean `output_dir`?"),
        ("Layers: all\n", "config.yaml:1: unknown key `Layers`: did you mean `layers`?"),
        ("input_csv: x\n", "config.yaml:1: unknown key `input_csv`: did you mean `input_csvs`?"),
        ("temperature: 1\n", "config.yaml:1: unknown key `temperature`"),
        ("\n\n7: x\n", "config.yaml:3: unknown key `7`"),
        ("? [a]\n: x\n", "config.yaml:1: unknown key `a list`"),
        ("<<: {dtype: float32}\n", "config.yaml:1: unknown key `<<`"),
    ] {
        assert_eq!(says(yaml), format!("{expected}; {known}"));
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_is_allowed() {
    for (yaml, expected) in [
        (
            "model_id: x\ndtype: fp16\n",
            "config.yaml:2: dtype: `fp16` is not one of float16, float32, bfloat16: did you mean `float16`?",
        ),
        ("dtype: 16\n", "config.yaml:1: dtype: `16` is not one of float16, float32, bfloat16"),
        ("device: gpu\n", "config.yaml:1: device: `gpu` is not one of auto, cpu, cuda, mps: did you mean `cuda`?"),
        ("device: [cpu]\n", "config.yaml:1: device: `a list` is not one of auto, cpu, cuda, mps"),
        (
            "sae_convention: saelen\n",
            "config.yaml:1: sae_convention: `saelen` is not one of saelens, openmoss, neuronpedia: did you mean `saelens`?",
        ),
        ("layers: [0,\n  -1]\n", "config.yaml:2: layers: `-1` is not a layer; write `0,5,9-12` or `all`"),
        ("layers: [all]\n", "config.yaml:1: layers: `all` is not a layer; write `0,5,9-12` or `all`"),
        ("layers: [1.5]\n", "config.yaml:1: layers: `1.5` is not a layer; write `0,5,9-12` or `all`"),
        ("layers: []\n", "config.yaml:1: layers: is empty; give a value or leave the key out"),
        ("layers: 9-3\n", "config.yaml:1: layers: `9-3` is not a range from low to high"),
        ("layers: {a: 1}\n", "config.yaml:1: layers: `a mapping` is not a layer; write `0,5,9-12` or `all`"),
        ("input_csvs: []\n", "config.yaml:1: input_csvs: is empty; give a value or leave the key out"),
        (
            "input_csvs:\n- a.csv\n- [b.csv]\n",
            "config.yaml:3: input_csvs: a list is not text; put it in quotes if it is meant so",
        ),
        ("model_id: ''\n", "config.yaml:1: model_id: is empty; give a value or leave the key out"),
        ("revision: 1234567\n", "config.yaml:1: revision: `1234567` is not text; put it in quotes if it is meant so"),
        ("output_dir: {}\n", "config.yaml:1: output_dir: a mapping is not text; put it in quotes if it is meant so"),
        ("memory: 4\n", "config.yaml:1: memory: `4` is not an amount of memory; write `4GiB` or `512MiB`"),
        ("threads: 0\n", "config.yaml:1: threads: `0` is not a whole number from 1 to 4096"),
        ("threads: 5000\n", "config.yaml:1: threads: `5000` is not a whole number from 1 to 4096"),
        ("truncate: yes\n", "config.yaml:1: truncate: `yes` is not true or false"),
    ] {
        assert_eq!(says(yaml), expected);
    }
}

#[test]
fn what_is_not_a_mapping_in_yaml_is_refused_with_its_line() {
    for (yaml, expected) in [
        ("a: 1\nb: x\n  c: 2\n", "config.yaml:3: mapping values are not allowed in this context"),
        ("model_id: \"m\n", "config.yaml:1: unclosed quote"),
        ("dtype: float32\ndtype: float32\n", "config.yaml:2: duplicate mapping key `dtype` is not allowed here"),
        ("a: 1\n---\nb: 2\n", "config.yaml:3: only single YAML document expected but multiple found"),
        ("- model_id\n", "config.yaml:1: expected keys with values such as `model_id: NAME`, found a list"),
        ("model_id\n", "config.yaml:1: expected keys with values such as `model_id: NAME`, found `model_id`"),
    ] {
        assert_eq!(says(yaml), expected);
    }
    let latin1 = ConfigFile::parse(Path::new("config.yaml"), b"dtype: float32\nmodel_id: caf\xe9\n");
    assert_eq!(latin1.unwrap_err().to_string(), "config.yaml:2: not UTF-8; save the file as UTF-8");
    assert_eq!(parse("").unwrap(), Overrides::default());
    assert_eq!(parse("\u{feff}# nothing\r\n").unwrap(), Overrides::default());
}

#[test]
fn what_nobody_gave_is_named_with_key_and_flag() {
    let says = |error: Result<RunConfig, ConfigError>| error.unwrap_err().to_string();
    let none = Overrides::default;
    assert_eq!(says(resolve("", none())), "no `model_id`: set it in config.yaml or give --model");
    assert_eq!(says(resolve("model_id: m", none())), "no `sae_release`: set it in config.yaml or give --sae");
    let model = Overrides { model_id: Some("m".into()), sae_release: Some("s".into()), ..none() };
    assert_eq!(says(resolve("", model.clone())), "no `input_csvs`: set it in config.yaml or give --input");
    assert_eq!(
        says(RunConfig::resolve(None, model)),
        "no `input_csvs`: set it in config.yaml (there is none here) or give --input"
    );
}

#[test]
fn files_that_cannot_be_config_files_are_refused() {
    let missing = ConfigFile::read(Path::new("no/such/config.yaml")).unwrap_err();
    assert!(missing.to_string().starts_with("no/such/config.yaml: "), "{missing}");
    let long = " ".repeat(MAX_CONFIG_BYTES as usize + 1);
    assert_eq!(says(&long), "config.yaml: larger than 1048576 bytes; is this a config file?");
    assert!(says(&"[".repeat(100_000)).starts_with("config.yaml:1: "));
    assert!(says(&format!("model_id: \"{}\": x", "\\u202e\\e[31m".repeat(9_999))).len() < 200);
}

#[test]
fn an_alias_bomb_is_bounded() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (inner, outer) in ('a'..'i').zip('b'..) {
        let copies = vec![format!("*{inner}"); 9].join(",");
        bomb += &format!("{outer}: &{outer} [{copies}]\n");
    }
    let error = says(&bomb);
    assert!(error.contains("YAML document too large or too complex"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = ConfigFile::parse(Path::new("config.yaml"), &bytes);
    }

    #[test]
    fn no_yaml_like_text_panics(yaml in "((model_id|layers|memory|threads|input_csvs|truncate|<<|\\PC{0,3}): ?[-&*!|>\\[\\]{}\"',0-9a-z.:# ]{0,12}\n){0,6}") {
        if let Err(error) = parse(&yaml) {
            prop_assert!(!error.to_string().contains(['\x1b', '\n']));
        }
    }
}
