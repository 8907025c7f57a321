//! How long a join link is good, and for how many (MRP #join-link). The component has the links alone; their terms are those of the room's
//! policy of join links when the hub accepted them, and are kept beside the room (D-join-link-terms).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use nabe_auth::mimi::{JoinCode, Policy};
use nabe_core::mimi::{MimiRoom, MimiUri};
use nabe_store::{JoinLinkTerms, MimiWrite, PolicyWrite, ShownJoinCode, Write};
use nabe_types::UnixMillis;

use super::Mimi;
use super::users::identifier;
use crate::error::ServiceError;

impl Mimi {
    /// What a join code is worth that a user shows now.
    pub(super) async fn join_code(
        &self,
        room: &MimiRoom,
        user: &MimiUri,
        code: &[u8],
    ) -> Result<JoinCode, ServiceError> {
        let worth = room.policy().join_code(code);
        if !matches!(worth, JoinCode::For(_)) {
            return Ok(worth);
        }
        let (store, now) = (self.service.store(), self.service.now());
        let terms = store.join_link(room.uri(), code).await?;
        Ok(match terms.is_none_or(|terms| is_good(&terms, user, now)) {
            true => worth,
            false => JoinCode::Expired,
        })
    }
}

fn is_good(terms: &JoinLinkTerms, user: &MimiUri, now: UnixMillis) -> bool {
    let has_ended = terms.expires_at.is_some_and(|end| end <= now);
    let is_of_another = !terms.multiuser && terms.used_by.as_ref().is_some_and(|used_by| used_by != user);
    !has_ended && !is_of_another
}

/// Of links that came and went with what a room has accepted.
pub(super) fn changes(room: &MimiUri, before: Option<&Policy>, after: &Policy, now: UnixMillis) -> Option<PolicyWrite> {
    let links = |policy: &Policy| -> BTreeSet<Bytes> {
        let links = policy.join_links().iter();
        links.map(|link| Bytes::copy_from_slice(&link.join_link)).collect()
    };
    let (before, links) = (before.map(links).unwrap_or_default(), links(after));
    let policy = after.join_link_policy();
    let lifetime = policy.as_ref().map(|policy| policy.expiration).filter(|it| *it > 0);
    let terms = |link: &Bytes| JoinLinkTerms {
        link: link.clone(),
        expires_at: lifetime.map(|seconds| now.plus(Duration::from_secs(seconds.into()))),
        multiuser: policy.as_ref().is_none_or(|policy| policy.multiuser),
        used_by: None,
    };
    let added: Vec<_> = links.difference(&before).map(terms).collect();
    let removed: Vec<_> = before.difference(&links).cloned().collect();
    let room = room.clone();
    (!added.is_empty() || !removed.is_empty()).then_some(PolicyWrite::ChangeJoinLinks { room, added, removed })
}

/// That somebody joins by a link who is not on the list yet.
pub(super) fn used(room: &MimiRoom, shown: Option<ShownJoinCode>, code: JoinCode) -> Option<Write> {
    let shown = shown.filter(|_| matches!(code, JoinCode::For(_)))?;
    (room.policy().role_of(&identifier(&shown.user)) == 0).then(|| {
        Write::Mimi(MimiWrite::Policy(PolicyWrite::UseJoinLink {
            room: shown.room,
            link: shown.code,
            user: shown.user,
        }))
    })
}
