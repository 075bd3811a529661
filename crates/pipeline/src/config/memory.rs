//! Amounts of memory as people write them.

use super::choice::quoted;
use super::error::ValueError;

/// Units by descending size.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes in `text`: a number, which may have a decimal fraction, and a unit, such as `4GiB`, `1.5 GB` or `512mib`.
///
/// # Errors
/// No number, no unit, nothing left after rounding down to bytes, or more than 2^63 bytes.
pub fn parse_memory(text: &str) -> Result<u64, ValueError> {
    let wrong = || ValueError::Form { found: quoted(text), expected: "an amount of memory; write `4GiB` or `512MiB`" };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let (_, scale) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).ok_or_else(wrong)?;
    let bytes = number * *scale as f64;
    if (1.0..=i64::MAX as f64).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `bytes` in the largest unit that divides them: [`parse_memory`] reads the same number back below 2^53.
pub fn format_memory(bytes: u64) -> String {
    let (unit, scale) = UNITS.iter().find(|(_, scale)| bytes.is_multiple_of(*scale)).expect("one divides everything");
    format!("{}{unit}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_binary_and_decimal_units() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("512MiB", 512 << 20),
            ("2GB", 2_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("512mib", 512 << 20),
            (" 10 KB ", 10_000),
            ("1TiB", 1 << 40),
            ("7B", 7),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "4", "GiB", "-1GiB", "4 Gib/s", "1..5GiB", "0GiB", "0.2B", "99999999999TiB", "4Gi", "1e3MB", "∞GB"]
        {
            let error = parse_memory(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not an amount of memory; write `4GiB` or `512MiB`"));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in 1u64..1 << 53) {
            proptest::prop_assert_eq!(parse_memory(&format_memory(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_memory(&text);
        }
    }
}
