//! What a request draws before its transaction, so that a repetition of the transaction uses the same: an id, the time.

use crate::error::ApiError;
use crate::routes::App;
use cluster::event::{Event, EventId, Severity, Subject, SubjectKind};
use cluster::operation::{Operation, OperationState, Wish};
use cluster::{OperationId, key};
use control::rest::OperationBody;
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
    pub(crate) fn draw(app: &App) -> Fresh {
        let outside = app.store.outside();
        Fresh {
            id: outside.fresh_id(),
            now_ms: outside.now_ms(),
            operation: OperationId(outside.fresh_id()),
            distinct: outside.random(),
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
