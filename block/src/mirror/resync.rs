//! Making legs equal: copies regions from one leg in sync, the *source*, to others, step by step.
//!
//! Two reasons: regions that may differ between legs in sync (after an owner died, or a write ended without success: R6;
//! until they are equal they are read from the source alone), and regions that a leg on the way back lacks (R4). One
//! region at a time, one step in flight; a step has its range to itself, so writes go before or behind it (R11). The
//! source stays the same until it fails; then the region in hand begins anew.

use super::bits::Bits;
use super::locks::Holder;
use super::{LegSet, Mirror, Phase, Purpose, Role};
use crate::{BlockRange, Memory, Operation, Time};
use core::ops::Range;

/// What is to be copied.
#[derive(Debug)]
pub(super) struct Resync {
    /// Regions in which legs that get writes may differ.
    unequal: Bits,
    source: Option<usize>,
    job: Option<Job>,
    /// Where to look for the next region: after one that could not be read, others have their turn.
    cursor: usize,
    resume_at: Time,
}

/// A region in hand.
#[derive(Debug)]
struct Job {
    region: usize,
    source: usize,
    targets: LegSet,
    /// The next block to copy.
    next: u64,
    /// Something happened that makes it begin anew.
    disturbed: bool,
    step: Option<Step>,
}

#[derive(Debug)]
struct Step {
    range: BlockRange,
    state: StepState,
}

#[derive(Debug, PartialEq, Eq)]
enum StepState {
    /// Others write there.
    Locking,
    Granted,
    Reading,
    Writing(LegSet),
}

impl Resync {
    pub(super) fn new(regions: usize) -> Resync {
        Resync {
            unequal: Bits::new(regions),
            source: None,
            job: None,
            cursor: 0,
            resume_at: Time::ZERO,
        }
    }
    pub(super) fn unequal(&self) -> &Bits {
        &self.unequal
    }
    /// Where unequal regions are read from: always the same leg, as long as it serves.
    pub(super) fn source(&self, serving: LegSet) -> Option<usize> {
        self.source.filter(|leg| serving.has(*leg)).or(serving.first())
    }
    /// Nothing in hand, and legs that get writes are equal but for what they lack.
    pub(super) fn is_idle(&self) -> bool {
        self.job.is_none() && self.unequal.is_empty()
    }
    pub(super) fn has_step(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.step.is_some())
    }
    pub(super) fn mark_unequal(&mut self, regions: Range<usize>) {
        if let Some(job) = &mut self.job {
            job.disturbed |= regions.contains(&job.region);
        }
        self.unequal.set_range(regions);
    }
    pub(super) fn mark_all_unequal(&mut self, regions: &Bits) {
        if let Some(job) = &mut self.job {
            job.disturbed |= regions.has(job.region);
        }
        self.unequal.union_with(regions);
    }
    /// The source cannot be read somewhere: the next leg is it from now on, if there is another one, and what was in hand begins anew.
    fn turn_from(&mut self, leg: usize, serving: LegSet) {
        let others = serving.without(LegSet::one(leg));
        let next = others.iter().find(|other| *other > leg).or(others.first());
        if self.source(serving) != Some(leg) || next.is_none() {
            return;
        }
        self.source = next;
        if let Some(job) = &mut self.job {
            job.disturbed = true;
        }
    }
    pub(super) fn drop_leg(&mut self, leg: usize) {
        if self.source == Some(leg) {
            self.source = None;
        }
        let Some(job) = &mut self.job else {
            return;
        };
        job.disturbed |= job.source == leg;
        job.targets.remove(leg);
        if let Some(Step {
            state: StepState::Writing(pending),
            ..
        }) = &mut job.step
        {
            pending.remove(leg);
        }
    }
}

impl Mirror {
    pub(super) fn advance_resync(&mut self, memory: &mut dyn Memory) {
        let serving = self.legs.serving();
        if !serving.is_empty() {
            self.resync.source = self.resync.source(serving);
        }
        self.end_written_step();
        let begins =
            self.phase == Phase::Serving && !self.resync.has_step() && self.resync.resume_at <= self.now;
        if begins {
            self.begin_job();
            self.begin_step();
        }
        self.begin_read(memory);
    }

    /// See [`Resync::turn_from`].
    pub(super) fn turn_from_source(&mut self, leg: usize) {
        self.resync.turn_from(leg, self.legs.serving());
        self.reads.unsettle();
        self.again = true;
    }

    /// When the next step is due.
    pub(super) fn resync_timeout(&self) -> Option<Time> {
        let waits = self.phase == Phase::Serving && !self.resync.has_step() && self.has_copying();
        Some(self.resync.resume_at).filter(|at| waits && *at > self.now)
    }

    fn has_copying(&self) -> bool {
        let filling = self
            .legs
            .select(|leg| leg.role == Role::Filling && !leg.todo.is_empty());
        !filling.is_empty() || !self.resync.is_idle()
    }

    /// Takes the next region in hand, unless there is one.
    fn begin_job(&mut self) {
        if self
            .resync
            .job
            .as_ref()
            .is_some_and(|job| job.disturbed || job.targets.is_empty())
        {
            self.resync.job = None;
            self.again = true;
        }
        let Some(source) = self.resync.source.filter(|leg| self.legs.serving().has(*leg)) else {
            return;
        };
        while self.resync.job.is_none() {
            let Some(region) = self.next_region() else {
                return;
            };
            let targets = self.copy_targets(region, source);
            self.resync.cursor = region + 1;
            if targets.is_empty() {
                self.resync.unequal.clear(region);
                self.reads.unsettle();
                self.again = true;
                continue;
            }
            self.resync.job = Some(Job {
                region,
                source,
                targets,
                next: self.geometry.region_range(region).start.0,
                disturbed: false,
                step: None,
            });
        }
    }

    /// Regions that legs in sync may differ in come first.
    fn next_region(&self) -> Option<usize> {
        let mut wanted = self.resync.unequal.clone();
        if wanted.is_empty() {
            for leg in self.legs.select(|leg| leg.role == Role::Filling).iter() {
                wanted.union_with(&self.legs[leg].todo);
            }
        }
        wanted.next_from(self.resync.cursor).or(wanted.next_from(0))
    }

    fn copy_targets(&self, region: usize, source: usize) -> LegSet {
        let targets = if self.resync.unequal.has(region) {
            self.legs.write_targets()
        } else {
            self.legs
                .select(|leg| leg.role == Role::Filling && leg.todo.has(region))
        };
        targets.without(LegSet::one(source))
    }

    fn begin_step(&mut self) {
        let Some(job) = &mut self.resync.job else {
            return;
        };
        let left = self.geometry.region_range(job.region).end().0 - job.next;
        let range = BlockRange::new(job.next, left.min(self.config.tuning.resync_step.0.max(1)));
        let state = if self.locks.acquire(Holder::Step, range) {
            StepState::Granted
        } else {
            StepState::Locking
        };
        job.step = Some(Step { range, state });
    }

    /// Nobody else writes in the step's range now.
    pub(super) fn step_granted(&mut self) {
        let step = self
            .resync
            .job
            .as_mut()
            .and_then(|job| job.step.as_mut())
            .expect("it waited");
        step.state = StepState::Granted;
        self.again = true;
    }

    fn begin_read(&mut self, memory: &mut dyn Memory) {
        let granted = |step: &Step| step.state == StepState::Granted;
        let Some(job) = self
            .resync
            .job
            .as_ref()
            .filter(|job| job.step.as_ref().is_some_and(granted))
        else {
            return;
        };
        let (source, disturbed) = (job.source, job.disturbed || job.targets.is_empty());
        let range = job.step.as_ref().expect("granted").range;
        if disturbed || self.phase != Phase::Serving {
            return self.end_step();
        }
        if self.starved_until.is_some() {
            return;
        }
        let Some(buffer) = self.allocate(range.length.0, memory) else {
            return;
        };
        self.set_step(StepState::Reading);
        self.send(
            source,
            Purpose::StepRead { buffer },
            Operation::Read { buffer },
            range,
        );
    }

    fn set_step(&mut self, state: StepState) {
        let job = self.resync.job.as_mut().expect("a step has a job");
        job.step.as_mut().expect("a step is under way").state = state;
    }

    pub(super) fn step_read(&mut self, succeeded: bool, buffer: crate::BufferSlice, memory: &mut dyn Memory) {
        let job = self.resync.job.as_mut().expect("a step has a job");
        let (range, source) = (job.step.as_ref().expect("a step is under way").range, job.source);
        if !succeeded || job.disturbed {
            // Unreadable, or the source is gone. Others have their turn first.
            job.disturbed = true;
            self.resync.resume_at = self.now + self.config.tuning.rejoin_after;
            if !succeeded {
                self.turn_from_source(source);
            }
            return self.end_step();
        }
        let job = self.resync.job.as_mut().expect("a step has a job");
        let targets = job.targets;
        // Legs in sync may have been asked to flush what the source has here.
        let durable = self.resync.unequal.has(job.region);
        self.set_step(StepState::Writing(targets));
        for leg in targets.iter() {
            memory.retain(buffer.buffer);
            let operation = Operation::Write { buffer, durable };
            self.send(leg, Purpose::StepWrite { buffer }, operation, range);
        }
        self.again = true;
    }

    pub(super) fn step_written(&mut self, leg: usize) {
        let job = self.resync.job.as_mut();
        if let Some(Step {
            state: StepState::Writing(pending),
            ..
        }) = job.and_then(|job| job.step.as_mut())
        {
            pending.remove(leg);
            self.again = true;
        }
    }

    fn end_written_step(&mut self) {
        let written = |step: &Step| step.state == StepState::Writing(LegSet::EMPTY);
        let step = self.resync.job.as_ref().and_then(|job| job.step.as_ref());
        if !step.is_some_and(written) {
            return;
        }
        let busy = !self.modifies.is_empty() || !self.reads.is_empty();
        if busy {
            self.resync.resume_at = self.now + self.config.tuning.resync_pause;
        }
        let job = self.resync.job.as_mut().expect("a step has a job");
        job.next = job.step.as_ref().expect("written").range.end().0;
        let done = job.next == self.geometry.region_range(job.region).end().0;
        self.end_step();
        if done {
            self.end_job();
        }
    }

    /// Lets others write in the step's range again.
    fn end_step(&mut self) {
        let job = self.resync.job.as_mut().expect("a step has a job");
        let step = job.step.take().expect("a step is under way");
        let granted = self.locks.release(step.range);
        self.grant(granted);
        self.again = true;
    }

    /// Every step of the region is done: what was not disturbed meanwhile is equal now.
    fn end_job(&mut self) {
        let job = self.resync.job.take().expect("it was in hand");
        if job.disturbed {
            return;
        }
        for leg in job.targets.iter() {
            self.legs[leg].todo.clear(job.region);
        }
        if self.resync.unequal.has(job.region) {
            self.resync.unequal.clear(job.region);
            self.reads.unsettle();
        }
    }
}
