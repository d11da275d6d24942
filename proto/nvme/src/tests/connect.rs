//! Connect data and results.

use crate::{
    Cntlid, HostId, Nqn,
    connect::{ConnectData, ConnectParameters, ConnectResult, InvalidParameter},
};
use proptest::prelude::*;

fields!(connect_data: ConnectData, 1024 {
    0..16 hostid bytes,
    16..18 cntlid number,
    18..256 reserved_18 bytes,
    256..512 subnqn bytes,
    512..768 hostnqn bytes,
    768..1024 reserved_768 bytes,
});

fn parameters() -> ConnectParameters {
    ConnectParameters {
        host_id: HostId([7; 16]),
        cntlid: Cntlid::DYNAMIC,
        subsystem: Nqn::parse("nqn.subsystem").unwrap(),
        host: Some(Nqn::parse("nqn.host").unwrap()),
    }
}

#[test]
fn parameters_survive_the_wire() {
    let data = parameters().encode();
    assert_eq!(
        data.as_bytes()[..18],
        [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0xFF, 0xFF]
    );
    assert_eq!(data.as_bytes()[256..270], *b"nqn.subsystem\0");
    assert_eq!(data.as_bytes()[512..521], *b"nqn.host\0");
    assert_eq!(ConnectParameters::parse(&data), Ok(parameters()));
    assert_eq!(
        ConnectParameters::parse_bytes(data.as_bytes()),
        Ok(Ok(parameters()))
    );
    assert_eq!(
        ConnectParameters::parse_bytes(&data.as_bytes()[..1023]).map_err(|error| error.needed_bytes),
        Err(1024)
    );
}

#[test]
fn a_host_may_be_nameless() {
    let nameless = ConnectParameters {
        host: None,
        ..parameters()
    };
    assert_eq!(ConnectParameters::parse(&nameless.encode()), Ok(nameless.clone()));
    assert_eq!((nameless.host_name(), parameters().host_name()), ("", "nqn.host"));
}

#[test]
fn a_field_that_is_no_name_is_pointed_at() {
    let mut data = parameters().encode();
    data.subnqn[0] = b'i';
    assert_eq!(
        ConnectParameters::parse(&data),
        Err(InvalidParameter::in_data(256))
    );
    let mut data = parameters().encode();
    data.hostnqn = [b'a'; 256];
    assert_eq!(
        ConnectParameters::parse(&data),
        Err(InvalidParameter::in_data(512))
    );
}

bit_fields!(invalid_parameter: InvalidParameter, u32 {
    offset = 0xFFFF => 0..16 0xFFFF,
    in_data = true => 16..17 1,
});

bit_fields!(connect_result: ConnectResult, u32 {
    cntlid = Cntlid(0xFFFF) => 0..16 0xFFFF,
    authentication_required = 0xFFFF => 16..32 0xFFFF,
});

#[test]
fn results_that_hosts_know() {
    // What hosts test for: bit 17 authenticate, bit 18 authenticate and secure.
    assert_eq!(u32::from(ConnectResult::AUTHREQ_TRANSACTION) << 16, 1 << 17);
    assert_eq!(u32::from(ConnectResult::AUTHREQ_SECURE_CHANNEL) << 16, 1 << 18);
    let offsets = [
        InvalidParameter::HOSTID,
        InvalidParameter::CNTLID,
        InvalidParameter::SUBNQN,
        InvalidParameter::HOSTNQN,
    ];
    assert_eq!(offsets, [0, 16, 256, 512]);
    assert_eq!(
        InvalidParameter::in_data(InvalidParameter::CNTLID).encode(),
        0x1_0010
    );
    assert_eq!(InvalidParameter::in_entry(42).encode(), 42);
}

proptest! {
    #[test]
    fn any_bytes_are_parameters_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        if let Ok(Ok(parameters)) = ConnectParameters::parse_bytes(&bytes) {
            prop_assert_eq!(ConnectParameters::parse(&parameters.encode()), Ok(parameters));
        }
    }
}
