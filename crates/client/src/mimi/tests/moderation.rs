//! What roles let users say, and take back (MRP #message-capabilities).

use nabe_content::mimi::{Disposition, MessageId, MimiContent};
use nabe_wire::Encode as _;
use nabe_wire::policy::Capability;
use nabe_wire::submit_message::{SubmitMessageResponse, SubmitVerdict};

use super::*;

/// As a client says it that does not look at rules.
pub(super) fn shout(client: &mut MimiClient, content: &MimiContent) -> MessageId {
    let (n, id) = client.keep_message(&room(), content).unwrap();
    let encrypted = client.in_transaction(|work, connection| {
        let outgoing = store::Outgoing::load(connection, n)?.expect("it is kept");
        let known = KnownRoom::load(connection, &room())?.expect("it is known");
        work.seal(&outgoing, &mut work.group(&known)?, content)
    });
    encrypted.unwrap();
    sync(client);
    assert!(client.item_of(&room(), &id).unwrap().is_some(), "the hub takes it");
    id
}

/// Alice's room, in which ordinary users have these capabilities and no others.
pub(super) fn with_capabilities(hub: &MimiHub, capabilities: &[Capability]) -> [MimiClient; 3] {
    let [mut alice, mut bob, mut cathy] = [A, B, C].map(|name| client(hub, name));
    let mut new = new_room();
    let roles = new.policy.roles.roles.iter_mut();
    for role in roles.filter(|role| role.role_index == MEMBER) {
        role.role_capabilities = [
            &[Capability::CAN_SEND_MESSAGE, Capability::CAN_RECEIVE_MESSAGE][..],
            capabilities,
        ]
        .concat();
    }
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER), (uri(CATHY), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    [alice, bob, cathy]
}

/// What Bob says, each with what it takes.
fn speech(
    bob: &mut MimiClient,
    alices: &MessageId,
    own: &MessageId,
    reaction: &MessageId,
) -> Vec<(Capability, MimiContent)> {
    let compose = |bob: &MimiClient, body| bob.compose(&room(), body).unwrap();
    let text = NestedPart::text;
    let mut cases = Vec::new();
    let mut reply = compose(bob, text("yes"));
    reply.in_reply_to = Some(*alices);
    cases.push((Capability::CAN_REPLY_TO_MESSAGE, reply.clone()));
    let mut react = compose(bob, text("!").with_disposition(Disposition::REACTION));
    react.in_reply_to = Some(*alices);
    cases.push((Capability::CAN_REACT_TO_MESSAGE, react));
    let mut topic = compose(bob, text("cats"));
    topic.topic_id = b"cats".to_vec();
    cases.push((Capability::CAN_START_TOPIC, topic));
    let mut edit = compose(bob, text("something else"));
    edit.replaces = Some(*own);
    cases.push((Capability::CAN_EDIT_OWN_MESSAGE, edit));
    let mut other = compose(bob, text("?").with_disposition(Disposition::REACTION));
    (other.replaces, other.in_reply_to) = (Some(*reaction), Some(*alices));
    cases.push((Capability::CAN_EDIT_REACTION, other));
    let mut delete = compose(bob, NestedPart::null());
    delete.replaces = Some(*own);
    cases.push((Capability::CAN_DELETE_OWN_MESSAGE, delete.clone()));
    delete.replaces = Some(*alices);
    cases.push((Capability::CAN_DELETE_OTHER_MESSAGE, delete));
    let mut unlike = compose(bob, NestedPart::null().with_disposition(Disposition::REACTION));
    (unlike.replaces, unlike.in_reply_to) = (Some(*reaction), Some(*alices));
    cases.push((Capability::CAN_DELETE_OWN_REACTION, unlike));
    let link = compose(bob, NestedPart::markdown("look: <https://cats.example/>"));
    cases.push((Capability::CAN_SEND_LINK, link));
    let preview = compose(bob, text("A cat").with_disposition(Disposition::PREVIEW));
    cases.push((Capability::CAN_SEND_LINK_PREVIEW, preview));
    cases
}

#[test]
fn a_role_that_lacks_it_neither_says_it_nor_is_heard_saying_it() {
    for has_them in [false, true] {
        let hub = MimiHub::new();
        let all: Vec<Capability> = (0x0100..0x0300).map(Capability).collect();
        let [mut alice, mut bob, _] = with_capabilities(&hub, if has_them { &all } else { &[] });
        let first = say(&mut alice, "hello");
        sync(&mut bob);
        let own = say(&mut bob, "hello, too");
        let mut reaction = bob
            .compose(&room(), NestedPart::text("!").with_disposition(Disposition::REACTION))
            .unwrap();
        reaction.in_reply_to = Some(first);
        let reaction = shout(&mut bob, &reaction);
        for (needed, content) in speech(&mut bob, &first, &own, &reaction) {
            let name = needed.name().unwrap();
            let said = now(bob.send(&room(), &content));
            match (has_them, said) {
                (true, Ok(id)) => {
                    sync(&mut alice);
                    let item = alice.item_of(&room(), &id).unwrap().unwrap();
                    assert!(matches!(item.body, MimiBody::Content(_)), "{name}: {item:?}");
                }
                (false, Err(MimiError::NotPermitted { capability })) => {
                    assert_eq!(capability.name(), needed.name());
                    // A client that does not care says it all the same, and is not heard.
                    let hash = shout(&mut bob, &content);
                    sync(&mut alice);
                    assert!(alice.item_of(&room(), &hash).unwrap().is_none(), "{name}");
                    let newest = alice.items(&room(), 1).unwrap().remove(0);
                    let MimiBody::Unreadable(Unreadable::NotPermitted { capability }) = &newest.body else {
                        panic!("{name}: {newest:?}");
                    };
                    assert_eq!(capability, name);
                }
                (_, said) => panic!("{name}: {said:?}"),
            }
        }
        assert_eq!(read(&alice)[0], "hello");
    }
}

#[test]
fn what_waits_is_not_sent_if_the_role_does_not_allow_it_any_more() {
    for is_encrypted_anew in [false, true] {
        let hub = MimiHub::new();
        let [mut alice, bob, _] = with_capabilities(&hub, &[]);
        now(alice.set_role(&room(), &uri(BOB), templates::SUPER_ADMIN)).unwrap();
        let line = hub.transport(B);
        let mut bob = MimiClient::open(line.clone(), bob.into_store(), obedient(), hub.clock()).unwrap();
        sync(&mut bob);
        notices(&mut bob);
        let link = NestedPart::markdown("look: <https://cats.example/>");
        let link = bob
            .enqueue_message(&room(), &bob.compose(&room(), link).unwrap())
            .unwrap();
        let text = bob.compose(&room(), NestedPart::text("hello")).unwrap();
        bob.enqueue_message(&room(), &text).unwrap();
        if is_encrypted_anew {
            let current_epoch = bob.group(&room()).unwrap().unwrap().epoch + 1;
            let late = SubmitMessageResponse::from(SubmitVerdict::EpochTooOld { current_epoch });
            line.answer(&late.to_bytes());
        } else {
            line.is_down(&room(), true);
        }
        now(bob.sync(Duration::ZERO)).unwrap();
        let waiting = store::Outgoing::all(bob.store.read()).unwrap();
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting[0].message.is_none(), is_encrypted_anew);
        now(alice.set_role(&room(), &uri(BOB), MEMBER)).unwrap();
        now(bob.sync(Duration::ZERO)).unwrap();
        line.is_down(&room(), false);
        hub.advance(Duration::from_mins(10));
        line.asked();
        now(bob.sync(Duration::ZERO)).unwrap();
        assert_eq!(
            line.asked(),
            u32::from(!is_encrypted_anew),
            "the hub sees the other one alone"
        );
        sync(&mut alice);
        let items = alice.items(&room(), 10).unwrap();
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!(read(&alice), ["hello"], "what comes after it is not in the way");
        assert_eq!(read(&bob), ["hello"]);
        let not_sent = MimiNotice::NotSent {
            room: ROOM.to_owned(),
            message: link.to_string(),
        };
        assert!(notices(&mut bob).contains(&not_sent));
    }
}

#[test]
fn who_deletes_what_others_said_before_it_comes_may_do_so_no_more_than_after_it() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = with_capabilities(&hub, &[Capability::CAN_DELETE_OWN_MESSAGE]);
    let id = say(&mut alice, "Hush");
    let said = hub.take_last();
    // As far as anybody can see, it could be his own.
    let mut delete = bob.compose(&room(), NestedPart::null()).unwrap();
    delete.replaces = Some(id);
    now(bob.send(&room(), &delete)).unwrap();
    hub.say(said);
    sync(&mut cathy);
    assert_eq!(cathy.items(&room(), 10).unwrap().len(), 2);
    let (timeline, moderation) = (cathy.timeline(&room()).unwrap(), cathy.moderation(&room()).unwrap());
    let post = timeline.post(&id, moderation.policy()).unwrap();
    assert!(matches!(post.state, State::Shown { .. }), "{post:?}");
}

#[test]
fn a_reply_in_its_topic_needs_less_than_one_that_is_in_none() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = with_capabilities(&hub, &[Capability::CAN_REPLY_IN_TOPIC]);
    let (topic, _) = now(alice.begin_topic(&room(), NestedPart::text("fish"))).unwrap();
    let plain = say(&mut alice, "hello");
    sync(&mut bob);
    now(bob.reply(&room(), &topic, NestedPart::text("which?"))).unwrap();
    let refused = now(bob.reply(&room(), &plain, NestedPart::text("hello"))).unwrap_err();
    assert!(matches!(refused, MimiError::NotPermitted { .. }), "{refused}");
    assert_eq!(refused.to_string(), "your role in the room lacks canReplyToMessage");
    sync(&mut alice);
    assert_eq!(read(&alice), ["fish", "hello", "which?"]);
}

#[test]
fn who_may_delete_what_others_said_does_and_others_do_not() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let shown = |client: &MimiClient| -> Vec<bool> {
        let (timeline, moderation) = (client.timeline(&room()).unwrap(), client.moderation(&room()).unwrap());
        let posts = timeline.posts(moderation.policy()).into_iter();
        posts.map(|post| matches!(post.state, State::Shown { .. })).collect()
    };
    let rude = say(&mut bob, "You fish!");
    let fine = say(&mut alice, "Hush");
    for client in [&mut alice, &mut bob, &mut cathy] {
        sync(client);
    }
    let refused = now(bob.delete(&room(), &fine)).unwrap_err();
    assert!(matches!(refused, MimiError::NotPermitted { .. }), "{refused}");
    // She is an administrator, and stays heard when she is none any more.
    now(alice.delete(&room(), &rude)).unwrap();
    for client in [&mut bob, &mut cathy] {
        sync(client);
    }
    now(alice.set_role(&room(), &uri(BOB), templates::SUPER_ADMIN)).unwrap();
    sync(&mut bob);
    now(bob.set_role(&room(), &uri(ALICE), MEMBER)).unwrap();
    for client in [&mut alice, &mut bob, &mut cathy] {
        sync(client);
        assert_eq!(shown(client), [false, true], "{}", client.client());
    }
    let second = say(&mut cathy, "Fish!");
    sync(&mut alice);
    let refused = now(alice.delete(&room(), &second)).unwrap_err();
    assert!(matches!(refused, MimiError::NotPermitted { .. }), "{refused}");
}
