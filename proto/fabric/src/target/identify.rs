//! Identify (Base 2.1, section 5.1.13): what a host learns of controllers and namespaces. Pure: a view in, 4096 bytes
//! out.

use super::ana::ANA_GROUPS_MAX;
use super::async_event::REQUESTS_MAX;
use super::command::Refused;
use super::config::TargetConfig;
use super::controller::{Controller, ERROR_LOG_ENTRIES};
use super::namespace::Namespace;
use super::subsystem::Subsystem;
use nvme::async_event::AsyncEventSet;
use nvme::command::{Cns, Identify};
use nvme::identify::command_set::{
    CSI_NVM, IndependentNamespace, IoCommandSets, NvmIdentifyController, NvmIdentifyNamespace, nstat,
};
use nvme::identify::controller::{
    ControllerType, IdentifyController, anacap, cmic, ctratt, lpa, oncs, sgls, vwc,
};
use nvme::identify::descriptor::{NamespaceIdentification, NamespaceIdentificationDescriptors};
use nvme::identify::list::{ControllerList, NamespaceList};
use nvme::identify::namespace::{IdentifyNamespace, LbaFormat, dlfeat, nmic, nsfeat};
use nvme::property::Version;
use nvme::reservation::capabilities;
use nvme::{InvalidField, Nguid, Nqn, Nsid, Status, U16, U32, U64, Uuid};

/// The model number (MN) and firmware revision (FR) of every controller.
const MODEL: &str = "Trestle";
const FIRMWARE: &str = env!("CARGO_PKG_VERSION");

/// MNAN: namespaces that one host may see. Hosts size their ANA log buffers by it.
pub(crate) const NAMESPACES_MAX: u32 = 1024;

/// LBADS of every namespace: blocks of 4096 bytes.
const LBA_DATA_SIZE: u8 = 12;

/// The events that I/O controllers tell (OAES).
pub(crate) const IO_EVENTS: AsyncEventSet =
    AsyncEventSet::NAMESPACE_ATTRIBUTE.union(AsyncEventSet::ANA_CHANGE);
/// The events that discovery controllers tell (OAES).
pub(crate) const DISCOVERY_EVENTS: AsyncEventSet = AsyncEventSet::DISCOVERY_CHANGE;

/// What an admin command may look at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) config: &'a TargetConfig,
    pub(crate) subsystem: &'a Subsystem,
    pub(crate) controller: &'a Controller,
    pub(crate) discovery: bool,
}

impl View<'_> {
    fn namespace(&self, nsid: Nsid) -> Result<&Namespace, Refused> {
        self.subsystem
            .visible_namespace(&self.controller.host, nsid.0)
            .ok_or(Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry().into())
    }

    fn visible(&self) -> impl Iterator<Item = Nsid> {
        self.subsystem
            .visible(&self.controller.host)
            .map(|(nsid, _)| Nsid(nsid))
    }
}

/// The data of an Identify command.
pub(crate) fn data(view: &View<'_>, identify: &Identify) -> Result<Vec<u8>, Refused> {
    const CNS_OFFSET: u8 = 40;
    let unsupported = Refused::from(InvalidField::at(CNS_OFFSET));
    if view.discovery && identify.cns != Cns::Controller {
        return Err(unsupported);
    }
    let nsid = identify.nsid;
    Ok(match identify.cns {
        Cns::Controller => controller(view).to_bytes().to_vec(),
        Cns::Namespace => namespace(view.namespace(nsid)?).to_bytes().to_vec(),
        Cns::ActiveNamespaceList | Cns::AllocatedNamespaceList => list(view, nsid)?,
        Cns::NamespaceIdentificationDescriptors => descriptors(view.namespace(nsid)?),
        Cns::IndependentNamespace => independent(view.namespace(nsid)?).to_bytes().to_vec(),
        Cns::ControllerList => controllers(view, identify),
        Cns::IoCommandSets => IoCommandSets::nvm_only().to_bytes().to_vec(),
        Cns::CommandSetNamespace | Cns::CommandSetController | Cns::CommandSetActiveNamespaceList => {
            return of_command_set(view, identify);
        }
        _ => return Err(unsupported),
    })
}

/// Structures of one I/O command set: there is only the NVM command set.
fn of_command_set(view: &View<'_>, identify: &Identify) -> Result<Vec<u8>, Refused> {
    const CSI_OFFSET: u8 = 47;
    if identify.csi != CSI_NVM {
        return Err(InvalidField::at(CSI_OFFSET).into());
    }
    match identify.cns {
        Cns::CommandSetNamespace => {
            view.namespace(identify.nsid)?;
            Ok(NvmIdentifyNamespace::default().to_bytes().to_vec())
        }
        Cns::CommandSetController => {
            let version = Version {
                major: 1,
                minor: 1,
                tertiary: 0,
            };
            let mut controller = NvmIdentifyController::default();
            controller.ver = U32::new(version.encode());
            Ok(controller.to_bytes().to_vec())
        }
        _ => list(view, identify.nsid),
    }
}

fn list(view: &View<'_>, after: Nsid) -> Result<Vec<u8>, Refused> {
    if after.0 >= 0xffff_fffe {
        return Err(Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry().into());
    }
    Ok(NamespaceList::new(view.visible(), after).to_bytes().to_vec())
}

/// The controllers that the host has itself: others are none of its business.
fn controllers(view: &View<'_>, identify: &Identify) -> Vec<u8> {
    let controllers = view.subsystem.controllers.values();
    let own = controllers.filter(|controller| controller.host_id == view.controller.host_id);
    ControllerList::new(own.map(|controller| controller.cntlid), identify.cntid)
        .to_bytes()
        .to_vec()
}

fn descriptors(namespace: &Namespace) -> Vec<u8> {
    let uuid = namespace.config.uuid;
    let identifications = vec![
        NamespaceIdentification::Nguid(Nguid(uuid)),
        NamespaceIdentification::Uuid(Uuid(uuid)),
        NamespaceIdentification::Csi(CSI_NVM),
    ];
    NamespaceIdentificationDescriptors(identifications)
        .encode()
        .to_vec()
}

fn reservation_capabilities(namespace: &Namespace) -> u8 {
    match namespace.reservations {
        Some(_) => {
            capabilities::PERSIST_THROUGH_POWER_LOSS
                | capabilities::WRITE_EXCLUSIVE
                | capabilities::EXCLUSIVE_ACCESS
                | capabilities::WRITE_EXCLUSIVE_REGISTRANTS_ONLY
                | capabilities::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
                | capabilities::WRITE_EXCLUSIVE_ALL_REGISTRANTS
                | capabilities::EXCLUSIVE_ACCESS_ALL_REGISTRANTS
                | capabilities::IGNORE_EXISTING_KEY_1_3
        }
        None => 0,
    }
}

fn namespace(namespace: &Namespace) -> IdentifyNamespace {
    let size = U64::new(namespace.config.size_blocks.0);
    let mut data = IdentifyNamespace::default();
    data.nsze = size;
    data.ncap = size;
    data.nuse = size;
    data.nsfeat = nsfeat::IDENTIFIERS_NOT_REUSED;
    data.nmic = nmic::SHARED;
    data.rescap = reservation_capabilities(namespace);
    data.dlfeat = dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATES;
    data.anagrpid = U32::new(namespace.config.ana_group);
    data.nguid = namespace.config.uuid;
    data.lbaf[0] = LbaFormat::new(LBA_DATA_SIZE);
    data
}

fn independent(namespace: &Namespace) -> IndependentNamespace {
    let mut data = IndependentNamespace::default();
    data.nsfeat = nsfeat::IDENTIFIERS_NOT_REUSED;
    data.nmic = nmic::SHARED;
    data.rescap = reservation_capabilities(namespace);
    data.anagrpid = U32::new(namespace.config.ana_group);
    data.nstat = nstat::READY;
    data
}

fn controller(view: &View<'_>) -> IdentifyController {
    let mut data = common(view);
    match view.discovery {
        true => {
            data.cntrltype = ControllerType::Discovery.code();
            data.dctype = 1;
            data.oaes = U32::new(DISCOVERY_EVENTS.0);
        }
        false => describe_io(view, &mut data),
    }
    data
}

/// What I/O and discovery controllers have in common.
fn common(view: &View<'_>) -> IdentifyController {
    let mut data = IdentifyController::default();
    data.rab = 6;
    data.mdts = view.config.mdts;
    data.cntlid = U16::new(view.controller.cntlid.0);
    data.ver = U32::new(Version::V2_1.encode());
    data.ctratt = U32::new(ctratt::HOST_ID_128_BIT | ctratt::TRAFFIC_BASED_KEEP_ALIVE);
    data.acl = 3;
    data.aerl = u8::try_from(REQUESTS_MAX - 1).expect("few");
    data.frmw = 0b11;
    data.lpa = lpa::EXTENDED_DATA | lpa::SUPPORTED_LOG_PAGES;
    data.elpe = u8::try_from(ERROR_LOG_ENTRIES - 1).expect("few");
    data.kas = U16::new(1);
    data.maxcmd = U16::new(view.config.queue_entries_max);
    data.sgls = U32::new(sgls::SUPPORTED | sgls::OFFSET | sgls::TRANSPORT);
    data.ioccsz = U32::new((64 + view.config.in_capsule_bytes) / 16);
    data.iorcsz = U32::new(1);
    data.msdbd = 1;
    data.set_serial_number(&view.subsystem.config.serial);
    data.set_model_number(MODEL);
    data.set_firmware_revision(FIRMWARE);
    data.subnqn = Nqn::parse(&view.subsystem.config.nqn)
        .expect("checked when told")
        .to_field();
    data
}

fn describe_io(view: &View<'_>, data: &mut IdentifyController) {
    let reservations = match view.subsystem.config.reservations {
        true => oncs::RESERVATIONS,
        false => 0,
    };
    let highest = view.subsystem.namespaces.keys().next_back().unwrap_or(0);
    data.cntrltype = ControllerType::Io.code();
    data.cmic = cmic::MULTIPLE_PORTS | cmic::MULTIPLE_CONTROLLERS | cmic::ANA_REPORTING;
    data.oaes = U32::new(IO_EVENTS.0);
    data.lpa |= lpa::COMMANDS_SUPPORTED_AND_EFFECTS;
    data.sqes = IdentifyController::SQES;
    data.cqes = IdentifyController::CQES;
    data.nn = U32::new(highest.max(NAMESPACES_MAX));
    data.mnan = U32::new(NAMESPACES_MAX);
    data.oncs = U16::new(oncs::COMPARE | oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES | reservations);
    data.vwc = vwc::PRESENT | vwc::FLUSH_ALL_NOT_SUPPORTED;
    data.anatt = view.config.ana_transition_seconds;
    data.anacap = anacap::OPTIMIZED
        | anacap::NON_OPTIMIZED
        | anacap::INACCESSIBLE
        | anacap::PERSISTENT_LOSS
        | anacap::CHANGE;
    data.anagrpmax = U32::new(ANA_GROUPS_MAX);
    data.nanagrpid = U32::new(ANA_GROUPS_MAX);
}
