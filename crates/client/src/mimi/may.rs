//! What roles let users say (MRP #message-capabilities). The hub sees to who sends and who receives at all; what is said it cannot see, so
//! clients see to it: ours sends nothing that its user's role does not let them say, and shows nothing of others that theirs do not.
//!
//! The role is the one in the group when the message comes. Of what somebody deletes who deletes others' messages, it is kept that they might.

use std::collections::BTreeSet;

use nabe_content::mimi::markdown::Link;
use nabe_content::mimi::timeline::Act;
use nabe_content::mimi::{Disposition, Intent, MessageId, MimiContent};
use nabe_wire::Message as _;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::{Capability, RoleData};
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;
use rusqlite::Connection;

use super::client::MimiClient;
use super::error::MimiError;
use super::group;
use super::store::{MimiBody, MimiItem};
use crate::error::StoreError;

/// Which messages of a room count that delete what somebody else said.
#[derive(Clone, Debug, Default)]
pub struct Moderation(BTreeSet<MessageId>);

impl Moderation {
    /// The policy for a [`Timeline`](nabe_content::mimi::timeline::Timeline): authors edit and delete what they said, and who may delete what
    /// others said does so. Nobody edits that.
    pub fn policy(&self) -> impl Fn(&Act<'_>) -> bool {
        |act| act.deletes && self.0.contains(&act.by)
    }
}

impl MimiClient {
    /// Who has deleted what somebody else said, and might.
    pub fn moderation(&self, room: &MimiUri) -> Result<Moderation, MimiError> {
        let moderating = MimiItem::moderating(self.store.read(), room)?;
        Ok(Moderation(moderating.into_iter().collect()))
    }
}

/// What a user's role lacks to say this, if anything. Of who is on the list no more, and of roles that do not read, nothing is known.
pub(super) fn lacks(
    connection: &Connection,
    group: &MlsGroup,
    room: &MimiUri,
    user: &MimiUri,
    content: &MimiContent,
) -> Result<Option<Capability>, StoreError> {
    let needed = needed(connection, room, user, content)?;
    if needed.is_empty() {
        return Ok(None);
    }
    let Some(capabilities) = capabilities_of(group, user) else {
        return Ok(None);
    };
    let has_any = |alternatives: &&Vec<Capability>| alternatives.iter().any(|one| capabilities.contains(one));
    let missing = needed.iter().find(|alternatives| !has_any(alternatives));
    Ok(missing.and_then(|alternatives| alternatives.first().copied()))
}

/// Whether a message may delete what somebody else said, should it turn out to be theirs.
pub(super) fn moderates(group: &MlsGroup, user: &MimiUri, content: &MimiContent) -> bool {
    let needed = match (content.intent(), is_reaction(content)) {
        (Intent::Delete { .. }, true) => Capability::CAN_DELETE_OTHER_REACTION,
        (Intent::Delete { .. }, false) => Capability::CAN_DELETE_OTHER_MESSAGE,
        _ => return false,
    };
    capabilities_of(group, user).is_some_and(|capabilities| capabilities.contains(&needed))
}

fn is_reaction(content: &MimiContent) -> bool {
    content.body.disposition == Disposition::REACTION
}

/// What a message takes besides `canSendMessage`: one of each.
fn needed(
    connection: &Connection,
    room: &MimiUri,
    user: &MimiUri,
    content: &MimiContent,
) -> Result<Vec<Vec<Capability>>, StoreError> {
    let mut needed = Vec::new();
    match content.intent() {
        Intent::Post if !content.topic_id.is_empty() => needed.push(vec![Capability::CAN_START_TOPIC]),
        Intent::Post | Intent::Nothing => {}
        Intent::Reply { to } => {
            // What topic a message has that is not here, nobody here can say.
            let is_its_topic = topic_of(connection, room, &to)?.is_none_or(|topic| topic == content.topic_id);
            let stays = !content.topic_id.is_empty() && is_its_topic;
            let mut ways = vec![Capability::CAN_REPLY_TO_MESSAGE];
            if stays {
                ways.push(Capability::CAN_REPLY_IN_TOPIC);
            } else if !content.topic_id.is_empty() {
                needed.push(vec![Capability::CAN_START_TOPIC]);
            }
            needed.push(ways);
        }
        Intent::Reaction { .. } => needed.push(vec![Capability::CAN_REACT_TO_MESSAGE]),
        Intent::Edit { .. } if is_reaction(content) => needed.push(vec![Capability::CAN_EDIT_REACTION]),
        Intent::Edit { .. } => needed.push(vec![Capability::CAN_EDIT_OWN_MESSAGE]),
        Intent::Delete { of } => {
            let author = MimiItem::of_message(connection, room, &of)?.and_then(|item| item.sender);
            let is_others = author.is_some_and(|author| author != *user);
            needed.push(vec![match (is_reaction(content), is_others) {
                (true, false) => Capability::CAN_DELETE_OWN_REACTION,
                (true, true) => Capability::CAN_DELETE_OTHER_REACTION,
                (false, false) => Capability::CAN_DELETE_OWN_MESSAGE,
                (false, true) => Capability::CAN_DELETE_OTHER_MESSAGE,
            }]);
        }
    }
    if has_preview(content) {
        needed.push(vec![Capability::CAN_SEND_LINK_PREVIEW]);
    }
    // Who is mentioned is no link.
    let mut links = content.body.parts().flat_map(|(_, part)| Link::in_part(part));
    if links.any(|link| !link.target.starts_with("mimi:")) {
        needed.push(vec![Capability::CAN_SEND_LINK]);
    }
    Ok(needed)
}

/// Whether a message has a preview that its sender made of something.
pub(super) fn has_preview(content: &MimiContent) -> bool {
    let mut parts = content.body.parts();
    parts.any(|(_, part)| part.disposition == Disposition::PREVIEW)
}

fn topic_of(connection: &Connection, room: &MimiUri, id: &MessageId) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(
        match MimiItem::of_message(connection, room, id)?.map(|item| item.body) {
            Some(MimiBody::Content(received) | MimiBody::Expired(received)) => {
                Some(received.content().topic_id.clone())
            }
            _ => None,
        },
    )
}

fn capabilities_of(group: &MlsGroup, user: &MimiUri) -> Option<Vec<Capability>> {
    let user = user.to_string();
    let participants = group::participants(group).ok()?.participants;
    let role = participants.iter().find(|pair| *pair.user == *user)?.role_index;
    let roles = group::component(group, ComponentId::ROLES_LIST)?;
    let roles = RoleData::from_bytes(roles).ok()?.roles;
    let role = roles.into_iter().find(|one| one.role_index == role)?;
    Some(role.role_capabilities)
}
