//! What is proposed, and by whom: proposals of MLS reduced to what the policy decides by (MIMI #update-room-state).

use nabe_wire::IdentifierUri;
use nabe_wire::app_data::{AppDataDictionary, ComponentsList};
use nabe_wire::mls::{
    AppDataUpdate, Capabilities, ComponentId, Extension, ExtensionType, LeafNode, LeafNodeSource, Proposal,
    ProposalType,
};
use nabe_wire::policy::ExtendedCapabilities;
use nabe_wire::{Encode, Message};

use super::Rejection;
use super::claims::{Claims, user_of};

/// A client: the owner of a leaf, or of the key package of an Add.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Whose it is, as the participant list names them.
    pub user: IdentifierUri,
    /// What its credential says.
    pub claims: Claims,
    /// How long its key package is good, in seconds; `None` for a leaf that is from no key package.
    pub lifetime: Option<u64>,
    /// What it supports; `None` where that is not to be checked.
    pub support: Option<Support>,
}

/// What a client says it supports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Support {
    /// Of MLS.
    pub capabilities: Capabilities,
    /// The components of its `app_components`.
    pub components: Vec<ComponentId>,
}

impl Client {
    /// A client that nothing is known of but its owner and credential.
    pub fn new(user: IdentifierUri, claims: Claims) -> Self {
        Self {
            user,
            claims,
            lifetime: None,
            support: None,
        }
    }

    /// The owner of a leaf whose credential says by itself whose it is. For X.509 the fields are filled in by whoever can read
    /// certificates.
    ///
    /// # Errors
    /// The credential names no user, or the leaf's components do not read.
    pub fn of_leaf(leaf: &LeafNode) -> Result<Self, Rejection> {
        let user = user_of(&leaf.credential).ok_or(Rejection::CredentialWithoutUser)?;
        let lifetime = match &leaf.source {
            LeafNodeSource::KeyPackage(lifetime) => Some(lifetime.not_after.saturating_sub(lifetime.not_before)),
            LeafNodeSource::Update | LeafNodeSource::Commit { .. } => None,
        };
        let dictionary = Extension::app_data_dictionary(&leaf.extensions)
            .transpose()
            .map_err(|_| Rejection::ComponentMalformed)?;
        let components = dictionary
            .as_ref()
            .and_then(|dictionary| dictionary.data(ComponentId::APP_COMPONENTS))
            .map(ComponentsList::from_bytes)
            .transpose()
            .map_err(|_| Rejection::ComponentMalformed)?;
        Ok(Self {
            user,
            claims: Claims::of(&leaf.credential),
            lifetime,
            support: Some(Support {
                capabilities: leaf.capabilities.clone(),
                components: components.map_or_else(Vec::new, |list| list.component_ids),
            }),
        })
    }
}

impl Support {
    /// Everything that is mandatory is supported. The types that RFC 9420 has everyone know go without saying (section 7.2).
    pub(super) fn covers(&self, mandatory: &ExtendedCapabilities) -> bool {
        let has = |own: &[ExtensionType], wanted: &ExtensionType| wanted.0 <= 5 || own.contains(wanted);
        let knows = |own: &[ProposalType], wanted: &ProposalType| wanted.0 <= 7 || own.contains(wanted);
        let own = &self.capabilities;
        contains_all(&own.versions, &mandatory.versions)
            && contains_all(&own.cipher_suites, &mandatory.cipher_suites)
            && mandatory.extensions.iter().all(|it| has(&own.extensions, it))
            && mandatory.proposals.iter().all(|it| knows(&own.proposals, it))
            && contains_all(&own.credentials, &mandatory.credentials)
            && contains_all(&self.components, &mandatory.component_ids)
    }
}

fn contains_all<T: PartialEq>(own: &[T], wanted: &[T]) -> bool {
    wanted.iter().all(|wanted| own.contains(wanted))
}

/// A proposal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Add.
    Add(Box<Client>),
    /// Update, or the new leaf in a commit's path: the leaf's owner afterwards.
    Update(Box<Client>),
    /// Remove: the leaf.
    Remove(u32),
    /// SelfRemove.
    SelfRemove,
    /// AppDataUpdate.
    AppData(AppDataUpdate),
    /// GroupContextExtensions: the dictionary among the new extensions.
    Extensions(AppDataDictionary),
    /// Any other, by its type.
    Other(ProposalType),
}

impl Action {
    /// Reads a proposal with the credentials that [`Client::of_leaf`] understands.
    ///
    /// # Errors
    /// As there, or the new extensions have a dictionary that does not read.
    pub fn of(proposal: &Proposal) -> Result<Self, Rejection> {
        Ok(match proposal {
            Proposal::Add(key_package) => Self::Add(Box::new(Client::of_leaf(&key_package.leaf_node)?)),
            Proposal::Update(leaf) => Self::Update(Box::new(Client::of_leaf(leaf)?)),
            Proposal::Remove(leaf) => Self::Remove(*leaf),
            Proposal::SelfRemove => Self::SelfRemove,
            Proposal::AppDataUpdate(update) => Self::AppData(update.clone()),
            Proposal::GroupContextExtensions(extensions) => Self::Extensions(
                Extension::app_data_dictionary(extensions)
                    .transpose()
                    .map_err(|_| Rejection::ComponentMalformed)?
                    .unwrap_or_default(),
            ),
            other => Self::Other(other.proposal_type()),
        })
    }

    /// As a proposal, for those that the hub makes: a Remove or an AppDataUpdate.
    pub fn to_proposal(&self) -> Option<Proposal> {
        match self {
            Self::Remove(leaf) => Some(Proposal::Remove(*leaf)),
            Self::AppData(update) => Some(Proposal::AppDataUpdate(update.clone())),
            _ => None,
        }
    }

    /// An AppDataUpdate that hands a component this update.
    pub fn update(component_id: ComponentId, update: &impl Encode) -> Self {
        Self::AppData(AppDataUpdate {
            component_id,
            update: Some(update.to_bytes().into()),
        })
    }

    /// Its type.
    pub fn proposal_type(&self) -> ProposalType {
        match self {
            Self::Add(_) => ProposalType::ADD,
            Self::Update(_) => ProposalType::UPDATE,
            Self::Remove(_) => ProposalType::REMOVE,
            Self::SelfRemove => ProposalType::SELF_REMOVE,
            Self::AppData(_) => ProposalType::APP_DATA_UPDATE,
            Self::Extensions(_) => ProposalType::GROUP_CONTEXT_EXTENSIONS,
            Self::Other(proposal_type) => *proposal_type,
        }
    }
}

/// Who proposes. Not who commits: a commit is authorized proposal by proposal, each by its own proposer.
#[derive(Clone, Copy, Debug)]
pub enum Proposer<'a> {
    /// A client of the group.
    Member {
        /// Its leaf.
        leaf: u32,
        /// What its credential says; asked for when a user changes their own role.
        claims: &'a Claims,
    },
    /// An entry of the extension `external_senders`: the hub, which comes first, a follower, or something that has a role by
    /// preauthorization.
    External {
        /// Its place in the extension.
        index: u32,
        /// What its credential says.
        claims: &'a Claims,
    },
    /// A client that is not in the group and proposes its own Add.
    NewMember {
        /// The client.
        client: &'a Client,
    },
}

/// What the hub found out about the join code that somebody showed when they asked for the GroupInfo (MIMI
/// #claim-group-key-information). What codes look like is between the hub and whoever makes them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum JoinCode {
    /// None was shown.
    #[default]
    Absent,
    /// It is not one of this room.
    Unknown,
    /// It was one, or is good no more (MRP #join-link).
    Expired,
    /// It is good, for this role.
    For(u32),
}
