//! `kill -9` of a provider while others fetch its users' key packages, many times in a row (MIMI #fetch-key-material): over all its lives
//! it hands out none twice, and none is lost but what was on its way when it was killed.
//!
//! The provider is a process that is killed and started again. Another provider asks it for the key packages of all clients of one user,
//! several requests at a time over mutual TLS, each new; what has no answer is not repeated. A kill comes after a random number of
//! answers, so it hits claims, commits and answers wherever they happen to be.
//!
//! `NABE_TEST_KILLS` says how often (12), `NABE_TEST_SEED` repeats the random numbers of a failed run.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Client,
    provider::Provider,
    random::{Random, variable},
    wait_for,
};
use nabe_federation::{HttpsTransport, MimiPeers};
use nabe_mls::testing::mimi::{MimiDevice, key_material_request, key_package_ref};
use nabe_service::ports::mimi::{MimiPeers as _, MimiRequest};
use nabe_signing::base64u;
use nabe_types::ServerName;
use nabe_wire::{
    Encode as _, Message as _,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    directory::Endpoint,
    key_material::{ClientMaterial, KeyMaterialResponse, KeyMaterialUserCode},
    mls::RequiredCapabilities,
    uri::IdentifierUri,
};
use serde_json::{Value, json};
use tokio::time::sleep;

const ALICE: &str = "mimi://a.localhost/u/alice";
const BOB: &str = "mimi://b.localhost/u/bob";
const ROOM: &str = "mimi://b.localhost/r/club";
/// Alice's, with whom she begins, and how many key packages each of them uploads.
const CLIENTS: usize = 3;
const STOCK: usize = 100;
/// Requests at once.
const ASKING: usize = 6;

/// What was handed out in all lives.
#[derive(Default)]
struct Seen {
    references: Mutex<Vec<Vec<u8>>>,
    answers: AtomicUsize,
    /// There is nothing left, and whoever finds so is done.
    is_exhausted: AtomicBool,
    is_last: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_killed_again_and_again_hands_no_key_package_out_twice() {
    let kills: usize = variable("NABE_TEST_KILLS").unwrap_or(12);
    let mut random = Random::new();
    println!("{kills} kills, NABE_TEST_SEED={}", random.seed);
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let limits = [
        ("NABE_LIMITS__REQUESTS_PER_SECOND", "1000000"),
        ("NABE_LIMITS__BURST", "1000000"),
    ];
    let serve = || a.serve_with(&[&b], false, &limits);
    let mut running = serve();
    a.directory().await;
    let backend = a.backend();
    backend.must_get("@alice:a.localhost", "/_nabe/v1/mimi/hub").await;
    let mut uploaded = Vec::new();
    for number in 0..CLIENTS {
        uploaded.push(upload(&backend, number).await);
    }
    consent(&a).await;

    let seen = Arc::new(Seen::default());
    let asking: Vec<_> = (0..ASKING)
        .map(|_| tokio::spawn(keep_asking(a.peers(&b), a.domain.clone(), Arc::clone(&seen))))
        .collect();
    for kill in 0..kills {
        let target = seen.answers.load(Ordering::SeqCst) + random.up_to(8);
        wait_for("answers between two kills", async || {
            assert!(running.is_running(), "it ended by itself after {kill} kills");
            (seen.answers.load(Ordering::SeqCst) >= target).then_some(())
        })
        .await;
        if seen.is_exhausted.swap(false, Ordering::SeqCst) {
            uploaded.push(upload(&backend, uploaded.len()).await);
        }
        running.kill();
        running = serve();
    }
    seen.is_last.store(true, Ordering::SeqCst);
    for asking in asking {
        asking.await.unwrap();
    }

    let references = seen.references.lock().unwrap().clone();
    let distinct: BTreeSet<_> = references.iter().cloned().collect();
    assert_eq!(distinct.len(), references.len(), "handed out twice");
    let all: BTreeSet<_> = uploaded
        .iter()
        .flat_map(|(_, packages)| packages)
        .map(|package| key_package_ref(package))
        .collect();
    assert!(distinct.is_subset(&all));
    // A request that was under way at a kill may have taken one of each client, which nobody gets any more; no other is lost.
    let lost = all.len() - distinct.len();
    println!("{lost} of {} were on their way when it was killed", all.len());
    assert!(
        lost <= kills * ASKING * uploaded.len(),
        "{lost} of {} are lost",
        all.len()
    );
    for (client, packages) in &uploaded {
        let again = put(&backend, client, packages).await;
        let spent = |result: &Value| result["error"].as_str().is_some_and(|why| why.contains("used already"));
        assert!(
            again.iter().all(spent),
            "what was handed out is taken in again: {again:?}"
        );
    }
    assert!(running.terminate().success());
}

/// One request after the other, until there is nothing left.
async fn keep_asking(peers: MimiPeers<HttpsTransport>, provider: ServerName, seen: Arc<Seen>) {
    let bob = MimiDevice::new("mimi://b.localhost/d/bob/phone");
    loop {
        let required = RequiredCapabilities {
            extension_types: Vec::new(),
            proposal_types: Vec::new(),
            credential_types: Vec::new(),
        };
        let request = MimiRequest {
            endpoint: Endpoint::KeyMaterial,
            target: ALICE.to_owned(),
            body: key_material_request(&bob, ALICE, Some(ROOM), required)
                .to_bytes()
                .into(),
            timeout: Duration::from_secs(10),
            max_response_bytes: KeyMaterialResponse::MAX_LEN,
        };
        let Ok(answer) = peers.call(&provider, request).await else {
            // The pause of a client between two attempts: the server may be dead just now.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = KeyMaterialResponse::from_bytes(&answer.body).unwrap();
        let packages = answer.clients.iter().filter_map(|client| match &client.material {
            ClientMaterial::KeyPackage(package) => Some(key_package_ref(package.as_bytes())),
            _ => None,
        });
        seen.references.lock().unwrap().extend(packages);
        seen.answers.fetch_add(1, Ordering::SeqCst);
        match answer.user_status {
            KeyMaterialUserCode::SUCCESS | KeyMaterialUserCode::PARTIAL_SUCCESS => {}
            KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL if seen.is_last.load(Ordering::SeqCst) => return,
            KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL => seen.is_exhausted.store(true, Ordering::SeqCst),
            other => panic!("{other:?}"),
        }
    }
}

/// A client and what it has uploaded.
async fn upload(backend: &Client, number: usize) -> (String, Vec<Vec<u8>>) {
    let client = format!("mimi://a.localhost/d/alice/{number}");
    let device = MimiDevice::new(&client);
    let packages: Vec<_> = (0..STOCK).map(|_| device.key_package()).collect();
    let results = put(backend, &client, &packages).await;
    assert!(
        results.iter().all(|result| result["reference"].is_string()),
        "{results:?}"
    );
    (client, packages)
}

/// What becomes of each.
async fn put(backend: &Client, client: &str, packages: &[Vec<u8>]) -> Vec<Value> {
    let packages: Vec<_> = packages.iter().map(|package| base64u::encode(package)).collect();
    let body = json!({ "client": client, "key_packages": packages });
    let answer = backend
        .must_post("@alice:a.localhost", "/_nabe/v1/mimi/key_packages", &body)
        .await;
    answer["results"].as_array().unwrap().clone()
}

/// Alice lets Bob fetch her key packages. His provider is not there to be told; that is known here all the same.
async fn consent(a: &Provider) {
    let uri = |uri: &str| IdentifierUri::new(uri).unwrap();
    let client_key_packages = Vec::new();
    let entry = ConsentEntry {
        operation: ConsentAction::Grant { client_key_packages },
        scope: ConsentScope {
            requester_uri: uri(BOB),
            target_uri: uri(ALICE),
            room_id: None,
        },
        consent_extensions: Default::default(),
    };
    let path = "/_nabe/v1/mimi/consent";
    a.backend()
        .post_bytes("@alice:a.localhost", path, entry.to_bytes())
        .await;
    let known = a.backend().must_get("@alice:a.localhost", path).await;
    assert_eq!(known["consents"][0]["decision"], "granted", "{known}");
}
