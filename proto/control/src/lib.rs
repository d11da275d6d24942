//! Messages: REST bodies for people, agent messages between workers, api-servers and nodes, and their conversion to
//! and from `cluster`'s domain types.
//!
//! REST bodies are types of their own, apart from the records of the store: a record may change without an answer to
//! people changing, and the other way round. What people send is checked here, once, into domain values.
#![forbid(unsafe_code)]

pub mod agent;
pub mod problem;
pub mod rest;
