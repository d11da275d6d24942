//! I/O commands: what each asks of the backend, who may ask it, and what its end means.

use super::admission::Place;
use super::command::{CommandRef, LaneAt, Payload, Response, Work};
use super::config::SubsystemKey;
use super::namespace::Namespace;
use super::queue::Queue;
use super::reservation::Access;
use super::routes::Route;
use super::subsystem::{Subsystem, SubsystemRef};
use super::table::RowIndex;
use super::transfer::Buffers;
use super::{Target, status_map};
use crate::driver::ConnectionId;
use block::{BlockRange, BufferSlice, Memory, Operation, Request, Time};
use nvme::command::{DatasetManagement, DatasetManagementRange, LogicalBlocks};
use nvme::{HostId, IoCommand, Nsid, Status};

/// An I/O command that is being looked at.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) connection: ConnectionId,
    pub(crate) slot: u16,
    pub(crate) queue: Queue,
    pub(crate) nsid: Nsid,
}

impl Target {
    /// Carries an I/O command out as far as it goes now.
    pub(crate) fn execute_io(
        &mut self,
        now: Time,
        asked: &Asked,
        command: &IoCommand,
        memory: &mut dyn Memory,
    ) {
        let (id, slot) = (asked.connection, asked.slot);
        let place = match self.check_io(&asked.queue, asked.nsid, command) {
            Ok(place) => place,
            Err(status) => return self.respond(id, slot, status.into(), memory),
        };
        match command {
            IoCommand::ReservationRegister(_)
            | IoCommand::ReservationAcquire(_)
            | IoCommand::ReservationRelease(_)
            | IoCommand::ReservationReport(_) => {
                self.execute_reservation(now, id, slot, place, *command, memory);
            }
            IoCommand::DatasetManagement(management) => {
                self.execute_ranges(id, slot, &place, *management, memory);
            }
            _ => self.execute_blocks(now, asked, &place, command, memory),
        }
    }

    /// Whether a command may be carried out now: the host sees the namespace, the path serves it, the reservation allows
    /// it, the blocks exist.
    pub(crate) fn check_io(
        &mut self,
        queue: &Queue,
        nsid: Nsid,
        command: &IoCommand,
    ) -> Result<Place, Status> {
        let (place, namespace) = self.admit(queue, nsid)?;
        let access = access(command);
        if let Some(access) = access
            && !allows(namespace, place.host, access)
        {
            return Err(Status::RESERVATION_CONFLICT.do_not_retry());
        }
        if access.is_none() && namespace.reservations.is_none() {
            return Err(Status::INVALID_OPCODE.do_not_retry());
        }
        if let Some(blocks) = blocks(command) {
            check_range(namespace, blocks.slba, blocks.count().into())?;
        }
        if let IoCommand::WriteZeroes(zeroes) = command
            && zeroes.namespace_zeroes
        {
            return Err(Status::INVALID_FIELD.do_not_retry());
        }
        Ok(place)
    }

    /// The namespace a command is for, if its host sees it and this path serves it.
    fn admit(&mut self, queue: &Queue, nsid: Nsid) -> Result<(Place, &Namespace), Status> {
        let invalid = Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry();
        let (key, subsystem, controller, route) = self.route(queue, nsid).ok_or(invalid)?;
        let namespace = subsystem.namespaces.at(route.namespace, nsid.0).ok_or(invalid)?;
        if let Some(refusal) = subsystem.ana.group(namespace.config.ana_group).state.refusal() {
            return Err(refusal);
        }
        let controller = subsystem
            .controllers
            .at(controller, queue.cntlid)
            .ok_or(invalid)?;
        let place = Place {
            subsystem: key,
            nsid: nsid.0,
            host: controller.host_id,
            write_through: !controller.features.write_cache,
            lane: route.lane,
            counted_at: route.counted_at,
        };
        Ok((place, namespace))
    }

    /// The way to a namespace, if the host sees it.
    fn route(&mut self, queue: &Queue, nsid: Nsid) -> Option<(SubsystemKey, &Subsystem, RowIndex, Route)> {
        let (SubsystemRef::Key(key), Some(row)) = (queue.subsystem, queue.rows.subsystem) else {
            return None;
        };
        let subsystem = self.subsystems.at_mut(row, key)?;
        let generation = subsystem.generation;
        let controller = subsystem
            .controllers
            .at_mut(queue.rows.controller, queue.cntlid)?;
        let route = match controller.routes.find(nsid.0, generation) {
            Some(route) => route,
            None => {
                let namespaces = &subsystem.namespaces;
                let seen = namespaces.get(&nsid.0);
                seen.filter(|namespace| namespace.visible_to(&controller.host))?;
                let route = Route {
                    namespace: namespaces.row(&nsid.0)?,
                    lane: self.lanes.row_of((key, nsid.0)),
                    counted_at: 0,
                };
                controller.routes.keep(nsid.0, route, generation);
                route
            }
        };
        Some((key, subsystem, queue.rows.controller, route))
    }

    /// Where what is under way to a namespace is, if the host sees it.
    pub(crate) fn lane_at(&mut self, queue: &Queue, nsid: Nsid) -> Option<LaneAt> {
        let (key, _, _, route) = self.route(queue, nsid)?;
        Some(LaneAt {
            row: route.lane,
            key: (key, nsid.0),
        })
    }

    /// A command that is one request to the backend.
    fn execute_blocks(
        &mut self,
        now: Time,
        asked: &Asked,
        place: &Place,
        command: &IoCommand,
        memory: &mut dyn Memory,
    ) {
        let (id, slot) = (asked.connection, asked.slot);
        let needed = match command {
            IoCommand::Read(read) => Some((Buffers::One, read.blocks)),
            IoCommand::Write(write) => Some((Buffers::One, write.blocks)),
            IoCommand::Compare(compare) => Some((Buffers::Two, compare.blocks)),
            _ => None,
        };
        let mut buffers = None;
        if let Some((wanted, blocks)) = needed {
            let length = u32::try_from(range(&blocks).length.bytes()).expect("at most MDTS");
            let lane = LaneAt {
                row: place.lane,
                key: (place.subsystem, place.nsid),
            };
            buffers = self.obtain_buffers(id, slot, (wanted, length), lane, memory);
            if buffers.is_none() {
                return self.wait_for_memory(now, id, slot, false);
            }
        }
        let request = request(command, buffers, place.write_through);
        self.hand_out(id, slot, place, request);
    }

    /// The buffer for the backend: the one that the command has, or a fresh one with the data that waited in its place.
    fn obtain_buffers(
        &mut self,
        id: ConnectionId,
        slot: u16,
        (wanted, length): (Buffers, u32),
        lane: LaneAt,
        memory: &mut dyn Memory,
    ) -> Option<BufferSlice> {
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        if let Payload::Lent { data, scratch } = &command.payload {
            return Some(scratch.unwrap_or(*data));
        }
        command.lane = Some(lane);
        let mut lent = self.lend(id, Some(lane), wanted, length, memory)?;
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        if let Payload::Bytes(held) = &command.payload {
            lent.place(0, held, memory);
            live.held_bytes -= held.len() as u32;
        }
        command.payload = lent;
        match &command.payload {
            Payload::Lent { data, scratch } => Some(scratch.unwrap_or(*data)),
            Payload::None | Payload::Bytes(_) => unreachable!("just lent"),
        }
    }

    /// Dataset Management: one range after the other, looking each time whether the host still may.
    fn execute_ranges(
        &mut self,
        id: ConnectionId,
        slot: u16,
        place: &Place,
        management: DatasetManagement,
        memory: &mut dyn Memory,
    ) {
        match self.next_range(id, slot, place, management) {
            Ok(Some(range)) => {
                let operation = Operation::Deallocate;
                self.hand_out(id, slot, place, Request { operation, range });
            }
            Ok(None) => self.respond(id, slot, Response::success(), memory),
            Err(status) => self.respond(id, slot, status.into(), memory),
        }
    }

    /// The next range of a Dataset Management that deallocates and is not empty.
    fn next_range(
        &mut self,
        id: ConnectionId,
        slot: u16,
        place: &Place,
        management: DatasetManagement,
    ) -> Result<Option<BlockRange>, Status> {
        let command = self.connections[id]
            .commands
            .get(slot)
            .expect("the command is alive");
        let Payload::Bytes(ranges) = &command.payload else {
            return Err(Status::INTERNAL_ERROR);
        };
        let count = usize::try_from(management.ranges.count()).expect("at most 256");
        let begun = usize::from(command.next_range);
        if !management.deallocate || begun >= count {
            return Ok(None);
        }
        let namespace = &self.subsystems[&place.subsystem].namespaces[&place.nsid];
        let parse = |at: usize| {
            let bytes = &ranges[at * DatasetManagementRange::SIZE..];
            DatasetManagementRange::parse(bytes).expect("the data is as long as its ranges")
        };
        // All of them are looked at before the first is carried out.
        let first = if begun == 0 { 0 } else { count };
        for at in first..count {
            let range = parse(at);
            check_range(namespace, range.slba.get(), range.length.get().into())?;
        }
        let next = (begun..count).find(|at| parse(*at).length.get() > 0);
        let found = next.map(|at| (at, parse(at)));
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        match found {
            Some((at, range)) => {
                check_range(namespace, range.slba.get(), range.length.get().into())?;
                // Behind it only once it was carried out: until then it may have to wait (for an orphan, R8).
                command.next_range = at as u16;
                Ok(Some(BlockRange::new(range.slba.get(), range.length.get().into())))
            }
            None => Ok(None),
        }
    }

    /// The backend answered a command's request.
    pub(crate) fn executed(
        &mut self,
        now: Time,
        name: CommandRef,
        status: block::Status,
        memory: &mut dyn Memory,
    ) {
        let CommandRef {
            connection: id,
            slot,
            serial,
        } = name;
        let live = self
            .connections
            .get_mut(id)
            .expect("a command in flight is alive or orphaned");
        live.executing -= 1;
        let queue = live.queue().expect("commands are handed out from queues");
        let command = live.commands.get_mut(slot).expect("alive or orphaned");
        assert_eq!(command.serial, serial, "alive or orphaned");
        let Work::Io(work) = command.work else {
            unreachable!("only I/O commands are handed out");
        };
        let data = match (&work, &mut command.payload) {
            (IoCommand::Read(_), Payload::Lent { data, .. }) if status == block::Status::Success => {
                let data = *data;
                let payload = std::mem::take(&mut command.payload);
                let lane = command.lane;
                self.discount(lane, &payload);
                Some(data)
            }
            _ => None,
        };
        self.count(&queue, &work, status);
        if status != block::Status::Success {
            let modifies = access(&work) == Some(Access::Write);
            let status = status_map::status(status, modifies);
            return self.respond(id, slot, status.into(), memory);
        }
        match work {
            IoCommand::DatasetManagement(_) => {
                self.command_mut(name).expect("it is alive").next_range += 1;
                self.execute(now, id, slot, memory);
            }
            IoCommand::Read(_) => {
                let data = data.expect("a read has a buffer");
                self.respond(id, slot, Response::lent(data), memory);
            }
            IoCommand::Compare(_) => {
                let response = self.compare(name, memory);
                self.respond(id, slot, response, memory);
            }
            _ => self.respond(id, slot, Response::success(), memory),
        }
    }

    /// Whether what was read is what the host sent.
    fn compare(&self, name: CommandRef, memory: &dyn Memory) -> Response {
        let command = self.command(name).expect("it was just executed");
        match command.payload {
            Payload::Lent {
                data,
                scratch: Some(scratch),
            } => match memory.bytes(data) == memory.bytes(scratch) {
                true => Response::success(),
                false => Status::COMPARE_FAILURE.do_not_retry().into(),
            },
            _ => unreachable!("Compare has two buffers"),
        }
    }

    /// What the SMART log page tells.
    fn count(&mut self, queue: &Queue, command: &IoCommand, status: block::Status) {
        let Some(controller) = self.controller_of(queue) else {
            return;
        };
        let counters = &mut controller.counters;
        match command {
            IoCommand::Read(read) => {
                counters.reads += 1;
                counters.bytes_read += range(&read.blocks).length.bytes();
            }
            IoCommand::Write(write) => {
                counters.writes += 1;
                counters.bytes_written += range(&write.blocks).length.bytes();
            }
            _ => {}
        }
        if status == block::Status::MediaError {
            counters.media_errors += 1;
        }
    }
}

fn allows(namespace: &Namespace, host: HostId, access: Access) -> bool {
    match &namespace.reservations {
        Some(reservations) => reservations.table.allows(host, access),
        None => true,
    }
}

/// What a command does to blocks, as far as reservations care; `None` for the reservation commands themselves.
fn access(command: &IoCommand) -> Option<Access> {
    match command {
        IoCommand::Read(_) | IoCommand::Compare(_) => Some(Access::Read),
        IoCommand::Write(_)
        | IoCommand::Flush
        | IoCommand::WriteZeroes(_)
        | IoCommand::DatasetManagement(_) => Some(Access::Write),
        IoCommand::ReservationRegister(_)
        | IoCommand::ReservationAcquire(_)
        | IoCommand::ReservationRelease(_)
        | IoCommand::ReservationReport(_) => None,
    }
}

fn blocks(command: &IoCommand) -> Option<LogicalBlocks> {
    match command {
        IoCommand::Read(read) => Some(read.blocks),
        IoCommand::Write(write) => Some(write.blocks),
        IoCommand::Compare(compare) => Some(compare.blocks),
        IoCommand::WriteZeroes(zeroes) => Some(zeroes.blocks),
        _ => None,
    }
}

fn range(blocks: &LogicalBlocks) -> BlockRange {
    BlockRange::new(blocks.slba, blocks.count().into())
}

fn check_range(namespace: &Namespace, slba: u64, count: u64) -> Result<(), Status> {
    match slba.checked_add(count) {
        Some(end) if end <= namespace.config.size_blocks.0 => Ok(()),
        _ => Err(Status::LBA_OUT_OF_RANGE.do_not_retry()),
    }
}

/// What the backend is asked for; `write_through`: writes are durable.
fn request(command: &IoCommand, buffer: Option<BufferSlice>, write_through: bool) -> Request {
    let buffer = || buffer.expect("commands that move data have a buffer");
    let (operation, range) = match command {
        IoCommand::Read(read) => (Operation::Read { buffer: buffer() }, range(&read.blocks)),
        IoCommand::Compare(compare) => (Operation::Read { buffer: buffer() }, range(&compare.blocks)),
        IoCommand::Write(write) => {
            let durable = write.blocks.force_unit_access || write_through;
            (
                Operation::Write {
                    buffer: buffer(),
                    durable,
                },
                range(&write.blocks),
            )
        }
        IoCommand::WriteZeroes(zeroes) => {
            let durable = zeroes.blocks.force_unit_access || write_through;
            let deallocate = zeroes.deallocate;
            (
                Operation::WriteZeroes { deallocate, durable },
                range(&zeroes.blocks),
            )
        }
        IoCommand::Flush => (Operation::Flush, BlockRange::default()),
        _ => unreachable!("not one request"),
    };
    Request { operation, range }
}
