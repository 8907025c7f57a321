use proptest::prelude::*;

use super::cbor::CborValue;
use super::*;

const SENDER: &str = "mimi://a.example/u/alice";
const ROOM: &str = "mimi://a.example/r/fish";

fn origin() -> Origin {
    Origin::new(SENDER, ROOM).unwrap()
}

fn salt() -> Salt {
    Salt::from_random([7; 16])
}

fn id(fill: u8) -> MessageId {
    let mut bytes = [fill; 32];
    bytes[0] = 1;
    MessageId::from_bytes(bytes).unwrap()
}

/// A message without extensions.
fn content(body: NestedPart) -> MimiContent {
    let mut content = MimiContent::new(salt(), &origin(), body);
    content.extensions = Extensions::new();
    content
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `content` is these bytes, these bytes are `content`, and no beginning of them is anything.
fn assert_wire(content: &MimiContent, hex: &str) {
    let bytes = unhex(hex);
    assert_eq!(content.encode().unwrap(), bytes);
    assert_eq!(MimiContent::decode(&bytes).as_ref(), Ok(content));
    for length in 0..bytes.len() {
        let error = MimiContent::decode(&bytes[..length]).unwrap_err();
        assert!(matches!(error.rule, Rule::Truncated { .. }), "{length}: {error}");
        assert!(error.offset <= length);
    }
}

/// Where and why a message is refused.
fn refusal(bytes: &[u8]) -> String {
    MimiContent::decode(bytes).unwrap_err().to_string()
}

#[test]
fn a_message_is_seven_fields() {
    let mut content = MimiContent::new(salt(), &origin(), NestedPart::text("fish"));
    content.replaces = Some(id(0xaa));
    content.topic_id = vec![1, 2];
    content.expires = Some(Expiration::Relative { seconds: 60 });
    content.in_reply_to = Some(id(0xbb));
    assert_wire(
        &content,
        concat!(
            "87",                                                                    // array(7)
            "50 07070707070707070707070707070707",                                   // salt
            "5820 01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", // replaces
            "42 0102",                                                               // topicId
            "82 f5 183c",                                                            // expires: relative, 60 s
            "5820 01bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", // inReplyTo
            "a2",                                                                    // mimiExtensions: map(2)
            "01 7818 6d696d693a2f2f612e6578616d706c652f752f616c696365",              // 1: sender
            "02 77 6d696d693a2f2f612e6578616d706c652f722f66697368",                  // 2: room
            "85 01 60 01",                                                           // single part to render
            "7818 746578742f706c61696e3b636861727365743d7574662d38",                 // text/plain;charset=utf-8
            "44 66697368",                                                           // fish
        ),
    );
}

#[test]
fn a_null_part_has_three_elements() {
    let mut content = content(NestedPart::null().with_disposition(Disposition::REACTION));
    content.expires = Some(Expiration::Absolute { seconds: 1 });
    assert_wire(
        &content,
        "87 50 07070707070707070707070707070707 f6 40 82 f4 01 f6 a0 83 02 60 00",
    );
}

#[test]
fn an_external_part_has_fifteen_elements() {
    let part = ExternalPart {
        content_type: "a/b".to_owned(),
        url: "u".to_owned(),
        expires: 1,
        size: 256,
        encryption: Encryption::new(1, vec![0x11; 16], vec![0x22; 12], vec![]).unwrap(),
        hash: ContentHash::sha256([0x33; 32]),
        description: "d".to_owned(),
        filename: "f".to_owned(),
    };
    let body = NestedPart::new(Part::External(Box::new(part)))
        .with_disposition(Disposition::ATTACHMENT)
        .with_language(Languages::new("en").unwrap());
    assert_wire(
        &content(body),
        concat!(
            "87 50 07070707070707070707070707070707 f6 40 f6 f6 a0",
            "8f 06 62656e 02",                     // array(15), attachment, en, external
            "63612f62",                            // contentType
            "6175",                                // url
            "01",                                  // expires
            "190100",                              // size
            "01",                                  // encAlg: AES-128-GCM
            "50 11111111111111111111111111111111", // key
            "4c 222222222222222222222222",         // nonce
            "40",                                  // aad
            "01",                                  // hashAlg: sha-256
            "5820 3333333333333333333333333333333333333333333333333333333333333333", // contentHash
            "6164",                                // description
            "6166",                                // filename
        ),
    );
}

#[test]
fn a_multi_part_has_semantics_and_parts() {
    for (semantics, byte) in [
        (PartSemantics::ChooseOne, "00"),
        (PartSemantics::SingleUnit, "01"),
        (PartSemantics::ProcessAll, "02"),
    ] {
        let parts = vec![NestedPart::null(), NestedPart::null()];
        assert_wire(
            &content(NestedPart::multi(semantics, parts)),
            &format!(
                "87 50 07070707070707070707070707070707 f6 40 f6 f6 a0 85 01 60 03 {byte} 82 83 01 60 00 83 01 60 00"
            ),
        );
    }
}

#[test]
fn a_nesting_bomb_goes_off_nowhere() {
    let start = content(NestedPart::null()).encode().unwrap();
    let start = &start[..start.len() - 4];
    let bomb = [start, &b"\x85\x01\x60\x03\x02\x82".repeat(100_000)].concat();
    assert_eq!(
        refusal(&bomb),
        format!(
            "nestedPart.parts[0].parts[0].parts[0].parts[0] at byte {}: more than 4 levels deep",
            start.len() + 24
        )
    );
    let mut part = NestedPart::null();
    for level in 2..=4 {
        part = NestedPart::multi(PartSemantics::ProcessAll, vec![part, NestedPart::null()]);
        assert!(content(part.clone()).encode().is_ok(), "{level} levels");
    }
    let five = NestedPart::multi(PartSemantics::ProcessAll, vec![part, NestedPart::null()]);
    let error = content(five).encode().unwrap_err();
    assert_eq!(error.rule, Rule::TooDeep { max: 4 });
    assert_eq!(error.field, "nestedPart.parts[0].parts[0].parts[0].parts[0]");
}

#[test]
fn a_message_has_at_most_1024_parts() {
    let parts = |count| NestedPart::multi(PartSemantics::ProcessAll, vec![NestedPart::null(); count]);
    let most = content(parts(1023));
    assert_eq!(most.body.parts().count(), 1024);
    assert_eq!(MimiContent::decode(&most.encode().unwrap()), Ok(most));
    let error = content(parts(1024)).encode().unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.rule),
        ("nestedPart.parts[1023]", Rule::TooManyParts { max: 1024 })
    );
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let mut long = content(NestedPart::text("x"));
    long.topic_id = vec![0; 4097];
    assert_eq!(
        long.encode().unwrap_err().to_string(),
        "topicId at byte 19: longer than 4096 bytes"
    );
    let one = NestedPart::multi(PartSemantics::ChooseOne, vec![NestedPart::null()]);
    assert_eq!(content(one).encode().unwrap_err().rule, Rule::TooFewParts);
    let large = content(NestedPart::single("a/b", vec![0; limits::MAX_BYTES]));
    assert_eq!(
        large.encode().unwrap_err().rule,
        Rule::TooLarge { max: limits::MAX_BYTES }
    );
    assert_eq!(
        refusal(&vec![0x87; limits::MAX_BYTES + 1]),
        "mimiContent at byte 0: larger than 1048576 bytes"
    );
}

#[test]
fn algorithms_and_what_they_need_belong_together() {
    let new = |algorithm, key, nonce, aad| Encryption::new(algorithm, vec![0; key], vec![0; nonce], vec![0; aad]);
    assert_eq!(new(0, 0, 0, 0), Ok(Encryption::NONE));
    for (key, nonce, aad) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        assert_eq!(new(0, key, nonce, aad), Err(Rule::WithoutAlgorithm));
    }
    assert!(new(1, 16, 12, 9).is_ok() && new(2, 32, 12, 0).is_ok() && new(29, 1, 2, 3).is_ok());
    assert_eq!(
        new(1, 32, 12, 0),
        Err(Rule::ByteLength {
            expected: 16,
            found: 32
        })
    );
    assert_eq!(
        new(2, 32, 16, 0),
        Err(Rule::ByteLength {
            expected: 12,
            found: 16
        })
    );
    assert_eq!(ContentHash::new(0, vec![]), Ok(ContentHash::NONE));
    assert_eq!(ContentHash::new(0, vec![1]), Err(Rule::WithoutAlgorithm));
    assert_eq!(
        ContentHash::new(1, vec![1]),
        Err(Rule::ByteLength { expected: 32, found: 1 })
    );
    assert!(ContentHash::new(8, vec![1; 64]).is_ok());
}

#[test]
fn extensions_are_kept_in_the_order_of_their_bytes() {
    let mut extensions = Extensions::new();
    let text = |name: &str| ExtensionKey::text(name).unwrap();
    let int = |number| ExtensionKey::int(number).unwrap();
    let keys = [
        text("aa"),
        int(-1),
        text("b"),
        int(256),
        int(-2),
        ExtensionKey::ROOM_URI,
        text(&"c".repeat(24)),
    ];
    for key in keys {
        assert_eq!(extensions.insert(key, CborValue::text("x")), Ok(None));
    }
    let order: Vec<_> = extensions.iter().map(|(key, _)| key.to_string()).collect();
    let long = format!("{:?}", "c".repeat(24));
    assert_eq!(order, ["2", "256", "-1", "-2", "\"b\"", "\"aa\"", long.as_str()]);
    let mut content = content(NestedPart::text("x"));
    content.extensions = extensions.clone();
    assert_eq!(MimiContent::decode(&content.encode().unwrap()), Ok(content));
    assert_eq!(
        extensions.insert(int(256), CborValue::unsigned(1)),
        Ok(Some(CborValue::text("x")))
    );
    assert_eq!(extensions.room_uri(), Some("x"));
    assert_eq!(extensions.sender_uri(), None);
    assert!(matches!(
        extensions.insert(ExtensionKey::SENDER_URI, CborValue::unsigned(1)),
        Err(Rule::WrongKind { .. })
    ));
}

#[test]
fn keys_of_extensions_have_bounds() {
    let most = (1 << 53) - 1;
    assert!(ExtensionKey::int(most).is_ok() && ExtensionKey::int(-most).is_ok());
    assert_eq!(ExtensionKey::int(most + 1), Err(Rule::KeyRange));
    assert_eq!(ExtensionKey::int(i64::MIN), Err(Rule::KeyRange));
    assert_eq!(ExtensionKey::text(""), Err(Rule::Empty));
    assert!(ExtensionKey::text("k".repeat(255)).is_ok());
    assert_eq!(ExtensionKey::text("k".repeat(256)), Err(Rule::TooLong { max: 255 }));
}

#[test]
fn the_id_is_of_the_bytes_as_received() {
    let bytes = content(NestedPart::text("x")).encode().unwrap();
    let received = Received::decode(bytes.clone(), origin()).unwrap();
    assert_eq!(received.bytes(), bytes);
    let id = received.id();
    assert_eq!(id, MessageId::compute(&origin(), &bytes, &salt()));
    assert_eq!(id.as_bytes()[0], MessageId::SHA_256);
    // Another sender, room, salt or byte makes another ID.
    let others = [
        MessageId::compute(&Origin::new("mimi://a.example/u/alicf", ROOM).unwrap(), &bytes, &salt()),
        MessageId::compute(
            &Origin::new(SENDER, "mimi://a.example/r/fisi").unwrap(),
            &bytes,
            &salt(),
        ),
        MessageId::compute(&origin(), &bytes, &Salt::from_random([8; 16])),
        MessageId::compute(&origin(), &bytes[1..], &salt()),
    ];
    assert!(others.iter().all(|other| *other != id));
}

#[test]
fn the_border_between_the_uris_is_hashed_since_revision_08() {
    let shifted = Origin::new(&format!("{SENDER}m"), &ROOM[1..]).unwrap();
    let compute = |formula, origin: &Origin| MessageId::compute_by(formula, origin, b"x", &salt());
    assert_eq!(
        compute(Formula::Draft07, &origin()),
        compute(Formula::Draft07, &shifted)
    );
    assert_ne!(
        compute(Formula::Draft08, &origin()),
        compute(Formula::Draft08, &shifted)
    );
    let former = compute(Formula::Draft07, &origin());
    assert_eq!(former.formula(&origin(), b"x", &salt()), Some(Formula::Draft07));
    assert_eq!(
        compute(Formula::Draft08, &origin()).formula(&origin(), b"x", &salt()),
        Some(Formula::Draft08)
    );
    assert_eq!(id(9).formula(&origin(), b"x", &salt()), None);
    assert_eq!(Formula::Draft07.to_string(), "draft-ietf-mimi-content-07");
}

#[test]
fn an_origin_has_uris_whose_lengths_fit_16_bits() {
    let long = "m".repeat(65_536);
    assert_eq!(Origin::new(&long, ROOM), Err(OriginError::Sender));
    assert_eq!(Origin::new(SENDER, ""), Err(OriginError::Room));
    assert!(Origin::new(&long[1..], &long[1..]).is_ok());
}

#[test]
fn an_id_names_a_hash_we_know() {
    let mut bytes = [7; 32];
    assert_eq!(MessageId::from_bytes(bytes), Err(Rule::UnknownHash(7)));
    bytes[0] = 1;
    assert!(MessageId::from_bytes(bytes).is_ok());
}

#[test]
fn several_reactions_are_several_parts() {
    let reaction = |words: &[&str]| MimiContent::reaction(salt(), &origin(), id(2), words);
    assert_eq!(reaction(&[]), None);
    let one = reaction(&["👍"]).unwrap();
    assert!(matches!(&one.body.part, Part::Single(single) if single.content == "👍".as_bytes()));
    assert_eq!(one.intent(), Intent::Reaction { to: id(2) });
    let three = reaction(&["❤", "🥳", "🤞"]).unwrap();
    let Part::Multi(multi) = &three.body.part else {
        panic!("one part")
    };
    assert_eq!((multi.semantics, multi.parts.len()), (PartSemantics::ProcessAll, 3));
    let all = three.body.parts();
    assert!(
        all.into_iter()
            .all(|(_, part)| part.disposition == Disposition::REACTION)
    );
    assert_eq!(three.intent(), Intent::Reaction { to: id(2) });
}

#[test]
fn what_a_message_does_follows_from_its_fields() {
    let message = |replaces, in_reply_to, body: NestedPart| {
        let mut content = content(body);
        content.replaces = replaces;
        content.in_reply_to = in_reply_to;
        content.intent()
    };
    let (of, to) = (id(2), id(3));
    let reaction = || NestedPart::text("👍").with_disposition(Disposition::REACTION);
    assert_eq!(message(None, None, NestedPart::text("x")), Intent::Post);
    assert_eq!(message(None, None, reaction()), Intent::Post, "to nothing");
    assert_eq!(message(None, Some(to), NestedPart::text("x")), Intent::Reply { to });
    assert_eq!(message(None, Some(to), reaction()), Intent::Reaction { to });
    assert_eq!(
        message(Some(of), Some(to), reaction()),
        Intent::Edit { of },
        "an adjusted reaction"
    );
    assert_eq!(message(Some(of), Some(to), NestedPart::null()), Intent::Delete { of });
    assert_eq!(message(None, Some(to), NestedPart::null()), Intent::Nothing);
}

#[test]
fn a_delete_keeps_what_an_edit_keeps() {
    let bob = Origin::new("mimi://b.example/u/bob", ROOM).unwrap();
    let mut original = MimiContent::reply(salt(), &origin(), id(3), NestedPart::text("x"));
    original.topic_id = vec![1];
    original.expires = Some(Expiration::Relative { seconds: 1 });
    let delete = MimiContent::delete(Salt::from_random([9; 16]), &bob, id(2), &original);
    assert_eq!(delete.intent(), Intent::Delete { of: id(2) });
    assert_eq!(
        (&delete.topic_id, delete.expires),
        (&original.topic_id, original.expires)
    );
    assert_eq!(delete.in_reply_to, original.in_reply_to);
    assert_eq!(
        delete.extensions.sender_uri(),
        Some(bob.sender()),
        "who deletes says so"
    );
    assert_ne!(delete.salt, original.salt);
}

#[test]
fn parts_are_counted_depth_first() {
    let pair = |a, b| NestedPart::multi(PartSemantics::ProcessAll, vec![a, b]);
    let leaf = |text| NestedPart::text(text);
    let body = pair(pair(leaf("2"), pair(leaf("4"), leaf("5"))), leaf("6"));
    let leaves: Vec<_> = body
        .parts()
        .filter_map(|(index, part)| match &part.part {
            Part::Single(single) => Some((index.0.to_string(), single.as_text().unwrap())),
            _ => None,
        })
        .collect();
    assert_eq!(leaves.len(), 4);
    assert!(leaves.iter().all(|(index, text)| index == text), "{leaves:?}");
    assert_eq!(body.part_at(PartIndex(7)), None);
    assert_eq!(body.part_at(PartIndex::BODY), Some(&body));
}

#[test]
fn a_content_id_names_a_part() {
    assert_eq!(PartIndex(5).to_content_id(), "cid:5@local.invalid");
    assert_eq!(content_id("cid:5@local.invalid"), Some(PartIndex(5)));
    assert_eq!(content_id("cid:0@local.invalid"), Some(PartIndex(0)));
    for uri in [
        "cid:@local.invalid",
        "cid:05@local.invalid",
        "cid:+5@local.invalid",
        "cid:-5@local.invalid",
        "cid:5@example.com",
        "cid:4294967296@local.invalid",
        "5@local.invalid",
    ] {
        assert_eq!(content_id(uri), None, "{uri}");
    }
}

#[test]
fn references_lead_to_single_or_external_parts_only() {
    let text = "cid:2@local.invalid cid:2@local.invalid cid:x@local.invalid cid:3@local.invalid cid:0@local.invalid cid:9@local.invalid";
    let link = NestedPart::new(Part::External(Box::new(ExternalPart::link("https://x", ""))));
    let body = NestedPart::multi(
        PartSemantics::ProcessAll,
        vec![NestedPart::html(text), NestedPart::text(text), link],
    );
    let html = body.part_at(PartIndex(1)).unwrap();
    assert_eq!(html.references(), [2, 3, 0, 9].map(PartIndex));
    let wrong = |to| WrongReference {
        from: PartIndex(1),
        to: PartIndex(to),
    };
    assert_eq!(
        body.wrong_references(),
        [wrong(0), wrong(9)],
        "text without markup has no references"
    );
}

#[test]
fn hostile_references_take_linear_time() {
    for unit in ["cid:", "cid:1", "cid:1@local.invali", "@local.invalid"] {
        let text = unit.repeat(1_000_000 / unit.len());
        assert_eq!(NestedPart::html(&text).references(), []);
    }
    let text: String = (0..40_000).map(|part| format!("cid:{part}@local.invalid")).collect();
    assert_eq!(NestedPart::html(&text).references().len(), 40_000);
    let text = format!("cid:{}@local.invalid cid:{}1@local.invalid", u32::MAX, u32::MAX);
    assert_eq!(NestedPart::html(&text).references(), [PartIndex(u32::MAX)]);
}

#[test]
fn unknown_dispositions_are_kept_and_rendered() {
    let content = content(NestedPart::text("x").with_disposition(Disposition(200)));
    let read = MimiContent::decode(&content.encode().unwrap()).unwrap();
    assert_eq!(read.body.disposition, Disposition(200));
    assert_eq!(read.body.disposition.effective(), Disposition::RENDER);
    assert_eq!(read.to_plain(), "x");
    assert_eq!(Disposition::REACTION.effective(), Disposition::REACTION);
    assert_eq!(Disposition::ICON.to_string(), "icon");
    assert_eq!(Disposition(200).to_string(), "200");
}

#[test]
fn languages_are_written_well_and_read_anyhow() {
    for list in ["", "en", "en-GB,fr", "x-klingon", "zh-Hant-TW"] {
        assert!(Languages::new(list).is_ok(), "{list}");
    }
    for list in [",", "en,", "en, fr", "en_GB", "toolongsubtag", "é", "1"] {
        assert_eq!(Languages::new(list), Err(Rule::NotLanguages), "{list}");
    }
    let mut bytes = content(NestedPart::null().with_language(Languages::new("en-fr").unwrap()))
        .encode()
        .unwrap();
    let at = bytes.len() - 4;
    bytes[at] = b','; // en,fr
    assert_eq!(
        MimiContent::decode(&bytes)
            .unwrap()
            .body
            .language
            .tags()
            .collect::<Vec<_>>(),
        ["en", "fr"]
    );
    bytes[at] = b'?';
    let read = MimiContent::decode(&bytes).unwrap();
    assert_eq!(
        (read.body.language.as_str(), read.body.language.tags().count()),
        ("en?fr", 0)
    );
    assert_eq!(read.encode().unwrap(), bytes);
}

#[test]
fn expiry_begins_at_reading_or_not_at_all() {
    use nabe_types::UnixMillis;
    let relative = Expiration::Relative { seconds: 2 };
    assert_eq!(relative.deadline(None), None);
    assert!(!relative.is_due(None, UnixMillis::MAX));
    assert!(!relative.is_due(Some(UnixMillis(1000)), UnixMillis(2999)));
    assert!(relative.is_due(Some(UnixMillis(1000)), UnixMillis(3000)));
    let absolute = Expiration::Absolute { seconds: u32::MAX };
    assert_eq!(absolute.deadline(None), Some(UnixMillis(4_294_967_295_000)));
    let mut link = ExternalPart::link("https://x", "");
    assert!(!link.is_expired(UnixMillis::MAX));
    link.expires = 10;
    assert!(!link.is_expired(UnixMillis(10_999)));
    assert!(link.is_expired(UnixMillis(11_000)));
}

#[test]
fn web_urls_can_be_fetched() {
    for (url, fetchable) in [
        ("https://x/y", true),
        ("HTTP://x", true),
        ("mxc://x/y", false),
        ("geo:1,2", false),
        ("javascript:x", false),
    ] {
        assert_eq!(ExternalPart::link(url, "").is_fetchable(), fetchable, "{url}");
    }
}

fn any_id() -> impl Strategy<Value = Option<MessageId>> {
    prop::option::of(any::<u8>().prop_map(id))
}

fn any_leaf() -> impl Strategy<Value = Part> {
    let external = (
        ("[a-z/;=]{0,12}", ".{0,12}", ".{0,12}", ".{0,12}"),
        (any::<u32>(), any::<u64>()),
        prop_oneof![
            Just(Encryption::NONE),
            any::<(u8, [u8; 3])>()
                .prop_map(|(key, aad)| { Encryption::new(1, vec![key; 16], vec![key; 12], aad.to_vec()).unwrap() }),
            (3_u16.., prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(algorithm, key)| Encryption::new(
                algorithm,
                key,
                vec![],
                vec![]
            )
            .unwrap()),
        ],
        prop_oneof![
            Just(ContentHash::NONE),
            any::<[u8; 32]>().prop_map(ContentHash::sha256),
            (2_u8.., prop::collection::vec(any::<u8>(), 0..9))
                .prop_map(|(algorithm, hash)| ContentHash::new(algorithm, hash).unwrap()),
        ],
    )
        .prop_map(
            |((content_type, url, description, filename), (expires, size), encryption, hash)| {
                Part::External(Box::new(ExternalPart {
                    content_type,
                    url,
                    expires,
                    size,
                    encryption,
                    hash,
                    description,
                    filename,
                }))
            },
        );
    let single = (".{0,12}", prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(content_type, content)| Part::Single(SinglePart { content_type, content }));
    prop_oneof![Just(Part::Null), single, external]
}

fn any_part() -> impl Strategy<Value = NestedPart> {
    let nested = |part| {
        (any::<u8>(), "([a-z]{2})?", part).prop_map(|(disposition, language, part)| NestedPart {
            disposition: Disposition(disposition),
            language: Languages::new(language).unwrap(),
            part,
        })
    };
    nested(any_leaf().boxed()).prop_recursive(3, 24, 4, move |inner| {
        let semantics = prop_oneof![
            Just(PartSemantics::ChooseOne),
            Just(PartSemantics::SingleUnit),
            Just(PartSemantics::ProcessAll)
        ];
        let multi = (semantics, prop::collection::vec(inner, 2..5))
            .prop_map(|(semantics, parts)| Part::Multi(MultiPart { semantics, parts }));
        nested(multi.boxed())
    })
}

fn any_extensions() -> impl Strategy<Value = Extensions> {
    let key = prop_oneof![
        any::<i64>().prop_map(|number| ExtensionKey::int((number >> 11) | 1).unwrap()),
        (1_i64..600).prop_map(|number| ExtensionKey::int(if number < 300 { -number } else { number - 299 }).unwrap()),
        ".{1,40}".prop_map(|name| ExtensionKey::text(name).unwrap()),
    ];
    let value = prop_oneof![
        any::<u64>().prop_map(CborValue::unsigned),
        ".{0,40}".prop_map(|text| CborValue::text(&text)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| CborValue::bytes(&bytes)),
    ];
    prop::collection::vec((key, value), 0..6).prop_map(|entries| {
        let mut extensions = Extensions::new();
        for (key, value) in entries {
            // Sender and room that are no text are refused, which is tested elsewhere.
            let _ = extensions.insert(key, value);
        }
        extensions
    })
}

fn any_content() -> impl Strategy<Value = MimiContent> {
    let expires = prop::option::of(prop_oneof![
        any::<u32>().prop_map(|seconds| Expiration::Relative { seconds }),
        any::<u32>().prop_map(|seconds| Expiration::Absolute { seconds }),
    ]);
    (
        any::<[u8; 16]>(),
        (any_id(), any_id()),
        prop::collection::vec(any::<u8>(), 0..300),
        expires,
        any_extensions(),
        any_part(),
    )
        .prop_map(
            |(salt, (replaces, in_reply_to), topic_id, expires, extensions, body)| MimiContent {
                salt: Salt::from_random(salt),
                replaces,
                topic_id,
                expires,
                in_reply_to,
                extensions,
                body,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_reads_as_the_same(content in any_content()) {
        let bytes = content.encode().unwrap();
        prop_assert_eq!(MimiContent::decode(&bytes), Ok(content));
    }

    #[test]
    fn a_changed_byte_breaks_a_rule_or_makes_another_message(content in any_content(), at in any::<prop::sample::Index>(), change in 1_u8..) {
        let bytes = content.encode().unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= change;
        if let Ok(read) = MimiContent::decode(&changed) {
            prop_assert_ne!(&read, &content);
            prop_assert_eq!(read.encode().unwrap(), changed);
        }
        crate::fuzzing::mimi_content(&bytes);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::mimi_content(&bytes);
        crate::fuzzing::mimi_status(&bytes);
    }

    #[test]
    fn the_parts_of_a_message_are_numbered_without_gaps(body in any_part()) {
        for (expected, (index, part)) in body.parts().enumerate() {
            prop_assert_eq!(index.0 as usize, expected);
            prop_assert_eq!(body.part_at(index), Some(part));
        }
    }
}
