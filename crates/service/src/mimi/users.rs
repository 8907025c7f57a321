//! Our users as MIMI names them, and what all use cases about them have in common. The user `alice` of a server is
//! `mimi://<domain>/u/alice`; their client `phone` is `mimi://<domain>/d/alice/phone`.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::{MimiUserWrite, MimiWrite, ReportWrite, Write};
use nabe_types::{DeviceId, LogPosition, ServerName, UserId};
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::Credential;
use nabe_wire::uri::MimiKind;
use nabe_wire::{Encode, IdentifierUri};
use tokio::sync::broadcast;

use super::{Mimi, MimiError};
use crate::error::ServiceError;
use crate::ports::PeerResponse;
use crate::ports::mimi::MimiRequest;

/// The operator's choices about what other providers hear of our users.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserSettings {
    /// Whether providers cannot find out who is a user here without that user's consent (MIMI #fetch-key-material, MIMI
    /// #convey-explicit-consent).
    pub hide_users: bool,
    /// Whether a client's last-resort key package is handed out when it has no other, again and again, which the draft forbids
    /// (D-last-resort).
    pub last_resort: bool,
    /// How long local users' logs keep what came; `None`: for ever. A client that was away for longer has to join anew.
    pub log_retention: Option<Duration>,
    /// Whether requesters' providers are told of revocations (MIMI #convey-explicit-consent leaves it to us).
    pub tell_revocations: bool,
}

impl Default for UserSettings {
    fn default() -> Self {
        Self {
            hide_users: true,
            last_resort: false,
            log_retention: Some(Duration::from_hours(90 * 24)),
            tell_revocations: false,
        }
    }
}

/// Something local users may want to see has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MimiNews {
    /// A room's local log has grown.
    Room {
        /// The room.
        room: MimiUri,
        /// The position of its newest message.
        head: LogPosition,
    },
    /// Something about consent of or for a local user has changed.
    Consent {
        /// The user.
        user: MimiUri,
    },
}

/// Whether there is a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Presence {
    /// There is.
    User,
    /// There was.
    Deleted,
    /// There never was.
    Unknown,
}

/// Who is told of news.
pub(crate) struct News(broadcast::Sender<MimiNews>);

impl Default for News {
    fn default() -> Self {
        Self(broadcast::Sender::new(LAGGING))
    }
}

impl Mimi {
    /// Every change from now on. A receiver that lags reads the store from where it was: it loses wake-ups, not data.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<MimiNews> {
        self.state.news.0.subscribe()
    }

    pub(crate) fn tell(&self, news: MimiNews) {
        // Fails only when nobody listens.
        let _ = self.state.news.0.send(news);
    }

    /// Whether a user has an account here, which was not deleted.
    pub(crate) async fn is_user(&self, user: &MimiUri) -> Result<bool, MimiError> {
        Ok(self.presence(user).await? == Presence::User)
    }

    /// Whether a user is, or was, one of ours.
    pub(super) async fn presence(&self, user: &MimiUri) -> Result<Presence, MimiError> {
        if !self.is_ours(user) || user.kind() != MimiKind::User {
            return Ok(Presence::Unknown);
        }
        let id = format!("@{}:{}", user.name(), self.service.server_name());
        let Ok(id) = UserId::parse(&id) else {
            return Ok(Presence::Unknown);
        };
        let account = self.service.store().account(&id).await?;
        Ok(match account {
            None => Presence::Unknown,
            Some(account) if account.deleted_at.is_some() => Presence::Deleted,
            Some(_) => Presence::User,
        })
    }

    /// Whether a URI names something of this provider.
    pub(crate) fn is_ours(&self, uri: &MimiUri) -> bool {
        is_of(uri, self.domain())
    }

    /// Writes what is kept for local users.
    pub(crate) async fn write(&self, write: MimiUserWrite) -> Result<(), MimiError> {
        self.service.commit(Write::Mimi(MimiWrite::User(write)).into()).await?;
        Ok(())
    }

    /// The user has a device no more: nobody gets a key package of it.
    pub(crate) async fn remove_client(&self, user: &UserId, device: &DeviceId) -> Result<(), ServiceError> {
        let client = format!("mimi://{}/d/{}/{device}", self.domain(), user.localpart());
        let Ok(client) = MimiUri::parse(&client) else {
            return Ok(());
        };
        let write = MimiWrite::User(MimiUserWrite::RemoveClient { client });
        self.service.commit(Write::Mimi(write).into()).await
    }

    /// Forgets what need not be remembered any more.
    pub(crate) async fn forget_what_is_old(&self) {
        let now = self.service.now();
        self.state.held.forget(now);
        self.state.forwarding.forget(now);
        let writes = [
            MimiWrite::ExpireKeyPackages { now },
            MimiWrite::User(MimiUserWrite::ExpireKeyPackages { now }),
            MimiWrite::User(MimiUserWrite::ExpireJoinCodes { now }),
            MimiWrite::Report(ReportWrite::Forget {
                decided_before: now.minus(self.state.settings.reports.decided_for),
            }),
            MimiWrite::User(MimiUserWrite::ForgetDelivered {
                before: now.minus(super::inbox::REMEMBERED),
            }),
        ];
        if let Err(error) = self.service.commit(writes.map(Write::Mimi).into_iter().collect()).await {
            tracing::warn!(%error, "could not forget old key packages, join codes, reports and notifications of MIMI");
        }
        let Some(retention) = self.settings().users.log_retention else {
            return;
        };
        let before = now.minus(retention);
        let limit = FORGOTTEN_AT_ONCE;
        // Others write in between. What is left over is for the next round.
        for _ in 0..FORGOTTEN_ROUNDS {
            let write = MimiUserWrite::ForgetLocalMessages { before, limit };
            if let Err(error) = self.write(write).await {
                return tracing::warn!(%error, "could not drop old messages of MIMI");
            }
        }
    }

    /// Asks another provider while somebody waits.
    pub(crate) async fn ask(
        &self,
        provider: &ServerName,
        endpoint: Endpoint,
        target: &(impl fmt::Display + ?Sized),
        body: impl Into<Bytes>,
        max_response_bytes: usize,
    ) -> Result<PeerResponse, MimiError> {
        let request = MimiRequest {
            endpoint,
            target: target.to_string(),
            body: body.into(),
            timeout: self.service.settings().delivery.question_timeout,
            max_response_bytes,
        };
        let answer = self.state.peers.call(provider, request).await;
        answer.map_err(|error| MimiError::PeerFailed {
            provider: provider.clone(),
            error,
        })
    }
}

/// What forgets a user of the provider with this domain, who is deleted; `None` for one whose name no user of MIMI has.
pub(crate) fn removal_of(domain: &ServerName, user: &UserId) -> Option<Write> {
    let uri = format!("mimi://{domain}/u/{}", user.localpart());
    let user = MimiUri::parse(&uri).ok()?;
    Some(Write::Mimi(MimiWrite::User(MimiUserWrite::RemoveUser { user })))
}

/// Whether a URI names something of a provider.
pub(crate) fn is_of(uri: &MimiUri, provider: &ServerName) -> bool {
    uri.host() == provider.as_str()
}

/// The provider of what a URI names.
pub(crate) fn provider_of(uri: &MimiUri, field: &'static str) -> Result<ServerName, MimiError> {
    let rule = "should be at a provider";
    ServerName::parse(uri.host()).map_err(|_| MimiError::Invalid { field, rule })
}

/// A user's URI in a field of a struct.
pub(crate) fn user_in(field: &'static str, uri: &IdentifierUri) -> Result<MimiUri, MimiError> {
    let rule = "should be the URI of a user";
    kind_in(uri, MimiKind::User).ok_or(MimiError::Invalid { field, rule })
}

/// A room's URI in a field of a struct.
pub(crate) fn room_in(field: &'static str, uri: &IdentifierUri) -> Result<MimiUri, MimiError> {
    let rule = "should be the URI of a room";
    kind_in(uri, MimiKind::Room).ok_or(MimiError::Invalid { field, rule })
}

fn kind_in(uri: &IdentifierUri, kind: MimiKind) -> Option<MimiUri> {
    MimiUri::parse(uri).ok().filter(|uri| uri.kind() == kind)
}

/// The same URI as wire structs have it.
pub(crate) fn identifier(uri: &MimiUri) -> IdentifierUri {
    IdentifierUri::new(uri.to_string()).expect("a mimi URI is short enough for any field")
}

/// The user that a credential for this key names, if it names one.
pub(crate) fn user_of(credential: &Credential, signature_key: &[u8]) -> Option<MimiUri> {
    let identity = nabe_mls::mimi::Identity::parse(credential, signature_key).ok()?;
    Some(identity.user().clone())
}

/// The bytes of a struct.
pub(crate) fn bytes_of(body: &impl Encode) -> Bytes {
    body.to_bytes().into()
}

/// The most old messages that are dropped in one transaction.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// Such transactions in one round, which is every ten minutes.
const FORGOTTEN_ROUNDS: usize = 20;

/// How many news a slow listener can fall behind before it has to look at everything.
const LAGGING: usize = 4096;

#[cfg(test)]
pub(super) mod testing;
