//! Single values, which a file may spell as TOML does and a flag as text.

use std::{fmt, marker::PhantomData, num::NonZeroU64, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A number of bytes. Written as a whole number and one of the suffixes `B`, `K`, `M`, `G`, `T`
/// (powers of 1024, either case); a number without a suffix counts MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 5] = [('T', 40), ('G', 30), ('M', 20), ('K', 10), ('B', 0)];
const MIB: u32 = 20;
const FORM: &str =
    "a whole number with K, M, G or T (or B), as in 512M or 2G; without a letter it counts MiB";

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let suffix = text.chars().last().map(|last| last.to_ascii_uppercase());
        let unit = UNITS.iter().find(|(letter, _)| suffix == Some(*letter));
        let (digits, shift) = match unit {
            Some((_, shift)) => (text.get(..text.len() - 1).unwrap_or_default(), *shift),
            None => (text, MIB),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{text:?} is no size; a size is {FORM}"));
        }
        let bytes = digits.parse().ok().and_then(|number: u64| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| format!("{text:?} is too large; sizes end below 2^64 bytes"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |shift: u32| self.0 > 0 && self.0.trailing_zeros() >= shift;
        match UNITS.iter().find(|(_, shift)| whole(*shift)) {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => f.write_str("0B"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            expected: FORM,
            parse: str::parse::<Self>,
            kind: PhantomData,
        })
    }
}

/// `on` and `off`, or TOML's `true` and `false`.
pub(super) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    const FORM: &str = "on or off";
    let parse = |text: &str| match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(format!("{text:?} is no switch; a switch is {FORM}")),
    };
    deserializer.deserialize_any(Text { expected: FORM, parse, kind: PhantomData })
}

/// A whole number from 0 to 2^32 - 1.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const FORM: &str = "a whole number from 0 to 4294967295";
    let parse = |text: &str| {
        text.parse::<u32>().map_err(|_| format!("{text:?} is not right; this is {FORM}"))
    };
    deserializer.deserialize_any(Text { expected: FORM, parse, kind: PhantomData })
}

/// The same, where nothing may be said.
pub(super) fn some_count<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    count(deserializer).map(Some)
}

/// A whole number, which may end with one of the letters of [`Size`] as a factor.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    const FORM: &str = "a whole number, perhaps with K, M, G or T (powers of 1024), as in 10M";
    let parse = |text: &str| {
        let plain = text.parse().ok();
        let number = plain.or_else(|| text.parse().ok().map(|Size(number)| number));
        number.ok_or_else(|| format!("{text:?} is no number; this is {FORM}"))
    };
    deserializer.deserialize_any(Text { expected: FORM, parse, kind: PhantomData })
}

/// How much there may be of something in a time: a [`number`] that is not 0.
pub(super) fn rate<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU64>, D::Error> {
    let rate = number(deserializer)?;
    let none = || D::Error::custom("a rate of 0; leave it out for no limit, or give 1 and more");
    NonZeroU64::new(rate).map(Some).ok_or_else(none)
}

/// What `parse` makes of a scalar in any spelling; `expected` says what it should be.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Text { expected, parse, kind: PhantomData })
}

/// Reads every spelling of a scalar as its text.
struct Text<P, T> {
    expected: &'static str,
    parse: P,
    kind: PhantomData<T>,
}

impl<T, P: Fn(&str) -> Result<T, String>> Visitor<'_> for Text<P, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.visit_str(if value { "true" } else { "false" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024_and_a_bare_number_counts_mebibytes() {
        let sizes = ["4096K", "512m", "5G", "1T", "64", "1000B"]
            .map(|text| text.parse::<Size>().unwrap().0);
        assert_eq!(sizes, [4 << 20, 512 << 20, 5 << 30, 1 << 40, 64 << 20, 1000]);
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_value_and_the_form() {
        for text in ["", "M", "1.5G", "512MB", "0x10", "-1", "+1", " 1", "1é"] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("512M"), "{error}");
        }
    }

    #[test]
    fn a_size_beyond_the_address_space_is_too_large() {
        assert_eq!(
            "16777216T".parse::<Size>().unwrap_err(),
            "\"16777216T\" is too large; sizes end below 2^64 bytes"
        );
        assert!("99999999999999999999".parse::<Size>().unwrap_err().contains("too large"));
    }

    #[test]
    fn a_size_is_shown_in_its_largest_whole_unit() {
        let shown = [0, 1, 4096, 512 << 20, 5 << 30].map(|bytes| Size(bytes).to_string());
        assert_eq!(shown, ["0B", "1B", "4K", "512M", "5G"]);
    }
}
