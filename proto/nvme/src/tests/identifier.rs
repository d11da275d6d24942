//! Identifiers: special values, zero-based numbers, how they print.

use crate::{Cid, Cntlid, Eui64, HostId, Nguid, Nsid, Qid, Uuid, ZeroBased};
use proptest::prelude::*;

#[test]
fn special_values() {
    assert_eq!((Nsid::NONE, Nsid::ALL), (Nsid(0), Nsid(0xFFFF_FFFF)));
    assert_eq!(
        (Cntlid::DYNAMIC, Cntlid::STATIC_ANY, Cntlid::MAX),
        (Cntlid(0xFFFF), Cntlid(0xFFFE), Cntlid(0xFFEF))
    );
    assert_eq!(Qid::ADMIN, Qid(0));
    let valid = [Nsid(0), Nsid(1), Nsid(0xFFFF_FFFE), Nsid(0xFFFF_FFFF)].map(Nsid::is_valid);
    assert_eq!(valid, [false, true, true, false]);
    assert_eq!([Qid(0), Qid(1)].map(Qid::is_admin), [true, false]);
}

#[test]
fn how_they_print() {
    let ascending: [u8; 16] = core::array::from_fn(|index| index as u8 * 0x11);
    assert_eq!(Nsid(7).to_string(), "7");
    assert_eq!(Cid(9).to_string(), "9");
    assert_eq!(Nguid(ascending).to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(HostId(ascending).to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(Eui64([1, 2, 3, 4, 5, 6, 7, 8]).to_string(), "0102030405060708");
    assert_eq!(
        Uuid(ascending).to_string(),
        "00112233-4455-6677-8899-aabbccddeeff"
    );
}

#[test]
fn zeroes_stand_for_none() {
    assert!(HostId::default().is_zero() && Nguid::default().is_zero() && Eui64::default().is_zero());
    assert!(Uuid::default().is_zero() && !Uuid([1; 16]).is_zero());
    assert!(!HostId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).is_zero());
}

#[test]
fn zero_based_numbers() {
    assert_eq!(
        ZeroBased::<u8>::from_count(256).map(|number| number.raw),
        Some(255)
    );
    assert_eq!(
        ZeroBased::<u16>::from_count(65536).map(|number| number.raw),
        Some(65535)
    );
    assert_eq!(
        ZeroBased::<u32>::from_count(1 << 32).map(|number| number.raw),
        Some(u32::MAX)
    );
    assert_eq!(ZeroBased::<u8>::from_count(257), None);
    assert_eq!(ZeroBased::<u16>::from_count(65537), None);
    assert_eq!(ZeroBased::<u32>::from_count((1 << 32) + 1), None);
    assert_eq!(ZeroBased::<u16>::from_count(0), None);
    assert_eq!(ZeroBased::<u16>::from_raw(0).count(), 1);
}

proptest! {
    #[test]
    fn zero_based_numbers_are_one_more(raw: u16) {
        let number = ZeroBased::<u16>::from_raw(raw);
        prop_assert_eq!(number.count(), u32::from(raw) + 1);
        prop_assert_eq!(ZeroBased::<u16>::from_count(number.count()), Some(number));
    }
}
