//! What is told along with a commit and kept nowhere (MLSX #app-ephemeral).

use nabe_wire::Encode as _;
use nabe_wire::app_data::{AppAck, MessageRange};
use nabe_wire::mls::AppEphemeral;

use super::*;

const STATUS: ComponentId = ComponentId::STATUS_NOTIFICATION_POLICY;

/// That this message arrived.
fn ack(generation: u32) -> Proposal {
    let range = MessageRange {
        sender: 1,
        first_generation: generation,
        last_generation: generation,
    };
    let ack = AppAck {
        received_ranges: vec![range],
    };
    Proposal::AppEphemeral(AppEphemeral {
        component_id: ComponentId::APP_ACK,
        data: ack.to_bytes().into(),
    })
}

/// Proposes these in this order, and has Alice commit them.
fn committed(proposals: &[Proposal]) -> (Room, StagedCommit) {
    let mut room = Room::of_three();
    for proposal in proposals {
        let message = room.group.hub_proposal(proposal.clone(), room.hub.signer()).unwrap();
        room.accept_proposal("the hub", &message);
    }
    let bundle = room.member("alice").update();
    let staged = room.accept("alice", &bundle);
    room.agree();
    (room, staged)
}

/// Default proposals count before them and changes of components after them, whatever the order of the commit; so hub and members agree.
#[test]
fn what_is_told_in_passing_changes_nothing_wherever_it_stands() {
    let changes = [
        Proposal::AppDataUpdate(set_component(STATUS, vec![1, 1])),
        Proposal::Remove(2),
        Proposal::AppDataUpdate(change_participants(&[], &[2], &[])),
    ];
    let (without, _) = committed(&changes);
    for place in 0..=changes.len() {
        let mut proposals = changes.to_vec();
        proposals.insert(place, ack(7));
        let (with, staged) = committed(&proposals);
        assert_eq!(staged.proposals.len(), changes.len() + 1);
        assert_eq!(with.group.dictionary(), without.group.dictionary(), "at {place}");
        assert_eq!(participants_of(&with.group), participants_of(&without.group));
        assert_eq!(with.group.members().len(), 2);
    }
}

#[test]
fn what_is_told_of_one_component_comes_in_the_order_of_the_commit() {
    let told = [ack(3), ack(1), ack(2)];
    let (_, staged) = committed(&[
        told[0].clone(),
        Proposal::AppDataUpdate(set_component(STATUS, vec![1, 1])),
        told[1].clone(),
        told[2].clone(),
    ]);
    let came = staged.proposals.iter().map(|committed| &committed.proposal);
    let came: Vec<_> = came.filter(|it| matches!(it, Proposal::AppEphemeral(_))).collect();
    assert_eq!(came, told.iter().collect::<Vec<_>>());
}
