//! OHTTP gateways of providers (MIMI #download-using-oblivious-http, RFC 9458), by their directories: what our users have sealed, handed on
//! as it is in our own name; and the keys that they seal to, the same for all of them, so that a gateway cannot tell them apart by
//! those.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, FROM};
use http::{HeaderMap, Request};
use nabe_service::ports::mimi::MimiPeerError;
use nabe_service::ports::{PeerError, PeerStream};
use nabe_types::ServerName;
use std::time::Duration;

use super::directory::{Directory, Gateway};
use super::url::HttpsUrl;
use super::{MimiPeers, within};
use crate::transport::{ResponseLimit, SpeaksFor, Transport};

impl<T: Transport> MimiPeers<T> {
    /// The provider's keys, kept as long as their headers say.
    pub(super) async fn gateway_keys(&self, provider: &ServerName, timeout: Duration) -> Result<Bytes, MimiPeerError> {
        let fetch = within(timeout, self.fetch_keys(provider, timeout));
        let known = self.keys.get(provider, None, &*self.clock, fetch).await?;
        Ok(known.value.as_ref().clone())
    }

    async fn fetch_keys(&self, provider: &ServerName, timeout: Duration) -> Result<(Bytes, HeaderMap), MimiPeerError> {
        let find = |directory: &Directory| gateway_of(directory).map(|gateway| gateway.keys.clone());
        let url = self.route(provider, &find, None).await?.url;
        let mut message = Request::get(url.path().clone())
            .header(FROM, self.from.clone())
            .header(ACCEPT, KEYS)
            .body(Bytes::new())
            .map_err(|_| PeerError::InvalidRequest)?;
        let extensions = message.extensions_mut();
        extensions.insert(ResponseLimit(MAX_KEYS_BYTES));
        extensions.insert(SpeaksFor(provider.clone()));
        let (head, body) = self
            .transport
            .send(url.authority(), message, timeout)
            .await?
            .into_parts();
        let is_keys = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|media_type| media_type == KEYS);
        match head.status.as_u16() {
            200 if is_keys => Ok((body, head.headers)),
            status => Err(MimiPeerError::NoKeys(status)),
        }
    }

    /// What a user has sealed, answered. After an answer that the key is another one, the keys are fetched again when they are asked for.
    pub(super) async fn to_gateway(
        &self,
        provider: &ServerName,
        sealed: Bytes,
        timeout: Duration,
    ) -> Result<PeerStream, MimiPeerError> {
        let find = |directory: &Directory| gateway_of(directory).map(|gateway| gateway.requests.clone());
        let message = |url: &HttpsUrl| {
            Request::post(url.path().clone())
                .header(FROM, self.from.clone())
                .header(ACCEPT, "*/*")
                .header(CONTENT_TYPE, "message/ohttp-req")
                .body(sealed.clone())
                .map_err(|_| PeerError::InvalidRequest)
        };
        let answer = self.open_at(provider, &find, message, timeout).await?;
        if matches!(answer.status, 400..500) {
            self.keys.doubt(provider, &*self.clock).await;
        }
        Ok(answer)
    }
}

fn gateway_of(directory: &Directory) -> Result<&Gateway, MimiPeerError> {
    directory.gateway().ok_or(MimiPeerError::NoGateway)
}

const KEYS: &str = "application/ohttp-keys";
/// Of a few keys, each of some dozen bytes.
const MAX_KEYS_BYTES: usize = 16 * 1024;
