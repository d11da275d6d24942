//! Events, as they are appended: within the transaction that makes what they tell, so that each is told once.

use cluster::event::{Event, EventId, Severity, Subject, SubjectKind};
use cluster::key;
use cluster::plan::{Plan, VolumeChange};
use cluster::view::PoolInput;
use store::{TransactionError, Txn};
use uuid::Uuid;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) severity: Severity,
    pub(crate) subject: Subject,
    pub(crate) text: String,
}

impl Told {
    pub(crate) fn new(severity: Severity, kind: SubjectKind, id: Uuid, text: String) -> Self {
        Told {
            severity,
            subject: Subject { kind, id },
            text,
        }
    }
}

/// Append events to what the transaction writes.
pub(crate) fn append(txn: &Txn, told: Vec<Told>) -> Result<(), TransactionError> {
    let at_ms = txn.outside().now_ms();
    for Told {
        severity,
        subject,
        text,
    } in told
    {
        let id = EventId::new(at_ms, txn.outside().random());
        tracing::info!(?severity, "{text}");
        txn.put(
            key::event(&id),
            &Event {
                id: id.clone(),
                at_ms,
                severity,
                subject,
                text,
            },
        )?;
    }
    Ok(())
}

/// What a plan means to people, when it is committed.
pub(crate) fn of_plan(input: &PoolInput, plan: &Plan) -> Vec<Told> {
    let name = &input.spec.name;
    let of_pool = |text: String| Told::new(Severity::Info, SubjectKind::Pool, input.spec.id.0, text);
    let mut told = Vec::new();
    if input.layout.is_none() && plan.layout.is_some() {
        told.push(of_pool(format!("pool {name} is placed")));
    }
    for membership in plan.memberships.values() {
        let before = input.memberships.get(&membership.slice);
        if before.is_none_or(|before| before.epoch < membership.epoch) {
            let owner = input.controller_node_name(membership.owner);
            told.push(of_pool(format!(
                "pool {name}: epoch {} is granted to {owner}",
                membership.epoch.0
            )));
        }
    }
    for (id, change) in &plan.volumes {
        let volume = input.volume_name(*id);
        let text = match change {
            VolumeChange::Created => format!("volume {volume} is created"),
            VolumeChange::Gone => format!("volume {volume} is gone"),
        };
        told.push(Told::new(Severity::Info, SubjectKind::Volume, id.0, text));
    }
    if plan.pool_gone {
        told.push(of_pool(format!("pool {name} is gone")));
    }
    told
}
