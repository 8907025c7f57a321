//! A hub `a.example`, and a web whose answers the tests make up.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use nabe_store::{MemoryStore, MimiUserWrite, MimiWrite, NewLocalMessage, Write};
use nabe_types::UnixMillis;
use nabe_wire::label::{SignatureScheme, Signer, SignerError};
use nabe_wire::mls::{Credential, ExternalSender};

use super::*;
use crate::client::testing::{server, signer};
use crate::mimi::{HubKey, MimiDeps, MimiSettings};
use crate::ports::assets::Assets;
use crate::ports::mimi::{MimiPeerError, MimiPeers, MimiRequest};
use crate::ports::{ManualClock, PeerResponse, PeerStream, SystemEntropy};
use crate::{Deps, Service, Settings};

const FILE: &str = "https://files.b.example/x?key=y";

/// Answers as it is told to, and remembers what it was asked for.
struct Web {
    answer: Mutex<Vec<Result<PeerStream, PeerError>>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Assets for Web {
    async fn get(&self, url: &AssetUrl, _: Duration) -> Result<PeerStream, PeerError> {
        let asked = format!("{}{}", url.host(), url.path());
        self.asked.lock().unwrap().push(asked);
        self.answer.lock().unwrap().remove(0)
    }
}

/// Nobody is there.
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

#[async_trait]
impl crate::ports::Peers for Nobody {
    async fn call(&self, _: &ServerName, _: crate::ports::PeerRequest) -> Result<PeerResponse, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn server_keys(&self, _: &ServerName) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn notary_keys(
        &self,
        _: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<nabe_types::KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

/// Nothing is signed here.
struct NoKey;

impl Signer for NoKey {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignerError> {
        Err(SignerError::SigningError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

struct World {
    mimi: Mimi,
    web: Arc<Web>,
    clock: ManualClock,
}

impl World {
    fn new<const N: usize>(answers: [Result<PeerStream, PeerError>; N]) -> Self {
        let web = Arc::new(Web {
            answer: Mutex::new(answers.into()),
            asked: Mutex::default(),
        });
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let assets = AssetSettings {
            hosts: vec![ServerPattern::parse("files.b.example").unwrap()],
            max_bytes: 10,
            timeout: Duration::from_secs(30),
            at_once: 3,
            of_user: 1,
            of_provider: 2,
        };
        let service = Service::start(Deps {
            store: Arc::new(MemoryStore::new()),
            peers: Arc::new(Nobody),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            signer: Arc::new(signer("a")),
            old_keys: BTreeMap::new(),
            settings: Settings::new(server("a")),
            mimi: Some(MimiDeps {
                domain: server("a"),
                peers: Arc::new(Nobody),
                hub: HubKey {
                    sender: ExternalSender {
                        signature_key: Bytes::new().to_vec().into(),
                        credential: Credential::Basic {
                            identity: b"mimi://a.example".as_slice().into(),
                        },
                    },
                    signer: Arc::new(NoKey),
                },
                franking: None,
                franking_agent: None,
                assets: Some(web.clone()),
                settings: MimiSettings {
                    assets,
                    ..MimiSettings::default()
                },
            }),
        });
        Self {
            mimi: service.mimi().unwrap(),
            web,
            clock,
        }
    }

    async fn get(&self, url: &str) -> Result<Asset, MimiError> {
        self.mimi.download(&server("c"), url).await
    }

    fn asked(&self) -> Vec<String> {
        self.web.asked.lock().unwrap().clone()
    }
}

fn file(pieces: &'static [&'static str]) -> Result<PeerStream, PeerError> {
    let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
    Ok(PeerStream {
        status: 200,
        content_type: Some("image/png".to_owned()),
        body: Box::pin(stream::iter(pieces)),
    })
}

fn refusal(status: u16) -> Result<PeerStream, PeerError> {
    Ok(PeerStream {
        status,
        content_type: None,
        body: Box::pin(stream::empty()),
    })
}

#[tokio::test]
async fn a_file_of_a_peer_comes_as_it_is() {
    let world = World::new([file(&["ten ", "bytes!"])]);
    let asset = world.get(FILE).await.unwrap();
    assert_eq!(asset.content_type.as_deref(), Some("image/png"));
    let pieces: Vec<_> = asset.body.collect().await;
    let pieces: Vec<_> = pieces.into_iter().map(Result::unwrap).collect();
    assert_eq!(pieces, ["ten ", "bytes!"]);
    assert_eq!(world.asked(), ["files.b.example/x?key=y"]);
}

#[tokio::test]
async fn a_hub_fetches_from_no_host_but_those_of_its_peers() {
    let world = World::new([]);
    for url in [
        "https://b.example/x",
        "https://files.b.example.evil.example/x",
        "https://evil.example/?files.b.example/",
        "https://files.b.example:8443/x",
        "https://files.b.example@evil.example/x",
        "http://files.b.example/x",
        "https://127.0.0.1/x",
    ] {
        let refused = world.get(url).await.map(drop);
        assert!(matches!(refused, Err(MimiError::Forbidden(_))), "{url}: {refused:?}");
    }
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn a_name_that_leads_into_our_own_network_is_refused() {
    let world = World::new([Err(PeerError::AddressRefused)]);
    assert!(matches!(world.get(FILE).await.map(drop), Err(MimiError::Forbidden(_))));
}

#[tokio::test]
async fn what_the_file_server_refuses_is_not_handed_on() {
    let world = World::new([refusal(404), refusal(403), refusal(302), Err(PeerError::Timeout)]);
    assert!(matches!(
        world.get(FILE).await.map(drop),
        Err(MimiError::Unknown("file"))
    ));
    for _ in 0..2 {
        assert!(matches!(
            world.get(FILE).await.map(drop),
            Err(MimiError::BadAnswer { .. })
        ));
    }
    assert!(matches!(
        world.get(FILE).await.map(drop),
        Err(MimiError::PeerFailed { .. })
    ));
}

#[tokio::test]
async fn a_file_that_is_too_large_ends() {
    let world = World::new([file(&["ten bytes!", "!"])]);
    let pieces: Vec<_> = world.get(FILE).await.unwrap().body.collect().await;
    assert_eq!(pieces[1..], [Err(PeerError::TooLarge { limit: 10 })]);
}

#[tokio::test]
async fn a_file_that_does_not_go_on_ends() {
    let silent = PeerStream {
        status: 200,
        content_type: None,
        body: Box::pin(stream::pending()),
    };
    let world = World::new([Ok(silent)]);
    let mut asset = world.get(FILE).await.unwrap();
    let next = asset.body.next();
    let late = async { world.clock.advance(Duration::from_secs(31)) };
    let (ended, ()) = futures_util::future::join(next, late).await;
    assert_eq!(ended, Some(Err(PeerError::Timeout)));
}

fn is_told_to_wait(answer: Result<Asset, MimiError>) -> bool {
    matches!(answer.map(drop), Err(MimiError::LimitExceeded { .. }))
}

#[tokio::test]
async fn no_provider_has_more_files_come_at_once_than_its_share() {
    let world = World::new([file(&[]), file(&[]), file(&[]), file(&[])]);
    let (first, _second) = (world.get(FILE).await.unwrap(), world.get(FILE).await.unwrap());
    assert!(is_told_to_wait(world.get(FILE).await));
    let other = world.mimi.download(&server("d"), FILE).await.unwrap();
    drop(first);
    let _first = world.get(FILE).await.unwrap();
    assert!(
        is_told_to_wait(world.mimi.download(&server("d"), FILE).await),
        "all three come"
    );
    drop(other);
}

#[tokio::test]
async fn no_user_has_more_files_come_at_once_than_their_share() {
    let world = World::new([file(&[]), file(&[]), file(&[]), file(&[])]);
    let [alice, anna] = ["alice", "anna"].map(|name| MimiUri::parse(&format!("mimi://a.example/u/{name}")).unwrap());
    let room = MimiUri::parse("mimi://a.example/r/room").unwrap();
    let message = MimiUserWrite::Deliver {
        room: room.clone(),
        hub: server("a"),
        once: None,
        messages: vec![NewLocalMessage {
            accepted: UnixMillis::ZERO,
            body: Bytes::new(),
            marks: Vec::new(),
            withheld_from: Vec::new(),
        }],
        readers: vec![(alice.clone(), 0), (anna.clone(), 0)],
        leavers: Vec::new(),
        now: UnixMillis::ZERO,
    };
    let write = Write::Mimi(MimiWrite::User(message));
    world.mimi.service.commit(write.into()).await.unwrap();
    let first = world.mimi.asset_for(&alice, &room, FILE).await.unwrap();
    assert!(is_told_to_wait(world.mimi.asset_for(&alice, &room, FILE).await));
    let _annas = world.mimi.asset_for(&anna, &room, FILE).await.unwrap();
    drop(first);
    world.mimi.asset_for(&alice, &room, FILE).await.unwrap();
}

#[test]
fn what_a_files_url_ends_with_is_one_segment_of_a_path_whatever_the_file() {
    for number in 0..200 {
        let token = token_of(&[7; 32], &format!("file {number}"));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        assert!(token.len() == 22 && token.bytes().all(is_plain), "{token}");
    }
}
