//! Downloads for other providers (MIMI #download-using-a-hub-proxy, MIMI #download-using-oblivious-http), so that whoever stores a
//! file does not learn who reads it. We fetch from hosts where peers of ours store their users' files and from nowhere else: this is
//! no open proxy. What comes is handed on piece by piece, as fast as the reader takes it, and kept nowhere.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use nabe_types::{ServerName, ServerPattern};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Mimi, MimiError};
use crate::metric;
use crate::ports::assets::AssetUrl;
use crate::ports::{Clock, PeerBody, PeerError, Sleep};

/// What we download for other providers.
#[derive(Clone, Debug)]
pub struct AssetSettings {
    /// The hosts where peers store their users' files: exact names, or `*.` and what all of them end with.
    pub hosts: Vec<ServerPattern>,
    /// Most bytes of one file.
    pub max_bytes: usize,
    /// Longest wait for an answer to begin, and for each of its pieces.
    pub timeout: Duration,
    /// Downloads at once, over all providers.
    pub at_once: usize,
}

impl Default for AssetSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            max_bytes: 256 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            at_once: 64,
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

/// The downloads under way.
pub(super) struct Downloads {
    free: Arc<Semaphore>,
}

impl Downloads {
    pub(super) fn new(settings: &AssetSettings) -> Self {
        Self {
            free: Arc::new(Semaphore::new(settings.at_once)),
        }
    }
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
        let assets = self.state.assets.as_ref().ok_or(MimiError::Forbidden(NO_DOWNLOADS))?;
        let url = AssetUrl::parse(url).ok_or(MimiError::Forbidden("not the https URL of a file"))?;
        if !self.stores_files(url.host()) {
            return Err(MimiError::Forbidden("no peer stores files on this host"));
        }
        let free = Arc::clone(&self.state.downloads.free);
        let turn = free.try_acquire_owned().map_err(|_| MimiError::LimitExceeded {
            retry_after: WHEN_ALL_ARE_TAKEN,
        })?;
        let settings = &self.settings().assets;
        let host = url.host().clone();
        let answer = assets.get(&url, settings.timeout).await;
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
            200 => Ok(Asset {
                content_type: answer.content_type,
                body: Box::pin(Bounded {
                    body: answer.body,
                    left: settings.max_bytes,
                    patience: self.service.clock().sleep(settings.timeout),
                    clock: Arc::clone(&self.service.inner.clock),
                    settings: settings.clone(),
                    _turn: turn,
                }),
            }),
            404 | 410 => Err(MimiError::Unknown("file")),
            _ => Err(MimiError::BadAnswer {
                provider: host,
                what: "the server that stores the file does not give it out",
            }),
        }
    }

    fn stores_files(&self, host: &ServerName) -> bool {
        self.settings().assets.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// A body that has an end, and does not keep anybody waiting.
struct Bounded {
    body: PeerBody,
    left: usize,
    /// Ends when the next piece takes too long.
    patience: Sleep,
    clock: Arc<dyn Clock>,
    settings: AssetSettings,
    _turn: OwnedSemaphorePermit,
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

const NO_DOWNLOADS: &str = "no files are downloaded here";
const WHEN_ALL_ARE_TAKEN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
