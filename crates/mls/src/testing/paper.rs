//! A group's public state written down instead of grown commit by commit, which at some thousand members takes minutes to
//! hours. Its leaves are sound and signed, its parents hash as they should, and nobody has the keys of the parents: whoever joins
//! externally has a real group all the same.

use openmls::credentials::Credential;
use openmls::prelude::Capabilities;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::signatures::Signer as _;
use openmls_traits::types::HashType;

use super::{TestDevice, wall_clock};
use crate::codec::{labeled, write_opaque};
use crate::group_info::EXTERNAL_PUB;
use crate::provider::crypto;
use crate::suite::Suite;

/// What the inner nodes of the tree are like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parents {
    /// There are none yet: everybody was added and nobody has committed since. A path then names every leaf.
    Blank,
    /// As `Blank`, and the key packages of all have expired an hour ago.
    Expired,
    /// All are there and no leaf is unmerged: everybody has committed lately. A path is as short as can be.
    Full,
}

/// The `GroupInfo` of a group at epoch 0 with these members, at least one, all of the first one's suite, which hashes by SHA-256; an `MLSMessage` with ratchet tree
/// and external public key, signed by the first.
///
/// # Panics
/// If there is no device.
#[must_use]
pub fn group_state_on_paper(room: &str, members: &[TestDevice], parents: Parents) -> Vec<u8> {
    let (tree, tree_hash) = tree_on_paper(room, members, parents);
    let info = group_info_on_paper(room, &members[0], &tree_hash, &[], Some(&tree));
    [&[0, 1, 0, 4], &info[..]].concat()
}

/// What a leaf on paper is made of.
pub(super) trait OnPaper {
    fn suite(&self) -> Suite;
    fn signature_key(&self) -> &[u8];
    fn sign(&self, message: &[u8]) -> Vec<u8>;
    fn credential(&self) -> Credential;
    fn capabilities(&self) -> Capabilities;
    /// The content of the leaf's `extensions`.
    fn extensions(&self) -> Vec<u8>;
}

impl OnPaper for TestDevice {
    fn suite(&self) -> Suite {
        Self::suite(self)
    }

    fn signature_key(&self) -> &[u8] {
        Self::signature_key(self)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.shared.signer.sign(message).expect("the key signs")
    }

    fn credential(&self) -> Credential {
        self.leaf_credential.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self)
    }

    fn extensions(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A ratchet tree with these leaves as the content of a `ratchet_tree` extension, and its hash.
pub(super) fn tree_on_paper<M: OnPaper>(group_id: &str, members: &[M], parents: Parents) -> (Vec<u8>, Vec<u8>) {
    let height = members.len().next_power_of_two().trailing_zeros();
    let mut tree = Tree {
        group_id,
        members,
        parents,
        nodes: vec![None; 2 * members.len() - 1],
    };
    let tree_hash = tree.subtree(0, height, &[]);
    let mut encoded = Vec::new();
    for node in &tree.nodes {
        push_optional(&mut encoded, node.as_deref());
    }
    let mut ratchet_tree = Vec::new();
    write_opaque(&mut ratchet_tree, &encoded);
    (ratchet_tree, tree_hash)
}

/// A bare `GroupInfo` of epoch 0, signed for leaf 0. `context_extensions` is the content of the context's `extensions`.
pub(super) fn group_info_on_paper(
    group_id: &str,
    signer: &impl OnPaper,
    tree_hash: &[u8],
    context_extensions: &[u8],
    tree: Option<&[u8]>,
) -> Vec<u8> {
    let mut external_pub = Vec::new();
    write_opaque(&mut external_pub, &public_key(signer.suite(), b"external_pub"));
    let mut extensions = Vec::new();
    let tree = tree.map(|tree| (RATCHET_TREE, tree));
    for (kind, data) in tree.into_iter().chain([(EXTERNAL_PUB, &external_pub[..])]) {
        extensions.extend_from_slice(&kind.to_be_bytes());
        write_opaque(&mut extensions, data);
    }
    let mut info = [MLS_1_0.to_be_bytes(), signer.suite().id().to_be_bytes()].concat();
    write_opaque(&mut info, group_id.as_bytes());
    info.extend_from_slice(&0_u64.to_be_bytes()); // epoch
    write_opaque(&mut info, tree_hash);
    write_opaque(&mut info, b""); // confirmed_transcript_hash
    write_opaque(&mut info, context_extensions);
    write_opaque(&mut info, &extensions);
    write_opaque(&mut info, &hash(b"confirmation_tag"));
    info.extend_from_slice(&0_u32.to_be_bytes()); // signer
    let signature = signer.sign(&labeled("GroupInfoTBS", &info));
    write_opaque(&mut info, &signature);
    info
}

struct Tree<'a, M> {
    group_id: &'a str,
    members: &'a [M],
    parents: Parents,
    /// `Node`s in the order of the array, the blank ones at the end left out.
    nodes: Vec<Option<Vec<u8>>>,
}

impl<M: OnPaper> Tree<'_, M> {
    fn public_key(&self, label: &[u8]) -> Vec<u8> {
        public_key(self.members[0].suite(), label)
    }

    /// Makes the nodes over 2^`height` leaves from `first` on. `parent_hash` is what the subtree's uppermost node has to say of the
    /// nodes above. Returns the tree hash.
    fn subtree(&mut self, first: usize, height: u32, parent_hash: &[u8]) -> Vec<u8> {
        if height == 0 {
            return self.leaf(first, parent_hash);
        }
        let half = 1 << (height - 1);
        let middle = first + half;
        let key = self.public_key(format!("parent {first} {height}").as_bytes());
        let is_there = self.parents == Parents::Full && middle < self.members.len();
        let (left, right, node) = if is_there {
            // The last commit below came from the left. What the right says of this node is of an earlier commit.
            let right = self.subtree(middle, height - 1, &hash(b"replaced since"));
            let mut input = Vec::new();
            write_all(&mut input, &[&key, parent_hash, &right]);
            let left = self.subtree(first, height - 1, &hash(&input));
            let mut node = Vec::new();
            write_all(&mut node, &[&key, parent_hash, b""]);
            (left, right, Some(node))
        } else {
            let left = self.subtree(first, height - 1, parent_hash);
            (left, self.subtree(middle, height - 1, &[]), None)
        };
        let mut input = vec![PARENT];
        push_optional(&mut input, node.as_deref());
        write_all(&mut input, &[&left, &right]);
        if let Some(node) = node {
            self.nodes[2 * first + 2 * half - 1] = Some([&[PARENT], &node[..]].concat());
        }
        hash(&input)
    }

    fn leaf(&mut self, index: usize, parent_hash: &[u8]) -> Vec<u8> {
        let number = u32::try_from(index).expect("a test's group is small").to_be_bytes();
        let node = self
            .members
            .get(index)
            .map(|device| self.leaf_node(device, number, parent_hash));
        let mut input = [&[LEAF], &number[..]].concat();
        push_optional(&mut input, node.as_deref());
        if let Some(node) = node {
            self.nodes[2 * index] = Some([&[LEAF], &node[..]].concat());
        }
        hash(&input)
    }

    fn leaf_node(&self, device: &M, index: [u8; 4], parent_hash: &[u8]) -> Vec<u8> {
        let mut node = Vec::new();
        write_opaque(&mut node, &self.public_key(&[b"leaf", &index[..]].concat()));
        write_opaque(&mut node, device.signature_key());
        encode(&mut node, &device.credential());
        encode(&mut node, &device.capabilities());
        let is_committed = self.parents == Parents::Full;
        if is_committed {
            node.push(FROM_COMMIT);
            write_opaque(&mut node, parent_hash);
        } else {
            let now = wall_clock().0 / 1000;
            let (begins, ends) = match self.parents {
                Parents::Expired => (now - 80 * 24 * HOUR, now - HOUR),
                Parents::Blank | Parents::Full => (now - HOUR, now + 80 * 24 * HOUR),
            };
            node.push(FROM_KEY_PACKAGE);
            node.extend_from_slice(&begins.to_be_bytes());
            node.extend_from_slice(&ends.to_be_bytes());
        }
        write_opaque(&mut node, &device.extensions());
        let mut signed = node.clone();
        if is_committed {
            write_opaque(&mut signed, self.group_id.as_bytes());
            signed.extend_from_slice(&index);
        }
        let signature = device.sign(&labeled("LeafNodeTBS", &signed));
        write_opaque(&mut node, &signature);
        node
    }
}

fn write_all(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        write_opaque(out, part);
    }
}

fn encode(out: &mut Vec<u8>, value: &impl tls_codec::Serialize) {
    out.extend(value.tls_serialize_detached().expect("memory takes every value"));
}

fn push_optional(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(value.unwrap_or_default());
}

/// A key that things can be sealed for and nobody opens: any 32 bytes with X25519, a point of the curve otherwise.
fn public_key(suite: Suite, label: &[u8]) -> Vec<u8> {
    let seed = hash(label);
    if [Suite::X25519_AES128, Suite::X25519_CHACHA20].contains(&suite) {
        return seed;
    }
    let pair = crypto().derive_hpke_keypair(suite.ciphersuite().hpke_config(), &seed);
    pair.expect("the suite is supported").public
}

fn hash(input: &[u8]) -> Vec<u8> {
    crypto().hash(HashType::Sha2_256, input).expect("SHA-256 is supported")
}

const MLS_1_0: u16 = 1;
const RATCHET_TREE: u16 = 2;
const LEAF: u8 = 1;
const PARENT: u8 = 2;
const FROM_KEY_PACKAGE: u8 = 1;
const FROM_COMMIT: u8 = 3;
const HOUR: u64 = 60 * 60;

#[cfg(test)]
mod tests {
    use nabe_types::RoomId;

    use super::*;
    use crate::{HubGroup, Suite};

    const ROOM: &str = "!room:a.test";

    #[test]
    fn a_group_on_paper_can_be_joined_and_followed() {
        for parents in [Parents::Blank, Parents::Full] {
            for members in [1, 2, 3, 5, 8, 13] {
                let device = |number| TestDevice::new(&format!("@user{number}:a.test"), "D");
                let devices: Vec<_> = (0..members).map(device).collect();
                let state = group_state_on_paper(ROOM, &devices, parents);
                let (mut alice, join) = device(members).join_externally(&state);
                let room = RoomId::parse(ROOM).unwrap();
                let (message, state) = (&join.message, &join.group_state);
                let (mut hub, _) = HubGroup::bootstrap(&room, Suite::default(), message, state, wall_clock()).unwrap();
                let commit = alice.remove(&[0]);
                alice.merge();
                let change = hub.stage(&commit.message, &commit.group_state, wall_clock()).unwrap();
                hub.merge(&change).unwrap();
                assert_eq!(hub.members().len(), members, "{parents:?}");
                assert_eq!(hub.tree_hash(), alice.tree_hash(), "{parents:?} {members}");
            }
        }
    }
}
