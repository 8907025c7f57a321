//! What a room lets its users say, of what no hub can see: each rule is asked before something is sent, and when something is heard. What
//! breaks one is not sent, and of others' it is told which one it breaks instead of what it says.

use std::borrow::Cow;

use nabe_auth::mimi::Rejection;
use nabe_content::mimi::MimiContent;
use nabe_wire::Message as _;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::{Capability, LinkPreviewPolicy, Optionality};
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;
use rusqlite::Connection;

use super::client::MimiClient;
use super::error::MimiError;
use super::hear::Unreadable;
use super::lifetime::{ExpiryFault, Sent};
use super::{assets, group, lifetime, may};
use crate::error::StoreError;

/// What a message breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Breach {
    /// The user's role lacks a capability.
    Role(Capability),
    /// The user may not send such a file.
    File(Rejection),
    /// It expires as no message of the room does, or does not.
    Expiry(ExpiryFault),
    /// It has a preview of a link, and the room has none (MRP #link-preview).
    Preview,
}

/// What a user's message breaks, if anything, by the roles and the policy in the group.
pub(super) fn breach(
    connection: &Connection,
    group: &MlsGroup,
    room: &MimiUri,
    user: &MimiUri,
    content: &MimiContent,
    sent: Sent,
) -> Result<Option<Breach>, StoreError> {
    if let Some(capability) = may::lacks(connection, group, room, user, content)? {
        return Ok(Some(Breach::Role(capability)));
    }
    if let Some(rejection) = assets::refused(group, room, user, &content.body) {
        return Ok(Some(Breach::File(rejection)));
    }
    if may::has_preview(content) && has_no_previews(group) {
        return Ok(Some(Breach::Preview));
    }
    Ok(lifetime::fault(connection, group, room, content, sent)?.map(Breach::Expiry))
}

fn has_no_previews(group: &MlsGroup) -> bool {
    let policy = group::component(group, ComponentId::LINK_PREVIEW_POLICY);
    let policy = policy.and_then(|data| LinkPreviewPolicy::from_bytes(data).ok());
    policy.is_some_and(|policy| policy.send_link_previews == Optionality::Forbidden)
}

impl MimiClient {
    /// What this user is about to say, with the expiry that it has to have; if they may say it.
    pub(super) fn by_rules<'c>(
        &self,
        room: &MimiUri,
        content: &'c MimiContent,
    ) -> Result<Cow<'c, MimiContent>, MimiError> {
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
        let content = lifetime::as_preferred(&group, content);
        let sent = Sent::now(self.now());
        match breach(self.store.read(), &group, room, &self.device.user, &content, sent)? {
            Some(breach) => Err(breach.into()),
            None => Ok(content),
        }
    }
}

impl From<Breach> for MimiError {
    fn from(breach: Breach) -> Self {
        match breach {
            Breach::Role(capability) => Self::NotPermitted { capability },
            Breach::File(rejection) => Self::FilePolicy(rejection),
            Breach::Expiry(fault) => Self::Expiry(fault),
            Breach::Preview => Self::PreviewForbidden,
        }
    }
}

impl From<Breach> for Unreadable {
    fn from(breach: Breach) -> Self {
        match breach {
            Breach::Role(capability) => Self::NotPermitted {
                capability: capability.name().unwrap_or("a capability").to_owned(),
            },
            Breach::File(rejection) => Self::FilePolicy {
                why: rejection.to_string(),
            },
            Breach::Expiry(fault) => Self::Expiry { why: fault.to_string() },
            Breach::Preview => Self::PreviewForbidden,
        }
    }
}
