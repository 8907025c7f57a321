//! The certificate authority that vouches for the checker's own servers. The subject has to trust it.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, version};

/// A CA: certificate and key. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    certificate_pem: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

/// A certificate chain and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A CA cannot be used, or cannot vouch for a name.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Certificate or key is no CA's, or a name cannot stand in a certificate.
    #[error("certificate authority: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What was issued cannot be used for TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// A new CA.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Certificate`] when the system yields no randomness.
    pub fn generate() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "Nabe check CA");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Ok(Self {
            certificate_pem,
            issuer: Arc::new(Issuer::new(parameters, key)),
        })
    }

    /// An existing CA from its certificate and its key, both PEM.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Certificate`] when they do not belong to a CA.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            issuer: Arc::new(issuer),
        })
    }

    /// The CA's certificate, PEM, for the subject to trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// TLS 1.3 with HTTP/2 and HTTP/1.1 for a server reached under `host`.
    pub(crate) fn server_config(&self, host: &str) -> Result<ServerConfig, AuthorityError> {
        let Identity { chain, key } = self.issue(host, &[ExtendedKeyUsagePurpose::ServerAuth])?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// What a provider of MIMI shows, whoever calls whom.
    pub(crate) fn provider(&self, domain: &str) -> Result<Identity, AuthorityError> {
        self.issue(
            domain,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    /// TLS 1.3 for a provider of MIMI, which asks callers for a certificate that one of `roots` vouches for, and lets those
    /// without one through: whoever needs one looks for it.
    pub(crate) fn mutual_server_config(
        identity: &Identity,
        roots: RootCertStore,
    ) -> Result<ServerConfig, AuthorityError> {
        let provider = Arc::new(default_provider());
        let callers = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(callers)
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn issue(&self, host: &str, usages: &[ExtendedKeyUsagePurpose]) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![host.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, host);
        parameters.extended_key_usages = usages.to_vec();
        let leaf = parameters.signed_by(&key, &*self.issuer)?;
        Ok(Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der())
                .map_err(|_| AuthorityError::Certificate(rcgen::Error::CouldNotParseKeyPair))?,
        })
    }
}
