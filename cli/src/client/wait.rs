//! Waiting for operations, with a progress line on a terminal.

use super::api::{Api, CallApi};
use crate::arguments::WaitOptions;
use control::rest::{OperationBody, OperationPhase};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Waits if told to; the operation as it is then.
pub(crate) async fn wait_if_told(
    api: &Api,
    operation: OperationBody,
    wait: WaitOptions,
) -> Result<OperationBody, CallApi> {
    if !wait.wait {
        return Ok(operation);
    }
    wait_for(api, operation, wait.wait_seconds).await
}

/// Waits for the end of an operation.
pub(crate) async fn wait_for(
    api: &Api,
    operation: OperationBody,
    seconds: u64,
) -> Result<OperationBody, CallApi> {
    let line = ProgressBar::new_spinner();
    line.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template of our own"));
    line.enable_steady_tick(Duration::from_millis(120));
    let ended = watch(api, operation, seconds, &line).await;
    line.finish_and_clear();
    ended
}

async fn watch(
    api: &Api,
    mut operation: OperationBody,
    seconds: u64,
    line: &ProgressBar,
) -> Result<OperationBody, CallApi> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match operation.state {
            OperationPhase::Done => return Ok(operation),
            OperationPhase::Failed => {
                return Err(CallApi::OperationFailed(
                    operation
                        .reason
                        .unwrap_or_else(|| "no reason is known".to_owned()),
                ));
            }
            OperationPhase::Running => {}
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        let waits = operation.waits_for.join("; ");
        if left == 0 {
            let waits = if waits.is_empty() {
                waits
            } else {
                format!("; it waits for: {waits}")
            };
            return Err(CallApi::WaitedTooLong {
                seconds,
                operation: operation.id.to_string(),
                waits,
            });
        }
        line.set_message(waits);
        operation = api
            .read(&format!(
                "operations/{}?wait_seconds={}",
                operation.id,
                left.min(20)
            ))
            .await?;
    }
}
