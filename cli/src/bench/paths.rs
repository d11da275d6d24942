//! The ways to the namespace: associations of this thread's own, or many paths as one.
//!
//! Requests go to the association that their slot belongs to; with many paths there is one way, and it chooses.

use super::arguments::RunOptions;
use block::{BufferSlice, Memory, Time};
use fabric::driver::{ConnectionId, Event, Output};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges,
    ConnectionIds, Multipath, MultipathConfig, MultipathEvent, MultipathOutput, Refused, Tag, VolumeId,
};
use nvme::Status;

/// What the ways have to tell.
#[derive(Debug)]
pub(super) enum Told<R> {
    /// For the driver.
    Output(Output<R>),
    /// A way can be used.
    Ready,
    /// A way was lost, or could not be made; for people.
    Lost(String),
    /// A request has ended.
    Ended {
        slot: usize,
        result: Result<u64, Status>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) enum Paths {
    /// By the range of their connections' names.
    Own {
        associations: Vec<Association>,
        /// Whose outputs are being polled.
        current: usize,
    },
    Many {
        multipath: Box<Multipath>,
        volume: Option<VolumeId>,
    },
}

impl Paths {
    /// Not connected yet.
    pub(super) fn new(options: &RunOptions, host_id: [u8; 16]) -> Paths {
        let config = AssociationConfig {
            io_queues: options.connections,
            queue_depth: options.queue_depth,
            header_digest: options.digests,
            data_digest: options.digests,
            ..AssociationConfig::new(&options.host_nqn, host_id, &options.nqn, options.addresses[0])
        };
        let mut ranges = ConnectionIdRanges::new();
        if options.addresses.len() > 1 {
            let config = MultipathConfig::new(config);
            return Paths::Many {
                multipath: Box::new(Multipath::new(config, ranges)),
                volume: None,
            };
        }
        let one = |_| Association::new(config.clone(), ranges.take());
        Paths::Own {
            associations: (0..options.associations.max(1)).map(one).collect(),
            current: 0,
        }
    }

    /// How many ways requests are spread over.
    pub(super) fn ways(&self) -> usize {
        match self {
            Paths::Own { associations, .. } => associations.len(),
            Paths::Many { .. } => 1,
        }
    }

    pub(super) fn connect(&mut self, now: Time, options: &RunOptions, memory: &mut dyn Memory) {
        match self {
            Paths::Own { associations, .. } => associations.iter_mut().for_each(|one| one.connect(now)),
            Paths::Many { multipath, .. } => {
                for address in &options.addresses {
                    multipath.connect(now, *address, memory);
                }
            }
        }
    }

    pub(super) fn disconnect(&mut self, now: Time, memory: &mut dyn Memory) {
        match self {
            Paths::Own { associations, .. } => associations
                .iter_mut()
                .for_each(|one| one.disconnect(now, memory)),
            Paths::Many { multipath, .. } => multipath.disconnect_all(now, memory),
        }
    }

    /// Whether all are connected, as far as they are needed: then how many blocks the namespace has.
    pub(super) fn blocks(&mut self, nsid: u32) -> Option<u64> {
        match self {
            Paths::Own { associations, .. } => {
                if !associations.iter().all(Association::is_ready) {
                    return None;
                }
                let namespace = associations[0].namespaces().by_nsid(nsid);
                Some(namespace.map_or(0, |namespace| namespace.size.0))
            }
            Paths::Many { multipath, volume } => {
                if !multipath.paths().iter().all(|path| path.is_live()) {
                    return None;
                }
                *volume = multipath.volume_of(nsid);
                let all = multipath.volumes();
                let found = all.iter().find(|status| Some(status.volume) == *volume);
                Some(found.map_or(0, |status| status.size.0))
            }
        }
    }

    pub(super) fn submit(
        &mut self,
        now: Time,
        way: usize,
        nsid: u32,
        slot: usize,
        command: Command,
        memory: &mut dyn Memory,
    ) -> Result<(), Refused> {
        let tag = Tag(slot as u64);
        match self {
            Paths::Own { associations, .. } => associations[way].submit(now, nsid, tag, command, memory),
            Paths::Many { multipath, volume } => {
                let volume = volume.expect("known before anything is sent");
                multipath.submit(now, volume, tag, command, memory);
                Ok(())
            }
        }
    }

    /// Something happened on a connection of theirs, or their time has come.
    pub(super) fn handle<C>(&mut self, now: Time, event: Event<'_, C>, memory: &mut dyn Memory) {
        match self {
            Paths::Own {
                associations,
                current,
            } => {
                if let Event::Timeout = event {
                    return associations
                        .iter_mut()
                        .for_each(|one| one.handle_timeout(now, memory));
                }
                if let Some(way) = event_connection(&event).and_then(ConnectionIds::range_of) {
                    *current = way as usize;
                    tell(&mut associations[way as usize], now, event, memory);
                }
            }
            Paths::Many { multipath, .. } => match event {
                Event::Connected { connection } => multipath.handle_connected(now, connection, memory),
                Event::Received { connection, bytes } => {
                    multipath.handle_received(now, connection, bytes, memory)
                }
                Event::Landed { connection, length } => {
                    multipath.handle_landed(now, connection, length, memory)
                }
                Event::Closed { connection, reason } => {
                    multipath.handle_closed(now, connection, reason, memory)
                }
                _ => multipath.handle_timeout(now, memory),
            },
        }
    }

    /// What they have to tell, until there is nothing.
    pub(super) fn poll<R>(&mut self) -> Option<Told<R>> {
        match self {
            Paths::Own {
                associations,
                current,
            } => {
                for _ in 0..associations.len() {
                    while let Some(output) = associations[*current].poll_output() {
                        if let Some(told) = told_by_one(output) {
                            return Some(told);
                        }
                    }
                    *current = (*current + 1) % associations.len();
                }
                None
            }
            Paths::Many { multipath, .. } => loop {
                if let Some(told) = told_by_many(multipath.poll_output()?) {
                    return Some(told);
                }
            },
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        match self {
            Paths::Own { associations, .. } => {
                associations.iter().filter_map(Association::next_timeout).min()
            }
            Paths::Many { multipath, .. } => multipath.next_timeout(),
        }
    }

    pub(super) fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        match self {
            Paths::Own { associations, .. } => {
                let way = ConnectionIds::range_of(connection)? as usize;
                associations[way].landing(connection)
            }
            Paths::Many { multipath, .. } => multipath.landing(connection),
        }
    }
}

/// Which connection it is about.
pub(super) fn event_connection<C>(event: &Event<'_, C>) -> Option<ConnectionId> {
    match event {
        Event::Connected { connection }
        | Event::Received { connection, .. }
        | Event::Landed { connection, .. }
        | Event::Closed { connection, .. } => Some(*connection),
        _ => None,
    }
}

/// Tells an association what happened on a connection of its own.
pub(super) fn tell<C>(
    association: &mut Association,
    now: Time,
    event: Event<'_, C>,
    memory: &mut dyn Memory,
) {
    match event {
        Event::Connected { connection } => association.handle_connected(now, connection, memory),
        Event::Received { connection, bytes } => {
            association.handle_received(now, connection, bytes, memory);
        }
        Event::Landed { connection, length } => {
            association.handle_landed(now, connection, length, memory);
        }
        Event::Closed { connection, reason } => {
            association.handle_closed(now, connection, reason, memory);
        }
        _ => {}
    }
}

/// What an association has to tell, if it matters to a load.
pub(super) fn told_by_one<R>(output: AssociationOutput) -> Option<Told<R>> {
    Some(match output {
        AssociationOutput::Send { connection, segment } => Told::Output(Output::Send { connection, segment }),
        AssociationOutput::Connect { connection, address } => {
            Told::Output(Output::Connect { connection, address })
        }
        AssociationOutput::Close { connection, abort } => Told::Output(Output::Close { connection, abort }),
        AssociationOutput::Event(AssociationEvent::Completed { tag, result }) => Told::Ended {
            slot: tag.0 as usize,
            result,
        },
        AssociationOutput::Event(AssociationEvent::Ready { .. }) => Told::Ready,
        AssociationOutput::Event(AssociationEvent::Lost { reason }) => Told::Lost(reason.to_string()),
        AssociationOutput::Event(_) => return None,
    })
}

fn told_by_many<R>(output: MultipathOutput) -> Option<Told<R>> {
    Some(match output {
        MultipathOutput::Send { connection, segment } => Told::Output(Output::Send { connection, segment }),
        MultipathOutput::Connect { connection, address } => {
            Told::Output(Output::Connect { connection, address })
        }
        MultipathOutput::Close { connection, abort } => Told::Output(Output::Close { connection, abort }),
        MultipathOutput::Event(MultipathEvent::Completed { tag, result }) => Told::Ended {
            slot: tag.0 as usize,
            result,
        },
        MultipathOutput::Event(MultipathEvent::PathReady { .. }) => Told::Ready,
        MultipathOutput::Event(MultipathEvent::PathLost { reason, .. }) => Told::Lost(reason.to_string()),
        MultipathOutput::Event(MultipathEvent::NamespacesRead { .. }) => return None,
    })
}
