//! Operations.

use cluster::operation::{Operation, OperationState, Wish};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A long-running wish, to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationBody {
    /// Its id.
    pub id: Uuid,
    /// What is wished.
    pub kind: OperationKind,
    /// Of which pool.
    pub pool: Uuid,
    /// Of which volume, if of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
    /// Of which host, if of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Uuid>,
    /// Which controller node shall own the pool, if it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Uuid>,
    /// How far.
    pub state: OperationPhase,
    /// What it waits for while it runs.
    pub waits_for: Vec<String>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, in milliseconds since 1970 (UTC).
    pub begun_ms: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
}

/// What is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Done when the pool is served.
    CreatePool,
    /// Done when it is gone and its space given back.
    DeletePool,
    /// Done when the wanted owner serves it.
    SwitchOwner,
    /// Done when the volume is served.
    CreateVolume,
    /// Done when it is gone.
    DeleteVolume,
    /// Done when it is served with its new size.
    ExtendVolume,
    /// Done when the host is shown the volume.
    Attach,
    /// Done when it is not any more.
    Detach,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationPhase {
    /// Not done yet.
    Running,
    /// Done.
    Done,
    /// It will never be.
    Failed,
}

/// A wish was written down and is being made true: `202 Accepted`. `Location` is the operation's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted<T> {
    /// To watch.
    pub operation: OperationBody,
    /// As it is now.
    pub resource: T,
}

impl From<&Operation> for OperationBody {
    fn from(operation: &Operation) -> OperationBody {
        let (kind, volume, host, to) = parts(operation.wish);
        let mut body = OperationBody {
            id: operation.id.0,
            kind,
            pool: operation.wish.pool().0,
            volume,
            host,
            to,
            state: OperationPhase::Running,
            waits_for: Vec::new(),
            reason: None,
            begun_ms: operation.begun_ms,
            ended_ms: None,
        };
        match &operation.state {
            OperationState::Running { waits_for } => body.waits_for = waits_for.clone(),
            OperationState::Done { at_ms } => {
                (body.state, body.ended_ms) = (OperationPhase::Done, Some(*at_ms))
            }
            OperationState::Failed { reason, at_ms } => {
                (body.state, body.ended_ms) = (OperationPhase::Failed, Some(*at_ms));
                body.reason = Some(reason.clone());
            }
        }
        body
    }
}

fn parts(wish: Wish) -> (OperationKind, Option<Uuid>, Option<Uuid>, Option<Uuid>) {
    match wish {
        Wish::CreatePool { .. } => (OperationKind::CreatePool, None, None, None),
        Wish::DeletePool { .. } => (OperationKind::DeletePool, None, None, None),
        Wish::SwitchOwner { to, .. } => (OperationKind::SwitchOwner, None, None, Some(to.0)),
        Wish::CreateVolume { volume, .. } => (OperationKind::CreateVolume, Some(volume.0), None, None),
        Wish::DeleteVolume { volume, .. } => (OperationKind::DeleteVolume, Some(volume.0), None, None),
        Wish::ExtendVolume { volume, .. } => (OperationKind::ExtendVolume, Some(volume.0), None, None),
        Wish::Attach { volume, host, .. } => (OperationKind::Attach, Some(volume.0), Some(host.0), None),
        Wish::Detach { volume, host, .. } => (OperationKind::Detach, Some(volume.0), Some(host.0), None),
    }
}
