//! Rules 6, 7, 8 and 10.

use super::*;

#[test]
fn rule_6_who_is_not_joined_sends_nothing() {
    for user in [DAVE, IVY, KEN, EVE, LEO] {
        assert_eq!(
            Room::new().ask(&message(user)),
            Err(AuthRejection::SenderNotJoined),
            "{user}"
        );
        assert_eq!(
            Room::new().ask(&power(user, levels())),
            Err(AuthRejection::SenderNotJoined),
            "{user}"
        );
    }
}

#[test]
fn rule_7_event_type_needs_its_level() {
    let name = |sender: &str| state(sender, "m.room.name", "", object! {});
    assert_eq!(
        Room::new().ask(&name(MOD)),
        Err(AuthRejection::LevelTooLow),
        "60 stated, 50 held"
    );
    assert_eq!(Room::new().ask(&name(ALICE)), Ok(()));
    let topic = |sender: &str| state(sender, "m.room.topic", "", object! {});
    assert_eq!(
        Room::new().ask(&topic(BOB)),
        Err(AuthRejection::LevelTooLow),
        "state takes 50 unless stated"
    );
    assert_eq!(Room::new().ask(&topic(MOD)), Ok(()));
    let low = pdu(&event(BOB, "org.example.low", None, object! {}));
    assert_eq!(Room::new().ask(&low), Err(AuthRejection::LevelTooLow), "messages too");
    let muted = Room::new().power(levels_with("events_default", 1));
    assert_eq!(muted.ask(&message(BOB)), Err(AuthRejection::LevelTooLow));
}

#[test]
fn without_power_levels_the_creator_has_100_and_others_0() {
    let room = Room::created().member(ALICE, "join").member(BOB, "join");
    let topic = |sender: &str| state(sender, "m.room.topic", "", object! {});
    assert_eq!(room.ask(&topic(ALICE)), Ok(()));
    assert_eq!(room.ask(&topic(BOB)), Err(AuthRejection::LevelTooLow));
    assert_eq!(room.ask(&message(BOB)), Ok(()));
    assert_eq!(room.ask(&member(ALICE, BOB, "ban")), Ok(()));
    let levels = PowerLevels::of(&room.state);
    assert_eq!([ALICE, BOB].map(|user| levels.user_level(user)), [100, 0]);
    let actions = [Action::Ban, Action::Invite, Action::Kick, Action::Redact];
    assert_eq!(actions.map(|action| levels.action_level(action)), [50, 0, 50, 50]);
}

#[test]
fn with_power_levels_the_creator_has_what_they_say() {
    let room = Room::new().power(object! { "users" => object! { BOB => 100 } });
    assert_eq!(
        room.ask(&state(ALICE, "m.room.topic", "", object! {})),
        Err(AuthRejection::LevelTooLow)
    );
}

#[test]
fn levels_come_from_entry_then_default_then_constant() {
    let room = Room::new().power(object! {
        "users" => object! { BOB => -5 }, "users_default" => 7,
        "events" => object! { "t" => 3 }, "events_default" => 1, "state_default" => 2,
        "ban" => 10, "invite" => 11, "kick" => 12, "redact" => 13,
    });
    let stated = PowerLevels::of(&room.state);
    assert_eq!([BOB, ALICE].map(|user| stated.user_level(user)), [-5, 7]);
    assert_eq!(
        [("t", false), ("t", true), ("u", false), ("u", true)].map(|(t, s)| stated.event_level(t, s)),
        [3, 3, 1, 2]
    );
    let actions = [Action::Ban, Action::Invite, Action::Kick, Action::Redact];
    assert_eq!(actions.map(|action| stated.action_level(action)), [10, 11, 12, 13]);

    let room = Room::new().power(object! {});
    let unstated = PowerLevels::of(&room.state);
    assert_eq!([BOB, ALICE].map(|user| unstated.user_level(user)), [0, 0]);
    assert_eq!(
        [false, true].map(|is_state| unstated.event_level("u", is_state)),
        [0, 50]
    );
}

#[test]
fn rule_8_state_key_that_is_a_user_must_be_the_sender() {
    let custom = |key: &str| state(ALICE, "org.example.custom", key, object! {});
    assert_eq!(Room::new().ask(&custom(BOB)), Err(AuthRejection::StateKeyOfAnotherUser));
    assert_eq!(
        Room::new().ask(&custom("@")),
        Err(AuthRejection::StateKeyOfAnotherUser),
        "anything that begins so"
    );
    assert_eq!(Room::new().ask(&custom(ALICE)), Ok(()));
    assert_eq!(Room::new().ask(&custom("x@")), Ok(()));
}

#[test]
fn rule_10_all_else_is_allowed() {
    assert_eq!(Room::new().ask(&message(BOB)), Ok(()));
    assert_eq!(
        Room::new().ask(&state(MOD, "org.example.custom", "", object! {})),
        Ok(())
    );
    assert_eq!(
        Room::new().ask(&state(MOD, "m.room.hub", "", object! {})),
        Ok(()),
        "no meaning in this version"
    );
}
