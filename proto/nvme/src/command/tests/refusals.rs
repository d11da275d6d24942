//! What is refused: with which status, at which byte and bit.

use super::*;

/// A row: where a good entry is spoilt, and the refusal.
type Spoilt = (fn(&mut SubmissionQueueEntry), Status, u8, u8);

fn check_refusals<T: core::fmt::Debug + PartialEq>(
    good: SubmissionQueueEntry,
    parse: fn(&SubmissionQueueEntry) -> Result<T, InvalidField>,
    rows: &[Spoilt],
) {
    assert!(parse(&good).is_ok());
    for (index, (spoil, status, byte, bit)) in rows.iter().enumerate() {
        let mut entry = good;
        spoil(&mut entry);
        assert_eq!(
            parse(&entry),
            Err(InvalidField::with(*status, *byte, *bit)),
            "row {index}"
        );
    }
}

#[test]
fn admin_commands_that_are_refused() {
    let identify = admin(AdminCommand::Identify(Identify::new(Cns::Namespace, Nsid(1))));
    check_refusals(
        identify,
        AdminCommand::parse,
        &[
            (|entry| entry.flags |= 1, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags |= 2, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0x00, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.flags = 0x80, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.flags = 0xC0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0x03, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x01, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x7F, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.cdw10 = U32::new(0xFF), Status::INVALID_FIELD, 40, 0),
        ],
    );
    let page = GetLogPage::new(LogPageIdentifier::ErrorInformation, Nsid::ALL, 0, 64);
    check_refusals(
        admin(AdminCommand::GetLogPage(page)),
        AdminCommand::parse,
        &[
            (
                |entry| entry.cdw10 = U32::new(0xC0),
                Status::INVALID_LOG_PAGE,
                40,
                0,
            ),
            (|entry| entry.cdw12 = U32::new(2), Status::INVALID_FIELD, 48, 0),
        ],
    );
    let feature = GetFeatures::new(FeatureIdentifier::NumberOfQueues);
    check_refusals(
        admin(AdminCommand::GetFeatures(feature)),
        AdminCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(0x00), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(0x407),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
    let feature = SetFeatures::new(FeatureIdentifier::NumberOfQueues, 0);
    check_refusals(
        admin(AdminCommand::SetFeatures(feature)),
        AdminCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(0xC0), Status::INVALID_FIELD, 40, 0)],
    );
}

#[test]
fn fabrics_commands_that_are_refused() {
    check_refusals(
        fabrics(FabricsCommand::Connect(CONNECT)),
        FabricsCommand::parse,
        &[
            (|entry| entry.flags |= 1, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0x06, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.nsid = U32::new(2), Status::INVALID_OPCODE, 4, 0),
            (
                |entry| entry.cdw10 = U32::new(1),
                Status::CONNECT_INCOMPATIBLE_FORMAT,
                40,
                0,
            ),
            (
                |entry| entry.cdw11 = U32::new(0),
                Status::CONNECT_INVALID_PARAMETERS,
                44,
                0,
            ),
        ],
    );
    let property_get = PropertyGet {
        size: PropertySize::Four,
        offset: 0x1C,
    };
    check_refusals(
        fabrics(FabricsCommand::PropertyGet(property_get)),
        FabricsCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(2), Status::INVALID_FIELD, 40, 0)],
    );
    let property_set = PropertySet {
        size: PropertySize::Four,
        offset: 0x14,
        value: 0,
    };
    check_refusals(
        fabrics(FabricsCommand::PropertySet(property_set)),
        FabricsCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(7), Status::INVALID_FIELD, 40, 0)],
    );
    check_refusals(
        fabrics(FabricsCommand::Disconnect(Disconnect)),
        FabricsCommand::parse,
        &[(
            |entry| entry.cdw10 = U32::new(1),
            Status::CONNECT_INCOMPATIBLE_FORMAT,
            40,
            0,
        )],
    );
}

#[test]
fn io_commands_that_are_refused() {
    check_refusals(
        io(IoCommand::Write(Write::new(BLOCKS))),
        IoCommand::parse,
        &[
            (|entry| entry.flags |= 2, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0xFF, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x04, Status::INVALID_OPCODE, 0, 0),
            (
                |entry| (entry.cdw10, entry.cdw11) = (U32::new(u32::MAX), U32::new(u32::MAX)),
                Status::LBA_OUT_OF_RANGE,
                40,
                0,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationRegister(REGISTER)),
        IoCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(3), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(1 << 30),
                Status::INVALID_FIELD,
                43,
                6,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationAcquire(ACQUIRE)),
        IoCommand::parse,
        &[
            (
                |entry| entry.cdw10 = U32::new(0x103),
                Status::INVALID_FIELD,
                40,
                0,
            ),
            (
                |entry| entry.cdw10 = U32::new(0x000),
                Status::INVALID_FIELD,
                41,
                0,
            ),
            (
                |entry| entry.cdw10 = U32::new(0x700),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationRelease(RELEASE)),
        IoCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(2), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(0x700),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
}
