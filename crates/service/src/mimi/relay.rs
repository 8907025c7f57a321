//! An OHTTP relay for our own users (MIMI #download-using-oblivious-http, RFC 9458): what they have sealed goes to the gateway of a hub of
//! theirs, under our name, so that the hub does not learn who asks, and we do not learn for what. We read nothing of it.
//!
//! It is no open proxy: a user reaches the gateways of those providers alone in whose rooms they are, and where a gateway is, the
//! provider's directory says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use nabe_signing::Object;
use nabe_types::ServerName;
use nabe_wire::uri::MimiUri;

use super::assets::Reader;
use super::{Mimi, MimiError};
use crate::metric;
use crate::ports::PeerBody;
use crate::ports::mimi::MimiPeerError;

/// What a gateway answers.
pub enum Relayed {
    /// A `message/ohttp-res`, as it comes. One that turns out to be too large ends in [`PeerError::TooLarge`](crate::ports::PeerError).
    Answer(PeerBody),
    /// The request was sealed to a key that the gateway does not have, or no longer.
    UnknownKey,
}

impl Mimi {
    /// A provider whose gateway a local user may have: ourselves, too, although nothing is hidden then.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] if the user reads no room of it.
    pub async fn gateway_for(&self, user: &MimiUri, provider: &str) -> Result<ServerName, MimiError> {
        let unknown = || MimiError::Unknown("provider: no room of yours is there");
        let provider = ServerName::parse(provider).map_err(|_| unknown())?;
        let rooms = self.rooms_readable_by(user).await?;
        let is_hub = rooms.iter().any(|readable| readable.room.hub == provider);
        is_hub.then_some(provider).ok_or_else(unknown)
    }

    /// The keys of another provider's gateway: `application/ohttp-keys`, the same for all of our users.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] if it has no gateway; [`MimiError::PeerFailed`].
    pub async fn gateway_keys(&self, provider: &ServerName) -> Result<Bytes, MimiError> {
        let keys = self.state.peers.ohttp_keys(provider, KEYS_TIME).await;
        keys.map_err(|error| failed(provider, error))
    }

    /// Hands what a local user has sealed to another provider's gateway.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] if it has no gateway; [`MimiError::LimitExceeded`]; [`MimiError::PeerFailed`]; [`MimiError::BadAnswer`].
    pub async fn relay(&self, user: &MimiUri, provider: &ServerName, sealed: Bytes) -> Result<Relayed, MimiError> {
        let turn = self.download_turn(&Reader::User(user.clone()))?;
        let answer = self.state.peers.ohttp(provider, sealed, RELAY_TIME).await;
        let outcome = match &answer {
            Ok(answer) if answer.status == 200 => "relayed",
            Ok(_) => "refused",
            Err(error) => error.label(),
        };
        metrics::counter!(metric::ASSET_DOWNLOADS, "outcome" => outcome).increment(1);
        let answer = answer.map_err(|error| failed(provider, error))?;
        let status = answer.status;
        let answer = self.bounded(answer, turn);
        match (status, answer.content_type.as_deref()) {
            (200, Some("message/ohttp-res")) => Ok(Relayed::Answer(answer.body)),
            (400..500, Some("application/problem+json")) if is_about_the_key(answer.body).await => {
                Ok(Relayed::UnknownKey)
            }
            (429 | 503, _) => Err(MimiError::LimitExceeded {
                retry_after: WHEN_IT_IS_BUSY,
            }),
            _ => Err(MimiError::BadAnswer {
                provider: provider.clone(),
                what: "its gateway does not answer what was sealed",
            }),
        }
    }
}

/// RFC 9458 section 5.3
async fn is_about_the_key(mut body: PeerBody) -> bool {
    let mut problem = BytesMut::new();
    while let Some(Ok(piece)) = body.next().await {
        if problem.len() + piece.len() > MAX_PROBLEM_BYTES {
            return false;
        }
        problem.extend_from_slice(&piece);
    }
    let problem = Object::parse(&problem).ok();
    let kind = problem.as_ref().and_then(|problem| problem.get("type")?.as_str());
    kind == Some(UNKNOWN_KEY)
}

fn failed(provider: &ServerName, error: MimiPeerError) -> MimiError {
    match error {
        MimiPeerError::NoGateway => MimiError::Unknown("gateway: the provider's directory names none"),
        error => MimiError::PeerFailed {
            provider: provider.clone(),
            error,
        },
    }
}

/// Of a sealed request: a URL of 8 KiB, escaped, and a few headers.
pub const MAX_SEALED_BYTES: usize = 32 * 1024;
/// What a gateway's problem is called when it does not know the key.
pub const UNKNOWN_KEY: &str = "https://iana.org/assignments/http-problem-types#ohttp-key";
const MAX_PROBLEM_BYTES: usize = 4096;
const KEYS_TIME: Duration = Duration::from_secs(30);
/// A gateway has the whole file before it begins to answer.
const RELAY_TIME: Duration = Duration::from_mins(2);
const WHEN_IT_IS_BUSY: Duration = Duration::from_secs(5);
