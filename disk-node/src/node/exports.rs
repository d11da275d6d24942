//! A disk's legs as its subsystem exports them: what a host's request needs of a leg, found by a small number.
//!
//! What it deliberately is not: it does not decide what is exported, nor when a leg may go.
//!
//! Invariant: an export keeps its place while requests on it are under way, whether hosts still see it or not.

use super::transfer::Rows;

/// Names an export of a disk, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExportIndex(u32);

/// An exported leg.
#[derive(Debug)]
pub(crate) struct Export {
    /// Where it lies.
    pub(crate) rows: Rows,
    /// Requests of hosts that are under way.
    pub(crate) in_flight: u32,
    /// Hosts do not see it any more: when nothing is in flight it can go.
    pub(crate) hidden: bool,
}

/// The exports of a disk.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    places: Vec<Option<Export>>,
    free: Vec<u32>,
    /// Those that hosts see: namespace identifier and place, in order of identifiers.
    seen: Vec<(u32, ExportIndex)>,
}

impl Exports {
    /// Hosts may see a leg from now on.
    pub(crate) fn show(&mut self, nsid: u32, rows: Rows) -> ExportIndex {
        let export = Some(Export {
            rows,
            in_flight: 0,
            hidden: false,
        });
        let index = match self.free.pop() {
            Some(free) => {
                self.places[free as usize] = export;
                ExportIndex(free)
            }
            None => {
                self.places.push(export);
                ExportIndex(self.places.len() as u32 - 1)
            }
        };
        let Err(at) = self.position(nsid) else {
            panic!("namespace {nsid} is exported once")
        };
        self.seen.insert(at, (nsid, index));
        index
    }

    fn position(&self, nsid: u32) -> Result<usize, usize> {
        self.seen.binary_search_by_key(&nsid, |(seen, _)| *seen)
    }

    /// The export that is a namespace's.
    pub(crate) fn find(&self, nsid: u32) -> Option<ExportIndex> {
        self.position(nsid).ok().map(|at| self.seen[at].1)
    }

    /// One that has not gone.
    pub(crate) fn at(&mut self, index: ExportIndex) -> &mut Export {
        self.places[index.0 as usize]
            .as_mut()
            .expect("it stays while it is named")
    }

    /// Hosts do not see the namespace any more.
    pub(crate) fn hide(&mut self, nsid: u32) {
        let at = self.position(nsid).expect("it was exported");
        let (_, index) = self.seen.remove(at);
        self.at(index).hidden = true;
    }

    /// Lets a hidden one go.
    pub(crate) fn forget(&mut self, index: ExportIndex) {
        let export = self.places[index.0 as usize].take().expect("it goes once");
        assert!(
            export.hidden && export.in_flight == 0,
            "nothing is asked of a leg that goes"
        );
        self.free.push(index.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::LegRecord;
    use fabric::target::ReservationState;

    fn rows() -> Rows {
        let record = LegRecord {
            nsid: 1,
            runs: Vec::new(),
            zeroed: 0,
            reservation: ReservationState::default(),
        };
        Rows::new(&record, 4096)
    }

    #[test]
    fn what_is_hidden_keeps_its_place_until_it_is_forgotten() {
        let mut exports = Exports::default();
        let places: Vec<_> = [7, 3, 9].map(|nsid| exports.show(nsid, rows())).into();
        assert_eq!(
            [3, 7, 9, 1].map(|nsid| exports.find(nsid)),
            [Some(places[1]), Some(places[0]), Some(places[2]), None]
        );
        exports.at(places[0]).in_flight = 1;
        exports.hide(7);
        assert_eq!(exports.find(7), None);
        let fourth = exports.show(7, rows());
        assert!(!places.contains(&fourth), "its place is not free yet");
        exports.at(places[0]).in_flight = 0;
        exports.forget(places[0]);
        assert_eq!(exports.show(5, rows()), places[0]);
        assert_eq!(exports.find(9), Some(places[2]));
    }
}
