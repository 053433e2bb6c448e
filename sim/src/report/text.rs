//! Numbers and times as they are read.

/// `5,120`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 entry`, `3 entries`.
pub(super) fn count(value: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(value as u64), if value == 1 { one } else { many })
}

pub(super) fn bytes(value: u64) -> String {
    count(usize::try_from(value).unwrap_or(usize::MAX), "byte", "bytes")
}

/// A moment: `0.047003`, in seconds.
pub(super) fn moment(at_ns: u64) -> String {
    format!("{}.{:06}", at_ns / 1_000_000_000, at_ns / 1_000 % 1_000_000)
}

/// A span of time in the unit that reads best.
pub(super) fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..10_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => format!("{} min {} s", ns / 60_000_000_000, ns / 1_000_000_000 % 60),
    }
}

/// What a system call's error number means.
pub(super) fn errno(code: i32) -> String {
    let text = std::io::Error::from_raw_os_error(code).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read_at_a_glance() {
        let numbers = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((bytes(1), bytes(5_120)), ("1 byte".into(), "5,120 bytes".into()));
        assert_eq!(moment(47_003_999), "0.047003");
        let spans = [900, 4_000, 4_200_000, 410_000_000, 5_140_000_000, 70_000_000_000].map(span);
        assert_eq!(spans, ["900 ns", "4 µs", "4.2 ms", "410 ms", "5.1 s", "1 min 10 s"]);
        assert_eq!(errno(28), "No space left on device");
    }
}
