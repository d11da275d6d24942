//! Opening an NVMe namespace by its character device (`/dev/ngXnY`), and finding out what it is like.
//!
//! Commands go to it past the kernel's block layer: no scheduler, no splitting, no merging. So whoever sends them keeps the
//! limits of the controller himself; they are found out here.
//!
//! The lock on the character device keeps out those who lock it; what keeps out everybody else (mounts, volume managers,
//! partition tools) is the exclusive claim on the block device of the same namespace, which is held as well.

use crate::error::OpenDisk;
use crate::namespace_call::Shape;
use crate::passthrough;
use block::BLOCK_SIZE;
use nvme::Nsid;
use nvme::command::{Cns, Identify};
use nvme::identify::controller::{oncs, vwc};
use nvme::identify::namespace::{dlfeat, nsattr};
use nvme::identify::{
    IdentifyController, IdentifyNamespace, NamespaceIdentification, NamespaceIdentificationDescriptors,
    NvmIdentifyController,
};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The smallest memory page of a controller has at least this size; limits are told in such pages (CAP.MPSMIN).
const CONTROLLER_PAGE_BYTES: u64 = 4096;
/// What one command transfers where the kernel does not say what it takes.
const TRANSFER_BYTES_UNTOLD: u64 = 128 << 10;
/// A command covers no more logical blocks (NLB has 16 bits).
const COMMAND_BLOCKS_MAX: u64 = 1 << 16;
/// No range of Dataset Management is longer, so that one command does not hold a namespace for long.
const DEALLOCATE_BYTES_MAX: u64 = 1 << 30;

/// The block device of the namespace whose character device this is; `None` if it is no such device.
pub(crate) fn block_device_of(metadata: &Metadata) -> Option<PathBuf> {
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    let device = std::fs::canonicalize(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let subsystem = std::fs::canonicalize(device.join("subsystem")).ok()?;
    if subsystem.file_name()? != "nvme-generic" {
        return None;
    }
    let number = device.file_name()?.to_str()?.strip_prefix("ng")?;
    Some(Path::new("/dev").join(format!("nvme{number}")))
}

/// What the kernel takes in one command to this namespace.
#[derive(Clone, Copy, Debug, Default)]
struct KernelLimits {
    transfer_bytes: Option<u64>,
    segments: Option<u64>,
}

impl KernelLimits {
    fn of(block_device: &Path) -> KernelLimits {
        let queue = block_device
            .file_name()
            .map(|name| Path::new("/sys/block").join(name).join("queue"));
        let limit = |name: &str| -> Option<u64> {
            let text = std::fs::read_to_string(queue.as_ref()?.join(name)).ok()?;
            text.trim().parse().ok()
        };
        KernelLimits {
            transfer_bytes: limit("max_hw_sectors_kb").map(|kib| kib << 10),
            segments: limit("max_segments"),
        }
    }
}

/// Asks the namespace and its controller what they are like. Answers that, and the namespace's size in bytes.
pub(crate) fn look(file: &File, block_device: &Path, path: &str) -> Result<(Shape, u64), OpenDisk> {
    let descriptor = file.as_raw_fd();
    let nsid = passthrough::namespace_id(descriptor).map_err(|source| OpenDisk::Open {
        path: path.to_owned(),
        source,
    })?;
    let unusable = |reason: String| OpenDisk::Namespace {
        path: path.to_owned(),
        reason,
    };
    let namespace = ask(descriptor, Identify::new(Cns::Namespace, nsid)).map_err(unusable)?;
    let controller = ask(descriptor, Identify::new(Cns::Controller, Nsid::NONE)).map_err(unusable)?;
    // Controllers older than these structures refuse; then there is nothing in them to know.
    let descriptors = ask(
        descriptor,
        Identify::new(Cns::NamespaceIdentificationDescriptors, nsid),
    );
    let limits = ask(descriptor, Identify::new(Cns::CommandSetController, Nsid::NONE));
    let told = Told {
        nsid,
        namespace: IdentifyNamespace::from_bytes(*namespace),
        controller: IdentifyController::from_bytes(*controller),
        limits: limits.map_or_else(
            |_| NvmIdentifyController::default(),
            |bytes| NvmIdentifyController::from_bytes(*bytes),
        ),
        command_set: descriptors.map_or(0, |bytes| command_set(&bytes[..])),
        kernel: KernelLimits::of(block_device),
    };
    told.shape().map_err(unusable)
}

fn command_set(bytes: &[u8]) -> u8 {
    let NamespaceIdentificationDescriptors(all) = NamespaceIdentificationDescriptors::parse(bytes);
    let told = all.iter().find_map(|identification| match identification {
        NamespaceIdentification::Csi(csi) => Some(*csi),
        _ => None,
    });
    told.unwrap_or(0)
}

fn ask(descriptor: RawFd, identify: Identify) -> Result<Box<[u8; 4096]>, String> {
    let mut data = Box::new([0; 4096]);
    match passthrough::identify(descriptor, identify, &mut data) {
        0 => Ok(data),
        status @ 1.. => Err(format!(
            "Identify ({:?}) answers status {status:#x}",
            identify.cns
        )),
        error => Err(format!(
            "Identify ({:?}) fails: {}",
            identify.cns,
            std::io::Error::from_raw_os_error(-error)
        )),
    }
}

/// What controller and kernel said.
struct Told {
    nsid: Nsid,
    namespace: IdentifyNamespace,
    controller: IdentifyController,
    limits: NvmIdentifyController,
    command_set: u8,
    kernel: KernelLimits,
}

impl Told {
    /// The shape, and the size in bytes; or why the namespace is of no use.
    fn shape(&self) -> Result<(Shape, u64), String> {
        if self.command_set != nvme::identify::command_set::CSI_NVM {
            return Err(format!(
                "it has command set {}, and only the NVM command set (0) is supported",
                self.command_set
            ));
        }
        let block_shift = self.block_shift()?;
        if self.namespace.nsattr & nsattr::WRITE_PROTECTED != 0 {
            return Err("it is write protected".to_owned());
        }
        let shape = Shape {
            nsid: self.nsid,
            block_shift,
            transfer_bytes_max: self.transfer_bytes_max(block_shift) as u32,
            zeroes_bytes_max: self.zeroes_bytes_max(block_shift),
            zeroes_deallocate: self.zeroes_deallocate(),
            deallocate_blocks_max: self.deallocate_blocks_max(block_shift),
            volatile_cache: self.controller.vwc & vwc::PRESENT != 0,
        };
        let size_bytes = self.namespace.nsze.get().checked_shl(block_shift.into());
        Ok((shape, size_bytes.ok_or("its size makes no sense")?))
    }

    fn block_shift(&self) -> Result<u8, String> {
        let format = self.namespace.lba_format();
        match (format.block_size(), format.metadata_size.get()) {
            (None, _) => Err("its LBA format makes no sense".to_owned()),
            (Some(bytes), _) if bytes > BLOCK_SIZE => Err(format!(
                "its logical blocks have {bytes} bytes: at most {BLOCK_SIZE} are supported"
            )),
            (Some(_), metadata @ 1..) => Err(format!(
                "its LBA format has {metadata} bytes of metadata a block, and only formats without are supported: \
                 format it anew"
            )),
            (Some(_), 0) => Ok(format.lba_data_size),
        }
    }

    /// What one command transfers: what the controller takes, and what the kernel can describe to it when every page lies
    /// elsewhere.
    fn transfer_bytes_max(&self, block_shift: u8) -> u64 {
        let controller = self
            .controller
            .max_data_transfer_size(CONTROLLER_PAGE_BYTES)
            .unwrap_or(u64::MAX);
        let kernel = self.kernel.transfer_bytes.unwrap_or(TRANSFER_BYTES_UNTOLD);
        let segments = self.kernel.segments.map_or(TRANSFER_BYTES_UNTOLD, |segments| {
            segments.saturating_sub(1) * 4096
        });
        whole_blocks(controller.min(kernel).min(segments), block_shift).max(BLOCK_SIZE.into())
    }

    fn zeroes_bytes_max(&self, block_shift: u8) -> u64 {
        let told = match self.limits.wzsl {
            // Where none is told the limit of transfers is safe: it bounds the work of a command.
            0 => self.controller.max_data_transfer_size(CONTROLLER_PAGE_BYTES),
            shift => CONTROLLER_PAGE_BYTES.checked_shl(shift.into()),
        };
        match self.controller.oncs.get() & oncs::WRITE_ZEROES {
            0 => 0,
            _ => whole_blocks(told.unwrap_or(u64::MAX), block_shift),
        }
    }

    fn zeroes_deallocate(&self) -> bool {
        let features = self.namespace.dlfeat;
        features & 0b111 == dlfeat::READ_ZEROES && features & dlfeat::WRITE_ZEROES_DEALLOCATES != 0
    }

    fn deallocate_blocks_max(&self, block_shift: u8) -> u32 {
        if self.controller.oncs.get() & oncs::DATASET_MANAGEMENT == 0 {
            return 0;
        }
        let limit = |told: u64| if told == 0 { u64::MAX } else { told };
        let blocks = limit(self.limits.dmrsl.get().into()).min(limit(self.limits.dmsl.get()));
        let most = blocks.min(DEALLOCATE_BYTES_MAX >> block_shift);
        let unit = u64::from(BLOCK_SIZE) >> block_shift;
        (most - most % unit) as u32
    }
}

/// Whole blocks of 4096 bytes, as many as one command may cover.
fn whole_blocks(bytes: u64, block_shift: u8) -> u64 {
    let most = bytes.min(COMMAND_BLOCKS_MAX << block_shift);
    most - most % u64::from(BLOCK_SIZE)
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
