//! The end in order: what is in flight is finished, then everything is flushed and the bitmap cleared, so that the next owner finds
//! nothing that may differ. If a leg is out, or fails meanwhile, the bits stay: the next owner needs them.

use super::{Mirror, MirrorOutput, Phase, Role};

impl Mirror {
    pub(super) fn begin_close(&mut self) {
        match self.phase {
            Phase::Settling | Phase::Serving => {
                self.phase = Phase::Closing;
                self.clearing.begin_last();
                let involved = self.membership.may_be();
                for leg in self.legs.select(|leg| leg.role.is_rejoining()).iter() {
                    self.legs[leg].role = if involved.has(leg) {
                        Role::Leaving
                    } else {
                        Role::Out
                    };
                    self.legs[leg].todo.clear_all();
                    self.modifies.drop_leg(leg);
                    self.bitmap.drop_leg(leg);
                    self.resync.drop_leg(leg);
                }
                self.again = true;
            }
            Phase::Formatting | Phase::Opening | Phase::Failed => self.end_closed(),
            Phase::Closing | Phase::Closed | Phase::Fenced => {}
        }
    }

    pub(super) fn advance_close(&mut self) {
        let leaving = self.legs.select(|leg| leg.role == Role::Leaving);
        let drained = self.modifies.is_empty()
            && self.reads.is_empty()
            && self.held.is_empty()
            && leaving.is_empty()
            && !self.membership.is_asking()
            && !self.resync.has_step();
        if !drained || self.clearing.is_flushing() {
            return;
        }
        let hopeless = self.legs.serving().is_empty() || self.clearing.has_failed();
        if hopeless || (self.bitmap.is_settled() && !self.begin_clear(false)) {
            self.end_closed();
        }
    }

    fn end_closed(&mut self) {
        self.phase = Phase::Closed;
        self.outputs.say(MirrorOutput::Closed);
    }
}
