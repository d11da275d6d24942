//! Setting an association up on its admin queue, step by step: Connect, CAP, enable, wait for ready, Identify, number
//! of queues, which events to tell of (Base 2.1, sections 3.5.1 and 6.3).
//!
//! Not here: connections, the I/O queues' own Connect, the first reading of the namespaces; the association goes on
//! with those.

use super::config::AssociationConfig;
use super::entries::{self, Prepared};
use super::lost::Lost;
use super::queue::Answer;
use block::{BLOCK_SIZE, Duration, Time};
use nvme::async_event::AsyncEventSet;
use nvme::command::Cns;
use nvme::connect::ConnectResult;
use nvme::feature::{FeatureIdentifier, NumberOfQueues};
use nvme::identify::{IdentifyController, controller::cmic};
use nvme::property::{Capabilities, Configuration, ControllerStatus, Property};

/// Admin commands in flight: few, one of them the standing Asynchronous Event Request.
pub(crate) const ADMIN_COMMANDS: u16 = 31;
/// Every admin capsule has room for so much data (NVMe/TCP Transport 1.1, section 3.3.2).
pub(crate) const ADMIN_CAPSULE_BYTES: u32 = 8192;
/// How often CSTS is read while the controller becomes ready.
const READY_POLL: Duration = Duration::from_millis(20);

/// What is known of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerFacts {
    /// CNTLID.
    pub cntlid: u16,
    /// Commands that an I/O queue may have in flight: CAP.MQES, and what was wanted.
    pub queue_commands: u16,
    /// MDTS in blocks, limited by the width of NLB.
    pub max_transfer_blocks: u32,
    /// Most data in an I/O command capsule.
    pub io_capsule_bytes: u32,
    /// Whether the subsystem reports asymmetric namespace access.
    pub ana: bool,
    /// NANAGRPID: groups in the ANA log page.
    pub ana_groups: u32,
    /// I/O queues granted.
    pub io_queues: u16,
}

/// A step; each ends with the answer to its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Capabilities,
    Enable,
    Ready,
    Identify,
    Queues,
    Events,
    Done,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Step::Connect => "Connect",
            Step::Capabilities => "reading CAP",
            Step::Enable => "setting CC.EN",
            Step::Ready => "reading CSTS",
            Step::Identify => "Identify Controller",
            Step::Queues => "setting the number of queues",
            Step::Events | Step::Done => "setting the asynchronous events",
        }
    }
}

/// What follows a step.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this.
    Send(Prepared),
    /// Call [`Setup::poll_ready`] then.
    PollAt(Time),
    /// The admin queue is set up.
    Done,
}

/// The way from a fresh admin connection to a controller that is set up.
#[derive(Debug)]
pub(crate) struct Setup {
    step: Step,
    memory_page_bytes_min: u64,
    events: AsyncEventSet,
    pub(crate) facts: ControllerFacts,
}

impl Default for Setup {
    /// Connect has yet to be answered.
    fn default() -> Setup {
        Setup {
            step: Step::Connect,
            memory_page_bytes_min: 4096,
            events: AsyncEventSet::default(),
            facts: ControllerFacts::default(),
        }
    }
}

impl Setup {
    /// The command that asks whether the controller is ready.
    pub(crate) fn poll_ready(&self) -> Prepared {
        entries::property_get(Property::ControllerStatus)
    }

    /// Whether the admin queue is set up and the facts are known.
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// The present step's command was answered.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        answer: &Answer,
        config: &AssociationConfig,
    ) -> Result<Next, Lost> {
        let status = answer.entry.status();
        if !status.is_success() {
            let what = self.step.words();
            return Err(Lost::Refused { what, status });
        }
        match self.step {
            Step::Connect => self.connected(answer.entry.dword0()),
            Step::Capabilities => self.capabilities(answer.entry.result.get(), config),
            Step::Enable => Ok(self.send(Step::Ready, self.poll_ready())),
            Step::Ready => self.status(now, answer.entry.dword0()),
            Step::Identify => self.identified(&answer.bytes, config),
            Step::Queues => self.queues(answer.entry.dword0(), config),
            Step::Events | Step::Done => {
                self.step = Step::Done;
                Ok(Next::Done)
            }
        }
    }

    fn send(&mut self, step: Step, command: Prepared) -> Next {
        self.step = step;
        Next::Send(command)
    }

    fn connected(&mut self, dword: u32) -> Result<Next, Lost> {
        let result = ConnectResult::parse(dword);
        if result.authentication_required != 0 {
            return Err(Lost::Unusable("it requires authentication"));
        }
        self.facts.cntlid = result.cntlid.0;
        let command = entries::property_get(Property::ControllerCapabilities);
        Ok(self.send(Step::Capabilities, command))
    }

    fn capabilities(&mut self, cap: u64, config: &AssociationConfig) -> Result<Next, Lost> {
        let capabilities = Capabilities::parse(cap);
        // MQES is 0's based: so many commands leave the one entry free that tells a full queue from an empty one.
        if capabilities.max_queue_entries == 0 {
            return Err(Lost::Unusable("its queues have one entry"));
        }
        self.facts.queue_commands = config.queue_depth.clamp(1, capabilities.max_queue_entries);
        self.memory_page_bytes_min = 1 << (12 + u32::from(capabilities.memory_page_size_min));
        let offers = |command_set| capabilities.command_sets & command_set != 0;
        let command_set = if offers(Capabilities::CSS_NVM) {
            Configuration::CSS_NVM
        } else if offers(Capabilities::CSS_IO_COMMAND_SETS) {
            Configuration::CSS_ALL
        } else if offers(Capabilities::CSS_NONE) && config.is_discovery() {
            Configuration::CSS_ADMIN_ONLY
        } else {
            return Err(Lost::Unusable("it has no command set of ours"));
        };
        let configuration = Configuration {
            command_set,
            memory_page_size: capabilities.memory_page_size_min,
            ..Configuration::ENABLE
        };
        Ok(self.send(Step::Enable, entries::configure(configuration)))
    }

    fn status(&mut self, now: Time, csts: u32) -> Result<Next, Lost> {
        let status = ControllerStatus::parse(csts);
        if status.fatal {
            return Err(Lost::ControllerFatal);
        }
        if !status.ready {
            return Ok(Next::PollAt(now + READY_POLL));
        }
        Ok(self.send(Step::Identify, entries::identify(Cns::Controller, 0)))
    }

    fn identified(&mut self, bytes: &[u8], config: &AssociationConfig) -> Result<Next, Lost> {
        let identify =
            IdentifyController::parse(bytes).map_err(|_| Lost::Unusable("it says too little of itself"))?;
        if identify.cntlid.get() != self.facts.cntlid {
            return Err(Lost::Unusable("it names two controller identifiers"));
        }
        self.learn(&identify);
        if config.is_discovery() {
            return Ok(self.configure_events());
        }
        let queues =
            NumberOfQueues::pairs(u32::from(config.io_queues.max(1))).ok_or(Lost::Unusable("no queues"))?;
        let command = entries::set_feature(FeatureIdentifier::NumberOfQueues, queues.encode());
        Ok(self.send(Step::Queues, command))
    }

    fn learn(&mut self, identify: &IdentifyController) {
        let bytes_max = identify
            .max_data_transfer_size(self.memory_page_bytes_min)
            .unwrap_or(u64::MAX);
        let blocks = (bytes_max / u64::from(BLOCK_SIZE)).clamp(1, 1 << 16);
        self.facts.max_transfer_blocks = u32::try_from(blocks).expect("at most 2^16");
        // IOCCSZ counts 16 bytes and includes the entry; an offset before the data (ICDOFF) is not worth supporting.
        let capsule = u32::try_from(identify.in_capsule_data_size()).unwrap_or(u32::MAX);
        self.facts.io_capsule_bytes = if identify.icdoff.get() == 0 { capsule } else { 0 };
        self.facts.ana = identify.cmic & cmic::ANA_REPORTING != 0;
        self.facts.ana_groups = identify.nanagrpid.get();
        let known = AsyncEventSet::NAMESPACE_ATTRIBUTE
            .union(AsyncEventSet::ANA_CHANGE)
            .union(AsyncEventSet::DISCOVERY_CHANGE);
        self.events = AsyncEventSet(identify.oaes.get()).intersection(known);
    }

    fn queues(&mut self, dword: u32, config: &AssociationConfig) -> Result<Next, Lost> {
        let granted = NumberOfQueues::parse(dword).map_err(|_| Lost::Unusable("it grants 65536 queues"))?;
        let pairs = granted.submission.count().min(granted.completion.count());
        let wanted = config.io_queues.max(1);
        self.facts.io_queues = u16::try_from(pairs).unwrap_or(u16::MAX).min(wanted);
        Ok(self.configure_events())
    }

    fn configure_events(&mut self) -> Next {
        let fid = FeatureIdentifier::AsynchronousEventConfiguration;
        if self.events == AsyncEventSet::default() {
            self.step = Step::Done;
            return Next::Done;
        }
        self.send(Step::Events, entries::set_feature(fid, self.events.0))
    }
}
