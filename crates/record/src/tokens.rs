//! A sentence as the model sees it, and its tokens as a person reads them.

use std::ops::Range;

/// A range of bytes of the sentence's UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte; equal to `start` for a token that stands for no text (an added BOS).
    pub end: u32,
}

/// The tokens of one sentence, BOS included where the tokenizer adds one. All vectors have one entry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary ids.
    pub ids: Vec<u32>,
    /// The text that each token covers. Tokens that split a character both cover all of it.
    pub spans: Vec<Span>,
    /// Each token decoded by itself, with U+FFFD for bytes that are not a character alone.
    pub strs: Vec<String>,
    /// Whether the token is a special one of the vocabulary.
    pub special: Vec<bool>,
    /// Whether the token is BOS, wherever it stands: such rows never reach an output.
    pub bos: Vec<bool>,
}

impl Tokens {
    /// How many tokens there are, BOS included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Drops all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
        self.spans.truncate(len);
        self.strs.truncate(len);
        self.special.truncate(len);
        self.bos.truncate(len);
    }

    /// A copy of some of them.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn slice(&self, range: Range<usize>) -> Tokens {
        Tokens {
            ids: self.ids[range.clone()].to_vec(),
            spans: self.spans[range.clone()].to_vec(),
            strs: self.strs[range.clone()].to_vec(),
            special: self.special[range.clone()].to_vec(),
            bos: self.bos[range].to_vec(),
        }
    }

    /// Puts others behind.
    pub fn append(&mut self, others: Tokens) {
        self.ids.extend(others.ids);
        self.spans.extend(others.spans);
        self.strs.extend(others.strs);
        self.special.extend(others.special);
        self.bos.extend(others.bos);
    }

    /// The positions whose rows are output: all but BOS.
    pub fn output_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.bos.iter().enumerate().filter(|(_, bos)| !**bos).map(|(position, _)| position)
    }
}

/// Tokens that a reader sees as one piece of text: a single one, or several that split a character between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGroup {
    /// Their positions.
    pub tokens: Range<usize>,
    /// What they stand for: the characters that they share, or the one token by itself.
    pub text: String,
}

impl Tokens {
    /// All tokens in order, those joined that split a character of `text`. A token by itself shows the bytes of such a
    /// character as U+FFFD; together they are the text that their spans cover.
    pub fn groups(&self, text: &str) -> Vec<TokenGroup> {
        let mut groups: Vec<TokenGroup> = Vec::new();
        let mut covered = Span { start: 0, end: 0 };
        for (position, (span, alone)) in self.spans.iter().zip(&self.strs).enumerate() {
            let shares = span.start < span.end && span.start < covered.end && covered.start < span.end;
            match groups.last_mut() {
                Some(group) if shares => {
                    covered = Span { start: covered.start.min(span.start), end: covered.end.max(span.end) };
                    group.tokens.end = position + 1;
                    let joined = text.get(covered.start as usize..covered.end as usize);
                    group.text = joined.map_or_else(|| group.text.clone() + alone, str::to_owned);
                }
                _ => {
                    covered = *span;
                    groups.push(TokenGroup { tokens: position..position + 1, text: alone.clone() });
                }
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pieces: &[(&str, u32, u32)]) -> Tokens {
        Tokens {
            ids: vec![0; pieces.len()],
            spans: pieces.iter().map(|&(_, start, end)| Span { start, end }).collect(),
            strs: pieces.iter().map(|piece| piece.0.to_owned()).collect(),
            special: vec![false; pieces.len()],
            bos: vec![false; pieces.len()],
        }
    }

    fn groups(text: &str, pieces: &[(&str, u32, u32)]) -> Vec<(Range<usize>, String)> {
        tokens(pieces).groups(text).into_iter().map(|group| (group.tokens, group.text)).collect()
    }

    #[test]
    fn tokens_that_split_a_character_are_one_group() {
        // BOS, then a character in three tokens, one in two of which the first holds the space before it, and a word.
        let pieces = [
            ("<s>", 0, 0),
            ("\u{fffd}", 0, 3),
            ("\u{fffd}", 0, 3),
            ("\u{fffd}", 0, 3),
            (" \u{fffd}", 3, 8),
            ("\u{fffd}", 4, 8),
            (" is", 8, 11),
            ("", 11, 11),
            ("!", 11, 12),
        ];
        let expected = [(0..1, "<s>"), (1..4, "東"), (4..6, " 🦙"), (6..7, " is"), (7..8, ""), (8..9, "!")];
        assert_eq!(groups("東 🦙 is!", &pieces), expected.map(|(range, text)| (range, text.to_owned())));
    }

    #[test]
    fn spans_that_do_not_fit_the_text_are_no_panic() {
        let found = groups("東", &[("\u{fffd}", 1, 2), ("\u{fffd}", 1, 9)]);
        assert_eq!(found, [(0..2, "\u{fffd}\u{fffd}".to_owned())]);
    }
}
