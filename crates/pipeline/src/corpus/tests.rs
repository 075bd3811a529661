use std::path::Path;

use llamascope_model::Checkpoint;

use super::*;

fn fixture(name: &str) -> Checkpoint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name).join("model");
    Checkpoint::open(&path).unwrap()
}

struct Files {
    folder: tempfile::TempDir,
    spec: CorpusSpec,
}

fn files(texts: &[&str], context: usize) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let write = |(index, text): (usize, &&str)| {
        let path = folder.path().join(format!("{index}.txt"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = texts.iter().enumerate().map(write).collect();
    Files { folder, spec: CorpusSpec { files, text_column: None, context, max_tokens: None, shuffle: None } }
}

fn long_text() -> String {
    let words = ["Paris", "is", "the", "capital", "of", "France", "東京", "1234", "and", "so", "on,", "again"];
    let line = |n: usize| (0..n % 23 + 1).map(|i| words[(i * n + i) % words.len()]).collect::<Vec<_>>().join(" ");
    (1..400).map(|n| line(n) + "\n").collect()
}

fn all(corpus: &Corpus, tokenizer: &Tokenizer, from: Position, rows: usize) -> Vec<Context> {
    let mut contexts = corpus.contexts(tokenizer, from);
    let mut found = Vec::new();
    loop {
        let batch = contexts.batch(rows).unwrap();
        if batch.is_empty() {
            return found;
        }
        let sum: usize = batch.iter().map(|context| context.tokens.len()).sum();
        assert!(batch.len() == 1 || sum <= rows, "{} contexts of {sum} tokens", batch.len());
        found.extend(batch);
    }
}

#[test]
fn windows_are_the_document_with_a_bos_each() {
    for (name, has_bos) in [("llama3", true), ("tied", false)] {
        let model = fixture(name);
        let files = files(&["The quick brown fox jumps over the lazy dog, again and again.\n\nx\n"], 8);
        let corpus = Corpus::open(&files.spec).unwrap();
        assert_eq!(corpus.documents(), 2);
        let whole = model.tokenizer.encode(&corpus.document(0).unwrap().text).unwrap();
        let found = all(&corpus, &model.tokenizer, Position::default(), 1);
        let windows: Vec<&Context> = found.iter().filter(|context| context.document == 0).collect();
        let body = |tokens: &Tokens| tokens.ids[usize::from(has_bos)..].to_vec();
        let joined: Vec<u32> = windows.iter().flat_map(|context| body(&context.tokens)).collect();
        assert_eq!(joined, body(&whole), "{name}");
        for context in &windows {
            assert!((2..=8).contains(&context.tokens.len()));
            assert_eq!(context.tokens.bos[0], has_bos);
            assert!(context.tokens.bos[1..].iter().all(|bos| !bos));
            let first = usize::from(has_bos) + context.offset as usize;
            assert_eq!(
                context.tokens.spans.last().unwrap().end,
                whole.spans[first + body(&context.tokens).len() - 1].end
            );
        }
        let again: Vec<(u32, Tokens)> = corpus.windows(&model.tokenizer, 0).unwrap();
        assert!(windows.iter().map(|c| (c.offset, &c.tokens)).eq(again.iter().map(|(offset, t)| (*offset, t))));
        // The single token of the second document predicts nothing without a BOS before it.
        assert_eq!(found.iter().any(|context| context.document == 1), has_bos, "{name}");
    }
}

#[test]
fn any_place_is_one_to_go_on_from() {
    let model = fixture("llama3");
    let text = long_text();
    for (shuffle, max_tokens) in [(None, None), (Some(7), None), (Some(7), Some(1001)), (None, Some(1))] {
        let files = files(&[&text, "one more file\n", &text], 16);
        let corpus = Corpus::open(&CorpusSpec { shuffle, max_tokens, ..files.spec.clone() }).unwrap();
        let whole = all(&corpus, &model.tokenizer, Position::default(), 64);
        let tokens: usize = whole.iter().map(|context| context.tokens.len()).sum();
        if let Some(most) = max_tokens {
            assert_eq!(tokens as u64, if most < 2 { 0 } else { most });
        }
        for (at, context) in whole.iter().enumerate().step_by(97) {
            assert_eq!(all(&corpus, &model.tokenizer, context.after, 999), whole[at + 1..], "from {:?}", context.after);
        }
        let before = whole.iter().map(|context| context.tokens.len() as u64).scan(0, |sum, len| {
            *sum += len;
            Some(*sum)
        });
        assert!(before.eq(whole.iter().map(|context| context.after.tokens)));
    }
}

#[test]
fn a_shuffle_reads_every_document_once_in_an_order_of_its_own() {
    for count in [0, 1, 2, 1000] {
        let mut seen = shuffled(count, 3);
        assert!(count < 9 || seen != shuffled(count, 4), "{count}");
        assert_eq!(seen, shuffled(count, 3));
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..count));
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let message = |spec: &CorpusSpec| Corpus::open(spec).err().expect("an error").to_string();
    let files = files(&["a text\n"], 8);
    assert!(message(&CorpusSpec { files: vec![], ..files.spec.clone() }).contains("--input"));
    assert!(message(&CorpusSpec { context: 1, ..files.spec.clone() }).contains("at least 2"));
    let missing = CorpusSpec { files: vec![files.folder.path().join("none.txt")], ..files.spec.clone() };
    assert!(message(&missing).contains("none.txt: cannot be read"));
    assert_eq!(Corpus::open(&files.spec).unwrap().place(0).unwrap(), format!("{}:1", files.spec.files[0].display()));
}
