//! Durations, sizes and bandwidths as people write them: `200us..5ms`, `-2h`, `5KiB`, `1Gbit`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A duration: `200us`, `5ms`, `4s`, `10min`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// A duration that may be negative: `-2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignedSpan {
    pub negative: bool,
    pub span: Duration,
}

/// A range of durations, `200us..5ms`, or one duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanRange {
    pub from: Duration,
    pub to: Duration,
}

/// A number of bytes: `0`, `300B`, `5KiB`, `1MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Bits per second: `1Gbit`, `100Mbit`, `64kbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bandwidth(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    #[error(
        "`{0}` is no duration: write a number and a unit, as in `200us`, `5ms`, `4s`, `10min`, `1h`"
    )]
    Span(String),
    #[error("`{0}` is no range of durations: write `200us..5ms`, the shorter one first, or `5ms`")]
    SpanRange(String),
    #[error("`{0}` is no size: write a number and a unit, as in `300B`, `5KiB`, `1MB`, `2GiB`")]
    Size(String),
    #[error("`{0}` is no bandwidth: write bits per second, as in `64kbit`, `100Mbit`, `1Gbit`")]
    Bandwidth(String),
}

const SPANS: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

const BANDWIDTHS: [(&str, u64); 3] =
    [("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];

/// A number, perhaps with a decimal point, times its unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|char: char| !char.is_ascii_digit() && char != '.' && char != '_');
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let number = number.replace('_', "");
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(*factor),
        Some((whole, fraction)) => {
            let whole = whole.parse::<u64>().ok()?.checked_mul(*factor)?;
            let digits =
                u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
            let part = fraction.parse::<u64>().ok()?.checked_mul(*factor)? / 10_u64.pow(digits);
            whole.checked_add(part)
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let nanoseconds = match text {
            "0" => Some(0),
            text => scaled(text, &SPANS),
        };
        let error = || UnitError::Span(text.to_owned());
        nanoseconds.map(|nanoseconds| Self(Duration::from_nanos(nanoseconds))).ok_or_else(error)
    }
}

impl FromStr for SignedSpan {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let Span(span) = rest.parse().map_err(|_| UnitError::Span(text.to_owned()))?;
        Ok(Self { negative, span })
    }
}

impl SignedSpan {
    pub fn as_nanos(&self) -> i128 {
        let nanoseconds = i128::try_from(self.span.as_nanos()).unwrap_or(i128::MAX);
        if self.negative { -nanoseconds } else { nanoseconds }
    }
}

impl FromStr for SpanRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (from.trim().parse::<Span>(), to.trim().parse::<Span>()) {
            (Ok(from), Ok(to)) if from <= to => Ok(Self { from: from.0, to: to.0 }),
            _ => Err(UnitError::SpanRange(text.to_owned())),
        }
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, &SIZES).map(Self).ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl FromStr for Bandwidth {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bits = scaled(text, &BANDWIDTHS).filter(|bits| *bits > 0);
        bits.map(Self).ok_or_else(|| UnitError::Bandwidth(text.to_owned()))
    }
}

macro_rules! try_from_string {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
    )*};
}

try_from_string!(Span, SignedSpan, SpanRange, Size, Bandwidth);

/// The largest unit of which a number is a whole multiple.
fn written(number: u64, units: &[(&str, u64)]) -> String {
    let whole =
        units.iter().filter(|(name, factor)| !name.is_empty() && number.is_multiple_of(*factor));
    match whole.max_by_key(|(_, factor)| *factor) {
        Some((name, factor)) => format!("{}{name}", number / factor),
        None => number.to_string(),
    }
}

/// Durations are written in the unit that shows them whole; below a microsecond they have decimals.
fn written_span(span: Duration) -> String {
    let nanoseconds = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    match nanoseconds % 1_000 {
        _ if nanoseconds == 0 => "0s".to_owned(),
        0 => written(nanoseconds, &SPANS),
        rest => format!("{}.{rest:03}us", nanoseconds / 1_000),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written_span(self.0))
    }
}

impl fmt::Display for SignedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negative { "-" } else { "" }, written_span(self.span))
    }
}

impl fmt::Display for SpanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", written_span(self.from), written_span(self.to))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.0 == 0 { "0B".to_owned() } else { written(self.0, &SIZES) })
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0, &BANDWIDTHS))
    }
}

macro_rules! into_string {
    ($($type:ty),*) => {$(
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

into_string!(Span, SignedSpan, SpanRange, Size, Bandwidth);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let span = |text: &str| text.parse::<Span>().map(|Span(span)| span);
        assert_eq!(span("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("10 min"), Ok(Duration::from_secs(600)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "4 parsecs", "s", "-4s", "1.s", "1.2.3s", "99999999999999h"] {
            assert_eq!(span(wrong), Err(UnitError::Span(wrong.to_owned())), "{wrong}");
        }
        assert_eq!("-2h".parse::<SignedSpan>().unwrap().as_nanos(), -7_200_000_000_000);
        assert_eq!("+1ms".parse::<SignedSpan>().unwrap().as_nanos(), 1_000_000);
    }

    #[test]
    fn ranges_run_upwards() {
        let range = |text: &str| text.parse::<SpanRange>().map(|range| (range.from, range.to));
        let (short, long) = (Duration::from_micros(200), Duration::from_millis(5));
        assert_eq!(range("200us..5ms"), Ok((short, long)));
        assert_eq!(range("5ms"), Ok((long, long)));
        for wrong in ["5ms..200us", "5ms..", "..5ms", "5ms-6ms"] {
            assert_eq!(range(wrong), Err(UnitError::SpanRange(wrong.to_owned())));
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in ["200us", "1500ms", "0s", "90s", "1h", "12.345us", "3d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse(), Ok(span), "{text}");
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "90s");
        assert_eq!("1.5s".parse::<Span>().unwrap().to_string(), "1500ms");
        assert_eq!("-2h".parse::<SignedSpan>().unwrap().to_string(), "-2h");
        assert_eq!("200us..5ms".parse::<SpanRange>().unwrap().to_string(), "200us..5ms");
        for text in ["0B", "1B", "1000B", "5KiB", "2GiB", "1025B"] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.to_string().parse(), Ok(size), "{text}");
        }
        assert_eq!("5120".parse::<Size>().unwrap().to_string(), "5KiB");
        assert_eq!("1Gbit".parse::<Bandwidth>().unwrap().to_string(), "1Gbit");
        assert_eq!("1500kbit".parse::<Bandwidth>().unwrap().to_string(), "1500kbit");
    }

    #[test]
    fn sizes_and_bandwidths() {
        assert_eq!("5KiB".parse(), Ok(Size(5_120)));
        assert_eq!("0".parse(), Ok(Size(0)));
        assert_eq!("1_000".parse(), Ok(Size(1_000)));
        assert_eq!("1Gbit".parse(), Ok(Bandwidth(1_000_000_000)));
        assert!("5 Kib".parse::<Size>().is_err());
        assert!("1GiB".parse::<Bandwidth>().is_err());
        assert!("0Mbit".parse::<Bandwidth>().is_err());
    }
}
