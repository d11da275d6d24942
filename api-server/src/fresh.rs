//! What a request draws before its transaction, so that a repetition of the transaction uses the same: an id, the time.

use crate::error::ApiError;
use cluster::event::{Event, EventId, Severity, Subject, SubjectKind};
use cluster::operation::{Operation, OperationState, Wish};
use cluster::{OperationId, key};
use control::rest::OperationBody;
use std::time::{SystemTime, UNIX_EPOCH};
use store::Txn;
use uuid::Uuid;

/// See the module.
pub(crate) struct Fresh {
    /// For what is created.
    pub(crate) id: Uuid,
    /// Milliseconds since 1970 (UTC).
    now_ms: u64,
    operation: OperationId,
    distinct: u64,
}

impl Fresh {
    pub(crate) fn draw() -> Fresh {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Fresh {
            id: Uuid::new_v4(),
            now_ms: since.as_millis() as u64,
            operation: OperationId(Uuid::new_v4()),
            distinct: rand::random(),
        }
    }

    /// Begin an operation, in the transaction that writes the wish; one per request.
    pub(crate) fn begin(&self, txn: &Txn, wish: Wish) -> Result<OperationBody, ApiError> {
        let operation = Operation {
            id: self.operation,
            wish,
            begun_ms: self.now_ms,
            state: OperationState::begun(),
        };
        txn.put(key::operation(operation.id), &operation)?;
        Ok(OperationBody::from(&operation))
    }

    /// Tell people what was wished, in the transaction that writes it; one per request.
    pub(crate) fn tell(&self, txn: &Txn, kind: SubjectKind, id: Uuid, text: String) -> Result<(), ApiError> {
        let event = Event {
            id: EventId::new(self.now_ms, self.distinct),
            at_ms: self.now_ms,
            severity: Severity::Info,
            subject: Subject { kind, id },
            text,
        };
        Ok(txn.put(key::event(&event.id), &event)?)
    }
}
