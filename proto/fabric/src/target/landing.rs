//! Data that is received where it belongs: a driver that knows where the next bytes of a connection go puts them there
//! himself, and what is left to do here is to count them.
//!
//! Invariant: bytes that landed and bytes that were brought make no difference to anything that follows.

use super::Target;
use super::command::{Payload, Work};
use super::queue::Phase;
use crate::driver::ConnectionId;
use block::{BufferSlice, Memory, Time};

/// Fewer bytes than that are brought: a receive of their own costs more than a copy.
const LANDING_BYTES_MIN: u32 = 8 * 1024;

impl Target {
    /// Where the next bytes of a connection belong, if they are a command's data on its way into a buffer, and if there are
    /// enough of them still to come.
    pub fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        let live = self.connections.get(connection)?;
        let left = live.session.data_left();
        if left < LANDING_BYTES_MIN || !matches!(live.phase, Phase::Queue(_)) {
            return None;
        }
        let incoming = live.incoming.as_ref()?;
        let command = live.commands.get(incoming.slot?)?;
        match (&command.work, &command.payload) {
            (Work::Refused(_), _) => None,
            (_, Payload::Lent { data, .. }) => Some(data.part(incoming.offset, left)),
            _ => None,
        }
    }

    /// So many bytes are where [`Target::landing`] said last for this connection. Ignored if it has ended or ends.
    ///
    /// # Panics
    /// If no landing was offered, or fewer bytes.
    pub fn landed(&mut self, now: Time, connection: ConnectionId, length: u32, memory: &mut dyn Memory) {
        let alive = self.connections.get(connection);
        if alive.is_none_or(|live| matches!(live.phase, Phase::Terminating { .. })) {
            return;
        }
        let place = self.landing(connection).expect("a landing was offered");
        let live = self.connections.get_mut(connection).expect("just seen");
        live.session.landed(memory.bytes(place.part(0, length)));
        live.incoming.as_mut().expect("data was announced").offset += length;
        // Its end may have come with these.
        self.received(now, connection, &[], memory);
    }
}
