//! One fabric for all tests that leave it whole: pool `p`, and in it a neighbour who must not notice them.

use super::fabric::{Fabric, Shape};
use super::neighbour::Neighbour;
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) struct Shared {
    pub(crate) fabric: Fabric,
    neighbour: Mutex<Neighbour>,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// The fabric; it ends with the last test that uses it.
pub(crate) fn shared() -> Arc<Shared> {
    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = slot.upgrade() {
        return shared;
    }
    let fabric = Fabric::start(Shape {
        disk_nodes: 3,
        controller_nodes: 2,
        etcd: false,
    });
    fabric.create_pool("p", "64MiB");
    let neighbour = Mutex::new(fabric.neighbour("neighbour", "p"));
    let shared = Arc::new(Shared { fabric, neighbour });
    *slot = Arc::downgrade(&shared);
    shared
}

impl Shared {
    /// The neighbour's I/O goes on.
    pub(crate) fn neighbour_goes_on(&self) {
        self.neighbour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .goes_on();
    }
}
