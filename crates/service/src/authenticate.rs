//! Who sent this request? LM #int-transport-auth.

use nabe_signing::json::Json;
use nabe_signing::xmatrix::{Bodyless, Request, RequestError, XMatrix, XMatrixError, verify_request};
use nabe_types::ServerName;

use crate::Service;
use crate::error::ServiceError;

/// Why a request does not prove who sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthenticationError {
    /// An `Authorization` header is not a well-formed `X-Matrix` one.
    #[error("authorization header: {0}")]
    Header(#[from] XMatrixError),
    /// More headers than any server has keys.
    #[error("too many authorization headers")]
    TooManyHeaders,
    /// The headers do not hold for this request.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// Somebody claims to be us.
    #[error("this server does not send requests to itself")]
    OwnName,
}

impl Service {
    /// Checks **every** `X-Matrix` header of a request and returns its origin. `uri` is path and query exactly as
    /// received; `body` is the parsed body, `None` if there is none. Fetches the origin's keys if they are not known.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unauthenticated`] (401), [`ServiceError::PolicyRefused`].
    pub async fn authenticate(
        &self,
        method: &str,
        uri: &str,
        authorization: &[String],
        body: Option<&Json>,
    ) -> Result<ServerName, ServiceError> {
        let headers = read_headers(authorization)?;
        let origin = self.claimed_origin(&headers)?;
        self.check_policy(origin)?;
        let key_ids: Vec<_> = headers.iter().map(|header| header.key.clone()).collect();
        let keys = self.request_keys(origin, &key_ids).await?;
        let request = Request {
            method,
            uri,
            destination: self.server_name(),
            content: body,
        };
        let bodyless = match self.settings().compat_for(origin).accept_omitted_content {
            true => Bodyless::EmptyObjectOrNone,
            false => Bodyless::EmptyObject,
        };
        let origin =
            verify_request(&request, &headers, &keys, self.now(), bodyless).map_err(AuthenticationError::from)?;
        self.heard_from(&origin);
        Ok(origin)
    }

    /// What the headers alone decide, for refusing a request before its body is read. Whoever passes has proved nothing
    /// yet: that takes [`authenticate`](Self::authenticate).
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unauthenticated`] (401) for headers that can hold for no request to us,
    /// [`ServiceError::PolicyRefused`].
    pub fn check_claim(&self, authorization: &[String]) -> Result<(), ServiceError> {
        let headers = read_headers(authorization)?;
        self.check_policy(self.claimed_origin(&headers)?)
    }

    /// The origin all headers agree on. Checked before anybody is asked for keys.
    fn claimed_origin<'a>(&self, headers: &'a [XMatrix]) -> Result<&'a ServerName, AuthenticationError> {
        let origin = &headers.first().ok_or(RequestError::NoHeader)?.origin;
        if self.is_us(origin) {
            return Err(AuthenticationError::OwnName);
        }
        if headers.iter().any(|header| header.origin != *origin) {
            return Err(RequestError::OriginsDiffer.into());
        }
        let misdirected = |header: &XMatrix| header.destination.as_ref().is_some_and(|name| !self.is_us(name));
        if headers.iter().any(misdirected) {
            return Err(RequestError::WrongDestination.into());
        }
        Ok(origin)
    }
}

fn read_headers(authorization: &[String]) -> Result<Vec<XMatrix>, AuthenticationError> {
    if authorization.len() > MAX_HEADERS {
        return Err(AuthenticationError::TooManyHeaders);
    }
    let headers = authorization.iter().map(|value| XMatrix::parse(value));
    Ok(headers.collect::<Result<_, _>>()?)
}

/// One header per active key; a server in the middle of a rotation has two.
const MAX_HEADERS: usize = 8;
