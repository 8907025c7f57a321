//! Who calls whom (MIMI #transport-layer): `Host` names the target, `From` the source, and the source's certificate is for the
//! domain it names.

use axum::extract::{FromRequestParts, Request};
use axum::http::header::{FROM, HOST};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};
use nabe_types::ServerName;

use crate::error::mimi::{FromFault, MimiRefusal};
use crate::peer_certificate::PeerCertificate;

/// The provider that a request comes from: it says so, and showed a certificate for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerIdentity(ServerName);

impl PeerIdentity {
    /// The provider's domain, in lower case and without a port.
    #[must_use]
    pub const fn domain(&self) -> &ServerName {
        &self.0
    }

    /// Whom the request comes from.
    pub(super) fn of(request: &Request) -> Result<Self, MimiRefusal> {
        let certificate = request
            .extensions()
            .get::<PeerCertificate>()
            .ok_or(MimiRefusal::NoCertificate)?;
        let domain = source(request.headers())?;
        match certificate.is_for(domain.as_str()) {
            true => Ok(Self(domain)),
            false => Err(MimiRefusal::OtherDomain(domain)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PeerIdentity {
    type Rejection = MimiRefusal;

    /// Whom the request was found to come from, before it got to the handler.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MimiRefusal> {
        let known = parts.extensions.get::<Self>();
        known.cloned().ok_or(MimiRefusal::NoCertificate)
    }
}

/// The domain in the one `From`, whose local part is `mimi`.
fn source(headers: &HeaderMap) -> Result<ServerName, FromFault> {
    let mut values = headers.get_all(FROM).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(FromFault::Missing),
        (Some(_), Some(_)) => return Err(FromFault::Several),
        (Some(value), None) => value,
    };
    let address = value.to_str().map_err(|_| FromFault::NotAnAddress)?;
    let (local, domain) = address.split_once('@').ok_or(FromFault::NotAnAddress)?;
    if local != "mimi" {
        return Err(FromFault::LocalPart);
    }
    let domain = ServerName::parse(&domain.to_ascii_lowercase()).map_err(|_| FromFault::Domain)?;
    match domain.port() {
        None => Ok(domain),
        Some(_) => Err(FromFault::Domain),
    }
}

/// Whether `Host` is one of our names; the port does not count.
pub(super) fn check_host(request: &Request, ours: [&ServerName; 2]) -> Result<(), MimiRefusal> {
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => host(request.headers()),
    };
    let authority = authority.ok_or(MimiRefusal::OtherHost)?;
    let is_ours = ours
        .iter()
        .any(|name| name.host().eq_ignore_ascii_case(authority.host()));
    match is_ours {
        true => Ok(()),
        false => Err(MimiRefusal::OtherHost),
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut values = headers.get_all(HOST).iter();
    match (values.next().map(HeaderValue::as_bytes), values.next()) {
        (Some(value), None) => Authority::try_from(value).ok(),
        _ => None,
    }
}
