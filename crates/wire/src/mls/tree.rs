//! Ratchet trees and the ways to hand them over: RFC 9420 section 12.4.3.3, draft-mahy-mls-ratchet-tree-options.

use super::key_package::LeafNode;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, Text, open_enum, wire_struct};

/// The nodes in array order, blank ones absent. The draft writes `Node ratchet_tree<V>`; it means the content of MLS's
/// extension, whose nodes are optional.
pub type RatchetTree = Vec<Option<Box<Node>>>;

/// `Node`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A member.
    Leaf(Box<LeafNode>),
    /// An inner node.
    Parent(ParentNode),
}

wire_struct! {
    /// `ParentNode`
    pub struct ParentNode {
        /// What is sealed for the subtree.
        pub encryption_key: Bytes,
        /// Ties it to its parent.
        pub parent_hash: Bytes,
        /// Leaves below that do not know its secret.
        pub unmerged_leaves: Vec<u32>,
    }
}

open_enum! {
    /// `NodeType`
    pub struct NodeType(u8) {
        /// A member.
        LEAF = 1 "leaf",
        /// An inner node.
        PARENT = 2 "parent",
    }
}

impl Encode for Node {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(leaf_node) => {
                NodeType::LEAF.encode(out);
                leaf_node.encode(out);
            }
            Self::Parent(parent_node) => {
                NodeType::PARENT.encode(out);
                parent_node.encode(out);
            }
        }
    }
}

impl Decode for Node {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.read("node_type")? {
            NodeType::LEAF => reader.read("leaf_node").map(Self::Leaf),
            NodeType::PARENT => reader.read("parent_node").map(Self::Parent),
            other => Err(DecodeError::unknown(start, "node_type", other.0)),
        }
    }
}

open_enum! {
    /// `RatchetTreeRepresentation`
    pub struct RatchetTreeSource(u8) {
        /// The whole tree.
        FULL = 1 "full",
        /// To be fetched.
        HTTPS_URI = 2 "httpsUri",
        /// By another way.
        OUT_OF_BAND = 3 "outOfBand",
        /// The server has it.
        DISTRIBUTION_SERVICE = 4 "distributionService",
    }
}

/// `RatchetTreeOption`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RatchetTreeOption {
    /// The whole tree.
    Full(RatchetTree),
    /// To be fetched. What the signature covers is nowhere said.
    HttpsUri {
        /// An `https` URL.
        ratchet_tree_url: Text,
        /// Undefined.
        tree_signature: Bytes,
    },
    /// By another way. What the signature covers is nowhere said.
    OutOfBand {
        /// Undefined.
        tree_signature: Bytes,
    },
    /// The server has followed the group and knows it.
    DistributionService,
}

impl Encode for RatchetTreeOption {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Full(tree) => {
                RatchetTreeSource::FULL.encode(out);
                tree.encode(out);
            }
            Self::HttpsUri {
                ratchet_tree_url,
                tree_signature,
            } => {
                RatchetTreeSource::HTTPS_URI.encode(out);
                ratchet_tree_url.encode(out);
                tree_signature.encode(out);
            }
            Self::OutOfBand { tree_signature } => {
                RatchetTreeSource::OUT_OF_BAND.encode(out);
                tree_signature.encode(out);
            }
            Self::DistributionService => RatchetTreeSource::DISTRIBUTION_SERVICE.encode(out),
        }
    }
}

impl Decode for RatchetTreeOption {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.read("representation")? {
            RatchetTreeSource::FULL => reader.read("ratchet_tree").map(Self::Full),
            RatchetTreeSource::HTTPS_URI => Ok(Self::HttpsUri {
                ratchet_tree_url: reader.read("ratchet_tree_url")?,
                tree_signature: reader.read("tree_signature")?,
            }),
            RatchetTreeSource::OUT_OF_BAND => Ok(Self::OutOfBand {
                tree_signature: reader.read("tree_signature")?,
            }),
            RatchetTreeSource::DISTRIBUTION_SERVICE => Ok(Self::DistributionService),
            other => Err(DecodeError::unknown(start, "representation", other.0)),
        }
    }
}
