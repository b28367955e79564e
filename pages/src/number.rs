//! Numbers as a reader wants them.

/// Four significant digits, as an exponent where that is shorter to read.
pub fn plain(value: f64) -> String {
    with_digits(value, 4)
}

/// [`plain`] with so many significant digits.
pub fn with_digits(value: f64, digits: usize) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".into();
    }
    if value.fract() == 0.0 && size < 1e7 {
        return format!("{value:.0}");
    }
    if (1e-3..1e5).contains(&size) {
        return trimmed(&fixed(value, decimals(size, digits))).into();
    }
    let decimals = digits - 1;
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => text,
    }
}

/// The same of a difference: with its sign.
pub fn signed(value: f64) -> String {
    sign(value).to_owned() + &plain(value)
}

/// A number with half the width of its interval, if there is one: that has two digits, and the number ends where they do.
pub fn with_half(value: f64, half_width: Option<f64>) -> String {
    match half_width {
        None => plain(value),
        Some(half) if half > 0.0 && (1e-4..1e5).contains(&half) && value.abs() < 1e5 => {
            let decimals = decimals(half, 2);
            format!("{} \u{b1} {}", fixed(value, decimals), fixed(half, decimals))
        }
        Some(half) => format!("{} \u{b1} {}", plain(value), with_digits(half, 2)),
    }
}

/// The same of a difference: with its sign.
pub fn signed_with_half(value: f64, half_width: Option<f64>) -> String {
    sign(value).to_owned() + &with_half(value, half_width)
}

/// The numbers at marks with as many digits as tell them apart.
pub fn labels(marks: &[f64]) -> Vec<String> {
    let mut digits = 4;
    loop {
        let texts: Vec<String> = marks.iter().map(|mark| with_digits(*mark, digits)).collect();
        if digits >= 12 || texts.windows(2).all(|pair| pair[0] != pair[1]) {
            return texts;
        }
        digits += 1;
    }
}

fn sign(value: f64) -> &'static str {
    if value > 0.0 { "+" } else { "" }
}

/// Decimals that show `digits` digits of a number of this size.
fn decimals(size: f64, digits: usize) -> usize {
    (digits as i32 - 1 - size.log10().floor() as i32).max(0) as usize
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // Rounding leaves a sign before nothing.
    if text.starts_with('-') && text.bytes().all(|byte| b"-0.".contains(&byte)) { text[1..].into() } else { text }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.8235, "0.8235"),
            (1.23456, "1.235"),
            (0.0125, "0.0125"),
            (0.7, "0.7"),
            (94080.0, "94080"),
            (123_456.7, "1.235e5"),
            (2e-4, "2e-4"),
            (1.5e-5, "1.5e-5"),
            (1.0e-34, "1e-34"),
            (8.614_163e-34, "8.614e-34"),
            (-102.8759, "-102.9"),
        ] {
            assert_eq!(plain(value), text);
        }
        assert_eq!((signed(0.07), signed(-0.07)), ("+0.07".into(), "-0.07".into()));
    }

    #[test]
    fn half_an_interval_has_two_digits_and_the_number_ends_with_it() {
        for (value, half, text) in [
            (0.416_667, Some(0.051_711), "0.417 \u{b1} 0.052"),
            (12.3456, Some(3.21), "12.3 \u{b1} 3.2"),
            (1234.0, Some(321.0), "1234 \u{b1} 321"),
            (-0.0001, Some(0.5), "0.00 \u{b1} 0.50"),
            (0.4, Some(0.0), "0.4 \u{b1} 0"),
            (0.8, Some(3.2e-7), "0.8 \u{b1} 3.2e-7"),
            (0.8, None, "0.8"),
        ] {
            assert_eq!(with_half(value, half), text);
        }
        assert_eq!(signed_with_half(0.07, Some(0.024_84)), "+0.070 \u{b1} 0.025");
    }

    #[test]
    fn marks_have_as_many_digits_as_tell_them_apart() {
        assert_eq!(
            labels(&[2.4026, 2.402_605, 2.402_61, 2.402_615, 2.402_62]),
            ["2.4026", "2.402605", "2.40261", "2.402615", "2.40262"]
        );
        assert_eq!(labels(&[1.0, 2.0]), ["1", "2"]);
        assert_eq!(labels(&[2.5]), ["2.5"]);
    }
}
