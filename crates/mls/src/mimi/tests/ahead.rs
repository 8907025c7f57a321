//! Signatures that are checked ahead: they are those that OpenMLS asks about, and its verdicts are the same.

use nabe_wire::mls::{Commit, FramedContentBody, KeyPackage, MlsMessageBody, ProposalOrRef};

use super::*;
use crate::mimi::ahead::CheckedAhead;
use crate::mimi::commit::process;

const DANA: &str = "mimi://d.example/u/dana";

fn commit_in(message: &MlsMessage) -> &Commit {
    match &message.body {
        MlsMessageBody::Public(message) => match &message.content.body {
            FramedContentBody::Commit(commit) => commit,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn ahead(group: &MimiGroup, commit: &Commit, leaf: u32) -> CheckedAhead {
    let scheme = group.suite().ciphersuite().signature_algorithm();
    CheckedAhead::of(commit, scheme, Some((group.group_id(), leaf)))
}

#[test]
fn what_is_checked_ahead_is_what_openmls_asks_about() {
    let mut room = Room::of_three();
    let joins = add_participants(&[(DANA, 2)]);
    let bundle = room.member("bob").commit(Change {
        add: vec![MimiDevice::new("mimi://d.example/d/dana/D").key_package()],
        updates: vec![joins.clone()],
        ..Change::default()
    });
    let ahead = ahead(&room.group, commit_in(&bundle.commit), room.leaf("bob"));
    assert_eq!(
        ahead.left(),
        3,
        "the committer's new leaf, the newcomer's, and its key package"
    );
    let changes = component_changes(|component| room.group.component(component), &[joins]).unwrap();
    process(&room.group.state.group, &bundle.commit, &changes, &ahead).unwrap();
    assert_eq!(ahead.left(), 0, "OpenMLS asked about each of them in just these words");
}

#[test]
fn what_does_not_hold_is_refused_in_openmls_s_own_words() {
    let mut room = Room::of_three();
    let package = MimiDevice::new("mimi://d.example/d/dana/D").key_package();
    let mut of_leaf = KeyPackage::from_bytes(&package).unwrap();
    let mut of_package = of_leaf.clone();
    of_leaf.leaf_node.signature.0[7] ^= 1;
    of_package.signature.0[7] ^= 1;
    for bad in [of_leaf, of_package] {
        let add = Proposal::Add(Box::new(Kept::new(bad)));
        let message = room.member("bob").forge_commit(vec![ProposalOrRef::Proposal(add)]);
        let commit = commit_in(&message);
        let group = &room.group.state.group;
        let asked = ahead(&room.group, commit, room.leaf("bob"));
        let none = Commit {
            proposals: Vec::new(),
            path: None,
        };
        let unasked = ahead(&room.group, &none, room.leaf("bob"));
        assert_eq!((asked.left() > 0, unasked.left()), (true, 0));
        let changes = BTreeMap::new();
        let refused = process(group, &message, &changes, &asked).unwrap_err();
        assert_eq!(refused, process(group, &message, &changes, &unasked).unwrap_err());
        assert!(matches!(refused, MimiRefusal::Mls(_)), "{refused:?}");
    }
}
