//! Reservations: codes, data structures, the report.

use crate::{
    Cntlid, HostId, TooShort,
    reservation::{
        AcquireAction, AcquireData, PersistThroughPowerLoss, RegisterAction, RegisterData, Registrant,
        RegistrantEntry, RegistrantExtendedEntry, ReleaseAction, ReleaseData, Report, ReportHeader,
        ReservationKey, ReservationType, capabilities,
    },
};
use proptest::prelude::*;

code_table!(types: ReservationType, u8 {
    1 WriteExclusive,
    2 ExclusiveAccess,
    3 WriteExclusiveRegistrantsOnly,
    4 ExclusiveAccessRegistrantsOnly,
    5 WriteExclusiveAllRegistrants,
    6 ExclusiveAccessAllRegistrants,
});

code_table!(register_actions: RegisterAction, u8 {
    0 Register,
    1 Unregister,
    2 Replace,
});

code_table!(acquire_actions: AcquireAction, u8 {
    0 Acquire,
    1 Preempt,
    2 PreemptAndAbort,
});

code_table!(release_actions: ReleaseAction, u8 {
    0 Release,
    1 Clear,
});

code_table!(persist_through_power_loss: PersistThroughPowerLoss, u8 {
    0 NoChange,
    2 Released,
    3 Persist,
});

#[test]
fn capabilities_by_type() {
    let bits = [
        capabilities::PERSIST_THROUGH_POWER_LOSS,
        capabilities::WRITE_EXCLUSIVE,
        capabilities::EXCLUSIVE_ACCESS,
        capabilities::WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
        capabilities::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
        capabilities::WRITE_EXCLUSIVE_ALL_REGISTRANTS,
        capabilities::EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
        capabilities::IGNORE_EXISTING_KEY_1_3,
    ];
    assert_eq!(bits, [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80]);
}

fields!(register_data: RegisterData, 16 {
    0..8 current_key number,
    8..16 new_key number,
});

fields!(acquire_data: AcquireData, 16 {
    0..8 current_key number,
    8..16 preempt_key number,
});

fields!(release_data: ReleaseData, 8 {
    0..8 current_key number,
});

fields!(report_header: ReportHeader, 24 {
    0..4 generation number,
    4..5 reservation_type number,
    5..7 registrants number,
    7..9 reserved_7 bytes,
    9..10 persist_through_power_loss number,
    10..24 reserved_10 bytes,
});

fields!(registrant_entry: RegistrantEntry, 24 {
    0..2 cntlid number,
    2..3 status number,
    3..8 reserved_3 bytes,
    8..16 host_id bytes,
    16..24 key number,
});

fields!(registrant_extended_entry: RegistrantExtendedEntry, 64 {
    0..2 cntlid number,
    2..3 status number,
    3..8 reserved_3 bytes,
    8..16 key number,
    16..32 host_id bytes,
    32..64 reserved_32 bytes,
});

fn report() -> Report {
    let registrant = |number: u8, holds_reservation| Registrant {
        cntlid: Cntlid(number.into()),
        holds_reservation,
        key: ReservationKey(0x1000 + u64::from(number)),
        host_id: HostId([number, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]),
    };
    Report {
        generation: 5,
        reservation_type: Some(ReservationType::ExclusiveAccessRegistrantsOnly),
        persist_through_power_loss: true,
        registrants: vec![registrant(1, true), registrant(2, false)],
    }
}

#[test]
fn a_report_in_both_forms() {
    let (plain, extended) = (report().encode(false), report().encode(true));
    assert_eq!((plain.len(), extended.len()), (24 + 2 * 24, 64 + 2 * 64));
    assert_eq!(plain[..10], [5, 0, 0, 0, 4, 2, 0, 0, 0, 1]);
    assert_eq!(
        plain[24..27],
        [1, 0, 1],
        "the first is registered through controller 1 and holds"
    );
    assert_eq!(plain[48..51], [2, 0, 0]);
    assert_eq!(extended[64..67], [1, 0, 1]);
    assert_eq!(extended[72..76], [0x01, 0x10, 0, 0]);
    assert_eq!(Report::parse(&plain, false), Ok(report()));
    assert_eq!(Report::parse(&extended, true), Ok(report()));
}

#[test]
fn a_report_that_was_cut_off_tells_whom_it_holds() {
    let plain = report().encode(false);
    assert_eq!(
        Report::parse(&plain[..71], false).map(|report| report.registrants.len()),
        Ok(1)
    );
    let too_short = TooShort {
        needed_bytes: 24,
        got_bytes: 23,
    };
    assert_eq!(Report::parse(&plain[..23], false), Err(too_short));
    assert_eq!(
        Report::parse(&plain[..24], true).map(|report| report.registrants.len()),
        Ok(0)
    );
}

#[test]
fn no_reservation_is_no_type() {
    let none = Report {
        reservation_type: None,
        ..report()
    };
    assert_eq!(none.encode(true)[4], 0);
    assert_eq!(Report::parse(&none.encode(true), true), Ok(none));
}

proptest! {
    #[test]
    fn any_bytes_are_a_report_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        extended: bool,
    ) {
        if let Ok(report) = Report::parse(&bytes, extended) {
            prop_assert_eq!(Report::parse(&report.encode(extended), extended), Ok(report));
        }
    }
}
