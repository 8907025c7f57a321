//! A provider `h.example` whose endpoints tell who called and what for. Its peers are whoever has a certificate of the same authority.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, FROM, HOST};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use nabe_types::ServerPattern;
use nabe_wire::directory::DIRECTORY_PATH;
use nabe_wire::update::UpdateRoomResponse;
use nabe_wire::{Encode as _, Message as _};
use rustls::RootCertStore;
use rustls_pki_types::UnixTime;
use tower::ServiceExt as _;

use super::*;
use crate::peer_certificate::{PeerCertificate, PeerUsage, verifier};
use crate::testing::{World, server};
use crate::tls::{CertificateFiles, CertificateProfile, DevelopmentCa, IssuedCertificate, read_chain};

mod downloads;
mod hub;
mod over_tls;
mod users;

/// An authority, and the files that certificates of its are in.
pub(super) struct Pki {
    pub(super) ca: DevelopmentCa,
    pub(super) folder: tempfile::TempDir,
}

impl Pki {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.certificate_pem()).unwrap();
        Self { ca, folder }
    }

    pub(super) fn issue(&self, name: &str, profile: CertificateProfile) -> IssuedCertificate {
        self.ca.issue_for(&[name.to_owned()], profile).unwrap()
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A certificate in files of this name.
    fn files(&self, file: &str, name: &str, profile: CertificateProfile) -> Arc<CertificateFiles> {
        let (certificate, key) = self.write(file, &self.issue(name, profile));
        CertificateFiles::open(certificate, key).unwrap()
    }

    fn write(&self, file: &str, issued: &IssuedCertificate) -> (PathBuf, PathBuf) {
        let (certificate, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        std::fs::write(&certificate, &issued.chain_pem).unwrap();
        std::fs::write(&key, &issued.key_pem).unwrap();
        (certificate, key)
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(read_chain(&self.path("ca.pem")).unwrap().remove(0)).unwrap();
        roots
    }

    /// What a connection by `name` comes with.
    pub(super) fn certificate(&self, name: &str) -> PeerCertificate {
        let (file, _) = self.write("shown", &self.issue(name, CertificateProfile::Server));
        let chain = read_chain(&file).unwrap();
        let verifier = verifier(self.roots(), PeerUsage::Either).unwrap();
        PeerCertificate::verified(&chain[0], &chain[1..], &*verifier, UnixTime::now()).unwrap()
    }
}

pub(super) fn settings() -> MimiSettings {
    MimiSettings {
        domain: server("h"),
        authority: ServerName::parse("mimi.h.example").unwrap(),
        forwarded: None,
    }
}

/// Says who called.
async fn echo(peer: PeerIdentity) -> String {
    peer.domain().to_string()
}

/// All endpoints, each with a handler that says who called.
pub(super) fn router(settings: MimiSettings, world: &World) -> Router {
    let endpoints = Endpoint::ALL
        .into_iter()
        .fold(Endpoints::new(), |endpoints, endpoint| endpoints.serve(endpoint, echo));
    endpoints.router(settings, world.state.clone()).unwrap()
}

/// A request of `p.example` with a certificate for it.
fn request(pki: &Pki, endpoint: Endpoint, path: &str) -> Request<Body> {
    let request = Request::builder()
        .method(endpoint.method())
        .uri(path)
        .header(HOST, "mimi.h.example")
        .header(FROM, "mimi@p.example")
        .extension(pki.certificate("p.example"));
    request.body(Body::empty()).unwrap()
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

pub(super) async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

impl Answer {
    /// A refusal is one line of text.
    #[track_caller]
    pub(super) fn expect_refusal(&self, refusal: &MimiRefusal, status: u16) {
        assert_eq!((self.status, &self.text), (status, &format!("{refusal}\n")));
        assert_eq!(self.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}

/// The templates in the directory, by name.
async fn directory(router: &Router) -> (Answer, serde_json::Map<String, serde_json::Value>) {
    let request = Request::get(DIRECTORY_PATH).body(Body::empty()).unwrap();
    let answer = ask(router, request).await;
    let document = serde_json::from_str(&answer.text).unwrap();
    (answer, document)
}

/// Where an endpoint is, by the directory.
fn path_of(document: &serde_json::Map<String, serde_json::Value>, endpoint: Endpoint, target: &str) -> String {
    let template = Template::parse(endpoint, document[endpoint.name()].as_str().unwrap()).unwrap();
    let url = template.expand(target);
    url.strip_prefix("https://mimi.h.example").unwrap().to_owned()
}

#[tokio::test]
async fn the_directory_has_all_that_is_served_and_anybody_may_read_it() {
    let world = World::new();
    let (answer, document) = directory(&router(settings(), &world)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers[CACHE_CONTROL], "public, max-age=3600");
    assert_eq!(document.len(), 10);
    for endpoint in Endpoint::ALL {
        let path = path_of(&document, endpoint, "x");
        assert_eq!(path, format!("/_mimi/v1/{endpoint}/x"));
    }

    let few = Endpoints::new()
        .serve(Endpoint::Notify, echo)
        .router(settings(), world.state.clone())
        .unwrap();
    let (_, document) = directory(&few).await;
    assert_eq!(document.keys().collect::<Vec<_>>(), ["notify"]);
}

#[tokio::test]
async fn every_route_needs_a_certificate_for_the_domain_in_from() {
    let (world, pki) = (World::new(), Pki::new());
    let router = router(settings(), &world);
    let (_, document) = directory(&router).await;
    let others = pki.certificate("q.example");
    for endpoint in Endpoint::ALL {
        let path = path_of(&document, endpoint, "mimi://h.example/r/club");
        let right = ask(&router, request(&pki, endpoint, &path)).await;
        assert_eq!((right.status, &*right.text), (200, "p.example"), "{endpoint}");

        let mut without = request(&pki, endpoint, &path);
        without.extensions_mut().remove::<PeerCertificate>();
        ask(&router, without)
            .await
            .expect_refusal(&MimiRefusal::NoCertificate, 401);

        let mut wrong = request(&pki, endpoint, &path);
        wrong.extensions_mut().insert(others.clone());
        ask(&router, wrong)
            .await
            .expect_refusal(&MimiRefusal::OtherDomain(server("p")), 403);

        let mut nobody = request(&pki, endpoint, &path);
        nobody.headers_mut().remove(FROM);
        ask(&router, nobody)
            .await
            .expect_refusal(&MimiRefusal::From(FromFault::Missing), 401);
    }
}

/// What we could be made to send is not taken for a provider's, least of all for ours.
#[tokio::test]
async fn nobody_comes_in_our_own_name_or_with_what_is_sealed() {
    let (world, pki) = (World::new(), Pki::new());
    let router = router(settings(), &world);
    let mut ours = request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x");
    ours.extensions_mut().insert(pki.certificate("h.example"));
    ours.headers_mut()
        .insert(FROM, HeaderValue::from_static("mimi@h.example"));
    ask(&router, ours)
        .await
        .expect_refusal(&MimiRefusal::Excluded(server("h")), 403);

    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    for (media_type, status) in [
        ("message/ohttp-req", 415),
        ("Message/HTTP", 415),
        ("application/octet-stream", 400),
    ] {
        let mut sealed = request(
            &pki,
            Endpoint::Notify,
            "/_mimi/v1/notify/mimi%3A%2F%2Fp.example%2Fr%2Fclub",
        );
        sealed
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        *sealed.body_mut() = Body::from("sealed");
        assert_eq!(ask(&router, sealed).await.status, status, "{media_type}");
    }
}

#[tokio::test]
async fn a_source_is_the_bare_address_mimi_at_a_domain() {
    let (world, pki) = (World::new(), Pki::new());
    let router = router(settings(), &world);
    let call = async |values: &[&[u8]]| {
        let mut request = request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x");
        request.headers_mut().remove(FROM);
        for value in values {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().append(FROM, value);
        }
        ask(&router, request).await
    };
    for same in [&b"mimi@p.example"[..], b"mimi@P.Example"] {
        assert_eq!(call(&[same]).await.text, "p.example");
    }
    for (value, fault) in [
        (&b""[..], FromFault::NotAnAddress),
        (b"p.example", FromFault::NotAnAddress),
        (b"mimi@p.\xe9xample", FromFault::NotAnAddress),
        (b"alice@p.example", FromFault::LocalPart),
        (b"Mimi@p.example", FromFault::LocalPart),
        (b"\"mimi\"@p.example", FromFault::LocalPart),
        (b"<mimi@p.example>", FromFault::LocalPart),
        (b"Provider <mimi@p.example>", FromFault::LocalPart),
        (b"mimi@p.example>", FromFault::Domain),
        (b"mimi@p.example, mimi@q.example", FromFault::Domain),
        (b"mimi@p.example:443", FromFault::Domain),
        (b"mimi@mimi@p.example", FromFault::Domain),
        (b"mimi@10.0.0.1", FromFault::Domain),
        (b"mimi@[10.0.0.1]", FromFault::Domain),
        (b"mimi@", FromFault::Domain),
        (b"mimi@ p.example", FromFault::Domain),
        (b"mimi@p.example (comment)", FromFault::Domain),
    ] {
        call(&[value]).await.expect_refusal(&MimiRefusal::From(fault), 401);
    }
    let twice = call(&[b"mimi@p.example", b"mimi@p.example"]).await;
    twice.expect_refusal(&MimiRefusal::From(FromFault::Several), 401);
}

#[tokio::test]
async fn the_port_in_host_does_not_count_but_its_name_does() {
    let (world, pki) = (World::new(), Pki::new());
    let router = router(settings(), &world);
    let call = async |host: &str| {
        let mut request = request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x");
        request.headers_mut().insert(HOST, host.parse().unwrap());
        ask(&router, request).await
    };
    for host in ["h.example", "mimi.h.example:31337", "H.Example:1", "MIMI.h.example"] {
        assert_eq!(call(host).await.status, 200, "{host}");
    }
    for host in [
        "p.example",
        "x.h.example",
        "h.example.",
        "h.example@p.example",
        "",
        "h example",
    ] {
        call(host).await.expect_refusal(&MimiRefusal::OtherHost, 421);
    }
    // HTTP/2 has it in the URI.
    let url = "https://h.example:8443/_mimi/v1/notify/x";
    assert_eq!(ask(&router, request(&pki, Endpoint::Notify, url)).await.status, 200);
    let url = "https://p.example/_mimi/v1/notify/x";
    ask(&router, request(&pki, Endpoint::Notify, url))
        .await
        .expect_refusal(&MimiRefusal::OtherHost, 421);
    let mut none = request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x");
    none.headers_mut().remove(HOST);
    ask(&router, none).await.expect_refusal(&MimiRefusal::OtherHost, 421);
}

#[tokio::test]
async fn the_operators_lists_hold_here_too() {
    let world = World::with(|settings| settings.policy.deny = vec![ServerPattern::parse("p.example").unwrap()]);
    let pki = Pki::new();
    let request = request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x");
    let answer = ask(&router(settings(), &world), request).await;
    answer.expect_refusal(&MimiRefusal::Excluded(server("p")), 403);
}

#[tokio::test]
async fn a_room_is_the_same_in_both_forms_of_its_path() {
    let (world, pki) = (World::new(), Pki::new());
    let name = async |target: Target| target.room().map(|room| room.to_string());
    let router = Endpoints::new()
        .serve(Endpoint::Update, name)
        .router(settings(), world.state.clone())
        .unwrap();
    for path in ["mimi%3A%2F%2Fh.example%2Fr%2Fclub", "h.example/r/club"] {
        let path = format!("/_mimi/v1/update/{path}");
        let answer = ask(&router, request(&pki, Endpoint::Update, &path)).await;
        assert_eq!((answer.status, &*answer.text), (200, "mimi://h.example/r/club"));
    }
    for path in ["mimi:%2F%2Fh.example%2Fu%2Falice", "h.example%2Fr%2Fclub", "club"] {
        let path = format!("/_mimi/v1/update/{path}");
        ask(&router, request(&pki, Endpoint::Update, &path))
            .await
            .expect_refusal(&MimiRefusal::BadTarget("a room"), 400);
    }
}

/// An endpoint that takes a struct and gives it back.
fn mirror(world: &World) -> Router {
    let mirror = async |Tls { value, bytes, .. }: Tls<UpdateRoomResponse>| {
        assert_eq!(value.to_bytes(), bytes);
        TlsReply::of(&value)
    };
    Endpoints::new()
        .serve(Endpoint::Update, mirror)
        .router(settings(), world.state.clone())
        .unwrap()
}

#[tokio::test]
async fn a_body_is_one_struct_and_nothing_else() {
    let (world, pki) = (World::new(), Pki::new());
    let router = mirror(&world);
    let call = async |body: &[u8]| {
        let mut request = request(&pki, Endpoint::Update, "/_mimi/v1/update/x");
        *request.body_mut() = Body::from(body.to_vec());
        ask(&router, request).await
    };
    let body = UpdateRoomResponse::wrong_epoch(7, "stale").to_bytes();
    let answer = call(&body).await;
    assert_eq!((answer.status, answer.text.as_bytes()), (200, &body[..]));
    assert_eq!(answer.headers[CONTENT_TYPE], "application/octet-stream");

    let trailing = [&body[..], &[0]].concat();
    let not_minimal = [&[1, 0x40, 5][..], &body[2..]].concat();
    for (broken, rule) in [
        (&trailing[..], "byte 15, the whole input: 1 bytes follow the end"),
        (
            &not_minimal,
            "byte 1, field error_description: length 5 is written in 2 bytes, not in its shortest form",
        ),
        (&body[..10], "byte 7, field current_epoch: needs 8 bytes, 3 are left"),
        (b"", "byte 0, field response_code: needs 1 bytes, 0 are left"),
    ] {
        let error = UpdateRoomResponse::from_bytes(broken).unwrap_err();
        let name = UpdateRoomResponse::NAME;
        assert_eq!(error.to_string(), rule);
        call(broken)
            .await
            .expect_refusal(&MimiRefusal::Undecodable { name, error }, 400);
    }
}

#[tokio::test]
async fn a_body_longer_than_its_struct_can_be_is_not_read() {
    let (world, pki) = (World::new(), Pki::new());
    let mut request = request(&pki, Endpoint::Update, "/_mimi/v1/update/x");
    *request.body_mut() = Body::from(vec![0; UpdateRoomResponse::MAX_LEN + 1]);
    let answer = ask(&mirror(&world), request).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.text.contains(&UpdateRoomResponse::MAX_LEN.to_string()),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_caller_who_is_not_known_is_not_listened_to() {
    let (world, pki) = (World::new(), Pki::new());
    let mut request = request(&pki, Endpoint::Update, "/_mimi/v1/update/x");
    request.extensions_mut().remove::<PeerCertificate>();
    *request.body_mut() = Body::from_stream(futures_util::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> { panic!("the body was read") },
    ));
    ask(&mirror(&world), request)
        .await
        .expect_refusal(&MimiRefusal::NoCertificate, 401);
}

#[tokio::test]
async fn what_is_taken_is_answered_with_201_and_nothing() {
    let (world, pki) = (World::new(), Pki::new());
    let router = Endpoints::new()
        .serve(Endpoint::Notify, async || TlsReply::taken())
        .router(settings(), world.state.clone())
        .unwrap();
    let answer = ask(&router, request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x")).await;
    assert_eq!((answer.status, &*answer.text), (StatusCode::CREATED.as_u16(), ""));
    assert!(!answer.headers.contains_key(CONTENT_TYPE));
}

#[tokio::test]
async fn what_is_not_served_is_unknown_whoever_asks() {
    let (world, pki) = (World::new(), Pki::new());
    let router = mirror(&world);
    for path in [
        "/_mimi/v1/notify/x",
        "/_mimi/v1/update",
        "/_mimi/v1/update/",
        "/_mimi/v2/update/x",
        "/_mimi/v1//update/x",
        "/_mimi/v1%2Fupdate/x",
    ] {
        ask(&router, request(&pki, Endpoint::Notify, path))
            .await
            .expect_refusal(&MimiRefusal::UnknownEndpoint, 404);
    }
    let mut get = request(&pki, Endpoint::Update, "/_mimi/v1/update/x");
    *get.method_mut() = axum::http::Method::GET;
    ask(&router, get).await.expect_refusal(&MimiRefusal::WrongMethod, 405);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_text_and_says_when_to_try_again() {
    let (world, pki) = (World::new(), Pki::new());
    let router = Endpoints::new()
        .serve(Endpoint::Notify, async || std::future::pending::<TlsReply>().await)
        .router(settings(), world.state.clone())
        .unwrap();
    let answer = ask(&router, request(&pki, Endpoint::Notify, "/_mimi/v1/notify/x")).await;
    answer.expect_refusal(&MimiRefusal::TooSlow, 503);
    assert_eq!(answer.headers["retry-after"], "5");
}
