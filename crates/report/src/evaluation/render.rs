//! An evaluation as text.

use super::{Evaluation, Figures};
use crate::table::{Align, Table};

impl Evaluation {
    /// The evaluation as plain text: the figures to quote, what BOS and massive rows do to them, and densities.
    pub fn to_tables(&self) -> String {
        let mut text = format!(
            "{} tokens in {} contexts of at most {}; plain model: loss {:.4}, perplexity {:.3} over {} predictions\n\n",
            self.tokens, self.contexts, self.context, self.loss, self.perplexity, self.predictions
        );
        text += "Without BOS and without massive rows (longer than ten times the median):\n";
        text += &self.reconstruction().to_string();
        text += "\nNext-token loss with the reconstruction, the mean row or zeros in place of these rows:\n";
        text += &self.losses().to_string();
        let others = self.other_sets();
        if let Some(others) = others {
            text += "\nThe same over other rows (all: BOS and massive rows too; no_bos: without BOS):\n";
            text += &others.to_string();
        } else {
            text += "\nThere is no BOS and no massive row in this text: all rows give the same figures.\n";
        }
        text += "\nFeatures by density, half a decade a bar from 1e-6 to 1:\n";
        for layer in &self.layers {
            text += &format!("  layer {:>2}  {}\n", layer.layer, bars(&layer.typical.density_histogram));
        }
        text
    }

    fn reconstruction(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("layer", Right),
            ("convention", Left),
            ("rows", Right),
            ("L0 mean", Right),
            ("median", Right),
            ("max", Right),
            ("EV", Right),
            ("NMSE", Right),
            ("cosine", Right),
            ("dead", Right),
            ("dense", Right),
        ]);
        for layer in &self.layers {
            let f = &layer.typical;
            table.row([
                layer.layer.to_string(),
                layer.convention.clone(),
                f.rows.to_string(),
                format!("{:.1}", f.l0_mean),
                format!("{}", f.l0_median),
                f.l0_max.to_string(),
                format!("{:.4}", f.explained_variance),
                format!("{:.4}", f.normalized_mse),
                format!("{:.4}", f.cossim),
                format!("{:.2} %", 100.0 * f.dead_fraction),
                format!("{:.2} %", 100.0 * f.dense_fraction),
            ]);
        }
        table
    }

    fn losses(&self) -> Table {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("layer", Right),
            ("convention", Left),
            ("clean", Right),
            ("SAE", Right),
            ("mean", Right),
            ("zero", Right),
            ("delta", Right),
            ("recovered", Right),
            ("against mean", Right),
            ("KL", Right),
            ("KL zero", Right),
        ]);
        for layer in &self.layers {
            let f = &layer.typical;
            let numbers = [
                f.ce_loss_without_sae,
                f.ce_loss_with_sae,
                f.ce_loss_with_mean_ablation,
                f.ce_loss_with_ablation,
                f.delta_loss,
                f.loss_recovered,
                f.loss_recovered_mean,
                f.kl_div_with_sae,
                f.kl_div_with_ablation,
            ];
            let numbers = numbers.map(|number| format!("{number:.4}"));
            table.row([layer.layer.to_string(), layer.convention.clone()].into_iter().chain(numbers));
        }
        table
    }

    /// The figures of sets that are not the same as the rows without BOS and massive ones.
    fn other_sets(&self) -> Option<Table> {
        use Align::{Left, Right};
        let mut table = Table::new([
            ("layer", Right),
            ("convention", Left),
            ("rows of", Left),
            ("rows", Right),
            ("L0 mean", Right),
            ("max", Right),
            ("EV", Right),
            ("NMSE", Right),
            ("SAE loss", Right),
            ("delta", Right),
            ("recovered", Right),
        ]);
        let mut any = false;
        for layer in &self.layers {
            let others = layer.sets.iter().filter(|set| set.figures.rows != layer.typical.rows);
            for set in others {
                let f: &Figures = &set.figures;
                any = true;
                table.row([
                    layer.layer.to_string(),
                    layer.convention.clone(),
                    set.rows_of.to_owned(),
                    f.rows.to_string(),
                    format!("{:.1}", f.l0_mean),
                    f.l0_max.to_string(),
                    format!("{:.4}", f.explained_variance),
                    format!("{:.4}", f.normalized_mse),
                    format!("{:.4}", f.ce_loss_with_sae),
                    format!("{:.4}", f.delta_loss),
                    format!("{:.4}", f.loss_recovered),
                ]);
            }
        }
        any.then_some(table)
    }
}

/// A histogram in one line of text.
fn bars(counts: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let level = |count: u64| match count {
        0 => '·',
        _ => LEVELS[((count * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(|count| level(*count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{DENSITY_BINS, LayerEvaluation, SetFigures};

    fn evaluation() -> Evaluation {
        let typical = Figures { rows: 90, density_histogram: vec![3; DENSITY_BINS], ..Figures::default() };
        let all = Figures { rows: 100, delta_loss: 1.25, ..typical.clone() };
        let sets = [("all", all), ("no_bos", typical.clone()), ("typical", typical.clone())];
        let layer = LayerEvaluation {
            layer: 7,
            hook: "blocks.7.hook_resid_post".into(),
            sae: "saes/L7R".into(),
            convention: "saelens".into(),
            d_sae: 36,
            median_norm: 1.0,
            massive_norm: 10.0,
            typical,
            sets: sets.map(|(rows_of, figures)| SetFigures { rows_of, figures }).into(),
        };
        Evaluation {
            model: "model".into(),
            dtype: "float32".into(),
            input: vec!["text.txt".into()],
            input_blake3: String::new(),
            context: 8,
            contexts: 13,
            tokens: 100,
            predictions: 87,
            loss: 2.0,
            perplexity: 7.389,
            layers: vec![layer],
        }
    }

    #[test]
    fn sets_are_shown_only_where_they_differ() {
        let mut evaluation = evaluation();
        let text = evaluation.to_tables();
        assert!(text.contains("1.2500") && !text.contains("no_bos  "), "{text}");
        evaluation.layers[0].sets.remove(0);
        assert!(evaluation.to_tables().contains("no massive row"));
    }

    #[test]
    fn a_layer_has_its_figures_at_the_top_in_json() {
        let json = serde_json::to_value(evaluation()).unwrap();
        let layer = &json["layers"][0];
        for key in ["layer", "l0_mean", "explained_variance", "loss_recovered", "dead_fraction", "delta_loss"] {
            assert!(layer[key].is_number(), "{key}: {layer}");
        }
        assert_eq!(layer["sets"][0]["rows_of"], "all");
        assert_eq!(layer["sets"][0]["delta_loss"], 1.25);
    }

    #[test]
    fn a_histogram_is_a_line() {
        assert_eq!(bars(&[0, 1, 4, 8]), "·▁▄█");
    }
}
