//! What a host's PDUs do: command capsules become commands, data finds its place, and what breaks the protocol ends the
//! connection.

use super::Target;
use super::command::{Command, Origin, Payload, Refused, Stage, Work};
use super::io::Asked;
use super::queue::{Connection, Incoming, Phase, Queue};
use super::transfer::{self, Direction};
use crate::driver::ConnectionId;
use crate::tcp::framing::{Fatal, FatalErrorStatus, Frame};
use crate::tcp::target::{Step, Transfer};
use block::{Memory, Time};
use nvme::{AdminCommand, FabricsCommand, IoCommand, Sgl, Status, SubmissionQueueEntry};

impl Target {
    /// Bytes arrived. Unknown connections are ignored.
    pub fn received(&mut self, now: Time, connection: ConnectionId, bytes: &[u8], memory: &mut dyn Memory) {
        let mut rest = bytes;
        let mut heard = false;
        while let Some(live) = self.connections.get_mut(connection) {
            match live.phase {
                Phase::Terminating { .. } => break,
                Phase::Leaving { to } => {
                    self.hand_over(now, connection, to, rest, memory);
                    break;
                }
                Phase::Fresh { .. } | Phase::Queue(_) => {}
            }
            let before = rest;
            let read = live.session.read(&mut rest);
            if matches!(live.phase, Phase::Fresh { .. }) {
                live.kept.extend(&before[..before.len() - rest.len()]);
            }
            match read {
                Ok(None) => break,
                Ok(Some(step)) => {
                    if !heard && matches!(step, Step::Command(_) | Step::Transfer(_)) {
                        heard = self.hear(now, connection);
                    }
                    self.step(now, connection, step, memory);
                }
                Err(fatal) => self.terminate(now, connection, &fatal, memory),
            }
        }
        self.settle(now, memory);
    }

    fn step(&mut self, now: Time, id: ConnectionId, step: Step<'_>, memory: &mut dyn Memory) {
        match step {
            Step::Initialized(response) => {
                if !self.is_replayed(id) {
                    self.send(id, *response);
                }
            }
            Step::Command(frame) => self.take_command(now, id, &frame, memory),
            Step::Transfer(transfer) => self.take_transfer(now, id, transfer, memory),
            Step::Data(bytes) => self.place_data(id, bytes, memory),
            Step::DataEnd { intact } => self.end_data(now, id, intact, memory),
            Step::Terminated => self.cut_off(now, id, memory),
        }
    }

    fn take_command(&mut self, now: Time, id: ConnectionId, capsule: &Frame<'_>, memory: &mut dyn Memory) {
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        let (entry, data_length) = (&live.session.entry(capsule), capsule.data_length);
        live.incoming = (data_length > 0).then_some(Incoming {
            slot: None,
            offset: 0,
            last: true,
        });
        let is_too_much = live.kept.len() > self.config.kept_bytes_max();
        if live.commands.has_cid(entry.cid()) && !is_too_much {
            return self.refuse_twin(id, entry);
        }
        if live.commands.is_full() || is_too_much {
            let overrun = Fatal {
                status: FatalErrorStatus::PduSequenceError,
                information: 0,
                header: Vec::new(),
            };
            return self.terminate(now, id, &overrun, memory);
        }
        let queue = live.queue();
        let (work, length) = match self.parse(queue.as_ref(), entry, data_length) {
            Ok((work, length)) => (work, length),
            Err(refused) => (Work::Refused(refused), 0),
        };
        self.next_serial += 1;
        let command = Command::new(self.next_serial, Origin::of(entry), work, length);
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        let slot = live.commands.insert(command);
        if data_length > 0 {
            self.expect_capsule_data(id, slot, memory);
        } else if length > 0 {
            self.solicit(now, id, slot, memory);
        } else {
            self.execute(now, id, slot, memory);
        }
    }

    /// A second command with the identifier of one that is under way: refused without a slot.
    fn refuse_twin(&mut self, id: ConnectionId, entry: &SubmissionQueueEntry) {
        if self.is_replayed(id) {
            return;
        }
        let status = Status::COMMAND_ID_CONFLICT.do_not_retry();
        self.send_completion(id, entry.cid(), status, 0);
    }

    /// What an entry asks for, and how much data the host sends for it; refused if such a command may not come on this queue
    /// now, or if its data pointer does not fit it.
    fn parse(
        &mut self,
        queue: Option<&Queue>,
        entry: &SubmissionQueueEntry,
        in_capsule: u32,
    ) -> Result<(Work, u32), Refused> {
        let work = self.parse_work(queue, entry)?;
        let expected = transfer::expected(&work)?;
        let sgl = Sgl::parse(&entry.sgl)?;
        if sgl.length() > self.config.transfer_bytes_max() {
            return Err(Status::INVALID_FIELD.do_not_retry().into());
        }
        let length = transfer::check(expected, sgl, in_capsule)?;
        if expected.direction != Direction::ToController {
            return Ok((work, 0));
        }
        // Nobody is asked for data that is of no use.
        if in_capsule == 0
            && let (Work::Io(command), Some(queue)) = (&work, queue)
        {
            self.check_io(queue, entry.nsid(), command)?;
        }
        Ok((work, length))
    }

    fn parse_work(&mut self, queue: Option<&Queue>, entry: &SubmissionQueueEntry) -> Result<Work, Refused> {
        let Some(queue) = queue else {
            return parse_connect(entry);
        };
        if entry.is_fabrics() {
            return match (FabricsCommand::parse(entry)?, queue.qid.is_admin()) {
                (FabricsCommand::Connect(_), _) => Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into()),
                (command @ (FabricsCommand::PropertyGet(_) | FabricsCommand::PropertySet(_)), true)
                | (command @ FabricsCommand::Disconnect(_), false) => Ok(Work::Fabrics(command)),
                _ => Err(Status::INVALID_OPCODE.do_not_retry().into()),
            };
        }
        let ready = self
            .controller_of(queue)
            .is_some_and(|controller| controller.status.ready);
        if !ready {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        }
        Ok(match queue.qid.is_admin() {
            true => Work::Admin(AdminCommand::parse(entry)?),
            false => Work::Io(IoCommand::parse(entry)?),
        })
    }

    /// The capsule carries data: makes room for it.
    fn expect_capsule_data(&mut self, id: ConnectionId, slot: u16, memory: &mut dyn Memory) {
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        live.incoming.as_mut().expect("data was announced").slot = Some(slot);
        let command = live.commands.get(slot).expect("just taken in");
        let (length, wanted) = (command.length, transfer::wants_buffers(&command.work));
        let nsid = command.origin.nsid;
        let (mut lane, mut payload) = (None, None);
        if let (Some(buffers), Some(queue)) = (wanted, live.queue()) {
            lane = self.lane_at(&queue, nsid);
            payload = self.lend(id, lane, buffers, length, memory);
        }
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        if payload.is_none() && wanted.is_some() {
            live.held_bytes += length;
        }
        let command = live.commands.get_mut(slot).expect("just taken in");
        command.payload = payload.unwrap_or_else(|| Payload::Bytes(vec![0; length as usize]));
        command.lane = lane;
    }

    /// Asks the host for a command's data, once there is somewhere to put it.
    pub(crate) fn solicit(&mut self, now: Time, id: ConnectionId, slot: u16, memory: &mut dyn Memory) {
        let live = self.connections.get(id).expect("the command is alive");
        let command = live.commands.get(slot).expect("the command is alive");
        let (length, wanted) = (command.length, transfer::wants_buffers(&command.work));
        let nsid = command.origin.nsid;
        let (mut lane, mut payload) = (None, Some(Payload::None));
        if let (Some(buffers), Some(queue)) = (wanted, live.queue()) {
            lane = self.lane_at(&queue, nsid);
            payload = self.lend(id, lane, buffers, length, memory);
        }
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        command.lane = lane;
        let Some(payload) = payload else {
            return self.wait_for_memory(now, id, slot, true);
        };
        command.payload = match wanted {
            Some(_) => payload,
            None => Payload::Bytes(vec![0; length as usize]),
        };
        command.stage = Stage::Receiving { solicited: true };
        live.solicited += 1;
        let ready = live.session.ready_to_transfer(command.cid().0, slot, 0, length);
        if !self.is_replayed(id) {
            self.send(id, ready);
        }
    }

    /// An H2CData PDU begins.
    fn take_transfer(&mut self, now: Time, id: ConnectionId, transfer: Transfer, memory: &mut dyn Memory) {
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        match check_transfer(live, &transfer) {
            Ok(incoming) => live.incoming = Some(incoming),
            Err(fatal) => self.terminate(now, id, &fatal, memory),
        }
    }

    fn place_data(&mut self, id: ConnectionId, bytes: &[u8], memory: &mut dyn Memory) {
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        let incoming = live.incoming.as_mut().expect("data was announced");
        let offset = incoming.offset;
        incoming.offset += u32::try_from(bytes.len()).expect("at most what was announced");
        let Some(slot) = incoming.slot else { return };
        let command = live.commands.get_mut(slot).expect("a command outlives its data");
        if matches!(command.work, Work::Refused(_)) {
            return;
        }
        command.payload.place(offset, bytes, memory);
    }

    fn end_data(&mut self, now: Time, id: ConnectionId, intact: bool, memory: &mut dyn Memory) {
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        let incoming = live.incoming.take().expect("data was announced");
        let Some(slot) = incoming.slot else { return };
        let command = live.commands.get_mut(slot).expect("a command outlives its data");
        command.received = incoming.offset;
        command.damaged |= !intact;
        if !incoming.last {
            return;
        }
        if command.stage == (Stage::Receiving { solicited: true }) {
            live.solicited -= 1;
        }
        if command.damaged && !matches!(command.work, Work::Refused(_)) {
            return self.respond(id, slot, Status::TRANSIENT_TRANSPORT_ERROR.into(), memory);
        }
        self.execute(now, id, slot, memory);
    }

    /// Carries a command out whose data, if any, is there.
    pub(crate) fn execute(&mut self, now: Time, id: ConnectionId, slot: u16, memory: &mut dyn Memory) {
        let live = &self.connections[id];
        let command = live.commands.get(slot).expect("the command is alive");
        match command.work {
            Work::Io(work) => {
                let asked = Asked {
                    connection: id,
                    slot,
                    queue: live.queue().expect("I/O commands come on queues"),
                    nsid: command.origin.nsid,
                };
                self.execute_io(now, &asked, &work, memory);
            }
            Work::Refused(refused) => self.respond(id, slot, refused.into(), memory),
            Work::Fabrics(command) => self.execute_fabrics(now, id, slot, command, memory),
            Work::Admin(command) => self.execute_admin(now, id, slot, command, memory),
        }
    }

    /// The host of a connection's controller is alive; whether the connection has one.
    pub(crate) fn hear(&mut self, now: Time, id: ConnectionId) -> bool {
        let Some(queue) = self.connections[id].queue() else {
            return false;
        };
        if let Some(controller) = self.controller_of(&queue) {
            controller.last_heard = now;
        }
        true
    }
}

/// On a connection without a queue nothing but Connect makes sense.
fn parse_connect(entry: &SubmissionQueueEntry) -> Result<Work, Refused> {
    let sequence_error = Status::COMMAND_SEQUENCE_ERROR.do_not_retry();
    if !entry.is_fabrics() {
        return Err(sequence_error.into());
    }
    match FabricsCommand::parse(entry)? {
        command @ FabricsCommand::Connect(_) => Ok(Work::Fabrics(command)),
        _ => Err(sequence_error.into()),
    }
}

/// What an H2CData PDU brings must be the next bytes of what an R2T asked for.
fn check_transfer(live: &Connection, transfer: &Transfer) -> Result<Incoming, Fatal> {
    let command = live
        .commands
        .get(transfer.tag)
        .filter(|command| command.stage == Stage::Receiving { solicited: true })
        .ok_or_else(|| transfer.fatal(FatalErrorStatus::InvalidPduHeaderField, Transfer::TTAG))?;
    if command.cid().0 != transfer.cid {
        return Err(transfer.fatal(FatalErrorStatus::InvalidPduHeaderField, Transfer::CCCID));
    }
    let end = u64::from(transfer.offset) + u64::from(transfer.length);
    if transfer.offset != command.received || end > u64::from(command.length) {
        return Err(transfer.fatal(FatalErrorStatus::DataTransferOutOfRange, Transfer::DATAO));
    }
    if transfer.last != (end == u64::from(command.length)) {
        return Err(transfer.fatal(FatalErrorStatus::InvalidPduHeaderField, Transfer::FLAGS));
    }
    Ok(Incoming {
        slot: Some(transfer.tag),
        offset: transfer.offset,
        last: transfer.last,
    })
}
