//! Devices and key packages between servers: cases 73 and 74, and servers that try to use us up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nabe_mls::testing::{KeyPackageOptions, TestDevice, wall_clock};
use nabe_mls::{DeviceObject, Suite};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_store::{InboxKind, Store};
use nabe_types::{DeviceId, RoomId, UserId};

use super::push_body;
use crate::client::testing::{World, answer, eventually, let_run, public_room, server, user};
use crate::client::{Caller, STREAM_START, StreamBody};
use crate::ports::PeerError;
use crate::{KeyPackageRefused, NewKeyPackage, RateLimit, Service, ServiceError, Settings};

/// Servers whose clock is near the one that OpenMLS reads.
fn world(names: &[&str]) -> World {
    let world = World::new(names);
    world.clock.set(wall_clock());
    world
}

fn device(of: &UserId, name: &str) -> TestDevice {
    TestDevice::new(of.as_str(), name)
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn caller(user: &UserId) -> Caller {
    Caller {
        user: user.clone(),
        device: None,
    }
}

async fn publish(service: &Service, device: &TestDevice) {
    let credential = device.credential();
    let object = device.device_object().into_object();
    service
        .publish_device(&caller(&credential.user_id), &credential.device_id, object)
        .await
        .unwrap();
}

/// A published device of `@alice:h.example` with so many key packages and perhaps a last-resort one.
async fn stocked(service: &Service, count: usize, with_last_resort: bool) -> (TestDevice, Vec<Vec<u8>>) {
    let alice = user("alice", "h");
    let phone = device(&alice, "PHONE");
    publish(service, &phone).await;
    let mut bodies: Vec<Vec<u8>> = (0..count).map(|_| phone.key_package()).collect();
    let mut packages: Vec<NewKeyPackage> = bodies.iter().map(|body| new(body, false)).collect();
    if with_last_resort {
        bodies.push(phone.key_package_with(&KeyPackageOptions {
            last_resort: true,
            ..KeyPackageOptions::default()
        }));
        packages.push(new(bodies.last().unwrap(), true));
    }
    let taken = service
        .upload_key_packages(&caller(&alice), &id("PHONE"), &algorithm(), packages)
        .await
        .unwrap();
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    (phone, bodies)
}

fn new(body: &[u8], last_resort: bool) -> NewKeyPackage {
    NewKeyPackage {
        body: body.to_vec().into(),
        last_resort,
    }
}

fn algorithm() -> String {
    Suite::default().key_package_algorithm()
}

/// A claim of one device's key package.
fn claim_of(user: &str, device: &str) -> Object {
    object! { "one_time_keys" => object! { user => object! { device => algorithm() } } }
}

/// The key package that `origin` gets of alice's phone.
async fn claim(service: &Service, origin: &str) -> Option<Vec<u8>> {
    let body = claim_of("@alice:h.example", "PHONE");
    let claimed = service.claim_keys(&server(origin), &body).await.unwrap();
    package_in(&claimed, "@alice:h.example", "PHONE")
}

fn package_in(claimed: &Object, user: &str, device: &str) -> Option<Vec<u8>> {
    let users = claimed.get("one_time_keys").and_then(Json::as_object).unwrap();
    let keys = users.get(user)?.as_object()?.get(device)?.as_object()?;
    Some(base64u::decode(keys.get(&algorithm())?.as_str()?).unwrap())
}

async fn send(to: &Service, origin: &str, txn: &str, edus: Vec<Object>) {
    let body = object! { "pdus" => Vec::<Json>::new(), "edus" => edus };
    push_body(to, origin, txn, body.into()).await.unwrap();
}

fn update(of: &UserId, changed: Vec<Object>, removed: &[&str]) -> Object {
    let removed: Vec<Json> = removed.iter().map(|device| Json::from(*device)).collect();
    let content = object! { "changed" => changed, "removed" => removed };
    object! { "type" => "m.device_list_update", "sender_id" => of.as_str(), "content" => content }
}

async fn known(world: &World, name: &str, of: &UserId) -> Vec<String> {
    let devices = world.store(name).remote_devices(of).await.unwrap();
    devices.iter().map(|known| known.device.to_string()).collect()
}

/// How often each of these users' inbox says that somebody's devices changed.
async fn told(service: &Service, who: &UserId) -> Vec<String> {
    let items = service.inbox(who, None, 0).await.unwrap();
    let changes = items.iter().filter(|item| item.kind == InboxKind::DeviceList);
    changes
        .map(|item| {
            let body = Object::parse(&item.body).unwrap();
            body.get("user_id").and_then(Json::as_str).unwrap().to_owned()
        })
        .collect()
}

/// A room of `@alice:h.example` with `@bob:p.example` in it.
async fn shared_room(world: &World) -> RoomId {
    let (h, p) = (world.service("h"), world.service("p"));
    let room = h
        .create_room(&user("alice", "h"), public_room(), None)
        .await
        .unwrap()
        .room_id;
    p.join(&user("bob", "p"), &room, &[server("h")]).await.unwrap();
    world.settle(&room, &["h", "p"]).await;
    room
}

// ── Device objects ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn device_object_is_served_byte_for_byte() {
    let world = world(&["h", "p"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    let phone = device(&alice, "PHONE");
    let mut object = phone.device_object().into_object();
    object.insert("org.example.name", "a field nobody knows");
    let object = phone.sign_object(object);
    h.publish_device(&caller(&alice), &id("PHONE"), object.clone())
        .await
        .unwrap();
    h.register_device(&alice, Some(id("BARE"))).await.unwrap();
    let ask = async |who: &UserId, which: &str| h.device_info(&server("p"), who, &id(which)).await;
    assert_eq!(ask(&alice, "PHONE").await.unwrap(), object.to_canonical());
    for (who, which) in [
        (alice.clone(), "BARE"),
        (alice.clone(), "OTHER"),
        (user("nobody", "h"), "PHONE"),
        (user("alice", "p"), "PHONE"),
    ] {
        let error = ask(&who, which).await.unwrap_err();
        assert!(matches!(error, ServiceError::NotFound(_)), "{error}");
    }
    let all = h.device_infos(&server("p"), &alice).await.unwrap();
    let expected = object! { "user_id" => alice.as_str(), "devices" => vec![object] };
    assert_eq!(all, expected.to_canonical());
    let nobody = user("nobody", "h");
    let none = object! { "user_id" => nobody.as_str(), "devices" => Vec::<Json>::new() };
    assert_eq!(
        h.device_infos(&server("p"), &nobody).await.unwrap(),
        none.to_canonical()
    );
    assert!(h.device_infos(&server("p"), &user("alice", "p")).await.is_err());
}

#[tokio::test]
async fn asking_for_devices_is_rate_limited() {
    let mut world = world(&[]);
    let h = world.start_with("h", |settings| {
        settings.limits.federation = RateLimit {
            per_second: 0.1,
            burst: 2.0,
        }
    });
    let (alice, p) = (user("alice", "h"), server("p"));
    publish(&h, &device(&alice, "PHONE")).await;
    for _ in 0..2 {
        h.device_info(&p, &alice, &id("PHONE")).await.unwrap();
        h.claim_keys(&p, &claim_of("@alice:h.example", "PHONE")).await.unwrap();
    }
    let limited = |error: ServiceError| matches!(error, ServiceError::LimitExceeded { .. });
    assert!(limited(h.device_info(&p, &alice, &id("PHONE")).await.unwrap_err()));
    let body = claim_of("@alice:h.example", "PHONE");
    assert!(limited(h.claim_keys(&p, &body).await.unwrap_err()));
}

#[tokio::test]
async fn claim_of_many_devices_costs_more_than_one() {
    let mut world = world(&[]);
    let h = world.start_with("h", |settings| {
        settings.limits.federation = RateLimit {
            per_second: 0.1,
            burst: 30.0,
        };
        settings.limits.client = settings.limits.federation;
    });
    let mut devices = Object::new();
    for n in 0..200 {
        devices.insert(format!("D{n}"), algorithm());
    }
    let many = object! { "one_time_keys" => object! { "@alice:h.example" => devices } };
    let limited = |error: ServiceError| matches!(error, ServiceError::LimitExceeded { .. });
    let p = server("p");
    h.claim_keys(&p, &many).await.unwrap();
    assert!(limited(h.claim_keys(&p, &many).await.unwrap_err()));
    h.claim_keys(&p, &claim_of("@alice:h.example", "D1")).await.unwrap();
    let alice = user("alice", "h");
    h.claim_for(&alice, &many).await.unwrap();
    assert!(limited(h.claim_for(&alice, &many).await.unwrap_err()));
    // As do uploads, each with signatures to check.
    publish(&h, &device(&alice, "PHONE")).await;
    let packages = || vec![new(b"nonsense", false); 200];
    let upload = async || {
        h.upload_key_packages(&caller(&alice), &id("PHONE"), &algorithm(), packages())
            .await
    };
    upload().await.unwrap();
    assert!(limited(upload().await.unwrap_err()));
}

#[tokio::test]
async fn invalid_device_object_is_refused_on_upload() {
    let world = world(&["h"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    let phone = device(&alice, "PHONE");
    let put = async |caller: &Caller, which: &str, object: Object| h.publish_device(caller, &id(which), object).await;
    let mut forged = phone.device_object().into_object();
    forged.insert("algorithms", Vec::<Json>::new());
    let error = put(&caller(&alice), "PHONE", forged).await.unwrap_err();
    assert!(matches!(error, ServiceError::BadDevice(_)), "{error}");
    let error = put(&caller(&alice), "DESK", phone.device_object().into_object())
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::InvalidParam("device_id")), "{error}");
    let error = put(&caller(&user("eve", "h")), "PHONE", phone.device_object().into_object())
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::InvalidParam("user_id")), "{error}");
    let desk = Caller {
        device: Some(id("DESK")),
        ..caller(&alice)
    };
    let error = put(&desk, "PHONE", phone.device_object().into_object())
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::OtherDevice), "{error}");
    assert!(h.devices(&alice).await.unwrap().is_empty());
}

#[tokio::test]
async fn change_of_devices_is_told_to_everybody_who_shares_a_room() {
    let world = world(&["h", "p", "t"]);
    shared_room(&world).await;
    let (h, p, alice, bob) = (
        world.service("h"),
        world.service("p"),
        user("alice", "h"),
        user("bob", "p"),
    );
    let phone = device(&alice, "PHONE");
    publish(&h, &phone).await;
    publish(&h, &phone).await;
    eventually("p knows the device", || async {
        known(&world, "p", &alice).await == ["PHONE"]
    })
    .await;
    let kept = world.store("p").remote_devices(&alice).await.unwrap().remove(0);
    assert_eq!(kept.object, phone.device_object().to_canonical());
    assert_eq!(told(&p, &bob).await, ["@alice:h.example"]);
    assert_eq!(
        told(&h, &alice).await,
        ["@alice:h.example"],
        "her other devices want to know, too"
    );
    assert_eq!(
        world
            .made("/send/")
            .iter()
            .filter(|made| made.to == server("t"))
            .count(),
        0
    );
    let updates = || {
        let sent = world.made("/send/").into_iter().filter(|made| made.from == server("h"));
        let bodies = sent.filter_map(|made| made.request.body);
        bodies
            .filter(|body| String::from_utf8_lossy(body).contains("m.device_list_update"))
            .count()
    };
    assert_eq!(updates(), 1, "the same object again is no change");
    h.remove_device(&alice, &id("PHONE")).await.unwrap();
    eventually("p has forgotten it", || async {
        known(&world, "p", &alice).await.is_empty()
    })
    .await;
    assert_eq!(told(&p, &bob).await.len(), 1, "one notice is enough");
    assert!(matches!(
        h.remove_device(&alice, &id("PHONE")).await,
        Err(ServiceError::NotFound(_))
    ));
    // Of a device that never published anything nobody hears.
    h.register_device(&alice, Some(id("BARE"))).await.unwrap();
    h.remove_device(&alice, &id("BARE")).await.unwrap();
    let_run().await;
    assert_eq!(updates(), 2);
}

#[tokio::test]
async fn full_outbox_does_not_keep_a_device_from_being_published() {
    let mut world = world(&[]);
    world.start_with("h", |settings| settings.limits.outbox_items = 1);
    world.start("p");
    world.clock.set(wall_clock());
    shared_room(&world).await;
    world.set_down("p", true);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    for name in ["A", "B", "C"] {
        publish(&h, &device(&alice, name)).await;
    }
    assert_eq!(h.device_objects(&alice).await.unwrap().len(), 3);
    assert_eq!(world.store("h").outbox_len(&server("p")).await.unwrap(), 1);
}

#[tokio::test]
async fn removed_device_takes_its_token_along() {
    let world = world(&["h"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    let token = h.add_token(&alice, Some(id("PHONE"))).await.unwrap();
    assert!(h.authenticate_user(token.secret()).await.is_ok());
    h.remove_device(&alice, &id("PHONE")).await.unwrap();
    assert!(h.authenticate_user(token.secret()).await.is_err());
}

// ── What other servers say ───────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn received_devices_are_verified_and_an_invalid_one_is_gone() {
    let world = world(&["h", "p"]);
    shared_room(&world).await;
    let (h, alice, bob) = (world.service("h"), user("alice", "h"), user("bob", "p"));
    let objects: Vec<_> = ["A", "B", "C"].map(|name| device(&bob, name)).into();
    let good = |at: usize| objects[at].device_object().into_object();
    let others = device(&user("mallory", "p"), "M").device_object().into_object();
    let edu = update(&bob, vec![good(0), good(1), others, Object::new()], &[]);
    send(&h, "p", "1", vec![edu]).await;
    assert_eq!(known(&world, "h", &bob).await, ["A", "B"]);
    assert_eq!(told(&h, &alice).await, ["@bob:p.example"]);
    let mut broken = good(0);
    broken.insert("algorithms", Vec::<Json>::new());
    send(
        &h,
        "p",
        "2",
        vec![update(&bob, vec![broken, good(2)], &["B", "?", "NOSUCH"])],
    )
    .await;
    assert_eq!(known(&world, "h", &bob).await, ["C"]);
    // Nobody speaks for another server's users.
    send(&h, "t", "1", vec![update(&bob, vec![good(0)], &["C"])]).await;
    assert_eq!(known(&world, "h", &bob).await, ["C"]);
}

#[tokio::test]
async fn devices_of_strangers_are_not_kept() {
    let world = world(&["h", "p"]);
    let (h, bob) = (world.service("h"), user("bob", "p"));
    let edu = update(&bob, vec![device(&bob, "A").device_object().into_object()], &[]);
    send(&h, "p", "1", vec![edu]).await;
    assert!(known(&world, "h", &bob).await.is_empty());
    assert!(told(&h, &user("alice", "h")).await.is_empty());
}

#[tokio::test]
async fn flood_of_updates_is_passed_over_and_an_inbox_holds_one_notice() {
    let mut world = world(&[]);
    world.start_with("h", |settings: &mut Settings| {
        settings.limits.device_updates = RateLimit {
            per_second: 0.001,
            burst: 30.0,
        }
    });
    world.start("p");
    world.clock.set(wall_clock());
    shared_room(&world).await;
    let (h, alice, bob) = (world.service("h"), user("alice", "h"), user("bob", "p"));
    let edus = (0..100).map(|n| {
        update(
            &bob,
            vec![device(&bob, &format!("D{n}")).device_object().into_object()],
            &[],
        )
    });
    send(&h, "p", "1", edus.collect()).await;
    // One for the device and one for alice each.
    assert_eq!(known(&world, "h", &bob).await.len(), 15);
    assert_eq!(told(&h, &alice).await.len(), 1);
    assert_eq!(h.store().inbox_head(&alice).await.unwrap(), 15);
}

#[tokio::test]
async fn devices_elsewhere_are_asked_for_once_while_we_are_told_of_changes() {
    let world = world(&["h", "p"]);
    let (h, p, bob) = (world.service("h"), world.service("p"), user("bob", "p"));
    let names = async || {
        let objects = h.device_objects(&bob).await.unwrap();
        let parsed = objects.into_iter().map(|object| DeviceObject::parse(object).unwrap());
        parsed.map(|device| device.device_id().to_string()).collect::<Vec<_>>()
    };
    let asked = || world.made("/user/devices/").len();
    assert!(names().await.is_empty(), "who is no user has none");
    publish(&p, &device(&bob, "A")).await;
    // Nobody would tell us of a change, so it is asked for every time, and not kept.
    assert_eq!(
        (names().await, names().await),
        (vec!["A".to_owned()], vec!["A".to_owned()])
    );
    assert_eq!(asked(), 3);
    assert!(known(&world, "h", &bob).await.is_empty());
    shared_room(&world).await;
    assert_eq!((names().await.len(), names().await.len(), asked()), (1, 1, 4));
    publish(&p, &device(&bob, "B")).await;
    eventually("h was told", || async { known(&world, "h", &bob).await.len() == 2 }).await;
    assert_eq!((names().await, asked()), (vec!["A".to_owned(), "B".to_owned()], 4));
    world.clock.advance(std::time::Duration::from_secs(3600));
    world.set_down("p", true);
    assert_eq!(names().await.len(), 2, "better old than nothing");
    world.set_down("p", false);
    assert_eq!((names().await.len(), asked()), (2, 6));
}

#[tokio::test]
async fn server_without_a_list_is_asked_device_by_device() {
    let world = world(&["h", "p"]);
    shared_room(&world).await;
    let (h, p, bob) = (world.service("h"), world.service("p"), user("bob", "p"));
    let has_list = Arc::new(AtomicBool::new(false));
    let list = Arc::clone(&has_list);
    world.intercept(move |_, _, request| {
        let is_list = request.stable.contains("/user/devices/");
        (is_list && !list.load(Ordering::Relaxed))
            .then(|| answer(404, object! { "errcode" => "M_UNRECOGNIZED", "error" => "?" }))
    });
    assert!(h.device_objects(&bob).await.unwrap().is_empty());
    world.clock.advance(std::time::Duration::from_secs(3600));
    for name in ["A", "B"] {
        publish(&p, &device(&bob, name)).await;
    }
    eventually("h was told", || async { known(&world, "h", &bob).await.len() == 2 }).await;
    world.clock.advance(std::time::Duration::from_secs(3600));
    world
        .store("p")
        .commit(vec![
            nabe_store::Write::RemoveDevice {
                user: bob.clone(),
                device: id("A"),
            }
            .into(),
        ])
        .await
        .unwrap();
    assert_eq!(h.device_objects(&bob).await.unwrap().len(), 1);
    assert_eq!(world.made("/device/").len(), 2);
    assert_eq!(known(&world, "h", &bob).await, ["B"]);
}

#[tokio::test]
async fn lying_list_is_sifted() {
    let world = world(&["h", "p"]);
    let (h, bob) = (world.service("h"), user("bob", "p"));
    let good = device(&bob, "A").device_object().into_object();
    let others = device(&user("carol", "p"), "C").device_object().into_object();
    let mut broken = device(&bob, "B").device_object().into_object();
    broken.remove("signatures");
    let devices = vec![
        Json::from(good.clone()),
        others.into(),
        broken.into(),
        Json::Null,
        good.clone().into(),
    ];
    world.intercept(move |_, _, request| {
        let is_list = request.stable.contains("/user/devices/");
        is_list.then(|| answer(200, object! { "devices" => devices.clone() }))
    });
    assert_eq!(h.device_objects(&bob).await.unwrap(), [good]);
    world.intercept(|_, _, _| Some(answer(200, Object::new())));
    assert!(matches!(
        h.device_objects(&bob).await,
        Err(ServiceError::BadAnswer { .. })
    ));
    world.intercept(|_, _, _| Some(Err(PeerError::Unreachable)));
    assert!(matches!(
        h.device_objects(&bob).await,
        Err(ServiceError::PeerFailed { .. })
    ));
}

// ── Key packages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn each_key_package_is_taken_in_or_refused_for_itself() {
    let world = world(&["h"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    let upload = async |which: &str, algorithm: &str, packages: Vec<NewKeyPackage>| {
        h.upload_key_packages(&caller(&alice), &id(which), algorithm, packages)
            .await
    };
    let phone = device(&alice, "PHONE");
    assert!(matches!(
        upload("PHONE", &algorithm(), vec![]).await,
        Err(ServiceError::NotFound(_))
    ));
    publish(&h, &phone).await;
    assert!(matches!(
        upload("PHONE", "m.mls.v1.key_package.rot13", vec![]).await,
        Err(ServiceError::InvalidParam("algorithm"))
    ));
    let desk = Caller {
        device: Some(id("DESK")),
        ..caller(&alice)
    };
    let error = h.upload_key_packages(&desk, &id("PHONE"), &algorithm(), vec![]).await;
    assert!(matches!(error, Err(ServiceError::OtherDevice)));
    let seconds = wall_clock().as_u64() / 1000;
    let living = |from: u64, to: u64| {
        phone.key_package_with(&KeyPackageOptions {
            lifetime: Some((from, to)),
            ..KeyPackageOptions::default()
        })
    };
    let resort = phone.key_package_with(&KeyPackageOptions {
        last_resort: true,
        ..KeyPackageOptions::default()
    });
    let good = phone.key_package();
    let packages = vec![
        new(&good, false),
        new(&living(seconds - 200, seconds - 100), false),
        new(&living(seconds - 100, seconds + 3600), false),
        new(&device(&alice, "DESK").key_package(), false),
        new(
            &TestDevice::with_suite("@alice:h.example", "PHONE", Suite::P256_AES128).key_package(),
            false,
        ),
        new(b"nonsense", false),
        new(&resort, false),
        new(&phone.key_package(), true),
        new(&resort, true),
        new(&good, false),
    ];
    let results = upload("PHONE", &algorithm(), packages).await.unwrap();
    let said: Vec<String> = results
        .iter()
        .map(|result| match result {
            Ok(key_id) => key_id.algorithm().to_owned(),
            Err(reason) => reason.to_string(),
        })
        .collect();
    assert_eq!(said[0], algorithm());
    assert_eq!(said[1], "the key package has expired");
    assert_eq!(said[2], "the key package expires within 48 hours");
    assert_eq!(said[3], "the key package's credential names another device");
    assert!(said[4].contains("not for"), "{}", said[4]);
    assert_eq!(said[5], "the key package is malformed");
    assert_eq!(results[6], Err(KeyPackageRefused::IsLastResort));
    assert_eq!(results[7], Err(KeyPackageRefused::NotLastResort));
    assert_eq!(said[8], algorithm());
    assert_eq!(results[9], Err(KeyPackageRefused::Known));
    let not_listed = upload(
        "PHONE",
        &Suite::P256_AES128.key_package_algorithm(),
        vec![new(&good, false)],
    )
    .await;
    assert_eq!(not_listed.unwrap(), [Err(KeyPackageRefused::AlgorithmNotListed)]);
    let left = h.key_packages_left(&alice, &id("PHONE")).await.unwrap();
    assert_eq!((left[0].left, left[0].has_last_resort), (1, true));
    assert!(h.key_packages_left(&alice, &id("NONE")).await.is_err());
}

#[tokio::test]
async fn key_package_is_handed_out_once_and_then_the_last_resort() {
    let world = world(&["h"]);
    let h = world.service("h");
    let (_, bodies) = stocked(&h, 1, true).await;
    assert_eq!(claim(&h, "p").await.as_ref(), Some(&bodies[0]));
    assert_eq!(claim(&h, "p").await.as_ref(), Some(&bodies[1]));
    assert_eq!(claim(&h, "t").await.as_ref(), Some(&bodies[1]));
    // What was handed out is not taken in again.
    let again = vec![new(&bodies[0], false)];
    let results = h
        .upload_key_packages(&caller(&user("alice", "h")), &id("PHONE"), &algorithm(), again)
        .await;
    assert_eq!(results.unwrap(), [Err(KeyPackageRefused::Spent)]);
}

#[tokio::test]
async fn unknown_and_foreign_are_passed_over() {
    let world = world(&["h"]);
    let h = world.service("h");
    stocked(&h, 1, false).await;
    let asked = object! { "one_time_keys" => object! {
        "@alice:h.example" => object! {
            "NOSUCH" => algorithm(), "not a device" => algorithm(), "PHONE" => "m.mls.v1.key_package.rot13",
        },
        "@nobody:h.example" => object! { "PHONE" => algorithm() },
        "@alice:p.example" => object! { "PHONE" => algorithm() },
        "nonsense" => object! { "PHONE" => algorithm() },
    } };
    let claimed = h.claim_keys(&server("p"), &asked).await.unwrap();
    assert_eq!(claimed, object! { "one_time_keys" => Object::new() });
    for wrong in [
        Object::new(),
        object! { "one_time_keys" => Vec::<Json>::new() },
        object! { "one_time_keys" => object! { "@alice:h.example" => "PHONE" } },
        object! { "one_time_keys" => object! { "@alice:h.example" => object! { "PHONE" => 1 } } },
    ] {
        let error = h.claim_keys(&server("p"), &wrong).await.unwrap_err();
        assert!(matches!(error, ServiceError::BadJson(_)), "{error}");
    }
    let mut many = Object::new();
    for n in 0..1001 {
        many.insert(format!("D{n}"), algorithm());
    }
    let too_many = object! { "one_time_keys" => object! { "@alice:h.example" => many } };
    assert!(matches!(
        h.claim_keys(&server("p"), &too_many).await,
        Err(ServiceError::TooLarge(_))
    ));
    assert_eq!(
        h.key_packages_left(&user("alice", "h"), &id("PHONE")).await.unwrap()[0].left,
        1
    );
}

#[tokio::test]
async fn expired_key_package_is_not_handed_out() {
    let world = world(&["h"]);
    let h = world.service("h");
    stocked(&h, 3, true).await;
    assert!(claim(&h, "p").await.is_some());
    // A lifetime of OpenMLS's choice is 90 days at most; the last 48 hours a hub would refuse it.
    world.clock.advance(std::time::Duration::from_secs(89 * 24 * 3600));
    assert_eq!(claim(&h, "p").await, None);
    assert!(
        h.key_packages_left(&user("alice", "h"), &id("PHONE"))
            .await
            .unwrap()
            .is_empty()
    );
    h.expire_devices().await;
}

#[tokio::test]
async fn nobody_drains_a_device() {
    let mut world = world(&[]);
    let h = world.start_with("h", |settings| {
        settings.limits.claims = RateLimit {
            per_second: 1.0 / 60.0,
            burst: 3.0,
        };
        settings.limits.claims_total = RateLimit {
            per_second: 0.001,
            burst: 8.0,
        };
    });
    world.clock.set(wall_clock());
    let (_, bodies) = stocked(&h, 12, true).await;
    let last_resort = bodies.last().cloned();
    for n in 0..6 {
        assert_eq!(claim(&h, "p").await == last_resort, n >= 3, "{n}");
    }
    let alice = user("alice", "h");
    let left = async || h.key_packages_left(&alice, &id("PHONE")).await.unwrap()[0].left;
    assert_eq!(left().await, 9);
    world.clock.advance(std::time::Duration::from_secs(60));
    assert_ne!(claim(&h, "p").await, last_resort, "with time there are more");
    // Many servers together get no more than the device can bear either: 8 in all.
    for n in 0..20 {
        claim(&h, &format!("s{n}")).await.unwrap();
    }
    assert_eq!(left().await, 4);
    // Local users are claimants like others.
    let bob = user("bob", "h");
    let claimed = h.claim_for(&bob, &claim_of("@alice:h.example", "PHONE")).await.unwrap();
    let keys = object! { "one_time_keys" => claimed.one_time_keys };
    assert_eq!(package_in(&keys, "@alice:h.example", "PHONE"), last_resort);
}

#[tokio::test]
async fn device_hears_when_it_has_few_key_packages() {
    let world = world(&["h"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    stocked(&h, 11, true).await;
    let mut stream = h.stream(&alice, Some(id("PHONE")), Some(STREAM_START)).await.unwrap();
    claim(&h, "p").await.unwrap();
    let heard = async || {
        let items = h.inbox(&alice, Some(&id("PHONE")), 0).await.unwrap();
        let low = items.into_iter().filter(|item| item.kind == InboxKind::KeyPackagesLow);
        low.map(|item| Object::parse(&item.body).unwrap()).collect::<Vec<_>>()
    };
    assert!(heard().await.is_empty(), "ten are enough");
    claim(&h, "p").await.unwrap();
    let low = |left: i64| object! { "device_id" => "PHONE", "algorithm" => algorithm(), "left" => left };
    assert_eq!(heard().await, [low(9)]);
    for n in 0..12 {
        claim(&h, &format!("s{n}")).await.unwrap();
    }
    assert_eq!(heard().await, [low(0)], "only the newest says anything");
    loop {
        let item = stream.next().await.unwrap().unwrap();
        if let StreamBody::Inbox(item) = item.body
            && item.kind == InboxKind::KeyPackagesLow
        {
            break;
        }
    }
    let others = h.inbox(&alice, Some(&id("DESK")), 0).await.unwrap();
    assert!(others.iter().all(|item| item.kind != InboxKind::KeyPackagesLow));
}

#[tokio::test]
async fn new_key_of_a_device_makes_its_packages_worthless() {
    let world = world(&["h"]);
    let (h, alice) = (world.service("h"), user("alice", "h"));
    let (phone, _) = stocked(&h, 2, true).await;
    publish(&h, &phone).await;
    assert_eq!(h.key_packages_left(&alice, &id("PHONE")).await.unwrap().len(), 1);
    publish(&h, &device(&alice, "PHONE")).await;
    assert!(h.key_packages_left(&alice, &id("PHONE")).await.unwrap().is_empty());
    assert_eq!(claim(&h, "p").await, None);
}

#[tokio::test]
async fn keys_are_claimed_here_and_elsewhere_and_failures_are_told() {
    let world = world(&["h", "p", "t"]);
    let (h, p, bob, alice) = (
        world.service("h"),
        world.service("p"),
        user("bob", "p"),
        user("alice", "h"),
    );
    let (_, bodies) = stocked(&h, 2, false).await;
    let carol = user("carol", "p");
    let desk = device(&carol, "DESK");
    publish(&p, &desk).await;
    let package = desk.key_package();
    p.upload_key_packages(&caller(&carol), &id("DESK"), &algorithm(), vec![new(&package, false)])
        .await
        .unwrap();
    world.set_down("t", true);
    let asked = object! { "one_time_keys" => object! {
        "@alice:h.example" => object! { "PHONE" => algorithm() },
        "@carol:p.example" => object! { "DESK" => algorithm(), "NOSUCH" => algorithm() },
        "@dave:t.example" => object! { "X" => algorithm() },
    } };
    let claimed = p.claim_for(&bob, &asked).await.unwrap();
    let keys = object! { "one_time_keys" => claimed.one_time_keys };
    assert_eq!(
        package_in(&keys, "@alice:h.example", "PHONE").as_ref(),
        Some(&bodies[0])
    );
    assert_eq!(package_in(&keys, "@carol:p.example", "DESK"), Some(package));
    assert_eq!(package_in(&keys, "@carol:p.example", "NOSUCH"), None);
    assert_eq!(claimed.failures.keys().collect::<Vec<_>>(), [&server("t")]);
    // What nobody asked for is not passed on, nor what is no key package.
    let lie = object! {
        "@alice:h.example" => object! { "PHONE" => object! { algorithm() => "!", "other" => "AAAA" } },
        "@carol:p.example" => object! { "DESK" => object! { algorithm() => "AAAA" } },
    };
    world.intercept(move |_, _, _| Some(answer(200, object! { "one_time_keys" => lie.clone() })));
    let claimed = p.claim_for(&bob, &claim_of(alice.as_str(), "PHONE")).await.unwrap();
    assert!(claimed.one_time_keys.is_empty() && claimed.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_claims_of_many_servers_share_no_package() {
    let mut world = world(&[]);
    let h = world.start_with("h", |settings| {
        settings.limits.claims_total = RateLimit {
            per_second: 1.0,
            burst: 1000.0,
        };
    });
    world.clock.set(wall_clock());
    let (_, bodies) = stocked(&h, 60, true).await;
    let claims = (0..100).map(|n| {
        let h = h.clone();
        tokio::spawn(async move { claim(&h, &format!("s{n}")).await.unwrap() })
    });
    let mut got = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        got.push(claim.await.unwrap());
    }
    let last_resort = bodies.last().unwrap();
    let others: Vec<_> = got.iter().filter(|body| *body != last_resort).collect();
    assert_eq!((others.len(), got.len()), (60, 100));
    assert_eq!(others.into_iter().collect::<BTreeSet<_>>().len(), 60);
}
