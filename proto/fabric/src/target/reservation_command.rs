//! Reservation commands on a namespace: one at a time, durable before the answer, and a fence answers only once what it
//! shut out has ended (rule R2).

use super::admission::{Lane, Place};
use super::async_event::EventKind;
use super::command::{CommandRef, Payload, Response, Stage, Work};
use super::config::SubsystemKey;
use super::namespace::{ReservationWork, Reservations};
use super::reservation::{Outcome, Refusal, ReservationCommand, ReservationState};
use super::subsystem::SubsystemRef;
use super::{Target, TargetOutput};
use crate::driver::ConnectionId;
use block::{Memory, Time};
use nvme::command::{ReservationAcquire, ReservationRegister, ReservationRelease, ReservationReport};
use nvme::reservation::{
    AcquireAction, AcquireData, PersistThroughPowerLoss, RegisterAction, RegisterData, Registrant,
    ReleaseAction, ReleaseData, Report, ReservationKey,
};
use nvme::{IoCommand, Status};

impl Target {
    /// A reservation command whose data, if any, is there.
    pub(crate) fn execute_reservation(
        &mut self,
        now: Time,
        id: ConnectionId,
        slot: u16,
        place: Place,
        command: IoCommand,
        memory: &mut dyn Memory,
    ) {
        if let IoCommand::ReservationReport(report) = command {
            let response = self.report(place, report);
            return self.respond(id, slot, response, memory);
        }
        let name = self.name(id, slot);
        self.command_mut(name).expect("just named").stage = Stage::WaitingForReservation;
        let key = (place.subsystem, place.nsid);
        self.lanes
            .at_mut(place.lane, key)
            .expect("it has a route")
            .reserving = true;
        self.reservations_mut(key)
            .expect("checked")
            .waiting
            .push_back(name);
        self.advance_reservations(now, key, memory);
    }

    /// Ends the current reservation command of a namespace if nothing keeps it, and begins the next.
    pub(crate) fn advance_reservations(
        &mut self,
        now: Time,
        key: (SubsystemKey, u32),
        memory: &mut dyn Memory,
    ) {
        loop {
            let Some(reservations) = self.reservations_mut(key) else {
                return self.rest_reservations(key);
            };
            if reservations.current.is_some() {
                match self.finished(key) {
                    Some(response) => self.finish_reservation(key, response, memory),
                    None => return,
                }
            } else {
                let Some(next) = reservations.waiting.pop_front() else {
                    return self.rest_reservations(key);
                };
                self.begin_reservation(now, next, memory);
            }
        }
    }

    /// Nothing is left to do with a namespace's reservations.
    fn rest_reservations(&mut self, key: (SubsystemKey, u32)) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.reserving = false;
        }
    }

    /// The answer to the current command, if nothing keeps it.
    fn finished(&self, key: (SubsystemKey, u32)) -> Option<Response> {
        let namespace = self.subsystems.get(&key.0)?.namespaces.get(&key.1)?;
        let reservations = namespace.reservations.as_ref()?;
        let work = reservations.current.as_ref()?;
        if !work.durable? {
            return Some(Status::INTERNAL_ERROR.into());
        }
        let mut hosts = self.lanes.get(&key).into_iter().flat_map(Lane::hosts);
        let busy = hosts.any(|host| reservations.table.must_drain(&work.outcome, host));
        (!busy).then(Response::success)
    }

    fn finish_reservation(&mut self, key: (SubsystemKey, u32), response: Response, memory: &mut dyn Memory) {
        let reservations = self.reservations_mut(key).expect("checked");
        let work = reservations.current.take().expect("checked");
        if self.command(work.command).is_some() {
            self.respond(work.command.connection, work.command.slot, response, memory);
        }
    }

    fn begin_reservation(&mut self, now: Time, name: CommandRef, memory: &mut dyn Memory) {
        let CommandRef {
            connection: id, slot, ..
        } = name;
        let Some(command) = self.command(name) else { return };
        let Work::Io(io) = command.work else {
            unreachable!("only I/O commands wait for reservations")
        };
        let nsid = command.origin.nsid;
        let parsed = parse(&io, &command.payload);
        let queue = self.connections[id].queue().expect("I/O commands come on queues");
        let begun = self
            .check_io(&queue, nsid, &io)
            .and_then(|place| Ok((place, parsed?)));
        let (place, command) = match begun {
            Ok(begun) => begun,
            Err(status) => return self.respond(id, slot, status.into(), memory),
        };
        let key = (place.subsystem, place.nsid);
        let reservations = self.reservations_mut(key).expect("checked");
        match reservations.table.execute(place.host, command) {
            Ok(outcome) => self.accept_reservation(now, name, place, outcome, memory),
            Err(refusal) => self.respond(id, slot, refused(refusal).into(), memory),
        }
    }

    /// The table took a command: from now on the losers are shut out.
    fn accept_reservation(
        &mut self,
        now: Time,
        name: CommandRef,
        place: Place,
        outcome: Outcome,
        memory: &mut dyn Memory,
    ) {
        let key = (place.subsystem, place.nsid);
        let notices = outcome.notices.clone();
        let reservations = self.reservations_mut(key).expect("checked");
        reservations.unsaved |= outcome.changed;
        let persist = reservations.unsaved.then(|| reservations.table.state.clone());
        reservations.current = Some(ReservationWork {
            command: name,
            outcome,
            durable: persist.is_none().then_some(true),
        });
        if let Some(state) = persist {
            self.asked.push_back(TargetOutput::PersistReservation {
                subsystem: place.subsystem,
                nsid: place.nsid,
                state,
            });
        }
        for (host, notice) in notices {
            self.notify(place, host, notice, memory);
        }
        self.wake_lane(now, key, memory);
    }

    /// The answer to a [`TargetOutput::PersistReservation`]; ignored if the namespace is gone.
    pub fn reservation_persisted(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        durable: bool,
        memory: &mut dyn Memory,
    ) {
        let key = (subsystem, nsid);
        let Some(reservations) = self.reservations_mut(key) else {
            return;
        };
        let Some(work) = reservations
            .current
            .as_mut()
            .filter(|work| work.durable.is_none())
        else {
            return;
        };
        work.durable = Some(durable);
        reservations.unsaved = !durable;
        self.advance_reservations(now, key, memory);
        self.settle(now, memory);
    }

    /// Tells every controller of a host that something became of its reservations.
    fn notify(
        &mut self,
        place: Place,
        host: nvme::HostId,
        notice: nvme::log::ReservationNotificationType,
        memory: &mut dyn Memory,
    ) {
        let Some(subsystem) = self.subsystems.get_mut(&place.subsystem) else {
            return;
        };
        let told = subsystem
            .controllers
            .values_mut()
            .filter(|controller| controller.host_id == host);
        let mut cntlids = Vec::new();
        for controller in told {
            if controller.notifications.push(place.nsid, notice) {
                controller.events.raise(EventKind::ReservationNotice);
                cntlids.push(controller.cntlid);
            }
        }
        for cntlid in cntlids {
            self.pump_events(SubsystemRef::Key(place.subsystem), cntlid, memory);
        }
    }

    fn report(&self, place: Place, report: ReservationReport) -> Response {
        let subsystem = &self.subsystems[&place.subsystem];
        let reservations = subsystem.namespaces[&place.nsid]
            .reservations
            .as_ref()
            .expect("checked");
        if !report.extended {
            return Status::HOST_ID_INCONSISTENT_FORMAT.do_not_retry().into();
        }
        let mut bytes = describe(&reservations.table.state).encode(true);
        let length = usize::try_from(report.length_bytes()).expect("at most MDTS");
        bytes.resize(length, 0);
        Response::bytes(bytes)
    }

    fn reservations_mut(&mut self, key: (SubsystemKey, u32)) -> Option<&mut Reservations> {
        let subsystem = self.subsystems.get_mut(&key.0)?;
        subsystem.namespaces.get_mut(&key.1)?.reservations.as_mut()
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Conflict => Status::RESERVATION_CONFLICT.do_not_retry(),
        Refusal::InvalidField => Status::INVALID_FIELD.do_not_retry(),
        Refusal::Full => Status::INTERNAL_ERROR,
    }
}

fn describe(state: &ReservationState) -> Report {
    let registrants = state.registrants.iter().map(|(host, key)| Registrant {
        cntlid: Registrant::NO_CONTROLLER,
        holds_reservation: state.is_holder(*host),
        key: ReservationKey(*key),
        host_id: *host,
    });
    Report {
        generation: state.generation,
        reservation_type: state.held.map(|held| held.kind),
        persist_through_power_loss: state.persist_through_power_loss,
        registrants: registrants.collect(),
    }
}

/// A reservation command with its data.
fn parse(command: &IoCommand, payload: &Payload) -> Result<ReservationCommand, Status> {
    let Payload::Bytes(data) = payload else {
        return Err(Status::INTERNAL_ERROR);
    };
    match command {
        IoCommand::ReservationRegister(register) => parse_register(register, data),
        IoCommand::ReservationAcquire(acquire) => parse_acquire(acquire, data),
        IoCommand::ReservationRelease(release) => parse_release(release, data),
        _ => unreachable!("not a reservation command"),
    }
}

fn parse_register(register: &ReservationRegister, data: &[u8]) -> Result<ReservationCommand, Status> {
    let data = RegisterData::parse(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID)?;
    let current_key = (!register.ignore_existing_key).then_some(data.current_key.get());
    let new_key = data.new_key.get();
    let persist = match register.persist_through_power_loss {
        PersistThroughPowerLoss::NoChange => None,
        PersistThroughPowerLoss::Released => Some(false),
        PersistThroughPowerLoss::Persist => Some(true),
    };
    Ok(match register.action {
        RegisterAction::Register => ReservationCommand::Register { new_key, persist },
        RegisterAction::Unregister => ReservationCommand::Unregister { current_key, persist },
        RegisterAction::Replace => ReservationCommand::Replace {
            current_key,
            new_key,
            persist,
        },
    })
}

fn parse_acquire(acquire: &ReservationAcquire, data: &[u8]) -> Result<ReservationCommand, Status> {
    let data = AcquireData::parse(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID)?;
    if acquire.ignore_existing_key {
        return Err(Status::INVALID_FIELD.do_not_retry());
    }
    let (kind, current_key) = (acquire.reservation_type, data.current_key.get());
    let preempt = |abort| ReservationCommand::Preempt {
        kind,
        current_key,
        preempt_key: data.preempt_key.get(),
        abort,
    };
    Ok(match acquire.action {
        AcquireAction::Acquire => ReservationCommand::Acquire { kind, current_key },
        AcquireAction::Preempt => preempt(false),
        AcquireAction::PreemptAndAbort => preempt(true),
    })
}

fn parse_release(release: &ReservationRelease, data: &[u8]) -> Result<ReservationCommand, Status> {
    let data = ReleaseData::parse(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID)?;
    if release.ignore_existing_key {
        return Err(Status::INVALID_FIELD.do_not_retry());
    }
    let current_key = data.current_key.get();
    Ok(match release.action {
        ReleaseAction::Release => ReservationCommand::Release {
            kind: release.reservation_type,
            current_key,
        },
        ReleaseAction::Clear => ReservationCommand::Clear { current_key },
    })
}
