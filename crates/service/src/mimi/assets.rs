//! Downloads for other providers (MIMI #download-using-a-hub-proxy, MIMI #download-using-oblivious-http), so that whoever stores a
//! file does not learn who reads it. We fetch from hosts where peers of ours store their users' files and from nowhere else: this is
//! no open proxy. What comes is handed on piece by piece, as fast as the reader takes it, and kept nowhere.
//!
//! And downloads for our own users, through the hub of the room that the file was sent to; and the files of our own users, which lie
//! where those of Linearized Matrix do. A file of MIMI has a URL by which anybody may have it: who stores files is not to learn who reads
//! them, so nobody is asked. Only its message names that URL, and only the uploader is told it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use nabe_signing::{base64u, sha256};
use nabe_types::{MediaId, ServerName, ServerPattern};
use nabe_wire::directory::Endpoint;
use nabe_wire::label::Signer;
use nabe_wire::uri::MimiUri;

use super::{Mimi, MimiError};
use crate::media::MediaContent;
use crate::metric;
use crate::ports::assets::AssetUrl;
use crate::ports::mimi::MimiRequest;
use crate::ports::{Clock, PeerBody, PeerError, PeerStream, Sleep};
use crate::shares::Share;
use crate::{Missing, ServiceError};

/// What we download for other providers.
#[derive(Clone, Debug)]
pub struct AssetSettings {
    /// The hosts where peers store their users' files: exact names, or `*.` and what all of them end with.
    pub hosts: Vec<ServerPattern>,
    /// Most bytes of one file.
    pub max_bytes: usize,
    /// Longest wait for an answer to begin, and for each of its pieces.
    pub timeout: Duration,
    /// Downloads at once, over all providers and users.
    pub at_once: usize,
    /// Of those, for one of our users.
    pub of_user: usize,
    /// Of those, for another provider.
    pub of_provider: usize,
}

impl Default for AssetSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            max_bytes: 256 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            at_once: 64,
            of_user: 4,
            of_provider: 32,
        }
    }
}

/// A file on its way from where it is stored.
pub struct Asset {
    /// What kind of file its server says that it is, if that is text.
    pub content_type: Option<String>,
    /// The file in pieces. One that turns out to be too large ends in [`PeerError::TooLarge`].
    pub body: PeerBody,
}

/// For whom a file is fetched.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Reader {
    /// Another provider, which does not say for whom.
    Provider(ServerName),
    /// One of our users.
    User(MimiUri),
}

impl Mimi {
    /// A file for a user of `from`, who is not told to whoever stores it.
    ///
    /// # Errors
    ///
    /// [`MimiError::Forbidden`] for a URL that is none of an asset, or of a host where no peer of ours stores files;
    /// [`MimiError::Unknown`] if there is no such file; [`MimiError::LimitExceeded`]; [`MimiError::PeerFailed`] and
    /// [`MimiError::BadAnswer`] for what its server does.
    pub async fn download(&self, from: &ServerName, url: &str) -> Result<Asset, MimiError> {
        self.service.limit_peer(from, "proxy_download")?;
        let url = AssetUrl::parse(url).ok_or(MimiError::Forbidden("not the https URL of a file"))?;
        if url.host() == self.domain() {
            return Ok(self.own_asset(url.path()).await?.into());
        }
        self.fetch_asset(&Reader::Provider(from.clone()), &url).await
    }

    /// A file for a local user, who is not told to whoever stores it: as [`download`](Self::download), whatever room it is of.
    ///
    /// # Errors
    ///
    /// As for another provider.
    pub async fn download_for(&self, user: &MimiUri, url: &str) -> Result<Asset, MimiError> {
        let url = AssetUrl::parse(url).ok_or(MimiError::Forbidden("not the https URL of a file"))?;
        if url.host() == self.domain() {
            return Ok(self.own_asset(url.path()).await?.into());
        }
        self.fetch_asset(&Reader::User(user.clone()), &url).await
    }

    /// What another provider stores.
    async fn fetch_asset(&self, reader: &Reader, url: &AssetUrl) -> Result<Asset, MimiError> {
        let assets = self.state.assets.as_ref().ok_or(MimiError::Forbidden(NO_DOWNLOADS))?;
        if !self.stores_files(url.host()) {
            return Err(MimiError::Forbidden("no peer stores files on this host"));
        }
        let turn = self.download_turn(reader)?;
        let host = url.host().clone();
        let answer = assets.get(url, self.settings().assets.timeout).await;
        let outcome = match &answer {
            Ok(answer) if answer.status == 200 => "fetched",
            Ok(_) => "refused",
            Err(error) => error.label(),
        };
        metrics::counter!(metric::ASSET_DOWNLOADS, "outcome" => outcome).increment(1);
        let answer = match answer {
            // Addresses inside our own network are no peer's, whatever the name says.
            Err(PeerError::AddressRefused) => return Err(MimiError::Forbidden("no peer stores files on this host")),
            Err(error) => {
                return Err(MimiError::PeerFailed {
                    provider: host,
                    error: error.into(),
                });
            }
            Ok(answer) => answer,
        };
        match answer.status {
            200 => Ok(self.bounded(answer, turn)),
            404 | 410 => Err(MimiError::Unknown("file")),
            _ => Err(MimiError::BadAnswer {
                provider: host,
                what: "the server that stores the file does not give it out",
            }),
        }
    }

    /// A file in a message of a room, for a local user who may read it: through the room's hub, which does not learn for whom.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for a room that the user may not read, and for a file that is not there; [`MimiError::Invalid`] for a URL that
    /// is none of a file; [`MimiError::Forbidden`] if the hub does not fetch from its host; [`MimiError::LimitExceeded`];
    /// [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] for what others do.
    pub async fn asset_for(&self, user: &MimiUri, room: &MimiUri, url: &str) -> Result<Asset, MimiError> {
        let readable = self.service.store().readable_room(user, room).await?;
        if readable.is_none() {
            return Err(MimiError::Unknown("room"));
        }
        let parsed = AssetUrl::parse(url).ok_or(MimiError::Invalid {
            field: "url",
            rule: "must be the https URL of a file",
        })?;
        if parsed.host() == self.domain() {
            return Ok(self.own_asset(parsed.path()).await?.into());
        }
        let hub = ServerName::parse(room.host()).map_err(|_| MimiError::Unknown("room"))?;
        let reader = Reader::User(user.clone());
        if hub == *self.domain() {
            return self.fetch_asset(&reader, &parsed).await;
        }
        let turn = self.download_turn(&reader)?;
        let request = MimiRequest {
            endpoint: Endpoint::ProxyDownload,
            target: url.to_owned(),
            body: Bytes::new(),
            timeout: self.settings().assets.timeout,
            max_response_bytes: 0,
        };
        let answer = self.state.peers.open(&hub, request).await;
        let outcome = match &answer {
            Ok(answer) if answer.status == 200 => "fetched",
            Ok(_) => "refused",
            Err(error) => error.label(),
        };
        metrics::counter!(metric::ASSET_DOWNLOADS, "outcome" => outcome).increment(1);
        let answer = answer.map_err(|error| MimiError::PeerFailed {
            provider: hub.clone(),
            error,
        })?;
        match answer.status {
            200 => Ok(self.bounded(answer, turn)),
            404 | 410 => Err(MimiError::Unknown("file")),
            403 => Err(MimiError::Forbidden("the room's hub does not fetch from this host")),
            _ => Err(MimiError::BadAnswer {
                provider: hub,
                what: "the room's hub does not fetch the file",
            }),
        }
    }

    /// Where a file lies that a local user has uploaded, for its message.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] if we have no key to make such URLs by.
    pub fn asset_url(&self, media_id: &MediaId) -> Result<String, MimiError> {
        let token = self.asset_token(media_id.as_str())?;
        Ok(format!("https://{}{ASSETS}/{media_id}/{token}", self.domain()))
    }

    /// A file of one of our users, by the path in its URL.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] if there is none, or none of MIMI.
    pub async fn own_asset(&self, path: &str) -> Result<MediaContent, MimiError> {
        let unknown = || MimiError::Unknown("file");
        let below = path.strip_prefix(ASSETS).and_then(|below| below.strip_prefix('/'));
        let (media_id, token) = below.and_then(|below| below.split_once('/')).ok_or_else(unknown)?;
        // A file's name is a hash as well: whoever could guess the one byte by byte would have to know the other.
        if self.asset_token(media_id)? != token {
            return Err(unknown());
        }
        let media_id = MediaId::parse(media_id).map_err(|_| unknown())?;
        match self.service.media(self.service.server_name(), &media_id).await {
            Err(ServiceError::NotFound(Missing::Media)) => Err(unknown()),
            content => Ok(content?),
        }
    }

    fn asset_token(&self, media_id: &str) -> Result<String, MimiError> {
        let secret = self.state.asset_secret.ok_or(MimiError::Unknown("file"))?;
        Ok(token_of(&secret, media_id))
    }

    pub(super) fn download_turn(&self, reader: &Reader) -> Result<Share<Reader>, MimiError> {
        let settings = &self.settings().assets;
        let share = match reader {
            Reader::Provider(_) => settings.of_provider,
            Reader::User(_) => settings.of_user,
        };
        let turn = self.state.downloads.take(reader, share, settings.at_once);
        turn.ok_or(MimiError::LimitExceeded {
            retry_after: WHEN_ALL_ARE_TAKEN,
        })
    }

    pub(super) fn bounded(&self, answer: PeerStream, turn: Share<Reader>) -> Asset {
        let settings = &self.settings().assets;
        Asset {
            content_type: answer.content_type,
            body: Box::pin(Bounded {
                body: answer.body,
                left: settings.max_bytes,
                patience: self.service.clock().sleep(settings.timeout),
                clock: Arc::clone(&self.service.inner.clock),
                settings: settings.clone(),
                _turn: turn,
            }),
        }
    }

    fn stores_files(&self, host: &ServerName) -> bool {
        self.settings().assets.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// One of our own files.
impl From<MediaContent> for Asset {
    fn from(content: MediaContent) -> Self {
        Self {
            content_type: None,
            body: Box::pin(content.into_stream().map_err(|_| PeerError::Unreachable)),
        }
    }
}

/// What the URLs of files are made with: known to whoever has the hub's key. Ed25519 signs the same the same way each time.
pub(super) fn secret_of(signer: &(dyn Signer + Send + Sync)) -> Option<[u8; 32]> {
    let signature = signer.sign(SECRET_OF_URLS).ok()?;
    Some(sha256(&signature))
}

/// One segment of a path.
fn token_of(secret: &[u8], media_id: &str) -> String {
    let hash = sha256(&[secret, media_id.as_bytes()].concat());
    base64u::encode_url(&hash[..TOKEN_BYTES])
}

/// A body that has an end, and does not keep anybody waiting.
struct Bounded {
    body: PeerBody,
    left: usize,
    /// Ends when the next piece takes too long.
    patience: Sleep,
    clock: Arc<dyn Clock>,
    settings: AssetSettings,
    _turn: Share<Reader>,
}

impl Stream for Bounded {
    type Item = Result<Bytes, PeerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(piece) = self.body.as_mut().poll_next(cx) else {
            return self.patience.as_mut().poll(cx).map(|()| Some(Err(PeerError::Timeout)));
        };
        let Some(Ok(piece)) = piece else {
            return Poll::Ready(piece);
        };
        let Some(left) = self.left.checked_sub(piece.len()) else {
            let limit = self.settings.max_bytes;
            return Poll::Ready(Some(Err(PeerError::TooLarge { limit })));
        };
        self.left = left;
        self.patience = self.clock.sleep(self.settings.timeout);
        Poll::Ready(Some(Ok(piece)))
    }
}

/// What the paths of our users' files begin with.
pub const ASSETS: &str = "/_nabe/mimi/assets";
/// Nothing of MLS is signed that begins so: there a length would say more than comes.
const SECRET_OF_URLS: &[u8] = b"Nabe: URLs of files";
const TOKEN_BYTES: usize = 16;
const NO_DOWNLOADS: &str = "no files are downloaded here";
const WHEN_ALL_ARE_TAKEN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
