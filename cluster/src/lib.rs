//! What the control plane knows: what people want (spec), what is (status), what shall be (layout), and the pure
//! functions between them (place, plan, audit, diff).
//!
//! What this crate deliberately is not: it reads no store, no clock and no network, and draws no random numbers;
//! fresh ids are an argument. Types here are the records of the store and the configurations of the nodes, as they
//! are; messages to people are `control`'s.
#![forbid(unsafe_code)]

pub mod audit;
pub mod config;
pub mod diff;
pub mod event;
pub mod id;
pub mod key;
pub mod layout;
pub mod node_config;
pub mod operation;
pub mod placement;
pub mod plan;
pub mod size;
pub mod spec;
pub mod status;
pub mod view;

pub use id::*;
