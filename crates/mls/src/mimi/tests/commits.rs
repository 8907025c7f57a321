//! Commits and what comes with them: one test for each rule.

use nabe_wire::mls::{
    AppEphemeral, ContentType, FramedContent, FramedContentBody, GroupInfoOption, MlsMessageBody, PrivateMessage,
    ProposalOrRef, ProposalType, RatchetTreePresence, Sender,
};

use super::*;

const STATUS: ComponentId = ComponentId::STATUS_NOTIFICATION_POLICY;

fn by_value(proposals: Vec<Proposal>) -> Vec<ProposalOrRef> {
    proposals.into_iter().map(ProposalOrRef::Proposal).collect()
}

impl Room {
    /// What the hub says to a commit by Alice that nobody could make with OpenMLS. It has no path, and its tags are made up.
    fn forged(&mut self, proposals: Vec<ProposalOrRef>) -> Option<MimiRefusal> {
        let commit = self.members["alice"].forge_commit(proposals);
        let honest = self.member("alice").update();
        self.member("alice").clear();
        let staged = self.group.stage(&commit, &honest.parts, wall_clock());
        staged.err()
    }

    fn changed(&mut self, change: Change) -> Result<StagedCommit, MimiRefusal> {
        let bundle = self.member("alice").commit(change);
        self.member("alice").clear();
        self.stage(&bundle)
    }
}

#[test]
fn of_two_commits_for_one_epoch_the_second_learns_the_epoch() {
    let mut room = Room::of_three();
    let epoch = room.group.epoch();
    let (first, second) = (room.member("alice").update(), room.member("bob").update());
    room.stage(&second).unwrap();
    room.member("bob").clear();
    room.accept("alice", &first);
    let current = epoch + 1;
    assert_eq!(
        room.stage(&second).err(),
        Some(MimiRefusal::WrongEpoch { epoch, current })
    );
}

#[test]
fn a_commit_is_a_commit_that_servers_can_read() {
    let mut room = Room::of_three();
    let honest = room.member("alice").update();
    let private = Kept::new(MlsMessage {
        body: MlsMessageBody::Private(PrivateMessage {
            group_id: room.group.group_id().into(),
            epoch: room.group.epoch(),
            content_type: ContentType::COMMIT,
            authenticated_data: [0].as_slice().into(),
            encrypted_sender_data: Vec::new().into(),
            ciphertext: Vec::new().into(),
        }),
    });
    let stage = |commit: &Kept<MlsMessage>| room.group.stage(commit, &honest.parts, wall_clock()).err();
    assert_eq!(stage(&private), Some(MimiRefusal::PrivateHandshake));
    let proposal = room.members["alice"].forge_proposal(Proposal::Remove(1));
    assert_eq!(stage(&proposal), Some(MimiRefusal::NotACommit));
    let application = room.members["alice"].forge(&[0], FramedContentBody::Application(b"hello".as_slice().into()));
    assert_eq!(stage(&application), Some(MimiRefusal::NotACommit));
}

#[test]
fn the_committer_is_a_member_and_signed() {
    let mut room = Room::of_three();
    let honest = room.member("alice").update();
    let MlsMessageBody::Public(public) = &honest.commit.body else {
        panic!("a public message");
    };
    let by = |sender| {
        let mut public = public.clone();
        public.content.sender = sender;
        public.membership_tag = Some(vec![7; 32].into());
        let commit = Kept::new(MlsMessage {
            body: MlsMessageBody::Public(public),
        });
        room.group.stage(&commit, &honest.parts, wall_clock()).err()
    };
    assert_eq!(by(Sender::Member { leaf_index: 1 }), Some(MimiRefusal::BadSignature));
    assert_eq!(
        by(Sender::Member { leaf_index: 7 }),
        Some(MimiRefusal::UnknownMember { leaf: 7 })
    );
    assert_eq!(
        by(Sender::External { sender_index: 0 }),
        Some(MimiRefusal::SenderNotAllowed)
    );
    assert_eq!(by(Sender::NewMemberProposal), Some(MimiRefusal::SenderNotAllowed));
}

#[test]
fn the_authenticated_data_of_a_commit_is_a_safe_aad() {
    let mut room = Room::of_three();
    let honest = room.member("alice").update();
    let MlsMessageBody::Public(public) = &honest.commit.body else {
        panic!("a public message");
    };
    let whole = safe_aad(&[(ComponentId(0x8000), b"x"), (ComponentId(0x8001), b"yz")]);
    let cut = (0..whole.len()).map(|length| &whole[..length]);
    for aad in std::iter::once(&b"\0tail"[..]).chain(cut) {
        let forged = room.members["alice"].forge_content(FramedContent {
            authenticated_data: aad.into(),
            ..public.content.clone()
        });
        let staged = room.group.stage(&forged, &honest.parts, wall_clock());
        assert!(matches!(staged, Err(MimiRefusal::SafeAad(_))), "{aad:?}");
    }
}

#[test]
fn pending_proposals_are_not_left_out() {
    let mut room = Room::of_three();
    let message = room.member("bob").propose_component(&set_component(STATUS, vec![1, 0]));
    let staged = room.accept_proposal("bob", &message);
    let ignoring = Change {
        leave_out_pending: true,
        ..Change::default()
    };
    let references = vec![staged.proposals[0].reference.clone()];
    let refused = room.changed(ignoring).unwrap_err();
    assert_eq!(refused, MimiRefusal::PendingLeftOut { references });
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED);
    let bundle = room.member("alice").update();
    let staged = room.accept("alice", &bundle);
    assert_eq!(staged.components, [(STATUS, Some(vec![1, 0]))].into());
    room.agree();
}

#[test]
fn what_the_committer_cannot_commit_may_be_left_out() {
    let mut room = Room::of_three();
    // Its own Update.
    let update = room.member("alice").propose_update();
    let staged = room.propose(&update).unwrap();
    room.merge(&staged.bytes);
    room.member("alice").clear_proposals();
    // A newcomer whose time is over.
    let now = wall_clock().as_u64() / 1000;
    let dave = MimiDevice::new("mimi://d.example/d/dave/D").key_package_for(Some((now - 60, now + 60)));
    let add = room.member("bob").propose_add(&dave);
    let staged = room.propose(&add).unwrap();
    room.merge(&staged.bytes);

    let bundle = room.member("alice").update();
    let late = UnixMillis((now + 120) * 1000);
    let staged = room.group.stage(&bundle.commit, &bundle.parts, late).unwrap();
    assert_eq!(staged.voided.len(), 2);
    let in_time = room.stage(&bundle);
    assert!(matches!(in_time, Err(MimiRefusal::PendingLeftOut { references }) if references.len() == 1));
}

#[test]
fn who_is_about_to_be_removed_does_not_commit() {
    let mut room = Room::of_three();
    let remove = room.member("alice").propose_remove(1);
    let staged = room.propose(&remove).unwrap();
    room.merge(&staged.bytes);
    let bundle = room.member("bob").update();
    assert_eq!(room.stage(&bundle).err(), Some(MimiRefusal::CommitterIsLeaving));
}

#[test]
fn a_reference_is_to_something_pending() {
    let mut room = Room::of_three();
    let reference = vec![7; 32];
    let refused = room.forged(vec![ProposalOrRef::Reference(reference.clone().into())]);
    let reference = ProposalRef(reference);
    assert_eq!(refused, Some(MimiRefusal::NotPending { reference }));
}

#[test]
fn a_proposal_is_committed_once() {
    let mut room = Room::of_three();
    let twice = by_value(vec![Proposal::Remove(1), Proposal::Remove(1)]);
    assert_eq!(room.forged(twice), Some(MimiRefusal::ProposalTwice));
    let message = room.member("bob").propose_component(&set_component(STATUS, vec![1, 0]));
    let staged = room.accept_proposal("bob", &message);
    let reference = ProposalOrRef::Reference(staged.proposals[0].reference.as_bytes().into());
    assert_eq!(
        room.forged(vec![reference.clone(), reference]),
        Some(MimiRefusal::ProposalTwice)
    );
}

#[test]
fn a_leaf_is_touched_once() {
    let mut room = Room::of_three();
    let update = room.member("bob").propose_update();
    let staged = room.accept_proposal("bob", &update);
    let reference = ProposalOrRef::Reference(staged.proposals[0].reference.as_bytes().into());
    assert_eq!(
        room.forged(vec![reference, ProposalOrRef::Proposal(Proposal::Remove(1))]),
        Some(MimiRefusal::LeafTouchedTwice { leaf: 1 })
    );
}

#[test]
fn some_proposals_are_not_for_a_member_s_commit() {
    let mut room = Room::of_three();
    let leaf = nabe_wire::mls::KeyPackage::from_bytes(&MimiDevice::new("mimi://a.example/d/alice/A").key_package());
    let proposal_type = ProposalType(0xf0f0);
    let unknown = Proposal::Other {
        proposal_type,
        content: Vec::new().into(),
    };
    let reinit = Proposal::ReInit(nabe_wire::mls::ReInit {
        group_id: b"next".as_slice().into(),
        version: nabe_wire::mls::ProtocolVersion::MLS10,
        cipher_suite: nabe_wire::mls::CipherSuite(1),
        extensions: Vec::new(),
    });
    let ephemeral = Proposal::AppEphemeral(AppEphemeral {
        component_id: STATUS,
        data: Vec::new().into(),
    });
    for (proposal, refusal) in [
        (Proposal::SelfRemove, MimiRefusal::SelfRemoveByValue),
        (
            Proposal::Update(Box::new(leaf.unwrap().leaf_node)),
            MimiRefusal::UpdateByValue,
        ),
        (
            Proposal::ExternalInit(vec![7; 32].into()),
            MimiRefusal::ExternalInitByMember,
        ),
        (reinit, MimiRefusal::ReInitNotFollowed),
        (unknown, MimiRefusal::UnknownProposalType { proposal_type }),
        (ephemeral, MimiRefusal::UnknownComponent { component: STATUS }),
        (Proposal::Remove(9), MimiRefusal::NobodyToRemove { leaf: 9 }),
        (Proposal::Remove(0), MimiRefusal::Mls(GroupRefusal::InvalidRemoval)),
        (Proposal::Remove(1), MimiRefusal::Mls(GroupRefusal::InvalidPath)),
    ] {
        assert_eq!(room.forged(by_value(vec![proposal])), Some(refusal));
    }
}

#[test]
fn openmls_alone_would_let_components_be_removed_at_will() {
    let mut room = Room::of_three();
    let update = |update| Proposal::AppDataUpdate(update);
    let component = STATUS;
    let absent = by_value(vec![update(remove_component(component))]);
    assert_eq!(room.forged(absent), Some(MimiRefusal::AbsentComponent { component }));
    let both = by_value(vec![
        update(set_component(component, vec![0, 0])),
        update(remove_component(component)),
    ]);
    assert_eq!(room.forged(both), Some(MimiRefusal::RemovedAndChanged { component }));
    let list = by_value(vec![
        update(change_participants(&[(1, 3)], &[], &[])),
        update(change_participants(&[], &[1], &[])),
    ]);
    let refused = room.forged(list).unwrap();
    assert_eq!(refused, MimiRefusal::ParticipantTwice { user: BOB.to_owned() });
    assert_eq!(refused.code(), UpdateResponseCode::INVALID_PROPOSAL);
}

#[test]
fn the_dictionary_is_not_changed_by_the_extensions() {
    let mut room = Room::of_three();
    let alice = room.members["alice"].device().clone();
    let mut draft = RoomDraft::new(&alice, &room.hub);
    draft.dictionary = room.group.dictionary();
    draft.set(STATUS, vec![0, 0]);
    let extensions = draft.extensions().tls_serialize_detached().unwrap();
    let mut reader = Reader::new(&extensions);
    let extensions = reader.vector(Extension::decode).unwrap();
    let changed = by_value(vec![Proposal::GroupContextExtensions(extensions)]);
    assert_eq!(room.forged(changed), Some(MimiRefusal::DictionaryByExtensions));
}

#[test]
fn extensions_and_components_change_in_one_commit() {
    let mut room = Room::of_three();
    let follower = TestHub::new("mimi://b.example");
    let alice = room.members["alice"].device().clone();
    let mut draft = RoomDraft::new(&alice, &room.hub);
    draft.dictionary = room.group.dictionary();
    draft.senders.push(follower.to_openmls());
    let bundle = room.member("alice").commit(Change {
        extensions: Some(draft.extensions()),
        updates: vec![set_component(STATUS, vec![1, 1])],
        ..Change::default()
    });
    room.accept("alice", &bundle);
    assert_eq!(room.group.external_senders().len(), 2);
    assert_eq!(room.group.component(STATUS), Some(&[1, 1][..]));
    room.agree();
}

#[test]
fn a_hub_stays_first_among_the_senders() {
    let mut room = Room::of_three();
    let alice = room.members["alice"].device().clone();
    let mut draft = RoomDraft::new(&alice, &TestHub::new("mimi://evil.example"));
    draft.dictionary = room.group.dictionary();
    let change = Change {
        extensions: Some(draft.extensions()),
        ..Change::default()
    };
    assert_eq!(room.changed(change).err(), Some(MimiRefusal::HubNotFirstSender));
}

#[test]
fn who_is_added_supports_what_the_room_asks_and_is_new() {
    let mut room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let deaf = dave.with_component(ComponentId::SAFE_AAD, None);
    let mut add = |device: &MimiDevice| {
        let add = vec![device.key_package()];
        room.changed(Change {
            add,
            ..Change::default()
        })
        .err()
    };
    assert_eq!(add(&dave), None);
    let component = ComponentId::FRANK_AAD;
    assert_eq!(add(&deaf), Some(MimiRefusal::ComponentUnsupported { component }));
    let again = MimiDevice::new("mimi://b.example/d/bob/B");
    assert_eq!(add(&again), Some(MimiRefusal::ClientTwice));
}

#[test]
fn what_all_have_to_support_changes_only_if_all_do() {
    let mut room = Room::of_three();
    let component = ComponentId::BOT_POLICY;
    let all = [SUPPORTED, &[component]].concat();
    let require = || set_component(ComponentId::APP_COMPONENTS, components_list(&all));
    let change = Change {
        updates: vec![require()],
        ..Change::default()
    };
    assert_eq!(
        room.changed(change).err(),
        Some(MimiRefusal::ComponentUnsupported { component })
    );
    let fewer = Change {
        updates: vec![set_component(
            ComponentId::APP_COMPONENTS,
            components_list(&SUPPORTED[..7]),
        )],
        ..Change::default()
    };
    let bundle = room.member("alice").commit(fewer);
    room.accept("alice", &bundle);
    room.agree();
}

#[test]
fn a_client_stays_itself() {
    let mut room = Room::of_three();
    let other = openmls::credentials::BasicCredential::new(b"mimi://a.example/d/alice/Z".to_vec());
    let change = Change {
        credential: Some(other.into()),
        ..Change::default()
    };
    assert_eq!(room.changed(change).err(), Some(MimiRefusal::IdentityChanged));
}

#[test]
fn a_key_signs_for_one_leaf() {
    let mut room = Room::of_three();
    let fresh = MimiDevice::new("mimi://a.example/d/alice/new");
    let bundle = room.member("alice").update_with_key_of(&fresh);
    room.member("alice").clear();
    assert!(room.stage(&bundle).is_ok());
    let bob = room.members["bob"].device().clone();
    let bundle = room.member("alice").update_with_key_of(&bob);
    assert_eq!(room.stage(&bundle).err(), Some(MimiRefusal::KeyInUse));
}

#[test]
fn a_leaf_has_the_encryption_key_of_no_inner_node() {
    let mut room = Room::of_three();
    let bundle = room.member("alice").update();
    room.accept("alice", &bundle);
    // It is above Alice and Bob, and replaced if one of them commits.
    let key = crate::keys::of_inner_node(&room.group.state.group, 0);
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    for (committer, refusal) in [("cathy", Some(MimiRefusal::KeyInUse)), ("bob", None)] {
        let bundle = room.member(committer).commit(Change {
            add: vec![dave.key_package_with_encryption_key(&key)],
            ..Change::default()
        });
        room.member(committer).clear();
        assert_eq!(room.stage(&bundle).err(), refusal, "{committer}");
    }
    // What is pending everybody has to be able to commit.
    let package = dave.key_package_with_encryption_key(&key);
    let add = room.member("bob").propose_add(&package);
    assert_eq!(room.propose(&add).err(), Some(MimiRefusal::KeyInUse));
}

#[test]
fn a_welcome_is_for_exactly_those_who_are_added() {
    let mut room = Room::of_three();
    let packages: Vec<_> = ["mimi://d.example/d/dave/D", "mimi://e.example/d/erin/E"]
        .map(|client| MimiDevice::new(client).key_package())
        .into();
    let bundle = room.member("alice").commit(Change {
        add: packages,
        ..Change::default()
    });
    room.member("alice").clear();
    let staged = room.stage(&bundle).unwrap();
    let references = staged.added.iter().map(|added| added.key_package.clone().unwrap());
    let invited: Vec<_> = bundle
        .welcome()
        .secrets
        .iter()
        .map(|secrets| secrets.new_member.to_vec())
        .collect();
    assert_eq!(references.collect::<Vec<_>>(), invited);

    let with = |change: &dyn Fn(&mut nabe_wire::mls::Welcome)| {
        let mut welcome = (**bundle.welcome()).clone();
        change(&mut welcome);
        let mut bundle = bundle.clone();
        bundle.parts.welcome = Some(Kept::new(welcome));
        room.stage(&bundle).err()
    };
    assert_eq!(with(&|_| {}), None);
    assert_eq!(
        with(&|welcome| {
            welcome.secrets.pop();
        }),
        Some(MimiRefusal::WelcomeForOthers)
    );
    assert_eq!(
        with(&|welcome| welcome.secrets[0].new_member = vec![7; 32].into()),
        Some(MimiRefusal::WelcomeForOthers)
    );
    assert_eq!(
        with(&|welcome| welcome.secrets.push(welcome.secrets[0].clone())),
        Some(MimiRefusal::WelcomeForOthers)
    );
    assert_eq!(
        with(&|welcome| welcome.cipher_suite = nabe_wire::mls::CipherSuite(3)),
        Some(MimiRefusal::WelcomeOtherSuite)
    );
    let mut without = bundle.clone();
    without.parts.welcome = None;
    assert_eq!(room.stage(&without).err(), Some(MimiRefusal::WelcomeMissing));
    let mut update = room.member("alice").update();
    update.parts.welcome = bundle.parts.welcome.clone();
    assert_eq!(room.stage(&update).err(), Some(MimiRefusal::WelcomeForNobody));
}

#[test]
fn a_group_info_in_parts_is_the_same_as_the_whole() {
    let mut room = Room::of_three();
    let whole = room.member("alice").update();
    let staged = room.stage(&whole).unwrap();
    let parts = whole.clone().in_parts();
    assert_eq!(room.stage(&parts).unwrap().group_info, staged.group_info);
    assert_eq!(staged.group_info.to_bytes(), whole.group_info().to_bytes());
}

#[test]
fn the_group_info_belongs_to_the_commit_and_is_signed_by_the_committer() {
    let mut room = Room::of_three();
    let old = room.group.group_info();
    let bundle = room.member("alice").update();
    let info = bundle.group_info().clone();
    let with = |info: GroupInfo| {
        let bundle = bundle.clone().with_group_info(Kept::new(info));
        room.stage(&bundle).err()
    };
    assert_eq!(with(info.clone()), None);
    assert_eq!(with((*old).clone()), Some(MimiRefusal::GroupInfoMismatch));
    let mut other = info.clone();
    other.confirmation_tag = vec![7; 32].into();
    assert_eq!(with(other), Some(MimiRefusal::GroupInfoMismatch));
    let mut other = info.clone();
    other.signer = 1;
    assert_eq!(with(other), Some(MimiRefusal::GroupInfoOtherSigner));
    let mut other = info.clone();
    other.signature.0[3] ^= 1;
    assert_eq!(with(other), Some(MimiRefusal::GroupInfoBadSignature));
    let other = GroupInfo {
        extensions: Vec::new(),
        ..info.clone()
    };
    let signed = room.members["alice"].sign_group_info(other);
    assert_eq!(with((*signed).clone()), Some(MimiRefusal::GroupInfoWithoutExternalPub));
    let by_bob = room.members["bob"].sign_group_info(info);
    assert_eq!(with((*by_bob).clone()), Some(MimiRefusal::GroupInfoBadSignature));

    let mut parts = bundle.clone().in_parts();
    let GroupInfoOption::Partial(partial) = &mut parts.parts.group_info_option else {
        panic!("in parts");
    };
    partial.ratchet_tree_presence = RatchetTreePresence::PRESENT;
    assert_eq!(room.stage(&parts).err(), Some(MimiRefusal::GroupInfoTreeInside));
}

#[test]
fn the_tree_is_the_commit_s_or_the_hub_s_own() {
    let mut room = Room::of_three();
    let old = room.members["alice"].tree();
    let bundle = room.member("alice").update();
    room.member("alice").merge();
    let new = room.members["alice"].tree();
    assert!(room.stage(&bundle.clone().with_tree(new.clone())).is_ok());
    for wrong in [old, Vec::new(), vec![None; 3], vec![new[0].clone(); 5]] {
        let bundle = bundle.clone().with_tree(wrong);
        assert_eq!(room.stage(&bundle).err(), Some(MimiRefusal::TreeMismatch));
    }
    let mut elsewhere = bundle.clone();
    elsewhere.parts.ratchet_tree_option = RatchetTreeOption::OutOfBand {
        tree_signature: Vec::new().into(),
    };
    assert_eq!(room.stage(&elsewhere).err(), Some(MimiRefusal::TreeElsewhere));
}

#[test]
fn the_tree_of_a_welcome_grows_and_shrinks_with_the_group() {
    let mut room = Room::of_three();
    let names = ["d", "e", "f", "g", "h", "i"];
    let client = |name: &str| format!("mimi://a.example/d/alice/{name}");
    for name in names {
        room.add("alice", name, &client(name), &[]);
        // So that some inner nodes are blank and others not, and some leaves unmerged.
        let bundle = room.member(name).update();
        room.accept(name, &bundle);
    }
    assert_eq!(room.group.members().len(), 9);
    // From sixteen places to eight, the last of them taken anew, one left blank.
    let remove = ["f", "h", "i"].map(|name| room.leaf(name)).to_vec();
    let again = MimiDevice::new(&client("j"));
    let change = Change {
        add: vec![again.key_package()],
        remove,
        ..Change::default()
    };
    let bundle = room.member("bob").commit(change);
    let staged = room.accept("bob", &bundle);
    assert_eq!(added(&staged), ["mimi://a.example/d/alice/j@5"]);
    let joined = again.join(bundle.welcome(), &room.group.ratchet_tree());
    room.members.insert("j", joined);
    room.agree();
    // The committer's own tree is sent on as it is.
    let another = MimiDevice::new(&client("k"));
    let change = Change {
        add: vec![another.key_package()],
        ..Change::default()
    };
    let bundle = room.member("alice").commit(change);
    room.member("alice").merge();
    let bundle = bundle.with_tree(room.members["alice"].tree());
    assert!(room.stage(&bundle).unwrap().tree_after.is_none());
}

#[test]
fn an_external_commit_contains_every_self_remove_and_makes_the_rest_void() {
    let mut room = Room::of_three();
    let info = room.group.group_info();
    let leave = room.member("bob").leave();
    room.accept_proposal("bob", &leave);
    let list = room
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    room.accept_proposal("bob", &list);
    let remove = room.group.hub_proposal(Proposal::Remove(2), room.hub.signer()).unwrap();
    room.accept_proposal("the hub", &remove);

    let tablet = MimiDevice::new("mimi://a.example/d/alice/T");
    let (_, ignoring) = tablet.join_externally_with(info.as_bytes(), &room.group.ratchet_tree(), &[], &[]);
    assert!(matches!(
        room.stage(&ignoring),
        Err(MimiRefusal::PendingLeftOut { references }) if references.len() == 1
    ));

    let (tablet, bundle) = tablet.join_externally(&room.group, &[]);
    let staged = room.accept("tablet", &bundle);
    assert_eq!(names(&staged.removed), ["mimi://b.example/d/bob/B@1"]);
    // The leaf that becomes free is the joiner's.
    assert_eq!(added(&staged), ["mimi://a.example/d/alice/T@1"]);
    let void: Vec<_> = staged
        .voided
        .iter()
        .map(|pending| pending.proposal.proposal_type())
        .collect();
    assert_eq!(void, [ProposalType::APP_DATA_UPDATE, ProposalType::REMOVE]);
    room.members.insert("tablet", tablet);
    room.agree();

    // What the hub had accepted it proposes anew.
    let anew = [
        Proposal::AppDataUpdate(change_participants(&[], &[1], &[])),
        Proposal::Remove(2),
    ];
    for proposal in anew {
        let message = room.group.hub_proposal(proposal, room.hub.signer()).unwrap();
        room.accept_proposal("the hub", &message);
    }
    let bundle = room.member("tablet").update();
    room.accept("tablet", &bundle);
    assert_eq!(
        participants_of(&room.group),
        [(ALICE.to_owned(), 4), (CATHY.to_owned(), 2)]
    );
    assert_eq!(room.group.members().len(), 2);
    room.agree();
}

#[test]
fn an_external_commit_has_its_own_proposals() {
    let mut room = Room::of_three();
    let message = room
        .member("alice")
        .propose_component(&set_component(STATUS, vec![1, 0]));
    let pending = room.accept_proposal("alice", &message).proposals[0].clone();
    let (dave, honest) = MimiDevice::new("mimi://d.example/d/dave/D").join_externally(&room.group, &[]);
    let MlsMessageBody::Public(public) = &honest.commit.body else {
        panic!("a public message");
    };
    let with = |change: &dyn Fn(&mut nabe_wire::mls::Commit)| {
        let mut public = public.clone();
        if let FramedContentBody::Commit(commit) = &mut public.content.body {
            change(commit);
        }
        let commit = Kept::new(MlsMessage {
            body: MlsMessageBody::Public(public),
        });
        room.group.stage(&commit, &honest.parts, wall_clock()).err()
    };
    let add = |proposal: Proposal| with(&|commit| commit.proposals.push(ProposalOrRef::Proposal(proposal.clone())));
    assert_eq!(with(&|_| {}), None);
    assert_eq!(
        with(&|commit| commit.path = None),
        Some(MimiRefusal::ExternalCommitWithoutPath)
    );
    assert_eq!(
        with(&|commit| commit.proposals.clear()),
        Some(MimiRefusal::ExternalInitCount { count: 0 })
    );
    assert_eq!(
        add(Proposal::ExternalInit(vec![7; 32].into())),
        Some(MimiRefusal::ExternalInitCount { count: 2 })
    );
    // Somebody else's leaf; its own has nobody.
    assert_eq!(add(Proposal::Remove(1)), Some(MimiRefusal::ExternalRemoval));
    let proposal_type = ProposalType::APP_EPHEMERAL;
    let ack = Proposal::AppEphemeral(AppEphemeral {
        component_id: ComponentId::APP_ACK,
        data: vec![0].into(),
    });
    assert_eq!(add(ack), Some(MimiRefusal::ExternalCommitProposal { proposal_type }));
    let reference = ProposalOrRef::Reference(pending.reference.as_bytes().into());
    assert_eq!(
        with(&|commit| commit.proposals.push(reference.clone())),
        Some(MimiRefusal::ExternalCommitReference {
            reference: pending.reference.clone()
        })
    );
    drop(dave);
}

#[test]
fn a_joiner_s_leaf_supports_what_the_room_asks_and_is_new() {
    let room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let join = |device: &MimiDevice| {
        let (_, bundle) = device.join_externally(&room.group, &[]);
        room.stage(&bundle).err()
    };
    assert_eq!(join(&dave), None);
    let component = ComponentId::FRANK_AAD;
    assert_eq!(
        join(&dave.with_component(ComponentId::SAFE_AAD, None)),
        Some(MimiRefusal::ComponentUnsupported { component })
    );
    // Of the same name, with another key, and without removing the one that is there.
    let again = MimiDevice::new("mimi://b.example/d/bob/B");
    assert_eq!(join(&again), Some(MimiRefusal::ClientTwice));
}

#[test]
fn every_refusal_names_its_section() {
    let wrong_epoch = MimiRefusal::WrongEpoch { epoch: 1, current: 2 };
    assert_eq!(wrong_epoch.section(), "MIMI #update-room-state");
    assert_eq!(MimiRefusal::SelfRemoveTwice.section(), "MLSX #proposal-description");
    assert_eq!(
        MimiRefusal::HubNotFirstSender.section(),
        "MIMI #authenticating-proposals"
    );
    assert_eq!(
        wrong_epoch.to_string(),
        "the message is for epoch 1, the group is at epoch 2"
    );
}
