//! The ways from a controller to its namespaces: which rows a namespace identifier means, for a host that sees it. What was
//! found once is found again in one step, until anything changes in the subsystem's namespaces.
//!
//! Not here: whether a command may be carried out. That is looked at each time, at the rows themselves.
//!
//! Invariant: only what the host sees has a route.

use super::table::RowIndex;

/// Most routes that are kept: what falls out is looked for again.
const ROUTES_MAX: usize = 1024;

/// Where a namespace is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Its row among its subsystem's namespaces.
    pub(crate) namespace: RowIndex,
    /// The row of what is under way to it.
    pub(crate) lane: RowIndex,
    /// Where the lane counts what is in flight for the controller's host: a hint.
    pub(crate) counted_at: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// The subsystem's, when these were found.
    generation: u64,
    /// By the low bits of the identifier; a power of two of them, or none.
    kept: Vec<Option<(u32, Route)>>,
}

impl Routes {
    #[inline]
    pub(crate) fn find(&self, nsid: u32, generation: u64) -> Option<Route> {
        if self.generation != generation || self.kept.is_empty() {
            return None;
        }
        match self.kept[nsid as usize & (self.kept.len() - 1)] {
            Some((known, route)) if known == nsid => Some(route),
            _ => None,
        }
    }

    /// The lane counts the controller's host there.
    pub(crate) fn count_at(&mut self, nsid: u32, counted_at: u32) {
        let at = nsid as usize & self.kept.len().wrapping_sub(1);
        if let Some(Some((known, route))) = self.kept.get_mut(at)
            && *known == nsid
        {
            route.counted_at = counted_at;
        }
    }

    pub(crate) fn keep(&mut self, nsid: u32, route: Route, generation: u64) {
        if self.generation != generation {
            self.kept.fill(None);
            self.generation = generation;
        }
        let at = |length: usize| nsid as usize & length.wrapping_sub(1);
        if self.kept.is_empty() {
            self.kept.resize(8, None);
        }
        // Two that share a place get apart in a larger table.
        while self.kept[at(self.kept.len())].is_some_and(|(known, _)| known != nsid)
            && self.kept.len() < ROUTES_MAX
        {
            let length = self.kept.len() * 2;
            let kept = std::mem::replace(&mut self.kept, vec![None; length]);
            for (known, route) in kept.into_iter().flatten() {
                self.kept[known as usize & (length - 1)] = Some((known, route));
            }
        }
        let at = at(self.kept.len());
        self.kept[at] = Some((nsid, route));
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a route that outlives its generation, a route found under another's identifier.
    use super::super::table::Table;
    use super::*;

    #[test]
    fn routes_are_found_until_something_changes() {
        let mut rows = Table::default();
        let routes: Vec<Route> = (0..3000u32)
            .map(|nsid| rows.insert(nsid, ()))
            .map(|row| Route {
                namespace: row,
                lane: row,
                counted_at: 0,
            })
            .collect();
        let mut known = Routes::default();
        assert!(known.find(1, 0).is_none());
        for (nsid, route) in (1..).zip(&routes).take(1000) {
            known.keep(nsid, *route, 5);
        }
        for (nsid, route) in (1..).zip(&routes).take(1000) {
            let found = known.find(nsid, 5).expect("there is room for all of these");
            assert_eq!(found.namespace, route.namespace);
            assert!(known.find(nsid, 6).is_none());
            assert!(known.find(nsid + ROUTES_MAX as u32, 5).is_none());
        }
        for nsid in [1 + ROUTES_MAX as u32, 1] {
            known.keep(nsid, routes[nsid as usize], 6);
            assert_eq!(
                known.find(nsid, 6).unwrap().namespace,
                routes[nsid as usize].namespace
            );
        }
        assert!(known.find(2, 6).is_none(), "the old ones are gone");
    }
}
