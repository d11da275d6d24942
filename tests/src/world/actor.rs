//! A production machine as the world sees it: any node, with its control messages and reports behind `Any`.

use block::{BufferSlice, Memory, Time};
use fabric::driver::{ConnectionId, Event, Machine, Output};
use std::any::Any;

/// A machine, whatever it says to its control plane.
pub trait Actor {
    /// As [`Machine::handle`]; the control message must be of the machine's own type.
    fn handle(&mut self, now: Time, event: Event<'_, Box<dyn Any>>, memory: &mut dyn Memory);
    /// As [`Machine::poll_output`].
    fn poll_output(&mut self) -> Option<Output<Box<dyn Any>>>;
    /// As [`Machine::next_timeout`].
    fn next_timeout(&self) -> Option<Time>;
    /// As [`Machine::landing`].
    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice>;
}

impl<M: Machine> Actor for M
where
    M::Control: 'static,
    M::Report: 'static,
{
    fn handle(&mut self, now: Time, event: Event<'_, Box<dyn Any>>, memory: &mut dyn Memory) {
        let event = match event {
            Event::Accepted { connection, listener } => Event::Accepted { connection, listener },
            Event::Connected { connection } => Event::Connected { connection },
            Event::Received { connection, bytes } => Event::Received { connection, bytes },
            Event::HandedOver {
                connection,
                listener,
                received,
            } => Event::HandedOver {
                connection,
                listener,
                received,
            },
            Event::Landed { connection, length } => Event::Landed { connection, length },
            Event::Closed { connection, reason } => Event::Closed { connection, reason },
            Event::DiskCompleted { request, result } => Event::DiskCompleted { request, result },
            Event::Timeout => Event::Timeout,
            Event::Control(message) => Event::Control(
                *message
                    .downcast::<M::Control>()
                    .expect("a control message of the machine's own type"),
            ),
        };
        Machine::handle(self, now, event, memory);
    }

    fn poll_output(&mut self) -> Option<Output<Box<dyn Any>>> {
        Some(match Machine::poll_output(self)? {
            Output::Connect { connection, address } => Output::Connect { connection, address },
            Output::Send { connection, segment } => Output::Send { connection, segment },
            Output::Close { connection, abort } => Output::Close { connection, abort },
            Output::HandOver {
                connection,
                reactor,
                received,
            } => Output::HandOver {
                connection,
                reactor,
                received,
            },
            Output::Disk {
                request,
                disk,
                operation,
            } => Output::Disk {
                request,
                disk,
                operation,
            },
            Output::Report(report) => Output::Report(Box::new(report as Box<dyn Any>)),
        })
    }

    fn next_timeout(&self) -> Option<Time> {
        Machine::next_timeout(self)
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        Machine::landing(self, connection)
    }
}
