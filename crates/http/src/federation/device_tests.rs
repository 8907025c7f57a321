//! Devices and key packages through the router: what a client publishes, another server gets.

use std::collections::BTreeSet;

use nabe_mls::Suite;
use nabe_mls::testing::{KeyPackageOptions, TestDevice, wall_clock};
use nabe_service::RateLimit;
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use serde_json::{Value, json};

use super::UNSTABLE;
use crate::testing::{World, client_request, escape, signed, signer};

const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";

/// A server whose clock is near the one that OpenMLS reads.
fn world() -> World {
    let world = World::new();
    world.clock.set(wall_clock());
    world
}

fn phone() -> TestDevice {
    TestDevice::new("@alice:h.example", "PHONE")
}

async fn publish(world: &World, device: &TestDevice) {
    let body = String::from_utf8(device.device_object().to_canonical()).unwrap();
    let path = format!("/_nabe/v1/devices/{}", device.credential().device_id);
    world.client("alice", "PUT", &path, &body).await.expect(200);
}

async fn upload(world: &World, packages: &[(&[u8], bool)]) -> Value {
    let packages: Vec<Value> = packages
        .iter()
        .map(|(key, last_resort)| json!({ "key": base64u::encode(key), "last_resort": last_resort }))
        .collect();
    let body = json!({ "algorithm": Suite::default().key_package_algorithm(), "key_packages": packages });
    let path = "/_nabe/v1/devices/PHONE/key_packages";
    world.client("alice", "POST", path, &body.to_string()).await.expect(200)
}

fn last_resort(device: &TestDevice) -> Vec<u8> {
    device.key_package_with(&KeyPackageOptions {
        last_resort: true,
        ..KeyPackageOptions::default()
    })
}

fn claim_of(user: &str, device: &str) -> Object {
    let algorithm = Suite::default().key_package_algorithm();
    object! { "one_time_keys" => object! { user => object! { device => algorithm } } }
}

fn key_in(body: &Value) -> Option<&str> {
    body["one_time_keys"]["@alice:h.example"]["PHONE"][Suite::default().key_package_algorithm()].as_str()
}

// ── LM #int-api-get-device ───────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn device_object_is_served_as_it_was_signed() {
    let world = world();
    publish(&world, &phone()).await;
    let device = phone();
    publish(&world, &device).await;
    let path = format!("/user/{}/device/PHONE", escape("@alice:h.example"));
    let stable = world.get(&format!("/_matrix/federation/v1{path}")).await;
    stable.expect(200);
    assert_eq!(stable.bytes, device.device_object().to_canonical());
    for method in ["GET", "PUT"] {
        let target = format!("{UNSTABLE}{path}");
        let answer = world.ask(signed(&signer("p"), method, &target, None)).await;
        answer.expect(200);
        assert_eq!(answer.bytes, stable.bytes, "{method}");
    }
    let list = world
        .get("/_matrix/federation/v1/user/devices/@alice:h.example")
        .await
        .expect(200);
    assert_eq!(
        list,
        json!({ "user_id": "@alice:h.example", "devices": [stable.json()] })
    );
}

#[tokio::test]
async fn device_that_does_not_exist_here_is_not_found() {
    let world = world();
    publish(&world, &phone()).await;
    world
        .client("alice", "PUT", "/_nabe/v1/devices/BARE", "")
        .await
        .expect(200);
    for (user, device) in [
        ("@alice:h.example", "OTHER"),
        ("@alice:h.example", "BARE"),
        ("@alice:h.example", "not%20a%20device"),
        ("@nobody:h.example", "PHONE"),
        ("@alice:p.example", "PHONE"),
        ("alice", "PHONE"),
    ] {
        let target = format!("/_matrix/federation/v1/user/{user}/device/{device}");
        world.get(&target).await.expect_errcode(404, "M_NOT_FOUND");
    }
    for user in ["@alice:p.example", "alice"] {
        let target = format!("/_matrix/federation/v1/user/devices/{user}");
        world.get(&target).await.expect_errcode(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn who_is_no_user_has_as_many_devices_as_a_user_without_any() {
    let world = world();
    for user in ["@alice:h.example", "@nobody:h.example"] {
        let target = format!("/_matrix/federation/v1/user/devices/{user}");
        let answer = world.get(&target).await.expect(200);
        assert_eq!(answer, json!({ "devices": [], "user_id": user }));
    }
}

#[tokio::test]
async fn invalid_device_object_is_refused_with_the_reason() {
    let world = world();
    let mut object = phone().device_object().into_object();
    object.insert("algorithms", Vec::<Json>::new());
    let body = String::from_utf8(object.to_canonical()).unwrap();
    let put = async |path: &str| world.client("alice", "PUT", path, &body).await;
    let message = put("/_nabe/v1/devices/PHONE").await.expect_code(400, "bad_request");
    assert_eq!(message, "the signature by one of the device's keys does not verify");
    let list = world.client("alice", "GET", "/_nabe/v1/devices", "").await.expect(200);
    assert_eq!(list, json!({ "devices": [] }));
}

#[tokio::test]
async fn device_speaks_for_itself_alone_and_is_gone_when_removed() {
    let world = world();
    let token = world.token("alice", Some("PHONE")).await;
    let as_phone = |method: &str, path: &str, body: String| {
        axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(axum::body::Body::from(body))
            .unwrap()
    };
    let text = |device: &TestDevice| String::from_utf8(device.device_object().to_canonical()).unwrap();
    let desk = TestDevice::new("@alice:h.example", "DESK");
    let answer = world.ask(as_phone("PUT", "/_nabe/v1/devices/DESK", text(&desk))).await;
    answer.expect_code(403, "forbidden");
    let body = r#"{"algorithm":"m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519","key_packages":[]}"#;
    let path = "/_nabe/v1/devices/DESK/key_packages";
    world
        .ask(as_phone("POST", path, body.to_owned()))
        .await
        .expect_code(403, "forbidden");
    world
        .ask(as_phone("PUT", "/_nabe/v1/devices/PHONE", text(&phone())))
        .await
        .expect(200);
    let of_alice = world
        .client("bob", "GET", "/_nabe/v1/users/@alice:h.example/devices", "")
        .await;
    assert_eq!(of_alice.expect(200)["devices"][0]["device_id"], "PHONE");
    let none = world
        .client("bob", "GET", "/_nabe/v1/users/@nobody:h.example/devices", "")
        .await;
    none.expect_code(404, "not_found");
    world
        .ask(as_phone("DELETE", "/_nabe/v1/devices/PHONE", String::new()))
        .await
        .expect(200);
    world
        .ask(as_phone("GET", "/_nabe/v1/whoami", String::new()))
        .await
        .expect_code(401, "unauthorized");
    let again = world.client("alice", "DELETE", "/_nabe/v1/devices/PHONE", "").await;
    again.expect_code(404, "not_found");
}

// ── LM #int-transport-key-claim ──────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn key_packages_are_judged_one_by_one() {
    let world = world();
    let device = phone();
    publish(&world, &device).await;
    let seconds = wall_clock().as_u64() / 1000;
    let expired = device.key_package_with(&KeyPackageOptions {
        lifetime: Some((seconds - 200, seconds - 100)),
        ..KeyPackageOptions::default()
    });
    let other_suite = TestDevice::with_suite("@alice:h.example", "PHONE", Suite::P256_AES128).key_package();
    let good = device.key_package();
    let resort = last_resort(&device);
    let packages = [
        (&good[..], false),
        (&expired, false),
        (&other_suite, false),
        (&resort, true),
        (&good, false),
    ];
    let answer = upload(&world, &packages).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 5);
    let prefix = format!("{}:", Suite::default().key_package_algorithm());
    for taken in [0, 3] {
        assert!(
            results[taken]["key_id"].as_str().unwrap().starts_with(&prefix),
            "{answer}"
        );
        assert!(results[taken].get("error").is_none());
    }
    assert_eq!(results[1], json!({ "error": "the key package has expired" }));
    assert!(results[2]["error"].as_str().unwrap().contains("not for"), "{answer}");
    assert_eq!(results[4], json!({ "error": "the key package is here already" }));

    let path = "/_nabe/v1/devices/PHONE/key_packages";
    let body = json!({ "algorithm": Suite::default().key_package_algorithm(),
        "key_packages": [{ "key": "!" }, { "key": base64u::encode(&device.key_package()) }] });
    let answer = world.client("alice", "POST", path, &body.to_string()).await.expect(200);
    assert_eq!(
        answer["results"][0],
        json!({ "error": "the key package is not base64" })
    );
    assert!(answer["results"][1]["key_id"].is_string());
    let left = world.client("alice", "GET", path, "").await.expect(200);
    let of_suite = json!({ "algorithm": Suite::default().key_package_algorithm(), "left": 2, "last_resort": true });
    assert_eq!(left, json!({ "key_packages": [of_suite] }));

    let unknown = r#"{"algorithm":"m.mls.v1.key_package.rot13","key_packages":[]}"#;
    world
        .client("alice", "POST", path, unknown)
        .await
        .expect_code(400, "bad_request");
    let path = "/_nabe/v1/devices/DESK/key_packages";
    world
        .client("alice", "POST", path, &body.to_string())
        .await
        .expect_code(404, "not_found");
}

#[tokio::test]
async fn key_is_claimed_once_and_then_the_last_resort() {
    let world = world();
    let device = phone();
    publish(&world, &device).await;
    let (package, resort) = (device.key_package(), last_resort(&device));
    upload(&world, &[(&package, false), (&resort, true)]).await;
    let body = claim_of("@alice:h.example", "PHONE");
    let first = world.peer("POST", CLAIM, &body).await.expect(200);
    assert_eq!(key_in(&first), Some(&*base64u::encode(&package)));
    // The last one goes to a user of ours as it does to other servers.
    let path = "/_nabe/v1/keys/claim";
    let text = String::from_utf8(body.to_canonical()).unwrap();
    let claimed = world.client("bob", "POST", path, &text).await.expect(200);
    assert_eq!(key_in(&claimed), Some(&*base64u::encode(&resort)));
    assert_eq!(claimed["failures"], json!({}));
    let again = world.peer("POST", CLAIM, &body).await.expect(200);
    assert_eq!(key_in(&again), Some(&*base64u::encode(&resort)));
    let elsewhere = String::from_utf8(claim_of("@carol:dead.example", "X").to_canonical()).unwrap();
    let failed = world.client("bob", "POST", path, &elsewhere).await.expect(200);
    assert_eq!(failed["one_time_keys"], json!({}));
    assert!(failed["failures"]["dead.example"].is_string());
    // Alice's phone has heard of it.
    let request = client_request("alice", "GET", "/_nabe/v1/stream?device=PHONE&since=start", "", &[]);
    let mut stream = world.raw(request).await.into_body().into_data_stream();
    let mut heard = String::new();
    while !heard.contains("key_packages_low") {
        let chunk = futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains(r#""left":0"#), "{heard}");
}

#[tokio::test]
async fn claim_needs_its_field_and_passes_over_what_is_unknown() {
    let world = world();
    let body = object! { "nothing" => "useful" };
    world.peer("POST", CLAIM, &body).await.expect_errcode(400, "M_BAD_JSON");
    for user in ["@nobody:h.example", "@alice:p.example", "nonsense"] {
        let answer = world.peer("POST", CLAIM, &claim_of(user, "PHONE")).await;
        assert_eq!(answer.expect(200), json!({ "one_time_keys": {} }));
    }
    let empty = object! { "one_time_keys" => Object::new() };
    assert_eq!(
        world.peer("POST", CLAIM, &empty).await.expect(200),
        json!({ "one_time_keys": {} })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_claims_share_no_key_package() {
    let world = World::with(|settings| {
        let many = RateLimit {
            per_second: 1.0,
            burst: 1000.0,
        };
        (settings.limits.claims, settings.limits.claims_total) = (many, many);
    });
    world.clock.set(wall_clock());
    let device = phone();
    publish(&world, &device).await;
    let packages: Vec<Vec<u8>> = (0..40).map(|_| device.key_package()).collect();
    let all: Vec<(&[u8], bool)> = packages.iter().map(|package| (&package[..], false)).collect();
    upload(&world, &all).await;
    let claims = (0..60).map(|_| {
        let request = signed(
            &signer("p"),
            "POST",
            CLAIM,
            Some(&claim_of("@alice:h.example", "PHONE")),
        );
        let router = world.router();
        tokio::spawn(async move {
            let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            key_in(&body).map(str::to_owned)
        })
    });
    let mut got = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        got.extend(claim.await.unwrap());
    }
    assert_eq!(got.len(), 40);
    let distinct: BTreeSet<String> = got.into_iter().collect();
    assert_eq!(
        distinct,
        packages.iter().map(|package| base64u::encode(package)).collect()
    );
}
