//! A table whose rows have a name and a place. By name things are looked up when somebody names them, in order; by place
//! when who asks has been there before: one step, whatever the table holds.
//!
//! Invariant: a row keeps its place while it lives. A place may be another row's afterwards: whoever looks there says also whom
//! he expects.

use std::collections::BTreeMap;

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowIndex(u32);

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    by_name: BTreeMap<K, RowIndex>,
    rows: Vec<Option<(K, V)>>,
    free: Vec<RowIndex>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Table<K, V> {
        Table {
            by_name: BTreeMap::new(),
            rows: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Ord + Copy, V> Table<K, V> {
    /// Adds a row under a name that none has.
    pub(crate) fn insert(&mut self, key: K, value: V) -> RowIndex {
        let place = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            RowIndex(u32::try_from(self.rows.len() - 1).expect("fewer rows than that"))
        });
        self.rows[place.0 as usize] = Some((key, value));
        assert!(self.by_name.insert(key, place).is_none(), "a name twice");
        place
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.by_name.remove(key)?;
        self.free.push(place);
        self.rows[place.0 as usize].take().map(|(_, value)| value)
    }

    /// Where a name's row is.
    pub(crate) fn row(&self, key: &K) -> Option<RowIndex> {
        self.by_name.get(key).copied()
    }

    /// The row at a place, if it is still that one's.
    pub(crate) fn at(&self, place: RowIndex, key: K) -> Option<&V> {
        match self.rows.get(place.0 as usize) {
            Some(Some((name, value))) if *name == key => Some(value),
            _ => None,
        }
    }

    pub(crate) fn at_mut(&mut self, place: RowIndex, key: K) -> Option<&mut V> {
        match self.rows.get_mut(place.0 as usize) {
            Some(Some((name, value))) if *name == key => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = self.row(key)?;
        self.at(place, *key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.row(key)?;
        self.at_mut(place, *key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.by_name.contains_key(key)
    }

    /// The names, ascending.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = K> {
        self.by_name.keys().copied()
    }

    /// The rows with their names, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let rows = self.by_name.iter();
        rows.filter_map(|(key, place)| Some((*key, self.at(*place, *key)?)))
    }

    /// The rows, by ascending names.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The rows, in no order that means anything; the same in every run.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.iter_mut().flatten().map(|(_, value)| value)
    }
}

impl<K: Ord + Copy, V> std::ops::Index<&K> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("a row of the table")
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a place given out twice, a place that answers for its next owner.
    use super::*;

    #[test]
    fn a_place_is_its_own_rows_only() {
        let mut table = Table::default();
        let (seven, three) = (table.insert(7, "seven"), table.insert(3, "three"));
        assert_eq!((table.at(seven, 7), table.at(three, 7)), (Some(&"seven"), None));
        assert_eq!(table.remove(&7), Some("seven"));
        assert_eq!(table.at(seven, 7), None);
        let nine = table.insert(9, "nine");
        assert_eq!(nine, seven, "by_name are used again");
        assert_eq!((table.at(seven, 7), table.at(seven, 9)), (None, Some(&"nine")));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(3, &"three"), (9, &"nine")]);
        assert_eq!(table.row(&3), Some(three));
        assert_eq!((table.remove(&7), table.get(&7)), (None, None));
    }
}
