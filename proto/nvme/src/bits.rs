//! Bit fields of 8 to 64 bits, by the specification's own numbering: lowest bit and width.

/// The `width` bits of `value` from bit `low`.
pub(crate) const fn field(value: u64, low: u32, width: u32) -> u64 {
    (value >> low) & mask(width)
}

/// Bit `number` of `value`.
pub(crate) const fn bit(value: u64, number: u32) -> bool {
    field(value, number, 1) == 1
}

/// `value`, which fits in `width` bits, moved to bit `low`. What does not fit is cut off: the parsed types hold such
/// fields in the next larger integer, and a stray high bit must not leak into its neighbour.
pub(crate) const fn place(value: u64, low: u32, width: u32) -> u64 {
    (value & mask(width)) << low
}

/// A flag at bit `number`.
pub(crate) const fn flag(value: bool, number: u32) -> u64 {
    (value as u64) << number
}

const fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}
