//! Application messages, of which the hub sees the frame.

use nabe_wire::mls::ContentType;

use super::*;

const TAG: [u8; 32] = [0x5a; 32];

#[test]
fn a_message_of_the_current_epoch_is_taken_with_its_franking_tag() {
    let mut room = Room::of_three();
    let message = room.member("cathy").encrypt(b"hello", Some(&TAG));
    let checked = room.group.check_message(&message).unwrap();
    assert_eq!(checked.franking_tag, Some(TAG));
    assert_eq!(checked.epoch, room.group.epoch());
    assert_eq!(room.member("bob").decrypt(&message).as_deref(), Some(&b"hello"[..]));
    let plain = room.member("cathy").encrypt(b"hello", None);
    assert_eq!(room.group.check_message(&plain).unwrap().franking_tag, None);
}

#[test]
fn a_franking_tag_has_32_bytes() {
    let mut room = Room::of_three();
    for tag in [&TAG[..31], &[&TAG[..], &[0]].concat()] {
        let message = room.member("cathy").encrypt(b"hello", Some(tag));
        assert!(matches!(
            room.group.check_message(&message),
            Err(MessageRefusal::FrankingTag(_))
        ));
    }
}

#[test]
fn the_authenticated_data_is_a_safe_aad_and_nothing_else() {
    let mut room = Room::of_three();
    let honest = room.member("cathy").encrypt(b"hello", None);
    let with = |aad: &[u8]| {
        let message = nabe_wire::mls::PrivateMessage {
            authenticated_data: aad.into(),
            ..honest.clone()
        };
        room.group.check_message(&message)
    };
    assert!(with(&safe_aad(&[(ComponentId::FRANK_AAD, &TAG)])).is_ok());
    assert!(with(&safe_aad(&[])).is_ok());
    let whole = safe_aad(&[(ComponentId::FRANK_AAD, &TAG), (ComponentId(0x8001), b"x")]);
    let cut = (0..whole.len()).map(|length| &whole[..length]);
    for aad in [&b"\0tail"[..], b"hello"].into_iter().chain(cut) {
        assert!(matches!(with(aad), Err(MessageRefusal::SafeAad(_))), "{aad:?}");
    }
}

#[test]
fn an_epoch_that_is_over_or_has_not_begun_is_refused() {
    let mut room = Room::of_three();
    let message = room.member("cathy").encrypt(b"hello", None);
    let epoch = message.epoch;
    let bundle = room.member("alice").update();
    room.accept("alice", &bundle);
    let current = epoch + 1;
    assert_eq!(
        room.group.check_message(&message),
        Err(MessageRefusal::EpochTooOld { epoch, current })
    );
    let future = nabe_wire::mls::PrivateMessage {
        epoch: current + 1,
        ..message
    };
    assert_eq!(
        room.group.check_message(&future),
        Err(MessageRefusal::FutureEpoch {
            epoch: current + 1,
            current
        })
    );
}

#[test]
fn a_policy_may_tolerate_late_messages() {
    let mut room = Room::of_three();
    let message = room.member("cathy").encrypt(b"hello", None);
    let policy = set_component(ComponentId::MLS_OPERATIONAL_POLICY, operational_policy(2));
    for round in 1..=3 {
        let updates = if round == 1 { vec![policy.clone()] } else { Vec::new() };
        let bundle = room.member("alice").commit(Change {
            updates,
            ..Change::default()
        });
        room.accept("alice", &bundle);
        assert_eq!(room.group.epoch_tolerance(), 2);
        assert_eq!(
            room.group.check_message(&message).is_ok(),
            round <= 2,
            "{round} epochs late"
        );
    }
}

#[test]
fn another_group_s_message_and_a_private_handshake_are_refused() {
    let mut room = Room::of_three();
    let honest = room.member("cathy").encrypt(b"hello", None);
    let other = nabe_wire::mls::PrivateMessage {
        group_id: b"other".as_slice().into(),
        ..honest.clone()
    };
    assert_eq!(room.group.check_message(&other), Err(MessageRefusal::WrongGroup));
    let handshake = nabe_wire::mls::PrivateMessage {
        content_type: ContentType::COMMIT,
        ..honest
    };
    assert_eq!(
        room.group.check_message(&handshake),
        Err(MessageRefusal::NotApplication)
    );
}
