//! Reading the namespaces of a controller: which there are, what each is, and how it can be reached (Base 2.1, sections
//! 5.1.13.2 and 5.1.12.1.13).
//!
//! One command at a time. The new table is built aside and takes the old one's place whole, so that no half of it is
//! ever seen. What is asked for while a reading is under way is read after it.
//!
//! Not here: when to read, beyond what an asynchronous event says.

use super::entries::{self, Prepared};
use super::lost::Lost;
use super::namespaces::{Namespace, NamespaceTable};
use super::queue::Answer;
use super::setup::ControllerFacts;
use block::Blocks;
use nvme::Status;
use nvme::async_event::AsyncEvent;
use nvme::command::Cns;
use nvme::identify::{IdentifyNamespace, NamespaceIdentificationDescriptors, NamespaceList};
use nvme::log::{AnaLog, AnaState, ChangedNamespaceList, LogPageIdentifier};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A controller with more namespaces than this is refused.
const NAMESPACES_MAX: usize = 1 << 16;
/// The log page tells the number of groups in 16 bits.
const ANA_GROUPS_MAX: usize = 1 << 16;

/// What is to be read next time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Every namespace, known or not.
    all: bool,
    /// Those in the Changed Namespace List, and new ones.
    changed: bool,
    /// The states of the groups.
    ana: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    ChangedList,
    /// The active namespaces behind this one.
    ActiveList {
        after: u32,
    },
    /// The first of `unread`.
    Identify,
    /// The first of `unread`; the last of `building`.
    Descriptors,
    Ana,
}

/// A reading, and what is to be read after it.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    wanted: Wanted,
    step: Step,
    /// Whether a command is out.
    waiting: bool,
    /// Read all namespaces, known or not.
    all: bool,
    /// Known namespaces that must be read again.
    changed: BTreeSet<u32>,
    /// How long the ANA log can be; `None` if there is none.
    ana_log_bytes: Option<u32>,
    listed: BTreeSet<u32>,
    unread: VecDeque<u32>,
    building: BTreeMap<u32, Namespace>,
}

impl Scan {
    /// Read everything again.
    pub(crate) fn want_all(&mut self) {
        self.wanted.all = true;
    }

    /// Read the ANA states again.
    pub(crate) fn want_ana(&mut self) {
        self.wanted.ana = true;
    }

    /// Read what an asynchronous event (dword 0 of its completion) says has changed.
    pub(crate) fn want_by_event(&mut self, dword: u32) {
        match AsyncEvent::parse(dword) {
            Some(AsyncEvent::NAMESPACE_CHANGED) => self.wanted.changed = true,
            Some(AsyncEvent::ANA_CHANGE) => self.wanted.ana = true,
            _ => {}
        }
    }

    /// Whether nothing is being read nor to be read.
    pub(crate) fn is_idle(&self) -> bool {
        self.step == Step::Idle && self.wanted == Wanted::default()
    }

    /// The connection is gone.
    pub(crate) fn stop(&mut self) {
        *self = Scan::default();
    }

    /// The command to send now, if there is one.
    pub(crate) fn next(&mut self, facts: &ControllerFacts, table: &NamespaceTable) -> Option<Prepared> {
        if self.waiting {
            return None;
        }
        if self.step == Step::Idle {
            self.begin(facts, table);
        }
        let first_unread = || *self.unread.front().expect("there is one in this step");
        let command = match self.step {
            Step::Idle => return None,
            Step::ChangedList => entries::log_page(
                LogPageIdentifier::ChangedAttachedNamespaceList,
                0,
                u32::try_from(ChangedNamespaceList::SIZE).expect("4096"),
            ),
            Step::ActiveList { after } => entries::identify(Cns::ActiveNamespaceList, after),
            Step::Identify => entries::identify(Cns::Namespace, first_unread()),
            Step::Descriptors => entries::identify(Cns::NamespaceIdentificationDescriptors, first_unread()),
            Step::Ana => entries::ana_log_page(self.ana_log_bytes.expect("not without ANA")),
        };
        self.waiting = true;
        Some(command)
    }

    fn begin(&mut self, facts: &ControllerFacts, table: &NamespaceTable) {
        let wanted = core::mem::take(&mut self.wanted);
        self.ana_log_bytes = facts.ana.then(|| ana_log_bytes(facts.ana_groups));
        self.all = wanted.all;
        self.changed.clear();
        self.listed.clear();
        self.unread.clear();
        self.building.clear();
        if wanted.changed {
            self.step = Step::ChangedList;
        } else if wanted.all {
            self.step = Step::ActiveList { after: 0 };
        } else if wanted.ana && facts.ana {
            self.building = table.entries.clone();
            self.step = Step::Ana;
        }
    }

    /// The command was answered; whether the reading is finished and the table was replaced.
    ///
    /// # Errors
    /// The controller refused, or what it says makes no sense.
    pub(crate) fn answered(&mut self, answer: &Answer, table: &mut NamespaceTable) -> Result<bool, Lost> {
        self.waiting = false;
        let status = answer.entry.status();
        let is_gone = status.is(Status::INVALID_NAMESPACE_OR_FORMAT);
        match self.step {
            Step::Idle => return Ok(false),
            Step::ChangedList => self.read_changed_list(status, &answer.bytes),
            Step::Identify | Step::Descriptors if is_gone => self.skip(),
            _ if !status.is_success() => {
                let what = self.step.words();
                return Err(Lost::Refused { what, status });
            }
            Step::ActiveList { after } => self.read_active_list(after, &answer.bytes, table)?,
            Step::Identify => self.read_namespace(&answer.bytes)?,
            Step::Descriptors => self.read_descriptors(&answer.bytes)?,
            Step::Ana => self.read_ana_log(&answer.bytes)?,
        }
        Ok(self.step == Step::Idle && self.finish(table))
    }

    fn finish(&mut self, table: &mut NamespaceTable) -> bool {
        table.entries = core::mem::take(&mut self.building);
        table.read = true;
        true
    }

    /// A controller that does not tell what has changed is read whole.
    fn read_changed_list(&mut self, status: Status, bytes: &[u8]) {
        self.step = Step::ActiveList { after: 0 };
        match ChangedNamespaceList::parse(bytes) {
            Ok(list) if status.is_success() && !list.is_too_many() => {
                self.changed = list.namespaces().map(|nsid| nsid.0).collect();
            }
            _ => self.all = true,
        }
    }

    fn read_active_list(&mut self, after: u32, bytes: &[u8], table: &NamespaceTable) -> Result<(), Lost> {
        let list =
            NamespaceList::parse(bytes).map_err(|_| Lost::Unusable("its namespace list is cut off"))?;
        let mut last = after;
        let mut count = 0;
        for nsid in list.namespaces() {
            if nsid.0 <= last {
                return Err(Lost::Unusable("its namespace list does not ascend"));
            }
            last = nsid.0;
            count += 1;
            self.listed.insert(nsid.0);
        }
        if self.listed.len() > NAMESPACES_MAX {
            return Err(Lost::Unusable("it has too many namespaces"));
        }
        if count == NamespaceList::CAPACITY {
            self.step = Step::ActiveList { after: last };
            return Ok(());
        }
        for nsid in &self.listed {
            let is_known = !self.all && !self.changed.contains(nsid);
            match table.entries.get(nsid).filter(|_| is_known) {
                Some(namespace) => {
                    self.building.insert(*nsid, namespace.clone());
                }
                None => self.unread.push_back(*nsid),
            }
        }
        self.read_next();
        Ok(())
    }

    /// What comes after a namespace has been read, or the list.
    fn read_next(&mut self) {
        self.step = if !self.unread.is_empty() {
            Step::Identify
        } else if self.ana_log_bytes.is_some() {
            Step::Ana
        } else {
            Step::Idle
        };
    }

    /// The first unread namespace went away since the list was read.
    fn skip(&mut self) {
        if let Some(nsid) = self.unread.pop_front() {
            self.building.remove(&nsid);
        }
        self.read_next();
    }

    fn read_namespace(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let nsid = *self.unread.front().expect("there is one in this step");
        let identify =
            IdentifyNamespace::parse(bytes).map_err(|_| Lost::Unusable("a namespace is cut off"))?;
        if identify.nsze.get() == 0 {
            // All zeroes: it is no longer active.
            self.skip();
            return Ok(());
        }
        let block_bytes = identify.lba_format().block_size();
        let namespace = Namespace {
            nsid,
            uuid: [0; 16],
            nguid: identify.nguid,
            size: Blocks(identify.nsze.get()),
            block_bytes: block_bytes.ok_or(Lost::Unusable("a namespace has no block size"))?,
            ana_group: identify.anagrpid.get(),
            ana: AnaState::Optimized,
        };
        self.building.insert(nsid, namespace);
        self.step = Step::Descriptors;
        Ok(())
    }

    fn read_descriptors(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let nsid = self.unread.pop_front().expect("there is one in this step");
        let namespace = self.building.get_mut(&nsid).expect("read in the step before");
        let descriptors = NamespaceIdentificationDescriptors::parse(bytes);
        namespace.uuid = descriptors.uuid().map_or(namespace.uuid, |uuid| uuid.0);
        namespace.nguid = descriptors.nguid().map_or(namespace.nguid, |nguid| nguid.0);
        self.read_next();
        Ok(())
    }

    /// A namespace whose group the log does not have cannot be reached.
    fn read_ana_log(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let log = AnaLog::parse(bytes).map_err(|_| Lost::Unusable("its ANA log makes no sense"))?;
        let states: BTreeMap<u32, AnaState> = log
            .groups
            .iter()
            .map(|group| (group.group, group.state))
            .collect();
        for namespace in self.building.values_mut() {
            let state = states.get(&namespace.ana_group);
            namespace.ana = state.copied().unwrap_or(AnaState::Inaccessible);
        }
        self.step = Step::Idle;
        Ok(())
    }
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Step::Idle | Step::ChangedList => "reading the changed namespaces",
            Step::ActiveList { .. } => "reading the list of namespaces",
            Step::Identify => "Identify Namespace",
            Step::Descriptors => "reading a namespace's descriptors",
            Step::Ana => "reading the ANA log",
        }
    }
}

/// The longest the ANA log can be, without the namespaces of its groups.
fn ana_log_bytes(groups: u32) -> u32 {
    let groups = usize::try_from(groups).map_or(ANA_GROUPS_MAX, |groups| groups.clamp(1, ANA_GROUPS_MAX));
    u32::try_from(AnaLog::max_length(groups, 0)).expect("2 MiB and a little")
}
