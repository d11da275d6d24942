//! Carries the node's membership requests to the store, by way of any api-server (R3).
//!
//! A request is asked again until the store has answered: the node's writes wait for exactly that. Several requests are
//! under way at a time, so that one slice never waits for another's.

use crate::Shared;
use crate::api_client::CallApi;
use control::agent::{MembershipAnswer, MembershipOutcome, MembershipRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const RETRY: Duration = Duration::from_millis(100);

/// Starts carrying; ends with `shutdown`.
pub(crate) fn spawn(shared: Arc<Shared>, shutdown: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !*shutdown.borrow() {
            let node = shared.node.clone();
            let next =
                tokio::task::spawn_blocking(move || node.next_membership_request(Duration::from_secs(1)));
            if let Ok(Some(request)) = next.await {
                let (shared, mut shutdown) = (shared.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(&shared, request) => {}
                        _ = shutdown.wait_for(|stop| *stop) => {}
                    }
                });
            }
        }
    })
}

/// Carries one, however long that takes, and hands the answer to the node.
pub(crate) async fn carry(shared: &Shared, request: MembershipRequest) {
    let mut token = shared.token.subscribe();
    loop {
        let shown = token.wait_for(Option::is_some).await.map(|token| token.clone());
        let Ok(Some(shown)) = shown else { return };
        match shared.client.membership(&shown, &request).await {
            Ok(answer) => return shared.node.membership_answer(answer),
            Err(error @ CallApi::Refused { .. }) => {
                tracing::error!(%error, ?request, "a membership request was refused");
                return shared.node.membership_answer(refused(&request));
            }
            Err(error) => {
                tracing::warn!(%error, "a membership request waits for an api-server");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn refused(request: &MembershipRequest) -> MembershipAnswer {
    MembershipAnswer {
        request: request.request,
        slice: request.slice,
        outcome: MembershipOutcome::Refused,
    }
}
