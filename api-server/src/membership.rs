//! Membership: what an owner must have recorded before it goes on (R3, R4, R9).
//!
//! Each request is one transaction that compares the membership record, and so its epoch: it happens under that epoch or
//! not at all. A request may come twice (its answer was lost), and it may come late, after a later one: requests of an
//! epoch are numbered, and per group the last number is kept, so that a late one changes nothing.

use crate::error::ApiError;
use crate::registration::authorized_controller;
use crate::request::{Bearer, Body};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use cluster::layout::{GroupMembership, Membership, PoolLayout};
use cluster::{ControllerNodeId, Epoch, GroupId, LegId, key};
use control::agent::{MembershipAnswer, MembershipChange, MembershipOutcome, MembershipRequest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use store::{Txn, transaction};

/// The last request per group that was recorded under an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LastRequests {
    epoch: Epoch,
    groups: BTreeMap<GroupId, u64>,
}

/// `POST /internal/v1/membership`.
pub(crate) async fn change(
    State(app): State<App>,
    Bearer(token): Bearer,
    Body(request): Body<MembershipRequest>,
) -> Result<Json<MembershipAnswer>, ApiError> {
    let (token, wish) = (&token, &request);
    let outcome = transaction(&app.store, |txn| async move {
        let node = authorized_controller(&txn, token).await?;
        change_in(&txn, wish, node.id).await
    });
    let outcome = outcome.await?;
    if outcome == MembershipOutcome::Refused {
        tracing::error!(?request, "a membership request contradicts the record");
    }
    Ok(Json(MembershipAnswer {
        request: request.request,
        slice: request.slice,
        outcome,
    }))
}

async fn change_in(
    txn: &Txn,
    request: &MembershipRequest,
    node: ControllerNodeId,
) -> Result<MembershipOutcome, ApiError> {
    let record = key::membership(request.slice);
    let Some(present) = txn.get::<Membership>(&record).await? else {
        return Ok(MembershipOutcome::Refused);
    };
    if request.epoch < present.epoch {
        return Ok(MembershipOutcome::StaleEpoch);
    }
    if request.epoch > present.epoch || present.owner != node {
        return Ok(MembershipOutcome::Refused);
    }
    let requests = key::membership_requests(request.slice);
    let last = txn
        .get::<LastRequests>(&requests)
        .await?
        .filter(|last| last.epoch == request.epoch);
    let mut last = last.unwrap_or(LastRequests {
        epoch: request.epoch,
        groups: BTreeMap::new(),
    });
    if is_late(&last, request) {
        return Ok(MembershipOutcome::Refused);
    }
    let layout = txn.get::<PoolLayout>(key::layout(present.pool)).await?;
    let Some(changed) = layout.and_then(|layout| changed(&present, &layout, &request.change)) else {
        return Ok(MembershipOutcome::Refused);
    };
    if changed != present {
        txn.put(&record, &changed)?;
    }
    if let Some(group) = group_of(&request.change)
        && last.groups.insert(group, request.request) != Some(request.request)
    {
        txn.put(&requests, &last)?;
    }
    Ok(MembershipOutcome::Committed)
}

fn group_of(change: &MembershipChange) -> Option<GroupId> {
    match change {
        MembershipChange::InSync { group, .. } | MembershipChange::GroupFormatted { group } => Some(*group),
        MembershipChange::SliceFormatted => None,
    }
}

/// A later request of the same group has been recorded already; nobody waits for this one any more.
fn is_late(last: &LastRequests, request: &MembershipRequest) -> bool {
    let recorded = group_of(&request.change).and_then(|group| last.groups.get(&group));
    recorded.is_some_and(|recorded| request.request < *recorded)
}

/// The membership after the change; none if it contradicts what is.
fn changed(present: &Membership, layout: &PoolLayout, change: &MembershipChange) -> Option<Membership> {
    let mut membership = present.clone();
    match change {
        MembershipChange::InSync { group, in_sync } => {
            let legs = legs_of(layout, present, *group)?;
            let members = membership.groups.get_mut(group)?;
            let allowed = members.formatted && !in_sync.is_empty() && in_sync.is_subset(&legs);
            members.in_sync = allowed.then(|| in_sync.clone())?;
        }
        MembershipChange::GroupFormatted { group } => {
            let legs = legs_of(layout, present, *group)?;
            let members = membership.groups.get_mut(group)?;
            // Once formatted, legs may have left the set since: saying it again does not bring them back.
            if !members.formatted {
                *members = GroupMembership {
                    formatted: true,
                    in_sync: legs,
                };
            }
        }
        MembershipChange::SliceFormatted => {
            let ready =
                !membership.groups.is_empty() && membership.groups.values().all(|group| group.formatted);
            membership.formatted = ready.then_some(true)?;
        }
    }
    Some(membership)
}

/// The legs of a group of the slice.
fn legs_of(layout: &PoolLayout, membership: &Membership, group: GroupId) -> Option<BTreeSet<LegId>> {
    let slice = layout
        .slices
        .iter()
        .find(|slice| slice.slice == membership.slice)?;
    let group = slice.groups.iter().find(|found| found.group == group)?;
    Some(group.legs.iter().map(|leg| leg.leg).collect())
}
