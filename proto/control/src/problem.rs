//! Problems: how a refusal is told to people and programs (RFC 9457, `application/problem+json`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What was refused, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem, for programs: `/problems/` and one of a fixed set of words.
    #[serde(rename = "type")]
    #[schema(example = "/problems/in-use")]
    pub kind: String,
    /// The kind, for people; always the same for one kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This one, for people: with names and numbers.
    pub detail: String,
    /// What to do.
    pub hint: String,
    /// What stands in the way, if something does: `kind/name` of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
}

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:literal $word:literal $title:literal;)*) => {
        /// The fixed set of kinds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }
        impl ProblemKind {
            /// All of them.
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind,)*];
            /// Its HTTP status.
            pub fn status(self) -> u16 {
                match self { $(ProblemKind::$kind => $status,)* }
            }
            /// Its word, the end of the problem's type.
            pub fn word(self) -> &'static str {
                match self { $(ProblemKind::$kind => $word,)* }
            }
            /// For people.
            pub fn title(self) -> &'static str {
                match self { $(ProblemKind::$kind => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// The body, a header or a parameter is not what its form says.
    Malformed = 400 "malformed" "The request is not well-formed";
    /// No token, or not the right one.
    Unauthorized = 401 "unauthorized" "The token is missing or wrong";
    /// There is no such path, or nothing of that name or id.
    NotFound = 404 "not-found" "There is no such thing";
    /// The path is there, the method is not.
    MethodNotAllowed = 405 "method-not-allowed" "The method is not for this path";
    /// The name is taken.
    NameTaken = 409 "name-taken" "The name is taken";
    /// Something else needs it.
    InUse = 409 "in-use" "It is in use";
    /// Its present state does not allow it.
    WrongState = 409 "wrong-state" "Its present state does not allow this";
    /// Not enough nodes.
    TooFewNodes = 409 "too-few-nodes" "There are not enough nodes";
    /// If-Match names another revision than the present one.
    Stale = 412 "stale" "It was changed meanwhile";
    /// The body is too long.
    BodyTooLarge = 413 "body-too-large" "The body is too large";
    /// The body is no JSON by its own account.
    NotJson = 415 "not-json" "The body is not JSON";
    /// Well-formed, but a value is not allowed.
    InvalidValue = 422 "invalid-value" "A value is not allowed";
    /// The key was used for another request.
    KeyReused = 422 "key-reused" "The idempotency key was used for another request";
    /// A bug, or records that cannot be read.
    Internal = 500 "internal" "The server failed";
    /// The store does not answer.
    StoreAway = 503 "store-away" "The store is away";
    /// Not enough space.
    NoSpace = 507 "no-space" "There is not enough space";
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            kind: format!("/problems/{}", kind.word()),
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into(),
            hint: hint.into(),
            used_by: Vec::new(),
        }
    }
    /// The same, with what stands in the way.
    pub fn used_by(mut self, used_by: Vec<String>) -> Problem {
        self.used_by = used_by;
        self
    }
    /// Whether it is of a kind.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.kind.strip_prefix("/problems/") == Some(kind.word())
    }
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.detail, self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_the_rfc_says() {
        let problem = Problem::new(ProblemKind::InUse, "pool p has volumes", "delete them");
        let problem = problem.used_by(vec!["volume/v".into()]);
        let json = serde_json::to_value(&problem).expect("it is plain");
        let expected = serde_json::json!({
            "type": "/problems/in-use", "title": "It is in use", "status": 409,
            "detail": "pool p has volumes", "hint": "delete them", "used_by": ["volume/v"],
        });
        assert_eq!(json, expected);
        assert_eq!(
            serde_json::from_value::<Problem>(json).expect("both ways"),
            problem
        );
        assert!(problem.is(ProblemKind::InUse) && !problem.is(ProblemKind::Stale));
    }

    #[test]
    fn kinds_have_words_of_their_own() {
        let words: std::collections::BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), ProblemKind::ALL.len());
    }
}
