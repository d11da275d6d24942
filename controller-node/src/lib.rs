//! A controller node: owner of, or standby for, slices of pools, which it shows to hosts as NVMe namespaces.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | the machine: carries messages between the parts |
//! | `pool` | one pool here: grant, slice, fenced legs, ANA |
//! | `fence` | the conversation that fences one leg (R2) |
//! | `paths` | associations with disks |
//! | `exports` | subsystems and namespaces as shown to hosts |
//! | `timers` | when which pool wants to be woken |
//! | `volumes` | which volumes the map is to gain, lose or enlarge |
//! | `front` | the reactors of a node as one: pools dealt out, reports joined |
//! | [`serve`] | the machines on their reactors, and the node as its agent sees it |
//!
//! What this crate deliberately is not: it decides no ownership (configurations do), allocates no space on disks, and knows no
//! store.
#![forbid(unsafe_code)]

mod exports;
mod fence;
mod front;
pub mod node;
mod paths;
mod pool;
pub mod serve;
mod timers;
mod volumes;
