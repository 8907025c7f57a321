use axum::Router;
use axum::body::Body;
use axum::http::header::{FROM, HOST};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;

use super::super::tests::{Answer, Pki, ask, router, settings};
use super::*;
use crate::mimi::MimiSettings;
use crate::peer_certificate::{PeerUsage, verifier};
use crate::testing::World;
use crate::tls::CertificateProfile;

const PROXY: &str = "10.0.0.5:1234";
const STRANGER: &str = "192.0.2.7:1234";
const NGINX: HeaderName = HeaderName::from_static("x-client-cert");

/// A provider behind a proxy at 10.0.0.5.
struct Proxied {
    pki: Pki,
    router: Router,
}

fn behind_proxy(header: CertificateHeader, usage: PeerUsage) -> Proxied {
    let pki = Pki::new();
    let router = routed(header, pki.roots(), usage);
    Proxied { pki, router }
}

fn routed(header: CertificateHeader, roots: RootCertStore, usage: PeerUsage) -> Router {
    routed_with(header, roots, usage, Vec::new())
}

fn routed_with(
    header: CertificateHeader,
    roots: RootCertStore,
    usage: PeerUsage,
    intermediates: Vec<CertificateDer<'static>>,
) -> Router {
    let settings = MimiSettings {
        forwarded: Some(ForwardedCertificates {
            proxies: vec!["10.0.0.5/32".parse().unwrap()],
            header,
            intermediates,
            verifier: verifier(roots, usage).unwrap(),
        }),
        ..settings()
    };
    router(settings, &World::new())
}

impl Proxied {
    async fn call(&self, from: &str, headers: &[(HeaderName, String)]) -> Answer {
        self.call_with(from, headers, |_| {}).await
    }

    async fn call_with(
        &self,
        from: &str,
        headers: &[(HeaderName, String)],
        adjust: impl FnOnce(&mut Request),
    ) -> Answer {
        call(&self.router, from, headers, adjust).await
    }

    fn escaped(&self, name: &str) -> String {
        escape_pem(&self.pki.issue(name, CertificateProfile::Server).chain_pem)
    }
}

async fn call(
    router: &Router,
    from: &str,
    headers: &[(HeaderName, String)],
    adjust: impl FnOnce(&mut Request),
) -> Answer {
    let mut request = Request::post("/_mimi/v1/notify/x")
        .header(HOST, "h.example")
        .header(FROM, "mimi@p.example")
        .extension(ConnectInfo::<SocketAddr>(from.parse().unwrap()));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    adjust(&mut request);
    ask(router, request).await
}

/// As nginx does it.
fn escape_pem(pem: &str) -> String {
    percent_encoding::utf8_percent_encode(pem, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn byte_sequence_of(der: &CertificateDer<'_>) -> String {
    format!(":{}:", BASE64_STANDARD.encode(der))
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    chain.unwrap()
}

#[tokio::test]
async fn a_proxy_tells_of_certificates_in_either_header() {
    let world = behind_proxy(CertificateHeader::EscapedPem(NGINX), PeerUsage::Either);
    let whole = world.escaped("p.example");
    let pem = world.pki.issue("p.example", CertificateProfile::Server).chain_pem;
    let end = pem.find("-----END CERTIFICATE-----\n").unwrap() + "-----END CERTIFICATE-----\n".len();
    for value in [whole, escape_pem(&pem[..end])] {
        let answer = world.call(PROXY, &[(NGINX, value)]).await;
        assert_eq!((answer.status, &*answer.text), (200, "p.example"));
    }

    let world = behind_proxy(CertificateHeader::ClientCert, PeerUsage::Either);
    let certificates = chain(&world.pki.issue("p.example", CertificateProfile::Server).chain_pem);
    let leaf = (CLIENT_CERT, byte_sequence_of(&certificates[0]));
    assert_eq!(world.call(PROXY, &[leaf]).await.text, "p.example");
}

#[tokio::test]
async fn who_is_no_proxy_is_not_believed_about_certificates() {
    for header in [CertificateHeader::EscapedPem(NGINX), CertificateHeader::ClientCert] {
        let world = behind_proxy(header, PeerUsage::Either);
        let certificates = chain(&world.pki.issue("p.example", CertificateProfile::Server).chain_pem);
        let spoofed = [
            (NGINX, world.escaped("p.example")),
            (CLIENT_CERT, byte_sequence_of(&certificates[0])),
        ];
        let answer = world.call(STRANGER, &spoofed).await;
        answer.expect_refusal(&MimiRefusal::NoCertificate, 401);
        // Nor when nobody knows where the request comes from.
        let answer = world
            .call_with(STRANGER, &spoofed, |request| {
                request.extensions_mut().remove::<ConnectInfo<SocketAddr>>();
            })
            .await;
        answer.expect_refusal(&MimiRefusal::NoCertificate, 401);
        // Their own certificate counts, whatever the header says.
        let own = world.pki.certificate("q.example");
        let answer = world
            .call_with(STRANGER, &spoofed, |request| {
                request.extensions_mut().insert(own.clone());
            })
            .await;
        assert_eq!(answer.status, 403);
        let own = world.pki.certificate("p.example");
        let broken = [(NGINX, "garbage".to_owned()), (CLIENT_CERT, "garbage".to_owned())];
        let answer = world
            .call_with(STRANGER, &broken, |request| {
                request.extensions_mut().insert(own);
            })
            .await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_proxys_own_certificate_is_nobodys() {
    let world = behind_proxy(CertificateHeader::EscapedPem(NGINX), PeerUsage::Either);
    let own = world.pki.certificate("p.example");
    for headers in [&[][..], &[(NGINX, String::new())]] {
        let answer = world
            .call_with(PROXY, headers, |request| {
                request.extensions_mut().insert(own.clone());
            })
            .await;
        answer.expect_refusal(&MimiRefusal::NoCertificate, 401);
    }
}

#[tokio::test]
async fn what_a_proxy_lets_through_is_checked_again() {
    let world = behind_proxy(CertificateHeader::EscapedPem(NGINX), PeerUsage::Either);
    let stranger = Pki::new().issue("p.example", CertificateProfile::Server).chain_pem;
    let answer = world.call(PROXY, &[(NGINX, escape_pem(&stranger))]).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.starts_with("the client certificate: "), "{}", answer.text);
    let answer = world.call(PROXY, &[(NGINX, world.escaped("q.example"))]).await;
    assert_eq!(answer.status, 403);

    let strict = behind_proxy(CertificateHeader::EscapedPem(NGINX), PeerUsage::ClientAuth);
    let answer = strict.call(PROXY, &[(NGINX, strict.escaped("p.example"))]).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_header_that_is_not_as_it_should_be_is_refused() {
    let malformed = MimiRefusal::Certificate(CertificateFault::Malformed);
    let world = behind_proxy(CertificateHeader::EscapedPem(NGINX), PeerUsage::Either);
    let pem = world.escaped("p.example");
    for value in ["garbage", "%2D%2D", &pem[..pem.len() / 4], &pem.repeat(5)] {
        let answer = world.call(PROXY, &[(NGINX, value.to_owned())]).await;
        answer.expect_refusal(&malformed, 401);
    }
    let answer = world.call(PROXY, &[(NGINX, pem.clone()), (NGINX, pem)]).await;
    answer.expect_refusal(&MimiRefusal::Certificate(CertificateFault::Several), 401);

    let world = behind_proxy(CertificateHeader::ClientCert, PeerUsage::Either);
    let leaf = chain(&world.pki.issue("p.example", CertificateProfile::Server).chain_pem).remove(0);
    let leaf = byte_sequence_of(&leaf);
    for (first, others) in [
        ("garbage", None),
        (&leaf[1..], None),
        (&leaf[..leaf.len() - 1], None),
        ("::", Some(":")),
        (&leaf, Some(":AA==: :AA==:")),
        (&leaf, Some(":AA==:, ")),
        (&leaf, Some(&*[leaf.as_str(); MAX_CHAIN].join(","))),
    ] {
        let mut headers = vec![(CLIENT_CERT, first.to_owned())];
        headers.extend(others.map(|others| (CLIENT_CERT_CHAIN, others.to_owned())));
        world.call(PROXY, &headers).await.expect_refusal(&malformed, 401);
    }
}

/// Signs with a key of its own.
fn authority(issuer: Option<&CertifiedIssuer<'_, KeyPair>>) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = issuer.map_or("root", |_| "intermediate");
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    match issuer {
        None => CertifiedIssuer::self_signed(parameters, key).unwrap(),
        Some(issuer) => CertifiedIssuer::signed_by(parameters, key, issuer).unwrap(),
    }
}

#[tokio::test]
async fn intermediate_certificates_come_along_or_are_known() {
    let root = authority(None);
    let intermediate = authority(Some(&root));
    let mut parameters = CertificateParams::new(["p.example".to_owned()]).unwrap();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = parameters
        .signed_by(&KeyPair::generate().unwrap(), &intermediate)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();

    let router = routed(CertificateHeader::ClientCert, roots.clone(), PeerUsage::Either);
    let first = (CLIENT_CERT, byte_sequence_of(leaf.der()));
    let others = (
        CLIENT_CERT_CHAIN,
        format!(
            "{}, {}",
            byte_sequence_of(intermediate.der()),
            byte_sequence_of(root.der())
        ),
    );
    let alone = call(&router, PROXY, std::slice::from_ref(&first), |_| {}).await;
    assert_eq!(alone.status, 401);
    let answer = call(&router, PROXY, &[first, others], |_| {}).await;
    assert_eq!((answer.status, &*answer.text), (200, "p.example"));

    let router = routed(CertificateHeader::EscapedPem(NGINX), roots.clone(), PeerUsage::Either);
    let pem = escape_pem(&format!("{}{}", leaf.pem(), intermediate.pem()));
    let answer = call(&router, PROXY, &[(NGINX, pem)], |_| {}).await;
    assert_eq!((answer.status, &*answer.text), (200, "p.example"));

    // Nginx tells of the first alone. What is known of intermediates makes nobody trusted for whom no authority stands.
    let known = vec![intermediate.der().clone()];
    let alone = [(NGINX, escape_pem(&leaf.pem()))];
    let mut strange = RootCertStore::empty();
    strange.add(authority(None).der().clone()).unwrap();
    for (roots, status) in [(roots, 200), (strange, 401)] {
        let router = routed_with(
            CertificateHeader::EscapedPem(NGINX),
            roots,
            PeerUsage::Either,
            known.clone(),
        );
        assert_eq!(call(&router, PROXY, &alone, |_| {}).await.status, status);
    }
}
