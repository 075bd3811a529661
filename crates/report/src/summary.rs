//! What a run found, for the end of it: a layer a row, and the strongest features of the first sentences.

use llamascope_record::run::{Manifest, Run, RunError, TokenRow};

use crate::score::Score;
use crate::table::{Align, Table};
use crate::text;

/// Sentences of which the strongest features are shown.
const SHOWN_SENTENCES: usize = 3;
/// Tokens shown of each.
const SHOWN_TOKENS: usize = 8;
/// Features shown of each token.
const SHOWN_FEATURES: usize = 3;
/// Sentences of which the rows are read: a large run would take longer to read than a reader has patience.
const READ_SENTENCES: usize = 200;
/// Most common features shown.
const SHOWN_COMMON: usize = 5;
/// Columns that a token fills at most.
const TOKEN_COLUMNS: usize = 20;

/// The whole summary: [`layer_table`] and [`totals`] where the run has a manifest, then [`strongest_features`] and
/// [`most_common`] of its middle layer, of which the first sentences are read.
///
/// # Errors
/// A rows file that cannot be read.
pub fn run_summary(run: &Run) -> Result<String, RunError> {
    let mut parts = Vec::new();
    if let Some(manifest) = &run.manifest {
        parts.push(layer_table(manifest));
        parts.push(totals(manifest));
    }
    if let Some(&layer) = run.layers().get(run.layers().len().saturating_sub(1) / 2) {
        let (mut score, mut shown) = (Score::default(), Vec::new());
        let sentences = run.sentences_in(layer);
        let read = sentences.len().min(READ_SENTENCES);
        for sentence in sentences.iter().copied().take(read) {
            let rows = run.rows(layer, sentence)?;
            rows.iter().for_each(|row| score.add(&row.feat_ids, &row.feat_vals));
            if shown.len() < SHOWN_SENTENCES && !rows.is_empty() {
                shown.push((sentence, rows));
            }
        }
        if !shown.is_empty() {
            parts.push(format!("\nstrongest features at layer {layer}, as id:value\n{}", strongest_features(&shown)));
            let of =
                if read < sentences.len() { format!("the first {read} sentences") } else { "all sentences".into() };
            parts.push(format!("most common in {of}, with frequency score (0 to 100): {}\n", most_common(&score)));
        }
    }
    Ok(parts.concat())
}

/// A table of the layers: how many features are active a token (L0), and how many of the dictionary ever were.
pub fn layer_table(manifest: &Manifest) -> String {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("hook", Align::Left),
        ("L0 mean", Align::Right),
        ("L0 max", Align::Right),
        ("features seen", Align::Right),
        ("of", Align::Right),
        ("share", Align::Right),
    ]);
    for layer in &manifest.layers {
        let share = if layer.d_sae == 0 { 0.0 } else { 100.0 * layer.features_seen as f64 / layer.d_sae as f64 };
        table.row([
            layer.layer.to_string(),
            text::fit(&text::plain(&layer.hook), 30),
            format!("{:.1}", layer.l0_mean),
            layer.l0_max.to_string(),
            layer.features_seen.to_string(),
            layer.d_sae.to_string(),
            format!("{share:.1}%"),
        ]);
    }
    table.to_string()
}

/// One line: tokens, sentences, speed and, where known, peak memory.
pub fn totals(manifest: &Manifest) -> String {
    let (counts, timings) = (&manifest.counts, &manifest.timings);
    let memory = manifest.peak_memory_bytes.map_or_else(String::new, |peak| format!(", peak memory {}", bytes(peak)));
    format!(
        "{} tokens in {} sentences, {:.1} s, {:.1} tokens/s{memory}\n",
        counts.tokens, counts.sentences, timings.total_s, timings.tokens_per_s
    )
}

/// A token a row with its strongest features, `id:value`, of the sentences with these numbers and rows of one layer.
pub fn strongest_features(sentences: &[(usize, Vec<TokenRow>)]) -> String {
    let mut table = Table::new([
        ("sentence", Align::Right),
        ("pos", Align::Right),
        ("token", Align::Left),
        ("L0", Align::Right),
        ("1st", Align::Left),
        ("2nd", Align::Left),
        ("3rd", Align::Left),
    ]);
    for (sentence, rows) in sentences {
        for (index, row) in rows.iter().take(SHOWN_TOKENS).enumerate() {
            let number = if index == 0 { sentence.to_string() } else { String::new() };
            let token = text::fit(&text::visible(&row.token_str), TOKEN_COLUMNS);
            let cells = [number, row.token_pos.to_string(), token, row.nnz.to_string()];
            let features = row.feat_ids.iter().zip(&row.feat_vals).take(SHOWN_FEATURES);
            table.row(cells.into_iter().chain(features.map(|(id, value)| format!("{id}:{}", activation(*value)))));
        }
        let rest = rows.len().saturating_sub(SHOWN_TOKENS);
        if rest > 0 {
            table.row([String::new(), String::new(), format!("({rest} more)")]);
        }
    }
    table.to_string()
}

/// The features of the highest frequency score, `id (score)`.
pub fn most_common(score: &Score) -> String {
    let common = score.most_common(SHOWN_COMMON);
    let common: Vec<_> = common.iter().map(|(id, _)| format!("{id} ({:.1})", score.of(*id))).collect();
    common.join(", ")
}

/// An activation in few characters.
fn activation(value: f32) -> String {
    if (0.005..100_000.0).contains(&value) { format!("{value:.2}") } else { format!("{value:.1e}") }
}

/// An amount of memory or disk to two digits or so.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
    )
}

#[cfg(test)]
mod tests {
    use llamascope_record::run::{Counts, LayerSummary, Timings};

    use super::*;

    fn row(token_pos: u32, token_str: &str, features: &[(u32, f32)]) -> TokenRow {
        let (feat_ids, feat_vals) = features.iter().copied().unzip();
        TokenRow { token_pos, token_str: token_str.into(), nnz: features.len() as u32, feat_ids, feat_vals }
    }

    #[test]
    fn a_layer_is_a_row() {
        let layer = |layer, l0_mean, l0_max, features_seen| LayerSummary {
            layer,
            hook: format!("blocks.{layer}.hook_resid_post"),
            d_sae: 32768,
            l0_mean,
            l0_max,
            features_seen,
            ..LayerSummary::default()
        };
        let manifest = Manifest {
            layers: vec![layer(0, 47.25, 82, 1234), layer(31, 5.0, 9, 0)],
            counts: Counts { sentences: 20, tokens: 453, ..Counts::default() },
            timings: Timings { total_s: 3.21, tokens_per_s: 141.12, ..Timings::default() },
            peak_memory_bytes: Some(3 << 29),
            ..Manifest::default()
        };
        let expected = "\
layer  hook                       L0 mean  L0 max  features seen     of  share
-----  -------------------------  -------  ------  -------------  -----  -----
    0  blocks.0.hook_resid_post      47.2      82           1234  32768   3.8%
   31  blocks.31.hook_resid_post      5.0       9              0  32768   0.0%
";
        assert_eq!(layer_table(&manifest), expected);
        assert_eq!(totals(&manifest), "453 tokens in 20 sentences, 3.2 s, 141.1 tokens/s, peak memory 1.5 GiB\n");
        let unknown = Manifest { peak_memory_bytes: None, ..manifest };
        assert_eq!(totals(&unknown), "453 tokens in 20 sentences, 3.2 s, 141.1 tokens/s\n");
    }

    #[test]
    fn a_token_is_a_row_with_its_strongest_features() {
        let sentences = vec![
            (
                0,
                vec![
                    row(1, "東京", &[(104, 1.32), (982, 0.871), (13001, 0.41), (7, 0.1)]),
                    row(2, " is\n", &[(3, 0.00001)]),
                    row(3, "\x1b[2J\u{202e}", &[]),
                ],
            ),
            (2, (0..14).map(|pos| row(pos, "a", &[(1, 250_000.0)])).collect()),
        ];
        let shown = strongest_features(&sentences);
        let expected = "\
sentence  pos  token         L0  1st       2nd       3rd
--------  ---  ------------  --  --------  --------  ----------
       0    1  東京           4  104:1.32  982:0.87  13001:0.41
            2  ·is↵           1  3:1.0e-5
            3  ␛[2J\\u{202e}   0
       2    0  a              1  1:2.5e5
";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(shown.ends_with("            7  a              1  1:2.5e5\n               (6 more)\n"), "{shown}");
    }

    #[test]
    fn the_most_common_features_come_first() {
        let mut score = Score::default();
        score.add(&[104, 7], &[2.0, 1.0]);
        score.add(&[104], &[2.0]);
        assert_eq!(most_common(&score), "104 (100.0), 7 (49.5)");
    }

    #[test]
    fn a_bare_tree_of_rows_has_a_summary_too() {
        let folder = tempfile::tempdir().unwrap();
        for layer in ["layer_00", "layer_05", "layer_09"] {
            std::fs::create_dir(folder.path().join(layer)).unwrap();
            std::fs::write(folder.path().join(layer).join("sentence_0000.jsonl"), "").unwrap();
        }
        let line = r#"{"token_pos": 1, "token_str": "a", "nnz": 1, "feat_ids": [5], "feat_vals": [0.5]}"#;
        std::fs::write(folder.path().join("layer_05/sentence_0001.jsonl"), line).unwrap();
        let expected = "
strongest features at layer 5, as id:value
sentence  pos  token  L0  1st     2nd  3rd
--------  ---  -----  --  ------  ---  ---
       1    1  a       1  5:0.50
most common in all sentences, with frequency score (0 to 100): 5 (100.0)
";
        assert_eq!(run_summary(&Run::open(folder.path()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn of_a_large_run_the_first_sentences_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("layer_00");
        std::fs::create_dir(&layer).unwrap();
        for sentence in 0..=READ_SENTENCES {
            std::fs::write(layer.join(format!("sentence_{sentence:04}.jsonl")), "").unwrap();
        }
        let line = r#"{"token_pos": 1, "token_str": "a", "nnz": 1, "feat_ids": [5], "feat_vals": [0.5]}"#;
        std::fs::write(layer.join("sentence_0003.jsonl"), line).unwrap();
        std::fs::write(layer.join(format!("sentence_{READ_SENTENCES:04}.jsonl")), "never read").unwrap();
        let summary = run_summary(&Run::open(folder.path()).unwrap()).unwrap();
        assert!(
            summary.ends_with("in the first 200 sentences, with frequency score (0 to 100): 5 (100.0)\n"),
            "{summary}"
        );
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1 << 20), bytes(u64::MAX)],
            ["0 B", "1023 B", "1.0 MiB", "17179869184.0 GiB"]
        );
    }
}
