//! Peers that say more than they should: of which group a room's is, what was said before, who said it, and how it is framed.

use nabe_content::mimi::cbor::CborValue;
use nabe_content::mimi::{ExtensionKey, Extensions, MimiContent, Origin, Received, Salt};

use super::*;
use crate::mimi::store::Outgoing;

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
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
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
