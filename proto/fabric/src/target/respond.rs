//! What goes back to hosts, and how connections end.

use super::command::{Command, CommandRef, Origin, Payload, Response, ResponseData, Stage};
use super::controller::CommandError;
use super::queue::{Connection, Phase, Queue};
use super::subsystem::SubsystemRef;
use super::transfer;
use super::waiting::Line;
use super::{Target, TargetOutput};
use crate::driver::{ConnectionId, Segment, SessionBytes};
use crate::tcp::framing::{Fatal, PduType};
use block::{Memory, Time};
use nvme::{Cid, CompletionQueueEntry, Qid, Status};

/// Length of the request that begins a connection.
const INITIALIZATION_BYTES: usize = PduType::IcReq.header_bytes();

impl Target {
    pub(crate) fn send(&mut self, connection: ConnectionId, bytes: SessionBytes) {
        self.outputs.push_back(TargetOutput::Send {
            connection,
            segment: Segment::Bytes(bytes),
        });
    }

    /// Answers a command; its slot is free afterwards, and its buffers are given back or gone to the driver.
    pub(crate) fn respond(
        &mut self,
        id: ConnectionId,
        slot: u16,
        response: Response,
        memory: &mut dyn Memory,
    ) {
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        let (origin, cid) = (command.origin, command.cid());
        let (lane, payload) = (command.lane, std::mem::take(&mut command.payload));
        if let Payload::Bytes(held) = &payload
            && transfer::wants_buffers(&command.work).is_some()
        {
            live.held_bytes -= held.len() as u32;
        }
        live.commands.remove(slot);
        // What was refused is nothing to whom the connection may be handed over.
        live.kept.truncate(INITIALIZATION_BYTES);
        if !response.status.is_success() {
            self.log_error(id, origin, &response);
        }
        self.give_back(lane, payload, memory);
        let omitted = match response.data {
            ResponseData::None => false,
            data => {
                let alone = response.status.is_success() && response.result == 0;
                self.send_data(id, cid, data, alone, memory)
            }
        };
        if !omitted {
            self.send_completion(id, cid, response.status, response.result);
        }
    }

    /// Sends a response's data; whether that said also that the command succeeded, as it may if there is nothing else to
    /// say (`alone`).
    fn send_data(
        &mut self,
        connection: ConnectionId,
        cid: Cid,
        data: ResponseData,
        alone: bool,
        memory: &mut dyn Memory,
    ) -> bool {
        let live = self.connections.get_mut(connection);
        let live = live.expect("the connection is alive");
        let Phase::Queue(queue) = &mut live.phase else {
            return false;
        };
        let success = alone && queue.complete_silently(live.commands.count());
        let (length, digest) = match &data {
            ResponseData::None => return false,
            ResponseData::Bytes(bytes) => {
                let length = u32::try_from(bytes.len()).expect("at most MDTS");
                (length, live.session.data_digest(bytes))
            }
            ResponseData::Lent(slice) => {
                let digested = live.session.has_data_digest();
                let digest = digested.then(|| live.session.data_digest(memory.bytes(*slice)));
                (slice.length, digest.flatten())
            }
        };
        let before = live.session.before_data(cid.0, length, success);
        let segment = match data {
            ResponseData::Lent(payload) => Segment::Payload { before, payload },
            ResponseData::Bytes(bytes) => {
                self.send(connection, before);
                Segment::Bytes(bytes.into())
            }
            ResponseData::None => return false,
        };
        self.outputs.push_back(TargetOutput::Send { connection, segment });
        if let Some(digest) = digest {
            self.send(connection, digest[..].into());
        }
        success
    }

    /// Sends a response capsule.
    pub(crate) fn send_completion(&mut self, id: ConnectionId, cid: Cid, status: Status, result: u64) {
        let live = self.connections.get_mut(id).expect("the connection is alive");
        let mut entry = CompletionQueueEntry::new(cid, status, result);
        if let Phase::Queue(queue) = &mut live.phase {
            entry = entry.with_queue(Qid(0), queue.complete());
        }
        let capsule = live.session.response(&entry);
        self.send(id, capsule);
    }

    fn log_error(&mut self, id: ConnectionId, origin: Origin, response: &Response) {
        let Some(queue) = self.connections[id].queue() else {
            return;
        };
        let error = CommandError {
            qid: queue.qid,
            origin,
            status: response.status,
            location: response.location,
        };
        if let Some(controller) = self.controller_of(&queue) {
            controller.errors.push(error);
        }
    }

    /// The peer broke the protocol: tells it why, and lets it read that for a while.
    pub(crate) fn terminate(&mut self, now: Time, id: ConnectionId, fatal: &Fatal, memory: &mut dyn Memory) {
        let deadline = now + self.config.termination_timeout;
        let live = self.connections.get_mut(id).expect("its bytes are being read");
        let request = live.session.terminate(fatal);
        let mut replaced = std::mem::replace(&mut live.phase, Phase::Terminating { deadline });
        live.incoming = None;
        live.executing = 0;
        live.solicited = 0;
        live.held_bytes = 0;
        live.line = Line::default();
        let commands = live.commands.drain();
        self.send(id, request);
        self.wake_at(deadline);
        self.abandon(id, commands, memory);
        if let Phase::Queue(queue) = &mut replaced {
            self.lose_queue(now, id, queue, memory);
        }
    }

    /// Closes a connection at once.
    pub(crate) fn cut_off(&mut self, now: Time, id: ConnectionId, memory: &mut dyn Memory) {
        self.close(now, id, true, memory);
    }

    /// Closes a connection and forgets it.
    pub(crate) fn close(&mut self, now: Time, id: ConnectionId, abort: bool, memory: &mut dyn Memory) {
        if self.forget(now, id, memory) {
            self.outputs.push_back(TargetOutput::Close {
                connection: id,
                abort,
            });
        }
    }

    /// Forgets a connection: what it had in flight are orphans, what was not handed out never is. Whether it was
    /// known.
    pub(crate) fn forget(&mut self, now: Time, id: ConnectionId, memory: &mut dyn Memory) -> bool {
        let Some(Connection {
            phase, mut commands, ..
        }) = self.connections.remove(id)
        else {
            return false;
        };
        self.abandon(id, commands.drain(), memory);
        if let Phase::Queue(queue) = &phase {
            self.lose_queue(now, id, queue, memory);
        }
        true
    }

    /// The commands of a connection that ends (R8).
    fn abandon(&mut self, id: ConnectionId, commands: Vec<Command>, memory: &mut dyn Memory) {
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|waiter| waiter.connection != id);
        }
        for command in commands {
            match command.stage {
                Stage::Executing(io) => self.orphan(io, command.payload),
                _ => self.give_back(command.lane, command.payload, memory),
            }
        }
    }

    /// A connection that carried a queue is gone. Without its admin queue a controller is no more.
    fn lose_queue(&mut self, now: Time, id: ConnectionId, queue: &Queue, memory: &mut dyn Memory) {
        let Some(controller) = self.controller_mut(queue.subsystem, queue.cntlid) else {
            return;
        };
        if controller.admin != id {
            if controller.queues.get(&queue.qid) == Some(&id) {
                controller.queues.remove(&queue.qid);
            }
            return;
        }
        self.end_association(now, queue.subsystem, queue.cntlid, true, memory);
    }

    /// Ends an association: the controller is gone, its connections are closed.
    pub(crate) fn end_association(
        &mut self,
        now: Time,
        subsystem: SubsystemRef,
        cntlid: nvme::Cntlid,
        abort: bool,
        memory: &mut dyn Memory,
    ) {
        let Some(holder) = self.subsystem_mut(subsystem) else {
            return;
        };
        let Some(controller) = holder.controllers.remove(&cntlid) else {
            return;
        };
        let hosts = holder.connected_hosts();
        if let SubsystemRef::Key(key) = subsystem
            && !hosts.contains(&controller.host)
        {
            self.asked.push_back(TargetOutput::HostsChanged {
                subsystem: key,
                hosts,
            });
        }
        for connection in controller.connections() {
            self.close(now, connection, abort, memory);
        }
    }

    /// A command, if it is still there.
    pub(crate) fn command(&self, name: CommandRef) -> Option<&Command> {
        let command = self.connections.get(name.connection)?.commands.get(name.slot)?;
        (command.serial == name.serial).then_some(command)
    }

    pub(crate) fn command_mut(&mut self, name: CommandRef) -> Option<&mut Command> {
        let live = self.connections.get_mut(name.connection)?;
        let command = live.commands.get_mut(name.slot)?;
        (command.serial == name.serial).then_some(command)
    }

    /// The name of a command that is alive.
    pub(crate) fn name(&self, connection: ConnectionId, slot: u16) -> CommandRef {
        let command = self.connections[connection]
            .commands
            .get(slot)
            .expect("the command is alive");
        CommandRef {
            connection,
            slot,
            serial: command.serial,
        }
    }

    /// Takes the payload out of a command.
    pub(crate) fn take_payload(&mut self, id: ConnectionId, slot: u16) -> Payload {
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        std::mem::take(&mut command.payload)
    }
}
