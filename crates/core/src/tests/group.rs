//! Commits and the room's MLS group (LM #int-mls-add-remove). Cases 76 to 78, in the core.

use nabe_auth::lm::{GroupRejection, select_auth_events};
use nabe_mls::testing::{Parents, TestCommit, TestDevice, TestMember, group_state_on_paper, wall_clock};
use nabe_mls::{GroupRefusal, Suite};
use nabe_signing::base64u;
use nabe_signing::json::Json;

use super::*;
use crate::{
    CommitRefusal, Encryption, EventDraft, GroupChange, Input, Reply, Role, RoomMeta, RoomSpec, StoredGroup,
    bootstrap_participant, create_room,
};

/// An encrypted room: Alice (hub) has founded the group, Bob (first participant) is joined; both have one device so far.
struct Encrypted {
    hub: RoomView,
    /// Everything appended, and what it did to the group.
    changes: Vec<GroupChange>,
    log: Vec<Pdu>,
    alice: TestMember,
    bob: TestDevice,
}

fn device(number: u8, name: &str) -> TestDevice {
    TestDevice::new(user(number).as_str(), name)
}

fn content_of(commit: &TestCommit) -> Object {
    object! {
        "message" => base64u::encode(&commit.message),
        "public_group_state" => base64u::encode(&commit.group_state),
    }
}

/// Lifetimes of leaves are held against the wall clock, so these tests cannot choose the time.
fn ctx(signer: &Signer) -> Ctx<'_> {
    Ctx {
        now: wall_clock(),
        server: signer.server(),
        signer,
    }
}

fn empty_room(encryption: Option<&str>) -> RoomView {
    let signer = hub_signer();
    let mut spec = RoomSpec::new(room_id(), crate::fuzzing::version(), user(ALICE));
    spec.join_rule = nabe_auth::lm::JoinRule::Public;
    spec.encryption = encryption.map(str::to_owned);
    create_room(spec, &ctx(&signer)).unwrap().0
}

fn decide(
    view: &RoomView,
    sender: u8,
    event_type: &str,
    state_key: Option<&str>,
    content: Object,
) -> Result<Outcome, Refusal> {
    let signer = hub_signer();
    let input = if sender <= ANNE {
        Input::Draft {
            draft: EventDraft {
                event_type: event_type.to_owned(),
                state_key: state_key.map(str::to_owned),
                sender: user(sender),
                content,
                origin_server_ts: NOW,
            },
        }
    } else {
        let place = usize::from(sender >= CAROL);
        let via = match content.get("membership").and_then(Json::as_str) {
            Some("join") => Via::Join,
            Some("leave") => Via::Leave,
            _ => Via::Send,
        };
        Input::Lpdu {
            event: lpdu(place, sender, event_type, state_key, content),
            from: name(PEERS[place].0),
            via,
        }
    };
    view.decide(&input, &ctx(&signer)).map(done)
}

impl Encrypted {
    /// Nothing committed yet.
    fn founded() -> (Self, TestCommit) {
        let mut alice = device(ALICE, "PHONE").create_group(room_id().as_str());
        let first = alice.update();
        alice.merge();
        let mut room = Self {
            hub: empty_room(Some(&Suite::X25519_AES128.room_algorithm())),
            changes: Vec::new(),
            log: Vec::new(),
            alice,
            bob: device(BOB, "TABLET"),
        };
        room.log = room.hub.state().iter().cloned().collect();
        room.sends(BOB, "m.room.member", Some(user(BOB).as_str()), member("join"))
            .unwrap();
        (room, first)
    }

    fn new() -> Self {
        let (mut room, first) = Self::founded();
        room.commits(ALICE, &first).unwrap();
        room
    }

    /// Decides, and takes in what comes of it.
    fn sends(
        &mut self,
        sender: u8,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> Result<Outcome, Refusal> {
        let outcome = decide(&self.hub, sender, event_type, state_key, content)?;
        self.hub.apply(&outcome);
        self.changes.extend(outcome.group.clone());
        self.log
            .extend(outcome.append.iter().filter_map(|entry| entry.pdu().cloned()));
        Ok(outcome)
    }

    fn commits(&mut self, sender: u8, commit: &TestCommit) -> Result<Outcome, Refusal> {
        self.sends(sender, "m.mls.commit", None, content_of(commit))
    }

    fn epoch(&self) -> u64 {
        self.hub.group().unwrap().epoch()
    }

    fn adds_bob(&mut self) -> TestMember {
        let commit = self.alice.add(&[self.bob.key_package()]);
        self.commits(ALICE, &commit).unwrap();
        self.alice.merge();
        self.bob.join(commit.welcome())
    }

    /// Bob's server, which joined before the last `late` entries of the log.
    fn participant(&self) -> RoomView {
        let signer = peer_signer(0);
        let meta = RoomMeta {
            room_id: room_id(),
            version: crate::fuzzing::version(),
            role: Role::Participant { hub: name(HUB) },
            created_at: NOW,
        };
        let place = self.log.iter().position(|event| event.sender() == &user(BOB)).unwrap();
        let (state, join) = (self.log[..place].to_vec(), self.log[place].clone());
        bootstrap_participant(meta, state, join, &ctx(&signer)).unwrap().0
    }

    /// What Bob's server makes of an event from the hub.
    fn receives(&self, view: &mut RoomView, event: &Pdu) -> Outcome {
        let signer = peer_signer(0);
        let input = Input::Pdu {
            event: received(event.object()),
            from: name(HUB),
            held: Some(self.log.clone()),
        };
        let outcome = done(view.decide(&input, &ctx(&signer)).unwrap());
        view.apply(&outcome);
        outcome
    }

    /// The events after Bob's join.
    fn after_the_join(&self) -> Vec<Pdu> {
        let place = self.log.iter().position(|event| event.sender() == &user(BOB)).unwrap();
        self.log[place + 1..].to_vec()
    }

    /// A commit appended by a hub that checks nothing.
    fn forced(&self, head: &RoomView, sender: u8, commit: &TestCommit) -> Pdu {
        let builder = EventBuilder::new(room_id(), "m.mls.commit", user(sender), NOW, content_of(commit));
        let event = builder.clone().unsigned(self.hub.rules()).unwrap();
        let auth_events = select_auth_events(&event, self.hub.state());
        let prev_events = head.head().cloned().into_iter().collect();
        builder
            .build_pdu(&hub_signer(), auth_events, prev_events, self.hub.rules())
            .unwrap()
    }
}

fn refusal(outcome: Result<Outcome, Refusal>) -> CommitRefusal {
    match outcome {
        Err(Refusal::Commit(refusal)) => refusal,
        other => panic!("not refused as a commit: {other:?}"),
    }
}

#[test]
fn only_a_commit_of_a_room_with_a_group_is_for_the_group() {
    let draft = |event_type: &str| Input::Draft {
        draft: EventDraft {
            event_type: event_type.to_owned(),
            state_key: None,
            sender: user(ALICE),
            content: object! {},
            origin_server_ts: NOW,
        },
    };
    let (room, first) = Encrypted::founded();
    assert!(room.hub.is_for_the_group(&draft("m.mls.commit")));
    assert!(!room.hub.is_for_the_group(&draft("m.room.encrypted")));
    assert!(!empty_room(None).is_for_the_group(&draft("m.mls.commit")));
    let from_a_participant = Input::Lpdu {
        event: lpdu(0, BOB, "m.mls.commit", None, content_of(&first)),
        from: name(PEERS[0].0),
        via: Via::Send,
    };
    assert!(room.hub.is_for_the_group(&from_a_participant));
    let from_the_hub = Input::Pdu {
        event: received(room.forced(&room.hub, ALICE, &first).object()),
        from: name(HUB),
        held: None,
    };
    assert!(room.participant().is_for_the_group(&from_the_hub));
}

#[test]
fn the_creators_first_commit_begins_the_group() {
    let (mut room, first) = Encrypted::founded();
    assert_eq!(room.hub.encryption(), Encryption::Mls(Suite::X25519_AES128));
    assert!(room.hub.group().is_none());
    let outcome = room.commits(ALICE, &first).unwrap();
    let change = outcome.group.unwrap();
    assert_eq!(change.position, outcome.append[0].position);
    let group = room.hub.group().unwrap();
    assert_eq!(
        (group.epoch(), group.tree_hash()),
        (1, room.alice.tree_hash().as_slice())
    );
    assert!(group.contains(&user(ALICE), &nabe_types::DeviceId::parse("PHONE").unwrap()));
}

#[test]
fn the_first_commit_brings_only_devices_of_joined_users() {
    let (mut room, _) = Encrypted::founded();
    let mut alice = device(ALICE, "PHONE").create_group(room_id().as_str());
    let first = alice.add(&[device(CAROL, "PHONE").key_package()]);
    assert!(matches!(
        refusal(room.commits(ALICE, &first)),
        CommitRefusal::Membership(GroupRejection::AddedNotJoined { device }) if device.user == user(CAROL)
    ));
    assert!(room.hub.group().is_none());
}

#[test]
fn nobody_begins_the_group_in_anothers_name() {
    let (mut room, first) = Encrypted::founded();
    let refused = refusal(room.commits(BOB, &first));
    assert_eq!(refused.rule(), "mls-committer");
}

#[test]
fn a_device_is_added_once_its_user_is_joined() {
    let mut room = Encrypted::new();
    let carol = device(CAROL, "PHONE");
    let commit = room.alice.add(&[carol.key_package()]);
    let before = room.hub.clone();
    assert!(matches!(
        refusal(room.commits(ALICE, &commit)),
        CommitRefusal::Membership(GroupRejection::AddedNotJoined { .. })
    ));
    assert_eq!(room.hub, before, "a refusal changes nothing");
    room.sends(CAROL, "m.room.member", Some(user(CAROL).as_str()), member("join"))
        .unwrap();
    room.commits(ALICE, &commit).unwrap();
    room.alice.merge();
    let joined = carol.join(commit.welcome());
    assert_eq!(joined.tree_hash(), room.hub.group().unwrap().tree_hash());
}

#[test]
fn a_joined_users_device_is_removed_only_by_that_user() {
    let mut room = Encrypted::new();
    let bob = room.adds_bob();
    let commit = room.alice.remove(&[bob.leaf()]);
    assert!(matches!(
        refusal(room.commits(ALICE, &commit)),
        CommitRefusal::Membership(GroupRejection::RemovedStillJoined { .. })
    ));
    room.sends(BOB, "m.room.member", Some(user(BOB).as_str()), member("leave"))
        .unwrap();
    room.commits(ALICE, &commit).unwrap();
    assert_eq!(room.hub.group().unwrap().members().len(), 1);
}

#[test]
fn of_two_commits_for_one_epoch_the_first_wins_and_the_second_learns_the_epoch() {
    let mut room = Encrypted::new();
    let mut bob = room.adds_bob();
    let (first, second) = (room.alice.update(), bob.update());
    room.commits(ALICE, &first).unwrap();
    let refused = refusal(room.commits(BOB, &second));
    assert_eq!(
        refused,
        CommitRefusal::Group(GroupRefusal::WrongEpoch { epoch: 2, current: 3 })
    );
    assert_eq!((refused.rule(), refused.current_epoch()), ("mls-epoch", Some(3)));
    // The loser follows the winner and tries again.
    room.alice.merge();
    bob.clear();
    bob.process(&first.message);
    let again = bob.update();
    room.commits(BOB, &again).unwrap();
    bob.merge();
    room.alice.process(&again.message);
    assert_eq!(room.alice.epoch_authenticator(), bob.epoch_authenticator());
    assert_eq!(room.epoch(), bob.epoch());
}

#[test]
fn a_joined_user_joins_the_group_externally() {
    let mut room = Encrypted::new();
    let state = room.alice.export_group_state(true, true);
    let (bob, commit) = room.bob.join_externally(&state);
    room.commits(BOB, &commit).unwrap();
    assert_eq!(room.hub.group().unwrap().tree_hash(), bob.tree_hash());
    let (_, outsider) = device(CAROL, "PHONE").join_externally(&commit.group_state);
    // Carol is not in the room, so her event is refused before anybody looks at the commit.
    assert!(matches!(room.commits(CAROL, &outsider), Err(Refusal::Rejected(_))));
}

#[test]
fn a_commit_without_its_fields_is_refused_by_their_names() {
    let mut room = Encrypted::new();
    let whole = content_of(&room.alice.update());
    for field in ["message", "public_group_state"] {
        let mut content = whole.clone();
        content.remove(field);
        let refused = refusal(room.sends(ALICE, "m.mls.commit", None, content.clone()));
        assert_eq!(refused, CommitRefusal::NoString { field });
        content.insert(field, 7);
        let refused = refusal(room.sends(ALICE, "m.mls.commit", None, content.clone()));
        assert_eq!(refused, CommitRefusal::NoString { field });
        content.insert(field, "not base64!");
        let refused = refusal(room.sends(ALICE, "m.mls.commit", None, content));
        assert_eq!(refused, CommitRefusal::NotBase64 { field });
    }
    let mut content = whole.clone();
    content.insert("prev_commit_event_id", 7);
    let field = "prev_commit_event_id";
    assert_eq!(
        refusal(room.sends(ALICE, "m.mls.commit", None, content)),
        CommitRefusal::NoString { field }
    );
    let refused = refusal(room.sends(ALICE, "m.mls.commit", Some(""), whole.clone()));
    assert_eq!(refused, CommitRefusal::StateEvent);
    // None of that was in the way of the commit itself.
    room.sends(ALICE, "m.mls.commit", None, whole).unwrap();
}

#[test]
fn messages_leave_the_group_alone() {
    let mut room = Encrypted::new();
    let ciphertext = base64u::encode(&room.alice.encrypt(b"hello"));
    let before = room.hub.group().unwrap().clone();
    let outcome = room
        .sends(ALICE, "m.room.encrypted", None, object! { "ciphertext" => ciphertext })
        .unwrap();
    assert_eq!(outcome.group, None);
    assert_eq!(room.hub.group(), Some(&before));
}

#[test]
fn rooms_without_mls_do_not_look_at_commits() {
    for (algorithm, encryption) in [
        (None, Encryption::None),
        (Some("org.example.rot13"), Encryption::Other("org.example.rot13")),
        (Some("m.mls.v1.nonsense"), Encryption::Other("m.mls.v1.nonsense")),
    ] {
        let view = empty_room(algorithm);
        assert_eq!(view.encryption(), encryption);
        let outcome = decide(&view, ALICE, "m.mls.commit", None, object! { "message" => 7 }).unwrap();
        assert!(matches!(outcome.reply, Reply::Appended { .. }));
        assert_eq!(outcome.group, None);
    }
}

#[test]
fn a_participant_follows_the_hub() {
    let mut room = Encrypted::new();
    room.adds_bob();
    let mut view = room.participant();
    for event in room.after_the_join() {
        let outcome = room.receives(&mut view, &event);
        assert_eq!(outcome.soft_failure, None);
    }
    assert_eq!(view.group(), room.hub.group());
}

#[test]
fn a_participant_soft_fails_what_the_hub_should_have_refused() {
    let mut room = Encrypted::new();
    let bob = room.adds_bob();
    let mut view = room.participant();
    for event in room.after_the_join() {
        room.receives(&mut view, &event);
    }
    let before = view.group().unwrap().clone();
    let removal = room.alice.remove(&[bob.leaf()]);
    let bad = room.forced(&view, ALICE, &removal);
    let outcome = room.receives(&mut view, &bad);
    assert!(matches!(
        outcome.soft_failure,
        Some(CommitRefusal::Membership(GroupRejection::RemovedStillJoined { .. }))
    ));
    assert!(outcome.append[0].soft_failed);
    assert_eq!(outcome.group, None);
    assert_eq!(view.group(), Some(&before));
    assert_eq!(view.head(), Some(bad.event_id()), "the chain goes on");
}

#[test]
fn a_participant_that_missed_commits_follows_anew() {
    let mut room = Encrypted::new();
    let mut view = room.participant();
    let mut events = room.after_the_join();
    room.receives(&mut view, &events.remove(0));
    assert_eq!(view.group().unwrap().epoch(), 1);
    // Two commits of which the participant sees only the second, whatever became of the first.
    let lost = room.alice.update();
    decide(&room.hub, ALICE, "m.mls.commit", None, content_of(&lost))
        .map(|outcome| room.hub.apply(&outcome))
        .unwrap();
    room.alice.merge();
    let next = room.alice.update();
    let seen = room.forced(&view, ALICE, &next);
    let outcome = room.receives(&mut view, &seen);
    assert_eq!(outcome.soft_failure, None);
    room.commits(ALICE, &next).unwrap();
    assert_eq!(view.group(), room.hub.group());
}

/// Its leaves were in order when the hub let them in; what they are now is no reason not to follow the group.
#[test]
fn a_participant_begins_with_a_group_in_which_leaves_have_outlived_their_key_packages() {
    let (mut room, _) = Encrypted::founded();
    let devices = [device(ALICE, "PHONE"), device(ANNE, "PHONE")];
    let state = group_state_on_paper(room_id().as_str(), &devices, Parents::Expired);
    let (mut tablet, join) = device(ALICE, "TABLET").join_externally(&state);
    assert!(matches!(
        refusal(room.commits(ALICE, &join)),
        CommitRefusal::Group(GroupRefusal::LeafLifetime(_))
    ));
    let mut view = room.participant();
    for epoch in [2, 3] {
        let commit = tablet.update();
        tablet.merge();
        let seen = room.forced(&view, ALICE, &commit);
        assert_eq!(room.receives(&mut view, &seen).soft_failure, None);
        let group = view.group().unwrap();
        assert_eq!((group.epoch(), group.members().len()), (epoch, 3));
        assert_eq!(group.tree_hash(), tablet.tree_hash());
    }
}

#[test]
fn the_group_read_back_from_storage_is_the_one_lived_through() {
    let mut room = Encrypted::new();
    let restored = |room: &Encrypted, checkpoint, changes: &[GroupChange]| {
        let stored = StoredGroup {
            checkpoint,
            changes: changes.to_vec(),
            newest: changes.last().map(|change| change.position),
        };
        empty_room(None).with_group(&stored).unwrap().group().cloned() == room.hub.group().cloned()
    };
    assert!(restored(&room, None, &room.changes));
    room.adds_bob();
    assert!(restored(&room, None, &room.changes));
    let checkpoint = room.hub.group().unwrap().checkpoint();
    let (_, from) = (room.alice.update(), room.changes.len());
    room.alice.clear();
    for _ in 0..3 {
        let update = room.alice.update();
        room.commits(ALICE, &update).unwrap();
        room.alice.merge();
        assert!(restored(&room, None, &room.changes));
        assert!(restored(&room, Some(checkpoint.clone()), &room.changes[from..]));
    }
}

#[test]
fn what_is_stored_and_cannot_be_read_is_begun_again_from_the_newest_commit() {
    let mut room = Encrypted::new();
    room.adds_bob();
    let mut changes = room.changes.clone();
    changes[0].bytes = bytes::Bytes::from_static(b"of another version");
    let stored = StoredGroup {
        checkpoint: None,
        changes,
        newest: None,
    };
    assert!(room.hub.clone().with_group(&stored).is_err());
    let commit = room
        .log
        .iter()
        .rev()
        .find(|event| event.event_type() == "m.mls.commit")
        .unwrap();
    let mut view = empty_room(Some(&Suite::X25519_AES128.room_algorithm()));
    view.follow_from(commit).unwrap();
    assert_eq!(view.group(), room.hub.group());
}
