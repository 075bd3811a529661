//! The keys of a training's file: name, meaning, how it is read and how it is written.

use llamascope_pipeline::config::yaml::Node;
use llamascope_pipeline::config::{Choice, LayerSelection, ValueError, parse_threads, quoted};
use llamascope_record::Site;
use serde_json::{Value, json};

use super::Settings;

/// A key of the file.
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it means, with its default, in one line.
    pub means: &'static str,
    /// Whether a training that goes on may have another value than it began with.
    pub free: bool,
    /// The value of a setting.
    pub get: fn(&Settings) -> Value,
    /// Takes a value.
    pub(super) set: fn(&mut Settings, &Node) -> Result<(), ValueError>,
}

macro_rules! keys {
    ($($name:ident $free:literal $means:literal, $get:expr, $set:expr;)+) => {
        /// Every key, in the order in which a file is best written.
        pub const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            means: $means,
            free: $free,
            get: |s| { let get: fn(&Settings) -> Value = $get; get(s) },
            set: |s, node| { s.$name = { let set: fn(&Node) -> Result<_, ValueError> = $set; set(node)? }; Ok(()) },
        }),+];
    };
}

keys! {
    model_id false "hub id, folder in Hugging Face layout, or .gguf file",
        |s| json!(s.model_id), text;
    revision false "branch, tag or commit of the model on the hub",
        |s| json!(s.revision), |n| text(n).map(Some);
    activations false "a safetensors file of rows instead of model and text: a tensor `layer.N`, [rows, d_model], \
        for each layer",
        |s| json!(s.activations), |n| text(n).map(|t| Some(t.into()));
    layers false "layers to train an SAE for, all in one pass over the model: [5, 10, 20]",
        |s| match &s.layers { LayerSelection::All => json!("all"), LayerSelection::Only(layers) => json!(layers) },
        layers;
    site false "what of a layer: resid_post (default), attn_out or mlp_out",
        |s| json!(site_name(s.site)), site;
    text false "files or folders of text: .txt, .csv, .jsonl",
        |s| json!(s.text), |n| list(n, |n| text(n).map(Into::into));
    text_column false "column or key that holds the text",
        |s| json!(s.text_column), |n| text(n).map(Some);
    tokens false "tokens to train on [4000000]",
        |s| json!(s.tokens), |n| whole(n, 1, 1 << 48);
    context false "tokens of a context: text is cut into pieces of so many [128]",
        |s| json!(s.context), |n| size(n, 2, 1 << 20);
    epochs false "how often the text may be read if it is shorter than `tokens` [1]",
        |s| json!(s.epochs), |n| whole(n, 1, 1000);
    massive false "tokens with an activation longer than so many times the median are left out; 0 keeps all [10]",
        |s| json!(s.massive), |n| number(n, 0.0, 1e9);
    buffer false "rows of each layer that are shuffled together [32768]",
        |s| json!(s.buffer), |n| size(n, 2, 1 << 28);
    reuse false "how often each row is trained on [1]",
        |s| json!(s.reuse), |n| size(n, 1, 64);
    kind false "batch_topk (default), topk or relu (with a penalty on the sum of values)",
        |s| json!(s.kind.name()), choice;
    expansion false "features over the model's width [8]",
        |s| json!(s.expansion), |n| size(n, 1, 1024);
    k false "active features a token, for topk and batch_topk [50]",
        |s| json!(s.k), |n| size(n, 1, 1 << 20);
    k_start false "k at the beginning [three times k]",
        |s| json!(s.k_start), |n| size(n, 1, 1 << 20).map(Some);
    k_anneal false "share of the steps in which k falls to its value, and the penalty grows to its own [0.1]",
        |s| json!(s.k_anneal), |n| number(n, 0.0, 1.0);
    l1 false "weight of the sum of values, for relu [5]",
        |s| json!(s.l1), |n| number(n, 0.0, 1e9);
    jumprelu true "whether the result has one threshold for all tokens, set for k active features a token on average \
        [true]",
        |s| json!(s.jumprelu), switch;
    batch false "rows of a step [1024]",
        |s| json!(s.batch), |n| size(n, 1, 1 << 20);
    learning_rate false "of Adam [0.002]",
        |s| json!(s.learning_rate), |n| number(n, 0.0, 10.0);
    warm_up false "share of the steps in which the learning rate rises [0.02]",
        |s| json!(s.warm_up), |n| number(n, 0.0, 1.0);
    decay false "share of the steps, the last, in which it falls to 0 [0.2]",
        |s| json!(s.decay), |n| number(n, 0.0, 1.0);
    beta1 false "of Adam [0.9]",
        |s| json!(s.beta1), |n| number(n, 0.0, 0.999_999);
    beta2 false "of Adam [0.999]",
        |s| json!(s.beta2), |n| number(n, 0.0, 0.999_999_9);
    clip false "longest gradient of an SAE [1]",
        |s| json!(s.clip), |n| number(n, 1e-9, 1e9);
    aux_coefficient false "weight of the loss that revives dead features; 0 leaves them dead [0.03125]",
        |s| json!(s.aux_coefficient), |n| number(n, 0.0, 1e3);
    aux_k false "dead features that a token is shown to [half the model's width]",
        |s| json!(s.aux_k), |n| size(n, 1, 1 << 20).map(Some);
    dead_after false "rows without it after which a feature is dead [200000]",
        |s| json!(s.dead_after), |n| whole(n, 1, 1 << 48);
    seed false "of everything random [0]",
        |s| json!(s.seed), |n| whole(n, 0, u64::MAX);
    output_dir true "folder of checkpoints, metrics and SAEs [saes]",
        |s| json!(s.output_dir), |n| text(n).map(Into::into);
    name true "first part of the SAEs' names [the model's]",
        |s| json!(s.name), |n| text(n).map(Some);
    weights true "how weights are stored in the end: bfloat16 (default) or float32",
        |s| json!(s.weights.name()), choice;
    layouts true "how SAEs are written in the end: [llama_scope] (default), [saelens] or both",
        |s| json!(s.layouts.iter().map(|l| l.name()).collect::<Vec<_>>()), |n| list(n, choice);
    checkpoint_minutes true "time between two checkpoints [5]",
        |s| json!(s.checkpoint_minutes), |n| number(n, 0.0, 1e6);
    log_every true "steps between two lines of metrics.jsonl [50]",
        |s| json!(s.log_every), |n| whole(n, 1, 1 << 40);
    dtype false "precision of the model's matrix products: float32 (default), float16 or bfloat16",
        |s| json!(s.dtype.name()), choice;
    threads true "number of threads [all cores]; it changes no number",
        |s| json!(s.threads), |n| parse_threads(&n.word()).map(Some);
}

fn wrong<T>(node: &Node, expected: &'static str) -> Result<T, ValueError> {
    Err(ValueError::Form { found: quoted(&node.word()), expected })
}

fn text(node: &Node) -> Result<String, ValueError> {
    match node {
        Node::Text(text) if text.trim().is_empty() => Err(ValueError::Empty),
        Node::Text(text) => Ok(text.clone()),
        _ => wrong(node, "text; put it in quotes if it is meant so"),
    }
}

fn switch(node: &Node) -> Result<bool, ValueError> {
    match node {
        Node::Bool(on) => Ok(*on),
        _ => wrong(node, "true or false"),
    }
}

fn choice<T: Choice>(node: &Node) -> Result<T, ValueError> {
    T::parse(&node.word())
}

/// A list, or its only element.
fn list<T>(node: &Node, read: impl Fn(&Node) -> Result<T, ValueError>) -> Result<Vec<T>, ValueError> {
    match node {
        Node::List(elements) if elements.is_empty() => Err(ValueError::Empty),
        Node::List(elements) => elements.iter().map(|element| read(&element.value)).collect(),
        one => Ok(vec![read(one)?]),
    }
}

fn whole(node: &Node, least: u64, most: u64) -> Result<u64, ValueError> {
    let found = match node {
        Node::Int(number) => u64::try_from(*number).ok(),
        // 4e6 and 4_000_000 are how people write many tokens.
        Node::Float(number) if number.fract() == 0.0 && (0.0..1e15).contains(number) => Some(*number as u64),
        Node::Text(text) => text.replace('_', "").parse().ok(),
        _ => None,
    };
    let in_range = found.filter(|number| (least..=most).contains(number));
    let expected = if least == 0 { "a whole number" } else { "a whole number above 0 of a sensible size" };
    in_range.map_or_else(|| wrong(node, expected), Ok)
}

fn size(node: &Node, least: u64, most: u64) -> Result<usize, ValueError> {
    whole(node, least, most).map(|number| number as usize)
}

fn number(node: &Node, least: f64, most: f64) -> Result<f64, ValueError> {
    let found = match node {
        Node::Int(number) => Some(*number as f64),
        Node::Float(number) => Some(*number),
        Node::Text(text) => text.parse().ok(),
        _ => None,
    };
    let in_range = found.filter(|number| (least..=most).contains(number));
    in_range.map_or_else(|| wrong(node, "a number that this setting can have"), Ok)
}

fn layers(node: &Node) -> Result<LayerSelection, ValueError> {
    match node {
        Node::List(_) => {
            list(node, |n| size(n, 0, 1 << 16)).map(|layers| LayerSelection::Only(layers.into_iter().collect()))
        }
        Node::Int(_) => size(node, 0, 1 << 16).map(|layer| LayerSelection::Only([layer].into())),
        other => other.word().parse(),
    }
}

const SITES: [(&str, Site); 3] =
    [("resid_post", Site::ResidPost), ("attn_out", Site::AttnOut), ("mlp_out", Site::MlpOut)];

fn site_name(site: Site) -> &'static str {
    SITES.iter().find(|(_, found)| *found == site).map_or("mlp_in", |(name, _)| name)
}

fn site(node: &Node) -> Result<Site, ValueError> {
    let word = node.word();
    let named = SITES.iter().find(|(name, _)| *name == word.trim_start_matches("hook_"));
    named.map_or_else(|| wrong(node, "resid_post, attn_out or mlp_out"), |(_, site)| Ok(*site))
}
