//! Sizes as people write them: `500B`, `64KiB`, `20MB`, `2GiB`.

/// Bytes. A number without a unit is none: nobody could tell what was meant.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|char: char| !char.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("500B", 500),
            ("64KiB", 65_536),
            ("2 GiB", 2 << 30),
            ("20MB", 20_000_000),
            ("1kB", 1_000),
            ("16TiB", 16 << 40),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "1", "MiB", "-1B", "1.5MiB", "1mib", "1 M", "99999999TiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
