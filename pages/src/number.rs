//! Numbers as a reader wants them.

/// Four significant digits, as an exponent where that is shorter to read.
pub fn plain(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".into();
    }
    if value.fract() == 0.0 && size < 1e7 {
        return format!("{value:.0}");
    }
    if (1e-3..1e5).contains(&size) {
        let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
        return trimmed(&format!("{value:.decimals$}")).into();
    }
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => text,
    }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The same of a difference: with its sign.
pub fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", plain(value)) } else { plain(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.8235, "0.8235"),
            (0.7, "0.7"),
            (94080.0, "94080"),
            (1.0e-34, "1e-34"),
            (8.614_163e-34, "8.614e-34"),
            (-102.8759, "-102.9"),
        ] {
            assert_eq!(plain(value), text);
        }
        assert_eq!((signed(0.07), signed(-0.07)), ("+0.07".into(), "-0.07".into()));
    }
}
