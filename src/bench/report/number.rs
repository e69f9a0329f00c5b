//! Numbers for people: three or four digits that say something, thousands apart.

/// A number, or `n/a`.
pub fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return "n/a".into() };
    if value >= 100.0 {
        return thousands(value.round() as u64);
    }
    if value == 0.0 {
        return "0".into();
    }
    // three digits that count
    let before = value.abs().log10().floor() as i32;
    format!("{value:.*}", (2 - before).clamp(0, 12) as usize)
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn digits_that_say_something() {
        let cases = [(1234567.8, "1,234,568"), (123.4, "123"), (25.0, "25.0"), (1.0, "1.00"), (0.01234, "0.0123")];
        for (value, text) in cases.into_iter().chain([(0.0, "0"), (999.7, "1,000"), (4.56e-7, "0.000000456")]) {
            assert_eq!(number(Some(value)), text);
        }
        assert_eq!((number(None), number(Some(f64::NAN))), ("n/a".into(), "n/a".into()));
    }
}
