//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// In the order of their ids (events: of their times).
    pub items: Vec<T>,
    /// There is more: ask again with `?continue=` and this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
}
