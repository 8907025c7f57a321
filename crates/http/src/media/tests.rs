//! Files through the router: up and down, for clients and for other servers.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use nabe_service::{MediaFolder, Settings};
use nabe_signing::{base64u, sha256};
use serde_json::json;
use tempfile::TempDir;

use crate::AppState;
use crate::testing::{Answer, World, client_request, escape, signed, signer};

fn world(change: impl FnOnce(&mut Settings)) -> (World, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files = MediaFolder::open(folder.path()).unwrap();
    let world = World::with(|settings| {
        settings.media.folder = Some(files);
        settings.media.max_bytes = 1_000_000;
        change(settings);
    });
    (world, folder)
}

fn upload(user: &str, body: impl Into<Body>) -> Request<Body> {
    client_request(user, "POST", "/_nabe/v1/media", "", &[]).map(|_| body.into())
}

async fn download(world: &World, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = world.raw(request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, bytes.to_vec())
}

fn id_of(file: &[u8]) -> String {
    base64u::encode_url(&sha256(file))
}

async fn refused(world: &World, request: Request<Body>, status: u16, code: &str) -> String {
    world.ask(request).await.expect_code(status, code)
}

#[tokio::test]
async fn what_is_uploaded_comes_back_as_an_opaque_attachment() {
    let (world, _folder) = world(|_| {});
    let file: Vec<u8> = (0..200_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let uploaded = world.ask(upload("alice", file.clone())).await.expect(200);
    let id = id_of(&file);
    assert_eq!(
        uploaded,
        json!({ "content_uri": format!("mxc://h.example/{id}"), "size": 200_000 })
    );
    let target = format!("/_nabe/v1/media/h.example/{id}");
    let (status, headers, bytes) = download(&world, client_request("bob", "GET", &target, "", &[])).await;
    assert_eq!(status, 200);
    assert_eq!(bytes, file);
    assert_eq!(headers[CONTENT_TYPE], "application/octet-stream");
    assert_eq!(headers[CONTENT_DISPOSITION], "attachment");
    assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    let removed = client_request("alice", "DELETE", &target, "", &[]);
    assert_eq!(world.ask(removed).await.expect(200), json!({}));
    refused(&world, client_request("bob", "GET", &target, "", &[]), 404, "not_found").await;
}

#[tokio::test]
async fn files_need_a_caller() {
    let (world, folder) = world(|_| {});
    for (method, target) in [("POST", "/_nabe/v1/media"), ("GET", "/_nabe/v1/media/h.example/x")] {
        let request = Request::builder().method(method).uri(target);
        refused(&world, request.body("file".into()).unwrap(), 401, "unauthorized").await;
    }
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_with_the_limit_named() {
    let (world, _folder) = world(|settings| settings.media.max_bytes = 1_000);
    let announced = upload("alice", vec![0; 1_001]);
    let said = refused(&world, announced, 413, "too_large").await;
    assert_eq!(said, "a file may have at most 1000 bytes");
    let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 100])).take(11);
    let unannounced = upload("alice", Body::from_stream(pieces));
    refused(&world, unannounced, 413, "too_large").await;
    world.ask(upload("alice", vec![0; 1_000])).await.expect(200);
}

#[tokio::test]
async fn a_user_over_the_quota_is_told_which_and_when_to_come_back() {
    let (world, _folder) = world(|settings| {
        settings.media.user.bytes_per_day = 1_500;
        settings.media.user.bytes = 2_000;
    });
    world.ask(upload("alice", vec![1; 1_000])).await.expect(200);
    let answer = world.ask(upload("alice", vec![2; 1_000])).await;
    let said = answer.expect_code(429, "limit_exceeded");
    assert_eq!(said, "the files of one user may take at most 1500 bytes a day");
    assert_eq!(answer.headers[RETRY_AFTER], "86400");
    world.clock.advance(std::time::Duration::from_secs(86_400));
    world.ask(upload("alice", vec![2; 1_000])).await.expect(200);
    world.clock.advance(std::time::Duration::from_secs(86_400));
    let answer: Answer = world.ask(upload("alice", vec![3; 1])).await;
    let said = answer.expect_code(403, "limit_exceeded");
    assert_eq!(said, "the files of one user may take at most 2000 bytes");
    assert!(!answer.headers.contains_key(RETRY_AFTER));
}

#[tokio::test]
async fn ids_that_are_paths_lead_nowhere() {
    let (world, folder) = world(|_| {});
    std::fs::write(folder.path().join("secret"), "not a file of a user").unwrap();
    for id in [
        "../secret",
        "..",
        ".",
        "incoming/../secret",
        "/etc/passwd",
        "a\\..\\secret",
        "s\0",
        "%2e%2e%2fsecret",
    ] {
        let target = format!("/_nabe/v1/media/h.example/{}", escape(id));
        refused(
            &world,
            client_request("alice", "GET", &target, "", &[]),
            404,
            "not_found",
        )
        .await;
        refused(
            &world,
            client_request("alice", "DELETE", &target, "", &[]),
            404,
            "not_found",
        )
        .await;
        let target = format!("/_matrix/federation/v1/media/download/{}", escape(id));
        world.get(&target).await.expect_errcode(404, "M_NOT_FOUND");
    }
    let elsewhere = client_request("alice", "GET", "/_nabe/v1/media/..%2F..%2Fetc/passwd", "", &[]);
    refused(&world, elsewhere, 400, "bad_request").await;
}

#[tokio::test]
async fn an_upload_that_is_too_slow_or_breaks_off_leaves_nothing() {
    let (mut world, folder) = world(|_| {});
    world.state.limits.body_time = std::time::Duration::from_millis(20);
    let first = || futures_util::stream::iter([Ok::<_, std::io::Error>("some")]);
    let stalls = Body::from_stream(first().chain(futures_util::stream::pending()));
    refused(&world, upload("alice", stalls), 408, "bad_request").await;
    let breaks =
        Body::from_stream(first().chain(futures_util::stream::iter([Err(std::io::ErrorKind::BrokenPipe.into())])));
    refused(&world, upload("alice", breaks), 400, "bad_request").await;
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn another_server_gets_a_file_of_our_users_in_two_parts() {
    let (world, _folder) = world(|_| {});
    world.ask(upload("alice", "ciphertext")).await.expect(200);
    let target = format!("/_matrix/federation/v1/media/download/{}", id_of(b"ciphertext"));
    let unsigned = Request::builder().uri(&target).body(Body::empty()).unwrap();
    world.ask(unsigned).await.expect_errcode(401, "M_FORBIDDEN");
    let request = signed(&signer("p"), "GET", &target, None);
    let (status, headers, bytes) = download(&world, request).await;
    assert_eq!(status, 200);
    let content_type = headers[CONTENT_TYPE].to_str().unwrap();
    let boundary = content_type.strip_prefix("multipart/mixed; boundary=").unwrap();
    let digest = base64u::encode(&sha256(b"ciphertext"));
    let expected = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
         Content-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n\
         Content-Digest: sha-256=:{digest}=:\r\n\r\nciphertext\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let missing = "/_matrix/federation/v1/media/download/nothing";
    world.get(missing).await.expect_errcode(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_file_that_changed_on_the_disk_is_not_served() {
    let (world, folder) = world(|_| {});
    world.ask(upload("alice", "ciphertext")).await.expect(200);
    let id = id_of(b"ciphertext");
    std::fs::write(folder.path().join(&id[..2]).join(&id), "cut off").unwrap();
    let target = format!("/_nabe/v1/media/h.example/{id}");
    refused(&world, client_request("bob", "GET", &target, "", &[]), 500, "internal").await;
}

#[tokio::test]
async fn the_length_of_a_file_is_said_before_it() {
    let (world, _folder) = world(|_| {});
    world.ask(upload("alice", "ciphertext")).await.expect(200);
    let target = format!("/_nabe/v1/media/h.example/{}", id_of(b"ciphertext"));
    let request = client_request("alice", "HEAD", &target, "", &[]);
    let (status, headers, bytes) = download(&world, request).await;
    assert_eq!((status.as_u16(), bytes.len()), (200, 0));
    assert_eq!(headers[CONTENT_LENGTH], "10");
}

#[tokio::test]
async fn a_large_file_needs_no_more_room_among_the_answers_than_any() {
    let (mut world, _folder) = world(|settings| settings.media.max_bytes = 8 << 20);
    let AppState { limits, .. } = &mut world.state;
    limits.answer_budget = crate::AnswerBudget::new(3 << 20, 3 << 20);
    let file = vec![7; 5 << 20];
    world.ask(upload("alice", file.clone())).await.expect(200);
    let target = format!("/_nabe/v1/media/h.example/{}", id_of(&file));
    let (status, _, bytes) = download(&world, client_request("alice", "GET", &target, "", &[])).await;
    assert_eq!((status.as_u16(), bytes.len()), (200, file.len()));
}
