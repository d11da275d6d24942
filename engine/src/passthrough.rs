//! Commands to NVMe namespaces as the kernel takes them: `struct nvme_uring_cmd`, and `struct nvme_passthru_cmd`, which is laid
//! out alike (`linux/nvme_ioctl.h`).
//!
//! The kernel passes a command on to the device as it is. It answers with the status field of the completion, without
//! the phase tag (zero is success), or with a negative error number.

use crate::task::{Command, Data};
use io_uring::opcode::UringCmd80;
use io_uring::squeue::Entry128;
use io_uring::types;
use nvme::{AdminCommand, Cid, Nsid, Sgl, SubmissionQueueEntry};
use std::io;
use std::os::fd::RawFd;

/// `sizeof(struct nvme_uring_cmd)`.
const SIZE: usize = 72;

/// `_IO('N', 0x40)`: the namespace's identifier.
const NVME_IOCTL_ID: libc::Ioctl = 0x4e40;
/// `_IOWR('N', number, struct nvme_passthru_cmd)`.
const fn passthrough(number: u32) -> u32 {
    3 << 30 | (SIZE as u32) << 16 | (b'N' as u32) << 8 | number
}
const NVME_IOCTL_ADMIN_CMD: libc::Ioctl = passthrough(0x41) as libc::Ioctl;
const NVME_IOCTL_IO_CMD: libc::Ioctl = passthrough(0x43) as libc::Ioctl;
const NVME_URING_CMD_IO: u32 = passthrough(0x80);

/// A command in the kernel's form.
pub(crate) struct PassthroughCommand {
    bytes: [u8; 80],
}

impl PassthroughCommand {
    pub(crate) fn new(command: &Command) -> PassthroughCommand {
        let entry = command.command.encode(Cid(0), command.nsid, Sgl::NONE);
        let (address, length) = match command.data {
            Data::At { address, length } => (address.0, length),
            Data::None => (std::ptr::null_mut(), 0),
            Data::Range { .. } => unreachable!("a range has been put into memory before its command is sent"),
        };
        PassthroughCommand::of(&entry, address, length)
    }

    fn of(entry: &SubmissionQueueEntry, address: *mut u8, length: u32) -> PassthroughCommand {
        let mut bytes = [0; 80];
        bytes[0] = entry.opcode;
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(4, &entry.nsid.get().to_ne_bytes());
        put(24, &(address.expose_provenance() as u64).to_ne_bytes());
        put(36, &length.to_ne_bytes());
        for (index, dword) in entry.dwords().iter().enumerate() {
            put(40 + 4 * index, &dword.to_ne_bytes());
        }
        PassthroughCommand { bytes }
    }

    /// As an entry of a ring; `fixed` is the registered piece its memory lies in.
    pub(crate) fn entry(&self, descriptor: types::Fd, fixed: Option<u16>) -> Entry128 {
        UringCmd80::new(descriptor, NVME_URING_CMD_IO)
            .buf_index(fixed)
            .cmd(self.bytes)
            .build()
    }

    /// Sends it and waits: the status, or the negative error number.
    pub(crate) fn wait(&mut self, descriptor: RawFd) -> i32 {
        self.wait_as(descriptor, NVME_IOCTL_IO_CMD)
    }

    fn wait_as(&mut self, descriptor: RawFd, request: libc::Ioctl) -> i32 {
        // SAFETY: the call reads and writes `struct nvme_passthru_cmd`, shorter than these bytes, and the memory the
        // command names, which is lent until it has returned (see `Lent`).
        let answer = unsafe { libc::ioctl(descriptor, request, self.bytes.as_mut_ptr()) };
        match answer {
            0.. => answer,
            _ => -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// The identifier of the namespace behind a character device.
pub(crate) fn namespace_id(descriptor: RawFd) -> io::Result<Nsid> {
    // SAFETY: no memory is involved.
    match unsafe { libc::ioctl(descriptor, NVME_IOCTL_ID) } {
        nsid @ 1.. => Ok(Nsid(nsid as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends Identify and waits: the status, or the negative error number. The answer lies in `data`.
pub(crate) fn identify(descriptor: RawFd, identify: nvme::command::Identify, data: &mut [u8; 4096]) -> i32 {
    let entry = AdminCommand::Identify(identify).encode(Cid(0), Sgl::NONE);
    PassthroughCommand::of(&entry, data.as_mut_ptr(), data.len() as u32)
        .wait_as(descriptor, NVME_IOCTL_ADMIN_CMD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Lent;
    use nvme::command::{LogicalBlocks, Write};
    use nvme::{IoCommand, ZeroBased};

    /// `linux/nvme_ioctl.h`, field by field.
    #[test]
    fn a_command_lies_as_the_kernel_reads_it() {
        let blocks = LogicalBlocks {
            force_unit_access: true,
            ..LogicalBlocks::new(0x1122_3344_5566_7788, ZeroBased::<u16>::from_count(8).unwrap())
        };
        let command = Command {
            nsid: Nsid(3),
            command: IoCommand::Write(Write::new(blocks)),
            data: Data::At {
                address: Lent(std::ptr::without_provenance_mut(0xAABB_CCDD_0000)),
                length: 4096,
            },
            covers_bytes: 4096,
        };
        let bytes = PassthroughCommand::new(&command).bytes;
        let dword = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((bytes[0], bytes[1]), (0x01, 0), "opcode, flags");
        assert_eq!(dword(4), 3, "nsid");
        assert_eq!((dword(8), dword(12)), (0, 0), "cdw2, cdw3");
        assert_eq!(
            u64::from_ne_bytes(bytes[16..24].try_into().unwrap()),
            0,
            "metadata"
        );
        assert_eq!(
            u64::from_ne_bytes(bytes[24..32].try_into().unwrap()),
            0xAABB_CCDD_0000,
            "addr"
        );
        assert_eq!((dword(32), dword(36)), (0, 4096), "metadata_len, data_len");
        assert_eq!((dword(40), dword(44)), (0x5566_7788, 0x1122_3344), "slba");
        assert_eq!(dword(48), 1 << 30 | 7, "nlb, FUA");
        assert!(bytes[52..].iter().all(|byte| *byte == 0), "cdw13 to the end");
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(NVME_IOCTL_ADMIN_CMD as u32, 0xC048_4E41);
        assert_eq!(NVME_IOCTL_IO_CMD as u32, 0xC048_4E43);
        assert_eq!(NVME_URING_CMD_IO, 0xC048_4E80);
    }
}
