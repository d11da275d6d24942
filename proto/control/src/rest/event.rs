//! Events.

use cluster::event::{Event, Severity, SubjectKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventBody {
    /// Its place in the order.
    pub id: String,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// How bad.
    pub severity: EventSeverity,
    /// What it is about.
    pub subject: EventSubject,
    /// One sentence.
    pub text: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventSeverity {
    /// As wished.
    Info,
    /// Something is missing; what is left serves.
    Warning,
    /// Something does not serve.
    Error,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventSubject {
    /// Of which kind: `disk-node`, `controller-node`, `pool`, `volume`, `host`.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
}

impl From<&Event> for EventBody {
    fn from(event: &Event) -> EventBody {
        let severity = match event.severity {
            Severity::Info => EventSeverity::Info,
            Severity::Warning => EventSeverity::Warning,
            Severity::Error => EventSeverity::Error,
        };
        let kind = match event.subject.kind {
            SubjectKind::DiskNode => "disk-node",
            SubjectKind::ControllerNode => "controller-node",
            SubjectKind::Pool => "pool",
            SubjectKind::Volume => "volume",
            SubjectKind::Host => "host",
        };
        let subject = EventSubject {
            kind: kind.into(),
            id: event.subject.id,
        };
        let (id, text) = (event.id.to_string(), event.text.clone());
        EventBody {
            id,
            at_ms: event.at_ms,
            severity,
            subject,
            text,
        }
    }
}
