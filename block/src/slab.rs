//! A table of what is in flight: entries lie in slots that are used again, and a [`Slot`] finds its entry without a search.
//!
//! What it deliberately is not: ordered. Who needs an order keeps a number in the entries.
//!
//! Invariants: a [`Slot`] whose entry was taken out finds nothing, also when its place is in use again (places count how often
//! they were); a table that has once been as full as it gets never allocates again.

/// Names an entry of a [`Slab`], until it is taken out.
///
/// The low [`Slot::INDEX_BITS`] bits are the place, the 32 above count its uses; the rest is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// How many bits name the place.
    pub const INDEX_BITS: u32 = 20;
    /// How many bits a slot's name has.
    pub const BITS: u32 = Slot::INDEX_BITS + 32;
    /// Names no entry.
    pub const NONE: Slot = Slot(u64::MAX);

    fn new(index: u32, uses: u32) -> Slot {
        Slot(u64::from(uses) << Slot::INDEX_BITS | u64::from(index))
    }

    /// The place: no two entries that are there at the same time share it, and small ones are used again, so that it may index a
    /// table beside the slab.
    pub fn index(self) -> usize {
        (self.0 & ((1 << Slot::INDEX_BITS) - 1)) as usize
    }

    fn uses(self) -> u32 {
        (self.0 >> Slot::INDEX_BITS) as u32
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    /// The first of the places that are free, chained.
    free: u32,
    count: usize,
}

#[derive(Clone, Debug)]
struct Place<T> {
    entry: Option<T>,
    uses: u32,
    next_free: u32,
}

/// The end of the chain.
const NO_PLACE: u32 = u32::MAX;

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            places: Vec::new(),
            free: NO_PLACE,
            count: 0,
        }
    }
}

impl<T> Slab<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts an entry in.
    ///
    /// # Panics
    /// If there are 2^20 already: whoever admits requests has bounds far below.
    #[inline]
    pub fn insert(&mut self, entry: T) -> Slot {
        self.count += 1;
        if self.free == NO_PLACE {
            return self.append(entry);
        }
        let index = self.free;
        let place = &mut self.places[index as usize];
        self.free = place.next_free;
        place.entry = Some(entry);
        Slot::new(index, place.uses)
    }

    #[cold]
    fn append(&mut self, entry: T) -> Slot {
        let index = self.places.len();
        assert!(index < 1 << Slot::INDEX_BITS, "more in flight than can be");
        self.places.push(Place {
            entry: Some(entry),
            uses: 0,
            next_free: NO_PLACE,
        });
        Slot::new(index as u32, 0)
    }

    /// An entry, if it is still there.
    #[inline]
    pub fn find(&self, slot: Slot) -> Option<&T> {
        let place = self.places.get(slot.index())?;
        place.entry.as_ref().filter(|_| place.uses == slot.uses())
    }

    /// An entry, to change, if it is still there.
    #[inline]
    pub fn find_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let place = self.places.get_mut(slot.index())?;
        place.entry.as_mut().filter(|_| place.uses == slot.uses())
    }

    /// Takes an entry out, if it is still there.
    #[inline]
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let place = self.places.get_mut(slot.index())?;
        if place.uses != slot.uses() {
            return None;
        }
        let entry = place.entry.take()?;
        place.uses = place.uses.wrapping_add(1);
        place.next_free = self.free;
        self.free = slot.index() as u32;
        self.count -= 1;
        Some(entry)
    }

    /// Every entry, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((Slot::new(index as u32, place.uses), place.entry.as_ref()?)))
    }

    /// Every entry, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| place.entry.as_mut())
    }

    /// Takes every entry out, by place.
    pub fn take_all(&mut self) -> Vec<T> {
        let slots: Vec<Slot> = self.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().filter_map(|slot| self.remove(slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a place's uses not counted, a place never used again, the chain of free places cut.
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_tree_of_names_that_are_never_reused(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 0..300)) {
            let (mut slab, mut oracle, mut gone) = (Slab::default(), BTreeMap::new(), Vec::new());
            let mut most = 0;
            for (number, (insert, pick)) in steps.into_iter().enumerate() {
                if insert || oracle.is_empty() {
                    let slot = slab.insert(number);
                    prop_assert!(!gone.contains(&slot));
                    prop_assert_eq!(oracle.insert(slot, number), None);
                    most = most.max(oracle.len());
                    prop_assert!(slot.index() < most, "no more places than were ever needed at a time");
                } else {
                    let slot = *oracle.keys().nth(usize::from(pick) % oracle.len()).expect("inside");
                    *slab.find_mut(slot).expect("there") += 1000;
                    prop_assert_eq!(slab.remove(slot), oracle.remove(&slot).map(|value| value + 1000));
                    gone.push(slot);
                }
                for slot in &gone {
                    prop_assert_eq!(slab.find(*slot), None);
                }
                prop_assert_eq!(slab.len(), oracle.len());
                prop_assert_eq!(slab.iter().map(|(slot, value)| (slot, *value)).collect::<BTreeMap<_, _>>(), oracle.clone());
            }
            prop_assert_eq!(slab.find(Slot::NONE), None);
            prop_assert_eq!(slab.take_all().len(), oracle.len());
            prop_assert!(slab.is_empty());
        }
    }
}
