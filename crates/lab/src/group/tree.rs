//! A group's tree as its GroupInfo has it, whichever library wrote that.

use std::collections::BTreeMap;

use nabe_wire::codec::Message as _;
use nabe_wire::mls::{ExtensionType, GroupInfo, Node, RatchetTree};

use crate::worker::Failure;

/// The content of the GroupInfo's extension `ratchet_tree`; the GroupInfo is an `MLSMessage`.
pub(super) fn bytes_in(group_info: &[u8]) -> Result<Vec<u8>, Failure> {
    // Version and wire format come before it.
    let info = GroupInfo::from_bytes(group_info.get(4..).unwrap_or_default());
    let extensions = info.map_err(Failure::at("reading a GroupInfo"))?.extensions;
    let tree = extensions
        .into_iter()
        .find(|extension| extension.extension_type == ExtensionType::RATCHET_TREE);
    let tree = tree.ok_or_else(|| Failure::at("reading a GroupInfo")("it has no tree"))?;
    Ok(tree.extension_data.0)
}

/// Reads it.
pub(super) fn read(group_info: &[u8]) -> Result<RatchetTree, Failure> {
    RatchetTree::from_bytes(&bytes_in(group_info)?).map_err(Failure::at("reading a tree"))
}

/// The leaves that somebody has.
pub(super) fn leaves(tree: &RatchetTree) -> Vec<u32> {
    let leaves = tree.iter().step_by(2).zip(0..);
    leaves
        .filter_map(|(node, leaf)| node.is_some().then_some(leaf))
        .collect()
}

/// Leaves and inner nodes, blank ones and others, of the whole tree: the array leaves out blank ones at its end.
pub(super) fn describe(tree: &RatchetTree) -> BTreeMap<String, u64> {
    let width = tree.len().div_ceil(2).next_power_of_two();
    let members = leaves(tree).len();
    let parents = tree.iter().flatten().filter_map(|node| match &**node {
        Node::Parent(parent) => Some(parent),
        Node::Leaf(_) => None,
    });
    let (mut count, mut unmerged) = (0, 0);
    for parent in parents {
        count += 1;
        unmerged += parent.unmerged_leaves.len();
    }
    [
        ("members", members),
        ("blank-leaves", width - members),
        ("parents", count),
        ("blank-parents", width - 1 - count),
        ("unmerged-leaves", unmerged),
    ]
    .map(|(name, count)| (name.to_owned(), count as u64))
    .into()
}

#[cfg(test)]
mod tests {
    use nabe_mls::testing::{Parents, TestDevice, group_state_on_paper};

    use super::*;

    #[test]
    fn a_tree_of_five_has_three_blank_leaves_and_no_parent_above_one_leaf_alone() {
        let devices: Vec<_> = (0..5)
            .map(|number| TestDevice::new(&format!("@user{number}:lab.example"), "D"))
            .collect();
        let described = |parents| {
            let tree = read(&group_state_on_paper("!lab:lab.example", &devices, parents)).unwrap();
            assert_eq!(leaves(&tree), [0, 1, 2, 3, 4]);
            let counts = describe(&tree);
            ["members", "blank-leaves", "parents", "blank-parents"].map(|name| counts[name])
        };
        assert_eq!(described(Parents::Full), [5, 3, 4, 3]);
        assert_eq!(described(Parents::Blank), [5, 3, 0, 7]);
    }

    #[test]
    fn what_is_no_group_info_is_an_error() {
        assert!(read(&[0, 1]).is_err() && read(&[0, 1, 0, 4, 9]).is_err());
    }
}
