//! What a room lets its users say, of what no hub can see: each rule is asked before something is sent, and when something is heard. What
//! breaks one is not sent, and of others' it is told which one it breaks instead of what it says.

use nabe_auth::mimi::Rejection;
use nabe_content::mimi::MimiContent;
use nabe_wire::policy::Capability;
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;
use rusqlite::Connection;

use super::client::MimiClient;
use super::error::MimiError;
use super::hear::Unreadable;
use super::{assets, may};
use crate::error::StoreError;

/// What a message breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Breach {
    /// The user's role lacks a capability.
    Role(Capability),
    /// The user may not send such a file.
    File(Rejection),
}

/// What a user's message breaks, if anything, by the roles and the policy in the group.
pub(super) fn breach(
    connection: &Connection,
    group: &MlsGroup,
    room: &MimiUri,
    user: &MimiUri,
    content: &MimiContent,
) -> Result<Option<Breach>, StoreError> {
    if let Some(capability) = may::lacks(connection, group, room, user, content)? {
        return Ok(Some(Breach::Role(capability)));
    }
    Ok(assets::refused(group, room, user, &content.body).map(Breach::File))
}

impl MimiClient {
    /// Whether this user may say this.
    pub(super) fn check_rules(&self, room: &MimiUri, content: &MimiContent) -> Result<(), MimiError> {
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
        match breach(self.store.read(), &group, room, &self.device.user, content)? {
            Some(breach) => Err(breach.into()),
            None => Ok(()),
        }
    }
}

impl From<Breach> for MimiError {
    fn from(breach: Breach) -> Self {
        match breach {
            Breach::Role(capability) => Self::NotPermitted { capability },
            Breach::File(rejection) => Self::FilePolicy(rejection),
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
        }
    }
}
