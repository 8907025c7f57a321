//! Reads request bodies, bounded in size and time, and as strictly as everything that is signed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use nabe_signing::json::{Json, JsonError, JsonRule, Limits};
use nabe_types::limits::MAX_JSON_VALUES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::HttpLimits;

/// What the bodies of all requests together may take, in KiB. Clones share it.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// A budget of this many bytes, rounded down to KiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / KIB).min(Semaphore::MAX_PERMITS))))
    }
}

/// What one body takes of the [`BodyBudget`]; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct BodyShare {
    kib: u32,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyShare {
    /// Takes what a body of `bytes` bytes needs beyond what is taken already.
    fn grow(&mut self, bytes: usize, budget: &BodyBudget) -> Result<(), BodyError> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).map_err(|_| BodyError::Busy)?;
        let more = kib.saturating_sub(self.kib);
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&budget.0)
            .try_acquire_many_owned(more)
            .map_err(|_| BodyError::Busy)?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        self.kib = kib;
        Ok(())
    }
}

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Over what this endpoint takes.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// Over [`HttpLimits::body_budget`]: it would fit, but not now.
    #[error("too many request bodies are arriving at once")]
    Busy,
    /// Over [`HttpLimits::body_time`].
    #[error("the request body took too long to arrive")]
    TooSlow,
    /// The connection or its framing broke.
    #[error("the request body did not arrive whole")]
    Broken,
    /// Not JSON at all.
    #[error("the request body is not JSON: {0}")]
    NotJson(JsonError),
    /// JSON, but not one we accept: not an object, too deep, a key twice.
    #[error("the request body is not acceptable: {0}")]
    BadJson(JsonError),
}

impl BodyError {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::NotJson(_) | Self::BadJson(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The whole body, at most `limit` bytes, and what it takes of the budget, parsed as JSON included. The budget is taken as bytes
/// come, not as they are announced: who only announces holds nothing.
pub(crate) async fn read(body: Body, limit: usize, limits: &HttpLimits) -> Result<(Bytes, BodyShare), BodyError> {
    // A body announced as too large is not read at all.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge { limit });
    }
    timeout(limits.body_time, collect(body, limit, &limits.body_budget))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut body: Body, limit: usize, budget: &BodyBudget) -> Result<(Bytes, BodyShare), BodyError> {
    let (mut bytes, mut share) = (BytesMut::new(), BodyShare::default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        let len = bytes.len().saturating_add(data.len());
        if len > limit {
            return Err(BodyError::TooLarge { limit });
        }
        share.grow(len, budget)?;
        bytes.extend_from_slice(&data);
    }
    share.grow(bytes.len() + parsed_bytes(&bytes), budget)?;
    Ok((bytes.freeze(), share))
}

/// About what the values of a JSON text take in memory beside their text, rather more than less: as many as there are separators,
/// even those inside strings.
fn parsed_bytes(text: &[u8]) -> usize {
    let separators = text.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{'));
    separators.count().min(MAX_JSON_VALUES) * VALUE_BYTES
}

/// A body that is handed on piece by piece, by a peer that is not waited for endlessly.
pub(crate) struct Pieces {
    body: Body,
    time: Duration,
    begun: Instant,
    received: u64,
}

impl Pieces {
    /// Each piece must come within `time`, and the body must come at [`SLOWEST`] beyond that.
    pub(crate) fn new(body: Body, time: Duration) -> Self {
        Self {
            body,
            time,
            begun: Instant::now(),
            received: 0,
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let fair = Duration::from_secs(self.received / SLOWEST);
        let deadline = (self.begun + self.time + fair).min(Instant::now() + self.time);
        loop {
            let frame = timeout_at(deadline, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| BodyError::TooSlow)? else {
                return Ok(None);
            };
            // Anything else is trailers.
            if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
                self.received += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }
}

/// The body as a JSON object, in a [`Json`] because that is what a request's signature is over.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Json, BodyError> {
    let limits = Limits {
        max_bytes: bytes.len(),
        ..Limits::default()
    };
    match Json::parse_with(bytes, limits) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(BodyError::BadJson(JsonError {
            offset: 0,
            rule: JsonRule::NotAnObject,
        })),
        Err(error) => Err(match error.rule {
            JsonRule::TooDeep { .. }
            | JsonRule::TooManyValues { .. }
            | JsonRule::DuplicateKey
            | JsonRule::NumberRange => BodyError::BadJson(error),
            _ => BodyError::NotJson(error),
        }),
    }
}

const KIB: usize = 1024;

/// A value with its share of a key and of what its list or object has reserved.
const VALUE_BYTES: usize = 64;
/// Bytes each second of a body in pieces, as for answers.
const SLOWEST: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_many_small_values_takes_what_they_take_in_memory() {
        let text = format!("[{}0]", "0,".repeat(10_000));
        let limits = |budget| HttpLimits {
            body_budget: BodyBudget::new(budget),
            ..HttpLimits::default()
        };
        let read = async |budget| {
            read(Body::from(text.clone()), usize::MAX, &limits(budget))
                .await
                .map(|_| ())
        };
        assert_eq!(read(10 * text.len()).await, Err(BodyError::Busy));
        assert_eq!(read(40 * text.len()).await, Ok(()));
    }

    #[test]
    fn a_body_that_comes_in_pieces_takes_what_it_is_long_and_no_more() {
        let budget = BodyBudget::new(3 * KIB);
        let mut share = BodyShare::default();
        for len in [1, KIB, KIB + 1, 2 * KIB, 3 * KIB] {
            assert_eq!(share.grow(len, &budget), Ok(()), "{len}");
        }
        assert_eq!(share.grow(3 * KIB + 1, &budget), Err(BodyError::Busy));
        drop(share);
        assert_eq!(BodyShare::default().grow(3 * KIB, &budget), Ok(()));
    }
}
