//! What Identify returns (Base, 5.1.13; NVM, 4.1.5): always 4096 bytes.

pub mod command_set;
pub mod controller;
pub mod descriptor;
pub mod list;
pub mod namespace;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub use command_set::{
    CommandSetVector, IndependentNamespace, IoCommandSets, NvmIdentifyController, NvmIdentifyNamespace,
};
pub use controller::{ControllerType, IdentifyController, PowerStateDescriptor};
pub use descriptor::{NamespaceIdentification, NamespaceIdentificationDescriptors};
pub use list::{ControllerList, NamespaceList};
pub use namespace::{IdentifyNamespace, LbaFormat};
