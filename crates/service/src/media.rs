//! Files that users send (LM #content-repository, decision T37): taken in from our users, handed out to them and to other servers, and
//! fetched from other servers. Clients seal them before they come here, so a file is bytes without a meaning.
//!
//! A file's ID is the hash of its bytes, so the same bytes are kept once, whoever sends them. Other servers' files are kept in the same
//! folder for as long as there is room. Nothing is ever in memory whole: a file goes from the wire to the disk and back in pieces.

mod folder;
mod multipart;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt as _};
use nabe_signing::base64u;
use nabe_store::rules::UPLOAD_DAY;
use nabe_store::{StoreError, Write};
use nabe_types::{MediaId, ServerName, UserId};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

pub use folder::MediaFolder;
pub use multipart::Envelope;

use crate::error::Missing;
use crate::ports::{Clock, PeerBody, PeerError, PeerRequest, Sleep};
use crate::settings::MediaSettings;
use crate::shares::{Share, Shares};
use crate::{Service, ServiceError, metric};
use folder::Incoming;
use multipart::{MultipartError, PartReader};

/// A file that was taken in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uploaded {
    /// Its ID at this server: SHA-256 of its bytes in URL-safe base64.
    pub media_id: MediaId,
    /// How many bytes it has.
    pub size: u64,
}

/// A file to be read.
#[derive(Debug)]
pub struct MediaContent {
    hash: [u8; 32],
    size: u64,
    file: File,
}

impl MediaContent {
    /// How many bytes it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its bytes in pieces of at most [`PIECE_BYTES`](Self::PIECE_BYTES).
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        stream::try_unfold(self.file, |mut file| async {
            let mut piece = BytesMut::with_capacity(Self::PIECE_BYTES);
            file.read_buf(&mut piece).await?;
            Ok((!piece.is_empty()).then(|| (piece.freeze(), file)))
        })
    }

    /// Bytes of a piece.
    pub const PIECE_BYTES: usize = 64 * 1024;
}

/// A file that a local user is sending. Dropped before [`finish`](Self::finish), it leaves nothing.
pub struct Upload {
    service: Service,
    user: UserId,
    incoming: Incoming,
    _turn: Share<UserId>,
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`ServiceError::MediaTooLarge`], [`ServiceError::Disk`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        let size = self.incoming.size().saturating_add(bytes.len() as u64);
        self.service.check_media_size(size)?;
        Ok(self.incoming.write(bytes).await?)
    }

    /// Keeps the file, durably.
    ///
    /// # Errors
    ///
    /// [`ServiceError::OverQuota`], [`ServiceError::Disk`], the store's own.
    pub async fn finish(self) -> Result<Uploaded, ServiceError> {
        // Whoever hangs up now leaves it whole all the same.
        let kept = tokio::spawn(self.keep());
        kept.await.map_err(|_| ServiceError::ShuttingDown)?
    }

    async fn keep(mut self) -> Result<Uploaded, ServiceError> {
        let hash = self.incoming.seal().await?;
        let (size, settings) = (self.incoming.size(), &self.service.settings().media);
        let write = Write::PutUpload {
            user: self.user.clone(),
            hash,
            size,
            now: self.service.now(),
            limits: settings.user,
        };
        let service = self.service.clone();
        match service.place(self.incoming, hash, write).await {
            Err(ServiceError::Store(error)) if matches!(*error, StoreError::OverQuota { .. }) => {
                // Says which quota it is.
                service.check_quota(&self.user, size).await?;
                Err(ServiceError::Store(error))
            }
            placed => placed,
        }?;
        metrics::counter!(metric::MEDIA_STORED, "whose" => "own").increment(1);
        let media_id = media_id(&hash);
        Ok(Uploaded { media_id, size })
    }
}

/// What is going on with files.
#[derive(Default)]
pub(crate) struct MediaState {
    /// Held while a file gets its place or loses it, together with its row.
    placing: tokio::sync::Mutex<()>,
    uploads: Shares<UserId>,
    /// Whoever asks for a file that is being fetched waits for it.
    fetches: Mutex<BTreeMap<(ServerName, MediaId), Turn>>,
}

/// Whoever has it fetches; the others wait.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl MediaState {
    fn upload_turn(&self, user: &UserId) -> Result<Share<UserId>, ServiceError> {
        let turn = self.uploads.take(user, UPLOADS_OF_USER, UPLOADS);
        turn.ok_or(ServiceError::LimitExceeded { retry_after: SOON })
    }

    fn fetch_turn(&self, server: &ServerName, id: &MediaId) -> Result<Turn, ServiceError> {
        let mut fetches = locked(&self.fetches);
        fetches.retain(|_, turn| Arc::strong_count(turn) > 1);
        let key = (server.clone(), id.clone());
        if let Some(turn) = fetches.get(&key) {
            return Ok(Arc::clone(turn));
        }
        let of_server = fetches.keys().filter(|(of, _)| of == server).count();
        if of_server >= FETCHES_FROM_SERVER || fetches.len() >= FETCHES {
            return Err(ServiceError::LimitExceeded { retry_after: SOON });
        }
        Ok(Arc::clone(fetches.entry(key).or_default()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds the lock can leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Begins to take in a file of a local user. `announced` is how many bytes it will have, if that was said.
    ///
    /// # Errors
    ///
    /// [`ServiceError::MediaTooLarge`], [`ServiceError::OverQuota`]; [`ServiceError::LimitExceeded`] while too many uploads are going on;
    /// [`ServiceError::NotFound`] where no files are kept.
    pub async fn begin_upload(&self, user: &UserId, announced: Option<u64>) -> Result<Upload, ServiceError> {
        let folder = self.media_folder()?;
        self.check_media_size(announced.unwrap_or(0))?;
        self.check_quota(user, announced.unwrap_or(1)).await?;
        let turn = self.inner.media.upload_turn(user)?;
        Ok(Upload {
            incoming: folder.begin(&self.new_txn_id()).await?,
            service: self.clone(),
            user: user.clone(),
            _turn: turn,
        })
    }

    /// A file for a local user: ours, one that is kept of another server, or one that is fetched there now.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::PolicyRefused`], [`ServiceError::PeerFailed`], [`ServiceError::BadAnswer`];
    /// [`ServiceError::LimitExceeded`] while too many files are being fetched.
    pub async fn media(&self, server: &ServerName, media_id: &MediaId) -> Result<MediaContent, ServiceError> {
        if self.is_us(server) {
            return self.own_media(media_id).await;
        }
        self.check_policy(server)?;
        self.media_folder()?;
        if let Some(kept) = self.cached_media(server, media_id).await? {
            return Ok(kept);
        }
        let turn = self.inner.media.fetch_turn(server, media_id)?;
        let _turn = turn.lock().await;
        // Whoever had the turn before has fetched it, perhaps.
        if let Some(kept) = self.cached_media(server, media_id).await? {
            return Ok(kept);
        }
        let fetched = self.fetch_media(server, media_id).await;
        let outcome = match &fetched {
            Ok(_) => "fetched",
            Err(ServiceError::PeerFailed { error, .. }) => error.label(),
            Err(ServiceError::BadAnswer { .. }) => "bad_answer",
            Err(ServiceError::NotFound(_)) => "not_found",
            Err(_) => "failed",
        };
        metrics::counter!(metric::MEDIA_FETCHES, "outcome" => outcome).increment(1);
        fetched
    }

    /// A file of one of our users for another server, and what stands around it on the way.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`]; [`ServiceError::LimitExceeded`] for a server that fetches too much.
    pub async fn media_for_peer(
        &self,
        origin: &ServerName,
        media_id: &MediaId,
    ) -> Result<(Envelope, MediaContent), ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, "media")?;
        let content = self.own_media(media_id).await?;
        self.limit_media_bytes(origin, content.size)?;
        let envelope = Envelope::new(&self.new_boundary(), &content.hash);
        Ok((envelope, content))
    }

    /// A local user wants a file of theirs no more. It goes with the last user who uploaded it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] if the user has not uploaded it.
    pub async fn remove_upload(&self, user: &UserId, media_id: &MediaId) -> Result<(), ServiceError> {
        let missing = ServiceError::NotFound(Missing::Media);
        let folder = self.media_folder()?;
        let hash = hash_of(media_id).ok_or_else(|| missing.clone())?;
        let _placing = self.inner.media.placing.lock().await;
        if !self.store().has_uploaded(user, &hash).await? {
            return Err(missing);
        }
        let file = self.store().media_file(&hash).await?;
        if file.is_some_and(|file| file.uploaders == 1) {
            folder.remove(&hash).await?;
        }
        let write = Write::RemoveUpload {
            user: user.clone(),
            hash,
        };
        self.commit(write.into()).await
    }

    async fn own_media(&self, media_id: &MediaId) -> Result<MediaContent, ServiceError> {
        let missing = ServiceError::NotFound(Missing::Media);
        let hash = hash_of(media_id).ok_or_else(|| missing.clone())?;
        // What we keep of other servers is for our users only.
        match self.store().media_file(&hash).await? {
            Some(file) if file.uploaders > 0 => self.read_media(hash, file.size).await?.ok_or(missing),
            _ => Err(missing),
        }
    }

    async fn cached_media(
        &self,
        server: &ServerName,
        media_id: &MediaId,
    ) -> Result<Option<MediaContent>, ServiceError> {
        match self.store().cached_media(server, media_id).await? {
            Some(file) => self.read_media(file.hash, file.size).await,
            None => Ok(None),
        }
    }

    async fn read_media(&self, hash: [u8; 32], size: u64) -> Result<Option<MediaContent>, ServiceError> {
        let Some((file, found)) = self.media_folder()?.read(&hash).await? else {
            return Ok(None);
        };
        if found != size {
            tracing::error!(file = %media_id(&hash), size, found, "a file has changed on the disk");
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        Ok(Some(MediaContent { hash, size, file }))
    }

    async fn fetch_media(&self, server: &ServerName, id: &MediaId) -> Result<MediaContent, ServiceError> {
        let failed = |error| ServiceError::PeerFailed {
            server: server.clone(),
            error,
        };
        let bad = |what| ServiceError::BadAnswer {
            server: server.clone(),
            what,
        };
        let unreadable = |error: MultipartError| bad(error.what());
        let settings = &self.settings().media;
        let path = format!("/_matrix/federation/v1/media/download/{id}");
        let request = PeerRequest::get(path, self.settings().delivery.question_timeout);
        let answer = self.peers().open(server, request).await.map_err(failed)?;
        match answer.status {
            200 => {}
            404 => return Err(ServiceError::NotFound(Missing::Media)),
            status => return Err(failed(PeerError::Status { status })),
        }
        let mut parts = PartReader::new(answer.content_type.as_deref().unwrap_or_default()).map_err(unreadable)?;
        let mut body = Timely::new(answer.body, Arc::clone(&self.inner.clock), settings);
        let mut incoming = self.media_folder()?.begin(&self.new_txn_id()).await?;
        while !parts.is_done() {
            let piece = body.next().await.map_err(failed)?;
            let piece = piece.ok_or_else(|| bad("it broke off"))?;
            let data = parts.feed(&piece).map_err(unreadable)?;
            if incoming.size().saturating_add(data.len() as u64) > settings.max_bytes {
                let limit = usize::try_from(settings.max_bytes).unwrap_or(usize::MAX);
                return Err(failed(PeerError::TooLarge { limit }));
            }
            incoming.write(&data).await?;
        }
        let hash = incoming.seal().await?;
        // A server that gives digests names its files by them. Of others, the IDs say nothing.
        if let Some(digest) = parts.digest()
            && (digest != hash || hash_of(id).is_some_and(|named| named != hash))
        {
            return Err(bad("the file is not the one that it should be"));
        }
        let size = incoming.size();
        let write = Write::PutCachedMedia {
            server: server.clone(),
            media_id: id.clone(),
            hash,
            size,
            now: self.now(),
        };
        let service = self.clone();
        let placed = tokio::spawn(async move { service.place_cached(incoming, hash, size, write).await });
        placed.await.map_err(|_| ServiceError::ShuttingDown)??;
        metrics::counter!(metric::MEDIA_STORED, "whose" => "others").increment(1);
        let kept = self.read_media(hash, size).await?;
        kept.ok_or(ServiceError::NotFound(Missing::Media))
    }

    /// The row first, then the file: see [`folder`].
    async fn place(&self, incoming: Incoming, hash: [u8; 32], write: Write) -> Result<(), ServiceError> {
        let _placing = self.inner.media.placing.lock().await;
        self.commit(write.into()).await?;
        Ok(self.media_folder()?.place(incoming, hash).await?)
    }

    /// As [`place`](Self::place), after the oldest files of other servers have made room.
    async fn place_cached(
        &self,
        incoming: Incoming,
        hash: [u8; 32],
        size: u64,
        write: Write,
    ) -> Result<(), ServiceError> {
        let _placing = self.inner.media.placing.lock().await;
        let folder = self.media_folder()?;
        let left = self.settings().media.cache_bytes.saturating_sub(size);
        for file in self.store().media_beyond(left).await? {
            folder.remove(&file.hash).await?;
            self.commit(Write::ForgetMedia { hash: file.hash }.into()).await?;
        }
        self.commit(write.into()).await?;
        Ok(folder.place(incoming, hash).await?)
    }

    fn media_folder(&self) -> Result<&MediaFolder, ServiceError> {
        let folder = self.settings().media.folder.as_ref();
        folder.ok_or(ServiceError::NotFound(Missing::Media))
    }

    fn check_media_size(&self, size: u64) -> Result<(), ServiceError> {
        let limit = self.settings().media.max_bytes;
        match size <= limit {
            true => Ok(()),
            false => Err(ServiceError::MediaTooLarge { limit }),
        }
    }

    /// Whether the user may keep so many bytes more.
    async fn check_quota(&self, user: &UserId, more: u64) -> Result<(), ServiceError> {
        let (limits, now) = (self.settings().media.user, self.now());
        let used = self.store().media_use(user, now.minus(UPLOAD_DAY)).await?;
        if used.bytes.saturating_add(more) > limits.bytes {
            return Err(ServiceError::OverQuota {
                limit: limits.bytes,
                retry_after: None,
            });
        }
        if used.recent_bytes.saturating_add(more) > limits.bytes_per_day {
            let free_again = used.first_recent.unwrap_or(now).plus(UPLOAD_DAY);
            return Err(ServiceError::OverQuota {
                limit: limits.bytes_per_day,
                retry_after: Some(free_again.saturating_since(now)),
            });
        }
        Ok(())
    }

    fn new_boundary(&self) -> String {
        self.random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A body that is not waited for endlessly.
struct Timely {
    body: PeerBody,
    clock: Arc<dyn Clock>,
    stall: Duration,
    bytes_per_second: u32,
    received: u64,
    /// Ends when what had come by its beginning has had its time.
    patience: Sleep,
    /// How long that is, from the body's beginning on.
    patient_for: Duration,
}

impl Timely {
    fn new(body: PeerBody, clock: Arc<dyn Clock>, settings: &MediaSettings) -> Self {
        Self {
            patience: clock.sleep(settings.stall),
            patient_for: settings.stall,
            stall: settings.stall,
            bytes_per_second: settings.fetch_bytes_per_second.max(1),
            received: 0,
            body,
            clock,
        }
    }

    /// The next piece: soon, and not much later than a slow connection would have brought it.
    async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        let mut silence = self.clock.sleep(self.stall);
        let piece = loop {
            tokio::select! {
                biased;
                () = &mut self.patience => self.be_patient()?,
                () = &mut silence => return Err(PeerError::Timeout),
                piece = self.body.next() => break piece.transpose()?,
            }
        };
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }

    /// Goes on waiting if more has come since the last time.
    fn be_patient(&mut self) -> Result<(), PeerError> {
        let fair = self.stall + Duration::from_secs(self.received / u64::from(self.bytes_per_second));
        let more = fair.saturating_sub(self.patient_for);
        if more.is_zero() {
            return Err(PeerError::Timeout);
        }
        self.patient_for = fair;
        self.patience = self.clock.sleep(more);
        Ok(())
    }
}

/// The ID of a file of ours.
fn media_id(hash: &[u8; 32]) -> MediaId {
    MediaId::parse(&base64u::encode_url(hash)).expect("the alphabet is that of media IDs")
}

/// The hash in an ID that has the form of ours.
fn hash_of(media_id: &MediaId) -> Option<[u8; 32]> {
    let text = media_id.as_str();
    // 32 bytes; what is longer is not decoded.
    (text.len() == 43).then(|| base64u::decode_url(text).ok()?.try_into().ok())?
}

/// Takes an answer of another server apart, cut into pieces by the first byte: whatever comes, no panic, and no more of the file
/// than came.
pub(crate) fn fuzz_multipart(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let mut reader = PartReader::new("multipart/mixed; boundary=b").expect("a boundary");
    let mut file = 0;
    for piece in data.chunks(usize::from(*size).max(1)) {
        match reader.feed(piece) {
            Ok(data) => file += data.len(),
            Err(_) => return,
        }
    }
    assert!(file <= data.len());
}

/// Uploads at once, over all users and of one.
const UPLOADS: usize = 64;
const UPLOADS_OF_USER: usize = 4;
/// Files fetched at once, over all servers and from one.
const FETCHES: usize = 64;
const FETCHES_FROM_SERVER: usize = 8;
/// When to try again if others have to end first.
const SOON: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
