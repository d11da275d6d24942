//! Carries the node's membership requests to the store, by way of any api-server (R3).
//!
//! A request is asked again until the store has answered: the node's writes wait for exactly that. Several requests are
//! under way at a time, so that one slice never waits for another's.

use crate::Shared;
use crate::api_client::{ApiClient, CallApi};
use control::agent::{MembershipAnswer, MembershipOutcome, MembershipRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const RETRY: Duration = Duration::from_millis(100);

/// Starts carrying; ends with `shutdown`.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    client: ApiClient,
    shutdown: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !*shutdown.borrow() {
            let node = shared.node.clone();
            let next =
                tokio::task::spawn_blocking(move || node.next_membership_request(Duration::from_secs(1)));
            if let Ok(Some(request)) = next.await {
                tokio::spawn(carry(shared.clone(), client.clone(), request, shutdown.clone()));
            }
        }
    })
}

async fn carry(
    shared: Arc<Shared>,
    client: ApiClient,
    request: MembershipRequest,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut token = shared.token.subscribe();
    let asked = async {
        loop {
            let shown = token.wait_for(Option::is_some).await.map(|token| token.clone());
            let Ok(Some(shown)) = shown else { return None };
            match client.membership(&shown, &request).await {
                Ok(answer) => return Some(answer),
                Err(error @ CallApi::Refused { .. }) => {
                    tracing::error!(%error, ?request, "a membership request was refused");
                    return Some(refused(&request));
                }
                Err(error) => {
                    tracing::warn!(%error, "a membership request waits for an api-server");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        answer = asked => if let Some(answer) = answer { shared.node.membership_answer(answer) },
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

fn refused(request: &MembershipRequest) -> MembershipAnswer {
    MembershipAnswer {
        request: request.request,
        slice: request.slice,
        outcome: MembershipOutcome::Refused,
    }
}
