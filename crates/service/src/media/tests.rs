//! One server `h` with a folder of its own, and another server that the tests speak for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::join;
use nabe_signing::sha256;
use nabe_store::{MemoryStore, UploadLimits};
use nabe_types::{KeyId, UnixMillis};
use tempfile::TempDir;

use super::*;
use crate::client::testing::{server, signer, user};
use crate::ports::{ManualClock, PeerResponse, PeerStream, Peers, SystemEntropy};
use crate::{Deps, MediaSettings, RateLimit, Settings};

type Answer = Result<PeerStream, PeerError>;

/// All other servers: each answers the same to each request.
struct Others {
    answer: Box<dyn Fn(&PeerRequest) -> Answer + Send + Sync>,
    asked: AtomicUsize,
}

#[async_trait]
impl Peers for Others {
    async fn call(&self, _: &ServerName, _: PeerRequest) -> Result<PeerResponse, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn open(&self, _: &ServerName, request: PeerRequest) -> Answer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (self.answer)(&request)
    }

    async fn server_keys(&self, _: &ServerName) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn notary_keys(
        &self,
        _: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

struct World {
    service: Service,
    others: Arc<Others>,
    clock: ManualClock,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {}, |_| Err(PeerError::Unreachable))
    }

    fn with(
        change: impl FnOnce(&mut Settings),
        answer: impl Fn(&PeerRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::by(ManualClock::new(UnixMillis(1_700_000_000_000)), change, answer)
    }

    /// By a clock that the other servers know as well.
    fn by(
        clock: ManualClock,
        change: impl FnOnce(&mut Settings),
        answer: impl Fn(&PeerRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(server("h"));
        settings.media = MediaSettings {
            folder: Some(MediaFolder::open(folder.path()).unwrap()),
            max_bytes: 1_000,
            user: UploadLimits {
                bytes: 3_000,
                bytes_per_day: 2_000,
            },
            cache_bytes: 2_500,
            stall: Duration::from_millis(50),
            fetch_bytes_per_second: u32::MAX,
        };
        change(&mut settings);
        let others = Arc::new(Others {
            answer: Box::new(answer),
            asked: AtomicUsize::new(0),
        });
        let service = Service::start(Deps {
            store: Arc::new(MemoryStore::new()),
            peers: others.clone(),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            signer: Arc::new(signer("h")),
            old_keys: BTreeMap::new(),
            settings,
            mimi: None,
        });
        Self {
            service,
            others,
            clock,
            folder,
        }
    }

    async fn upload(&self, who: &str, bytes: &[u8]) -> Result<Uploaded, ServiceError> {
        let mut upload = self.service.begin_upload(&user(who, "h"), None).await?;
        for piece in bytes.chunks(300) {
            upload.write(piece).await?;
        }
        upload.finish().await
    }

    /// What a local user gets under the ID that the bytes would have at another server.
    async fn fetch(&self, bytes: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let content = self.service.media(&server("p"), &media_id(&sha256(bytes))).await?;
        Ok(read(content).await)
    }

    fn asked(&self) -> usize {
        self.others.asked.load(Ordering::SeqCst)
    }

    /// Every file in the folder.
    fn files(&self) -> Vec<PathBuf> {
        files(self.folder.path())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

async fn read(content: MediaContent) -> Vec<u8> {
    let size = content.size();
    let pieces: Vec<_> = content.into_stream().collect().await;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
    assert_eq!(bytes.len() as u64, size);
    bytes
}

fn stream_of(content_type: &str, pieces: Vec<Bytes>) -> PeerStream {
    PeerStream {
        status: 200,
        content_type: Some(content_type.to_owned()),
        body: Box::pin(stream::iter(pieces.into_iter().map(Ok))),
    }
}

/// A file as another Nabe sends it, with the digest it claims.
fn sent(file: &[u8], digest: [u8; 32]) -> PeerStream {
    let envelope = Envelope::new("boundary", &digest);
    let file = Bytes::copy_from_slice(file);
    stream_of(&envelope.content_type, vec![envelope.head, file, envelope.tail])
}

/// A file as a server sends it that knows no digests.
fn sent_without_digest(file: &'static str) -> PeerStream {
    let body = format!("--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\n\r\n{file}\r\n--b--\r\n");
    stream_of("multipart/mixed; boundary=b", vec![body.into()])
}

fn not_found<T>(result: Result<T, ServiceError>) -> bool {
    matches!(result, Err(ServiceError::NotFound(Missing::Media)))
}

fn what<T>(result: Result<T, ServiceError>) -> &'static str {
    match result {
        Err(ServiceError::BadAnswer { what, .. }) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[tokio::test]
async fn the_same_bytes_are_stored_once() {
    let world = World::new();
    let file = [b'x'; 700];
    let first = world.upload("alice", &file).await.unwrap();
    assert_eq!(first.size, 700);
    assert_eq!(first.media_id.as_str(), base64u::encode_url(&sha256(&file)));
    let before = world.files();
    assert_eq!(before.len(), 1);
    let written = std::fs::metadata(&before[0]).unwrap().modified().unwrap();
    assert_eq!(world.upload("bob", &file).await.unwrap(), first);
    assert_eq!(world.upload("alice", &file).await.unwrap(), first);
    assert_eq!(world.files(), before);
    assert_eq!(std::fs::metadata(&before[0]).unwrap().modified().unwrap(), written);
    let content = world.service.media(&server("h"), &first.media_id).await.unwrap();
    assert_eq!(read(content).await, file);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let world = World::new();
    let uploaded = world.upload("alice", b"").await.unwrap();
    let content = world.service.media(&server("h"), &uploaded.media_id).await.unwrap();
    assert_eq!(read(content).await, b"");
}

#[tokio::test]
async fn an_upload_that_ends_early_leaves_nothing() {
    let world = World::new();
    let mut upload = world.service.begin_upload(&user("alice", "h"), None).await.unwrap();
    upload.write(b"half of it").await.unwrap();
    assert_eq!(world.files().len(), 1, "it is on its way");
    drop(upload);
    assert!(world.files().is_empty());
    // A process that is killed cannot clean up; the next one does.
    let left = world.folder.path().join("incoming/left");
    std::fs::write(&left, "half of it").unwrap();
    MediaFolder::open(world.folder.path()).unwrap();
    assert!(!left.exists());
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_before_it_is_read_and_while_it_comes() {
    let world = World::new();
    let alice = user("alice", "h");
    let announced = world.service.begin_upload(&alice, Some(1_001)).await.map(|_| ());
    assert!(matches!(announced, Err(ServiceError::MediaTooLarge { limit: 1_000 })));
    let refused = world.upload("alice", &[b'x'; 1_001]).await.unwrap_err();
    assert_eq!(refused.to_string(), "a file may have at most 1000 bytes");
    assert!(world.files().is_empty());
    world.upload("alice", &[b'x'; 1_000]).await.unwrap();
}

#[tokio::test]
async fn a_users_files_are_bounded_by_day_and_in_all() {
    let world = World::new();
    world.upload("alice", &[1; 1_000]).await.unwrap();
    world.clock.advance(Duration::from_hours(1));
    world.upload("alice", &[2; 1_000]).await.unwrap();
    let refused = world.upload("alice", &[3; 1]).await.unwrap_err();
    let ServiceError::OverQuota {
        limit: 2_000,
        retry_after: Some(wait),
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(wait, Duration::from_hours(23));
    world.upload("bob", &[3; 1]).await.unwrap();
    world.clock.advance(wait);
    let announced = world.service.begin_upload(&user("alice", "h"), Some(1_000)).await;
    assert!(announced.is_ok(), "the first one is a day ago");
    drop(announced);
    world.upload("alice", &[4; 1_000]).await.unwrap();
    world.clock.advance(Duration::from_hours(48));
    let refused = world.upload("alice", &[5; 1]).await.unwrap_err();
    assert!(matches!(
        refused,
        ServiceError::OverQuota {
            limit: 3_000,
            retry_after: None
        }
    ));
    assert_eq!(world.files().len(), 4);
    let first = media_id(&sha256(&[1; 1_000]));
    world.service.remove_upload(&user("alice", "h"), &first).await.unwrap();
    world.upload("alice", &[5; 1]).await.unwrap();
}

#[tokio::test]
async fn uploads_that_go_on_at_once_are_bounded_together() {
    let world = World::with(
        |settings| settings.media.user.bytes_per_day = 1_500,
        |_| Err(PeerError::Unreachable),
    );
    let alice = user("alice", "h");
    let mut uploads = Vec::new();
    for _ in 0..UPLOADS_OF_USER {
        uploads.push(world.service.begin_upload(&alice, Some(1_000)).await.unwrap());
    }
    let one_more = world.service.begin_upload(&alice, None).await.map(|_| ());
    assert!(matches!(one_more, Err(ServiceError::LimitExceeded { .. })));
    assert!(world.service.begin_upload(&user("bob", "h"), None).await.is_ok());
    let mut kept = 0;
    for (n, mut upload) in uploads.into_iter().enumerate() {
        upload.write(&[u8::try_from(n).unwrap(); 1_000]).await.unwrap();
        match upload.finish().await {
            Ok(_) => kept += 1,
            Err(error) => assert!(matches!(error, ServiceError::OverQuota { limit: 1_500, .. }), "{error}"),
        }
    }
    assert_eq!((kept, world.files().len()), (1, 1));
}

#[tokio::test]
async fn a_file_goes_with_its_last_uploader() {
    let world = World::new();
    let (alice, bob) = (user("alice", "h"), user("bob", "h"));
    let id = world.upload("alice", b"file").await.unwrap().media_id;
    world.upload("bob", b"file").await.unwrap();
    world.service.remove_upload(&alice, &id).await.unwrap();
    assert!(not_found(world.service.remove_upload(&alice, &id).await));
    assert!(world.service.media(&server("h"), &id).await.is_ok());
    world.service.remove_upload(&bob, &id).await.unwrap();
    assert!(not_found(world.service.media(&server("h"), &id).await));
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn without_a_folder_there_are_no_files() {
    let world = World::with(|settings| settings.media.folder = None, |_| Err(PeerError::Unreachable));
    assert!(not_found(world.upload("alice", b"file").await));
    assert!(not_found(world.fetch(b"file").await));
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn another_servers_file_is_fetched_once() {
    let world = World::with(
        |_| {},
        |request| {
            let id = media_id(&sha256(b"file"));
            assert_eq!(request.stable, format!("/_matrix/federation/v1/media/download/{id}"));
            Ok(sent(b"file", sha256(b"file")))
        },
    );
    assert_eq!(world.fetch(b"file").await.unwrap(), b"file");
    assert_eq!(world.fetch(b"file").await.unwrap(), b"file");
    assert_eq!((world.asked(), world.files().len()), (1, 1));
    // It is not one of our users' files, so no other server gets it from us.
    let id = media_id(&sha256(b"file"));
    assert!(not_found(world.service.media(&server("h"), &id).await));
    assert!(not_found(world.service.media_for_peer(&server("t"), &id).await));
    // Until one of them has it, too; the bytes are there once.
    world.upload("alice", b"file").await.unwrap();
    assert!(world.service.media_for_peer(&server("t"), &id).await.is_ok());
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn those_who_ask_at_once_wait_for_one_fetch() {
    let world = World::with(|_| {}, |_| Ok(sent(b"file", sha256(b"file"))));
    let (one, two) = join(world.fetch(b"file"), world.fetch(b"file")).await;
    assert_eq!((one.unwrap(), two.unwrap()), (b"file".to_vec(), b"file".to_vec()));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_file_that_is_lost_from_the_disk_is_fetched_again() {
    let world = World::with(|_| {}, |_| Ok(sent(b"file", sha256(b"file"))));
    world.fetch(b"file").await.unwrap();
    let own = world.upload("alice", b"own").await.unwrap().media_id;
    for file in world.files() {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(world.fetch(b"file").await.unwrap(), b"file");
    assert_eq!(world.asked(), 2);
    assert!(not_found(world.service.media(&server("h"), &own).await));
    // Uploaded again it is there again.
    world.upload("alice", b"own").await.unwrap();
    assert!(world.service.media(&server("h"), &own).await.is_ok());
}

#[tokio::test]
async fn a_file_with_a_wrong_hash_is_refused_and_not_kept() {
    // The bytes are not what the digest says; the digest is not what the name says.
    let answers: [fn() -> PeerStream; 2] = [|| sent(b"other", sha256(b"file")), || sent(b"other", sha256(b"other"))];
    for answer in answers {
        let world = World::with(|_| {}, move |_| Ok(answer()));
        assert_eq!(
            what(world.fetch(b"file").await),
            "the file is not the one that it should be"
        );
        assert!(world.files().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_digests_may_name_its_files_as_it_likes() {
    let world = World::with(|_| {}, |_| Ok(sent_without_digest("something")));
    // The ID happens to have the form of ours.
    assert_eq!(world.fetch(b"file").await.unwrap(), b"something");
    let id = MediaId::parse("aBcDeFgHiJkLmNoPqRsTuVwX").unwrap();
    let content = world.service.media(&server("p"), &id).await.unwrap();
    assert_eq!(read(content).await, b"something");
    assert_eq!(world.files().len(), 1, "the same bytes");
}

#[tokio::test]
async fn what_is_no_answer_with_a_file_is_refused() {
    type Answer = fn() -> PeerStream;
    let answers: [(Answer, &str); 4] = [
        (
            || stream_of("application/json", vec!["{}".into()]),
            "it is no multipart/mixed with a boundary",
        ),
        (
            || stream_of("multipart/mixed; boundary=b", vec!["--b--".into()]),
            "there is no file in it",
        ),
        (
            || {
                stream_of(
                    "multipart/mixed; boundary=b",
                    vec!["--b\r\n\r\n{}\r\n--b\r\n\r\nhal".into()],
                )
            },
            "it broke off",
        ),
        (
            || {
                let body = "--b\r\n\r\n{}\r\n--b\r\nLocation: https://10.0.0.1/\r\n\r\n\r\n--b--";
                stream_of("multipart/mixed; boundary=b", vec![body.into()])
            },
            "the file is not in it but elsewhere",
        ),
    ];
    for (answer, reason) in answers {
        let world = World::with(|_| {}, move |_| Ok(answer()));
        assert_eq!(what(world.fetch(b"file").await), reason);
        assert!(world.files().is_empty());
    }
    for (status, is_missing) in [(404, true), (429, false), (500, false)] {
        let world = World::with(
            |_| {},
            move |_| {
                Ok(PeerStream {
                    status,
                    ..stream_of("application/json", vec!["{}".into()])
                })
            },
        );
        let refused = world.fetch(b"file").await;
        assert_eq!(not_found(refused), is_missing, "{status}");
    }
}

#[tokio::test]
async fn a_peers_file_over_the_limit_is_cut_off() {
    let endless = |_: &PeerRequest| {
        let head = Bytes::from_static(b"--b\r\n\r\n{}\r\n--b\r\n\r\n");
        let pieces = stream::iter([Ok(head)]).chain(stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 100]))));
        Ok(PeerStream {
            body: Box::pin(pieces),
            ..stream_of("multipart/mixed; boundary=b", vec![])
        })
    };
    let world = World::with(|_| {}, endless);
    let refused = world.fetch(b"file").await.unwrap_err();
    let ServiceError::PeerFailed { error, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(*error, PeerError::TooLarge { limit: 1_000 });
    assert!(world.files().is_empty());
}

/// What a server sends that says how its file begins, and then so many bytes, each after so long.
fn slow_file(clock: &ManualClock, bytes: usize, pause: Duration) -> Answer {
    let clock = clock.clone();
    let head = Bytes::from_static(b"--b\r\n\r\n{}\r\n--b\r\n\r\n");
    let slowly = stream::repeat_with(move || {
        clock.advance(pause);
        Ok(Bytes::from_static(b"x"))
    });
    let end = Bytes::from_static(b"\r\n--b--\r\n");
    let pieces = stream::iter([Ok(head)])
        .chain(slowly.take(bytes))
        .chain(stream::iter([Ok(end)]));
    Ok(PeerStream {
        body: Box::pin(pieces),
        ..stream_of("multipart/mixed; boundary=b", vec![])
    })
}

fn given_up(fetched: Result<Vec<u8>, ServiceError>) {
    let Err(ServiceError::PeerFailed { error, .. }) = &fetched else {
        panic!("{fetched:?}")
    };
    assert_eq!(*error, PeerError::Timeout);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let time = clock.clone();
    let silent = move |_: &PeerRequest| {
        let time = time.clone();
        let nothing = stream::poll_fn(move |_| {
            time.advance(Duration::from_millis(10));
            std::task::Poll::Pending
        });
        let pieces = stream::iter([Ok(Bytes::from_static(b"--b\r\n"))]).chain(nothing);
        Ok(PeerStream {
            body: Box::pin(pieces),
            ..stream_of("multipart/mixed; boundary=b", vec![])
        })
    };
    let world = World::by(clock, |_| {}, silent);
    given_up(world.fetch(b"file").await);
    assert!(world.files().is_empty());
}

/// Never silent for long, and never done.
#[tokio::test]
async fn a_peer_that_trickles_is_given_up() {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let time = clock.clone();
    let trickling = move |_: &PeerRequest| slow_file(&time, 100, Duration::from_millis(1));
    let world = World::by(clock, |_| {}, trickling);
    given_up(world.fetch(&[b'x'; 100]).await);
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn a_slow_peer_that_is_fast_enough_is_waited_for() {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let (begun, time) = (clock.now(), clock.clone());
    let slow = move |_: &PeerRequest| slow_file(&time, 100, Duration::from_millis(40));
    let world = World::by(clock, |settings| settings.media.fetch_bytes_per_second = 20, slow);
    assert_eq!(world.fetch(&[b'x'; 100]).await.unwrap(), [b'x'; 100]);
    let took = world.clock.now().saturating_since(begun);
    assert!(took >= Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn the_oldest_files_of_other_servers_make_room() {
    let file = |n: u8| vec![n; 1_000];
    let world = World::with(
        |_| {},
        move |request| {
            let named = |n: &u8| request.stable.ends_with(media_id(&sha256(&file(*n))).as_str());
            let n = (1..=9).find(named).unwrap();
            Ok(sent(&file(n), sha256(&file(n))))
        },
    );
    world.upload("alice", &file(9)).await.unwrap();
    for n in [1, 2, 3] {
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.fetch(&file(n)).await.unwrap(), file(n));
    }
    assert_eq!(world.files().len(), 3, "the upload and the last two");
    assert_eq!(world.asked(), 3);
    world.fetch(&file(2)).await.unwrap();
    world.fetch(&file(3)).await.unwrap();
    assert_eq!(world.asked(), 3);
    world.fetch(&file(1)).await.unwrap();
    assert_eq!((world.asked(), world.files().len()), (4, 3));
    assert!(
        world
            .service
            .media(&server("h"), &media_id(&sha256(&file(9))))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_a_server_fetches_has_a_rate() {
    let limit = RateLimit {
        per_second: 1.0,
        burst: 2.0,
    };
    let world = World::with(
        |settings| settings.limits.media_kib = limit,
        |_| Err(PeerError::Unreachable),
    );
    let id = world.upload("alice", &[b'x'; 1_000]).await.unwrap().media_id;
    for _ in 0..2 {
        let (envelope, content) = world.service.media_for_peer(&server("p"), &id).await.unwrap();
        assert!(envelope.content_type.starts_with("multipart/mixed; boundary="));
        assert_eq!(content.size(), 1_000);
    }
    let refused = world.service.media_for_peer(&server("p"), &id).await.map(|_| ());
    assert!(matches!(refused, Err(ServiceError::LimitExceeded { .. })));
    assert!(world.service.media_for_peer(&server("t"), &id).await.is_ok());
}

#[tokio::test]
async fn an_excluded_server_is_neither_asked_nor_served() {
    let deny = |settings: &mut Settings| settings.policy.deny = vec!["p.example".parse().unwrap()];
    let world = World::with(deny, |_| Ok(sent(b"file", sha256(b"file"))));
    let id = world.upload("alice", b"own").await.unwrap().media_id;
    let refused = world.service.media_for_peer(&server("p"), &id).await.map(|_| ());
    assert!(matches!(refused, Err(ServiceError::PolicyRefused { .. })));
    assert!(matches!(
        world.fetch(b"file").await,
        Err(ServiceError::PolicyRefused { .. })
    ));
    assert_eq!(world.asked(), 0);
}
