//! Ratchet trees as they are sent: the hash of one that came (RFC 9420, 7.8), to be compared with that of the tree the hub has; and the
//! hub's own after a commit that it has only staged.

use std::collections::BTreeMap;
use std::fmt;

use nabe_wire::Encode as _;
use nabe_wire::mls::{Node, NodeType, RatchetTree, RatchetTreeSource};
use openmls::prelude::{LeafNodeIndex, ParentNodeIndex};
use openmls::treesync::{LeafNode, ParentNode};
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::HashType;

use super::MimiGroup;
use crate::codec::{write_opaque, write_opaque_by};
use crate::provider::crypto;

/// The tree hash of `tree`, whose nodes are in the order of the array, the blank ones at its end left out. `None` if it cannot be
/// a tree: a leaf where a parent belongs, too many nodes, or none.
pub(super) fn hash(tree: &RatchetTree, hash: HashType) -> Option<Vec<u8>> {
    // n leaves take 2n - 1 places; a full tree has a power of two of them.
    let leaves = tree.len().checked_add(1)?.div_ceil(2).next_power_of_two();
    if tree.last()?.is_none() {
        return None;
    }
    let hasher = Hasher { tree, hash };
    hasher.subtree(0, leaves)
}

struct Hasher<'t> {
    tree: &'t RatchetTree,
    hash: HashType,
}

impl Hasher<'_> {
    /// The hash of the subtree over `width` leaves from `first` on.
    fn subtree(&self, first: usize, width: usize) -> Option<Vec<u8>> {
        let mut input = Vec::new();
        if width == 1 {
            input.push(LEAF);
            input.extend_from_slice(&u32::try_from(first).ok()?.to_be_bytes());
            match self.node(2 * first) {
                None => input.push(0),
                Some(Node::Leaf(leaf)) => {
                    input.push(1);
                    leaf.encode(&mut input);
                }
                Some(Node::Parent(_)) => return None,
            }
        } else {
            let half = width / 2;
            input.push(PARENT);
            match self.node(2 * first + width - 1) {
                None => input.push(0),
                Some(Node::Parent(parent)) => {
                    input.push(1);
                    parent.encode(&mut input);
                }
                Some(Node::Leaf(_)) => return None,
            }
            write_opaque(&mut input, &self.subtree(first, half)?);
            write_opaque(&mut input, &self.subtree(first + half, half)?);
        }
        crypto().hash(self.hash, &input).ok()
    }

    fn node(&self, place: usize) -> Option<&Node> {
        self.tree.get(place)?.as_deref()
    }
}

/// The tree that a staged commit makes of its group's: the nodes that are new at their places, or blank from then on, and how many places
/// there are.
pub struct TreeAfter {
    pub(super) leaves: BTreeMap<LeafNodeIndex, Option<LeafNode>>,
    pub(super) parents: BTreeMap<ParentNodeIndex, Option<ParentNode>>,
    /// Of leaves and inner nodes together.
    pub(super) places: u32,
}

impl TreeAfter {
    /// Appends the tree as a `RatchetTreeOption`, as it is sent. `group` is the one that the commit was staged on, before it is merged.
    pub fn encode(&self, group: &MimiGroup, out: &mut Vec<u8>) {
        let tree = group.state.group.treesync();
        let count = usize::try_from(self.places)
            .expect("a tree fits into memory")
            .div_ceil(2);
        let mut leaves = vec![None; count];
        place(
            &mut leaves,
            tree.full_leaves().map(|(index, node)| (index.u32(), Some(node))),
        );
        place(
            &mut leaves,
            self.leaves.iter().map(|(index, node)| (index.u32(), node.as_ref())),
        );
        let mut parents = vec![None; count];
        place(
            &mut parents,
            tree.full_parents().map(|(index, node)| (index.u32(), Some(node))),
        );
        place(
            &mut parents,
            self.parents.iter().map(|(index, node)| (index.u32(), node.as_ref())),
        );
        // Blank nodes at the end are left out, and there is no inner node behind the last leaf.
        let last = leaves.iter().rposition(Option::is_some).unwrap_or(0);
        out.reserve((last + 1) * BYTES_PER_LEAF);
        RatchetTreeSource::FULL.encode(out);
        write_opaque_by(out, |out| {
            for (leaf, parent) in leaves.iter().zip(&parents).take(last) {
                write_node(out, NodeType::LEAF, *leaf);
                write_node(out, NodeType::PARENT, *parent);
            }
            write_node(out, NodeType::LEAF, leaves[last]);
        });
    }
}

impl fmt::Debug for TreeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<_> = self.leaves.keys().map(LeafNodeIndex::u32).collect();
        f.debug_struct("TreeAfter")
            .field("leaves", &changed)
            .field("places", &self.places)
            .finish()
    }
}

/// Puts nodes to their places, if there are such.
fn place<'n, T>(nodes: &mut [Option<&'n T>], new: impl Iterator<Item = (u32, Option<&'n T>)>) {
    for (index, node) in new {
        let place = usize::try_from(index).ok().and_then(|index| nodes.get_mut(index));
        if let Some(place) = place {
            *place = node;
        }
    }
}

/// `optional<Node>`
fn write_node(out: &mut Vec<u8>, node_type: NodeType, node: Option<&impl tls_codec::Serialize>) {
    let Some(node) = node else {
        out.push(0);
        return;
    };
    out.extend_from_slice(&[1, node_type.0]);
    node.tls_serialize(out).expect("a node that was decoded encodes");
}

const LEAF: u8 = 1;
const PARENT: u8 = 2;
/// About what a leaf and its share of the inner nodes take.
const BYTES_PER_LEAF: usize = 384;
