//! Rust source taken apart just far enough to search it: code by itself, comments by themselves, and which lines are
//! tests. Source: the lexical structure chapters of the Rust reference (comments, tokens).

/// One Rust file. `code` and `comments` have the text's own length and line breaks, with spaces for everything else,
/// so that an offset or a line means the same in all three. String and character literals are in neither.
pub struct Source {
    /// The file as it stands.
    pub text: String,
    /// What the compiler acts on, without literals.
    pub code: String,
    /// Comments, doc comments included.
    pub comments: String,
    /// For each line, whether it belongs to an item under `#[cfg(test)]`.
    pub tests: Vec<bool>,
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    /// Takes a file apart. Never fails: what the compiler would refuse comes out as code.
    pub fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut code: Vec<u8> = bytes.iter().map(|&byte| if byte == b'\n' { byte } else { b' ' }).collect();
        let mut comments = code.clone();
        let mut at = 0;
        while at < bytes.len() {
            let (kind, length) = token(&bytes[at..]);
            let end = (at + length).min(bytes.len());
            match kind {
                Kind::Code => code[at..end].copy_from_slice(&bytes[at..end]),
                Kind::Comment => comments[at..end].copy_from_slice(&bytes[at..end]),
                Kind::Literal => {}
            }
            at = end;
        }
        let [code, comments] = [code, comments].map(|masked| String::from_utf8_lossy(&masked).into_owned());
        let tests = test_lines(&code);
        Self { text: text.to_owned(), code, comments, tests }
    }

    /// Whether a line (from 1) belongs to an item under `#[cfg(test)]`.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.get(line - 1).copied().unwrap_or(false)
    }
}

/// The line, from 1, that a byte offset stands in.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

/// Offsets of a pattern that is not part of a longer word.
pub fn find_word<'t>(text: &'t str, pattern: &'t str) -> impl Iterator<Item = usize> + 't {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let goes_on = move |at: usize| {
        let (before, after) = (&text[..at], &text[at + pattern.len()..]);
        (pattern.starts_with(is_word) && before.ends_with(is_word))
            || (pattern.ends_with(is_word) && after.starts_with(is_word))
    };
    text.match_indices(pattern).map(|(at, _)| at).filter(move |&at| !goes_on(at))
}

/// Kind and length of the token that `rest` begins with.
fn token(rest: &[u8]) -> (Kind, usize) {
    let find = |needle: &[u8]| rest.windows(needle.len()).position(|window| window == needle);
    match rest {
        [b'/', b'/', ..] => (Kind::Comment, find(b"\n").unwrap_or(rest.len())),
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest)),
        [b'"', ..] => (Kind::Literal, quoted(rest, b'"')),
        [b'\'', b'\\', ..] => (Kind::Literal, quoted(rest, b'\'')),
        [b'\'', first, ..] => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            // Without the closing quote it is a lifetime.
            if rest.get(1 + width) == Some(&b'\'') { (Kind::Literal, width + 2) } else { (Kind::Code, 1) }
        }
        [first, ..] if is_identifier(*first) => {
            let length = rest.iter().take_while(|&&byte| is_identifier(byte)).count();
            literal_after_prefix(&rest[..length], &rest[length..])
                .map_or((Kind::Code, length), |literal| (Kind::Literal, length + literal))
        }
        _ => (Kind::Code, 1),
    }
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Length of the literal that follows its prefix: `b".."`, `c".."`, `b'.'`, `r#".."#` and so on.
fn literal_after_prefix(prefix: &[u8], rest: &[u8]) -> Option<usize> {
    match (prefix, rest) {
        (b"b" | b"c", [b'"', ..]) => Some(quoted(rest, b'"')),
        (b"b", [b'\'', ..]) => Some(quoted(rest, b'\'')),
        (b"r" | b"br" | b"cr", _) => {
            let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
            (rest.get(hashes) == Some(&b'"')).then(|| {
                let close = [b"\"", &rest[..hashes]].concat();
                let body = &rest[hashes + 1..];
                let length = body.windows(close.len()).position(|window| window == close);
                length.map_or(rest.len(), |length| hashes + 1 + length + close.len())
            })
        }
        _ => None,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        let step = match &rest[at..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
    }
    at
}

/// Marks the lines of every item that a `cfg(test)` attribute stands on: up to its `;`, or to the end of its braces.
fn test_lines(code: &str) -> Vec<bool> {
    let mut tests = vec![false; code.lines().count()];
    for attribute in ["#[cfg(test)]", "#[cfg(all(test", "#![cfg(test)]"] {
        for (start, _) in code.match_indices(attribute) {
            let inner = attribute.starts_with("#!");
            let end = if inner { code.len() } else { item_end(code, start + attribute.len()) };
            for line in line_of(code, start)..=line_of(code, end) {
                if let Some(test) = tests.get_mut(line - 1) {
                    *test = true;
                }
            }
        }
    }
    tests
}

fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_leave_the_code_and_nothing_moves() {
        let text = concat!(
            "let a = \"x // y\\\" unsafe\"; // why \"quoted\"\n",
            "/* one /* two */ still */ let b = r#\"raw \" unsafe\"#; let c = b'\\'';\n",
            "fn f<'a>(x: &'a str) -> char { '\"' } /// 日本\n",
            "let d = '語'; let bar = 1; let r = bar\"not a prefix\";\n",
        );
        let source = Source::parse(text);
        for masked in [&source.code, &source.comments] {
            assert_eq!(masked.len(), text.len());
            assert_eq!(masked.lines().count(), 4);
        }
        let code: Vec<String> =
            source.code.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(code[0], "let a = ;");
        assert_eq!(code[1], "let b = ; let c = ;");
        assert_eq!(code[2], "fn f<'a>(x: &'a str) -> char { }");
        assert_eq!(code[3], "let d = ; let bar = 1; let r = bar ;");
        let comments: Vec<&str> = source.comments.lines().map(str::trim).collect();
        assert_eq!(comments, ["// why \"quoted\"", "/* one /* two */ still */", "/// 日本", ""]);
    }

    #[test]
    fn what_does_not_end_is_taken_to_the_end() {
        for text in ["\"open", "/* open", "r#\"open\"", "'", "b'", "//", "\\", "\"\\"] {
            let source = Source::parse(text);
            assert_eq!(source.code.len(), text.len(), "{text}");
        }
    }

    #[test]
    fn items_under_cfg_test_are_tests_and_their_neighbours_are_not() {
        let source = Source::parse(
            "fn a() {}\n#[cfg(test)]\nmod one;\nfn b() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn c() { \"}\" }\n}\nfn d() {}\n",
        );
        let lines: Vec<usize> = (1..=10).filter(|&line| source.is_test(line)).collect();
        assert_eq!(lines, [2, 3, 5, 6, 7, 8, 9]);
        assert!(Source::parse("#![cfg(test)]\nfn a() {}\n").is_test(2));
    }

    #[test]
    fn words_have_borders() {
        let found: Vec<usize> = find_word("print! eprint! print! unsafe_code unsafe", "print!").collect();
        assert_eq!(found, [0, 15]);
        assert_eq!(find_word("unsafe_code unsafe not_unsafe", "unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
