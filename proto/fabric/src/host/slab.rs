//! Rows that are found by where they are: one step, whatever the table holds, and no memory taken once it is as large as it
//! ever needs to be.
//!
//! Invariant: a key finds the row that it was given for, or nothing.

/// Names a row: where it is, and which of those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    row: u32,
    generation: u32,
}

impl Key {
    /// As one number.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.row)
    }

    /// The key that has this number.
    #[inline]
    pub(crate) fn of_number(number: u64) -> Key {
        Key {
            row: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

#[derive(Debug)]
struct Row<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    rows: Vec<Row<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            rows: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Adds a row.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Key {
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row {
                generation: 0,
                value: None,
            });
            u32::try_from(self.rows.len() - 1).expect("fewer rows than 32 bits count")
        });
        let entry = &mut self.rows[row as usize];
        entry.value = Some(value);
        Key {
            row,
            generation: entry.generation,
        }
    }

    #[inline]
    pub(crate) fn find_mut(&mut self, key: Key) -> Option<&mut T> {
        let row = self.rows.get_mut(key.row as usize)?;
        row.value.as_mut().filter(|_| row.generation == key.generation)
    }

    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let row = self.rows.get(key.row as usize)?;
        row.value.as_ref().filter(|_| row.generation == key.generation)
    }

    /// Takes a row away.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let row = self.rows.get_mut(key.row as usize)?;
        if row.generation != key.generation {
            return None;
        }
        let value = row.value.take()?;
        row.generation = row.generation.wrapping_add(1);
        self.free.push(key.row);
        Some(value)
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// All of them, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..).zip(&self.rows).filter_map(|(row, entry)| {
            let generation = entry.generation;
            entry.value.as_ref().map(|value| (Key { row, generation }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a key that finds its row's next owner, a row given out twice, a row lost.
    use super::*;

    #[test]
    fn a_key_finds_its_own_row_or_nothing() {
        let mut slab = Slab::default();
        let (one, two) = (slab.insert("one"), slab.insert("two"));
        assert_eq!((slab.find(one), slab.len()), (Some(&"one"), 2));
        assert_eq!(slab.remove(one), Some("one"));
        assert_eq!((slab.remove(one), slab.find(one), slab.len()), (None, None, 1));
        let three = slab.insert("three");
        assert_ne!(three, one);
        assert_eq!(slab.find(one), None, "the row is another's");
        assert_eq!(slab.find_mut(three), Some(&mut "three"));
        let four = slab.insert("four");
        let all: Vec<_> = slab.iter().collect();
        assert_eq!(all, [(three, &"three"), (two, &"two"), (four, &"four")]);
    }

    #[test]
    fn a_key_is_its_number() {
        let mut slab = Slab::default();
        let first = slab.insert(());
        slab.remove(first);
        let key = slab.insert(());
        assert_eq!(Key::of_number(key.number()), key);
        assert_eq!(slab.find(Key::of_number(u64::MAX)), None);
    }
}
