//! TLS for the listening side: certificates from files, reloaded when they change, and a development CA.
//!
//! LM #int-transport asks for HTTP/2 and TLS 1.3; TLS 1.2 is offered only when the operator says so. A certificate that
//! cannot be read at a reload leaves the one in use in place, so a half-written file never takes a server down.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::SystemTime,
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Why a certificate, a key or the development CA could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A PEM file holds nothing usable.
    #[error("{}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate and the key do not fit together, or the key's algorithm is not supported.
    #[error("certificate and key do not fit: {0}")]
    Mismatch(#[from] rustls::Error),
    /// No authority whose certificates peers may show, or one that is unusable.
    #[error("authorities of peers: {0}")]
    NoPeerRoots(#[source] rustls::server::VerifierBuilderError),
    /// The development CA could not make a certificate.
    #[error("development certificate: {0}")]
    Development(#[from] rcgen::Error),
}

/// The process-wide choice of cryptography (`ring`), stated once so that no feature of a dependency can change it.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate chain and key kept in two PEM files, handed to each new connection.
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Loaded>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    stamps: Stamps,
}

type Stamps = [Option<SystemTime>; 2];

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl CertificateFiles {
    /// Reads the chain (leaf first) and its private key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Arc<Self>, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let current = RwLock::new(Loaded::read(&certificate, &key)?);
        Ok(Arc::new(Self {
            certificate,
            key,
            current,
        }))
    }

    /// Reads the files again when either changed since they were last looked at; `true` when the new ones are in use.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate in use stays in use.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let now = stamps(&self.certificate, &self.key);
        if self.read().stamps == now {
            return Ok(false);
        }
        let loaded = Loaded::read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = loaded;
        Ok(true)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Loaded> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.read().key))
    }
}

/// The same certificate for requests we make: a provider is one name, whichever way it speaks.
impl ResolvesClientCert for CertificateFiles {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = Arc::clone(&self.read().key);
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Loaded {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        // Stamped before reading: a change between the two is seen again at the next look.
        let stamps = stamps(certificate, key);
        let chain = read_chain(certificate)?;
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| TlsError::Pem {
            path: key.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            key: Arc::new(CertifiedKey::from_der(chain, secret, &provider())?),
            stamps,
        })
    }
}

/// The certificates of a PEM file, in the file's order; at least one.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    if chain.is_empty() {
        return Err(TlsError::Pem {
            path: path.to_owned(),
            reason: "no certificate found".into(),
        });
    }
    Ok(chain)
}

/// The rustls configuration of a listener: TLS 1.3, ALPN `h2` then `http/1.1`; TLS 1.2 only with `allow_tls12`.
///
/// # Errors
/// [`TlsError::Mismatch`] when the provider supports none of the versions.
pub fn server_config(certificates: Arc<CertificateFiles>, allow_tls12: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&rustls::SupportedProtocolVersion] = if allow_tls12 {
        rustls::ALL_VERSIONS
    } else {
        &[&rustls::version::TLS13]
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The rustls configuration of a listener that asks for certificates of peers (MIMI #transport-layer): TLS 1.3, ALPN `h2` then
/// `http/1.1`.
///
/// # Errors
/// [`TlsError::Mismatch`] when the provider does not support TLS 1.3.
pub fn mutual_server_config(
    certificates: Arc<CertificateFiles>,
    peers: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(peers)
        .with_cert_resolver(certificates);
    // A resumed session would bring back the certificate of its first handshake, whatever has become of it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate authority for development and closed networks; never for the public Internet.
pub struct DevelopmentCa {
    certificate_pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    key_pem: String,
}

impl fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentCa").finish_non_exhaustive()
    }
}

/// What a certificate of the development CA may be used for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CertificateProfile {
    /// `serverAuth` only, as public authorities issue them.
    #[default]
    Server,
    /// `serverAuth` and `clientAuth`.
    Mutual,
}

/// A leaf certificate and its key, both PEM.
pub struct IssuedCertificate {
    /// The leaf, then the CA.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate")
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

impl DevelopmentCa {
    /// A fresh CA with a fresh key.
    ///
    /// # Errors
    /// [`TlsError::Development`].
    pub fn generate() -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let parameters = ca_parameters();
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Ok(Self {
            certificate_pem,
            issuer: rcgen::Issuer::new(parameters, key),
            key_pem,
        })
    }

    /// A CA made by [`Self::generate`], from the files its certificate and key were written to.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be read, or says what is wrong with the key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = |path: &Path| {
            String::from_utf8(read(path)?).map_err(|_| TlsError::Pem {
                path: path.to_owned(),
                reason: "not UTF-8".into(),
            })
        };
        let (certificate_pem, key_pem) = (text(certificate)?, text(key)?);
        let issuer = rcgen::Issuer::new(ca_parameters(), rcgen::KeyPair::from_pem(&key_pem)?);
        Ok(Self {
            certificate_pem,
            issuer,
            key_pem,
        })
    }

    /// A server certificate for DNS names and IP addresses, as public authorities issue them.
    ///
    /// # Errors
    /// [`TlsError::Development`] when a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<IssuedCertificate, TlsError> {
        self.issue_for(names, CertificateProfile::Server)
    }

    /// A certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// [`TlsError::Development`] when a name cannot stand in a certificate.
    pub fn issue_for(&self, names: &[String], profile: CertificateProfile) -> Result<IssuedCertificate, TlsError> {
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(names)?;
        if let Some(name) = names.first() {
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, name.as_str());
        }
        parameters.extended_key_usages = match profile {
            CertificateProfile::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            CertificateProfile::Mutual => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        let leaf = parameters.signed_by(&key, &self.issuer)?;
        Ok(IssuedCertificate {
            chain_pem: format!("{}{}", leaf.pem(), self.certificate_pem),
            key_pem: key.serialize_pem(),
        })
    }

    /// The CA's own certificate, which peers and clients are told to trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's private key, for the file beside its certificate.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// What every development CA's certificate says; only the key differs.
fn ca_parameters() -> rcgen::CertificateParams {
    let mut parameters = rcgen::CertificateParams::default();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Nabe development CA");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    parameters
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, issued: &IssuedCertificate) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("tls.pem"), folder.join("tls.key"));
        fs::write(&certificate, &issued.chain_pem).unwrap();
        fs::write(&key, &issued.key_pem).unwrap();
        (certificate, key)
    }

    #[test]
    fn changed_files_are_picked_up_and_broken_ones_leave_the_old_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::generate().unwrap();
        let (certificate, key) = write(folder.path(), &ca.issue(&["a.localhost".into()]).unwrap());
        let files = CertificateFiles::open(&certificate, &key).unwrap();
        let first = files.read().key.cert[0].clone();
        assert!(!files.reload_if_changed().unwrap());

        write(folder.path(), &ca.issue(&["a.localhost".into()]).unwrap());
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
        fs::File::options()
            .append(true)
            .open(&certificate)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert!(files.reload_if_changed().unwrap());
        let second = files.read().key.cert[0].clone();
        assert_ne!(first, second);

        fs::write(&certificate, "not a certificate").unwrap();
        assert!(matches!(files.reload_if_changed(), Err(TlsError::Pem { .. })));
        assert_eq!(files.read().key.cert[0], second);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::generate().unwrap();
        let (certificate, key) = write(folder.path(), &ca.issue(&["a.localhost".into()]).unwrap());
        fs::write(&key, ca.issue(&["a.localhost".into()]).unwrap().key_pem).unwrap();
        assert!(matches!(
            CertificateFiles::open(certificate, key),
            Err(TlsError::Mismatch(_))
        ));
    }

    #[test]
    fn a_stored_development_ca_issues_certificates_that_chain_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::generate().unwrap();
        let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        fs::write(&certificate, ca.certificate_pem()).unwrap();
        fs::write(&key, ca.key_pem()).unwrap();
        let issued = DevelopmentCa::load(&certificate, &key)
            .unwrap()
            .issue(&["b.localhost".into()])
            .unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(read_chain(&certificate).unwrap().remove(0)).unwrap();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap();
        let (chain_path, _) = write(folder.path(), &issued);
        let chain = read_chain(&chain_path).unwrap();
        use rustls::client::danger::ServerCertVerifier as _;
        let verdict = |name: &str| {
            verifier.verify_server_cert(
                &chain[0],
                &chain[1..],
                &name.to_owned().try_into().unwrap(),
                &[],
                rustls_pki_types::UnixTime::now(),
            )
        };
        assert!(verdict("b.localhost").is_ok());
        assert!(verdict("c.localhost").is_err());
    }
}
