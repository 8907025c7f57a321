use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

fn rule<T: Debug>(parsed: Result<T, InvalidId>) -> IdRule {
    parsed.unwrap_err().rule
}

#[test]
fn server_names_that_parse() {
    let longest = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
    for (text, host, port) in [
        ("h", "h", None),
        ("example.org", "example.org", None),
        ("example.org:5678", "example.org", Some(5678)),
        ("localhost:1234", "localhost", Some(1234)),
        ("a-b.1.x9:65535", "a-b.1.x9", Some(65535)),
        ("3com.com:00080", "3com.com", Some(80)),
        ("1.2.3.4a", "1.2.3.4a", None),
        (longest.as_str(), longest.as_str(), None),
    ] {
        let name = ServerName::parse(text).unwrap();
        assert_eq!((name.as_str(), name.host(), name.port()), (text, host, port));
    }
}

#[test]
fn server_names_that_do_not_parse() {
    let long_label = "a".repeat(64);
    let long_host = format!("{0}.{0}.{0}.{0}.a", "a".repeat(63));
    for (text, expected) in [
        ("", IdRule::Empty),
        (":80", IdRule::Empty),
        ("1.2.3.4", IdRule::IpLiteral),
        ("1.2.3.4:80", IdRule::IpLiteral),
        ("example.7", IdRule::IpLiteral),
        ("12345", IdRule::IpLiteral),
        ("[::1]", IdRule::IpLiteral),
        ("[::1]:80", IdRule::IpLiteral),
        ("::1", IdRule::IpLiteral),
        ("[x", IdRule::IpLiteral),
        ("a..b", IdRule::HostLabel),
        (".a", IdRule::HostLabel),
        ("a.", IdRule::HostLabel),
        ("-a.b", IdRule::HostLabel),
        ("a-.b", IdRule::HostLabel),
        (&long_label, IdRule::HostLabel),
        (&long_host, IdRule::TooLong { limit: 255 }),
        ("a_b.c", IdRule::Character),
        ("a b", IdRule::Character),
        ("bücher.example", IdRule::Character),
        ("a/b", IdRule::Character),
        ("a:", IdRule::Port),
        ("a:0", IdRule::Port),
        ("a:65536", IdRule::Port),
        ("a:000080", IdRule::Port),
        ("a:+80", IdRule::Port),
        ("a:80:80", IdRule::IpLiteral),
    ] {
        assert_eq!(
            ServerName::parse(text).unwrap_err(),
            IdKind::ServerName.broke(expected),
            "{text:?}"
        );
    }
}

#[test]
fn server_names_differing_in_case_are_different_servers() {
    let [lower, upper] = ["example.org", "EXAMPLE.org"].map(|text| ServerName::parse(text).unwrap());
    assert_ne!(lower, upper);
    assert_eq!(BTreeMap::from([(lower, 1), (upper, 2)]).get("EXAMPLE.org"), Some(&2));
}

#[test]
fn user_ids_that_parse() {
    for (text, localpart, server) in [
        ("@a/b:p", "a/b", "p"),
        ("@alice:example.org", "alice", "example.org"),
        ("@a-.=_/+0:example.org:81", "a-.=_/+0", "example.org:81"),
    ] {
        let user = UserId::parse(text).unwrap();
        assert_eq!(
            (user.as_str(), user.localpart(), user.server_name().as_str()),
            (text, localpart, server)
        );
    }
    let longest = format!("@{}:p", "a".repeat(252));
    assert_eq!(UserId::parse(&longest).unwrap().as_str().len(), 255);
}

#[test]
fn user_ids_that_do_not_parse() {
    let too_long = format!("@{}:p", "a".repeat(253));
    for (text, expected) in [
        ("", IdRule::Empty),
        ("@Alice:p", IdRule::Character),
        ("@:p", IdRule::Empty),
        ("alice:p", IdRule::Sigil),
        ("@alice", IdRule::Colon),
        ("@alice:", IdRule::Empty),
        ("@al ice:p", IdRule::Character),
        ("@älice:p", IdRule::Character),
        ("@alice:1.2.3.4", IdRule::IpLiteral),
        (&too_long, IdRule::TooLong { limit: 255 }),
    ] {
        assert_eq!(
            UserId::parse(text).unwrap_err(),
            IdKind::UserId.broke(expected),
            "{text:?}"
        );
    }
}

#[test]
fn room_id_has_at_most_255_characters() {
    let of_length = |length: usize| format!("!{}:p", "a".repeat(length - 3));
    assert_eq!(RoomId::parse(&of_length(255)).unwrap().as_str().len(), 255);
    assert_eq!(
        RoomId::parse(&of_length(256)).unwrap_err(),
        IdKind::RoomId.broke(IdRule::TooLong { limit: 255 })
    );
    // The server's part counts, too.
    let long_server = format!("!a:{}", ["b".repeat(63).as_str(); 4].join("."));
    assert_eq!(long_server.len(), 258);
    assert_eq!(
        RoomId::parse(&long_server).unwrap_err(),
        IdKind::RoomId.broke(IdRule::TooLong { limit: 255 })
    );
}

#[test]
fn room_ids() {
    let room = RoomId::parse("!aB-.~_0:example.org:1").unwrap();
    assert_eq!(
        (room.localpart(), room.server_name().as_str()),
        ("aB-.~_0", "example.org:1")
    );
    for (text, expected) in [
        ("!:h", IdRule::Empty),
        ("!a", IdRule::Colon),
        ("#a:h", IdRule::Sigil),
        ("!a/b:h", IdRule::Character),
        ("!a:[::1]", IdRule::IpLiteral),
    ] {
        assert_eq!(rule(RoomId::parse(text)), expected, "{text}");
    }
}

#[test]
fn event_ids() {
    let text = "$WNaZo4xV5dI7zfbGiXzhcZohwzV93OZ6gpguPyjg14U";
    assert_eq!(EventId::parse(text).unwrap().as_str(), text);
    assert_eq!(rule(EventId::parse(&text[1..])), IdRule::Sigil);
    assert_eq!(rule(EventId::parse(&text[..43])), IdRule::Length);
    assert_eq!(rule(EventId::parse(&format!("{text}A"))), IdRule::Length);
    assert_eq!(rule(EventId::parse(&text.replace('o', "+"))), IdRule::Character);
    assert_eq!(rule(EventId::parse(&format!("{text}:example.org"))), IdRule::Length);
}

#[test]
fn event_id_of_a_hash_is_url_safe_base64() {
    assert_eq!(EventId::from_hash([0; 32]).as_str(), format!("${}", "A".repeat(43)));
    assert_eq!(EventId::from_hash([0xff; 32]).as_str(), format!("${}8", "_".repeat(42)));
    let counting = std::array::from_fn(|i| u8::try_from(i).unwrap());
    assert_eq!(
        EventId::from_hash(counting).as_str(),
        "$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    );
}

#[test]
fn device_ids() {
    assert_eq!(DeviceId::parse("ABC_1").unwrap().as_str(), "ABC_1");
    assert_eq!(rule(DeviceId::parse("")), IdRule::Empty);
    assert_eq!(rule(DeviceId::parse("a-b")), IdRule::Character);
    assert_eq!(rule(DeviceId::parse(&"a".repeat(256))), IdRule::TooLong { limit: 255 });
}

#[test]
fn key_ids_split_at_the_last_colon() {
    for (text, algorithm, version, is_ed25519) in [
        ("ed25519:1", "ed25519", "1", true),
        ("ed25519:a_Bc", "ed25519", "a_Bc", true),
        (
            "m.mls.v1.credential.ed25519:DEV",
            "m.mls.v1.credential.ed25519",
            "DEV",
            false,
        ),
        ("a:b:c", "a:b", "c", false),
    ] {
        let key = KeyId::parse(text).unwrap();
        assert_eq!(
            (key.algorithm(), key.version(), key.is_ed25519()),
            (algorithm, version, is_ed25519)
        );
    }
    for (text, expected) in [
        ("", IdRule::Empty),
        ("ed25519", IdRule::Colon),
        ("ed25519:", IdRule::Empty),
        (":1", IdRule::Empty),
        ("ed25519:a-b", IdRule::Character),
        ("ed 25519:a", IdRule::Character),
    ] {
        assert_eq!(rule(KeyId::parse(text)), expected, "{text:?}");
    }
    assert_eq!(KeyId::ed25519("x").unwrap().as_str(), "ed25519:x");
    assert_eq!(rule(KeyId::ed25519("x:y-")), IdRule::Character);
}

#[test]
fn room_version_i1_parses_despite_the_grammar() {
    let i1 = RoomVersionId::parse("I.1").unwrap();
    assert_ne!(i1, RoomVersionId::parse("i.1").unwrap());
    for text in [
        "1",
        "org.example.my-room-version",
        "org.matrix.i-d.ralston-mimi-linearized-matrix.02",
    ] {
        assert_eq!(RoomVersionId::parse(text).unwrap().as_str(), text);
    }
    assert!(RoomVersionId::parse(&"a".repeat(128)).is_ok());
    for (text, expected) in [
        ("", IdRule::Empty),
        ("I.", IdRule::Empty),
        ("I", IdRule::Character),
        ("I.I.1", IdRule::Character),
        ("A.1", IdRule::Character),
        ("a_b", IdRule::Character),
    ] {
        assert_eq!(rule(RoomVersionId::parse(text)), expected, "{text:?}");
    }
    assert_eq!(
        rule(RoomVersionId::parse(&"a".repeat(129))),
        IdRule::TooLong { limit: 128 }
    );
}

#[test]
fn transaction_ids_are_opaque_but_bounded() {
    assert_eq!(TransactionId::parse("a/b:ü?").unwrap().as_str(), "a/b:ü?");
    assert_eq!(rule(TransactionId::parse("")), IdRule::Empty);
    assert_eq!(rule(TransactionId::parse("a\nb")), IdRule::Character);
    assert_eq!(
        rule(TransactionId::parse(&"ü".repeat(128))),
        IdRule::TooLong { limit: 255 }
    );
}

#[test]
fn identifiers_travel_as_json_strings() {
    let user: UserId = serde_json::from_str(r#""@a\u002fb:p""#).unwrap();
    assert_eq!(user, "@a/b:p");
    assert_eq!(serde_json::to_string(&user).unwrap(), r#""@a/b:p""#);
    let error = serde_json::from_str::<UserId>(r#""@Alice:p""#).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("invalid user ID: a character is not allowed"),
        "{error}"
    );
    assert!(serde_json::from_str::<UserId>("7").is_err());
}

#[test]
fn errors_do_not_repeat_the_text() {
    let error = ServerName::parse(&"!".repeat(100_000)).unwrap_err();
    assert_eq!(error.to_string(), "invalid server name: longer than 255 bytes");
}

proptest! {
    #[test]
    fn parsing_what_was_displayed_gives_the_same(
        localpart in "[0-9a-z.=_/+-]{1,40}",
        opaque in "[0-9A-Za-z.~_-]{1,40}",
        host in "([a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?\\.){0,3}[a-zA-Z]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?",
        port in proptest::option::of(1_u16..),
        hash: [u8; 32],
    ) {
        let server_text = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let server = ServerName::parse(&server_text).unwrap();
        prop_assert_eq!((server.host(), server.port()), (host.as_str(), port));
        prop_assert_eq!(&ServerName::parse(&format!("{server}")).unwrap(), &server);

        let user = UserId::parse(&format!("@{localpart}:{server}")).unwrap();
        prop_assert_eq!((user.localpart(), user.server_name()), (localpart.as_str(), &server));
        prop_assert_eq!(&UserId::parse(&format!("{user}")).unwrap(), &user);

        let room = RoomId::parse(&format!("!{opaque}:{server}")).unwrap();
        prop_assert_eq!((room.localpart(), room.server_name()), (opaque.as_str(), &server));
        prop_assert_eq!(&RoomId::parse(&format!("{room}")).unwrap(), &room);

        let event = EventId::from_hash(hash);
        prop_assert_eq!(&EventId::parse(&format!("{event}")).unwrap(), &event);
    }

    #[test]
    fn any_text_is_kept_or_refused(text in "[!@$]?\\PC{0,60}") {
        macro_rules! check { ($($id:ident)*) => {$(
            if let Ok(id) = $id::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert!(text.len() <= 261);
            }
        )*}}
        check! { ServerName RoomId UserId EventId DeviceId KeyId RoomVersionId TransactionId }
    }

    #[test]
    fn fuzzing_invariants_hold_for_anything_like_an_identifier(
        text in "([@!$]?[a-z.-]{0,8}|ed25519|\\*\\.)?:?([a-zA-Z0-9-]{1,8}\\.){0,2}[a-zA-Z0-9-]{1,8}(:[0-9]{1,6})?",
        hash: [u8; 32],
    ) {
        crate::fuzzing::identifiers(text.as_bytes());
        crate::fuzzing::identifiers(&hash);
        crate::fuzzing::identifiers(EventId::from_hash(hash).as_str().as_bytes());
    }
}
