//! Messages: REST bodies for people, agent messages between workers, api-servers and nodes, and their conversion to
//! and from `cluster`'s domain types.
#![forbid(unsafe_code)]

pub mod agent;
