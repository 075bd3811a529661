//! Where a feature is active: activations in their context, the distribution of the values, the token strings.

use std::collections::BTreeMap;
use std::ops::Range;

use llamascope_record::TokenGroup;
use llamascope_record::index::{HISTOGRAM_BINS, Posting, Postings, bin_edge};
use serde::Serialize;

use super::{Scope, layer_and_feature};
use crate::answer::Answer;
use crate::ask::{Ask, Page};
use crate::library::OpenRun;
use crate::problem::Problem;

/// Equal parts of the range of values for `mode=quantile`.
const INTERVALS: usize = 5;
/// How many more activations than items are looked at, because those with the same context are shown as one.
const LOOKED_AT: usize = 4;
/// Activations whose token strings are counted: the strongest.
const SAMPLED: usize = 4000;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Top,
    Quantile,
    Random,
}

#[derive(Clone, PartialEq, Serialize)]
pub struct ContextToken {
    pub pos: usize,
    pub text: String,
    pub value: f32,
    pub target: bool,
}

#[derive(Serialize)]
struct Item {
    sentence: usize,
    pos: usize,
    value: f32,
    interval: usize,
    same: usize,
    before: bool,
    after: bool,
    tokens: Vec<ContextToken>,
}

#[derive(Clone, Serialize)]
struct Interval {
    low: f32,
    high: f32,
    count: usize,
}

#[derive(Serialize)]
struct List {
    mode: &'static str,
    total: usize,
    intervals: Vec<Interval>,
    items: Vec<Item>,
    next_cursor: Option<String>,
}

pub fn activations(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let (layer, id) = layer_and_feature(run, ask)?;
    let modes = [("top", Mode::Top), ("quantile", Mode::Quantile), ("random", Mode::Random)];
    let mode = ask.choice("mode", &modes)?;
    let context = ask.within("context", 0..=200)?.unwrap_or(12);
    let page = ask.page(20, 100)?;
    ask.done()?;
    let postings = layer.postings(id)?;
    let total = postings.len();
    let mut all: Vec<Posting> = postings.iter().collect();
    let (low, high) = all.iter().fold((f32::MAX, 0.0f32), |(low, high), p| (low.min(p.val), high.max(p.val)));

    let parts: Vec<(Interval, Vec<Posting>, usize)> = match mode {
        _ if all.is_empty() => Vec::new(),
        Mode::Quantile => {
            let step = (high - low) / INTERVALS as f32;
            let part_of = |val: f32| (((high - val) / step) as usize).min(INTERVALS - 1);
            let mut parts: Vec<Vec<Posting>> = vec![Vec::new(); INTERVALS];
            all.into_iter().for_each(|posting| parts[part_of(posting.val)].push(posting));
            let each = page.limit.div_ceil(INTERVALS);
            let interval = |at: usize, count| {
                let top = high - step * at as f32;
                Interval { low: if at + 1 == INTERVALS { low } else { top - step }, high: top, count }
            };
            let numbered = parts.into_iter().enumerate();
            numbered.map(|(at, part)| (interval(at, part.len()), part, each)).collect()
        }
        Mode::Top | Mode::Random => vec![(Interval { low, high, count: total }, std::mem::take(&mut all), page.limit)],
    };

    let mut list = List {
        mode: modes.iter().find(|(_, known)| *known == mode).map_or("", |(name, _)| name),
        total,
        intervals: Vec::new(),
        items: Vec::new(),
        next_cursor: None,
    };
    let (mut taken, mut longest) = (0, 0);
    for (at, (interval, mut part, limit)) in parts.into_iter().enumerate() {
        // Intervals go forward together, so that one cursor is enough for all of them.
        let limit_looked_at = if mode == Mode::Quantile { limit } else { limit * LOOKED_AT };
        let looked_at = Page { skip: page.skip, limit: limit_looked_at }.range(part.len());
        order(&mut part, looked_at.end, mode);
        let begin = list.items.len();
        let mut used = 0;
        for posting in &part[looked_at] {
            let Some(item) = item(run, &postings, *posting, at, context)? else { continue };
            let full = list.items.len() - begin == limit;
            match list.items[begin..].iter_mut().find(|other| is_same(other, &item)) {
                Some(other) => other.same += 1,
                None if full => break,
                None => list.items.push(item),
            }
            used += 1;
        }
        longest = longest.max(part.len());
        taken = taken.max(used);
        list.intervals.push(interval);
    }
    list.next_cursor = Page { skip: page.skip, limit: taken }.next(longest).filter(|_| taken > 0);
    Answer::json(&list)
}

/// Brings the first `end` postings to the front in their order: the strongest ones, or for a random draw those that a
/// fixed shuffle puts first.
fn order(postings: &mut [Posting], end: usize, mode: Mode) {
    let key = |p: &Posting| match mode {
        Mode::Top => (!p.val.to_bits(), p.row),
        // Splitmix64 (Steele, Lea & Flood 2014) of the row.
        Mode::Random | Mode::Quantile => {
            let mut z = u64::from(p.row).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) as u32, p.row)
        }
    };
    if end > 0 && end < postings.len() {
        postings.select_nth_unstable_by_key(end - 1, key);
    }
    postings[..end].sort_unstable_by_key(key);
}

/// Whether two activations would look the same.
fn is_same(a: &Item, b: &Item) -> bool {
    let texts = |item: &Item| item.tokens.iter().map(|token| (token.text.clone(), token.target)).collect::<Vec<_>>();
    a.value == b.value && (a.before, a.after) == (b.before, b.after) && texts(a) == texts(b)
}

/// An activation with the display groups around it, `context` tokens on each side.
fn item(
    run: &OpenRun,
    postings: &Postings<'_>,
    posting: Posting,
    interval: usize,
    context: usize,
) -> Result<Option<Item>, Problem> {
    let Some(place) = run.index.place(posting.row) else { return Ok(None) };
    let sentence = run.index.sentence(place.sentence)?;
    let tokens = &sentence.record.tokens;
    let rows: Vec<usize> = tokens.output_positions().collect();
    let Some(&pos) = rows.get(place.nth) else { return Ok(None) };
    let values = values_in(postings, sentence.rows.clone());
    let groups = tokens.groups(&sentence.record.sentence.text);
    let is_word = |group: &&TokenGroup| !tokens.bos[group.tokens.start];
    let near = |group: &&TokenGroup| {
        group.tokens.end > pos.saturating_sub(context) && group.tokens.start <= pos + context && is_word(group)
    };
    let value = |group: &TokenGroup| {
        let of =
            |at: usize| rows.binary_search(&at).ok().and_then(|nth| values.get(&(sentence.rows.start + nth as u32)));
        group.tokens.clone().filter_map(of).fold(0.0f32, |max, val| max.max(*val))
    };
    let shown: Vec<ContextToken> = groups
        .iter()
        .filter(near)
        .map(|group| ContextToken {
            pos: group.tokens.start,
            text: group.text.clone(),
            value: value(group),
            target: group.tokens.contains(&pos),
        })
        .collect();
    let first_word = groups.iter().find(is_word).map_or(0, |group| group.tokens.start);
    let last_word = groups.last().map_or(0, |group| group.tokens.start);
    Ok(Some(Item {
        sentence: place.sentence,
        pos,
        value: posting.val,
        interval,
        same: 0,
        before: shown.first().is_some_and(|token| token.pos > first_word),
        after: shown.last().is_some_and(|token| token.pos < last_word),
        tokens: shown,
    }))
}

/// The postings of some neighbouring rows, by row.
fn values_in(postings: &Postings<'_>, rows: Range<u32>) -> BTreeMap<u32, f32> {
    // Postings are in order of rows: the first one is found by halving.
    let (mut low, mut high) = (0, postings.len());
    while low < high {
        let middle = (low + high) / 2;
        if postings.get(middle).row < rows.start { low = middle + 1 } else { high = middle }
    }
    let inside = (low..postings.len()).map(|at| postings.get(at)).take_while(|posting| posting.row < rows.end);
    inside.map(|posting| (posting.row, posting.val)).collect()
}

#[derive(Serialize)]
struct Bin {
    low: f32,
    high: f32,
    count: u32,
}

#[derive(Serialize)]
struct Histogram {
    layer: usize,
    id: u32,
    tokens: u64,
    zeros: u64,
    bins: Vec<Bin>,
}

pub fn histogram(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let (layer, id) = layer_and_feature(&scope.run, ask)?;
    ask.done()?;
    let stats = layer.stats(id)?;
    let counts = layer.histogram(id)?.unwrap_or([0; HISTOGRAM_BINS]);
    let max = stats.as_ref().map_or(0.0, |stats| stats.max);
    let count = stats.map_or(0, |stats| u64::from(stats.tokens));
    let filled = |&at: &usize| counts[at] > 0;
    let (first, last) = ((0..HISTOGRAM_BINS).find(filled), (0..HISTOGRAM_BINS).rfind(filled));
    let range = first.zip(last).map_or(0..0, |(first, last)| first..last + 1);
    let bin = |at: usize| {
        let low = if at == 0 { 0.0 } else { bin_edge(at) };
        let high = if at + 1 == HISTOGRAM_BINS { max.max(low) } else { bin_edge(at + 1) };
        Bin { low, high, count: counts[at] }
    };
    Answer::json(&Histogram {
        layer: layer.number(),
        id,
        tokens: layer.rows(),
        zeros: layer.rows().saturating_sub(count),
        bins: range.map(bin).collect(),
    })
}

#[derive(Default, Serialize)]
struct TokenType {
    text: String,
    count: usize,
    mean: f64,
    max: f32,
    sentence: usize,
    pos: usize,
}

#[derive(Serialize)]
struct TokenTypes {
    total: usize,
    sampled: usize,
    of: usize,
    items: Vec<TokenType>,
}

pub fn tokens(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let (layer, id) = layer_and_feature(run, ask)?;
    let limit = ask.within("limit", 1..=500)?.unwrap_or(50);
    ask.done()?;
    let mut postings: Vec<Posting> = layer.postings(id)?.iter().collect();
    let of = postings.len();
    let sampled = of.min(SAMPLED);
    order(&mut postings, sampled, Mode::Top);
    postings.truncate(sampled);
    // Sentence after sentence, so that each is read once.
    postings.sort_unstable_by_key(|posting| posting.row);
    let mut types: BTreeMap<String, TokenType> = BTreeMap::new();
    let mut rest = &postings[..];
    while let Some(first) = rest.first() {
        let Some(place) = run.index.place(first.row) else {
            rest = &rest[1..];
            continue;
        };
        let sentence = run.index.sentence(place.sentence)?;
        let tokens = &sentence.record.tokens;
        let rows: Vec<usize> = tokens.output_positions().collect();
        let (here, behind) = rest.split_at(rest.iter().take_while(|p| p.row < sentence.rows.end).count().max(1));
        rest = behind;
        for posting in here {
            let Some(&pos) = rows.get((posting.row - sentence.rows.start) as usize) else { continue };
            let kind = types.entry(tokens.strs[pos].clone()).or_default();
            kind.count += 1;
            kind.mean += f64::from(posting.val);
            if posting.val > kind.max {
                (kind.max, kind.sentence, kind.pos) = (posting.val, place.sentence, pos);
            }
        }
    }
    let total = types.len();
    let finished = |(text, kind): (String, TokenType)| TokenType { text, mean: kind.mean / kind.count as f64, ..kind };
    let mut items: Vec<TokenType> = types.into_iter().map(finished).collect();
    items.sort_by(|a, b| b.count.cmp(&a.count).then(b.max.total_cmp(&a.max)));
    items.truncate(limit);
    Answer::json(&TokenTypes { total, sampled, of, items })
}
