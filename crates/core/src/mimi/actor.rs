//! Who acts, in the terms of the policy: what the group found out about senders, committers and newcomers, as the policy asks for it.

use nabe_auth::mimi::{Claims, Client, Proposer, Rejection};
use nabe_mls::mimi as mls;
use nabe_types::ServerName;
use nabe_wire::mls::{Credential, ExternalSender, LeafNode, Proposal};
use nabe_wire::uri::MimiUri;

/// Somebody who proposes or commits.
#[derive(Clone, Debug)]
pub(super) enum Actor {
    /// A client in the group.
    Member { leaf: u32, host: String, claims: Claims },
    /// On the list of external senders.
    External {
        index: u32,
        host: Option<String>,
        claims: Claims,
    },
    /// A client that is not in the group yet.
    NewMember { host: String, client: Box<Client> },
}

impl Actor {
    /// Whoever proposes something by itself.
    pub(super) fn proposing(proposer: &mls::Proposer, proposal: &Proposal) -> Result<Self, Rejection> {
        match (proposer, proposal) {
            (mls::Proposer::Member(member), _) => Ok(Self::member(member)),
            (mls::Proposer::ExternalSender { index, sender }, _) => Ok(Self::External {
                index: *index,
                host: host_of(sender),
                claims: Claims::of(&sender.credential),
            }),
            (mls::Proposer::NewMember(identity), Proposal::Add(package)) => {
                Self::newcomer(identity, &package.leaf_node)
            }
            (mls::Proposer::NewMember(_), _) => Err(Rejection::CredentialWithoutUser),
        }
    }

    pub(super) fn member(member: &mls::Member) -> Self {
        Self::Member {
            leaf: member.leaf,
            host: member.identity.user().host().to_owned(),
            claims: Claims::of(member.identity.credential()),
        }
    }

    /// A client that comes with this leaf.
    pub(super) fn newcomer(identity: &mls::Identity, leaf: &LeafNode) -> Result<Self, Rejection> {
        Ok(Self::NewMember {
            host: identity.user().host().to_owned(),
            client: Box::new(Client::of_leaf(leaf)?),
        })
    }

    /// As the policy is told.
    pub(super) fn proposer(&self) -> Proposer<'_> {
        match self {
            Self::Member { leaf, claims, .. } => Proposer::Member { leaf: *leaf, claims },
            Self::External { index, claims, .. } => Proposer::External { index: *index, claims },
            Self::NewMember { client, .. } => Proposer::NewMember { client },
        }
    }

    /// Whether both are the same: proposals that come together are of one proposer.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Member { leaf, .. }, Self::Member { leaf: other, .. }) => leaf == other,
            (Self::External { index, .. }, Self::External { index: other, .. }) => index == other,
            (Self::NewMember { client, .. }, Self::NewMember { client: other, .. }) => client.user == other.user,
            _ => false,
        }
    }

    /// Whether the provider speaks for it: the domain of a user is that of their provider (MIMI #transport-layer).
    pub(super) fn is_of(&self, provider: &ServerName) -> bool {
        match self {
            Self::Member { host, .. } | Self::NewMember { host, .. } => host == provider.as_str(),
            Self::External { host, .. } => host.as_deref() == Some(provider.as_str()),
        }
    }
}

/// The provider of what is on the list of external senders.
pub(super) fn host_of(sender: &ExternalSender) -> Option<String> {
    let Credential::Basic { identity } = &sender.credential else {
        return None;
    };
    let uri = MimiUri::parse(std::str::from_utf8(identity).ok()?).ok()?;
    Some(uri.host().to_owned())
}
