//! Fabrics commands (Base 2.1, section 6): Connect, which makes queues and associations, and properties.

use super::Target;
use super::TargetOutput;
use super::command::{Payload, Refused, Response};
use super::controller::{Association, Controller};
use super::queue::{ControllerRows, Phase, Queue};
use super::subsystem::SubsystemRef;
use crate::driver::ConnectionId;
use block::{Duration, Memory, Time};
use nvme::command::{Connect, PropertyGet, PropertySet};
use nvme::connect::{ConnectParameters, ConnectResult, InvalidParameter};
use nvme::property::{Capabilities, Configuration, Property, ReadyTimeouts, Version};
use nvme::{Cntlid, FabricsCommand, InvalidField, Status};

/// Offsets in a Connect command, for "connect invalid parameters".
const QID_OFFSET: u16 = 42;
const SQSIZE_OFFSET: u16 = 44;

/// CAP.TO and CRTO.CRWMT: the longest wait for CSTS.RDY, in 500 ms. It is ready at once.
const READY_TIMEOUT_500MS: u8 = 10;

impl Target {
    pub(crate) fn execute_fabrics(
        &mut self,
        now: Time,
        id: ConnectionId,
        slot: u16,
        command: FabricsCommand,
        memory: &mut dyn Memory,
    ) {
        let response = match command {
            FabricsCommand::Connect(connect) => {
                let parameters = self.connect_parameters(id, slot);
                if let Ok(parameters) = &parameters
                    && self.begin_hand_over(id, parameters)
                {
                    return;
                }
                parameters.and_then(|parameters| self.connect(now, id, &parameters, &connect))
            }
            FabricsCommand::PropertyGet(get) => self.property_get(id, get),
            FabricsCommand::PropertySet(set) => self.property_set(id, set),
            _ => Err(Status::INVALID_OPCODE.do_not_retry().into()),
        };
        let response = response.unwrap_or_else(Response::from);
        self.respond(id, slot, response, memory);
    }

    /// The data of a Connect.
    fn connect_parameters(&mut self, id: ConnectionId, slot: u16) -> Result<ConnectParameters, Refused> {
        let Payload::Bytes(data) = self.take_payload(id, slot) else {
            return Err(Status::INTERNAL_ERROR.into());
        };
        ConnectParameters::parse_bytes(&data)
            .map_err(|_| Refused::from(Status::DATA_SGL_LENGTH_INVALID.do_not_retry()))?
            .map_err(invalid_parameter)
    }

    fn connect(
        &mut self,
        now: Time,
        id: ConnectionId,
        parameters: &ConnectParameters,
        connect: &Connect,
    ) -> Result<Response, Refused> {
        let subsystem = self.resolve(parameters)?;
        if connect.sqsize.count() > self.config.queue_entries_max.into() {
            return Err(invalid_parameter(InvalidParameter::in_entry(SQSIZE_OFFSET)));
        }
        let cntlid = match connect.qid.is_admin() {
            true => self.create_controller(now, id, subsystem, parameters, connect)?,
            false => self.join_controller(id, subsystem, parameters, connect)?,
        };
        let queue = Queue::new(subsystem, cntlid, self.rows(subsystem, cntlid), connect);
        let live = self.connections.get_mut(id).expect("the command is alive");
        live.commands.set_limit(queue.entries());
        live.phase = Phase::Queue(queue);
        live.kept = Vec::new();
        let result = ConnectResult {
            cntlid,
            authentication_required: 0,
        };
        Ok(Response::result(result.encode().into()))
    }

    /// Where a controller is.
    fn rows(&self, subsystem: SubsystemRef, cntlid: Cntlid) -> ControllerRows {
        let holder = self.subsystem(subsystem).expect("resolved");
        ControllerRows {
            subsystem: match subsystem {
                SubsystemRef::Discovery => None,
                SubsystemRef::Key(key) => self.subsystems.row(&key),
            },
            controller: holder.controllers.row(&cntlid).expect("just joined"),
        }
    }

    /// Which subsystem a Connect names, if its host may connect there.
    fn resolve(&self, parameters: &ConnectParameters) -> Result<SubsystemRef, Refused> {
        if parameters.subsystem.is_discovery() {
            return match parameters.host {
                Some(_) => Ok(SubsystemRef::Discovery),
                None => Err(invalid_parameter(InvalidParameter::in_data(
                    InvalidParameter::HOSTNQN,
                ))),
            };
        }
        let name = parameters.subsystem.as_str();
        // Whoever came from there, while the subsystem moves, tries again: he is not sent to and fro.
        if !self.open || self.is_elsewhere(name) {
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let mut subsystems = self.subsystems.iter();
        let (key, subsystem) = subsystems
            .find(|(_, subsystem)| subsystem.config.nqn == name)
            .ok_or(invalid_parameter(InvalidParameter::in_data(
                InvalidParameter::SUBNQN,
            )))?;
        let host = parameters.host_name();
        // A host identifier belongs to one host: reservations go by it.
        let mut controllers = subsystem.controllers.values();
        let stolen =
            controllers.any(|controller| controller.host_id == parameters.host_id && controller.host != host);
        let admitted = subsystem.admits(host);
        if parameters.host.is_none() && !admitted {
            return Err(invalid_parameter(InvalidParameter::in_data(
                InvalidParameter::HOSTNQN,
            )));
        }
        if stolen || !admitted {
            return Err(Status::CONNECT_INVALID_HOST.do_not_retry().into());
        }
        Ok(SubsystemRef::Key(key))
    }

    /// Connect of an admin queue: a new association.
    fn create_controller(
        &mut self,
        now: Time,
        id: ConnectionId,
        subsystem: SubsystemRef,
        parameters: &ConnectParameters,
        connect: &Connect,
    ) -> Result<Cntlid, Refused> {
        if parameters.cntlid != Cntlid::DYNAMIC {
            return Err(invalid_parameter(InvalidParameter::in_data(
                InvalidParameter::CNTLID,
            )));
        }
        if parameters.host_id.is_zero() {
            return Err(invalid_parameter(InvalidParameter::in_data(
                InvalidParameter::HOSTID,
            )));
        }
        let holder = self.subsystem_mut(subsystem).expect("resolved");
        let cntlid = holder
            .free_cntlid()
            .ok_or(Refused::from(Status::CONNECT_CONTROLLER_BUSY))?;
        let known = holder.connected_hosts();
        let association = Association {
            cntlid,
            host: parameters.host_name().to_owned(),
            host_id: parameters.host_id,
            admin: id,
        };
        let keep_alive = Duration::from_millis(connect.kato_ms.into());
        let controller = Controller::new(association, now, keep_alive);
        let deadline = controller.deadline();
        let is_new = !known.contains(&controller.host);
        holder.controllers.insert(cntlid, controller);
        let hosts = holder.connected_hosts();
        if let SubsystemRef::Key(subsystem) = subsystem
            && is_new
        {
            self.asked
                .push_back(TargetOutput::HostsChanged { subsystem, hosts });
        }
        if let Some(deadline) = deadline {
            self.wake_at(deadline);
        }
        Ok(cntlid)
    }

    /// Connect of an I/O queue: one more queue for an association.
    fn join_controller(
        &mut self,
        id: ConnectionId,
        subsystem: SubsystemRef,
        parameters: &ConnectParameters,
        connect: &Connect,
    ) -> Result<Cntlid, Refused> {
        let unknown = |field| invalid_parameter(InvalidParameter::in_data(field));
        let controller = self
            .controller_mut(subsystem, parameters.cntlid)
            .ok_or(unknown(InvalidParameter::CNTLID))?;
        if controller.host != parameters.host_name() {
            return Err(unknown(InvalidParameter::HOSTNQN));
        }
        if controller.host_id != parameters.host_id {
            return Err(unknown(InvalidParameter::HOSTID));
        }
        if !controller.status.ready {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        }
        if connect.qid.0 > controller.queues_granted {
            return Err(invalid_parameter(InvalidParameter::in_entry(QID_OFFSET)));
        }
        if controller.queues.contains_key(&connect.qid) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        }
        controller.queues.insert(connect.qid, id);
        Ok(controller.cntlid)
    }

    fn property_get(&self, id: ConnectionId, get: PropertyGet) -> Result<Response, Refused> {
        let Phase::Queue(queue) = self.connections[id].phase else {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        };
        let controller = self
            .controller(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        let property = known_property(get.offset).filter(|property| property.size() == get.size);
        let value = match property {
            Some(Property::ControllerCapabilities) => self.capabilities(queue.subsystem).encode(),
            Some(Property::Version) => Version::V2_1.encode().into(),
            Some(Property::ControllerConfiguration) => controller.configuration.encode().into(),
            Some(Property::ControllerStatus) => controller.status.encode().into(),
            Some(Property::ControllerReadyTimeouts) => ready_timeouts().encode().into(),
            _ => return Err(InvalidField::at(44).into()),
        };
        Ok(Response::result(value))
    }

    fn property_set(&mut self, id: ConnectionId, set: PropertySet) -> Result<Response, Refused> {
        let Phase::Queue(queue) = self.connections[id].phase else {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        };
        let property = known_property(set.offset).filter(|property| property.size() == set.size);
        if property != Some(Property::ControllerConfiguration) {
            return Err(InvalidField::at(44).into());
        }
        let discovery = queue.subsystem == SubsystemRef::Discovery;
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        let value = u32::try_from(set.value & 0xffff_ffff).expect("masked");
        controller.configure(Configuration::parse(value), discovery);
        Ok(Response::success())
    }

    fn capabilities(&self, subsystem: SubsystemRef) -> Capabilities {
        let command_sets = match subsystem {
            SubsystemRef::Discovery => Capabilities::CSS_NVM,
            SubsystemRef::Key(_) => Capabilities::CSS_NVM | Capabilities::CSS_IO_COMMAND_SETS,
        };
        Capabilities {
            max_queue_entries: self.config.queue_entries_max - 1,
            contiguous_queues_required: true,
            timeout_500ms: READY_TIMEOUT_500MS,
            command_sets,
            ready_with_media: true,
            ..Capabilities::default()
        }
    }
}

fn known_property(offset: u32) -> Option<Property> {
    Property::from_code(offset)
}

fn ready_timeouts() -> ReadyTimeouts {
    ReadyTimeouts {
        with_media_500ms: READY_TIMEOUT_500MS.into(),
        independent_of_media_500ms: 0,
    }
}

fn invalid_parameter(parameter: InvalidParameter) -> Refused {
    Refused {
        result: parameter.encode(),
        ..Refused::from(Status::CONNECT_INVALID_PARAMETERS.do_not_retry())
    }
}
