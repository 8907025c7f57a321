//! [`AssetDownloads`]: files from the web for other providers (MIMI #download-files), the service's port [`Assets`].
//!
//! The transport is one that shows no certificate and guards addresses, such as [`HttpsTransport::direct`](crate::HttpsTransport::direct):
//! the name is resolved for the connection itself, so that it cannot lead elsewhere afterwards.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{Request, Response};
use nabe_service::ports::assets::{AssetUrl, Assets};
use nabe_service::ports::{PeerError, PeerStream};

use crate::discovery::well_known::header;
use crate::mimi::url::HttpsUrl;
use crate::transport::{Transport, TransportBody, TransportError};

/// Downloads by `T`.
pub struct AssetDownloads<T> {
    transport: T,
}

impl<T> AssetDownloads<T> {
    /// The transport has to be one whose destinations are authorities of URLs, and without a certificate of ours.
    #[must_use]
    pub const fn new(transport: T) -> Self {
        Self { transport }
    }
}

impl<T: Transport> AssetDownloads<T> {
    async fn fetch(&self, url: &AssetUrl, timeout: Duration) -> Result<Response<TransportBody>, PeerError> {
        let mut url = HttpsUrl::new(url.host().clone(), url.path()).ok_or(PeerError::InvalidRequest)?;
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::get(url.path().clone())
                .header(ACCEPT, "*/*")
                .body(Bytes::new())
                .map_err(|_| PeerError::InvalidRequest)?;
            let answer = self.transport.open(url.authority(), request, timeout).await;
            let answer = answer.map_err(|error: TransportError| PeerError::from(error))?;
            let next = match answer.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    header(answer.headers(), LOCATION).and_then(|location| url.redirected(location))
                }
                _ => None,
            };
            match next {
                Some(next) if next.authority() == url.authority() => url = next,
                _ => return Ok(answer),
            }
        }
        Err(PeerError::Protocol)
    }
}

#[async_trait]
impl<T: Transport> Assets for AssetDownloads<T> {
    async fn get(&self, url: &AssetUrl, timeout: Duration) -> Result<PeerStream, PeerError> {
        let answer = tokio::time::timeout(timeout, self.fetch(url, timeout))
            .await
            .unwrap_or(Err(PeerError::Timeout))?;
        let (head, body) = answer.into_parts();
        Ok(PeerStream {
            status: head.status.as_u16(),
            content_type: header(&head.headers, CONTENT_TYPE).map(str::to_owned),
            body: Box::pin(body.map_err(PeerError::from)),
        })
    }
}

impl<T> fmt::Debug for AssetDownloads<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssetDownloads").finish_non_exhaustive()
    }
}

const MAX_REDIRECTS: usize = 3;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use futures_util::TryStreamExt as _;
    use nabe_types::ServerName;

    use super::*;

    /// Answers in order, and remembers where it was asked and with which headers.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<Response<Bytes>>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    #[async_trait]
    impl Transport for Script {
        async fn send(
            &self,
            destination: &ServerName,
            request: Request<Bytes>,
            _: Duration,
        ) -> Result<Response<Bytes>, TransportError> {
            let headers: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
            let seen = format!("{destination}{} {}", request.uri(), headers.join(","));
            self.asked.lock().unwrap().push(seen);
            Ok(self.answers.lock().unwrap().pop_front().expect("no answer is left"))
        }
    }

    fn answer(status: u16, location: Option<&str>) -> Response<Bytes> {
        let mut answer = Response::builder().status(status).header(CONTENT_TYPE, "image/png");
        if let Some(location) = location {
            answer = answer.header(LOCATION, location);
        }
        answer.body(Bytes::from_static(b"file")).unwrap()
    }

    async fn get(answers: Vec<Response<Bytes>>) -> (Result<u16, PeerError>, Vec<String>) {
        let script = Script {
            answers: Arc::new(Mutex::new(answers.into())),
            asked: Arc::default(),
        };
        let url = AssetUrl::parse("https://b.example/x?y").unwrap();
        let found = AssetDownloads::new(script.clone())
            .get(&url, Duration::from_secs(5))
            .await;
        let status = match found {
            Ok(found) => {
                let body: Vec<Bytes> = found.body.try_collect().await.unwrap();
                assert_eq!(body.concat(), b"file");
                Ok(found.status)
            }
            Err(error) => Err(error),
        };
        let asked = std::mem::take(&mut *script.asked.lock().unwrap());
        (status, asked)
    }

    #[tokio::test]
    async fn whoever_stores_a_file_is_told_nothing_but_which() {
        let (found, asked) = get(vec![answer(200, None)]).await;
        assert_eq!(
            (found, asked.as_slice()),
            (Ok(200), ["b.example/x?y accept".to_owned()].as_slice())
        );
    }

    #[tokio::test]
    async fn a_redirect_is_followed_within_the_host_and_nowhere_else() {
        let (found, asked) = get(vec![answer(302, Some("/z")), answer(200, None)]).await;
        assert_eq!((found, asked[1].as_str()), (Ok(200), "b.example/z accept"));
        for location in [
            "https://c.example/z",
            "https://b.example:8443/z",
            "http://b.example/z",
            "//c.example/z",
        ] {
            let (found, asked) = get(vec![answer(302, Some(location))]).await;
            assert_eq!((found, asked.len()), (Ok(302), 1), "{location}");
        }
        let circle = vec![answer(302, Some("/x")); 4];
        assert_eq!(get(circle).await.0, Err(PeerError::Protocol));
    }
}
