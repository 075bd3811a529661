//! Sentences as they are sent: tokens, and the groups in which they are shown.

use llamascope_record::{Source, Span, TokenGroup, Tokens};
use serde::Serialize;

#[derive(Serialize)]
pub struct SourceShape {
    file: String,
    line: u64,
}

#[derive(Serialize)]
pub struct TokenShape {
    pos: usize,
    id: Option<u32>,
    text: String,
    span: Option<[u32; 2]>,
    special: bool,
    bos: bool,
    row: Option<usize>,
    group: usize,
}

/// Tokens that are shown as one.
#[derive(Serialize)]
pub struct GroupShape {
    text: String,
    first: usize,
    len: usize,
}

#[derive(Serialize)]
pub struct SentenceShape {
    pub index: Option<usize>,
    pub text: String,
    pub source: Option<SourceShape>,
    pub tokens: Vec<TokenShape>,
    pub groups: Vec<GroupShape>,
}

/// A sentence without a file, as in a tree of rows that another tool wrote, has no source.
pub fn source(source: &Source) -> Option<SourceShape> {
    (!source.file.is_empty()).then(|| SourceShape { file: source.file.clone(), line: source.line })
}

/// `guessed`: the tokens come from rows files, which tell neither ids nor spans.
pub fn sentence(
    index: Option<usize>,
    text: &str,
    from: Option<&Source>,
    tokens: &Tokens,
    guessed: bool,
) -> SentenceShape {
    let groups = tokens.groups(text);
    let group_of = groups.iter().enumerate().flat_map(|(at, group)| std::iter::repeat_n(at, group.tokens.len()));
    let mut rows = 0..;
    let shapes = group_of.enumerate().map(|(pos, group)| {
        let Span { start, end } = tokens.spans[pos];
        TokenShape {
            pos,
            id: (!guessed).then(|| tokens.ids[pos]),
            text: tokens.strs[pos].clone(),
            span: (!guessed).then_some([start, end]),
            special: tokens.special[pos],
            bos: tokens.bos[pos],
            row: (!tokens.bos[pos]).then(|| rows.next().expect("it never ends")),
            group,
        }
    });
    let tokens = shapes.collect();
    let group = |group: TokenGroup| GroupShape { first: group.tokens.start, len: group.tokens.len(), text: group.text };
    let groups = groups.into_iter().map(group).collect();
    SentenceShape { index, text: text.to_owned(), source: from.and_then(source), tokens, groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pieces: &[(&str, u32, u32)]) -> Tokens {
        Tokens {
            ids: vec![7; pieces.len()],
            spans: pieces.iter().map(|&(_, start, end)| Span { start, end }).collect(),
            strs: pieces.iter().map(|piece| piece.0.to_owned()).collect(),
            special: vec![false; pieces.len()],
            bos: pieces.iter().map(|piece| piece.0 == "<s>").collect(),
        }
    }

    #[test]
    fn tokens_that_split_a_character_are_shown_as_one() {
        let tokens = tokens(&[
            ("<s>", 0, 0),
            ("A", 0, 1),
            (" \u{fffd}", 1, 5),
            ("\u{fffd}", 2, 5),
            ("\u{fffd}", 2, 5),
            ("!", 5, 6),
        ]);
        let shape = sentence(Some(0), "A 東!", None, &tokens, false);
        let shown: Vec<_> = shape.groups.iter().map(|group| (group.text.as_str(), group.first, group.len)).collect();
        assert_eq!(shown, [("<s>", 0, 1), ("A", 1, 1), (" 東", 2, 3), ("!", 5, 1)]);
        assert_eq!(
            shape.tokens.iter().map(|token| token.row).collect::<Vec<_>>(),
            [None, Some(0), Some(1), Some(2), Some(3), Some(4)]
        );
        assert_eq!(shape.tokens.iter().map(|token| token.group).collect::<Vec<_>>(), [0, 1, 2, 2, 2, 3]);
    }
}
