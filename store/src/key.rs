//! Ranges of keys: half-open, in the order of their bytes.

/// The keys from `start` on, before `end`; without an end, all from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Exactly one key.
    pub fn key(key: impl Into<Vec<u8>>) -> KeyRange {
        let start = key.into();
        let mut end = start.clone();
        end.push(0);
        KeyRange {
            start,
            end: Some(end),
        }
    }
    /// All keys that begin so; an empty prefix means all keys.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> KeyRange {
        let start = prefix.into();
        let end = after_prefix(&start);
        KeyRange { start, end }
    }
    /// From `start` on, before `end`. Empty if they are not in order.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange {
            start: start.into(),
            end: Some(end.into()),
        }
    }
    /// The same range without the keys up to and including `key`: where a page goes on.
    pub fn after(&self, key: &[u8]) -> KeyRange {
        let mut start = key.to_vec();
        start.push(0);
        KeyRange {
            start: start.max(self.start.clone()),
            end: self.end.clone(),
        }
    }
    /// The first key that could be in it.
    pub fn start(&self) -> &[u8] {
        &self.start
    }
    /// The first key behind it; `None`: there is no end.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
    /// Whether it is so.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start() && self.end().is_none_or(|end| key < end)
    }
    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end().is_some_and(|end| end <= self.start())
    }
}

/// The first key that is behind all keys with the prefix; none if all its bytes are 0xff.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_is_one_more() {
        for (prefix, end) in [
            (&b"a/"[..], Some(&b"a0"[..])),
            (b"a\xff", Some(b"b")),
            (b"\xff\xff", None),
            (b"", None),
            (b"\xfe\xff\xff", Some(b"\xff")),
        ] {
            assert_eq!(KeyRange::prefix(prefix).end(), end, "{prefix:?}");
        }
    }

    #[test]
    fn ranges_contain_what_they_say() {
        let one = KeyRange::key("k");
        assert!(one.contains(b"k") && !one.contains(b"k\0") && !one.contains(b"j"));
        let page = KeyRange::prefix("k/").after(b"k/b");
        assert!(
            !page.contains(b"k/b")
                && page.contains(b"k/b\0")
                && page.contains(b"k/c")
                && !page.contains(b"k0")
        );
        assert_eq!(
            KeyRange::prefix("k/").after(b"a").start(),
            b"k/",
            "never before its start"
        );
        assert!(KeyRange::between("b", "a").is_empty() && !KeyRange::between("a", "b").contains(b"b"));
    }
}
