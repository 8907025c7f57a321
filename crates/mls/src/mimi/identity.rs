//! Whose a leaf is (MIMI #end-to-end-security-layer, MIMI #credential-encryption), and which clients are in the group.
//!
//! The draft leaves open how a client's credential names its user; see decision D-client-identity.

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::Message as _;
use nabe_wire::mls::{Credential, CredentialType};
use nabe_wire::uri::{MimiKind, MimiUri, MimiUriError};
use openmls::group::PublicGroup;
use openmls::prelude::LeafNode;
use tls_codec::Serialize as _;

use super::refusal::MimiRefusal;

/// Who a client is, by its credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    user: MimiUri,
    client: Option<MimiUri>,
    credential: Credential,
}

impl Identity {
    /// Reads the credential of a leaf that signs with `signature_key`.
    ///
    /// A basic credential is a client's URI, `mimi://host/d/<user>/<device>`, or its user's, `mimi://host/u/<user>`. A
    /// pseudonymous one names both and is for the leaf's key. Others are refused: nothing says how they name a user.
    pub fn parse(credential: &Credential, signature_key: &[u8]) -> Result<Self, IdentityError> {
        let (user, client) = match credential {
            Credential::Basic { identity } => named(identity)?,
            Credential::Other {
                credential_type: CredentialType::PSEUDONYMOUS,
                ..
            } => pseudonyms(credential, signature_key)?,
            other => {
                return Err(IdentityError::CredentialType {
                    found: other.credential_type(),
                });
            }
        };
        Ok(Self {
            user,
            client,
            credential: credential.clone(),
        })
    }

    /// The user, as the participant list names them.
    #[must_use]
    pub const fn user(&self) -> &MimiUri {
        &self.user
    }

    /// The client, unless the credential names nothing but its user.
    #[must_use]
    pub const fn client(&self) -> Option<&MimiUri> {
        self.client.as_ref()
    }

    /// The credential, for claims that a policy asks for.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether both are the same client, as far as their credentials tell: clients that only name their user are taken
    /// for the same if the user is.
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.user == other.user && self.client == other.client
    }

    /// Whether it tells no name (MIMI #credential-encryption).
    fn is_pseudonymous(&self) -> bool {
        self.credential.credential_type() == CredentialType::PSEUDONYMOUS
    }

    pub(super) fn of_leaf(node: &LeafNode) -> Result<Self, IdentityError> {
        let credential = node
            .credential()
            .tls_serialize_detached()
            .map_err(|_| IdentityError::Malformed)?;
        let credential = Credential::from_bytes(&credential).map_err(|_| IdentityError::Malformed)?;
        Self::parse(&credential, node.signature_key().as_slice())
    }
}

/// A client in the group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its leaf's index.
    pub leaf: u32,
    /// Who it is.
    pub identity: Identity,
}

impl Member {
    pub(super) fn at(leaf: u32, node: &LeafNode) -> Result<Self, MimiRefusal> {
        let identity = Identity::of_leaf(node).map_err(MimiRefusal::Identity)?;
        Ok(Self { leaf, identity })
    }
}

/// Why a credential does not say who a client is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// Neither basic nor pseudonymous.
    #[error("a credential of type {} names nobody we could find on a participant list", found.0)]
    CredentialType {
        /// The type.
        found: CredentialType,
    },
    /// The content is not what the type says, or not text.
    #[error("the credential is malformed")]
    Malformed,
    /// What it names is no `mimi` URI.
    #[error("the credential's URI {0}")]
    Uri(MimiUriError),
    /// It names a room, a group or a provider, or a client without saying whose.
    #[error("the credential names neither a user nor a user's client")]
    NotAClient,
    /// A pseudonym for another key than the leaf's.
    #[error("the credential is for another key than the leaf's")]
    OtherKey,
}

fn named(identity: &[u8]) -> Result<(MimiUri, Option<MimiUri>), IdentityError> {
    let text = std::str::from_utf8(identity).map_err(|_| IdentityError::Malformed)?;
    let uri = MimiUri::parse(text).map_err(IdentityError::Uri)?;
    match uri.kind() {
        MimiKind::User => Ok((uri, None)),
        MimiKind::Client => {
            let (user, device) = uri.name().split_once('/').ok_or(IdentityError::NotAClient)?;
            if device.contains('/') {
                return Err(IdentityError::NotAClient);
            }
            let user = format!("mimi://{}/u/{user}", uri.host());
            let user = MimiUri::parse(&user).map_err(IdentityError::Uri)?;
            Ok((user, Some(uri)))
        }
        _ => Err(IdentityError::NotAClient),
    }
}

fn pseudonyms(credential: &Credential, signature_key: &[u8]) -> Result<(MimiUri, Option<MimiUri>), IdentityError> {
    let pseudonymous = credential
        .pseudonymous()
        .ok_or(IdentityError::Malformed)?
        .map_err(|_| IdentityError::Malformed)?;
    if pseudonymous.signature_public_key.as_ref() as &[u8] != signature_key {
        return Err(IdentityError::OtherKey);
    }
    let uri = |uri: &str| MimiUri::parse(uri).map_err(IdentityError::Uri);
    Ok((
        uri(&pseudonymous.user_pseudonym)?,
        Some(uri(&pseudonymous.client_pseudonym)?),
    ))
}

/// Which client is at which leaf.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Roster {
    by_leaf: BTreeMap<u32, Identity>,
    by_user: BTreeMap<MimiUri, BTreeSet<u32>>,
}

impl Roster {
    pub(super) fn new(group: &PublicGroup) -> Result<Self, MimiRefusal> {
        let mut roster = Self::default();
        for (leaf, node) in group.treesync().full_leaves() {
            let member = Member::at(leaf.u32(), node)?;
            if roster.is_member_already(&member.identity, &BTreeSet::new()) {
                return Err(MimiRefusal::ClientTwice);
            }
            roster.set(member);
        }
        Ok(roster)
    }

    pub(super) fn at(&self, leaf: u32) -> Option<&Identity> {
        self.by_leaf.get(&leaf)
    }

    pub(super) fn member_at(&self, leaf: u32) -> Option<Member> {
        let identity = self.at(leaf)?.clone();
        Some(Member { leaf, identity })
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &Identity)> {
        self.by_leaf.iter().map(|(leaf, identity)| (*leaf, identity))
    }

    pub(super) fn leaves_of(&self, user: &MimiUri) -> impl Iterator<Item = u32> + '_ {
        self.by_user.get(user).into_iter().flatten().copied()
    }

    /// Whether a client that can be told from its user's others has a leaf that is not among `gone`.
    pub(super) fn is_member_already(&self, newcomer: &Identity, gone: &BTreeSet<u32>) -> bool {
        newcomer.client.is_some()
            && self
                .leaves_of(&newcomer.user)
                .filter(|leaf| !gone.contains(leaf))
                .filter_map(|leaf| self.at(leaf))
                .any(|member| member.is_same_client(newcomer))
    }

    /// In a room with minimal metadata, which is one whose clients all have pseudonymous credentials, new leaves have such as well (MIMI
    /// #credential-encryption, D-minimal-metadata).
    pub(super) fn check_pseudonyms<'i>(&self, mut new: impl Iterator<Item = &'i Identity>) -> Result<(), MimiRefusal> {
        if new.any(|identity| !identity.is_pseudonymous()) && self.by_leaf.values().all(Identity::is_pseudonymous) {
            return Err(MimiRefusal::NameAmongPseudonyms);
        }
        Ok(())
    }

    /// The leaves that new members take, in this order: a new member takes the leftmost blank leaf, and removals come first
    /// (RFC 9420, 12.3).
    pub(super) fn free_leaves<'r>(&'r self, gone: &'r BTreeSet<u32>) -> impl Iterator<Item = u32> + 'r {
        let staying = self.by_leaf.keys().filter(|leaf| !gone.contains(leaf));
        let mut taken = staying.peekable();
        (0..=u32::MAX).filter(move |leaf| taken.next_if_eq(&leaf).is_none())
    }

    pub(super) fn set(&mut self, member: Member) {
        self.clear(member.leaf);
        let user = member.identity.user.clone();
        self.by_user.entry(user).or_default().insert(member.leaf);
        self.by_leaf.insert(member.leaf, member.identity);
    }

    pub(super) fn clear(&mut self, leaf: u32) {
        let Some(identity) = self.by_leaf.remove(&leaf) else {
            return;
        };
        if let Some(leaves) = self.by_user.get_mut(&identity.user) {
            leaves.remove(&leaf);
            if leaves.is_empty() {
                self.by_user.remove(&identity.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nabe_wire::Encode as _;
    use nabe_wire::IdentifierUri;
    use nabe_wire::pseudonym::PseudonymousCredential;

    use super::*;

    fn basic(identity: &str) -> Result<Identity, IdentityError> {
        let identity = identity.as_bytes().into();
        Identity::parse(&Credential::Basic { identity }, b"key")
    }

    #[test]
    fn a_client_names_its_user() {
        let phone = basic("mimi://A.example/d/alice/phone").unwrap();
        assert_eq!(phone.user().to_string(), "mimi://a.example/u/alice");
        assert_eq!(phone.client().unwrap().to_string(), "mimi://a.example/d/alice/phone");
        let tablet = basic("mimi://a.example/d/alice/tablet").unwrap();
        assert_eq!(phone.user(), tablet.user());
        assert!(!phone.is_same_client(&tablet));
    }

    #[test]
    fn a_client_may_name_nothing_but_its_user() {
        let alice = basic("mimi://a.example/u/alice").unwrap();
        assert_eq!(alice.user().to_string(), "mimi://a.example/u/alice");
        assert_eq!(alice.client(), None);
    }

    #[test]
    fn what_names_no_user_is_refused() {
        for uri in [
            "mimi://a.example",
            "mimi://a.example/r/room",
            "mimi://a.example/g/room",
            "mimi://a.example/d/phone",
            "mimi://a.example/d/alice/phone/2",
        ] {
            assert_eq!(basic(uri), Err(IdentityError::NotAClient), "{uri}");
        }
        assert_eq!(
            basic("https://a.example"),
            Err(IdentityError::Uri(MimiUriError::Scheme))
        );
        let chain = Credential::X509 {
            certificates: Vec::new(),
        };
        let found = CredentialType::X509;
        assert_eq!(
            Identity::parse(&chain, b"key"),
            Err(IdentityError::CredentialType { found })
        );
    }

    #[test]
    fn a_pseudonym_names_user_and_client_and_is_for_the_leaf_s_key() {
        let uri = |uri| IdentifierUri::new(uri).unwrap();
        let content = PseudonymousCredential {
            client_pseudonym: uri("mimi://a.example/d/9f/1"),
            user_pseudonym: uri("mimi://a.example/u/3c"),
            signature_public_key: b"key".as_slice().into(),
            identity_link_ciphertext: b"sealed".as_slice().into(),
        };
        let credential = Credential::Other {
            credential_type: CredentialType::PSEUDONYMOUS,
            content: content.to_bytes().into(),
        };
        let identity = Identity::parse(&credential, b"key").unwrap();
        assert_eq!(identity.user().to_string(), "mimi://a.example/u/3c");
        assert_eq!(identity.client().unwrap().to_string(), "mimi://a.example/d/9f/1");
        assert_eq!(Identity::parse(&credential, b"other"), Err(IdentityError::OtherKey));
    }
}
