//! How a group is stored: whole, and as changes from epoch to epoch.
//!
//! Both hold types of OpenMLS in postcard, a compact binary form that names no fields. Such bytes only mean something to
//! the version that wrote them, so a tag stands in front: our format's number and OpenMLS's version.

use bytes::Bytes;
use nabe_types::MembershipDelta;
use openmls::group::{GroupContext, InterimTranscriptHash, ProposalQueue, PublicGroup, StagedCommit};
use openmls::messages::ConfirmationTag;
use openmls_traits::crypto::OpenMlsCrypto as _;
use serde::{Deserialize, Serialize};
use tls_codec::Serialize as _;

use crate::provider::{self, crypto};

/// What bytes hold once their tag is known.
pub(crate) enum Stored<'a> {
    Group(StoredGroup<'a>),
    Change(StoredChange<'a>),
}

/// A whole group, and what beginning with it meant if it is the first change of a room.
#[derive(Deserialize, Serialize)]
pub(crate) struct StoredGroup<'a> {
    begins: Option<&'a [u8]>,
    #[serde(borrow)]
    tree: &'a [u8],
    context: &'a [u8],
    interim_transcript_hash: &'a [u8],
    confirmation_tag: &'a [u8],
}

/// A commit's effect.
#[derive(Deserialize, Serialize)]
pub(crate) struct StoredChange<'a> {
    /// The group it belongs to: epoch, and hash over all that led there.
    from_epoch: u64,
    #[serde(borrow)]
    from_transcript: &'a [u8],
    delta: &'a [u8],
    staged: &'a [u8],
}

/// Why stored bytes do not give a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version of our format or of OpenMLS.
    #[error("the group was stored by another version")]
    OtherVersion,
    /// Not what the tag says it is.
    #[error("the stored group does not decode")]
    Malformed,
    /// The change belongs to another epoch, or to another group, than the one it is to change.
    #[error("the stored change is not for this epoch of this group")]
    WrongEpoch,
}

impl<'a> Stored<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, RestoreError> {
        let (tag, body): (Tag<'_>, _) = postcard::take_from_bytes(bytes).map_err(|_| RestoreError::OtherVersion)?;
        if tag.format != FORMAT || tag.openmls != OPENMLS {
            return Err(RestoreError::OtherVersion);
        }
        match tag.kind {
            KIND_GROUP => decode(body).map(Stored::Group),
            KIND_CHANGE => decode(body).map(Stored::Change),
            _ => Err(RestoreError::Malformed),
        }
    }

    /// The group as the first change of a room.
    pub(crate) fn begin(group: &PublicGroup, delta: &MembershipDelta) -> Bytes {
        encode_group(group, Some(&encode(&(delta, epoch(group)))))
    }

    pub(crate) fn checkpoint(group: &PublicGroup) -> Bytes {
        encode_group(group, None)
    }

    pub(crate) fn change(group: &PublicGroup, delta: &MembershipDelta, mut staged: StagedCommit) -> Bytes {
        // The proposals are done; what they did is in the tree. They would repeat the key packages.
        staged.staged_proposal_queue = ProposalQueue::default();
        let change = StoredChange {
            from_epoch: epoch(group),
            from_transcript: group.group_context().confirmed_transcript_hash(),
            delta: &encode(delta),
            staged: &encode(&staged),
        };
        tagged(KIND_CHANGE, &encode(&change))
    }
}

impl StoredGroup<'_> {
    pub(crate) fn load(&self) -> Result<PublicGroup, RestoreError> {
        let storage = provider::StoredGroup {
            tree: self.tree,
            context: self.context,
            interim_transcript_hash: self.interim_transcript_hash,
            confirmation_tag: self.confirmation_tag,
        };
        let context: GroupContext = decode(self.context)?;
        PublicGroup::load(&storage, context.group_id())
            .ok()
            .flatten()
            .ok_or(RestoreError::Malformed)
    }

    pub(crate) fn delta(&self) -> Result<Option<(MembershipDelta, u64)>, RestoreError> {
        self.begins.map(decode).transpose()
    }
}

impl StoredChange<'_> {
    pub(crate) fn load(&self, group: &PublicGroup) -> Result<(MembershipDelta, StagedCommit), RestoreError> {
        let context = group.group_context();
        if self.from_epoch != epoch(group) || self.from_transcript != context.confirmed_transcript_hash() {
            return Err(RestoreError::WrongEpoch);
        }
        Ok((decode(self.delta)?, decode(self.staged)?))
    }

    pub(crate) fn delta(&self) -> Result<(MembershipDelta, u64), RestoreError> {
        Ok((decode(self.delta)?, self.from_epoch.saturating_add(1)))
    }
}

#[derive(Deserialize, Serialize)]
struct Tag<'a> {
    format: u8,
    openmls: &'a str,
    kind: u8,
}

fn tagged(kind: u8, body: &[u8]) -> Bytes {
    let tag = Tag {
        format: FORMAT,
        openmls: OPENMLS,
        kind,
    };
    [&encode(&tag), body].concat().into()
}

fn epoch(group: &PublicGroup) -> u64 {
    group.group_context().epoch().as_u64()
}

fn encode_group(group: &PublicGroup, begins: Option<&[u8]>) -> Bytes {
    let stored = StoredGroup {
        begins,
        tree: &encode(group.treesync()),
        context: &encode(group.group_context()),
        interim_transcript_hash: &encode(&interim_transcript_hash(
            group.group_context(),
            group.confirmation_tag(),
        )),
        confirmation_tag: &encode(group.confirmation_tag()),
    };
    tagged(KIND_GROUP, &encode(&stored))
}

/// The hash that the next commit's transcript continues (RFC 9420, 8.2). OpenMLS keeps it and shows it to no one, but it
/// follows from what it shows.
pub(crate) fn interim_transcript_hash(context: &GroupContext, tag: &ConfirmationTag) -> InterimTranscriptHash {
    let mut input = context.confirmed_transcript_hash().to_vec();
    tag.tls_serialize(&mut input).expect("a tag that was decoded encodes");
    let hash = crypto()
        .hash(context.ciphersuite().hash_algorithm(), &input)
        .expect("the suite's hash is supported, as the suite is");
    InterimTranscriptHash(hash)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("memory takes every value, and no value here has a length that is unknown")
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RestoreError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(RestoreError::Malformed),
    }
}

/// Of the envelope and of what is in it besides OpenMLS's types.
const FORMAT: u8 = 1;
/// The version that the workspace pins; a test compares.
const OPENMLS: &str = "0.9.2";
const KIND_GROUP: u8 = 0;
const KIND_CHANGE: u8 = 1;
