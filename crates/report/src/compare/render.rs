//! A comparison as text, and whether it is good enough.

use std::fmt;

use super::{Agreement, Comparison, Difference, WorstToken};
use crate::table::{Align, Table};
use crate::text;

/// What two runs must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Requirement {
    /// Least Jaccard of every layer.
    pub jaccard: Option<f64>,
    /// Largest relative difference of every layer.
    pub rel: Option<f64>,
}

impl Requirement {
    /// What is missed, in words; nothing if all is well. Structural differences, and runs without a token to compare,
    /// are failures whatever is required.
    pub fn failures(&self, comparison: &Comparison) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(first) = comparison.differences.first() {
            let others = match comparison.difference_count {
                1 => String::new(),
                count => format!(" (and {} more differences like it)", count - 1),
            };
            failures.push(format!("{first}{others}"));
        }
        if comparison.overall.tokens == 0 {
            failures.push("the runs have no token in common".into());
        }
        for row in &comparison.layers {
            let (layer, agreement) = (row.layer, &row.agreement);
            if let Some(least) = self.jaccard.filter(|least| agreement.jaccard < *least || least.is_nan()) {
                failures.push(format!("layer {layer}: Jaccard {} is below {least}", share(agreement.jaccard)));
            }
            if let Some(most) = self.rel.filter(|most| agreement.rel_max > *most || most.is_nan()) {
                failures.push(format!(
                    "layer {layer}: the largest relative difference {} is above {most}",
                    small(agreement.rel_max)
                ));
            }
        }
        failures
    }
}

impl Comparison {
    /// The comparison as plain text in at most 110 columns: a layer a row, the worst tokens, what cannot be compared.
    pub fn to_table(&self) -> String {
        use Align::{Left, Right};
        let mut layers = Table::new([
            ("layer", Right),
            ("tokens", Right),
            ("L0 A", Right),
            ("L0 B", Right),
            ("Jaccard", Right),
            ("mean", Right),
            ("identical", Right),
            ("same order", Right),
            ("rel max", Right),
            ("rel median", Right),
            ("abs max", Right),
        ]);
        for row in &self.layers {
            layers.row(cells(row.layer.to_string(), &row.agreement));
        }
        if self.layers.len() > 1 {
            layers.row(cells("all".into(), &self.overall));
        }
        let mut shown = format!(
            "{layers}\nJaccard: features active in both runs / in either, over all tokens (mean: of the tokens' own).\n\
             rel: |a - b| / max(a, b) of the features active in both.\n"
        );
        if !self.worst.is_empty() {
            let mut worst = Table::new([
                ("layer", Right),
                ("sentence", Right),
                ("pos", Right),
                ("token", Left),
                ("Jaccard", Right),
                ("rel max", Right),
                ("only in A", Left),
                ("only in B", Left),
            ]);
            self.worst.iter().for_each(|token| worst.row(worst_cells(token)));
            shown += &format!("\nworst tokens\n{worst}");
        }
        if self.difference_count > 0 {
            shown += "\nnot in both runs\n";
            for difference in &self.differences {
                shown += &format!("- {difference}\n");
            }
            let unlisted = self.difference_count - self.differences.len() as u64;
            if unlisted > 0 {
                shown += &format!("- and {unlisted} more\n");
            }
        }
        shown
    }
}

fn cells(layer: String, agreement: &Agreement) -> [String; 11] {
    let median = small(agreement.rel_median);
    [
        layer,
        agreement.tokens.to_string(),
        format!("{:.1}", agreement.l0_mean_a),
        format!("{:.1}", agreement.l0_mean_b),
        share(agreement.jaccard),
        share(agreement.jaccard_mean),
        share(agreement.identical),
        share(agreement.same_order),
        small(agreement.rel_max),
        if agreement.rel_median_exact { median } else { format!("~{median}") },
        small(agreement.abs_max),
    ]
}

fn worst_cells(token: &WorstToken) -> [String; 8] {
    /// Ids that a cell has room for.
    const IDS: usize = 2;
    let only = |ids: &[u32], count: usize| {
        let listed: Vec<_> = ids.iter().take(IDS).map(u32::to_string).collect();
        let unlisted = count - listed.len();
        if unlisted > 0 { format!("{} +{unlisted}", listed.join(" ")) } else { listed.join(" ") }
    };
    [
        token.layer.to_string(),
        token.sentence.to_string(),
        token.token_pos.to_string(),
        text::fit(&text::visible(&token.token_str), 14),
        share(token.jaccard),
        small(token.rel_max),
        only(&token.only_a, token.only_a_count),
        only(&token.only_b, token.only_b_count),
    ]
}

/// A share with six decimals, rounded down: only the whole shows as 1.
fn share(share: f64) -> String {
    format!("{:.6}", (share * 1e6).floor() / 1e6)
}

/// A difference: one decimal and a power of ten, or 0 for none at all.
fn small(difference: f64) -> String {
    if difference == 0.0 { "0".into() } else { format!("{difference:.1e}") }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |layer: &usize, sentence: &usize| format!("layer_{layer:02}/sentence_{sentence:04}.jsonl");
        let token = |(position, token): &(u32, String)| {
            format!("token {position} is `{}`", text::fit(&text::visible(token), 20))
        };
        match self {
            Difference::Incomplete { run } => write!(f, "{run} is not complete"),
            Difference::Layer { only_in, layer } => write!(f, "layer_{layer:02}: only in {only_in}"),
            Difference::Sentence { only_in, layer, sentence } => {
                write!(f, "{}: only in {only_in}", file(layer, sentence))
            }
            Difference::Rows { layer, sentence, a, b } => {
                write!(f, "{}: {a} rows in run A, {b} in run B", file(layer, sentence))
            }
            Difference::Token { layer, sentence, line, a, b } => {
                let file = file(layer, sentence);
                write!(f, "{file}, line {line}: {} in run A, {} in run B", token(a), token(b))
            }
        }
    }
}
