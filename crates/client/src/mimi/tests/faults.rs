//! Peers that say more than they should: of which group a room's is, what was said before, who said it, and how it is framed.

use nabe_content::mimi::cbor::CborValue;
use nabe_content::mimi::{Expiration, ExtensionKey, Extensions, MessageId, MimiContent, Origin, Received, Salt};
use nabe_wire::mls::{MlsMessage, MlsMessageBody, Welcome};
use nabe_wire::notify::FanoutMessage;
use nabe_wire::{Kept, Message as _};

use super::*;
use crate::error::StoreError;
use crate::mimi::expiry::look_at;
use crate::mimi::store::{Outgoing, OwnKeyPackage};
use crate::store::set_meta;

const HALL: &str = "mimi://a.example/r/hall";

/// Has a client found a room whose group has the ID that it says.
fn found(client: &mut MimiClient, new: &NewRoom, group_id: &[u8]) {
    let suite = nabe_wire::mls::CipherSuite(new.suite.id());
    let hub = now(client.transport.hub(suite)).unwrap();
    let intent = client.begin(new, &hub, group_id.to_vec()).unwrap();
    now(client.drive(intent)).unwrap();
}

fn hall() -> NewRoom {
    let mut hall = joining::open_room();
    hall.uri = uri(HALL);
    hall.metadata.room_uri = nabe_wire::uri::Uri::new(HALL).unwrap();
    hall
}

/// Neither the Welcome nor the GroupInfo of the hall gets a client in.
fn stays_out(founder: &mut MimiClient, client: &mut MimiClient) {
    let user = client.user().clone();
    now(founder.add(&uri(HALL), &[(user, MEMBER)])).unwrap();
    sync(client);
    let told = notices(client);
    let is_told = |notice: &MimiNotice| matches!(notice, MimiNotice::Malformed { room, .. } if room == HALL);
    assert!(told.iter().any(is_told), "{told:?}");
    let refused = now(client.join(&uri(HALL), None, None)).unwrap_err();
    let fault = GroupFault::GroupId;
    assert!(
        matches!(refused, MimiError::UnsoundGroup { fault: found, .. } if found == fault),
        "{refused}"
    );
    assert!(client.group(&uri(HALL)).unwrap().is_none());
}

#[test]
fn no_room_takes_the_place_of_a_group_of_linearized_matrix_in_the_same_file() {
    let matrix = crate::tests::hub();
    let mut friend = crate::tests::client(&matrix, crate::tests::ALICE, "A");
    let mut bob = crate::tests::client(&matrix, crate::tests::BOB, "B");
    let secret = crate::tests::room(&mut friend, &mut [&mut bob]);
    // Whoever knows the room's ID makes a group of it, and has Bob in it.
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut second = client_with(&hub, B, bob.into_store(), obedient());
    found(&mut alice, &hall(), secret.as_str().as_bytes());
    stays_out(&mut alice, &mut second);
    // What Bob says in the one room is for those who are in it.
    let transport = matrix.transport(crate::tests::BOB, "B");
    let settings = crate::tests::obedient();
    let mut bob = crate::Client::open(transport, second.into_store(), settings, matrix.clock()).unwrap();
    crate::tests::sync(&mut bob);
    crate::tests::say(&mut bob, &secret, "between us");
    crate::tests::sync(&mut friend);
    assert_eq!(crate::tests::read(&friend, &secret), ["between us"]);
    crate::tests::agree(&matrix, &secret, &[&friend, &bob]);
}

#[test]
fn a_room_of_mimi_comes_before_no_room_of_linearized_matrix() {
    let hub = MimiHub::new();
    let (mut alice, mut bob) = (client(&hub, A), client(&hub, B));
    found(&mut alice, &hall(), b"!secret:a.example");
    stays_out(&mut alice, &mut bob);
}

#[test]
fn no_room_has_the_group_of_another_room_or_of_another_host() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let clubs = alice.room(&room()).unwrap().group_id.unwrap();
    // Another client of hers is not in the club, so that it can make such a group.
    let mut second = client(&hub, "mimi://a.example/d/alice/A2");
    found(&mut second, &hall(), &clubs);
    stays_out(&mut second, &mut bob);
    say(&mut bob, "still here");
    sync(&mut alice);
    assert_eq!(read(&alice), ["still here"]);

    let hub = MimiHub::new();
    let (mut alice, mut bob) = (client(&hub, A), client(&hub, B));
    found(&mut alice, &hall(), b"mimi://b.example/g/club");
    stays_out(&mut alice, &mut bob);
}

#[test]
fn nobody_knows_the_id_of_a_group_before_it_is_made() {
    let ids = [(); 2].map(|()| {
        let hub = MimiHub::new();
        let mut alice = client(&hub, A);
        now(alice.create_room(&new_room())).unwrap();
        String::from_utf8(alice.room(&room()).unwrap().group_id.unwrap()).unwrap()
    });
    assert!(ids.iter().all(|id| id.starts_with("mimi://a.example/g/")), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn what_is_sent_twice_is_told_once() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let content = bob.compose(&room(), NestedPart::text("Fish!")).unwrap();
    let id = now(bob.send(&room(), &content)).unwrap();
    for _ in 0..3 {
        assert_eq!(now(bob.send(&room(), &content)).unwrap(), id);
    }
    for client in [&mut alice, &mut cathy, &mut bob] {
        sync(client);
        assert_eq!(read(client), ["Fish!"]);
        let told = notices(client);
        let items = told.iter().filter(|notice| matches!(notice, MimiNotice::Item { .. }));
        assert_eq!(items.count(), 1, "{told:?}");
        let messages = client.items(&room(), 10).unwrap().into_iter();
        let messages = messages.filter(|item| matches!(item.body, MimiBody::Content(_)));
        assert_eq!(messages.count(), 1);
    }
    // They are known, and why they are not shown.
    let others = alice.items(&room(), 10).unwrap().split_off(1);
    assert_eq!(others.len(), 3);
    for item in others {
        let what = "duplicate message ID".to_owned();
        assert_eq!(item.body, MimiBody::Unreadable(Unreadable::Suspicious { what }));
    }
    assert_eq!(alice.item_of(&room(), &id).unwrap().unwrap().sender, Some(uri(BOB)));
}

#[test]
fn a_false_name_is_none_even_if_nothing_else_is_named() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let origin = Origin::new(BOB, ROOM).unwrap();
    let (sender, to) = (ExtensionKey::SENDER_URI, ExtensionKey::ROOM_URI);
    let (cathy, bobs, club, elsewhere) = (CATHY, BOB, ROOM, HALL);
    let none: Option<&str> = None;
    let cases = [
        (Some(cathy), none, false),
        (Some(cathy), Some(""), false),
        (none, Some(elsewhere), false),
        (Some(""), Some(elsewhere), false),
        (Some(bobs), none, true),
        (none, Some(club), true),
        (none, none, true),
        // The same user, and as whoever compares the text would have it another one.
        (
            Some("mimi://B.example/u/bob"),
            Some("mimi://A.EXAMPLE/r/clubhouse"),
            true,
        ),
    ];
    for (n, (said_sender, said_room, is_shown)) in cases.into_iter().enumerate() {
        let salt = Salt::from_random([u8::try_from(n).unwrap(); 16]);
        let mut content = MimiContent::new(salt, &origin, NestedPart::text("x"));
        content.extensions = Extensions::new();
        for (key, said) in [(&sender, said_sender), (&to, said_room)] {
            if let Some(said) = said {
                content.extensions.insert(key.clone(), CborValue::text(said)).unwrap();
            }
        }
        let received = Received::decode(content.encode().unwrap(), origin.clone()).unwrap();
        let connection = bob.store.read();
        Outgoing::insert(connection, &room(), received.bytes(), &received.id()).unwrap();
        sync(&mut bob);
        sync(&mut alice);
        let last = alice.items(&room(), 1).unwrap().remove(0);
        let is_refused = last.body == MimiBody::Unreadable(Unreadable::OtherOrigin);
        assert_eq!(!is_refused, is_shown, "{n}: {last:?}");
    }
}

#[test]
fn a_message_is_framed_as_its_own_epoch_has_it() {
    framings_change(false);
}

#[test]
fn a_client_that_was_brought_up_to_this_version_knows_how_messages_were_framed_before() {
    framings_change(true);
}

fn framings_change(knows_no_framing: bool) {
    let hub = MimiHub::new();
    let (mut alice, mut bob, mut cathy) = (client(&hub, A), client(&hub, B), client(&hub, C));
    let mut new = new_room();
    for role in &mut new.policy.roles.roles {
        let may = nabe_wire::policy::Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES;
        role.role_capabilities.push(may);
    }
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER), (uri(CATHY), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    if knows_no_framing {
        let mut store = alice.into_store();
        let forget = |connection: &rusqlite::Connection| -> Result<usize, StoreError> {
            Ok(connection.execute("DELETE FROM mimi_framing", [])?)
        };
        assert_eq!(store.transaction(forget).unwrap(), 1);
        alice = MimiClient::open(hub.transport(A), store, obedient(), hub.clock()).unwrap();
    }
    let types = alice.group(&room()).unwrap().unwrap();
    let types = types
        .components
        .data(ComponentId::CONTENT_MEDIA_TYPES)
        .unwrap()
        .to_vec();
    let mut expected = Vec::new();
    for (n, change) in [None, Some(types)].into_iter().enumerate() {
        // It is said before the change, and heard after it.
        let words = format!("before change {n}");
        say(&mut bob, &words);
        let said = hub.take_last();
        sync(&mut alice);
        now(alice.set_component(&room(), ComponentId::CONTENT_MEDIA_TYPES, change)).unwrap();
        hub.say(said);
        sync(&mut alice);
        expected.push(words);
        assert_eq!(read(&alice), expected);
        // Who says something after it says it as the room has it now.
        sync(&mut bob);
        let words = format!("after change {n}");
        say(&mut bob, &words);
        sync(&mut alice);
        expected.push(words);
        assert_eq!(read(&alice), expected);
    }
    sync(&mut cathy);
    assert_eq!(read(&cathy), expected);
}

/// A message of Alice's with an edit, and one that expires in a hundred seconds. The edit's ID, and that of the other.
fn edited_and_fleeting(hub: &MimiHub, alice: &mut MimiClient) -> [MessageId; 3] {
    let first = say(alice, "a fsh");
    let edit = now(alice.edit(&room(), &first, NestedPart::text("a fish"))).unwrap();
    let mut content = alice.compose(&room(), NestedPart::text("fleeting")).unwrap();
    let seconds = u32::try_from(hub.clock()().as_u64() / 1000).unwrap() + 100;
    content.expires = Some(Expiration::Absolute { seconds });
    [first, edit, now(alice.send(&room(), &content)).unwrap()]
}

/// A reply to the first is one to its edit, and what expires goes.
fn answers_and_forgets(hub: &MimiHub, client: &mut MimiClient, [first, edit, fleeting]: [MessageId; 3]) {
    let reply = now(client.reply(&room(), &first, NestedPart::text("indeed"))).unwrap();
    let Some(MimiBody::Content(said)) = client.item_of(&room(), &reply).unwrap().map(|item| item.body) else {
        panic!("it was sent");
    };
    assert_eq!(said.content().in_reply_to, Some(edit));
    assert!(client.next_due().unwrap().is_some());
    hub.advance(Duration::from_secs(101));
    client.expire().unwrap();
    let left = client.item_of(&room(), &fleeting).unwrap().unwrap();
    assert!(matches!(left.body, MimiBody::Expired(_)), "{left:?}");
}

#[test]
fn of_a_room_no_more_is_read_than_the_versions_of_the_message_that_is_meant() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let ids = edited_and_fleeting(&hub, &mut alice);
    let other = say(&mut alice, "something else");
    sync(&mut bob);
    let reaction = now(bob.react(&room(), &ids[1], &["!"])).unwrap();
    // Whoever reads that stumbles over it.
    let spoil = |connection: &rusqlite::Connection| -> Result<usize, StoreError> {
        let sql = "UPDATE mimi_timeline SET content = x'00' WHERE message_id = ?1";
        Ok(connection.execute(sql, [&other.as_bytes()[..]])?)
    };
    assert_eq!(bob.store.transaction(spoil).unwrap(), 1);
    bob.timeline(&room()).unwrap_err();
    let unlike = now(bob.unreact(&room(), &ids[0])).unwrap();
    sync(&mut alice);
    let Some(MimiBody::Content(unlike)) = alice.item_of(&room(), &unlike[0]).unwrap().map(|item| item.body) else {
        panic!("it was sent");
    };
    assert_eq!(unlike.content().replaces, Some(reaction));
    assert_eq!(now(bob.unreact(&room(), &ids[0])).unwrap(), []);
    answers_and_forgets(&hub, &mut bob, ids);
}

#[test]
fn of_more_versions_than_are_read_at_once_those_that_may_count_come_first_and_all_expire() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let mut content = alice.compose(&room(), NestedPart::text("a fsh")).unwrap();
    let seconds = u32::try_from(hub.clock()().as_u64() / 1000).unwrap() + 100;
    content.expires = Some(Expiration::Absolute { seconds });
    let first = now(alice.send(&room(), &content)).unwrap();
    let long = "no fish ".repeat(1_000);
    sync(&mut cathy);
    // What she makes of it counts for nobody.
    for _ in 0..5 {
        now(cathy.edit(&room(), &first, NestedPart::text(&long))).unwrap();
    }
    let edits = [(); 3].map(|()| now(alice.edit(&room(), &first, NestedPart::text(&long))).unwrap());
    sync(&mut bob);
    let read = |client: &MimiClient, bytes| -> Vec<MessageId> {
        let versions = MimiItem::versions(client.store.read(), &room(), &edits[2], bytes).unwrap();
        let ids = versions.iter().filter_map(|item| match &item.body {
            MimiBody::Content(received) => Some(received.id()),
            _ => None,
        });
        ids.collect()
    };
    assert_eq!(read(&bob, u64::MAX).len(), 9);
    assert_eq!(read(&bob, 35_000), [first, edits[0], edits[1], edits[2]]);
    assert_eq!(read(&bob, 15_000), [first, edits[0]]);
    let newest = MimiItem::newest_within(bob.store.read(), &room(), 20_000).unwrap();
    assert_eq!(newest.len(), 2);
    hub.advance(Duration::from_secs(101));
    let at = hub.clock()();
    let look = |connection: &rusqlite::Connection| look_at(connection, &room(), &first, at, 20_000);
    assert!(bob.store.transaction(look).unwrap());
    assert_eq!(read(&bob, u64::MAX), []);
}

#[test]
fn a_file_of_an_earlier_version_is_brought_up_to_this_one() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let ids = edited_and_fleeting(&hub, &mut alice);
    // His other client said something that goes when he has read it.
    let mut second = client(&hub, B2);
    now(second.join(&room(), None, None)).unwrap();
    let mut content = second.compose(&room(), NestedPart::text("read and gone")).unwrap();
    content.expires = Some(Expiration::Relative { seconds: 60 });
    let own = now(second.send(&room(), &content)).unwrap();
    sync(&mut bob);
    let mut store = bob.into_store();
    let age = |connection: &rusqlite::Connection| -> Result<(), StoreError> {
        connection.execute_batch(
            "DROP TABLE mimi_framing; DROP INDEX mimi_timeline_by_former; DROP INDEX mimi_timeline_by_replaces; \
             DROP INDEX mimi_timeline_by_due; DROP INDEX mimi_timeline_moderates; DROP INDEX mimi_timeline_by_in_reply_to; \
             DROP TABLE mimi_self_removes; ALTER TABLE mimi_rooms DROP COLUMN since; UPDATE mimi_timeline SET read_at = NULL; CREATE TABLE mimi_expiry (room TEXT PRIMARY KEY, due INTEGER NOT NULL);",
        )?;
        for column in [
            "former",
            "replaces",
            "in_reply_to",
            "due",
            "group_id",
            "leaf",
            "moderates",
        ] {
            connection.execute_batch(&format!("ALTER TABLE mimi_timeline DROP COLUMN {column}"))?;
        }
        set_meta(connection, "mimi.format", &[3])
    };
    store.transaction(age).unwrap();
    let mut bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
    answers_and_forgets(&hub, &mut bob, ids);
    let own = bob.item_of(&room(), &own).unwrap().unwrap();
    assert!(matches!(own.body, MimiBody::Expired(_)), "{own:?}");
}

#[test]
fn what_was_accepted_before_the_room_was_there_is_discarded() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    say(&mut cathy, "now");
    for client in [&mut alice, &mut bob] {
        sync(client);
        assert_eq!(read(client), ["now"]);
    }
    for (minutes, is_shown) in [(4, true), (6, false)] {
        let id = say(&mut cathy, "long ago");
        hub.alter_last(|fanout| fanout.timestamp -= minutes * 60_000);
        for client in [&mut alice, &mut bob] {
            sync(client);
            let items = client.items(&room(), 10).unwrap();
            let what = "accepted before the room was created".to_owned();
            let discarded = MimiBody::Unreadable(Unreadable::Suspicious { what });
            assert_eq!(items.iter().any(|item| item.body == discarded), !is_shown, "{items:?}");
            let shown = items
                .iter()
                .filter(|item| matches!(&item.body, MimiBody::Content(said) if said.id() == id));
            assert_eq!(shown.count(), usize::from(is_shown));
        }
    }
}

#[test]
fn a_welcome_that_a_key_package_does_not_open_takes_nothing_from_the_one_it_was_made_for() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut bob = client(&hub, B);
    now(alice.create_room(&new_room())).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    let genuine = hub.take_last();
    let parsed = FanoutMessage::from_bytes(&genuine.1).unwrap();
    let MlsMessageBody::Welcome(welcome) = &parsed.message.body else {
        panic!("a Welcome comes last");
    };
    let reference = welcome.secrets[0].new_member.clone();
    let is_kept = |bob: &MimiClient| OwnKeyPackage::is_ours(bob.store.read(), &reference).unwrap();
    // Anybody can name the key package that saw it proposed, in any room.
    for into in [room(), uri(HALL)] {
        let mut forged = genuine.clone();
        forged.0 = into;
        hub.say(forged);
        hub.alter_last(|fanout| {
            let MlsMessageBody::Welcome(welcome) = &fanout.message.body else {
                panic!("it is a Welcome");
            };
            let mut welcome = Welcome::from_bytes(welcome.as_bytes()).unwrap();
            let mut sealed = welcome.secrets[0].encrypted_group_secrets.ciphertext.to_vec();
            sealed[0] ^= 1;
            welcome.secrets[0].encrypted_group_secrets.ciphertext = sealed.into();
            let body = MlsMessageBody::Welcome(Box::new(Kept::new(welcome)));
            fanout.message = Kept::new(MlsMessage { body });
        });
        sync(&mut bob);
        let told = notices(&mut bob);
        let malformed = |notice: &MimiNotice| matches!(notice, MimiNotice::Malformed { .. });
        assert_eq!(told.iter().filter(|notice| malformed(notice)).count(), 1, "{told:?}");
        assert!(is_kept(&bob));
    }
    hub.say(genuine.clone());
    sync(&mut bob);
    agree(&hub, &[&alice, &bob]);
    assert!(!is_kept(&bob), "it is used once");
}

#[test]
fn a_stamp_by_the_agent_of_another_provider_is_worth_nothing() {
    for (provider, is_genuine) in [("mimi://a.example", true), ("mimi://b.example", false)] {
        let hub = MimiHub::new();
        hub.agent_is_of(provider);
        let [mut alice, mut bob, _] = of_three(&hub);
        say(&mut bob, "stamped");
        sync(&mut alice);
        for client in [&alice, &bob] {
            let item = client.items(&room(), 1).unwrap().remove(0);
            let reason = "the franking agent is not the room's hub".to_owned();
            let expected = match is_genuine {
                true => Franking::Genuine,
                false => Franking::NotGenuine { reason },
            };
            assert_eq!(item.franking, expected, "{provider}");
        }
    }
}

#[test]
fn of_what_is_said_before_a_client_joins_a_thousand_items_are_kept_and_no_more() {
    let hub = MimiHub::new();
    let [mut alice, ..] = of_three(&hub);
    let mut dave = client(&hub, D);
    hub.drop_key_packages(D);
    now(alice.add(&room(), &[(uri(DAVE), MEMBER)])).unwrap();
    let heard = |connection: &rusqlite::Connection| -> Result<usize, StoreError> {
        let sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999) \
                   INSERT INTO mimi_timeline (room, hash, accepted, reason, franking, sent) \
                   SELECT ?1, CAST(n AS BLOB), n, '{\"kind\":\"no_user\"}', '{\"franking\":\"none\"}', 0 FROM numbers";
        Ok(connection.execute(sql, [ROOM])?)
    };
    assert_eq!(dave.store.transaction(heard).unwrap(), 999);
    for words in ["one", "two", "three"] {
        say(&mut alice, words);
    }
    sync(&mut dave);
    assert_eq!(dave.items(&room(), 2_000).unwrap().len(), 1_000);
    // What is said once he is there he hears all the same.
    now(dave.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    say(&mut alice, "four");
    sync(&mut dave);
    assert_eq!(read(&dave), ["four"]);
}

#[test]
fn an_item_says_from_which_leaf_of_which_group_it_came() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let id = say(&mut bob, "here");
    sync(&mut alice);
    let group = alice.group(&room()).unwrap().unwrap();
    let (leaf, _) = *group.members.iter().find(|(_, client)| *client == uri(B)).unwrap();
    let group_id = alice.room(&room()).unwrap().group_id.unwrap();
    for client in [&alice, &bob] {
        let place = client.item_of(&room(), &id).unwrap().unwrap().place;
        let group_id = group_id.clone();
        assert_eq!(place, Some(GroupPlace { group_id, leaf }), "{}", client.client());
    }
}

#[test]
fn no_client_sends_what_refers_to_no_part_or_answers_itself() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    // There is no part 7.
    let body = NestedPart::markdown("![fish](cid:7@local.invalid)");
    assert_eq!(body.wrong_references().len(), 1, "{body:?}");
    let refused = now(bob.say(&room(), body)).unwrap_err();
    assert!(matches!(refused, MimiError::WrongReference(_)), "{refused}");

    let first = say(&mut alice, "one");
    sync(&mut bob);
    let answer = now(bob.reply(&room(), &first, NestedPart::text("two"))).unwrap();
    sync(&mut alice);
    let mut edit = alice.compose(&room(), NestedPart::text("three")).unwrap();
    edit.replaces = Some(first);
    edit.in_reply_to = Some(answer);
    let refused = now(alice.send(&room(), &edit)).unwrap_err();
    assert!(matches!(refused, MimiError::ReplyLoop), "{refused}");
    // It may answer what does not lead there.
    let other = say(&mut alice, "four");
    edit.in_reply_to = Some(other);
    now(alice.send(&room(), &edit)).unwrap();
}

#[test]
fn every_client_has_the_moment_at_which_the_hub_accepted_a_message() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let id = say(&mut bob, "now");
    let accepted = hub.clock()();
    hub.advance(Duration::from_mins(3));
    for client in [&mut alice, &mut cathy, &mut bob] {
        sync(client);
        let item = client.item_of(&room(), &id).unwrap().unwrap();
        // Bob has it by the hub's answer, the others with the message.
        assert_eq!((item.accepted, item.franking), (accepted, Franking::Genuine));
    }
}
