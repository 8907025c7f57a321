//! Files that `h.example` fetches for `p.example`, by proxy and through the gateway. The web has one file.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use nabe_service::mimi::{AssetSettings, HubKey, MimiDeps};
use nabe_service::ports::assets::{AssetUrl, Assets};
use nabe_service::ports::mimi::{MimiPeerError, MimiPeers, MimiRequest};
use nabe_service::ports::{PeerError, PeerResponse, PeerStream};
use nabe_wire::label::{SignatureScheme, Signer, SignerError};
use nabe_wire::mls::{Credential, ExternalSender};

use super::*;
use crate::mimi::OhttpGateway;

const FILE: &str = "https%3A%2F%2Ffiles.q.example%2Fx%3Fkey%3Dy";
const SECRETS: [(u8, [u8; 32]); 2] = [(2, [2; 32]), (1, [1; 32])];

struct Web;

#[async_trait]
impl Assets for Web {
    async fn get(&self, url: &AssetUrl, _: Duration) -> Result<PeerStream, PeerError> {
        let found = (url.host().as_str(), url.path()) == ("files.q.example", "/x?key=y");
        Ok(PeerStream {
            status: if found { 200 } else { 404 },
            content_type: Some("image/png".to_owned()),
            body: Box::pin(stream::iter([
                Ok(Bytes::from_static(b"pic")),
                Ok(Bytes::from_static(b"ture")),
            ])),
        })
    }
}

/// Nobody is asked, and nothing is signed.
struct Nobody;

#[async_trait]
impl MimiPeers for Nobody {
    async fn call(&self, _: &ServerName, _: MimiRequest) -> Result<PeerResponse, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }

    async fn open(&self, _: &ServerName, _: MimiRequest) -> Result<PeerStream, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }
}

impl Signer for Nobody {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignerError> {
        Err(SignerError::SigningError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn world() -> World {
    let sender = ExternalSender {
        signature_key: Vec::new().into(),
        credential: Credential::Basic {
            identity: b"mimi://h.example".as_slice().into(),
        },
    };
    let mut settings = nabe_service::mimi::MimiSettings::default();
    settings.assets.clone_from(&AssetSettings {
        hosts: vec![ServerPattern::parse("files.q.example").unwrap()],
        ..AssetSettings::default()
    });
    let mimi = MimiDeps {
        domain: server("h"),
        peers: Arc::new(Nobody),
        hub: HubKey {
            sender,
            signer: Arc::new(Nobody),
        },
        franking: None,
        franking_agent: None,
        assets: Some(Arc::new(Web)),
        settings,
    };
    World::with_mimi(|_| {}, Some(mimi))
}

fn gateway(world: &World) -> Router {
    gateway_with(world, &SECRETS)
}

fn gateway_with(world: &World, secrets: &[(u8, [u8; 32])]) -> Router {
    let state = AppState {
        ohttp: Some(OhttpGateway::new(secrets).unwrap()),
        ..world.state.clone()
    };
    endpoints().router(settings(), state).unwrap()
}

/// What a client seals, and how to open the answer.
fn sealed(keys: &[u8], method: &str, authority: &str, path: &str) -> (Vec<u8>, ::ohttp::ClientResponse) {
    let parts = [method, "https", authority, path].map(|part| part.as_bytes().to_vec());
    let [method, scheme, authority, path] = parts;
    let message = bhttp::Message::request(method, scheme, authority, path);
    let mut bytes = Vec::new();
    message.write_bhttp(bhttp::Mode::KnownLength, &mut bytes).unwrap();
    let client = ::ohttp::ClientRequest::from_encoded_config_list(keys).unwrap();
    client.encapsulate(&bytes).unwrap()
}

fn to_gateway(pki: &Pki, body: Vec<u8>) -> Request<Body> {
    Request::post("/.well-known/ohttp-gateway")
        .header(HOST, "mimi.h.example")
        .header(FROM, "mimi@p.example")
        .header(CONTENT_TYPE, "message/ohttp-req")
        .extension(pki.certificate("p.example"))
        .body(Body::from(body))
        .unwrap()
}

async fn bytes_of(router: &Router, request: Request<Body>) -> (u16, HeaderMap, Bytes) {
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    (
        head.status.as_u16(),
        head.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

async fn keys(router: &Router) -> Bytes {
    let request = Request::get("/.well-known/ohttp-gateway").body(Body::empty()).unwrap();
    let (status, headers, keys) = bytes_of(router, request).await;
    assert_eq!(
        (status, &headers[CONTENT_TYPE]),
        (200, &HeaderValue::from_static("application/ohttp-keys"))
    );
    keys
}

/// Status and content of the sealed answer.
async fn by_ohttp(router: &Router, pki: &Pki, method: &str, authority: &str, path: &str) -> (u16, Vec<u8>) {
    let (body, opener) = sealed(&keys(router).await, method, authority, path);
    let (status, headers, answer) = bytes_of(router, to_gateway(pki, body)).await;
    assert_eq!(
        (status, &headers[CONTENT_TYPE]),
        (200, &HeaderValue::from_static("message/ohttp-res"))
    );
    let message = opener.decapsulate(&answer).unwrap();
    let message = bhttp::Message::read_bhttp(&mut std::io::Cursor::new(&message)).unwrap();
    (message.control().status().unwrap().code(), message.content().to_vec())
}

#[tokio::test]
async fn a_file_comes_by_proxy_as_it_is() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    let path = format!("/_mimi/v1/proxyDownload/{FILE}");
    let answer = ask(&router, request(&pki, Endpoint::ProxyDownload, &path)).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "picture"));
    assert_eq!(answer.headers[CONTENT_TYPE], "image/png");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn the_proxy_is_open_to_no_other_hosts_and_schemes() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    for (url, status) in [
        ("https%3A%2F%2Fother.example%2Fx", 403),
        ("http%3A%2F%2Ffiles.q.example%2Fx", 403),
        ("https%3A%2F%2F10.0.0.1%2Fx", 403),
        ("https%3A%2F%2Ffiles.q.example%3A22%2Fx", 403),
        ("https%3A%2F%2Ffiles.q.example%2Fother", 404),
    ] {
        let path = format!("/_mimi/v1/proxyDownload/{url}");
        let answer = ask(&router, request(&pki, Endpoint::ProxyDownload, &path)).await;
        assert_eq!(answer.status, status, "{url}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_file_comes_through_the_gateway_sealed() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    let found = by_ohttp(&router, &pki, "GET", "files.q.example", "/x?key=y").await;
    assert_eq!(found, (200, b"picture".to_vec()));
}

#[tokio::test]
async fn what_is_wrong_with_a_sealed_request_is_said_in_the_sealed_answer() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    for (method, authority, path, status) in [
        ("GET", "other.example", "/x", 403),
        ("GET", "files.q.example", "/other", 404),
        ("POST", "files.q.example", "/x?key=y", 405),
        ("GET", "", "/x", 400),
    ] {
        let (found, _) = by_ohttp(&router, &pki, method, authority, path).await;
        assert_eq!(found, status, "{method} {authority}{path}");
    }
}

#[tokio::test]
async fn the_gateway_is_open_to_providers_alone() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    let (body, _) = sealed(&keys(&router).await, "GET", "files.q.example", "/x?key=y");
    let mut unknown = to_gateway(&pki, body);
    unknown.extensions_mut().clear();
    let answer = ask(&router, unknown).await;
    answer.expect_refusal(&MimiRefusal::NoCertificate, 401);
}

#[tokio::test]
async fn a_key_that_is_not_published_any_more_still_opens_requests() {
    let (pki, world) = (Pki::new(), world());
    let before = gateway_with(&world, &SECRETS[1..]);
    let (body, opener) = sealed(&keys(&before).await, "GET", "files.q.example", "/x?key=y");
    let (status, _, answer) = bytes_of(&gateway(&world), to_gateway(&pki, body)).await;
    assert_eq!(status, 200);
    opener.decapsulate(&answer).unwrap();
}

#[tokio::test]
async fn what_is_not_sealed_to_a_key_of_ours_is_refused() {
    let (pki, world) = (Pki::new(), world());
    let router = gateway(&world);
    let (body, _) = sealed(&keys(&router).await, "GET", "files.q.example", "/x");
    let mut other_key = body.clone();
    other_key[0] = 7;
    let (status, headers, _) = bytes_of(&router, to_gateway(&pki, other_key)).await;
    assert_eq!(
        (status, &headers[CONTENT_TYPE]),
        (400, &HeaderValue::from_static("application/problem+json"))
    );
    let mut broken = body.clone();
    *broken.last_mut().unwrap() ^= 1;
    for bytes in [broken, body[..1].to_vec(), body[..40].to_vec(), Vec::new()] {
        let (status, ..) = bytes_of(&router, to_gateway(&pki, bytes)).await;
        assert_eq!(status, 400);
    }
    let mut untold = to_gateway(&pki, body);
    untold.headers_mut().remove(CONTENT_TYPE);
    assert_eq!(ask(&router, untold).await.status, 415);
    let large = to_gateway(&pki, vec![2; 33 * 1024]);
    assert_eq!(ask(&router, large).await.status, 413);
}

#[tokio::test]
async fn the_directory_says_where_the_gateway_is() {
    let world = world();
    let (_, document) = directory(&gateway(&world)).await;
    for name in ["ohttpGateway", "ohttpKeys"] {
        assert_eq!(document[name], "https://mimi.h.example/.well-known/ohttp-gateway");
    }
    assert!(OhttpGateway::new(&[]).is_err());
    assert!(OhttpGateway::new(&[SECRETS[0], SECRETS[0]]).is_err());
}
