//! The hash of a ratchet tree as it was sent (RFC 9420, 7.8), to be compared with that of the tree the hub has.

use nabe_wire::Encode as _;
use nabe_wire::mls::{Node, RatchetTree};
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::HashType;

use crate::codec::write_opaque;
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

const LEAF: u8 = 1;
const PARENT: u8 = 2;
