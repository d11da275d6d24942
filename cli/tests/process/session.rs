//! One run of `trestle` as a person or a script would have it.

use super::fabric::TRESTLE;
use serde_json::Value;
use std::process::{Command, Stdio};

/// What it came to.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) arguments: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `trestle` with these arguments.
pub(crate) fn session(arguments: &[&str]) -> Session {
    let mut command = Command::new(TRESTLE);
    command
        .args(arguments)
        .env_remove("TRESTLE_API")
        .stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    Session {
        arguments: arguments.join(" "),
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

impl Session {
    pub(crate) fn succeeded(self) -> Session {
        assert_eq!(self.code, 0, "trestle {}: {}", self.arguments, self.err);
        self
    }

    /// It ended with this code, said exactly this on standard error, and nothing on standard output.
    pub(crate) fn refused(self, code: i32, words: &str) {
        let Session {
            arguments, out, err, ..
        } = &self;
        assert_eq!(err.trim_end(), format!("trestle: {words}"), "trestle {arguments}");
        assert_eq!((self.code, out.as_str()), (code, ""), "trestle {arguments}");
    }

    /// It ended with this code, and standard error has these words in it.
    pub(crate) fn refused_with(self, code: i32, words: &str) -> Session {
        let Session { arguments, err, .. } = &self;
        assert!(err.contains(words), "trestle {arguments}: no {words:?} in {err}");
        assert_eq!(self.code, code, "trestle {arguments}: {err}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.arguments, self.out))
    }
}
