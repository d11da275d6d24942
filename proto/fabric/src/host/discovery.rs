//! Reading the discovery log page (Base 2.1, section 5.1.12.3.1): the header, then everything, then, if the controller's
//! counter has moved in between, all of it again.
//!
//! Not here: connecting to what was found.

use super::entries::{self, Prepared};
use super::lost::Lost;
use super::queue::Answer;
use nvme::log::{DiscoveryEntry, DiscoveryLog, DiscoveryLogEntry, DiscoveryLogHeader, LogPageIdentifier};

/// A log of more entries than this is refused.
const ENTRIES_MAX: u64 = 4096;
/// Entries read by one command.
const ENTRIES_AT_ONCE: u64 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Header,
    Entries,
    /// The header again.
    Check,
}

/// A reading of the log.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    wanted: bool,
    step: Step,
    /// Whether a command is out.
    waiting: bool,
    generation: u64,
    records: u64,
    bytes: Vec<u8>,
}

impl Discovery {
    /// Read the log, after a reading that is under way.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether nothing is being read nor to be read.
    pub(crate) fn is_idle(&self) -> bool {
        self.step == Step::Idle && !self.wanted
    }

    /// The connection is gone.
    pub(crate) fn stop(&mut self) {
        *self = Discovery::default();
    }

    /// The command to send now, if there is one.
    pub(crate) fn next(&mut self) -> Option<Prepared> {
        if self.waiting {
            return None;
        }
        if self.step == Step::Idle && core::mem::take(&mut self.wanted) {
            self.step = Step::Header;
        }
        let (offset, length) = match self.step {
            Step::Idle => return None,
            Step::Header | Step::Check => (0, DiscoveryLogHeader::SIZE as u64),
            Step::Entries => {
                let offset = self.bytes.len() as u64;
                let left = (self.records + 1) * DiscoveryLogEntry::SIZE as u64 - offset;
                (offset, left.min(ENTRIES_AT_ONCE * DiscoveryLogEntry::SIZE as u64))
            }
        };
        self.waiting = true;
        let length = u32::try_from(length).expect("a few entries");
        Some(entries::log_page(LogPageIdentifier::Discovery, offset, length))
    }

    /// A command was answered; the entries, if that was the last.
    ///
    /// # Errors
    /// The controller refused, or what it says makes no sense.
    pub(crate) fn answered(&mut self, answer: &Answer) -> Result<Option<Vec<DiscoveryEntry>>, Lost> {
        self.waiting = false;
        let status = answer.entry.status();
        if !status.is_success() {
            let what = "reading the discovery log";
            return Err(Lost::Refused { what, status });
        }
        match self.step {
            Step::Idle => Ok(None),
            Step::Header => self.begin(&answer.bytes),
            Step::Entries => self.append(&answer.bytes),
            Step::Check => self.finish(&answer.bytes),
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<Option<Vec<DiscoveryEntry>>, Lost> {
        let header = header(bytes)?;
        self.generation = header.generation.get();
        self.records = header.records.get();
        if self.records > ENTRIES_MAX {
            return Err(Lost::Unusable("its discovery log has too many entries"));
        }
        self.bytes = header.as_bytes().to_vec();
        self.step = if self.records == 0 {
            Step::Check
        } else {
            Step::Entries
        };
        Ok(None)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<Option<Vec<DiscoveryEntry>>, Lost> {
        let whole = (self.records as usize + 1) * DiscoveryLogEntry::SIZE;
        let is_short = bytes.is_empty() || !bytes.len().is_multiple_of(DiscoveryLogEntry::SIZE);
        if is_short || self.bytes.len() + bytes.len() > whole {
            return Err(Lost::Unusable("its discovery log is cut off"));
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() == whole {
            self.step = Step::Check;
        }
        Ok(None)
    }

    fn finish(&mut self, bytes: &[u8]) -> Result<Option<Vec<DiscoveryEntry>>, Lost> {
        if header(bytes)?.generation.get() != self.generation {
            self.step = Step::Header;
            return Ok(None);
        }
        self.step = Step::Idle;
        let bytes = core::mem::take(&mut self.bytes);
        let log = DiscoveryLog::parse(&bytes).map_err(|_| Lost::Unusable("its discovery log is cut off"))?;
        Ok(Some(
            log.entries.iter().filter_map(DiscoveryEntry::parse).collect(),
        ))
    }
}

fn header(bytes: &[u8]) -> Result<DiscoveryLogHeader, Lost> {
    DiscoveryLogHeader::parse(bytes).map_err(|_| Lost::Unusable("its discovery log has no header"))
}
