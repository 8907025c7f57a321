//! Certificates of peers that a reverse proxy saw in a handshake of its own and tells of in a header.
//!
//! A header is believed from the operator's own proxies alone; from anybody else it is taken away before anything looks at it. That the
//! peer has the key, only the proxy knows. Who issued the certificate is checked here once more, so a proxy may let any
//! certificate through. And what a proxy shows on the connection to us is its own certificate, never a peer's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use percent_encoding::percent_decode;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::mimi::{CertificateFault, MimiRefusal};
use crate::listener::contains;
use crate::peer_certificate::PeerCertificate;

/// Which proxies tell of certificates, and how.
#[derive(Clone, Debug)]
pub struct ForwardedCertificates {
    /// The proxies' addresses.
    pub proxies: Vec<IpNet>,
    /// The header they set, and take away where a client set it.
    pub header: CertificateHeader,
    /// Certificates of intermediate authorities, for proxies that tell of the peer's own alone, as nginx does. They are trusted as far as an
    /// authority of the verifier's stands behind them.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// Whose certificates are good, [`peer_certificate::verifier`](crate::peer_certificate::verifier).
    pub verifier: Arc<dyn ClientCertVerifier>,
}

/// A header with a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateHeader {
    /// PEM, percent-encoded: what nginx has in `$ssl_client_escaped_cert`, which is the peer's own alone. Intermediate ones may follow.
    EscapedPem(HeaderName),
    /// `Client-Cert` and `Client-Cert-Chain` of RFC 9440.
    ClientCert,
}

impl ForwardedCertificates {
    /// Takes the header out of the request, and notes the certificate in its place if a proxy sent it.
    pub(super) fn take_from(&self, request: &mut Request) -> Result<(), MimiRefusal> {
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let is_proxy = from.is_some_and(|from| contains(&self.proxies, from.0.ip()));
        let taken = self.header.take_from(request.headers_mut());
        if !is_proxy {
            return Ok(());
        }
        request.extensions_mut().remove::<PeerCertificate>();
        let chain = self.header.read(&taken)?;
        if let Some((leaf, shown)) = chain.split_first() {
            let intermediates = [shown, &self.intermediates[..]].concat();
            // The handshakes go by the same clock.
            let certificate = PeerCertificate::verified(leaf, &intermediates, &*self.verifier, UnixTime::now())
                .map_err(CertificateFault::Untrusted)?;
            request.extensions_mut().insert(certificate);
        }
        Ok(())
    }
}

impl CertificateHeader {
    /// What the request has of it, which is gone from it afterwards.
    fn take_from(&self, headers: &mut HeaderMap) -> Taken {
        match self {
            Self::EscapedPem(name) => Taken {
                first: take(headers, name),
                others: Vec::new(),
            },
            Self::ClientCert => Taken {
                first: take(headers, &CLIENT_CERT),
                others: take(headers, &CLIENT_CERT_CHAIN),
            },
        }
    }

    /// The chain, leaf first; empty if there is none.
    fn read(&self, taken: &Taken) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
        let first = match &taken.first[..] {
            [] => return Ok(Vec::new()),
            // A variable of a proxy that has no value.
            [value] if value.is_empty() => return Ok(Vec::new()),
            [value] => value.as_bytes(),
            _ => return Err(CertificateFault::Several),
        };
        let chain = match self {
            Self::EscapedPem(_) => escaped_pem(first),
            Self::ClientCert => byte_sequences(first, &taken.others),
        };
        chain
            .filter(|chain| (1..=MAX_CHAIN).contains(&chain.len()))
            .ok_or(CertificateFault::Malformed)
    }
}

/// The headers of a request that have to do with certificates.
struct Taken {
    first: Vec<HeaderValue>,
    others: Vec<HeaderValue>,
}

/// All values of a header, which is gone afterwards.
fn take(headers: &mut HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    let values = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    values
}

fn escaped_pem(value: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let pem: Vec<u8> = percent_decode(value).collect();
    CertificateDer::pem_slice_iter(&pem)
        .take(MAX_CHAIN + 1)
        .collect::<Result<_, _>>()
        .ok()
}

fn byte_sequences(first: &[u8], others: &[HeaderValue]) -> Option<Vec<CertificateDer<'static>>> {
    let others = others.iter().map(HeaderValue::as_bytes);
    let others = others.flat_map(|value| value.split(|byte| *byte == b','));
    std::iter::once(first)
        .chain(others)
        .take(MAX_CHAIN + 1)
        .map(byte_sequence)
        .collect()
}

/// A byte sequence of RFC 8941: `:base64:`, with spaces around it as an item of a list has them.
fn byte_sequence(item: &[u8]) -> Option<CertificateDer<'static>> {
    let base64 = item.trim_ascii().strip_prefix(b":")?.strip_suffix(b":")?;
    let der = BASE64_STANDARD.decode(base64).ok()?;
    Some(der.into())
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Certificates from the leaf to the last before the authority's; as many as a handshake is read with.
const MAX_CHAIN: usize = 8;

#[cfg(test)]
mod tests;
