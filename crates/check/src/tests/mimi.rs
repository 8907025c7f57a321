//! The cases of MIMI against a provider that allows everything and asks nobody who they are: what should be allowed passes, what should not
//! fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nabe_mls::mimi::MimiGroup;
use nabe_mls::testing::mimi::TestHub;
use nabe_signing::base64u;
use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::codec::{Kept, Reader};
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::{
    ClientKeyMaterial, ClientMaterial, KeyMaterialRequest, KeyMaterialResponse, KeyMaterialUserCode,
};
use nabe_wire::mls::{GroupInfo, MlsMessage, MlsMessageBody, RatchetTree};
use nabe_wire::notify::{FanoutBatch, FanoutMessage, FanoutParts};
use nabe_wire::submit_message::{Acceptance, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateRoomResponse};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Decode as _, Encode as _, IdentifierUri, Message as _};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::is_failure;
use crate::author::now_millis;
use crate::case::Checked;
use crate::cases;
use crate::context::Ctx;
use crate::mimi::hosted::stamp;
use crate::mimi::peer::{ANY, Answer as MimiAnswer, MimiPeer, identifier, kept_package};
use crate::peer::{self, Answer, Peer, Recorded};
use crate::subject::Subject;
use crate::{Authority, MimiSubjectConfig, SubjectConfig};

const SUBJECT: &str = "subject.example";
const OURS: [&str; 2] = ["b.example", "c.example"];

/// A run against the provider that allows everything.
struct Lax {
    ctx: Ctx,
    _subject: Vec<MimiPeer>,
}

/// What the provider remembers.
struct State {
    key: TestHub,
    groups: BTreeMap<String, MimiGroup>,
    /// What its users may read, by room.
    logs: BTreeMap<String, Vec<FanoutMessage>>,
    /// Key packages of its users' clients, by user.
    uploaded: BTreeMap<String, Vec<(String, Vec<u8>)>>,
    to_followers: mpsc::UnboundedSender<(String, Vec<u8>)>,
}

impl State {
    fn fan_out(&mut self, room: &str, message: FanoutMessage) {
        let batch = FanoutBatch::new(vec![message.clone()]).unwrap();
        self.logs.entry(room.to_owned()).or_default().push(message);
        self.to_followers.send((room.to_owned(), batch.to_bytes())).unwrap();
    }

    fn update(&mut self, room: &str, body: &[u8]) -> Vec<u8> {
        let accepted = UpdateRoomResponse::success(stamp()).to_bytes();
        let Ok(bundle) = HandshakeBundle::from_bytes(body) else {
            return accepted;
        };
        let HandshakeParts::Commit(parts) = bundle.with else {
            return accepted;
        };
        let Some(group) = self.groups.get_mut(room) else {
            return accepted;
        };
        let MlsMessageBody::Public(public) = &bundle.proposal_or_commit.body else {
            return accepted;
        };
        if public.content.epoch != group.epoch() {
            return UpdateRoomResponse::wrong_epoch(group.epoch(), "").to_bytes();
        }
        let now = UnixMillis::new(now_millis().unsigned_abs());
        if let Ok(staged) = group.stage(&bundle.proposal_or_commit, &parts, now) {
            group.merge(&staged.bytes).unwrap();
            let ratchet_tree_option = group.ratchet_tree();
            self.fan_out(
                room,
                FanoutMessage {
                    timestamp: stamp(),
                    message: bundle.proposal_or_commit.clone(),
                    with: FanoutParts::Commit {
                        external_proposals: Vec::new(),
                    },
                },
            );
            if let Some(welcome) = parts.welcome {
                let body = MlsMessageBody::Welcome(Box::new(welcome));
                self.fan_out(
                    room,
                    FanoutMessage {
                        timestamp: stamp(),
                        message: Kept::new(MlsMessage { body }),
                        with: FanoutParts::Welcome { ratchet_tree_option },
                    },
                );
            }
        }
        accepted
    }

    fn submit(&mut self, room: &str, body: &[u8]) -> Vec<u8> {
        let accepted_timestamp = stamp();
        if let Ok(request) = SubmitMessageRequest::from_bytes(body)
            && let Some(submission) = request.body.mls10()
        {
            self.fan_out(
                room,
                FanoutMessage {
                    timestamp: accepted_timestamp,
                    message: submission.app_message.clone(),
                    with: FanoutParts::Application { frank: None },
                },
            );
        }
        let accepted = SubmitVerdict::Accepted(Acceptance {
            accepted_timestamp,
            frank: None,
        });
        SubmitMessageResponse::from(accepted).to_bytes()
    }

    fn notify(&mut self, room: &str, body: &[u8]) {
        // Both forms of targets are good, and whatever can be read of the body.
        let room = format!("mimi://{}", room.trim_start_matches("mimi://"));
        let mut reader = Reader::new(body);
        while let Ok(message) = FanoutMessage::decode(&mut reader) {
            self.logs.entry(room.clone()).or_default().push(message);
        }
    }

    /// The same key packages whoever asks.
    fn key_material(&self, user: &str) -> KeyMaterialResponse {
        let uploaded = self.uploaded.get(user).into_iter().flatten();
        let clients = uploaded.map(|(client, package)| ClientKeyMaterial {
            client_uri: identifier(client),
            material: ClientMaterial::KeyPackage(Box::new(kept_package(package))),
        });
        KeyMaterialResponse {
            clients: clients.collect(),
            ..KeyMaterialResponse::refused(KeyMaterialUserCode::SUCCESS, identifier(user))
        }
    }

    fn client_api(&mut self, peers: &[MimiPeer], request: &Recorded) -> Answer {
        let path = request.uri.split('?').next().unwrap();
        let path: Vec<String> = path
            .split('/')
            .skip(4)
            .map(|segment| percent_decode_str(segment).decode_utf8().unwrap().into_owned())
            .collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let member = |key: &str| request.member(key).and_then(Json::as_str).unwrap_or_default();
        match (request.method.as_str(), &path[..]) {
            ("GET", ["hub"]) => {
                let sender = base64u::encode(&self.key.sender().to_bytes());
                Answer::Json(200, object! { "external_sender" => sender }.into())
            }
            ("POST", ["rooms"]) => {
                let info = base64u::decode(member("group_info")).unwrap();
                let info = Kept::<GroupInfo>::decode(&mut Reader::new(&info)).unwrap();
                let tree = base64u::decode(member("ratchet_tree")).unwrap();
                let tree = RatchetTree::from_bytes(&tree).unwrap();
                let room = MimiUri::parse(member("room")).unwrap();
                let now = UnixMillis::new(now_millis().unsigned_abs());
                let (group, _) = MimiGroup::found(&room, self.key.sender(), &info, &tree, now).unwrap();
                self.groups.insert(member("room").to_owned(), group);
                Answer::Json(200, object! {}.into())
            }
            ("POST", ["key_material"]) => {
                let asked = KeyMaterialRequest::from_bytes(&request.body).unwrap();
                let host = MimiUri::parse(&asked.target_user).unwrap().host().to_owned();
                let provider = peers.iter().find(|peer| peer.domain().as_str() == host);
                let answer = provider.map_or_else(
                    || self.key_material(&asked.target_user),
                    |provider| provider.hand_out(&asked.target_user),
                );
                Answer::Bytes(answer.to_bytes())
            }
            ("POST", ["key_packages"]) => {
                let client = member("client");
                let user = client.rsplit_once('/').unwrap().0.replacen("/d/", "/u/", 1);
                let packages = request.member("key_packages").and_then(Json::as_array).unwrap();
                let mut results = Vec::new();
                for package in packages {
                    let package = base64u::decode(package.as_str().unwrap()).unwrap();
                    let of_user = self.uploaded.entry(user.clone()).or_default();
                    of_user.push((client.to_owned(), package));
                    results.push(Json::from(object! { "reference" => "AA" }));
                }
                Answer::Json(200, object! { "results" => results }.into())
            }
            ("POST", ["rooms", room, "update"]) => Answer::Bytes(self.update(room, &request.body)),
            ("POST", ["rooms", room, "submit_message"]) => Answer::Bytes(self.submit(room, &request.body)),
            ("GET", ["rooms", room, "messages"]) => {
                let after: usize = request.query("after").unwrap_or_default().parse().unwrap_or(0);
                let log = self.logs.get(*room).into_iter().flatten().enumerate().skip(after);
                let messages = log.map(|(at, message)| {
                    let message = base64u::encode(&message.to_bytes());
                    Json::from(object! { "position" => i64::try_from(at).unwrap() + 1, "message" => message })
                });
                Answer::Json(200, object! { "messages" => messages.collect::<Vec<_>>() }.into())
            }
            _ => Answer::Json(200, object! {}.into()),
        }
    }
}

/// Starts it, and our two providers.
async fn lax() -> Lax {
    let authority = Authority::generate().unwrap();
    let listen = async || {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let name = |name: &str| ServerName::parse(name).unwrap();
    let (client_listener, client_address) = listen().await;
    let (subject_listener, subject_address) = listen().await;
    let at_subject = MimiSubjectConfig {
        domain: name(SUBJECT),
        address: Some(subject_address),
    };
    let start = |domain: &str, listener, at: &MimiSubjectConfig| {
        let identity = authority.provider(domain).unwrap();
        MimiPeer::start(name(domain), listener, identity, authority.certificate_pem(), at).unwrap()
    };
    let (mut peers, mut callers) = (Vec::new(), Vec::new());
    for domain in OURS {
        let (listener, address) = listen().await;
        peers.push(start(domain, listener, &at_subject));
        let (listener, _) = listen().await;
        let at = MimiSubjectConfig {
            domain: name(domain),
            address: Some(address),
        };
        callers.push(start(SUBJECT, listener, &at));
    }
    let server_name = format!("localhost:{}", client_address.port());
    let config = SubjectConfig {
        base_url: format!("https://{server_name}"),
        address: Some(client_address),
        server_name: name(&server_name),
        ca_pem: authority.certificate_pem().to_owned(),
        provider_token: "token".to_owned(),
        mimi: Some(at_subject.clone()),
    };
    let subject = Subject::new(&config).unwrap();
    let (to_followers, mut queue) = mpsc::unbounded_channel::<(String, Vec<u8>)>();
    let state = Arc::new(Mutex::new(State {
        key: TestHub::new(&format!("mimi://{SUBJECT}")),
        groups: BTreeMap::new(),
        logs: BTreeMap::new(),
        uploaded: BTreeMap::new(),
        to_followers,
    }));
    let provider = start(SUBJECT, subject_listener, &at_subject);
    let of = Arc::clone(&state);
    provider.on(Endpoint::Update, ANY, move |request| {
        Some(MimiAnswer::of(
            of.lock().unwrap().update(&request.target, &request.body),
        ))
    });
    let of = Arc::clone(&state);
    provider.on(Endpoint::SubmitMessage, ANY, move |request| {
        Some(MimiAnswer::of(
            of.lock().unwrap().submit(&request.target, &request.body),
        ))
    });
    let of = Arc::clone(&state);
    provider.on(Endpoint::Notify, ANY, move |request| {
        of.lock().unwrap().notify(&request.target, &request.body);
        Some(MimiAnswer::status(201))
    });
    let of = Arc::clone(&state);
    provider.on(Endpoint::KeyMaterial, ANY, move |request| {
        let asked = KeyMaterialRequest::from_bytes(&request.body).ok()?;
        let user: &IdentifierUri = &asked.target_user;
        Some(MimiAnswer::of(of.lock().unwrap().key_material(user).to_bytes()))
    });
    let tls = authority.server_config("localhost").unwrap();
    let api = Peer::start(name(&server_name), client_listener, tls, &[7; 32], subject.clone());
    let of_api = peers.clone();
    api.on(peer::Endpoint::Other, move |request| {
        state.lock().unwrap().client_api(&of_api, request)
    });
    let followers = callers.clone();
    tokio::spawn(async move {
        while let Some((room, body)) = queue.recv().await {
            for follower in &followers {
                // What a follower of ours says to it is of no interest to this hub.
                let _: Checked<_> = follower.call(Endpoint::Notify, &room, body.clone()).await;
            }
        }
    });
    callers.push(provider);
    let ctx = Ctx::new(subject, vec![api], Duration::from_secs(2)).with_mimi(peers);
    Lax { ctx, _subject: callers }
}

/// What a case comes to.
async fn outcome(ctx: &Ctx, id: &str) -> Checked {
    let case = cases::all().find(|case| case.id == id);
    (case.unwrap_or_else(|| panic!("no {id}")).run)(ctx).await
}

async fn passes_and_fails(passing: &[&str], failing: &[&str]) {
    for id in passing {
        let lax = lax().await;
        let outcome = outcome(&lax.ctx, id).await;
        assert_eq!(outcome, Ok(()), "{id}");
    }
    for id in failing {
        let lax = lax().await;
        let outcome = outcome(&lax.ctx, id).await;
        assert!(is_failure(&outcome), "{id}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_allows_everything_passes_what_is_allowed_and_fails_what_is_not() {
    passes_and_fails(
        &["mimi-1", "mimi-26", "mimi-32", "mimi-33", "mimi-61"],
        &[
            "mimi-2", "mimi-3", "mimi-4", "mimi-5", "mimi-8", "mimi-9", "mimi-27", "mimi-28", "mimi-29", "mimi-30",
            "mimi-31", "mimi-34", "mimi-35", "mimi-36", "mimi-37", "mimi-38", "mimi-39", "mimi-40", "mimi-43",
            "mimi-44", "mimi-45", "mimi-46", "mimi-47", "mimi-48", "mimi-50", "mimi-53", "mimi-54", "mimi-56",
            "mimi-63", "mimi-64", "mimi-64b", "mimi-65", "mimi-66",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_believes_everything_passes_what_is_true_and_fails_what_is_not() {
    passes_and_fails(
        &["mimi-6f", "mimi-10f", "mimi-70"],
        &[
            "mimi-2f", "mimi-3f", "mimi-4f", "mimi-8f", "mimi-11f", "mimi-12f", "mimi-13", "mimi-14", "mimi-15",
            "mimi-16", "mimi-17", "mimi-18f", "mimi-19f", "mimi-21", "mimi-23", "mimi-24", "mimi-25", "mimi-68",
            "mimi-69", "mimi-70f", "mimi-10u", "mimi-26u", "mimi-61u", "mimi-68u", "mimi-73",
        ],
    )
    .await;
}
