//! Log pages (Base 2.1, section 5.1.12): their contents, and what reading them does to events.

use super::async_event::EventKind;
use super::command::Refused;
use super::config::Portal;
use super::controller::{Controller, Counters};
use super::identify::View;
use super::subsystem::Subsystem;
use nvme::command::{AdminOpcode, GetLogPage, IoOpcode};
use nvme::log::discovery::transport_requirements;
use nvme::log::{
    AnaGroup, AnaLog, ChangedNamespaceList, CommandEffects, CommandsSupportedAndEffects, DiscoveryEntry,
    DiscoveryLog, FirmwareSlotInformation, LogPageIdentifier, SmartHealthInformation, SubsystemType,
    SupportedLogPages,
};
use nvme::{InvalidField, Nqn, Nsid, Status, U128};
use std::collections::{BTreeMap, BTreeSet};

const IO_PAGES: &[LogPageIdentifier] = &[
    LogPageIdentifier::SupportedLogPages,
    LogPageIdentifier::ErrorInformation,
    LogPageIdentifier::SmartHealthInformation,
    LogPageIdentifier::FirmwareSlotInformation,
    LogPageIdentifier::ChangedAttachedNamespaceList,
    LogPageIdentifier::CommandsSupportedAndEffects,
    LogPageIdentifier::AsymmetricNamespaceAccess,
    LogPageIdentifier::ReservationNotification,
];

const DISCOVERY_PAGES: &[LogPageIdentifier] = &[
    LogPageIdentifier::SupportedLogPages,
    LogPageIdentifier::ErrorInformation,
    LogPageIdentifier::Discovery,
];

/// A whole log page, other than the discovery log page.
pub(crate) fn contents(view: &View<'_>, page: &GetLogPage) -> Result<Vec<u8>, Refused> {
    let pages = if view.discovery { DISCOVERY_PAGES } else { IO_PAGES };
    if !pages.contains(&page.lid) {
        return Err(Status::INVALID_LOG_PAGE.do_not_retry().into());
    }
    let controller = view.controller;
    Ok(match page.lid {
        LogPageIdentifier::SupportedLogPages => {
            SupportedLogPages::new(pages.iter().copied()).to_bytes().to_vec()
        }
        LogPageIdentifier::ErrorInformation => controller.errors.page(),
        LogPageIdentifier::SmartHealthInformation => smart(controller, page.nsid)?,
        LogPageIdentifier::FirmwareSlotInformation => firmware(),
        LogPageIdentifier::ChangedAttachedNamespaceList => {
            let changed = controller.changed_namespaces.iter().map(|nsid| Nsid(*nsid));
            ChangedNamespaceList::new(changed).to_bytes().to_vec()
        }
        LogPageIdentifier::CommandsSupportedAndEffects => {
            effects(view.subsystem.config.reservations).to_bytes().to_vec()
        }
        LogPageIdentifier::AsymmetricNamespaceAccess => {
            let groups_only = page.lsp & AnaLog::RETURN_GROUPS_ONLY != 0;
            ana(view.subsystem, &controller.host).encode(groups_only)
        }
        LogPageIdentifier::ReservationNotification => controller.notifications.oldest().to_bytes().to_vec(),
        _ => return Err(Status::INVALID_LOG_PAGE.do_not_retry().into()),
    })
}

/// The part of a log page that was asked for; zeroes behind its end.
pub(crate) fn part(contents: &[u8], page: &GetLogPage) -> Result<Vec<u8>, Refused> {
    const LPO_OFFSET: u8 = 48;
    let offset = usize::try_from(page.offset)
        .ok()
        .filter(|offset| *offset <= contents.len());
    let offset = offset
        .filter(|_| !page.offset_is_index)
        .ok_or(InvalidField::at(LPO_OFFSET))?;
    let length = usize::try_from(page.length_bytes()).expect("at most MDTS");
    let end = contents.len().min(offset + length);
    let mut bytes = contents[offset..end].to_vec();
    bytes.resize(length, 0);
    Ok(bytes)
}

/// The host read a log page and does not ask to retain its event.
pub(crate) fn was_read(controller: &mut Controller, lid: LogPageIdentifier) {
    controller.events.log_read(lid);
    match lid {
        LogPageIdentifier::ChangedAttachedNamespaceList => controller.changed_namespaces.clear(),
        LogPageIdentifier::ReservationNotification => {
            controller.notifications.drop_oldest();
            if !controller.notifications.is_empty() {
                controller.events.raise(EventKind::ReservationNotice);
            }
        }
        _ => {}
    }
}

fn smart(controller: &Controller, nsid: Nsid) -> Result<Vec<u8>, Refused> {
    if nsid != Nsid::NONE && nsid != Nsid::ALL {
        return Err(InvalidField::at(4).into());
    }
    let Counters {
        reads,
        writes,
        bytes_read,
        bytes_written,
        media_errors,
    } = controller.counters;
    // Thousands of 512 bytes, rounded up.
    let units = |bytes: u64| U128::new(bytes.div_ceil(512_000).into());
    let mut smart = SmartHealthInformation::default();
    smart.available_spare = 100;
    smart.available_spare_threshold = 10;
    smart.data_units_read = units(bytes_read);
    smart.data_units_written = units(bytes_written);
    smart.host_read_commands = U128::new(reads.into());
    smart.host_write_commands = U128::new(writes.into());
    smart.media_errors = U128::new(media_errors.into());
    smart.error_log_entries = U128::new(controller.errors.count.into());
    Ok(smart.to_bytes().to_vec())
}

fn firmware() -> Vec<u8> {
    let mut slots = FirmwareSlotInformation::default();
    slots.active = 1;
    slots.revisions[0] = [b' '; 8];
    for (byte, text) in slots.revisions[0]
        .iter_mut()
        .zip(env!("CARGO_PKG_VERSION").bytes())
    {
        *byte = text;
    }
    slots.to_bytes().to_vec()
}

fn effects(reservations: bool) -> CommandsSupportedAndEffects {
    let mut effects = CommandsSupportedAndEffects::default();
    for opcode in [
        AdminOpcode::GetLogPage,
        AdminOpcode::Identify,
        AdminOpcode::Abort,
        AdminOpcode::SetFeatures,
        AdminOpcode::GetFeatures,
        AdminOpcode::AsynchronousEventRequest,
        AdminOpcode::KeepAlive,
    ] {
        effects.set_admin(opcode, CommandEffects::SUPPORTED);
    }
    for opcode in [IoOpcode::Flush, IoOpcode::Read, IoOpcode::Compare] {
        effects.set_io(opcode, CommandEffects::SUPPORTED);
    }
    for opcode in [
        IoOpcode::Write,
        IoOpcode::WriteZeroes,
        IoOpcode::DatasetManagement,
    ] {
        effects.set_io(opcode, CommandEffects::CHANGES_CONTENT);
    }
    if reservations {
        for opcode in [
            IoOpcode::ReservationRegister,
            IoOpcode::ReservationReport,
            IoOpcode::ReservationAcquire,
            IoOpcode::ReservationRelease,
        ] {
            effects.set_io(opcode, CommandEffects::SUPPORTED);
        }
    }
    effects
}

/// The ANA groups of the namespaces that a host sees.
fn ana(subsystem: &Subsystem, host: &str) -> AnaLog {
    let mut by_group: BTreeMap<u32, Vec<Nsid>> = BTreeMap::new();
    for (nsid, namespace) in subsystem.visible(host) {
        by_group
            .entry(namespace.config.ana_group)
            .or_default()
            .push(Nsid(nsid));
    }
    let groups = by_group.into_iter().map(|(group, namespaces)| {
        let known = subsystem.ana.group(group);
        AnaGroup {
            group,
            change_count: known.change_count,
            state: known.state,
            namespaces,
        }
    });
    AnaLog {
        change_count: subsystem.ana.change_count,
        groups: groups.collect(),
    }
}

/// The discovery log page (Base 2.1, section 5.1.12.3.1) of these subsystems.
pub(crate) fn discovery<'a>(
    generation: u64,
    subsystems: impl Iterator<Item = (&'a str, &'a BTreeSet<Portal>)>,
) -> Vec<u8> {
    let mut entries = Vec::new();
    for (name, portals) in subsystems {
        for portal in portals {
            let entry = DiscoveryEntry {
                subsystem_type: SubsystemType::Nvm,
                subsystem: Nqn::parse(name).expect("checked when told"),
                address: portal.address.ip(),
                port: portal.address.port(),
                port_id: portal.port,
                transport_requirements: transport_requirements::SECURE_CHANNEL_NOT_SPECIFIED
                    | transport_requirements::DISABLE_SQ_FLOW_CONTROL,
                flags: 0,
            };
            entries.push(entry.encode());
        }
    }
    DiscoveryLog { generation, entries }.encode()
}
