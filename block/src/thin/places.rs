//! The extents of one volume, by place: found without a search, paid for by what is mapped.
//!
//! What it deliberately is not: aware of which extents exist.

use super::record::{Extent, Place};

/// Places that lie in one page.
const PAGE: usize = 256;
/// No extent; none has this number (`Failure::TooManyExtents`).
const UNMAPPED: u32 = u32::MAX;

type Page = [u32; PAGE];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    pages: Vec<Option<Box<Page>>>,
    count: u64,
}

impl Places {
    #[inline]
    pub(super) fn find(&self, place: Place) -> Option<Extent> {
        let page = self.pages.get(place.0 as usize / PAGE)?.as_ref()?;
        let extent = page[place.0 as usize % PAGE];
        (extent != UNMAPPED).then_some(Extent(extent))
    }

    /// Maps a place; returns what was mapped there.
    pub(super) fn insert(&mut self, place: Place, extent: Extent) -> Option<Extent> {
        assert_ne!(extent.0, UNMAPPED, "an extent that can be");
        let (page, at) = (place.0 as usize / PAGE, place.0 as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([UNMAPPED; PAGE]));
        let before = core::mem::replace(&mut page[at], extent.0);
        self.count += u64::from(before == UNMAPPED);
        (before != UNMAPPED).then_some(Extent(before))
    }

    /// Unmaps a place; returns what was mapped there.
    pub(super) fn remove(&mut self, place: Place) -> Option<Extent> {
        let page = self.pages.get_mut(place.0 as usize / PAGE)?.as_mut()?;
        let before = core::mem::replace(&mut page[place.0 as usize % PAGE], UNMAPPED);
        self.count -= u64::from(before != UNMAPPED);
        (before != UNMAPPED).then_some(Extent(before))
    }

    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// What is mapped, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, Extent)> {
        let pages = self.pages.iter().enumerate();
        let pages = pages.filter_map(|(index, page)| Some((index * PAGE, page.as_ref()?)));
        pages.flat_map(|(first, page)| {
            let mapped = page.iter().enumerate().filter(|(_, extent)| **extent != UNMAPPED);
            mapped.map(move |(at, extent)| (Place((first + at) as u32), Extent(*extent)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behave_like_a_tree(steps in prop::collection::vec((any::<bool>(), 0u32..1500, 0u32..9), 0..200)) {
            let (mut places, mut oracle) = (Places::default(), BTreeMap::new());
            for (insert, place, extent) in steps {
                let (place, extent) = (Place(place), Extent(extent));
                if insert {
                    prop_assert_eq!(places.insert(place, extent), oracle.insert(place, extent));
                } else {
                    prop_assert_eq!(places.remove(place), oracle.remove(&place));
                }
                prop_assert_eq!(places.find(place), oracle.get(&place).copied());
                prop_assert_eq!(places.len(), oracle.len() as u64);
            }
            prop_assert!(places.iter().eq(oracle));
        }
    }
}
