//! Elementary functions out of `+ - * /` and `sqrt` alone, in a fixed order.
//!
//! IEEE 754 rounds these five in one way, in every language; the library's `sin`, `ln` and `pow` are whatever the
//! platform has. A colour computed here is therefore the same byte in Rust and in a browser. Errors are below 1e-14,
//! far less than a step of a colour channel.

/// Terms of the series of sine and cosine; the arguments are at most an eighth of a turn.
const CIRCLE_TERMS: u32 = 9;
/// Terms of the series of the logarithm; its variable is at most 0.172.
const LN_TERMS: u32 = 12;
/// Steps of Newton's method; the roots are those of numbers between 0.05 and 1, and start at 1.
const ROOT_STEPS: u32 = 16;

/// Sine and cosine of `turns` whole turns, `0 <= turns <= 1`.
pub fn sin_cos(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0 + 0.5).floor();
    let x = (turns - quarter / 4.0) * std::f64::consts::TAU;
    let (x2, mut sin, mut cos) = (x * x, 1.0, 1.0);
    // Horner's scheme from the last term: 1 - x2 / (a (a + 1)) (1 - ...).
    for term in (1..CIRCLE_TERMS).rev() {
        let a = f64::from(2 * term);
        sin = 1.0 - sin * x2 / (a * (a + 1.0));
        cos = 1.0 - cos * x2 / (a * (a - 1.0));
    }
    sin *= x;
    match quarter as u8 % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// The natural logarithm of a finite `x > 0`.
pub fn ln(x: f64) -> f64 {
    let (mut x, mut exponent) = (x, 0.0);
    while x > std::f64::consts::SQRT_2 {
        x /= 2.0;
        exponent += 1.0;
    }
    while x < std::f64::consts::FRAC_1_SQRT_2 {
        x *= 2.0;
        exponent -= 1.0;
    }
    let z = (x - 1.0) / (x + 1.0);
    let (z2, mut sum) = (z * z, 0.0);
    for term in (0..LN_TERMS).rev() {
        sum = sum * z2 + 1.0 / (2.0 * f64::from(term) + 1.0);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * z * sum
}

/// The cube root of `x`, `0.05 <= x <= 1`.
pub fn cube_root(x: f64) -> f64 {
    (0..ROOT_STEPS).fold(1.0, |y: f64, _| (2.0 * y + x / (y * y)) / 3.0)
}

/// The fifth root of `x`, `0.05 <= x <= 1`.
pub fn fifth_root(x: f64) -> f64 {
    (0..ROOT_STEPS).fold(1.0, |y: f64, _| (4.0 * y + x / (y * y * y * y)) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_functions_they_are_called() {
        for step in 0..=10_000 {
            let turns = f64::from(step) / 10_000.0;
            let (sin, cos) = sin_cos(turns);
            let (want_sin, want_cos) = (turns * std::f64::consts::TAU).sin_cos();
            assert!((sin - want_sin).abs() < 1e-14 && (cos - want_cos).abs() < 1e-14, "{turns}");
            let x = 0.05 + 0.95 * turns;
            assert!((cube_root(x) - x.cbrt()).abs() < 1e-14, "{x}");
            assert!((fifth_root(x) - x.powf(0.2)).abs() < 1e-14, "{x}");
        }
        for x in [1e-300, 1e-9, 0.01, 0.5, 0.7, 0.99, 1.0, 1.4, 1.5, 2.0, 100.0, 1e4, 1e300] {
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "{x}");
        }
    }
}
