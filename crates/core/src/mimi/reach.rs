//! Which providers take part in a room, and which of them may be sent application messages (MIMI
//! #fanout-messages-and-room-events, MRP #message-capabilities).

use std::collections::{BTreeMap, BTreeSet};

use nabe_auth::mimi::Room;
use nabe_mls::mimi::{Member, MimiGroup, StagedCommit};
use nabe_types::{LogPosition, ServerName};
use nabe_wire::Message as _;
use nabe_wire::mls::{ComponentId, Proposal};
use nabe_wire::participant_list::ParticipantListUpdate;
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

/// What becomes of which providers get what. Going through all members for it is for what can make a difference: most proposals and
/// commits do not.
pub(super) enum Reached {
    /// Nothing.
    Same,
    /// Users' clients come, users come to the list, and all else stays as it is.
    More { clients: Vec<MimiUri>, users: Vec<MimiUri> },
    /// Anything.
    Others,
}

impl Reached {
    /// By a commit before which nothing was pending.
    pub(super) fn by(commit: &StagedCommit) -> Self {
        if !commit.removed.is_empty() || commit.components.contains_key(&ComponentId::ROLES_LIST) {
            return Self::Others;
        }
        let mut users = Vec::new();
        for committed in &commit.proposals {
            let update = match &committed.proposal {
                Proposal::AppDataUpdate(update) if update.component_id == ComponentId::PARTICIPANT_LIST => update,
                _ => continue,
            };
            match update.update.as_ref().and_then(|content| newcomers(content)) {
                Some(new) => users.extend(new),
                None => return Self::Others,
            }
        }
        let clients = commit.added.iter().map(|added| added.member.identity.user().clone());
        let clients: Vec<_> = clients.collect();
        match clients.is_empty() && users.is_empty() {
            true => Self::Same,
            false => Self::More { clients, users },
        }
    }
}

/// The users that an update of the participant list adds, if that is all it does.
fn newcomers(update: &[u8]) -> Option<Vec<MimiUri>> {
    let update = ParticipantListUpdate::from_bytes(update).ok()?;
    if !update.changed_role_participants.is_empty() || !update.removed_indices.is_empty() {
        return None;
    }
    let added = update.added_participants.iter();
    added.map(|added| MimiUri::parse(added.user.as_str()).ok()).collect()
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

    /// After a commit that did nothing to anybody's standing or clients but add `clients` to the group and `users` to the list: without
    /// going through all members.
    pub(super) fn add<'m>(
        &mut self,
        group: &MimiGroup,
        policy: &Room,
        clients: impl IntoIterator<Item = &'m MimiUri>,
        users: impl IntoIterator<Item = &'m MimiUri>,
    ) {
        let mut touched: BTreeSet<&MimiUri> = users.into_iter().collect();
        for user in clients {
            touched.insert(user);
            if let Some(provider) = provider_of(user.host()) {
                self.providers.entry(provider).or_default().count += 1;
            }
        }
        for user in touched {
            let provider = provider_of(user.host()).filter(|_| group.leaves_of(user).next().is_some());
            let Some(clients) = provider.and_then(|provider| self.providers.get_mut(&provider)) else {
                continue;
            };
            match policy.receive(&identifier(user)) {
                Ok(()) => {
                    clients.receive = true;
                    clients.withheld.remove(user);
                }
                Err(_) => {
                    clients.withheld.insert(user.clone());
                }
            }
        }
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

    /// Whether a provider has clients in the group after a commit.
    pub(super) fn has_clients_after(&self, commit: &StagedCommit, provider: &str) -> bool {
        let is_theirs = |member: &&Member| member.identity.user().host() == provider;
        let before = ServerName::parse(provider)
            .ok()
            .and_then(|name| self.providers.get(&name));
        let come = commit.added.iter().map(|added| &added.member).filter(is_theirs).count();
        let go = commit.removed.iter().filter(is_theirs).count();
        before.map_or(0, |clients| clients.count) + come > go
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
