//! ASCII text in fields of fixed size (Base, 1.4.2.8): left-justified, padded with spaces.

/// Writes `text` into `field`, padded with spaces. What is not printable ASCII becomes a question mark; what does not fit is
/// cut off.
pub(crate) fn fill_text(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (byte, character) in field.iter_mut().zip(text.chars()) {
        let printable = character.is_ascii_graphic() || character == ' ';
        *byte = if printable { character as u8 } else { b'?' };
    }
}

/// The text in `field` without its padding of spaces or NULs; `None` if it is not UTF-8.
pub(crate) fn read_text(field: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(field).ok()?;
    Some(text.trim_end_matches([' ', '\0']))
}
