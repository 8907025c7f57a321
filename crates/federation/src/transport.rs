//! The port between a signed HTTP request and the wire, and what can go wrong on it.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use nabe_service::ports::PeerError;
use nabe_types::ServerName;

/// Carries one HTTP request to a server and brings back its complete answer.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends `request`, whose URI is path and query only (`/_matrix/…`) and which has no `Host` header: the transport
    /// adds the one that discovery calls for. `timeout` bounds everything, discovery included. A [`ResponseLimit`]
    /// among the request's extensions lowers the transport's own limit on the answer's body.
    ///
    /// # Errors
    ///
    /// [`TransportError`] when there is no complete answer.
    async fn send(
        &self,
        destination: &ServerName,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<http::Response<Bytes>, TransportError>;

    /// As [`send`](Self::send), but the body comes piece by piece: `timeout` bounds everything up to it, nothing limits its size, and
    /// dropping it ends it. A transport that has answers whole only gives them in one piece.
    ///
    /// # Errors
    ///
    /// [`TransportError`] when there is no answer.
    async fn open(
        &self,
        destination: &ServerName,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<http::Response<TransportBody>, TransportError> {
        let answer = self.send(destination, request, timeout).await?;
        Ok(answer.map(|body| Box::pin(stream::iter([Ok(body)])) as TransportBody))
    }
}

/// A body in pieces. After an error nothing comes.
pub type TransportBody = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Extension of a request: the most bytes its answer's body may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseLimit(pub usize);

/// Extension of a request that must not be acted on twice: after a connection was lost it is sent on another one only if the peer
/// cannot have seen it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AtMostOnce;

/// Extension of a request whose destination speaks for somebody: it is sent only to a server whose certificate is for this name, too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpeaksFor(pub ServerName);

/// Why a request has no complete answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransportError {
    /// Discovery found no address.
    #[error("the name does not resolve")]
    Unresolvable,
    /// Every address found is one we do not connect to.
    #[error("every address of the name is refused")]
    AddressRefused,
    /// No TCP connection, or it ended early.
    #[error("no connection, or it broke")]
    Unreachable,
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(TlsFault),
    /// Out of time.
    #[error("timed out")]
    Timeout,
    /// Too many requests of ours wait for this destination.
    #[error("too many requests to the destination")]
    Busy,
    /// The body is longer than `limit` bytes.
    #[error("answer larger than {limit} bytes")]
    TooLarge {
        /// The limit that was passed, in bytes.
        limit: usize,
    },
    /// Not HTTP, or HTTP we do not accept.
    #[error("broken HTTP")]
    Protocol,
    /// The request cannot be sent as HTTP.
    #[error("malformed request")]
    InvalidRequest,
}

/// What was wrong with a TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TlsFault {
    /// The certificate is for another name.
    #[error("the certificate is for another name")]
    WrongName,
    /// No authority we trust issued the certificate.
    #[error("the certificate's issuer is not trusted")]
    UntrustedIssuer,
    /// The certificate has expired or is not valid yet.
    #[error("the certificate is not valid at this time")]
    NotValidNow,
    /// The peer does not accept our own certificate, or wants one and got none. With TLS 1.3 it says so when the handshake is over on
    /// our side: then the connection is merely lost, [`TransportError::Unreachable`].
    #[error("the peer does not accept our certificate")]
    OurCertificate,
    /// The certificate is unfit in another way: malformed, revoked, for another use.
    #[error("the certificate is unacceptable")]
    BadCertificate,
    /// No protocol version, cipher suite or application protocol in common.
    #[error("no common protocol version or parameters")]
    Incompatible,
    /// Anything else: a broken record, an alert.
    #[error("the handshake broke")]
    Broken,
}

impl From<&rustls::Error> for TlsFault {
    fn from(error: &rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError, Error};
        match error {
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::WrongName,
            // A bad signature: issued by somebody who only bears the name of one we trust.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Self::UntrustedIssuer
            }
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::NotValidNow,
            // Nobody but a peer that looks at our certificate has these to say.
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired,
            ) => Self::OurCertificate,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::BadCertificate,
            Error::PeerIncompatible(_)
            | Error::NoApplicationProtocol
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::NoApplicationProtocol,
            ) => Self::Incompatible,
            _ => Self::Broken,
        }
    }
}

impl From<TransportError> for PeerError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unresolvable => Self::Unresolvable,
            TransportError::AddressRefused => Self::AddressRefused,
            TransportError::Unreachable => Self::Unreachable,
            TransportError::Tls(_) => Self::Tls,
            TransportError::Timeout => Self::Timeout,
            TransportError::Busy => Self::Busy,
            TransportError::TooLarge { limit } => Self::TooLarge { limit },
            TransportError::Protocol => Self::Protocol,
            TransportError::InvalidRequest => Self::InvalidRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, Error};

    use super::*;

    #[test]
    fn what_a_peer_says_of_our_certificate_is_told_from_what_it_says_of_parameters() {
        for (alert, fault) in [
            (AlertDescription::CertificateRequired, TlsFault::OurCertificate),
            (AlertDescription::UnknownCA, TlsFault::OurCertificate),
            (AlertDescription::UnsupportedCertificate, TlsFault::OurCertificate),
            (AlertDescription::ProtocolVersion, TlsFault::Incompatible),
            (AlertDescription::InternalError, TlsFault::Broken),
        ] {
            assert_eq!(TlsFault::from(&Error::AlertReceived(alert)), fault);
        }
    }
}
