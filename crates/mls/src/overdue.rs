//! Beginning with a group in which a leaf has outlived its key package. That is a sound group: the leaf was valid when it was added, and stays
//! until it is updated or removed (RFC 9420, 7.3). OpenMLS follows such a group and loads a stored one; it only does not *begin* with
//! one, as it holds every leaf of a new tree against the clock.
//!
//! On the way to an external join it lets us skip that and makes all other checks. We go that far, and then put the tree down in the form
//! in which OpenMLS stores it.

use openmls::credentials::{BasicCredential, CredentialWithKey};
use openmls::group::{MlsGroup, PublicGroup};
use openmls::messages::ConfirmationTag;
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::ExternalCommitBuilderError;
use openmls::treesync::{LeafNode, Node, ParentNode, RatchetTreeIn};
use openmls_rust_crypto::OpenMlsRustCrypto;
use serde::Serialize;
use tls_codec::Deserialize as _;

use crate::codec::write_opaque;
use crate::group_info::GroupInfoBytes;
use crate::provider::{StoredGroup, crypto};
use crate::refusal::GroupRefusal;
use crate::stored::{decode, encode, interim_transcript_hash};

/// The group of a public state, whatever the lifetimes of its leaves. The state is checked in full otherwise. The `tree` is needed where it
/// is not in the state.
pub(crate) fn load(state: &GroupInfoBytes<'_>, tree: Option<RatchetTreeIn>) -> Result<PublicGroup, GroupRefusal> {
    let read =
        || VerifiableGroupInfo::tls_deserialize_exact(state.bytes).map_err(|_| GroupRefusal::GroupStateMalformed);
    let nobody = CredentialWithKey {
        credential: BasicCredential::new(Vec::new()).into(),
        signature_key: Vec::new().into(),
    };
    let info = read()?;
    let tree = info
        .extensions()
        .ratchet_tree()
        .map(|extension| extension.ratchet_tree().clone())
        .or(tree)
        .ok_or(GroupRefusal::GroupStateWithoutTree)?;
    let provider = OpenMlsRustCrypto::default();
    let checked = MlsGroup::external_commit_builder()
        .skip_lifetime_validation()
        .with_ratchet_tree(tree.clone())
        .build_group(&provider, read()?, nobody);
    match checked {
        // The key for joining is looked for once the tree and the state have been checked.
        Ok(_) | Err(ExternalCommitBuilderError::MissingExternalPub) => {}
        Err(ExternalCommitBuilderError::PublicGroupError(error)) => return Err(error.into()),
        Err(_) => return Err(GroupRefusal::GroupStateInvalidTree),
    }
    let context = info.group_context();
    let tree = tree
        .into_verified(context.ciphersuite(), crypto(), context.group_id())
        .map_err(|_| GroupRefusal::GroupStateInvalidTree)?;
    let mut stored = StoredTree {
        tree_hash: context.tree_hash(),
        ..StoredTree::default()
    };
    // Only so does it show where nodes are blank.
    let nodes: Vec<Option<Node>> = decode(&encode(&tree)).map_err(|_| GroupRefusal::GroupStateInvalidTree)?;
    for (at, node) in nodes.iter().enumerate() {
        let is_leaf = at % 2 == 0;
        match node {
            Some(Node::LeafNode(leaf)) if is_leaf => stored.leaves.push(Some(leaf)),
            Some(Node::ParentNode(parent)) if !is_leaf => stored.parents.push(Some(parent)),
            None if is_leaf => stored.leaves.push(None),
            None => stored.parents.push(None),
            Some(_) => return Err(GroupRefusal::GroupStateInvalidTree),
        }
    }
    // The stored tree is full; what is exchanged ends with the last member.
    let size = stored.leaves.len().next_power_of_two();
    stored.leaves.resize(size, None);
    stored.parents.resize(size - 1, None);
    let mut tag = Vec::new();
    write_opaque(&mut tag, state.confirmation_tag);
    let tag = ConfirmationTag::tls_deserialize_exact(&tag).map_err(|_| GroupRefusal::GroupStateMalformed)?;
    let stored = StoredGroup {
        tree: &encode(&stored),
        context: &encode(context),
        interim_transcript_hash: &encode(&interim_transcript_hash(context, &tag)),
        confirmation_tag: &encode(&tag),
    };
    let group = PublicGroup::load(&stored, context.group_id());
    group.ok().flatten().ok_or(GroupRefusal::GroupStateInvalidTree)
}

/// OpenMLS's `TreeSync` as it is stored; a test compares.
#[derive(Default, Serialize)]
struct StoredTree<'a> {
    leaves: Vec<Option<&'a LeafNode>>,
    parents: Vec<Option<&'a ParentNode>>,
    default_leaf: Option<&'a LeafNode>,
    default_parent: Option<&'a ParentNode>,
    tree_hash: &'a [u8],
}
