//! Which providers take part in a room, and which of them may be sent application messages (MIMI
//! #fanout-messages-and-room-events, MRP #message-capabilities).

use std::collections::{BTreeMap, BTreeSet};

use nabe_auth::mimi::Room;
use nabe_mls::mimi::{Member, MimiGroup, StagedCommit};
use nabe_types::{LogPosition, ServerName};
use nabe_wire::uri::MimiUri;

use super::identifier;
use crate::FollowerChange;

/// The providers of a room's clients.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reach {
    providers: BTreeMap<ServerName, Clients>,
}

/// A provider's clients in the group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Clients {
    count: usize,
    /// At least one is of a user who may receive messages.
    receive: bool,
    /// Users with clients who may not.
    withheld: BTreeSet<MimiUri>,
}

impl Reach {
    /// By whose clients are in the group, and what counts for their users now.
    pub(super) fn of(group: &MimiGroup, policy: &Room) -> Self {
        let mut providers: BTreeMap<ServerName, Clients> = BTreeMap::new();
        for (_, member) in group.members() {
            if let Some(provider) = provider_of(member.user().host()) {
                let clients = providers.entry(provider).or_default();
                clients.count += 1;
                match policy.receive(&identifier(member.user())) {
                    Ok(()) => clients.receive = true,
                    Err(_) => {
                        clients.withheld.insert(member.user().clone());
                    }
                }
            }
        }
        Self { providers }
    }

    /// Those with clients in the group, in ascending order.
    pub(super) fn active(&self) -> impl Iterator<Item = &ServerName> {
        self.providers.keys()
    }

    /// Whether all of them may receive messages.
    pub(super) fn all_receive(&self) -> bool {
        self.providers.values().all(|clients| clients.receive)
    }

    /// Those that may receive messages, in ascending order.
    pub(super) fn receiving(&self) -> impl Iterator<Item = &ServerName> {
        let receiving = self.providers.iter().filter(|(_, clients)| clients.receive);
        receiving.map(|(provider, _)| provider)
    }

    /// A provider's users with clients in the group who may not receive messages.
    pub(super) fn withheld(&self, provider: &ServerName) -> impl Iterator<Item = &MimiUri> {
        self.providers
            .get(provider)
            .into_iter()
            .flat_map(|clients| &clients.withheld)
    }

    /// What follows from a commit at `position`: whoever goes is owed it as the last entry, whoever comes gets what is behind it.
    pub(super) fn changes(
        &self,
        commit: &StagedCommit,
        position: LogPosition,
        hub: &ServerName,
    ) -> Vec<FollowerChange> {
        let mut deltas: BTreeMap<ServerName, (usize, usize)> = BTreeMap::new();
        let provider = |member: &Member| provider_of(member.identity.user().host()).filter(|it| it != hub);
        for provider in commit.added.iter().filter_map(|added| provider(&added.member)) {
            deltas.entry(provider).or_default().0 += 1;
        }
        for provider in commit.removed.iter().filter_map(provider) {
            deltas.entry(provider).or_default().1 += 1;
        }
        let change = |(server, (come, go)): (ServerName, (usize, usize))| {
            let before = self.providers.get(&server).map_or(0, |clients| clients.count);
            match (before, (before + come).saturating_sub(go)) {
                (0, 0) => None,
                (0, _) => Some(FollowerChange::Open {
                    server,
                    from: position.next(),
                }),
                (_, 0) => Some(FollowerChange::Close {
                    server,
                    until: position,
                }),
                _ => None,
            }
        };
        deltas.into_iter().filter_map(change).collect()
    }
}

/// The provider of a host. What is no server name can be sent nothing.
fn provider_of(host: &str) -> Option<ServerName> {
    ServerName::parse(host).ok()
}
