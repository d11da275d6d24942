//! The cluster's own record: written once, by the first api-server that finds none.

use crate::secret;
use cluster::key;
use cluster::spec::ClusterSpec;
use std::sync::Arc;
use store::{Store, TransactionError, Txn, transaction};

/// The cluster's record; made now if there is none, with this join token or a drawn one.
///
/// Errors: as of [`transaction`].
pub async fn ensure_cluster(
    store: &Arc<dyn Store>,
    join_token: Option<&str>,
) -> Result<ClusterSpec, TransactionError> {
    let join_token = join_token.map_or_else(|| secret::draw(store.outside()), String::from);
    let fresh = &ClusterSpec {
        id: store.outside().fresh_id(),
        join_token,
    };
    transaction(store, |txn: Txn| async move {
        if let Some(present) = txn.get::<ClusterSpec>(key::CLUSTER).await? {
            return Ok(present);
        }
        txn.put(key::CLUSTER, fresh)?;
        Ok(fresh.clone())
    })
    .await
}
