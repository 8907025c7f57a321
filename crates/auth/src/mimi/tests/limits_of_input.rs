//! Decisions that came too late, proposals as they are on the wire, and leaves that do not say whose they are.

use nabe_wire::Encode;
use nabe_wire::Kept;
use nabe_wire::app_data::{AppDataDictionary, ComponentsList};
use nabe_wire::mls::{
    AppDataUpdate, Capabilities, CipherSuite, CredentialType, Extension, ExtensionType, KeyPackage, LeafNode,
    LeafNodeSource, Lifetime, Proposal, ProposalOrRef, ProposalType, ProtocolVersion,
};

use super::super::templates::{self, ORDINARY_USER, SUPER_ADMIN};
use super::*;

fn club() -> Room {
    room(
        &templates::cooperative("hub.example"),
        &[("alice@a", SUPER_ADMIN), ("bob@b", ORDINARY_USER)],
    )
}

#[test]
fn a_decision_is_of_no_use_after_another() {
    let (mut room, alice) = (club(), claims("mimi://a.example/u/alice"));
    let proposals = [(b"one".as_slice().into(), Action::Other(ProposalType::PSK))];
    let bundle = Bundle {
        proposer: member(0, &alice),
        proposals: &proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let (first, second) = (
        room.propose(&bundle, None).unwrap(),
        room.propose(&bundle, None).unwrap(),
    );
    let commit = Commit {
        committer: committer(0, &alice),
        proposals: &[],
        expired: &[],
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let merge = room.commit(&commit, None).unwrap();
    room.accept(first).unwrap();
    assert_eq!(room.accept(second), Err(Stale));
    assert_eq!(room.merge(merge), Err(Stale));
    assert_eq!(room.accepted().len(), 1);
}

fn leaf(credential: Credential) -> LeafNode {
    let mut dictionary = AppDataDictionary::new();
    let list = ComponentsList {
        component_ids: vec![ComponentId::PARTICIPANT_LIST],
    };
    dictionary.set(ComponentId::APP_COMPONENTS, list.to_bytes());
    LeafNode {
        encryption_key: b"".as_slice().into(),
        signature_key: b"".as_slice().into(),
        credential,
        capabilities: Capabilities {
            versions: vec![ProtocolVersion(1)],
            cipher_suites: vec![CipherSuite(1)],
            extensions: vec![ExtensionType::APP_DATA_DICTIONARY],
            proposals: vec![ProposalType::APP_DATA_UPDATE],
            credentials: vec![CredentialType::BASIC],
        },
        source: LeafNodeSource::KeyPackage(Lifetime {
            not_before: 100,
            not_after: 300,
        }),
        extensions: vec![Extension {
            extension_type: ExtensionType::APP_DATA_DICTIONARY,
            extension_data: dictionary.to_bytes().into(),
        }],
        signature: b"".as_slice().into(),
    }
}

fn basic(identity: &str) -> Credential {
    Credential::Basic {
        identity: identity.as_bytes().into(),
    }
}

#[test]
fn a_key_package_says_whose_how_long_and_what_it_supports() {
    let key_package = KeyPackage {
        version: ProtocolVersion(1),
        cipher_suite: CipherSuite(1),
        init_key: b"".as_slice().into(),
        leaf_node: leaf(basic("mimi://b.example/d/bob/phone")),
        extensions: vec![],
        signature: b"".as_slice().into(),
    };
    let Ok(Action::Add(bob)) = Action::of(&Proposal::Add(Box::new(Kept::new(key_package)))) else {
        panic!("an Add is an Add");
    };
    assert_eq!(bob.user, user("bob@b"));
    assert_eq!(bob.lifetime, Some(200));
    assert_eq!(bob.support.unwrap().components, [ComponentId::PARTICIPANT_LIST]);
}

#[test]
fn a_leaf_of_nobody_is_refused() {
    for identity in ["bob", "mimi://b.example", "mimi://b.example/r/room"] {
        assert_eq!(
            Client::of_leaf(&leaf(basic(identity))),
            Err(Rejection::CredentialWithoutUser)
        );
    }
}

#[test]
fn proposals_keep_their_types() {
    let update = AppDataUpdate {
        component_id: ComponentId::ROLES_LIST,
        update: None,
    };
    for (proposal, action) in [
        (Proposal::Remove(3), Action::Remove(3)),
        (Proposal::SelfRemove, Action::SelfRemove),
        (Proposal::AppDataUpdate(update.clone()), Action::AppData(update)),
        (
            Proposal::GroupContextExtensions(vec![]),
            Action::Extensions(AppDataDictionary::new()),
        ),
        (
            Proposal::ExternalInit(b"".as_slice().into()),
            Action::Other(ProposalType::EXTERNAL_INIT),
        ),
    ] {
        assert_eq!(Action::of(&proposal), Ok(action.clone()));
        assert_eq!(action.proposal_type(), proposal.proposal_type());
    }
}

#[test]
fn a_commit_refers_or_brings() {
    let reference = ProposalOrRef::Reference(b"one".as_slice().into());
    assert!(matches!(
        CommitProposal::of(&reference),
        Ok(CommitProposal::Reference(b"one"))
    ));
    let inline = ProposalOrRef::Proposal(Proposal::Remove(3));
    assert!(matches!(
        CommitProposal::of(&inline),
        Ok(CommitProposal::Inline(Action::Remove(3)))
    ));
}

#[test]
fn as_much_is_pending_as_may_be_and_the_hub_still_proposes() {
    let users = ["alice@a", "bob@b", "cathy@c", "dora@d", "eve@e"].map(|name| (name, SUPER_ADMIN));
    let mut room = room(&templates::cooperative("hub.example"), &users);
    let nobody = claims("mimi://nobody.example");
    let of_one = vec![Action::Other(ProposalType::PSK); MAX_PENDING_OF_ONE];
    for leaf in 0..4 {
        propose(&mut room, member(leaf, &nobody), &of_one).unwrap();
    }
    assert_eq!(room.accepted().len(), MAX_PENDING);
    let one_more = [Action::Other(ProposalType::PSK)];
    assert_eq!(
        propose(&mut room, member(4, &nobody), &one_more),
        Err(Rejection::PendingFull)
    );
    let hub = Proposer::External {
        index: 0,
        claims: &nobody,
    };
    propose(&mut room, hub, &one_more).unwrap();
    // Whoever cannot propose can commit, and then propose.
    commit(&mut room, committer(4, &nobody), &[Action::Remove(0)]).unwrap();
    propose(&mut room, member(4, &nobody), &one_more).unwrap();
}

#[test]
fn what_gives_way_makes_room_for_more() {
    let mut room = club();
    let bob = claims("mimi://b.example/u/bob");
    let update = Action::Update(Box::new(client("bob@b")));
    for number in 0..=MAX_PENDING_OF_ONE {
        let proposals = [(Bytes::from(number.to_be_bytes().as_slice()), update.clone())];
        let bundle = Bundle {
            proposer: member(1, &bob),
            proposals: &proposals,
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        let proposed = room.propose(&bundle, None).unwrap();
        room.accept(proposed).unwrap();
    }
    assert_eq!(room.accepted().len(), 1);
}
