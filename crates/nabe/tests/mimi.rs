//! Two providers of MIMI, each a process of its own, over mutual TLS (MIMI #transport-layer).

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use common::{Serving, memory, nabe, person::Person, provider::Provider, text, wait_for};
use http::Method;
use nabe_client::mimi::templates;
use nabe_federation::HttpsTransport;
use nabe_http::mimi::{Access, Route};
use nabe_mls::testing::mimi::{MimiDevice, RoomDraft, group_info_query, open_group_info};
use nabe_service::ports::mimi::{MimiPeers as _, MimiRequest};
use nabe_signing::{SigningKey, base64u};
use nabe_types::{KeyId, ServerName};
use nabe_wire::{
    Encode as _, IdentifierUri, Message as _,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    directory::Endpoint,
    group_info::{GroupInfoRequest, GroupInfoResponse},
    key_material::{KeyMaterialQuery, KeyMaterialRequestTbs, KeyMaterialResponse, KeyMaterialUserCode},
    label::{SignatureScheme, Signer, SignerError},
    mls::{CipherSuite, Credential, ExternalSender, RequiredCapabilities},
    participant_list::{ParticipantListData, UserRolePair},
    update::{UpdateRoomResponse, UpdateVerdict},
};
use serde_json::{Value, json};

const ALICE: &str = "mimi://a.localhost/u/alice";
const BOB: &str = "mimi://b.localhost/u/bob";

/// What is asked of a route: something that is not there.
fn path_of(route: Route, domain: &ServerName) -> String {
    let target = format!("mimi%3A%2F%2F{domain}%2Fr%2Fnowhere");
    let filled = [("{media_id}", "none"), ("{token}", "none"), ("{*target}", &target)];
    let fill = |path: String, (part, value): (&str, &str)| path.replace(part, value);
    filled.into_iter().fold(route.path(), fill)
}

/// All that a running server serves to other providers, and what it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_for_everybody_or_for_providers_alone_and_where_there_is_none_nothing_is() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let stranger = Provider::init(parent.path(), "stranger", None);
    let (nobody, peer) = (a.transport(None), a.transport(Some(&b)));
    // The same domain, vouched for by somebody whom nobody trusts.
    let untrusted = Provider {
        domain: b.domain.clone(),
        folder: stranger.folder.clone(),
        ..a.clone()
    };
    let untrusted = a.transport(Some(&untrusted));
    for shared in [false, true] {
        let _running = a.serve_with(&[&b], shared, &[("NABE_MIMI__OHTTP", "true")]);
        let directory = a.directory().await;
        let known: BTreeSet<_> = directory.values().map(|url| start_of(url)).collect();
        let routes: Vec<_> = Route::all().collect();
        let found = routes
            .iter()
            .filter(|route| !matches!(route, Route::Directory | Route::Asset))
            .map(|route| format!("https://a.localhost{}", start_of(&route.path())));
        assert_eq!(
            known,
            found.collect(),
            "the directory has what one need not know otherwise"
        );
        assert_eq!((routes.len(), directory.len()), (14, 12));
        let of_everybody = routes.iter().filter(|route| route.access() == Access::Anybody);
        let expected = [Route::Directory, Route::Asset, Route::OhttpKeys];
        assert!(of_everybody.eq(&expected), "no endpoint is for everybody");

        for route in routes {
            let path = path_of(route, &a.domain);
            let method: Method = route.method().parse().unwrap();
            let without = a.request(&nobody, method.clone(), &path, "b.localhost").await;
            let of_another = a.request(&peer, method.clone(), &path, "c.localhost").await;
            let refused = a.attempt(&untrusted, method.clone(), &path, "b.localhost").await;
            assert!(
                refused.is_err(),
                "{path}: a certificate by who is not trusted: {refused:?}"
            );
            let with = a.request(&peer, method, &path, "b.localhost").await;
            match route.access() {
                Access::Anybody => {
                    assert_eq!(with.status(), if route == Route::Asset { 404 } else { 200 }, "{path}");
                    assert_ne!(with.body(), NOT_THERE, "{path}");
                    for other in [without, of_another] {
                        assert_eq!((other.status(), other.body()), (with.status(), with.body()), "{path}");
                    }
                }
                Access::Provider => {
                    assert_eq!(without.status(), 401, "{path}: without a certificate");
                    assert_eq!(of_another.status(), 403, "{path}: in the name of another");
                    // Whatever the endpoint says to nonsense, it is the endpoint that says it.
                    assert!(!matches!(with.status().as_u16(), 401 | 405), "{path}: {with:?}");
                    assert_ne!(with.body(), of_another.body(), "{path}");
                    assert_ne!(with.body(), NOT_THERE, "{path}");
                }
            }
        }
        expect_nothing_else(&a, &peer, shared).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_at_another_name_and_port_than_the_domain_s_where_the_directory_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init_elsewhere(parent.path(), "a.localhost", "mimi.a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let _running = a.serve(&[&b], false);
    let directory = a.directory().await;
    assert!(a.authority.as_str().contains("mimi.a.localhost:"), "{}", a.authority);
    let there = format!("https://{}/", a.authority);
    assert!(directory.values().all(|url| url.starts_with(&there)), "{directory:?}");
    let request = MimiRequest {
        endpoint: Endpoint::KeyMaterial,
        target: BOB.to_owned(),
        body: Bytes::from_static(b"nonsense"),
        timeout: Duration::from_secs(20),
        max_response_bytes: 1 << 20,
    };
    let answer = a.peers(&b).call(&a.domain, request).await.unwrap();
    assert_eq!(answer.status, 400, "{}", text(&answer.body));
}

/// What is said of a path that no route has.
const NOT_THERE: &str = "no such endpoint\n";

fn start_of(template: &str) -> String {
    template.split('{').next().unwrap().to_owned()
}

/// By other methods, below and above the routes, and what other ports are for.
async fn expect_nothing_else(a: &Provider, peer: &HttpsTransport, shared: bool) {
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let of_path = |path: &str| -> BTreeSet<&str> {
        let same = Route::all().filter(|route| path_of(*route, &a.domain) == path);
        same.map(Route::method).collect()
    };
    for path in Route::all().map(|route| path_of(route, &a.domain)) {
        for method in methods.into_iter().filter(|method| !of_path(&path).contains(method)) {
            let answer = a.request(peer, method.parse().unwrap(), &path, "b.localhost").await;
            assert_eq!(answer.status(), 405, "{method} {path}");
        }
    }
    let near = Route::all().flat_map(|route| {
        let path = path_of(route, &a.domain);
        let start = start_of(&route.path());
        let above = start.trim_end_matches('/').to_owned();
        let below = route.path().contains('{').then_some(above);
        let slash = (!route.path().contains('*')).then(|| format!("{path}/"));
        [below, slash, Some(format!("/{path}"))].into_iter().flatten()
    });
    let elsewhere = [
        "/",
        "/_mimi",
        "/_mimi/v1",
        "/_mimi/v1/rooms/x",
        "/_mimi/v2/notify/x",
        "/.well-known/mimi",
        "/metrics",
    ];
    let of_another_port = [
        "/_nabe/health",
        "/_nabe/v1/rooms",
        "/_nabe/openapi.json",
        "/_matrix/key/v2/server",
    ];
    let of_another_port = of_another_port.into_iter().filter(|_| !shared);
    let paths = elsewhere.into_iter().chain(of_another_port).map(str::to_owned);
    for path in near.chain(paths) {
        for method in [Method::GET, Method::POST] {
            let answer = a.request(peer, method.clone(), &path, "b.localhost").await;
            assert_eq!(answer.status(), 404, "{method} {path}: {answer:?}");
        }
    }
}

/// A room with so many on its list that whoever joins sends a GroupInfo of more than 2 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_two_megabytes_comes_over_mutual_tls() {
    const ROOM: &str = "mimi://a.localhost/r/crowd";
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let _running = a.serve(&[&b], false);
    a.directory().await;
    let backend = a.backend();
    let hub = backend.must_get("@alice:a.localhost", "/_nabe/v1/mimi/hub").await;
    let sender = base64u::decode(hub["external_sender"].as_str().unwrap()).unwrap();
    let sender = ExternalSender::from_bytes(&sender).unwrap();

    let alice = MimiDevice::new("mimi://a.localhost/d/alice/phone");
    let mut draft = RoomDraft::of(&alice, &sender, ROOM, "mimi://a.localhost/g/crowd");
    let on_list = |user: &str, role_index| UserRolePair {
        user: uri(user),
        role_index,
    };
    let crowd = (0..60_000).map(|number| format!("mimi://b.localhost/u/somebody-{number:05}"));
    let crowd = crowd.map(|user| on_list(&user, templates::ORDINARY_USER));
    let known = [
        on_list(ALICE, templates::SUPER_ADMIN),
        on_list(BOB, templates::ORDINARY_USER),
    ];
    let list = ParticipantListData {
        participants: known.into_iter().chain(crowd).collect(),
    };
    for entry in templates::cooperative("a.localhost").dictionary(&list).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    let (info, tree) = alice.create_room_with(&draft).hand_over();
    let room = json!({
        "room": ROOM,
        "group_info": base64u::encode(info.as_bytes()),
        "ratchet_tree": base64u::encode(&tree.to_bytes()),
    });
    backend
        .must_post("@alice:a.localhost", "/_nabe/v1/mimi/rooms", &room)
        .await;

    let (bob, peers) = (MimiDevice::new("mimi://b.localhost/d/bob/phone"), a.peers(&b));
    let call = async |endpoint, body: Vec<u8>| {
        let request = MimiRequest {
            endpoint,
            target: ROOM.to_owned(),
            body: body.into(),
            timeout: Duration::from_secs(60),
            max_response_bytes: GroupInfoResponse::MAX_LEN,
        };
        let answer = peers.call(&a.domain, request).await.unwrap();
        assert_eq!(
            answer.status,
            200,
            "{}",
            text(&answer.body[..answer.body.len().min(200)])
        );
        answer.body
    };
    let (query, private_key) = group_info_query(&bob);
    let answer = call(Endpoint::GroupInfo, GroupInfoRequest::from(query).to_bytes()).await;
    assert!(answer.len() > 2 << 20);
    let opened = open_group_info(GroupInfoResponse::from_bytes(&answer).unwrap(), &private_key);
    let (_, bundle) = bob.join_externally_with(opened.group_info.as_bytes(), &opened.ratchet_tree_option, &[], &[]);
    let update = bundle.to_request();
    assert!(update.len() > 2 << 20);
    let answer = UpdateRoomResponse::from_bytes(&call(Endpoint::Update, update).await).unwrap();
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
}

/// The key of a client of another provider.
struct ClientKey(SigningKey);

impl Signer for ClientKey {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).unwrap()
}

/// What bob's client asks for.
fn key_material_of(target: &str) -> Bytes {
    let key = ClientKey(SigningKey::from_seed(KeyId::ed25519("bob").unwrap(), [7; 32]));
    let request = KeyMaterialRequestTbs {
        requesting_user: uri(BOB),
        target_user: uri(target),
        room_id: uri("mimi://b.localhost/r/club"),
        query: KeyMaterialQuery {
            acceptable_ciphersuites: vec![CipherSuite(1)],
            required_capabilities: RequiredCapabilities {
                extension_types: Vec::new(),
                proposal_types: Vec::new(),
                credential_types: Vec::new(),
            },
            requester_signature_key: key.0.public().to_bytes()[..].into(),
            requester_credential: Credential::Basic {
                identity: b"mimi://b.localhost/d/bob/phone"[..].into(),
            },
        },
    };
    request.sign(&key).unwrap().to_bytes().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_asks_another_for_keys_and_consent() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let show_users = [("NABE_MIMI__HIDE_USERS", "false")];
    let mut running = a.serve_with(&[&b], false, &show_users);
    a.directory().await;
    // Alice exists since her provider's backend spoke for her.
    a.backend().must_get("@alice:a.localhost", "/_nabe/v1/rooms").await;
    let bob = a.peers(&b);
    let call = async |endpoint, target: &str, body: Bytes| {
        let request = MimiRequest {
            endpoint,
            target: target.to_owned(),
            body,
            timeout: Duration::from_secs(20),
            max_response_bytes: 64 * 1024,
        };
        bob.call(&a.domain, request).await.unwrap()
    };
    let status = async |target: &str| {
        let answer = call(Endpoint::KeyMaterial, target, key_material_of(target)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        KeyMaterialResponse::from_bytes(&answer.body).unwrap().user_status
    };
    assert_eq!(status(ALICE).await, KeyMaterialUserCode::NO_CONSENT);
    let nobody = "mimi://a.localhost/u/nobody";
    assert_eq!(status(nobody).await, KeyMaterialUserCode::USER_UNKNOWN);

    let wish = ConsentEntry {
        operation: ConsentAction::Request,
        scope: ConsentScope {
            requester_uri: uri(BOB),
            target_uri: uri(ALICE),
            room_id: None,
        },
        consent_extensions: Default::default(),
    };
    let asked = call(Endpoint::RequestConsent, ALICE, wish.to_bytes().into()).await;
    assert_eq!(asked.status, 201, "{asked:?}");
    // Nobody follows a room here, so nobody is to be notified of one.
    let room = "mimi://b.localhost/r/club";
    let notified = call(Endpoint::Notify, room, Bytes::new()).await;
    assert!((400..500).contains(&notified.status), "{notified:?}");

    // The next process has the same users, key and name.
    running.kill();
    let _running = a.serve(&[&b], false);
    a.directory().await;
    assert_eq!(status(ALICE).await, KeyMaterialUserCode::NO_CONSENT);
    // It keeps to itself who is there.
    assert_eq!(status(nobody).await, KeyMaterialUserCode::NO_CONSENT);
}

#[test]
fn the_keys_that_clients_list_are_shown() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let config = a.folder.join("nabe.toml");
    let shown = nabe(["keys", "show", "--config", config.to_str().unwrap()]);
    let shown = text(&shown.stdout);
    for what in ["hub ", "franks "] {
        let line = shown.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(line.ends_with("  mimi://a.localhost"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_three_providers_talk_and_send_files_on_the_command_line() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let c = Provider::init(parent.path(), "c.localhost", Some(&a));
    // The hub knows where the others' users store files.
    let hosts = [("NABE_MIMI__ASSET_HOSTS", "[\"b.localhost\", \"c.localhost\"]")];
    let _running = (
        a.serve_with(&[&b, &c], false, &hosts),
        b.serve(&[&a, &c], false),
        c.serve(&[&a, &b], false),
    );
    for provider in [&a, &b, &c] {
        provider.directory().await;
    }
    let alice = Person::log_in(parent.path(), &a, "alice");
    let bob = Person::log_in(parent.path(), &b, "bob");
    let cathy = Person::log_in(parent.path(), &c, "cathy");
    let room = "mimi://a.localhost/r/club";
    assert_eq!(alice.run(&["create", "The Club", "--id", "club"])[0]["room"], room);
    alice.finds(&bob);
    bob.lets_add(&alice).await;
    cathy.lets_add(&alice).await;
    alice.run(&["add", room, &bob.user, &cathy.user]);
    bob.is_in(room, true).await;
    let info = cathy.is_in(room, true).await;
    assert_eq!(info["clients"].as_array().unwrap().len(), 3);

    let sent = bob.run(&["send", room, "hello"]);
    let heard = alice.hears(room, |message| message["text"] == "hello").await;
    assert_eq!(
        (&heard["sender"], &heard["message"]),
        (&Value::from(&*bob.user), &sent[0]["message"])
    );
    assert_eq!(heard["franking"], "genuine");
    let reply = heard["message"].as_str().unwrap();
    alice.run(&["send", room, "hello Bob", "--reply-to", reply]);
    cathy
        .hears(room, |message| message["text"] == "[reply] hello Bob")
        .await;

    // One file lies at the hub, the other at Bob's provider, from where the hub fetches it for Cathy's.
    let secret = b"for the club's eyes only; ".repeat(5_000);
    let path = parent.path().join("picture.png");
    fs::write(&path, &secret).unwrap();
    let out = parent.path().join("received");
    for (sender, provider) in [(&alice, &a), (&bob, &b)] {
        let sent = sender.run(&["send-file", room, path.to_str().unwrap()]);
        let id = sent[0]["message"].as_str().unwrap();
        let message = cathy.hears(room, |message| message["message"] == id).await;
        assert_eq!(message["file"]["name"], "picture.png");
        assert_eq!(message["file"]["media_type"], "image/png");
        cathy.run(&["get-file", room, id, "--out", out.to_str().unwrap()]);
        assert_eq!(fs::read(&out).unwrap(), secret, "from {}", provider.domain);
        // Its provider has something else in its place.
        let stored = find_file(&provider.folder.join("data/media"));
        let mut bytes = fs::read(&stored).unwrap();
        assert!(!bytes.windows(5).any(|five| five == b"eyes "), "it is sealed");
        bytes[7] ^= 1;
        fs::write(&stored, bytes).unwrap();
        let refused = cathy.attempt(&["get-file", room, id, "--out", out.to_str().unwrap()]);
        assert!(!refused.status.success());
        assert!(
            text(&refused.stderr).contains("hash differs"),
            "{}",
            text(&refused.stderr)
        );
    }
    // Whoever does not know the URL gets nothing by the file's name alone.
    let stored = find_file(&a.folder.join("data/media"));
    let name = stored.file_name().unwrap().to_str().unwrap();
    let guess = format!("/_nabe/mimi/assets/{name}/AAAAAAAAAAAAAAAAAAAAAA");
    let guessed = a.request(&a.transport(None), Method::GET, &guess, "b.localhost").await;
    assert_eq!(guessed.status(), 404);

    bob.run(&["leave", room]);
    wait_for("Bob to be gone", async || {
        alice.run(&["update", room]);
        let info = alice.run(&["info", room]).pop().unwrap();
        (info["participants"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    bob.is_in(room, false).await;
    cathy.is_in(room, true).await;
    alice.run(&["add", room, &bob.user]);
    bob.is_in(room, true).await;
    alice.run(&["remove", room, &bob.user]);
    bob.is_in(room, false).await;
    let outside = bob.attempt(&["send", room, "hello?"]);
    assert!(!outside.status.success());
    alice.run(&["set-role", room, &cathy.user, "3"]);
    wait_for("the role", async || {
        let info = cathy.is_in(room, true).await;
        let mut users = info["participants"].as_array().unwrap().iter();
        users
            .any(|one| one["user"] == *cathy.user && one["role"] == 3)
            .then_some(())
    })
    .await;
}

/// Whether these bytes are anywhere in the memory of a provider.
fn remembers(provider: &Serving, what: &str) -> bool {
    let (first, what) = (what.as_bytes()[0], what.as_bytes());
    let mut found = false;
    let searched = memory::read(provider, |chunk| {
        let mut places = chunk.iter().enumerate().filter(|(_, byte)| **byte == first);
        found |= places.any(|(at, _)| chunk[at..].starts_with(what));
    });
    assert!(searched.unwrap() > 0);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_never_told_which_file_comes_by_oblivious_http() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let c = Provider::init(parent.path(), "c.localhost", Some(&a));
    let hub = [
        ("NABE_MIMI__ASSET_HOSTS", "[\"b.localhost\"]"),
        ("NABE_MIMI__OHTTP", "true"),
    ];
    let _hub = (a.serve_with(&[&b, &c], false, &hub), b.serve(&[&a, &c], false));
    let relay = c.serve(&[&a, &b], false);
    for provider in [&a, &b, &c] {
        provider.directory().await;
    }
    let alice = Person::log_in(parent.path(), &a, "alice");
    let bob = Person::log_in(parent.path(), &b, "bob");
    let cathy = Person::log_in(parent.path(), &c, "cathy");
    let room = "mimi://a.localhost/r/club";
    alice.run(&["create", "The Club", "--id", "club"]);
    bob.lets_add(&alice).await;
    cathy.lets_add(&alice).await;
    alice.run(&["add", room, &bob.user, &cathy.user]);
    bob.is_in(room, true).await;
    cathy.is_in(room, true).await;
    let secret = b"for the club's eyes only; ".repeat(5_000);
    let path = parent.path().join("picture.png");
    fs::write(&path, &secret).unwrap();
    let sent = bob.run(&["send-file", room, path.to_str().unwrap()]);
    let id = sent[0]["message"].as_str().unwrap();
    cathy.hears(room, |message| message["message"] == id).await;
    let out = parent.path().join("received");
    let fetch = |by: &[&str]| {
        let arguments = [&["get-file", room, id, "--out", out.to_str().unwrap()], by].concat();
        let fetched = cathy.run(&arguments);
        assert_eq!(fs::read(&out).unwrap(), secret, "{by:?}");
        fetched[0]["way"].as_str().unwrap().to_owned()
    };

    // Under this name Bob's provider keeps the file, and its URL has it.
    let stored = find_file(&b.folder.join("data/media"));
    let name = stored.file_name().unwrap().to_str().unwrap();
    assert_eq!(fetch(&["--by", "ohttp"]), "ohttp");
    assert!(!remembers(&relay, name), "it saw nothing but what is sealed");

    // With the hub's own word for its key, and with another key.
    let (keys, other) = (parent.path().join("keys"), parent.path().join("other"));
    let published = a
        .request(
            &a.transport(None),
            Method::GET,
            "/.well-known/ohttp-gateway",
            "c.localhost",
        )
        .await;
    fs::write(&keys, published.body()).unwrap();
    assert_eq!(
        fetch(&["--by", "ohttp", "--ohttp-keys", keys.to_str().unwrap()]),
        "ohttp"
    );
    let mut changed = published.body().to_vec();
    changed[10] ^= 1;
    fs::write(&other, changed).unwrap();
    let wrong = [
        "get-file",
        room,
        id,
        "--by",
        "ohttp",
        "--ohttp-keys",
        other.to_str().unwrap(),
    ];
    let refused = cathy.attempt(&wrong);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));

    assert!(!remembers(&relay, name));
    assert_eq!(fetch(&[]), "hubProxy");
    assert!(remembers(&relay, name), "what it is told is found");
    let address = format!("b.localhost={}", b.mimi);
    assert_eq!(fetch(&["--by", "direct", "--resolve", &address]), "direct");
}

/// The only file below a folder.
fn find_file(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The hub has what it takes to add Bob while his provider is away, which hears of it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn key_packages_that_came_with_a_grant_add_a_user_without_asking_their_provider() {
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let pauses = [
        ("NABE_DELIVERY__RETRY_BASE_MS", "20"),
        ("NABE_DELIVERY__RETRY_MAX_MS", "100"),
    ];
    let _hub = a.serve_with(&[&b], false, &pauses);
    let mut running = b.serve(&[&a], false);
    for provider in [&a, &b] {
        provider.directory().await;
    }
    let alice = Person::log_in(parent.path(), &a, "alice");
    let bob = Person::log_in(parent.path(), &b, "bob");
    let [one, two] = ["one", "two"].map(|id| {
        alice.run(&["create", id, "--id", id]);
        format!("mimi://a.localhost/r/{id}")
    });
    bob.run(&["consent", "grant", &alice.user, "--key-packages"]);
    wait_for("the consent", async || {
        let known = alice.run(&["consent", "list"]);
        known.iter().any(|one| one["state"] == "granted").then_some(())
    })
    .await;
    running.kill();
    alice.run(&["add", &one, &bob.user]);
    let _running = b.serve(&[&a], false);
    b.directory().await;
    let info = bob.is_in(&one, true).await;
    assert_eq!(info["clients"].as_array().unwrap().len(), 2);
    alice.run(&["add", &two, &bob.user]);
    bob.is_in(&two, true).await;
}
