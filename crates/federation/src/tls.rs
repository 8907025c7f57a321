//! Whom we trust and which TLS we speak towards other servers (LM #int-transport, #int-tls): certificates by the
//! system's authorities and by those an operator adds; TLS 1.3 unless 1.2 is permitted by a setting.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Trust anchors and versions.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Trust the authorities that the operating system trusts.
    pub system_roots: bool,
    /// PEM files with further authorities, such as the one of a private federation.
    pub extra_root_files: Vec<PathBuf>,
    /// Further authorities in DER.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Speak TLS 1.2 with peers that cannot do better. The draft requires 1.3 of everyone.
    pub permit_tls12: bool,
    /// The certificate that we show to servers that ask for one (MIMI #transport-layer), chosen anew for each connection.
    pub client_certificate: Option<Arc<dyn ResolvesClientCert>>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            system_roots: true,
            extra_root_files: Vec::new(),
            extra_roots: Vec::new(),
            permit_tls12: false,
            client_certificate: None,
        }
    }
}

/// The TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with authorities cannot be read, or holds no certificate.
    #[error("cannot read certificates from {path}")]
    RootFile {
        /// The file.
        path: PathBuf,
        /// What the PEM reader says.
        source: rustls_pki_types::pem::Error,
    },
    /// An added certificate cannot be an authority.
    #[error("an added authority's certificate is unusable")]
    Root(#[source] rustls::Error),
    /// There is nobody to trust: no system roots found and none added.
    #[error("no certificate authority to trust")]
    NoRoots,
    /// The TLS library refuses the versions asked for.
    #[error("the TLS versions are not available")]
    Versions(#[source] rustls::Error),
}

impl TlsSettings {
    /// The client configuration, offering HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when an added authority is unusable or none remains.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = self.roots()?;
        let versions: &[&rustls::SupportedProtocolVersion] = if self.permit_tls12 {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Versions)?
            .with_root_certificates(roots);
        let mut config = match &self.client_certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => {
                let mut config = config.with_client_cert_resolver(Arc::clone(certificate));
                // A resumed session would go on under the certificate that was shown in the first.
                config.resumption = Resumption::disabled();
                config
            }
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Arc::new(config))
    }

    /// The authorities that are trusted, the same ones for whoever shows a certificate.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when an added authority is unusable or none remains.
    pub fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if self.system_roots {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
            }
            // Systems carry the odd certificate that the verifier cannot use; the others still count.
            roots.add_parsable_certificates(found.certs);
        }
        for path in &self.extra_root_files {
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(TlsError::Root)?;
            }
        }
        for certificate in &self.extra_roots {
            roots.add(certificate.clone()).map_err(TlsError::Root)?;
        }
        if roots.is_empty() {
            Err(TlsError::NoRoots)
        } else {
            Ok(roots)
        }
    }
}

fn read_certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::RootFile {
        path: path.clone(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?;
    if certificates.is_empty() {
        return Err(failed(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// ALPN identifier of HTTP/2.
pub(crate) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusting_nobody_is_an_error() {
        let settings = TlsSettings {
            system_roots: false,
            ..TlsSettings::default()
        };
        assert!(matches!(settings.client_config(), Err(TlsError::NoRoots)));
    }

    #[test]
    fn a_missing_authority_file_is_an_error_that_names_it() {
        let path = PathBuf::from("/nonexistent/authority.pem");
        let settings = TlsSettings {
            system_roots: false,
            extra_root_files: vec![path.clone()],
            ..TlsSettings::default()
        };
        let Err(TlsError::RootFile { path: named, .. }) = settings.client_config() else {
            panic!("the file was accepted");
        };
        assert_eq!(named, path);
    }
}
