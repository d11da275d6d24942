//! Values as people write them, checked: names, sizes, NQNs.

use cluster::Nqn;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A value that is not allowed. The text is for people; [`InvalidValue::hint`] says what is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Not a name.
    #[error("{field} {value:?} is no name")]
    Name {
        /// Of the body.
        field: &'static str,
        /// As given, shortened.
        value: String,
    },
    /// A name that could be taken for an id.
    #[error("{field} {value:?} reads as an id")]
    NameIsId {
        /// Of the body.
        field: &'static str,
        /// As given.
        value: String,
    },
    /// Not a size.
    #[error("{field} {value} is no size")]
    Size {
        /// Of the body.
        field: &'static str,
        /// As given, shortened.
        value: String,
    },
    /// A size that is not between its bounds.
    #[error("{field} {value} is not between {min} and {max} bytes")]
    SizeRange {
        /// Of the body.
        field: &'static str,
        /// As given, shortened.
        value: String,
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A size that is not whole units.
    #[error("{field} {bytes} bytes is not a multiple of {unit}")]
    SizeUnit {
        /// Of the body.
        field: &'static str,
        /// As given.
        bytes: u64,
        /// Of which it must be a multiple.
        unit: u64,
    },
    /// A number that is not between its bounds.
    #[error("{field} {value} is not between {min} and {max}")]
    NumberRange {
        /// Of the body.
        field: &'static str,
        /// As given.
        value: i64,
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Not an NQN.
    #[error("{field} {value:?} is no NVMe qualified name: {reason}")]
    Nqn {
        /// Of the body.
        field: &'static str,
        /// As given, shortened.
        value: String,
        /// Why.
        reason: &'static str,
    },
    /// A text that is too long or not printable.
    #[error("{field} {value:?} is too long or not printable")]
    Text {
        /// Of the body.
        field: &'static str,
        /// As given, shortened.
        value: String,
    },
}

impl InvalidValue {
    /// What is allowed.
    pub fn hint(&self) -> String {
        match self {
            InvalidValue::Name { .. } => {
                "use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit".into()
            }
            InvalidValue::NameIsId { .. } => "choose a name that is no UUID".into(),
            InvalidValue::Size { .. } => {
                "give whole bytes as a number, or text with a binary unit: 4096, \"64KiB\", \"100GiB\", \"2TiB\"".into()
            }
            InvalidValue::SizeRange { min, max, .. } => format!(
                "choose from {} to {}",
                cluster::size::size_text(*min),
                cluster::size::size_text(*max)
            ),
            InvalidValue::SizeUnit { bytes, unit, .. } => {
                format!("the next multiple is {}", bytes.checked_next_multiple_of(*unit).unwrap_or(*bytes))
            }
            InvalidValue::NumberRange { min, max, .. } => format!("choose from {min} to {max}"),
            InvalidValue::Nqn { .. } => {
                "give the host's own NQN: on Linux, what `cat /etc/nvme/hostnqn` prints".into()
            }
            InvalidValue::Text { .. } => "use at most 255 printable characters".into(),
        }
    }
}

/// What is shown of a value that may be anything.
fn shortened(value: &str) -> String {
    if value.chars().count() <= 80 {
        value.into()
    } else {
        value.chars().take(77).chain("...".chars()).collect()
    }
}

/// A name: 1 to 63 of `a-z`, `0-9` and `-`, neither first nor last a `-`, and no UUID (ids and names share paths).
///
/// Errors: [`InvalidValue::Name`], [`InvalidValue::NameIsId`].
pub fn parse_name(field: &'static str, value: &str) -> Result<String, InvalidValue> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let whole = (1..=63).contains(&value.len()) && value.bytes().all(inner);
    if !whole || value.starts_with('-') || value.ends_with('-') {
        return Err(InvalidValue::Name {
            field,
            value: shortened(value),
        });
    }
    if Uuid::try_parse(value).is_ok() {
        return Err(InvalidValue::NameIsId {
            field,
            value: value.into(),
        });
    }
    Ok(value.into())
}

/// A host's NQN (Base 2.1, 4.7): at most 223 bytes of UTF-8, `nqn.yyyy-mm.` and a domain, and not the discovery
/// subsystem's.
///
/// Errors: [`InvalidValue::Nqn`].
pub fn parse_host_nqn(field: &'static str, value: &str) -> Result<Nqn, InvalidValue> {
    let refused = |reason| {
        Err(InvalidValue::Nqn {
            field,
            value: shortened(value),
            reason,
        })
    };
    if value.len() > 223 {
        return refused("it is longer than 223 bytes");
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refused("it has spaces or control characters");
    }
    if !has_nqn_form(value) {
        return refused("it does not begin with nqn.yyyy-mm. and a domain");
    }
    if value == "nqn.2014-08.org.nvmexpress.discovery" {
        return refused("it is the discovery subsystem's");
    }
    Ok(Nqn(value.into()))
}

fn has_nqn_form(value: &str) -> bool {
    let Some((date, domain)) = value.strip_prefix("nqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let digit_or = |(index, byte): (usize, u8)| {
        if index == 4 {
            byte == b'-'
        } else {
            byte.is_ascii_digit()
        }
    };
    date.len() == 7 && date.bytes().enumerate().all(digit_or) && !domain.is_empty()
}

/// A size in a request: bytes as a number, or text with a binary unit. Anything else is kept as it is and refused by
/// [`parse_size`], so that people are told what a size is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SizeInput {
    /// `4096`, also `-1` or `1.5`, which are refused later.
    Number(serde_json::Number),
    /// `"100GiB"`.
    Text(String),
}

impl SizeInput {
    /// So many bytes.
    pub fn bytes(bytes: u64) -> SizeInput {
        SizeInput::Number(bytes.into())
    }
}

impl utoipa::PartialSchema for SizeInput {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9]+ ?([KMGTP]iB|B)?$"));
        OneOfBuilder::new()
            .item(number)
            .item(text)
            .description(Some("Bytes as a number, or text with a binary unit: \"100GiB\"."))
            .into()
    }
}
impl utoipa::ToSchema for SizeInput {}

/// A size between bounds and in whole units.
///
/// Errors: [`InvalidValue::Size`], [`InvalidValue::SizeRange`], [`InvalidValue::SizeUnit`].
pub fn parse_size(
    field: &'static str,
    input: &SizeInput,
    range: core::ops::RangeInclusive<u64>,
    unit: u64,
) -> Result<u64, InvalidValue> {
    let (min, max) = (*range.start(), *range.end());
    let out_of_range = |value: &str| InvalidValue::SizeRange {
        field,
        value: shortened(value),
        min,
        max,
    };
    let bytes = match input {
        SizeInput::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(bytes), _) => bytes,
            (None, Some(_)) => return Err(out_of_range(&number.to_string())),
            (None, None) => {
                return Err(InvalidValue::Size {
                    field,
                    value: shortened(&number.to_string()),
                });
            }
        },
        SizeInput::Text(text) => match size_of_text(text) {
            SizeText::Bytes(bytes) => bytes,
            SizeText::TooLarge => return Err(out_of_range(text)),
            SizeText::NoSize => {
                return Err(InvalidValue::Size {
                    field,
                    value: format!("{:?}", shortened(text)),
                });
            }
        },
    };
    if !range.contains(&bytes) {
        return Err(out_of_range(&bytes.to_string()));
    }
    if !bytes.is_multiple_of(unit) {
        return Err(InvalidValue::SizeUnit { field, bytes, unit });
    }
    Ok(bytes)
}

enum SizeText {
    Bytes(u64),
    TooLarge,
    NoSize,
}

fn size_of_text(text: &str) -> SizeText {
    let text = text.trim();
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "PiB" => 50,
        _ => return SizeText::NoSize,
    };
    if digits.is_empty() {
        return SizeText::NoSize;
    }
    // Digits only, so all that can go wrong is that there are too many.
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(1 << shift));
    bytes.map_or(SizeText::TooLarge, SizeText::Bytes)
}

/// An `Idempotency-Key`: 1 to 128 of letters, digits, `-`, `_`, `.`, `:`.
///
/// Errors: [`InvalidValue::Text`].
pub fn check_idempotency_key(value: &str) -> Result<(), InvalidValue> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if (1..=128).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(InvalidValue::Text {
        field: "Idempotency-Key",
        value: shortened(value),
    })
}

/// A free text of one line, such as a location.
///
/// Errors: [`InvalidValue::Text`].
pub(crate) fn parse_text(field: &'static str, value: &str) -> Result<String, InvalidValue> {
    if value.chars().count() > 255 || value.chars().any(char::is_control) {
        return Err(InvalidValue::Text {
            field,
            value: shortened(value),
        });
    }
    Ok(value.into())
}

/// A small number between bounds.
///
/// Errors: [`InvalidValue::NumberRange`].
pub(crate) fn parse_count(
    field: &'static str,
    value: i64,
    range: core::ops::RangeInclusive<u8>,
) -> Result<u8, InvalidValue> {
    let (min, max) = (i64::from(*range.start()), i64::from(*range.end()));
    u8::try_from(value)
        .ok()
        .filter(|value| range.contains(value))
        .ok_or(InvalidValue::NumberRange {
            field,
            value,
            min,
            max,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "a-b", "vol-01", "a--b", &longest] {
            assert_eq!(parse_name("name", good).as_deref(), Ok(good));
        }
        let too_long = "a".repeat(64);
        let odd = [
            "", "-", "-a", "a-", "A", "a_b", "a b", "a/b", "a.b", "ä", "a\0", "a\n", "../x", "a%2fb",
            &too_long,
        ];
        for bad in odd {
            assert!(
                matches!(parse_name("name", bad), Err(InvalidValue::Name { .. })),
                "{bad:?}"
            );
        }
        for id in [
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6ba7b8109dad11d180b400c04fd430c8",
        ] {
            assert!(
                matches!(parse_name("name", id), Err(InvalidValue::NameIsId { .. })),
                "{id}"
            );
        }
        let shown = parse_name("name", &"x y".repeat(10_000))
            .expect_err("spaces")
            .to_string();
        assert!(shown.len() < 200, "a refusal repeats no endless text");
    }

    #[test]
    fn sizes() {
        let parse = |json: &str| {
            let input: SizeInput = serde_json::from_str(json).expect("a number or text");
            parse_size("size", &input, 4096..=1 << 50, 4096)
        };
        for (json, bytes) in [
            ("4096", 4096),
            ("\"4096\"", 4096),
            ("\"4KiB\"", 4096),
            ("\"100GiB\"", 100 << 30),
            ("\"100 GiB\"", 100 << 30),
            ("\" 2TiB \"", 2 << 40),
            ("\"1PiB\"", 1 << 50),
            ("\"8192B\"", 8192),
        ] {
            assert_eq!(parse(json), Ok(bytes), "{json}");
        }
        for json in [
            "0",
            "-1",
            "-9223372036854775808",
            "18446744073709551615",
            "\"0\"",
            "\"2PiB\"",
            "\"1KiB\"",
        ] {
            assert!(
                matches!(parse(json), Err(InvalidValue::SizeRange { .. })),
                "{json}"
            );
        }
        for json in [
            "\"99999999999999999999\"",
            "\"99999999999PiB\"",
            "1125899906846977",
        ] {
            assert!(
                matches!(parse(json), Err(InvalidValue::SizeRange { .. })),
                "{json}"
            );
        }
        for json in [
            "1.5",
            "1e40",
            "\"\"",
            "\"GiB\"",
            "\"1GB\"",
            "\"1.5GiB\"",
            "\"-1\"",
            "\"1gib\"",
            "\"0x10\"",
            "\"١\"",
        ] {
            assert!(matches!(parse(json), Err(InvalidValue::Size { .. })), "{json}");
        }
        for json in ["4097", "\"5000B\""] {
            assert!(
                matches!(parse(json), Err(InvalidValue::SizeUnit { .. })),
                "{json}"
            );
        }
        assert_eq!(
            parse("4097").expect_err("odd").hint(),
            "the next multiple is 8192"
        );
    }

    #[test]
    fn nqns() {
        let longest = format!("nqn.2014-08.org.nvmexpress:{}", "x".repeat(196));
        for good in [
            "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "nqn.2020-01.a:b",
            &longest,
        ] {
            assert!(parse_host_nqn("nqn", good).is_ok(), "{good}");
        }
        let too_long = format!("{longest}x");
        for bad in [
            "",
            "nqn",
            "nqn.",
            "iqn.2014-08.org.x",
            "nqn.2014.org.x",
            "nqn.2014-8.org.x",
            "nqn.2014-08.",
            "nqn.2014-08.org.nvmexpress.discovery",
            "nqn.2014-08.a b",
            "nqn.2014-08.a\0",
            "nqn.2014\u{663}08.x",
            &too_long,
        ] {
            assert!(parse_host_nqn("nqn", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn idempotency_keys() {
        assert!(
            check_idempotency_key("a-b_c.d:0").is_ok() && check_idempotency_key(&"k".repeat(128)).is_ok()
        );
        for bad in ["", "a/b", "a b", "ä", &"k".repeat(129)] {
            assert!(check_idempotency_key(bad).is_err(), "{bad:?}");
        }
    }
}
