//! A run as large as is wanted, without a model, and what its index costs.
//!
//! ```sh
//! cargo run --release -p llamascope-record --example synthetic_run -- make DIR --sentences 100000 --layers 4
//! cargo run --release -p llamascope-record --example synthetic_run -- measure DIR/run_synthetic
//! ```
//!
//! Features are as unequal as those of trained dictionaries: a few are active in every fifth token, most in one of
//! thousands. The same arguments make the same bytes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llamascope_record::index::{Query, RunIndex, Watch};
use llamascope_record::run::{Counts, LayerSummary, Manifest, RunWriter, SaeInfo, Status};
use llamascope_record::{Sentence, Source, Span, SparseRows, Tokens};
use rayon::prelude::*;

const D_SAE: usize = 32_768;
/// Features of a token.
const L0: Range<u64> = 30..71;
/// Tokens of a sentence, BOS not counted.
const LENGTH: Range<u64> = 12..29;
/// Look-ups that are timed, of each kind.
const LOOKUPS: u64 = 2_000;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder, "--sentences", sentences, "--layers", layers] => {
            make(Path::new(folder), sentences.parse()?, layers.parse()?)
        }
        ["measure", run] => measure(Path::new(run)),
        _ => Err("usage: synthetic_run make DIR --sentences N --layers N | measure RUN".into()),
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
struct Random(u64);

impl Random {
    fn of(parts: [u64; 2]) -> Random {
        let mut random = Random(parts[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ parts[1]);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Below `n`, small numbers far more often than large ones.
    fn unequal(&mut self, n: usize) -> usize {
        let u = self.unit();
        ((u * u * u * n as f64) as usize).min(n - 1)
    }
}

/// A made-up word; a quarter of them are Japanese.
fn word(number: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ko", "ri", "ten", "su", "mo", "la", "ne", "ki", "do", "par", "is", "to", "ve", "an", "ru"];
    const KANA: [&str; 16] =
        ["東", "京", "銀", "行", "川", "の", "は", "を", "に", "山", "雨", "人", "言", "葉", "心", "見"];
    if number % 4 == 3 {
        return format!("{}{}", KANA[number / 4 % 16], KANA[number / 64 % 16]);
    }
    format!(" {}{}{}", SYLLABLES[number % 16], SYLLABLES[number / 16 % 16], SYLLABLES[number / 256 % 16])
}

fn sentence(number: usize) -> (Sentence, Tokens) {
    let mut random = Random::of([1, number as u64]);
    let (mut text, mut tokens) = (String::new(), Tokens::default());
    let mut push = |id: u32, string: &str, bos: bool, text: &mut String| {
        let start = text.len() as u32;
        if !bos {
            text.push_str(string);
        }
        tokens.ids.push(id);
        tokens.spans.push(Span { start, end: text.len() as u32 });
        tokens.strs.push(string.to_owned());
        tokens.special.push(bos);
        tokens.bos.push(bos);
    };
    push(0, "<s>", true, &mut text);
    for _ in 0..random.within(LENGTH) {
        let id = random.unequal(4_096);
        push(1 + id as u32, &word(id), false, &mut text);
    }
    (Sentence { text, source: Source { file: "synthetic.csv".into(), line: number as u64 + 1 } }, tokens)
}

/// The features of a sentence's tokens at one layer.
fn rows(layer: usize, number: usize, tokens: usize) -> SparseRows {
    let mut random = Random::of([2 + layer as u64, number as u64]);
    let row = |_| {
        let count = random.within(L0) as usize;
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            // An odd factor scatters the common ones over all ids.
            let id = (random.unequal(D_SAE).wrapping_mul(20_011 + 2 * layer) % D_SAE) as u32;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.into_iter().map(|id| (id, (0.05 - random.unit().max(1e-9).ln() * 0.9) as f32)).collect()
    };
    SparseRows::from_unsorted(D_SAE, (0..tokens).map(row)).expect("ids differ and values are positive")
}

fn make(folder: &Path, sentences: usize, layers: usize) -> Outcome {
    let begun = Instant::now();
    let writer = RunWriter::create(folder, "synthetic")?;
    let (texts, tokens): (Vec<_>, Vec<_>) = (0..sentences).into_par_iter().map(sentence).unzip();
    writer.write_sentences(&texts, &tokens)?;
    let mut manifest = Manifest { program: "synthetic_run".into(), ..Manifest::default() };
    for layer in 0..layers {
        let write = |(number, tokens): (usize, &Tokens)| {
            let rows = rows(layer, number, tokens.len() - 1);
            writer.write_rows(layer, number, tokens, &rows).map(|_| (rows.len() as u64, rows.nnz() as u64))
        };
        let add = |a: (u64, u64), b: (u64, u64)| Ok((a.0 + b.0, a.1 + b.1));
        let (rows, nnz) = tokens.par_iter().enumerate().map(write).try_reduce(|| (0, 0), add)?;
        let hook = format!("blocks.{layer}.hook_resid_post");
        manifest.saes.push(SaeInfo { layer, hook: hook.clone(), d_sae: D_SAE, ..SaeInfo::default() });
        let l0_mean = nnz as f64 / rows as f64;
        manifest.layers.push(LayerSummary { layer, hook, d_sae: D_SAE, rows, nnz, l0_mean, ..LayerSummary::default() });
        manifest.counts.rows += rows;
    }
    let all = tokens.iter().map(|tokens| tokens.len() as u64).sum();
    manifest.counts = Counts { sentences: sentences as u64, tokens: all, ..manifest.counts };
    (manifest.complete, manifest.status) = (true, Status::Complete);
    writer.write_manifest(&manifest)?;
    let nnz: u64 = manifest.layers.iter().map(|layer| layer.nnz).sum();
    println!("{}: {nnz} activations in {:.1} s", writer.path().display(), begun.elapsed().as_secs_f64());
    Ok(())
}

/// Draws nothing, so that nothing but the work is measured.
struct Silent;

impl Watch for Silent {}

fn measure(run: &Path) -> Outcome {
    let rows = run.to_path_buf();
    println!("cores {}", rayon::current_num_threads());
    let begun = Instant::now();
    let index = RunIndex::build(&rows, None, &Silent)?;
    let took = begun.elapsed();
    let nnz: u64 = index.layers().iter().map(|layer| layer.nnz()).sum();
    let each = took.as_secs_f64() * 1e9 / nnz.max(1) as f64;
    println!(
        "build {:.2} s, {nnz} activations, {each:.1} ns each; peak memory {}",
        took.as_secs_f64(),
        memory("VmHWM:")
    );
    println!("size {:.3} GB, {:.2} bytes an activation", index.bytes() as f64 / 1e9, index.bytes() as f64 / nnz as f64);
    drop(index);

    let begun = Instant::now();
    let index = RunIndex::open(&rows, None)?;
    println!("open {:.1} ms; memory {}", begun.elapsed().as_secs_f64() * 1e3, memory("VmRSS:"));
    let mut random = Random::of([99, 0]);
    let sentences = index.sentences() as u64;
    time("sentence with all layers' rows", || {
        let number = random.within(0..sentences) as usize;
        index.sentence(number)?;
        index.layers().iter().try_fold(0, |sum, layer| {
            Ok(sum + layer.sentence(number)?.iter().map(|row| row.vals().len()).sum::<usize>())
        })
    })?;
    let layer = index.layers().first().ok_or("no layer")?;
    let slots = layer.by_slot()?.to_vec();
    time("any feature: statistics, histogram, 20 largest values", || {
        largest(layer, slots[random.within(0..slots.len() as u64) as usize])
    })?;
    time("one of the 50 commonest features: the same", || largest(layer, slots[random.within(0..50) as usize]))?;
    time("all statistics of a layer, sorted by score", || {
        let mut features: Vec<_> = layer.features()?.collect();
        features.sort_by_key(|stats| std::cmp::Reverse(stats.points));
        Ok(features.len())
    })?;
    for (what, query) in [
        ("search for a rare text in all sentences", Query::text("雨心雨心")?),
        ("search by a regular expression in all sentences", Query::regex(r"ba\w+ten .*zz$")?),
    ] {
        time(what, || Ok(index.search(&query, 0, 100)?.sentences.len()))?;
    }
    println!("memory after the look-ups {}, of it not of mapped files {}", memory("VmRSS:"), memory("RssAnon:"));
    let begun = Instant::now();
    index.verify()?;
    println!("check of every byte {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn largest(
    layer: &llamascope_record::index::LayerIndex,
    feature: u32,
) -> Result<usize, llamascope_record::index::IndexError> {
    layer.stats(feature)?;
    layer.histogram(feature)?;
    let mut postings: Vec<_> = layer.postings(feature)?.iter().collect();
    let n = postings.len().min(20);
    if n > 0 {
        postings.select_nth_unstable_by(n - 1, |a, b| b.val.total_cmp(&a.val));
    }
    Ok(n)
}

/// Times look-ups until there are enough or two seconds have gone.
fn time(what: &str, mut look: impl FnMut() -> Result<usize, llamascope_record::index::IndexError>) -> Outcome {
    let (mut times, begun, mut sum) = (Vec::new(), Instant::now(), 0);
    while (times.len() as u64) < LOOKUPS && (begun.elapsed() < Duration::from_secs(2) || times.len() < 3) {
        let one = Instant::now();
        sum += look()?;
        times.push(one.elapsed().as_secs_f64() * 1e3);
    }
    std::hint::black_box(sum);
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: median {:.3} ms, p95 {:.3} ms, worst {:.3} ms of {}", at(0.5), at(0.95), at(1.0), times.len());
    Ok(())
}

/// A line of what Linux tells of this process.
fn memory(key: &str) -> String {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.map_or_else(|| "unknown".into(), |line| line.trim().to_owned())
}
