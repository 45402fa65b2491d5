//! Numbers, compared by what they are worth: exactly.

use std::cmp::Ordering;

/// A decimal number of any length.
///
/// Two texts of one number are one `Decimal`: `1.10` and `1.1`, `1e2` and `100`, `-0` and
/// `0`. Floats would take `9007199254740993` for `9007199254740992`, and `1e400` for
/// infinity.
///
/// The digits are without zeros at either end, and stand behind the point:
/// `0.digits × 10^exponent`. Zero has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decimal {
    negative: bool,
    exponent: i64,
    digits: Box<[u8]>,
}

/// What may stand behind `e`: more than anybody needs, and sums of two fit `i64`.
const MAX_EXPONENT: i64 = 1_000_000_000_000_000;

impl Decimal {
    /// Reads a number as JSON has it; `None` if its exponent has more than 15 digits, so
    /// that it is worth nothing anybody could mean.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        if !digits().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let Some(first) = digits().position(|digit| digit != b'0') else {
            return Some(Self {
                negative: false,
                exponent: 0,
                digits: Box::default(),
            });
        };
        let last = digits().rev().position(|digit| digit != b'0').unwrap_or(0);
        let count = whole.len() + fraction.len() - last - first;
        let exponent = read_exponent(exponent)?;
        // Texts are far shorter than 2^62.
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(first).ok()?;
        Some(Self {
            negative,
            exponent: exponent + point,
            digits: digits().skip(first).take(count).collect(),
        })
    }

    fn size(&self, other: &Self) -> Ordering {
        // Zero is smaller than anything, whatever the exponent.
        let (is_more, is_other_more) = (!self.digits.is_empty(), !other.digits.is_empty());
        is_more
            .cmp(&is_other_more)
            .then(self.exponent.cmp(&other.exponent))
            // Behind the point, so the first digit that differs decides.
            .then_with(|| self.digits.cmp(&other.digits))
    }
}

fn read_exponent(text: &str) -> Option<i64> {
    let exponent: i64 = text.parse().ok()?;
    (-MAX_EXPONENT..=MAX_EXPONENT)
        .contains(&exponent)
        .then_some(exponent)
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.size(other),
            (true, true) => other.size(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    #[test]
    fn one_number_may_be_written_in_many_ways() {
        let cases: [&[&str]; 7] = [
            &["1.1", "1.10", "11e-1", "0.11E+1", "110000e-5", "1.1e0"],
            &["0", "-0", "0.000", "0e999999999999999999999999", "-0.0E-5"],
            &["100", "1e2", "1E+2", "100.0", "1000e-1"],
            &["-5", "-5.0", "-50e-1"],
            &["0.001", "1e-3", "10e-4", "0.00100"],
            &["1e400", "10e399", "0.1e401"],
            &[
                "9007199254740993",
                "9007199254740993.0",
                "9.007199254740993e15",
            ],
        ];
        for texts in cases {
            for text in texts {
                assert_eq!(read(text), read(texts[0]), "{text}");
            }
        }
    }

    #[test]
    fn numbers_are_ordered_by_what_they_are_worth() {
        let ascending = [
            "-1e400",
            "-1e399",
            "-10",
            "-9.99",
            "-9",
            "-0.1",
            "-1e-400",
            "0",
            "1e-401",
            "1e-400",
            "0.1",
            "0.11",
            "0.2",
            "1",
            "1.0000000000000000000000000001",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e399",
            "1.5e400",
            "2e400",
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                let expected = index.cmp(&other_index);
                assert_eq!(read(one).cmp(&read(other)), expected, "{one} {other}");
            }
        }
    }

    #[test]
    fn an_absurd_exponent_is_no_number() {
        for text in [
            "1e1000000000000001",
            "1e-1000000000000001",
            "1e99999999999999999999",
        ] {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
        assert!(Decimal::read("1e1000000000000000").is_some());
    }

    proptest! {
        #[test]
        fn whole_numbers_are_ordered_as_ever(one in any::<i128>(), other in any::<i128>()) {
            let (a, b) = (read(&one.to_string()), read(&other.to_string()));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn fractions_are_ordered_as_ever(one in -1_000_000..1_000_000_i64, other in -1_000_000..1_000_000_i64, zeros in 0..4_usize) {
            let text = |number: i64| format!("{number}{}e-{}", "0".repeat(zeros), 3 + zeros);
            let point = |number: i64| {
                let sign = if number < 0 { "-" } else { "" };
                format!("{sign}{}.{:03}", number.abs() / 1000, number.abs() % 1000)
            };
            prop_assert_eq!(read(&text(one)), read(&point(one)));
            prop_assert_eq!(read(&text(one)).cmp(&read(&point(other))), one.cmp(&other));
        }
    }
}
