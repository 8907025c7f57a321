//! The list and its changes, against values computed by another implementation.

use super::*;
use crate::codec::Encode;
use crate::mls::{AppDataUpdate, ComponentId, Proposal};
use crate::testing::{assert_wire, uri};

fn pair(user: &str, role_index: u32) -> UserRolePair {
    UserRolePair {
        user: uri(user),
        role_index,
    }
}

#[test]
fn a_list() {
    let list = ParticipantListData {
        participants: vec![pair("mimi://a.example/u/alice", 4)],
    };
    assert_wire(
        &list,
        concat!(
            "1d",                                                  // participants: length
            "18 6d696d693a2f2f612e6578616d706c652f752f616c696365", // user
            "00000004",                                            // role_index
        ),
    );
}

fn add_bob() -> ParticipantListUpdate {
    ParticipantListUpdate {
        changed_role_participants: vec![],
        removed_indices: vec![],
        added_participants: vec![pair("mimi://b.example/u/bob", 2)],
    }
}

#[test]
fn someone_comes() {
    assert_wire(
        &add_bob(),
        concat!(
            "00",                                              // changedRoleParticipants
            "00",                                              // removedIndices
            "1b",                                              // addedParticipants: length
            "16 6d696d693a2f2f622e6578616d706c652f752f626f62", // user
            "00000002",                                        // role_index
        ),
    );
}

#[test]
fn a_change_as_a_proposal() {
    let proposal = Proposal::AppDataUpdate(AppDataUpdate {
        component_id: ComponentId::PARTICIPANT_LIST,
        update: Some(add_bob().to_bytes().into()),
    });
    assert_wire(
        &proposal,
        concat!(
            "0008", // proposal_type: app_data_update
            "0022", // component_id: participant_list
            "01",   // op: update
            "1e 0000 1b16 6d696d693a2f2f622e6578616d706c652f752f626f62 00000002",
        ),
    );
}

#[test]
fn someone_is_banned_and_someone_goes() {
    let update = ParticipantListUpdate {
        changed_role_participants: vec![UserIndexRolePair {
            user_index: 1,
            role_index: 1,
        }],
        removed_indices: vec![2],
        added_participants: vec![],
    };
    assert_wire(&update, "08 00000001 00000001 04 00000002 00");
}
