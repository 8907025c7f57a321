//! Who is at the other end of a mutually authenticated connection (MIMI #transport-layer): the certificate a peer showed, whether
//! we trust who issued it, and which domains it speaks for.
//!
//! Public authorities no longer put the `clientAuth` usage into certificates of servers, and a provider's certificate is
//! one of a server. Therefore a peer may show a certificate for `serverAuth` only, unless [`PeerUsage::ClientAuth`] is asked for
//! (`drafts/mimi-protocol/decisions.md`).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::tls::{TlsError, provider};

/// Which extended key usage the certificate of a peer must have, if it names any.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PeerUsage {
    /// `clientAuth` or `serverAuth`.
    #[default]
    Either,
    /// `clientAuth`.
    ClientAuth,
}

/// The certificate a peer showed: issued by somebody we trust, and valid when the connection began.
#[derive(Clone)]
pub struct PeerCertificate(CertificateDer<'static>);

impl PeerCertificate {
    /// Of a connection whose handshake is done.
    pub(crate) fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        let chain = connection.peer_certificates()?;
        chain.first().map(|leaf| Self(leaf.clone().into_owned()))
    }

    /// A certificate that came another way than in a handshake of ours: `verifier` must find it good now. That the peer has its key is
    /// for whoever it came from to know.
    pub(crate) fn verified(
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        verifier: &dyn ClientCertVerifier,
        now: UnixTime,
    ) -> Result<Self, rustls::Error> {
        verifier.verify_client_cert(leaf, intermediates, now)?;
        Ok(Self(leaf.clone().into_owned()))
    }

    /// Whether it speaks for a domain: one of its `dNSName`s is the domain or a wildcard for it (RFC 6125).
    #[must_use]
    pub fn is_for(&self, domain: &str) -> bool {
        let Ok(name) = rustls_pki_types::DnsName::try_from(domain) else {
            return false;
        };
        let parsed = ParsedCertificate::try_from(&self.0);
        parsed.is_ok_and(|certificate| {
            verify_server_name(&certificate, &rustls_pki_types::ServerName::DnsName(name)).is_ok()
        })
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.0.len()).finish()
    }
}

/// Asks every client for a certificate, lets those without one through (routes that need one say so themselves), and ends the
/// handshake of those whose certificate we do not trust.
///
/// # Errors
///
/// [`TlsError`] when there is no authority among `roots`.
pub fn verifier(roots: RootCertStore, usage: PeerUsage) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (roots, provider) = (Arc::new(roots), provider());
    let algorithms = provider.signature_verification_algorithms;
    let for_clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider)
        .allow_unauthenticated()
        // The names of all public authorities would not fit into a hello of reasonable size, and say nothing to a peer.
        .clear_root_hint_subjects()
        .build()
        .map_err(TlsError::NoPeerRoots)?;
    Ok(match usage {
        PeerUsage::ClientAuth => for_clients,
        PeerUsage::Either => Arc::new(EitherUsage {
            for_clients,
            roots,
            algorithms,
        }),
    })
}

/// What [`PeerUsage::Either`] stands for.
#[derive(Debug)]
struct EitherUsage {
    for_clients: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for EitherUsage {
    fn client_auth_mandatory(&self) -> bool {
        self.for_clients.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.for_clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.for_clients.verify_client_cert(leaf, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => {}
            verdict => return verdict,
        }
        let certificate = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.for_clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.for_clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.for_clients.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
