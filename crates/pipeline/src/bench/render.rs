//! A benchmark for the eye.

use llamascope_report::table::Align::{Left, Right};
use llamascope_report::table::Table;

use super::{Bench, Ceiling, Encoding, Stage};

impl Bench {
    /// Everything as tables, one below the other.
    pub fn to_tables(&self) -> String {
        let Bench { program, kernel, threads, .. } = self;
        let mut text = format!("{program}, kernel {kernel}, threads: {threads}; the best of several tries\n\n");
        if kernel == "amx" {
            text.push_str("float32 products are made of bfloat16 ones: they reach more than 100 % of what multiply-adds can do\n\n");
        }
        let mut section = |table: Table| {
            table.to_string().lines().for_each(|line| text.extend([line.trim_end(), "\n"]));
            text.push('\n');
        };
        section(self.ceilings_table());
        section(self.products_table());
        section(self.stages_table());
        section(self.encoding_table());
        section(self.writing_table());
        if !self.runs.is_empty() {
            section(self.runs_table());
        }
        text.pop();
        text
    }

    fn ceilings_table(&self) -> Table {
        let all = format!("all {}", self.threads);
        let mut table = Table::new([("ceiling", Left), ("unit", Left), ("1 thread", Right), (&all, Right)]);
        let mut row = |name: &str, unit: &str, ceiling: Option<Ceiling>| {
            let [one, all] = match ceiling {
                Some(ceiling) => [format!("{:.0}", ceiling.one_thread), format!("{:.0}", ceiling.all_threads)],
                None => ["none".into(), "none".into()],
            };
            table.row([name.into(), unit.into(), one, all]);
        };
        row("f32 multiply-adds in registers", "GFLOP/s", Some(self.ceilings.f32_gflop_per_s));
        row("bf16 multiply-adds in registers", "GFLOP/s", self.ceilings.bf16_gflop_per_s);
        row("memory read", "GB/s", Some(self.ceilings.memory_read_gb_per_s));
        table
    }

    /// A row for each matrix, its stored type and precision; a column for each number of tokens.
    fn products_table(&self) -> Table {
        let key = |stage: &Stage| (stage.case.clone(), stage.stored, stage.dtype);
        let gemm: Vec<&Stage> = self.stages.iter().filter(|stage| stage.stage == "gemm").collect();
        let rows: Vec<&[&Stage]> = gemm.chunk_by(|a, b| key(a) == key(b)).collect();
        // The first row says what the columns are; where there are fewer, the last stay blank.
        let tokens = |column: usize| {
            let stage = rows.first().and_then(|row| row.get(column));
            stage.map_or(String::new(), |stage| format!("T={}", stage.tokens))
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(tokens);
        let header = [("GEMM [T,K]x[K,N], GFLOP/s", Left), ("stored", Left), ("dtype", Left)];
        let [name, stored, dtype] = header;
        let mut table = Table::new([name, stored, dtype, (&a, Right), (&b, Right), (&c, Right), (&d, Right)]);
        for row in rows {
            let head = [row[0].case.clone(), row[0].stored.into(), row[0].dtype.into()];
            table.row(
                head.into_iter()
                    .chain(row.iter().take(4).map(|stage| format!("{:.0} {}", stage.rate, percent(stage.share)))),
            );
        }
        table
    }

    fn stages_table(&self) -> Table {
        let mut table = Table::new([
            ("stage", Left),
            ("case", Left),
            ("dtype", Left),
            ("tokens", Right),
            ("us/token", Right),
            ("rate", Right),
            ("unit", Left),
            ("of ceiling", Right),
        ]);
        for stage in self.stages.iter().filter(|stage| stage.stage != "gemm") {
            table.row([
                stage.stage.into(),
                stage.case.clone(),
                stage.dtype.into(),
                stage.tokens.to_string(),
                per_token(stage.seconds, stage.tokens),
                format!("{:.0}", stage.rate),
                stage.unit.into(),
                percent(stage.share),
            ]);
        }
        table
    }

    fn encoding_table(&self) -> Table {
        let mut table = Table::new([
            ("SAE encode, JumpReLU", Left),
            ("L0", Right),
            ("f32 us/token", Right),
            ("of ceiling", Right),
            ("screened us/token", Right),
            ("of bf16 ceiling", Right),
            ("candidates", Right),
        ]);
        for encoding in &self.encoding {
            let Encoding { case, tokens, l0, .. } = encoding;
            let none = || "none".to_owned();
            table.row([
                case.clone(),
                format!("{l0:.1}"),
                per_token(encoding.dense_seconds, *tokens),
                percent(encoding.dense_share),
                encoding.screened_seconds.map_or_else(none, |seconds| per_token(seconds, *tokens)),
                encoding.screened_share.map_or_else(none, percent),
                encoding.candidates_share.map_or_else(none, |share| format!("{:.3}%", 100.0 * share)),
            ]);
        }
        table
    }

    fn writing_table(&self) -> Table {
        let writing = &self.writing;
        let mut table = Table::new([("writing, one thread", Left), ("rows/s", Right), ("MB/s", Right)]);
        let case = format!("{} rows of 50 features, 25 a file", writing.rows);
        table.row([case, format!("{:.0}", writing.rows_per_s), format!("{:.0}", writing.mb_per_s)]);
        table
    }

    fn runs_table(&self) -> Table {
        let mut table = Table::new([
            ("whole run", Left),
            ("tokens", Right),
            ("tokens/s", Right),
            ("of ceiling", Right),
            ("first row", Right),
            ("load", Right),
            ("tokenise", Right),
            ("forward", Right),
            ("encode", Right),
            ("other", Right),
            ("(write)", Right),
        ]);
        for run in &self.runs {
            let times =
                [run.first_row_s, run.load_s, run.tokenize_s, run.forward_s, run.encode_s, run.other_s, run.write_s];
            let head =
                [run.dtype.into(), run.tokens.to_string(), format!("{:.0}", run.tokens_per_s), percent(run.share)];
            table.row(head.into_iter().chain(times.map(|seconds| format!("{seconds:.3} s"))));
        }
        table
    }
}

fn percent(share: f64) -> String {
    format!("{:3.0}%", 100.0 * share)
}

fn per_token(seconds: f64, tokens: usize) -> String {
    format!("{:.2}", 1e6 * seconds / tokens as f64)
}
