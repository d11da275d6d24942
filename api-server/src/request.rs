//! What a request says, each part with its own refusal.

use crate::error::ApiError;
use crate::routes::App;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use control::problem::ProblemKind;
use control::rest::check_idempotency_key;
use serde::de::DeserializeOwned;
use store::StoreRevision;

fn malformed(detail: impl Into<String>, hint: &str) -> ApiError {
    ApiError::refused(ProblemKind::Malformed, detail, hint)
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, ApiError> {
        check_media_type(request.headers())?;
        let limit = app.options.body_bytes_max;
        let too_large = || {
            let detail = format!("the body is longer than {limit} bytes");
            ApiError::refused(
                ProblemKind::BodyTooLarge,
                detail,
                "no request of this interface needs so much",
            )
        };
        let length = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        if length
            .and_then(|value| value.parse::<u64>().ok())
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        // What else can go wrong with a body of a connection is that the connection ends: nobody reads the answer.
        let bytes = to_bytes(request.into_body(), limit)
            .await
            .map_err(|_| too_large())?;
        // Nothing at all is the same as an object without fields, for bodies where all is optional.
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        let parsed = serde_json::from_slice(text);
        let hint = "compare it with the schema: GET /v1/openapi.json";
        Ok(Body(parsed.map_err(|error| {
            malformed(format!("the body does not read: {error}"), hint)
        })?))
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let given = given.to_str().unwrap_or_default();
    let essence = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let detail = format!("the body is {given:?} by its Content-Type");
    Err(ApiError::refused(
        ProblemKind::NotJson,
        detail,
        "send JSON, as Content-Type: application/json",
    ))
}

/// The last segment of a path: a name or id.
pub(crate) struct Target(pub(crate) String);

impl FromRequestParts<App> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Target, ApiError> {
        let hint = "give a name or an id, percent-encoded";
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        path.map(|path| Target(path.0))
            .map_err(|error| malformed(error.body_text(), hint))
    }
}

/// What stands behind the question mark.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Params<T>, ApiError> {
        let hint = "compare it with the parameters of GET /v1/openapi.json";
        let query = Query::<T>::from_request_parts(parts, app).await;
        query
            .map(|query| Params(query.0))
            .map_err(|error| malformed(error.body_text(), hint))
    }
}

/// `If-Match`: what the resource must be, if anything is said.
pub(crate) struct IfMatch(Option<StoreRevision>);

impl IfMatch {
    /// Refuse if it says another revision.
    pub(crate) fn check(&self, present: StoreRevision) -> Result<(), ApiError> {
        match self.0 {
            Some(wanted) if wanted != present => {
                let detail = format!("it is at revision {present}, not at {wanted}");
                let hint = "read it again, decide again, and send the new ETag";
                Err(ApiError::refused(ProblemKind::Stale, detail, hint))
            }
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<IfMatch, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(IfMatch(None));
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(IfMatch(None));
        }
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        // One that we did not give out matches nothing: revisions begin at 1.
        let revision = |tag: &str| StoreRevision(tag.parse().unwrap_or(0));
        match quoted.or_else(|| text.strip_prefix("W/")) {
            Some(tag) => Ok(IfMatch(Some(revision(tag)))),
            None => Err(malformed(
                "If-Match is no entity tag",
                "send the ETag as it was given, with its quotes",
            )),
        }
    }
}

/// `Idempotency-Key`, if one is given.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<IdempotencyKey, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(IdempotencyKey(None));
        };
        let key = value.to_str().unwrap_or("\u{fffd}");
        if check_idempotency_key(key).is_err() {
            let hint = "use 1 to 128 letters, digits, '-', '_', '.', ':'";
            return Err(malformed("the Idempotency-Key is no key", hint));
        }
        Ok(IdempotencyKey(Some(key.into())))
    }
}

/// The bearer token, which must be there.
pub(crate) struct Bearer(pub(crate) String);

impl FromRequestParts<App> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Bearer, ApiError> {
        let value = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.split_once(' '));
        match token {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Bearer(token.trim().into())),
            _ => Err(unauthorized("no bearer token was shown")),
        }
    }
}

/// No token, or not the right one. Never says which part of it is wrong.
pub(crate) fn unauthorized(detail: &str) -> ApiError {
    let hint = "nodes join with the cluster's join token, and then use the token they were given";
    ApiError::refused(ProblemKind::Unauthorized, detail, hint)
}
