//! What happened, a readable line each; the same seed gives the same lines.

use std::sync::Mutex;
use store::{Change, StoreRevision};
use tokio::time::Instant;

/// See the module.
pub struct Trace {
    lines: Mutex<Vec<String>>,
    print: bool,
    begun: Instant,
}

/// Before the first line, for people.
pub const LEGEND: &str = "seconds since the beginning; who; what. @N is revision N of the store, with the keys it wrote (+) and deleted (-); \
                          ids are shortened to eight digits";

impl Trace {
    /// An empty one; with `print` every line is printed when it is said.
    pub fn new(print: bool) -> Trace {
        if print {
            println!("{LEGEND}");
        }
        Trace {
            lines: Mutex::default(),
            print,
            begun: Instant::now(),
        }
    }

    /// Add a line.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>8.3}  {}", self.begun.elapsed().as_secs_f64(), line());
        if self.print {
            println!("{line}");
        }
        self.lines.lock().expect("one thread").push(line);
    }

    /// All of it.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("one thread").clone()
    }
}

/// A revision of the store.
pub fn of_commit(revision: StoreRevision, by: &str, changes: &[Change]) -> String {
    let by = if by.is_empty() { "a lease's end" } else { by };
    let keys: Vec<String> = changes
        .iter()
        .map(|change| {
            let sign = if matches!(change, Change::Put(_)) {
                '+'
            } else {
                '-'
            };
            format!("{sign}{}", shortened(&String::from_utf8_lossy(change.key())))
        })
        .collect();
    format!("{by:<10} @{revision} {}", keys.join(" "))
}

/// With every id cut to its first eight digits.
pub fn shortened(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let id = rest
            .as_bytes()
            .get(..36)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(id) = id.filter(|id| id.parse::<uuid::Uuid>().is_ok()) {
            out.push_str(&id[..8]);
            rest = &rest[36..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}
