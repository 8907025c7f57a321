//! Signatures that are checked while OpenMLS goes on: the verdict is the one there is if it waits for each.

use nabe_wire::mls::{KeyPackage, ProposalOrRef};

use super::*;
use crate::mimi::commit::process;
use crate::mimi::read_all;
use crate::signatures::{self, Signatures};

const DANA: &str = "mimi://d.example/u/dana";

/// What is said of a message as a hub does it, and as OpenMLS does; `None` if nothing is wrong with it.
fn verdicts(group: &MimiGroup, message: &Kept<MlsMessage>, joins: &[AppDataUpdate]) -> [Option<MimiRefusal>; 2] {
    let changes = component_changes(|component| group.component(component), joins).unwrap();
    let group = &group.state.group;
    let meanwhile = signatures::checked(|crypto| process(group, message, &changes, crypto));
    let in_place = process(group, message, &changes, &Signatures::in_place());
    [meanwhile.err(), in_place.err()]
}

#[test]
fn whatever_is_changed_of_a_commit_is_refused_in_openmls_s_own_words() {
    let mut room = Room::of_three();
    let joins = [add_participants(&[(DANA, 2)])];
    let bundle = room.member("bob").commit(Change {
        add: vec![MimiDevice::new("mimi://d.example/d/dana/D").key_package()],
        updates: joins.to_vec(),
        ..Change::default()
    });
    assert_eq!(verdicts(&room.group, &bundle.commit, &joins), [None, None]);
    let mut bad_signatures = 0;
    for place in (0..bundle.commit.as_bytes().len()).step_by(5) {
        let mut bytes = bundle.commit.as_bytes().to_vec();
        bytes[place] ^= 1;
        let Ok(message) = read_all(&bytes) else { continue };
        let [meanwhile, in_place] = verdicts(&room.group, &message, &joins);
        assert_eq!(meanwhile, in_place, "byte {place}");
        // At the end are the confirmation and the membership tag, for which a hub has no key.
        assert!(meanwhile.is_some() || bytes.len() - place <= TAGS, "byte {place}");
        bad_signatures += usize::from(meanwhile == Some(MimiRefusal::BadSignature));
    }
    assert!(bad_signatures > 0, "what is signed was changed, too");
}

/// Two times a length and a hash.
const TAGS: usize = 2 * 33;

#[test]
fn a_leaf_or_key_package_with_another_s_signature_is_refused() {
    let mut room = Room::of_three();
    let package = MimiDevice::new("mimi://d.example/d/dana/D").key_package();
    let mut of_leaf = KeyPackage::from_bytes(&package).unwrap();
    let mut of_package = of_leaf.clone();
    of_leaf.leaf_node.signature.0[7] ^= 1;
    of_package.signature.0[7] ^= 1;
    for bad in [of_leaf, of_package] {
        let add = Proposal::Add(Box::new(Kept::new(bad)));
        let message = room.member("bob").forge_commit(vec![ProposalOrRef::Proposal(add)]);
        let [meanwhile, in_place] = verdicts(&room.group, &message, &[]);
        assert!(matches!(meanwhile, Some(MimiRefusal::Mls(_))), "{meanwhile:?}");
        assert_eq!(meanwhile, in_place);
    }
}
