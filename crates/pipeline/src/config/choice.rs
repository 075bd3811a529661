//! Values out of a short list, and what was probably meant when the word is not on it.

use llamascope_report::text;
use llamascope_sae::Convention;

use super::error::ValueError;

/// A value that is written as one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words and what they stand for.
    const NAMES: &'static [(&'static str, Self)];
    /// Words of other programs and the word of ours that is suggested for them.
    const ALIASES: &'static [(&'static str, &'static str)];

    /// Reads the word.
    fn parse(word: &str) -> Result<Self, ValueError> {
        let named = Self::NAMES.iter().find(|(name, _)| *name == word);
        named.map(|(_, value)| *value).ok_or_else(|| {
            let names = Self::NAMES.iter().map(|(name, _)| *name);
            let spellings = names.clone().map(|name| (name, name)).chain(Self::ALIASES.iter().copied());
            ValueError::Choice {
                found: quoted(word),
                allowed: names.collect::<Vec<_>>().join(", "),
                hint: hint(word, spellings),
            }
        })
    }

    /// The word for it.
    fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, value)| *value == self);
        named.expect("every value has a name").0
    }
}

/// Precision of the computation (`dtype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Precision {
    Float16,
    Float32,
    Bfloat16,
}

impl Choice for Precision {
    const NAMES: &'static [(&'static str, Self)] =
        &[("float16", Self::Float16), ("float32", Self::Float32), ("bfloat16", Self::Bfloat16)];
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("fp16", "float16"),
        ("f16", "float16"),
        ("half", "float16"),
        ("fp32", "float32"),
        ("f32", "float32"),
        ("float", "float32"),
        ("bf16", "bfloat16"),
    ];
}

/// Where the computation runs (`device`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda,
    Mps,
}

impl Choice for DeviceChoice {
    const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("cpu", Self::Cpu), ("cuda", Self::Cuda), ("mps", Self::Mps)];
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("gpu", "cuda"), ("cuda:0", "cuda"), ("nvidia", "cuda"), ("metal", "mps")];
}

impl Choice for Convention {
    const NAMES: &'static [(&'static str, Self)] =
        &[("saelens", Self::Saelens), ("openmoss", Self::Openmoss), ("neuronpedia", Self::Neuronpedia)];
    const ALIASES: &'static [(&'static str, &'static str)] = &[("sae_lens", "saelens"), ("llamascope", "openmoss")];
}

/// Longest typed text that an error repeats, in columns.
const SHOWN_COLUMNS: usize = 60;

/// What was typed, safe and short.
pub fn shown(typed: &str) -> String {
    text::fit(&text::plain(typed), SHOWN_COLUMNS)
}

/// As [`shown`], in backticks.
pub fn quoted(typed: &str) -> String {
    format!("`{}`", shown(typed))
}

/// `: did you mean ...?` with the word whose spelling is nearest to what was typed, or nothing if none is near: at most
/// one edit in three letters.
pub fn hint<'a>(typed: &str, spellings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    if typed.len() > SHOWN_COLUMNS {
        return String::new();
    }
    let typed = typed.to_lowercase().replace('-', "_");
    let near = spellings
        .map(|(spelling, word)| (strsim::osa_distance(&typed, &spelling.replace('-', "_")), word))
        .filter(|(edits, _)| edits * 3 <= typed.chars().count())
        .min_by_key(|(edits, _)| *edits);
    near.map_or_else(String::new, |(_, word)| format!(": did you mean `{word}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says<T: Choice + std::fmt::Debug>(word: &str) -> String {
        T::parse(word).unwrap_err().to_string()
    }

    #[test]
    fn every_name_reads_back() {
        fn check<T: Choice + std::fmt::Debug>() {
            for (name, value) in T::NAMES {
                assert_eq!((T::parse(name).unwrap(), value.name()), (*value, *name));
            }
            for (_, name) in T::ALIASES {
                assert!(T::parse(name).is_ok(), "{name}");
            }
        }
        check::<Precision>();
        check::<DeviceChoice>();
        check::<Convention>();
    }

    #[test]
    fn a_wrong_word_names_the_allowed_ones_and_the_nearest() {
        let dtypes = "is not one of float16, float32, bfloat16";
        assert_eq!(says::<Precision>("fp16"), format!("`fp16` {dtypes}: did you mean `float16`?"));
        assert_eq!(says::<Precision>("Float32"), format!("`Float32` {dtypes}: did you mean `float32`?"));
        assert_eq!(says::<Precision>("bf16"), format!("`bf16` {dtypes}: did you mean `bfloat16`?"));
        assert_eq!(says::<Precision>("int8"), format!("`int8` {dtypes}"));
        assert_eq!(says::<DeviceChoice>("gpu"), "`gpu` is not one of auto, cpu, cuda, mps: did you mean `cuda`?");
        assert_eq!(
            says::<Convention>("openmos"),
            "`openmos` is not one of saelens, openmoss, neuronpedia: did you mean `openmoss`?"
        );
        assert_eq!(says::<DeviceChoice>(""), "`` is not one of auto, cpu, cuda, mps");
    }

    #[test]
    fn hostile_words_are_escaped_and_cut() {
        assert_eq!(says::<DeviceChoice>("\x1b[2J\u{202e}"), "`␛[2J\\u{202e}` is not one of auto, cpu, cuda, mps");
        assert!(says::<DeviceChoice>(&"x".repeat(1_000_000)).len() < 200);
    }
}
