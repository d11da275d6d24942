//! The connections of a target, by the index in their names: one step to any of them.
//!
//! Invariant: whoever looks for a connection finds that one or none, never another of the same index.

use super::queue::Connection;
use crate::driver::ConnectionId;
use std::ops::Index;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    count: usize,
}

impl Connections {
    /// Adds a connection; no other one that is alive has its index.
    pub(crate) fn insert(&mut self, connection: Connection) {
        let index = connection.name.index();
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        if let Some(other) = &self.slots[index] {
            panic!("{:?} and {:?} are open both", other.name, connection.name);
        }
        self.slots[index] = Some(Box::new(connection));
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, name: ConnectionId) -> Option<Connection> {
        let slot = self.slots.get_mut(name.index())?;
        if slot.as_ref().is_none_or(|connection| connection.name != name) {
            return None;
        }
        self.count -= 1;
        slot.take().map(|connection| *connection)
    }

    #[inline]
    pub(crate) fn get(&self, name: ConnectionId) -> Option<&Connection> {
        let connection = self.slots.get(name.index())?.as_deref()?;
        (connection.name == name).then_some(connection)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, name: ConnectionId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(name.index())?.as_deref_mut()?;
        (connection.name == name).then_some(connection)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten().map(|connection| &**connection)
    }
}

impl Index<ConnectionId> for Connections {
    type Output = Connection;

    fn index(&self, name: ConnectionId) -> &Connection {
        self.get(name).expect("the connection is alive")
    }
}
