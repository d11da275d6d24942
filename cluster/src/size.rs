//! Sizes as people write them.

/// A number of bytes in the largest binary unit that it is a whole number of: `10 GiB`, `4097 B`.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let whole = |shift: &u32| bytes > 0 && bytes.trailing_zeros() >= *shift;
    let (unit, shift) = UNITS
        .into_iter()
        .find(|(_, shift)| whole(shift))
        .unwrap_or(("B", 0));
    format!("{} {unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::size_text;

    #[test]
    fn the_largest_unit_without_a_remainder() {
        for (bytes, text) in [
            (0, "0 B"),
            (4097, "4097 B"),
            (4096, "4 KiB"),
            (4 << 20, "4 MiB"),
            (100 << 30, "100 GiB"),
            (1 << 40, "1 TiB"),
            ((1 << 40) + (1 << 30), "1025 GiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
