//! Pages of lists: in the order of keys, from where the last page ended.

use crate::error::ApiError;
use control::problem::ProblemKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::{KeyRange, Txn, Versioned};

/// How many items a page has if nothing is said, and at most.
const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 1000;
/// How many records are read at a time while looking for those that the filter wants.
const CHUNK: usize = 200;

/// Which page.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Page {
    pub(crate) limit: Option<u64>,
    pub(crate) continuation: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let (detail, hint) = (
                format!("limit {limit} is not allowed"),
                format!("choose from 1 to {LIMIT_MAX}"),
            );
            return Err(ApiError::refused(ProblemKind::InvalidValue, detail, hint));
        }
        Ok(limit as usize)
    }

    fn range(&self, prefix: &str) -> Result<KeyRange, ApiError> {
        let all = KeyRange::prefix(prefix);
        let Some(token) = &self.continuation else {
            return Ok(all);
        };
        let ours = token.len() <= 200
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte));
        if !ours {
            let detail = "continue is not what an earlier page gave";
            return Err(ApiError::refused(
                ProblemKind::InvalidValue,
                detail,
                "begin anew without it",
            ));
        }
        Ok(all.after(format!("{prefix}{token}").as_bytes()))
    }

    /// The records of the page that the filter wants, and where the next page goes on, if there may be more.
    ///
    /// Errors: an invalid limit or token, and as of the store.
    pub(crate) async fn records<T: DeserializeOwned>(
        &self,
        txn: &Txn,
        prefix: &str,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<(Vec<Versioned<T>>, Option<String>), ApiError> {
        let (limit, mut range) = (self.limit()?, self.range(prefix)?);
        let mut found: Vec<Versioned<T>> = Vec::new();
        loop {
            let (chunk, more) = txn.peek_page::<T>(range.clone(), CHUNK).await?;
            let last = chunk.last().map(|versioned| versioned.key.clone());
            let count = chunk.len();
            for (index, versioned) in chunk.into_iter().enumerate() {
                let key = versioned.key.clone();
                if wanted(&versioned.record) {
                    found.push(versioned);
                }
                if found.len() == limit && (more || index + 1 < count) {
                    return Ok((found, Some(key[prefix.len()..].into())));
                }
            }
            match last {
                Some(last) if more => range = range.after(last.as_bytes()),
                _ => return Ok((found, None)),
            }
        }
    }
}
