//! Reading the lines of rows quickly. A line that is written as this program (and Python's `json.dumps`) writes it is
//! read by hand, with every value the f32 that is nearest to its decimal; any other line is left to a JSON parser.

use crate::json;
use crate::run::TokenRow;

/// One line as it stands there: nothing of it is checked but its form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub position: u32,
    /// How many features the line says that it has.
    pub nnz: u64,
    pub ids: Vec<u32>,
    pub vals: Vec<f32>,
    /// The token by itself; read only if it is asked for.
    pub text: Option<String>,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// It is the last one and has no end.
    Cut,
    /// It is not a row.
    Broken(String),
}

/// What of a line is wanted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// Position, ids and values.
    Features,
    /// Position and text: nothing behind them is looked at where the line is written as usual.
    Token,
}

/// Reads the line at the start of `bytes` into `line`; tells how many bytes it takes, its end included.
pub(crate) fn read_line(bytes: &[u8], wanted: Wanted, line: &mut Line) -> (usize, Result<(), Fault>) {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.line(wanted, line).is_some() {
        return (cursor.at, Ok(()));
    }
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let text = &bytes[..end.unwrap_or(bytes.len())];
    let length = end.map_or(bytes.len(), |end| end + 1);
    match serde_json::from_slice::<TokenRow>(text) {
        Ok(row) => {
            *line = Line {
                position: row.token_pos,
                nnz: row.nnz.into(),
                ids: row.feat_ids,
                vals: row.feat_vals,
                text: Some(row.token_str),
            };
            (length, Ok(()))
        }
        Err(error) if end.is_none() && error.is_eof() => (length, Err(Fault::Cut)),
        Err(error) => (length, Err(Fault::Broken(json::explain(&error)))),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn line(&mut self, wanted: Wanted, line: &mut Line) -> Option<()> {
        line.ids.clear();
        line.vals.clear();
        line.text = None;
        self.expect(b"{\"token_pos\": ")?;
        line.position = u32::try_from(self.integer()?).ok()?;
        self.expect(b", \"token_str\": ")?;
        let text = self.string()?;
        if wanted == Wanted::Token {
            line.text = Some(serde_json::from_slice(text).ok()?);
            self.at += self.bytes[self.at..].iter().position(|&byte| byte == b'\n')? + 1;
            return Some(());
        }
        self.expect(b", \"nnz\": ")?;
        line.nnz = self.integer()?;
        self.expect(b", \"feat_ids\": [")?;
        self.list(&mut line.ids, |cursor| u32::try_from(cursor.integer()?).ok())?;
        self.expect(b", \"feat_vals\": [")?;
        self.list(&mut line.vals, Cursor::value)?;
        self.expect(b"}")?;
        // The last line of another tool may lack its end.
        if self.at < self.bytes.len() { self.expect(b"\n") } else { Some(()) }
    }

    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// The items of a list whose bracket has been read, and the bracket at its end.
    fn list<T>(&mut self, items: &mut Vec<T>, item: impl Fn(&mut Self) -> Option<T>) -> Option<()> {
        if self.peek() == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            items.push(item(self)?);
            match self.bytes.get(self.at..self.at + 2) {
                Some(b", ") => self.at += 2,
                Some([b']', _]) => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// A number of JSON without sign, fraction or exponent.
    fn integer(&mut self) -> Option<u64> {
        let begin = self.at;
        let number = self.digits(0);
        let length = self.at - begin;
        let plain = (length == 1 || self.bytes.get(begin) != Some(&b'0')) && (1..=18).contains(&length);
        plain.then_some(number)
    }

    /// Takes in digits behind those of `number`; wraps if there are too many, which the caller sees by their count.
    fn digits(&mut self, mut number: u64) -> u64 {
        while let Some(digit) = self.bytes.get(self.at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10)
        {
            number = number.wrapping_mul(10).wrapping_add(digit.into());
            self.at += 1;
        }
        number
    }

    /// A string with its quotes, of which only the end is looked for and that it is UTF-8.
    fn string(&mut self) -> Option<&'a [u8]> {
        let begin = self.at;
        self.expect(b"\"")?;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => break,
                // Whatever is escaped is no end; a wrong escape harms nobody who does not want the text.
                b'\\' => self.at += 2,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.bytes.get(begin..self.at)?;
        std::str::from_utf8(text).ok().map(|_| text)
    }

    /// A value: a decimal, or what other tools write for one that is not finite.
    fn value(&mut self) -> Option<f32> {
        let begin = self.at;
        for (word, value) in
            [("NaN", f32::NAN), ("null", f32::NAN), ("Infinity", f32::INFINITY), ("-Infinity", f32::NEG_INFINITY)]
        {
            if self.peek() == word.as_bytes()[0] && self.expect(word.as_bytes()).is_some() {
                return Some(value);
            }
        }
        let negative = self.expect(b"-").is_some();
        let whole = self.at;
        let mut digits = self.digits(0);
        if self.at == whole || (self.at > whole + 1 && self.bytes[whole] == b'0') {
            return None;
        }
        let (mut count, mut exponent) = (self.at - whole, 0i64);
        if self.peek() == b'.' {
            self.at += 1;
            let fraction = self.at;
            digits = self.digits(digits);
            let length = self.at - fraction;
            if length == 0 {
                return None;
            }
            count += length;
            exponent -= length as i64;
        }
        if let b'e' | b'E' = self.peek() {
            self.at += 1;
            let below = self.peek() == b'-';
            if let b'-' | b'+' = self.peek() {
                self.at += 1;
            }
            let start = self.at;
            let written = self.digits(0);
            if !(1..=4).contains(&(self.at - start)) {
                return None;
            }
            exponent += if below { -(written as i64) } else { written as i64 };
        }
        let value = nearest(digits, count, exponent).or_else(|| {
            let text = std::str::from_utf8(&self.bytes[if negative { begin + 1 } else { begin }..self.at]).ok()?;
            text.parse().ok()
        })?;
        Some(if negative { -value } else { value })
    }
}

/// The f32 that is nearest to `digits * 10^exponent`, where two roundings give it: both factors are exact in f64, so the
/// f64 is the nearest one to their product or quotient, and rounding that once more errs only if it lies halfway between
/// two f32.
fn nearest(digits: u64, count: usize, exponent: i64) -> Option<f32> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    /// The bits of an f64 that an f32 does not have.
    const BELOW: u64 = (1 << 29) - 1;
    const HALF: u64 = 1 << 28;
    if count > 18 || digits > 1 << 53 {
        return None;
    }
    let power = *POWERS.get(exponent.unsigned_abs() as usize)?;
    let wide = if exponent < 0 { digits as f64 / power } else { digits as f64 * power };
    let halfway = wide.to_bits() & BELOW == HALF;
    // The smallest f32 have fewer bits, and the largest f64 become infinite.
    let ordinary = digits == 0 || (f64::from(f32::MIN_POSITIVE)..f64::from(f32::MAX)).contains(&wide);
    (ordinary && !halfway).then_some(wide as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (usize, Result<Line, Fault>) {
        let mut line = Line::default();
        let (length, result) = read_line(bytes, Wanted::Features, &mut line);
        (length, result.map(|()| line))
    }

    fn value(text: &str) -> Option<f32> {
        let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
        let value = cursor.value()?;
        (cursor.at == text.len()).then_some(value)
    }

    #[test]
    fn a_line_is_read_and_the_next_one_found() {
        let lines = "{\"token_pos\": 7, \"token_str\": \" 京\\\"\\\\\", \"nnz\": 2, \"feat_ids\": [104, 0], \"feat_vals\": [1.32, 1e-8]}\n{";
        let (length, line) = read(lines.as_bytes());
        assert_eq!(length, lines.len() - 1);
        let expected = Line { position: 7, nnz: 2, ids: vec![104, 0], vals: vec![1.32, 1e-8], text: None };
        assert_eq!(line.unwrap(), expected);
        let mut line = Line::default();
        let (length, result) = read_line(lines.as_bytes(), Wanted::Token, &mut line);
        assert_eq!((length, result, line.text.as_deref()), (lines.len() - 1, Ok(()), Some(" 京\"\\")));
    }

    #[test]
    fn a_line_of_another_tool_is_read_by_a_parser() {
        let line = "{\"nnz\":1,\"feat_vals\":[2],\"feat_ids\":[5],\"token_str\":\"a\",\"token_pos\":3,\"more\":{}}\r\n";
        let (length, read) = read(line.as_bytes());
        assert_eq!(length, line.len());
        let expected = Line { position: 3, nnz: 1, ids: vec![5], vals: vec![2.0], text: Some("a".into()) };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn values_that_are_no_values_are_told_and_not_guessed() {
        for (text, expected) in
            [("NaN", f32::NAN), ("null", f32::NAN), ("-Infinity", f32::NEG_INFINITY), ("-1.5", -1.5)]
        {
            let line = format!(
                "{{\"token_pos\": 0, \"token_str\": \"\", \"nnz\": 1, \"feat_ids\": [1], \"feat_vals\": [{text}]}}\n"
            );
            let found = read(line.as_bytes()).1.unwrap().vals[0];
            assert_eq!(found.to_bits(), expected.to_bits(), "{text}");
        }
        assert_eq!(value("1e99"), Some(f32::INFINITY));
    }

    #[test]
    fn what_is_no_row_is_a_fault_and_a_cut_is_told_apart() {
        let whole = b"{\"token_pos\": 7, \"token_str\": \"a\", \"nnz\": 1, \"feat_ids\": [104], \"feat_vals\": [1.32]}";
        for cut in 1..whole.len() {
            assert_eq!(read(&whole[..cut]), (cut, Err(Fault::Cut)), "{cut}");
        }
        assert!(read(whole).1.is_ok());
        for broken in ["{}\n", "[]\n", "\n", "{\"token_pos\": 01}\n", "\u{0}\n", "x"] {
            assert!(matches!(read(broken.as_bytes()), (n, Err(Fault::Broken(_))) if n == broken.len()), "{broken:?}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused() {
        for text in ["01.5", "1.", ".5", "+1", "1e", "1e+", "--1", "", "1e99999"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn halfway_cases_and_long_decimals_are_exact() {
        // Just above, at and just below the middle between 1 and its next f32; as an f64 all three are the middle.
        for text in [
            "1.00000005960464477539062500000000000001",
            "1.000000059604644775390625",
            "1.00000005960464477539062499999999999999",
            "1.0000000596046448",
            "1.401298464324817e-45",
            "7.038531e-26",
            "3.4028235e38",
            "3.4028236e38",
            "1.1754944e-38",
            "16777217.0",
            "0.0",
        ] {
            assert_eq!(value(text).unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_value_reads_back(bits in 0u32..0x7f80_0000) {
            let expected = f32::from_bits(bits);
            let mut buffer = zmij::Buffer::new();
            let written = buffer.format_finite(expected).to_owned();
            for text in [written, format!("{expected:e}"), format!("{}", f64::from(expected)), format!("{expected:.12}")] {
                let nearest: f32 = text.parse().unwrap();
                prop_assert_eq!(value(&text).map(f32::to_bits), Some(nearest.to_bits()), "{}", text);
            }
        }

        #[test]
        fn whatever_the_bytes_are_reading_ends(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let (length, _) = read(&bytes);
            prop_assert!(length >= 1 && length <= bytes.len());
        }

        #[test]
        fn one_byte_changed_gives_what_a_parser_gives(at in 0usize..88, byte in any::<u8>()) {
            let mut line = *b"{\"token_pos\": 7, \"token_str\": \"a\", \"nnz\": 2, \"feat_ids\": [104, 7], \"feat_vals\": [1.32, 1e-2]}";
            line[at] = byte;
            let ours = read(&line);
            if let (Ok(ours), Ok(theirs)) = (&ours.1, serde_json::from_slice::<TokenRow>(&line)) {
                prop_assert_eq!((ours.position, ours.nnz), (theirs.token_pos, u64::from(theirs.nnz)));
                prop_assert_eq!((&ours.ids, &ours.vals), (&theirs.feat_ids, &theirs.feat_vals));
            }
        }
    }
}
