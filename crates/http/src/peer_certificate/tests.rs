use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tls::{CertificateFiles, CertificateProfile, DevelopmentCa, mutual_server_config, read_chain};

/// An authority, and a server of `h.localhost` that asks for certificates of the authority's.
struct World {
    ca: DevelopmentCa,
    folder: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl World {
    fn new(usage: PeerUsage) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.certificate_pem()).unwrap();
        let files = issue(&ca, folder.path(), "h.localhost", CertificateProfile::Server);
        let peers = verifier(roots(folder.path()), usage).unwrap();
        let acceptor = TlsAcceptor::from(mutual_server_config(files, peers).unwrap());
        Self { ca, folder, acceptor }
    }

    fn issue(&self, name: &str, profile: CertificateProfile) -> Arc<CertificateFiles> {
        issue(&self.ca, self.folder.path(), name, profile)
    }

    /// What the server knows of a client after the handshake; an error if it ended there.
    async fn shake_hands(
        &self,
        client: Option<Arc<CertificateFiles>>,
    ) -> Result<Option<PeerCertificate>, std::io::Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(self.folder.path()));
        let config = match client {
            Some(files) => config.with_client_cert_resolver(files),
            None => config.with_no_client_auth(),
        };
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = "h.localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (_client, server) = tokio::join!(connector.connect(name, near), self.acceptor.accept(far));
        Ok(PeerCertificate::of(server?.get_ref().1))
    }
}

fn issue(
    ca: &DevelopmentCa,
    folder: &std::path::Path,
    name: &str,
    profile: CertificateProfile,
) -> Arc<CertificateFiles> {
    let issued = ca.issue_for(&[name.to_owned()], profile).unwrap();
    let (certificate, key) = (folder.join("leaf.pem"), folder.join("leaf.key"));
    std::fs::write(&certificate, issued.chain_pem).unwrap();
    std::fs::write(&key, issued.key_pem).unwrap();
    CertificateFiles::open(certificate, key).unwrap()
}

fn roots(folder: &std::path::Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(read_chain(&folder.join("ca.pem")).unwrap().remove(0))
        .unwrap();
    roots
}

#[tokio::test]
async fn certificate_of_a_server_is_one_of_a_peer_too() {
    let world = World::new(PeerUsage::Either);
    for profile in [CertificateProfile::Server, CertificateProfile::Mutual] {
        let files = world.issue("p.localhost", profile);
        let peer = world.shake_hands(Some(files)).await.unwrap().unwrap();
        assert!(peer.is_for("p.localhost"), "{profile:?}");
        assert!(!peer.is_for("h.localhost"));
    }
}

#[tokio::test]
async fn strict_setting_wants_the_usage_for_clients() {
    let world = World::new(PeerUsage::ClientAuth);
    let server_only = world.issue("p.localhost", CertificateProfile::Server);
    assert!(world.shake_hands(Some(server_only)).await.is_err());
    let both = world.issue("p.localhost", CertificateProfile::Mutual);
    assert!(
        world
            .shake_hands(Some(both))
            .await
            .unwrap()
            .unwrap()
            .is_for("p.localhost")
    );
}

#[tokio::test]
async fn client_without_a_certificate_is_nobody() {
    for usage in [PeerUsage::Either, PeerUsage::ClientAuth] {
        assert!(World::new(usage).shake_hands(None).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn certificate_of_another_authority_ends_the_handshake() {
    let world = World::new(PeerUsage::Either);
    let stranger = DevelopmentCa::generate().unwrap();
    for profile in [CertificateProfile::Server, CertificateProfile::Mutual] {
        let files = issue(&stranger, world.folder.path(), "p.localhost", profile);
        assert!(world.shake_hands(Some(files)).await.is_err());
    }
}

#[tokio::test]
async fn wildcard_speaks_for_the_names_one_label_below() {
    let world = World::new(PeerUsage::Either);
    let files = world.issue("*.p.localhost", CertificateProfile::Server);
    let peer = world.shake_hands(Some(files)).await.unwrap().unwrap();
    assert!(peer.is_for("mimi.p.localhost"));
    for other in [
        "p.localhost",
        "a.mimi.p.localhost",
        "127.0.0.1",
        "",
        "mimi.p.localhost.evil.example",
    ] {
        assert!(!peer.is_for(other), "{other}");
    }
}

#[test]
fn nobody_to_trust_is_an_error() {
    assert!(matches!(
        verifier(RootCertStore::empty(), PeerUsage::Either),
        Err(TlsError::NoPeerRoots(_))
    ));
}
