//! What holds for any event in any room.

use proptest::prelude::*;

use super::*;
use crate::fuzzing;

const USERS: [&str; 9] = [ALICE, ANNE, MOD, BOB, DAVE, EVE, IVY, KEN, LEO];

fn user() -> impl Strategy<Value = &'static str> {
    prop::sample::select(USERS.to_vec())
}

fn level() -> impl Strategy<Value = i64> {
    prop_oneof![
        -10_i64..=110,
        prop::sample::select(vec![0, 10, 40, 50, 51, 60, 70, 100])
    ]
}

fn power_content() -> impl Strategy<Value = Object> {
    let users = prop::collection::btree_map(user(), level(), 0..5);
    let types = prop::sample::select(vec![
        "m.room.name",
        "m.room.message",
        "m.room.power_levels",
        "org.example.low",
    ]);
    let events = prop::collection::btree_map(types, level(), 0..3);
    let fields = prop::sample::select(vec![
        "users_default",
        "events_default",
        "state_default",
        "ban",
        "redact",
        "kick",
        "invite",
    ]);
    let scalars = prop::collection::btree_map(fields, level(), 0..5);
    (users, events, scalars).prop_map(|(users, events, scalars)| {
        let mut content: Object = scalars.into_iter().collect();
        content.insert("users", users.into_iter().collect::<Object>());
        content.insert("events", events.into_iter().collect::<Object>());
        content
    })
}

/// Any JSON where content of a certain shape is expected.
fn garbage() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        ".{0,6}".prop_map(Json::from),
        prop::sample::select(vec!["join", "ban", "public", "@alice:hub"]).prop_map(Json::from),
    ];
    let keys = prop_oneof![
        prop::sample::select(vec![
            "membership",
            "join_rule",
            "users",
            "events",
            "ban",
            "kick",
            "users_default",
            "room_version",
            "@alice:hub",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(3, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
            prop::collection::vec((keys.clone(), inner), 0..5)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

fn garbage_content() -> impl Strategy<Value = Object> {
    garbage().prop_map(|json| json.into_object().unwrap_or_default())
}

fn event_type() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "m.room.create",
        "m.room.member",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.name",
        "m.room.message",
    ])
}

/// An event of any kind by anyone, its content of the right shape.
fn any_event() -> impl Strategy<Value = Pdu> {
    let membership = prop::sample::select(vec!["join", "invite", "leave", "ban", "knock"]);
    prop_oneof![
        (user(), user(), membership).prop_map(|(sender, target, membership)| member(sender, target, membership)),
        (user(), power_content()).prop_map(|(sender, content)| power(sender, content)),
        user().prop_map(message),
        user().prop_map(|sender| state(sender, "m.room.name", "", object! {})),
    ]
}

fn room() -> impl Strategy<Value = Room> {
    let rule = prop::sample::select(vec!["public", "invite", "knock"]);
    (rule, power_content()).prop_map(|(rule, content)| Room::new().join_rule(rule).power(content))
}

/// `room` with the power level of one user set.
fn with_level(room: &Room, user: &str, level: i64) -> Room {
    let mut content = room.current("m.room.power_levels", "").content().clone();
    let mut users = content.remove("users").and_then(Json::into_object).unwrap_or_default();
    users.insert(user, level);
    content.insert("users", users);
    room.clone().power(content)
}

proptest! {
    #[test]
    fn no_content_makes_the_rules_panic(
        event_type in event_type(),
        sender in user(),
        state_key in proptest::option::of(prop_oneof![user().prop_map(str::to_owned), ".{0,4}"]),
        content in garbage_content(),
        current in prop::collection::vec((event_type(), user(), garbage_content()), 0..6),
    ) {
        let event = pdu(&event(sender, event_type, state_key.as_deref(), content));
        for mut room in [Room::new(), Room::empty()] {
            for (event_type, user, content) in current.clone() {
                let key = if event_type == "m.room.member" { user } else { "" };
                room = room.set(&state(ALICE, event_type, key, content));
            }
            let selected = select_auth_events(&event, &room.state);
            prop_assert!(selected.len() <= 5);
            if let Err(rejection) = room.ask(&event) {
                prop_assert!(AuthRejection::ALL.contains(&rejection));
            }
        }
    }

    #[test]
    fn sender_with_less_power_may_not_do_more(room in room(), event in any_event(), a in level(), b in level()) {
        let sender = event.sender().as_str();
        let weaker = with_level(&room, sender, a.min(b));
        let stronger = with_level(&room, sender, a.max(b));
        if weaker.ask(&event).is_ok() {
            prop_assert_eq!(stronger.ask(&event), Ok(()));
        }
    }

    #[test]
    fn power_levels_grant_nothing_above_the_senders_own(room in room(), sender in user(), content in power_content()) {
        let event = power(sender, content);
        if room.ask(&event).is_ok() {
            let after = room.clone().set(&event);
            let (before, now) = (PowerLevels::of(&room.state), PowerLevels::of(&after.state));
            let own = before.user_level(sender);
            for user in USERS {
                let stated = event.content().get("users").and_then(Json::as_object).is_some_and(|users| users.contains_key(user));
                prop_assert!(!stated || now.user_level(user) <= own.max(before.user_level(user)));
            }
        }
    }

    #[test]
    fn unstable_version_allows_no_more_than_the_draft(room in room(), event in any_event()) {
        let unstable = Room { rules: &RoomVersionRules::UNSTABLE_02, ..room.clone() };
        if unstable.ask(&event).is_ok() {
            prop_assert_eq!(room.ask(&event), Ok(()));
        }
    }

    #[test]
    fn selected_auth_events_pass_rule_4(room in room(), event in any_event()) {
        let selected = auth_types(&event).into_iter().filter_map(|(event_type, key)| room.state.get(event_type, key)).map(Some);
        prop_assert_eq!(room.ask_with(&event, &Rule4Input::Resolved(selected.collect())), room.ask(&event));
    }

    #[test]
    fn who_is_not_joined_only_joins_leaves_or_knocks(room in room(), event in any_event()) {
        let sender = event.sender().as_str();
        if room.ask(&event).is_ok() && membership_of(&room.state, sender) != Membership::Join {
            prop_assert!(event.is_state_of("m.room.member", sender));
        }
    }

    #[test]
    fn fuzzing_invariants_hold_over_histories(steps in prop::collection::vec(any::<[u8; 4]>(), 0..60)) {
        fuzzing::authorize(&steps.concat());
    }

    #[test]
    fn fuzzing_invariants_hold_for_listed_events(events in prop::collection::vec((event_type(), user(), garbage_content()), 0..8)) {
        let events = events.into_iter().map(|(event_type, user, content)| {
            Json::from(event(user, event_type, Some(if event_type == "m.room.member" { user } else { "" }), content))
        });
        let listed = std::iter::once(Json::from(create_event())).chain(events);
        fuzzing::authorize(&Json::Array(listed.collect()).to_canonical());
    }
}
