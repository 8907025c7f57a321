//! Keys are in a tree once: a joiner takes a tree in which two leaves sign with one key, or two nodes are encrypted to by one, for invalid
//! (RFC 9420, 7.3 and 12.4.3.1), and a committer must see to it (RFC 9420, 12.4.2). OpenMLS compares the keys of those who are added
//! with those of all leaves, and a path's encryption keys with the leaves'. What it does not compare is compared here; otherwise one member
//! could make a tree by which nobody joins any more.

use nabe_types::{DeviceRef, MembershipDelta};
use openmls::group::{PublicGroup, StagedCommit};
use openmls::prelude::Proposal;
use openmls::treesync::LeafNode;
use tls_codec::Serialize as _;

use crate::codec::{Malformed, Reader};
use crate::refusal::GroupRefusal;

/// Holds the new keys of a commit against those that stay. `message` is the commit that was staged on `group`, `delta` what it changes.
pub(crate) fn check(
    group: &PublicGroup,
    message: &[u8],
    staged: &StagedCommit,
    delta: &MembershipDelta,
) -> Result<(), GroupRefusal> {
    if let Some(leaf) = staged.update_path_leaf_node() {
        check_signature_key(group, leaf, staged, delta)?;
    }
    check_encryption_keys(group, message, staged, delta)
}

/// The key that the committer signs with from now on is no other leaf's.
fn check_signature_key(
    group: &PublicGroup,
    committer: &LeafNode,
    staged: &StagedCommit,
    delta: &MembershipDelta,
) -> Result<(), GroupRefusal> {
    let own = delta.committer.leaf;
    let has_key = |node: &LeafNode| node.signature_key() == committer.signature_key();
    let others = || group.treesync().full_leaves().map(|(leaf, node)| (leaf.u32(), node));
    if !delta.external && others().any(|(leaf, node)| leaf == own && has_key(node)) {
        // It stays, and those who are added have been compared with it.
        return Ok(());
    }
    let is_removed = |leaf: u32| delta.removed.iter().any(|device| device.leaf == leaf);
    let staying = others().find(|&(leaf, node)| has_key(node) && leaf != own && !is_removed(leaf));
    if let Some((leaf, _)) = staying {
        return Err(GroupRefusal::SignatureKeyInUse { leaf });
    }
    match added_leaves(staged).zip(&delta.added).find(|(node, _)| has_key(node)) {
        Some((_, &DeviceRef { leaf, .. })) => Err(GroupRefusal::SignatureKeyInUse { leaf }),
        None => Ok(()),
    }
}

/// Those who are added and the path have no key of an inner node.
fn check_encryption_keys(
    group: &PublicGroup,
    message: &[u8],
    staged: &StagedCommit,
    delta: &MembershipDelta,
) -> Result<(), GroupRefusal> {
    let added = added_leaves(staged)
        .chain(proposed_leaves(staged))
        .map(|node| node.encryption_key().tls_serialize_detached());
    let added = added.collect::<Result<Vec<_>, _>>();
    let added = added.map_err(|_| GroupRefusal::InvalidLeaf)?;
    let mut keys = path_keys(message).map_err(|_| GroupRefusal::MessageMalformed)?;
    let replaced = delta.removed.iter().chain(&delta.updated).map(|device| device.leaf);
    let mut replaced: Vec<u32> = replaced.collect();
    if !keys.is_empty() {
        replaced.push(delta.committer.leaf);
    }
    for key in &added {
        keys.push(Reader::new(key).opaque().map_err(|_| GroupRefusal::InvalidLeaf)?);
    }
    check_inner_nodes(group, keys, &replaced)
}

/// None of these new encryption keys is that of an inner node that stays. Those above a leaf that is `replaced` do not: a commit's path
/// replaces them, a removal and an update blank them.
pub(crate) fn check_inner_nodes(
    group: &PublicGroup,
    mut keys: Vec<&[u8]>,
    replaced: &[u32],
) -> Result<(), GroupRefusal> {
    keys.sort_unstable();
    let mut encoded = Vec::new();
    for (index, node) in group.treesync().full_parents() {
        // struct { HPKEPublicKey encryption_key; ... } ParentNode: OpenMLS does not show the key by itself.
        encoded.clear();
        let encoding = node.tls_serialize(&mut encoded);
        encoding.map_err(|_| GroupRefusal::InvalidCommit)?;
        let key = Reader::new(&encoded).opaque();
        let key = key.map_err(|_| GroupRefusal::InvalidCommit)?;
        if keys.binary_search(&key).is_ok() && !replaced.iter().any(|&leaf| is_above(index.u32(), leaf)) {
            return Err(GroupRefusal::EncryptionKeyInUse);
        }
    }
    Ok(())
}

fn added_leaves(staged: &StagedCommit) -> impl Iterator<Item = &LeafNode> {
    staged.queued_proposals().filter_map(|queued| match queued.proposal() {
        Proposal::Add(add) => Some(add.key_package().leaf_node()),
        _ => None,
    })
}

/// What members put in the place of their own leaves by proposals, which a room's do not.
fn proposed_leaves(staged: &StagedCommit) -> impl Iterator<Item = &LeafNode> {
    staged.queued_proposals().filter_map(|queued| match queued.proposal() {
        Proposal::Update(update) => Some(update.leaf_node()),
        _ => None,
    })
}

/// Whether inner node number `parent`, counted from the left, is above leaf number `leaf` (RFC 9420, appendix C).
fn is_above(parent: u32, leaf: u32) -> bool {
    let (parent, leaf) = (u64::from(parent) * 2 + 1, u64::from(leaf) * 2);
    let height = parent.trailing_ones();
    parent >> (height + 1) == leaf >> (height + 1)
}

/// The encryption keys of a commit's path, the leaf's first; none if it has no path. OpenMLS shows the leaf's alone.
///
/// ```text
/// struct {
///     LeafNode leaf_node;
///     UpdatePathNode nodes<V>;
/// } UpdatePath;
/// ```
fn path_keys(message: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut reader = Reader::new(message);
    if message.first() == Some(&0) {
        let _version_and_wire_format = reader.u32()?;
    }
    let _group_id = reader.opaque()?;
    let _epoch = reader.u64()?;
    if reader.u8()? == SENDER_MEMBER {
        let _leaf = reader.u32()?;
    }
    let _authenticated_data = reader.opaque()?;
    let _content_type = reader.u8()?;
    let _proposals = reader.opaque()?;
    if reader.u8()? == 0 {
        return Ok(Vec::new());
    }
    let mut keys = vec![reader.opaque()?];
    skip_rest_of_leaf(&mut reader)?;
    let mut nodes = Reader::new(reader.opaque()?);
    while !nodes.is_empty() {
        keys.push(nodes.opaque()?);
        let _encrypted_path_secret = nodes.opaque()?;
    }
    Ok(keys)
}

/// What comes after the `encryption_key` of a `LeafNode` with a basic credential, which all of a room's have.
fn skip_rest_of_leaf(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let _signature_key = reader.opaque()?;
    let _credential_type = reader.u16()?;
    let _identity = reader.opaque()?;
    for _capability in 0..5 {
        reader.opaque()?;
    }
    match reader.u8()? {
        SOURCE_COMMIT => reader.opaque()?,
        _ => return Err(Malformed),
    };
    let _extensions = reader.opaque()?;
    let _signature = reader.opaque()?;
    Ok(())
}

const SENDER_MEMBER: u8 = 1;
const SOURCE_COMMIT: u8 = 3;

/// The encryption key of an inner node, counted from the left.
#[cfg(test)]
pub(crate) fn of_inner_node(group: &PublicGroup, node: u32) -> Vec<u8> {
    let mut nodes = group.treesync().full_parents();
    let (_, node) = nodes.find(|(index, _)| index.u32() == node).expect("it is not blank");
    let encoded = node.tls_serialize_detached().expect("a node encodes");
    Reader::new(&encoded).opaque().expect("a node has a key").to_vec()
}

#[cfg(test)]
mod tests {
    use nabe_types::RoomId;

    use super::*;
    use crate::testing::{Parents, TestDevice, group_state_on_paper, wall_clock};
    use crate::{HubGroup, Suite};

    #[test]
    fn an_inner_node_is_above_the_leaves_of_its_subtree() {
        // Leaves 0 to 7: nodes 0, 2, 4, 6 over two each, 1 and 5 over four, 3 over all.
        let above = |leaf| (0..7).filter(|&parent| is_above(parent, leaf)).collect::<Vec<_>>();
        assert_eq!(above(0), [0, 1, 3]);
        assert_eq!(above(1), [0, 1, 3]);
        assert_eq!(above(2), [1, 2, 3]);
        assert_eq!(above(5), [3, 4, 5]);
        assert_eq!(above(7), [3, 5, 6]);
        assert!(is_above(0x3fff_ffff, 0x7fff_ffff));
    }

    #[test]
    fn the_keys_of_a_path_are_those_that_the_tree_has_afterwards() {
        let device = |number| TestDevice::new(&format!("@user{number}:a.test"), "D");
        let devices: Vec<_> = (0..11).map(device).collect();
        for parents in [Parents::Blank, Parents::Full] {
            let state = group_state_on_paper("!room:a.test", &devices, parents);
            let (mut alice, join) = device(11).join_externally(&state);
            let room = RoomId::parse("!room:a.test").unwrap();
            let (message, state) = (&join.message, &join.group_state);
            let (mut hub, _) = HubGroup::bootstrap(&room, Suite::default(), message, state, wall_clock()).unwrap();
            let commit = alice.update();
            let change = hub.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
            hub.merge(&change).unwrap();
            let group = hub.copy_public_group();
            let leaf = change.delta.committer.leaf;
            let own = group.treesync().full_leaves().find(|(index, _)| index.u32() == leaf);
            let mut expected = vec![own.unwrap().1.encryption_key().tls_serialize_detached().unwrap()];
            let parents = group.treesync().full_parents();
            let path = parents.filter(|(index, _)| is_above(index.u32(), leaf));
            expected.extend(path.map(|(_, node)| node.tls_serialize_detached().unwrap()));
            let mut expected: Vec<_> = expected
                .iter()
                .map(|node| Reader::new(node).opaque().unwrap().to_vec())
                .collect();
            let mut keys = path_keys(&commit.message).unwrap();
            assert!(keys.len() > 3, "{} keys", keys.len());
            assert_eq!(keys[0], expected[0]);
            keys.sort_unstable();
            expected.sort_unstable();
            assert_eq!(keys, expected);
            assert_eq!(path_keys(&commit.message[4..]).unwrap().len(), keys.len(), "bare");
        }
    }
}
