//! Qualified names: what is one, and how it stands in its field.

use crate::{
    Nqn,
    nqn::{DISCOVERY, InvalidNqn},
};
use proptest::prelude::*;

#[test]
fn what_is_a_name() {
    let longest = format!("nqn.{}", "a".repeat(219));
    let too_long = format!("nqn.{}", "a".repeat(220));
    let rows: &[(&str, Result<(), InvalidNqn>)] = &[
        (
            "nqn.2014-08.org.nvmexpress:uuid:9e1fbd0e-8b3d-4b52-9d0c-1f3a6a8e0001",
            Ok(()),
        ),
        ("nqn.2024-01.io.trestle:pool.a", Ok(())),
        ("nqn.not-a-date", Ok(())),
        ("nqn.2024-01.io.trestle:ünïcode", Ok(())),
        (DISCOVERY, Ok(())),
        (&longest, Ok(())),
        (&too_long, Err(InvalidNqn::TooLong)),
        ("", Err(InvalidNqn::Prefix)),
        ("nqn", Err(InvalidNqn::Prefix)),
        ("nqn.", Err(InvalidNqn::Prefix)),
        ("NQN.2014-08.org.nvmexpress:a", Err(InvalidNqn::Prefix)),
        ("iqn.2014-08.org.example:a", Err(InvalidNqn::Prefix)),
        (" nqn.2014-08.org.example:a", Err(InvalidNqn::Prefix)),
        ("nqn.a\nb", Err(InvalidNqn::Character)),
        ("nqn.a\0b", Err(InvalidNqn::Character)),
    ];
    for (text, expected) in rows {
        let parsed = text.parse::<Nqn>();
        assert_eq!(
            parsed.as_ref().map(|_| ()).map_err(|error| *error),
            *expected,
            "{text:?}"
        );
        if let Ok(name) = parsed {
            assert_eq!((name.as_str(), name.to_string()), (*text, text.to_string()));
        }
    }
}

#[test]
fn the_field_is_padded_with_nul() {
    let name = Nqn::parse("nqn.x").unwrap();
    let field = name.to_field();
    assert_eq!(field[..5], *b"nqn.x");
    assert_eq!(field[5..], [0; 251]);
    assert_eq!(Nqn::parse_field(&field), Ok(name));
}

#[test]
fn what_is_no_field() {
    let filled = |bytes: &[u8], padding| {
        let mut field = [padding; 256];
        field[..bytes.len()].copy_from_slice(bytes);
        Nqn::parse_field(&field)
    };
    assert_eq!(filled(b"nqn.x", b'a'), Err(InvalidNqn::TooLong), "no NUL at all");
    assert_eq!(filled(&[b'a'; 224], 0), Err(InvalidNqn::TooLong));
    assert_eq!(filled(b"", 0), Err(InvalidNqn::Prefix));
    assert_eq!(filled(b"nqn.\xFF", 0), Err(InvalidNqn::Character));
    assert_eq!(
        filled(b"nqn.x\0garbage", 0),
        Nqn::parse("nqn.x"),
        "what follows the NUL does not count"
    );
}

#[test]
fn the_discovery_subsystem_is_known() {
    assert_eq!(Nqn::discovery().as_str(), "nqn.2014-08.org.nvmexpress.discovery");
    assert!(Nqn::discovery().is_discovery());
    assert!(
        !Nqn::parse("nqn.2014-08.org.nvmexpress.discovery2")
            .unwrap()
            .is_discovery()
    );
}

#[test]
fn refusals_say_what_is_wrong() {
    for error in [InvalidNqn::Prefix, InvalidNqn::TooLong, InvalidNqn::Character] {
        assert!(error.to_string().starts_with("a qualified name"));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_name_or_refused(field in proptest::array::uniform32(any::<[u8; 8]>())) {
        let _ = Nqn::parse_field(field.as_flattened().try_into().unwrap());
    }

    #[test]
    fn names_survive_their_field(tail in "[ -~]{1,219}") {
        let name = Nqn::parse(&format!("nqn.{tail}")).unwrap();
        prop_assert_eq!(Nqn::parse_field(&name.to_field()), Ok(name));
    }
}
