//! How much data a command moves and which way, and whether its data pointer says the same.

use super::command::{Refused, Work};
use super::config::TargetConfig;
use block::BLOCK_SIZE;
use nvme::command::DatasetManagementRange;
use nvme::connect::ConnectData;
use nvme::feature::{FeatureIdentifier, HostBehaviorSupportData, TimestampData};
use nvme::reservation::{AcquireData, RegisterData, ReleaseData};
use nvme::{AdminCommand, FabricsCommand, IoCommand, Sgl, Status};

/// Which way data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    None,
    ToController,
    ToHost,
}

/// What a command's data pointer must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) direction: Direction,
    /// At least so much.
    min: u64,
    /// At most so much.
    max: u64,
}

impl Expected {
    const NOTHING: Expected = Expected {
        direction: Direction::None,
        min: 0,
        max: 0,
    };

    fn to_controller(bytes: usize) -> Expected {
        Expected::exactly(Direction::ToController, bytes as u64)
    }

    fn to_host(bytes: u64) -> Expected {
        Expected::exactly(Direction::ToHost, bytes)
    }

    fn exactly(direction: Direction, bytes: u64) -> Expected {
        Expected {
            direction,
            min: bytes,
            max: bytes,
        }
    }
}

/// Features whose values are data.
fn feature_bytes(fid: FeatureIdentifier) -> Option<usize> {
    match fid {
        FeatureIdentifier::HostIdentifier => Some(16),
        FeatureIdentifier::HostBehaviorSupport => Some(HostBehaviorSupportData::SIZE),
        FeatureIdentifier::Timestamp => Some(TimestampData::SIZE),
        _ => None,
    }
}

/// What a command's data pointer must say.
pub(crate) fn expected(work: &Work) -> Result<Expected, Refused> {
    match work {
        Work::Fabrics(FabricsCommand::Connect(_)) => Ok(Expected::to_controller(ConnectData::SIZE)),
        Work::Fabrics(_) => Ok(Expected::NOTHING),
        Work::Admin(command) => Ok(expected_admin(command)),
        Work::Io(command) => Ok(expected_io(command)),
        Work::Refused(refused) => Err(*refused),
    }
}

fn expected_admin(command: &AdminCommand) -> Expected {
    match command {
        AdminCommand::Identify(_) => Expected::to_host(nvme::command::Identify::DATA_SIZE as u64),
        AdminCommand::GetLogPage(page) => Expected::to_host(page.length_bytes()),
        AdminCommand::GetFeatures(features) => match feature_bytes(features.fid) {
            Some(bytes) => Expected::to_host(bytes as u64),
            None => Expected::NOTHING,
        },
        AdminCommand::SetFeatures(features) => match feature_bytes(features.fid) {
            Some(bytes) => Expected::to_controller(bytes),
            None => Expected::NOTHING,
        },
        AdminCommand::AsynchronousEventRequest | AdminCommand::KeepAlive | AdminCommand::Abort(_) => {
            Expected::NOTHING
        }
    }
}

fn expected_io(command: &IoCommand) -> Expected {
    let blocks = |count: u32| u64::from(count) * u64::from(BLOCK_SIZE);
    match command {
        IoCommand::Flush | IoCommand::WriteZeroes(_) => Expected::NOTHING,
        IoCommand::Read(read) => Expected::to_host(blocks(read.blocks.count())),
        IoCommand::Write(write) => Expected::exactly(Direction::ToController, blocks(write.blocks.count())),
        IoCommand::Compare(compare) => {
            Expected::exactly(Direction::ToController, blocks(compare.blocks.count()))
        }
        // Hosts may send all 256 ranges and mean a few.
        IoCommand::DatasetManagement(management) => Expected {
            direction: Direction::ToController,
            min: u64::from(management.ranges.count()) * DatasetManagementRange::SIZE as u64,
            max: 256 * DatasetManagementRange::SIZE as u64,
        },
        IoCommand::ReservationRegister(_) => Expected::to_controller(RegisterData::SIZE),
        IoCommand::ReservationAcquire(_) => Expected::to_controller(AcquireData::SIZE),
        IoCommand::ReservationRelease(_) => Expected::to_controller(ReleaseData::SIZE),
        IoCommand::ReservationReport(report) => Expected::to_host(report.length_bytes()),
    }
}

/// Whether the data pointer and the data in the capsule are what the command needs; how long the data is.
pub(crate) fn check(expected: Expected, sgl: Sgl, in_capsule: u32) -> Result<u32, Refused> {
    let refuse = |status: Status| Err(Refused::from(status.do_not_retry()));
    let length = match (sgl, expected.direction) {
        (Sgl::InCapsule { offset, .. }, _) if offset != 0 => return refuse(Status::SGL_OFFSET_INVALID),
        (Sgl::InCapsule { length, .. }, Direction::ToController) if length == in_capsule => length,
        (Sgl::InCapsule { .. }, Direction::ToController) => return refuse(Status::DATA_SGL_LENGTH_INVALID),
        (Sgl::InCapsule { length: 0, .. }, Direction::None) => 0,
        (Sgl::Transport { length }, _) if in_capsule == 0 => length,
        (Sgl::Transport { .. }, _) => return refuse(Status::INVALID_FIELD),
        (Sgl::InCapsule { .. } | Sgl::Keyed { .. }, _) => return refuse(Status::SGL_DESCRIPTOR_TYPE_INVALID),
    };
    if (expected.min..=expected.max).contains(&u64::from(length)) {
        return Ok(length);
    }
    refuse(Status::DATA_SGL_LENGTH_INVALID)
}

/// Which buffers a command's data goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    One,
    /// And one more of the same length, for what is read to compare with.
    Two,
}

/// The buffers of a command whose data comes from the host; `None` if its data is small and looked at here.
pub(crate) fn wants_buffers(work: &Work) -> Option<Buffers> {
    match work {
        Work::Io(IoCommand::Write(_)) => Some(Buffers::One),
        Work::Io(IoCommand::Compare(_)) => Some(Buffers::Two),
        _ => None,
    }
}

/// How much a command reads for the host from a namespace.
pub(crate) fn read_bytes(work: &Work) -> u32 {
    match work {
        Work::Io(IoCommand::Read(read)) => read.blocks.count() * BLOCK_SIZE,
        _ => 0,
    }
}

impl TargetConfig {
    /// The most data of one command (MDTS).
    pub(crate) fn transfer_bytes_max(&self) -> u32 {
        4096 << self.mdts
    }
}
