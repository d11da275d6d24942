//! Commands as the target parses them, their data, and the words of 32 and 64 bits in them: what is parsed is written, and read
//! again it is the same.

use crate::input::Input;
use nvme::connect::{ConnectParameters, ConnectResult, InvalidParameter};
use nvme::{
    AdminCommand, CompletionQueueEntry, FabricsCommand, IoCommand, Nsid, ParameterErrorLocation, Sgl, Status,
    SubmissionQueueEntry, async_event, feature, property,
};

/// One input: an entry, then data.
pub fn run(bytes: &[u8]) {
    let Ok(entry) = SubmissionQueueEntry::parse(bytes) else {
        return;
    };
    assert_eq!(
        SubmissionQueueEntry::from_bytes(entry.to_bytes()).as_bytes(),
        entry.as_bytes()
    );
    commands(&entry);
    let mut words = Input::new(bytes);
    for _ in 0..8 {
        let word = words.long();
        numbers(word as u32);
        half_numbers(word as u16);
        registers(word);
    }
    let data = &bytes[SubmissionQueueEntry::SIZE..];
    if let Ok(Ok(parameters)) = ConnectParameters::parse_bytes(data) {
        let written = parameters.encode();
        assert_eq!(ConnectParameters::parse(&written).as_ref(), Ok(&parameters));
    }
    if let Ok(entry) = CompletionQueueEntry::parse(data) {
        let _ = (entry.status(), entry.result);
    }
}

fn commands(entry: &SubmissionQueueEntry) {
    let (cid, nsid) = (entry.cid(), Nsid(entry.nsid.get()));
    let sgl = Sgl::parse(&entry.sgl);
    let written = sgl.unwrap_or(Sgl::NONE);
    if let Ok(sgl) = sgl {
        assert_eq!(Sgl::parse(&sgl.encode()), Ok(sgl));
    }
    if let Ok(command) = AdminCommand::parse(entry) {
        assert_eq!(AdminCommand::parse(&command.encode(cid, written)), Ok(command));
    }
    if let Ok(command) = IoCommand::parse(entry) {
        let again = command.encode(cid, nsid, written);
        assert_eq!((again.cid(), again.nsid.get()), (cid, nsid.0));
        assert_eq!(IoCommand::parse(&again), Ok(command));
    }
    if let Ok(command) = FabricsCommand::parse(entry) {
        assert_eq!(FabricsCommand::parse(&command.encode(cid, written)), Ok(command));
    }
}

/// What was parsed, written and parsed again is the same.
macro_rules! same {
    ($number:expr, $($kind:ty),+ $(,)?) => {
        $({
            let parsed = <$kind>::parse($number);
            assert_eq!(<$kind>::parse(parsed.encode()), parsed);
        })+
    };
}

fn numbers(number: u32) {
    same!(
        number,
        feature::SupportedCapabilities,
        feature::Arbitration,
        feature::PowerManagement,
        feature::TemperatureThreshold,
        feature::ErrorRecovery,
        feature::Switch,
        feature::KeepAliveTimer,
        feature::HostIdentifier,
        feature::ReservationNotificationMask,
        property::Version,
        property::Configuration,
        property::ControllerStatus,
        property::ReadyTimeouts,
        InvalidParameter,
        ConnectResult,
        nvme::log::CommandEffects,
    );
    if let Ok(queues) = feature::NumberOfQueues::parse(number) {
        assert_eq!(feature::NumberOfQueues::parse(queues.encode()), Ok(queues));
    }
    if let Some(event) = async_event::AsyncEvent::parse(number) {
        assert_eq!(async_event::AsyncEvent::parse(event.encode()), Some(event));
    }
}

fn half_numbers(number: u16) {
    // Bit 0 is the phase tag, which is no part of the status.
    let status = Status::parse(number);
    assert_eq!(Status::parse(status.encode()), status);
    if let Some(location) = ParameterErrorLocation::parse(number) {
        assert_eq!(ParameterErrorLocation::parse(location.encode()), Some(location));
    }
}

fn registers(number: u64) {
    same!(number, property::Capabilities);
}
