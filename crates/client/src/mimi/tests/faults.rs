//! Peers that say more than they should: of which group a room's is, what was said before, who said it, and how it is framed.

use nabe_content::mimi::cbor::CborValue;
use nabe_content::mimi::{Expiration, ExtensionKey, Extensions, MessageId, MimiContent, Origin, Received, Salt};

use super::*;
use crate::error::StoreError;
use crate::mimi::store::Outgoing;
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
    // Whoever reads that stumbles over it.
    let spoil = |connection: &rusqlite::Connection| -> Result<usize, StoreError> {
        let sql = "UPDATE mimi_timeline SET content = x'00' WHERE message_id = ?1";
        Ok(connection.execute(sql, [&other.as_bytes()[..]])?)
    };
    assert_eq!(bob.store.transaction(spoil).unwrap(), 1);
    bob.timeline(&room()).unwrap_err();
    answers_and_forgets(&hub, &mut bob, ids);
}

#[test]
fn a_file_of_an_earlier_version_is_brought_up_to_this_one() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let ids = edited_and_fleeting(&hub, &mut alice);
    sync(&mut bob);
    let mut store = bob.into_store();
    let age = |connection: &rusqlite::Connection| -> Result<(), StoreError> {
        connection.execute_batch(
            "DROP TABLE mimi_framing; DROP INDEX mimi_timeline_by_former; DROP INDEX mimi_timeline_by_replaces; \
             DROP INDEX mimi_timeline_by_due; DROP INDEX mimi_timeline_moderates; CREATE TABLE mimi_expiry (room TEXT PRIMARY KEY, due INTEGER NOT NULL);",
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
