//! Tables that tests are written as: one row for each field, checked both ways.
//!
//! The rows are a second writing of the layouts, made from the specification and from another implementation's headers, not
//! from our structures. A table whose rows leave a gap, overlap, or stop early fails, so no field can be forgotten.

/// A field that is a number on the wire.
pub(crate) trait Number: Sized {
    fn number(&self) -> u128;
    fn from_number(number: u128) -> Self;
}

impl Number for u8 {
    fn number(&self) -> u128 {
        (*self).into()
    }
    fn from_number(number: u128) -> u8 {
        number.try_into().expect("rows of one byte")
    }
}

macro_rules! numbers {
    ($($wire:ident $native:ty,)+) => {$(
        impl Number for crate::$wire {
            fn number(&self) -> u128 {
                self.get().into()
            }
            fn from_number(number: u128) -> Self {
                Self::new(<$native>::try_from(number).expect("the row is as wide as the field"))
            }
        }
    )+};
}
numbers! { U16 u16, U32 u32, U64 u64, U128 u128, }

/// Bytes that differ from their neighbours and from zero, for a field at `start`.
pub(crate) fn pattern(start: usize, length: usize) -> Vec<u8> {
    (start..start + length)
        .map(|offset| (offset * 37 % 251 + 1) as u8)
        .collect()
}

/// The number that little-endian bytes say.
pub(crate) fn little_endian(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Panics unless the rows follow each other from 0 to `size`.
pub(crate) fn check_rows(rows: &[(usize, usize, &str)], size: usize) {
    let end = rows.iter().fold(0, |expected, (start, end, name)| {
        assert_eq!(*start, expected, "{name} begins where the row before ends");
        *end
    });
    assert_eq!(end, size, "the rows cover the structure");
}

/// A fixed structure: rows `start..end field number` or `start..end field bytes`, every byte in exactly one.
macro_rules! fields {
    ($test:ident: $structure:ty, $size:literal { $($start:literal..$end:literal $field:ident $kind:ident,)+ }) => {
        #[test]
        fn $test() {
            assert_eq!(<$structure>::SIZE, $size);
            // A function for each row: 4096 bytes a copy, and all rows' copies would not fit on one stack frame.
            $({ fn row() {
                let pattern = crate::table::pattern($start, $end - $start);
                let mut bytes = [0; $size];
                bytes[$start..$end].copy_from_slice(&pattern);

                let read = <$structure>::from_bytes(bytes);
                fields!(@read $kind, read.$field, pattern, stringify!($field));
                let mut written = <$structure>::default();
                fields!(@write $kind, written.$field, pattern);
                assert_eq!(written.to_bytes(), bytes, "{} is written where it belongs", stringify!($field));
            } row(); })+
            crate::table::check_rows(&[$(($start, $end, stringify!($field)),)+], $size);
        }
    };
    (@read number, $field:expr, $pattern:ident, $name:expr) => {
        assert_eq!(crate::table::Number::number(&$field), crate::table::little_endian(&$pattern), "{}", $name)
    };
    (@read bytes, $field:expr, $pattern:ident, $name:expr) => {
        assert_eq!(zerocopy::IntoBytes::as_bytes(&$field), $pattern, "{}", $name)
    };
    (@write number, $field:expr, $pattern:ident) => {
        $field = crate::table::Number::from_number(crate::table::little_endian(&$pattern))
    };
    (@write bytes, $field:expr, $pattern:ident) => {
        $field = zerocopy::FromBytes::read_from_bytes(&$pattern).expect("the row is as wide as the field")
    };
}

/// A parsed type in one number: rows `field = value => low..high raw`. Every field, no two over each other.
macro_rules! bit_fields {
    ($test:ident: $parsed:ty, $number:ty {
        $($($field:ident).+ = $value:expr => $low:literal..$high:literal $raw:expr,)+
    }) => {
        #[test]
        fn $test() {
            let mut taken: $number = 0;
            $({
                let mask = ((1u128 << $high) - (1u128 << $low)) as $number;
                assert_eq!(taken & mask, 0, "{} overlaps another row", stringify!($($field).+));
                taken |= mask;
                let raw = (($raw as u128) << $low) as $number;
                let mut value = <$parsed>::parse(0);
                assert_ne!(value.$($field).+, $value, "a row says something else than zero");
                value.$($field).+ = $value;
                assert_eq!(value.encode(), raw, "{} is written where it belongs", stringify!($($field).+));
                assert_eq!(<$parsed>::parse(raw), value, "{} is read where it is", stringify!($($field).+));
            })+
            let all = <$parsed>::parse(taken);
            assert_eq!(<$parsed>::parse(<$number>::MAX), all, "what no row covers is ignored");
            assert_eq!(all.encode(), taken, "what the rows cover is kept");
        }
    };
}

/// A code table: every code of the type with its name, and nothing else is a code.
macro_rules! code_table {
    ($test:ident: $codes:ident, $number:ty { $($code:literal $name:ident,)+ }) => {
        #[test]
        fn $test() {
            let rows = [$(($code as $number, $codes::$name),)+];
            for (code, name) in rows {
                assert_eq!(name.code(), code);
                assert_eq!($codes::from_code(code), Some(name));
                assert!(!name.to_string().is_empty());
            }
            assert_eq!($codes::ALL, rows.map(|(_, name)| name), "the rows are all codes, in order");
            for code in 0..=0x1FF {
                let known = rows.iter().any(|(row, _)| u64::from(*row) == code);
                let code = <$number>::try_from(code);
                assert_eq!(code.is_ok_and(|code| $codes::from_code(code).is_some()), known);
            }
        }
    };
}
