//! Fuzz targets: bytes into every parser, operations into every machine.
//!
//! A target is a function of bytes that panics if something is wrong. The `fuzz` binary (feature `engine`) searches for such
//! bytes, guided by coverage; the `replay` test runs what was found worth keeping (`corpus/`) through the same functions, and needs
//! nothing but cargo. docs/testing.md says how to use both.
//!
//! What all byte targets hold: what was parsed can be written, and reads the same again; nothing whose checksum is wrong is
//! accepted; what is allocated is bounded by a constant and the length of the input.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod input;
pub mod machines;
pub mod memory;
pub mod seeds;

/// Something that can be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its corpus's.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs need not be longer.
    pub length_max: usize,
    /// How much memory an input may make anybody hold at a time, beside [`PER_BYTE`] for each of its bytes.
    pub memory_bytes: u64,
}

/// How many bytes of memory each byte of an input may cost.
pub const PER_BYTE: u64 = 256;

const fn parser(name: &'static str, run: fn(&[u8]), length_max: usize) -> Target {
    Target {
        name,
        run,
        length_max,
        memory_bytes: 256 << 10,
    }
}

const fn machine(name: &'static str, run: fn(&[u8]), length_max: usize) -> Target {
    Target {
        name,
        run,
        length_max,
        memory_bytes: 64 << 20,
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    parser("pdu", bytes::pdu::run, 4096),
    parser("session", bytes::session::run, 4096),
    parser("command", bytes::command::run, 1200),
    parser("pages", bytes::pages::run, 6000),
    parser("leg-format", bytes::leg_format::run, 4200),
    parser("disk-format", bytes::disk_format::run, 9000),
    parser("records", bytes::records::run, 4096),
    parser("texts", bytes::texts::run, 1024),
    machine("rest", bytes::rest::run, 2048),
    machine("thin-image", bytes::thin_image::run, 512),
    machine("thin", machines::thin::run, 512),
    machine("target", machines::target::run, 1024),
    machine("host", machines::host::run, 1024),
    machine("mirror", machines::mirror::run, 768),
    machine("disk-node", machines::disk_node::run, 384),
];

/// Finds itself: an input that begins with a certain number. What shows that the engine works, and nothing else.
pub const PLANTED: Target = parser("planted", bytes::planted, 64);

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    let all = TARGETS.iter().chain([&PLANTED]);
    all.copied().find(|target| target.name == name)
}

impl Target {
    /// One input, and what it costs.
    ///
    /// # Panics
    /// If something is wrong.
    pub fn check(&self, bytes: &[u8]) {
        let cost = allocation_counter::measure(|| (self.run)(bytes));
        let most = self.memory_bytes + PER_BYTE * bytes.len() as u64;
        assert!(
            cost.bytes_max <= most,
            "{} bytes were held at a time for an input of {}",
            cost.bytes_max,
            bytes.len()
        );
    }
}
