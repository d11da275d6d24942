//! Sizes as people write them: `4096`, `512MiB`, `100GiB`, `1TB`.

/// Bytes of a size. Whole numbers with an optional unit: `KiB`, `MiB`, `GiB`, `TiB`, `PiB` (powers of 1024), `kB`, `MB`,
/// `GB`, `TB`, `PB` (powers of 1000), or none (bytes).
///
/// # Errors
/// What was expected, for people.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wanted = || format!("'{text}' is not a size: write a whole number and a unit, such as 100GiB");
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "PiB" | "P" => 1 << 50,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        _ => return Err(wanted()),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("'{text}' is more than 64 bits can count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_people_write() {
        let rows = [
            ("4096", 4096),
            ("0", 0),
            ("1KiB", 1024),
            ("512MiB", 512 << 20),
            ("100 GiB", 100 << 30),
            ("1T", 1 << 40),
            ("2TB", 2_000_000_000_000),
            (" 7B ", 7),
            ("16383PiB", 16383 << 50),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "1.5GiB",
            "1GiBs",
            "99999999PiB",
            "18446744073709551616",
            "0x10",
            "１",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
