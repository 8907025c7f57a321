use nabe_signing::base64u;
use nabe_types::ServerName;
use proptest::prelude::*;

use super::*;
use crate::attachment::{AcceptAll, FileSecret, Outgoing, seal};
use crate::error::Rule;
use crate::file::{ContentUrl, FileBlock, FileSource, PlainFile};
use crate::media::{ImageDetails, Thumbnail, VideoDetails};
use crate::media_type::MediaType;
use crate::show::{show, show_payload};
use crate::text::TextBody;

const EVENT: &str = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER: &str = "$BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

fn content(json: &str) -> Object {
    Object::parse(json.as_bytes()).unwrap()
}

fn parse(kind: &str, json: &str) -> Message {
    Message::parse(kind, &content(json)).unwrap()
}

fn plain(kind: &str, json: &str) -> String {
    parse(kind, json).to_plain()
}

/// The field and rule that `json` breaks, and what is shown nevertheless.
fn problem(kind: &str, json: &str) -> (String, String) {
    let shown = show(kind, &content(json));
    (shown.problem.expect("a problem").to_string(), shown.text)
}

fn event(id: &str) -> EventId {
    EventId::parse(id).unwrap()
}

fn says(text: &str) -> Body {
    Body::Text(Text::plain(text).unwrap())
}

#[test]
fn all_three_forms_of_text_are_read() {
    let newest = parse(
        "m.message",
        r#"{"m.text":[{"body":"i am a <b>fish</b>","mimetype":"text/html"},{"body":"i am a fish"}]}"#,
    );
    assert_eq!(
        newest,
        Message::Post(Post::new(Body::Text(
            Text::html("i am a <b>fish</b>", "i am a fish").unwrap()
        )))
    );
    assert_eq!(
        parse("m.message", r#"{"m.text":"i am a fish","m.html":"i am a <b>fish</b>"}"#),
        newest
    );
    let list = r#"{"m.message":[{"mimetype":"text/html","body":"i am a <b>fish</b>"},{"mimetype":"text/plain","body":"i am a fish"}]}"#;
    assert_eq!(parse("m.message", list), newest);
    assert_eq!(
        newest.to_content().to_string(),
        r#"{"m.text":[{"body":"i am a <b>fish</b>","mimetype":"text/html"},{"body":"i am a fish"}]}"#
    );
}

#[test]
fn html_is_reduced_where_there_is_no_plain_text() {
    assert_eq!(plain("m.message", r#"{"m.html":"<p>a</p><p>b</p>"}"#), "a\n\nb");
    assert_eq!(
        plain("m.message", r#"{"m.text":[{"mimetype":"text/markdown","body":"*a*"}]}"#),
        "*a*"
    );
    assert_eq!(
        plain("m.message", r#"{"m.text":[{"mimetype":"application/pdf","body":"x"}]}"#),
        "[text in a form that cannot be shown: application/pdf]"
    );
    assert_eq!(
        plain("m.message", r#"{"m.text":"a\u001b[2Jb\u202ec"}"#),
        "a\u{fffd}[2Jb\u{fffd}c"
    );
}

#[test]
fn a_file_has_url_name_media_type_and_size() {
    let json = r#"{"m.text":"Upload: foo.pdf","m.file":{"url":"mxc://example.org/abcd1234","name":"foo.pdf","mimetype":"application/pdf","size":12345},"m.caption":{"m.text":[{"body":"read\nthis"}]}}"#;
    let Message::Post(Post {
        body: Body::File(file), ..
    }) = parse("m.file", json)
    else {
        panic!("no file")
    };
    assert_eq!(file.block.source.url().to_string(), "mxc://example.org/abcd1234");
    assert_eq!(file.block.source.size(), Some(12_345));
    assert_eq!(file.text, Text::plain("Upload: foo.pdf").unwrap());
    assert_eq!(
        plain("m.file", json),
        "[file: foo.pdf, application/pdf, 12.3 kB]\nread\nthis"
    );
}

#[test]
fn a_file_without_text_gets_one() {
    let Message::Post(post) = parse("m.file", r#"{"m.file":{"url":"mxc://example.org/a","name":"a\nb]"}}"#) else {
        panic!("no post")
    };
    assert_eq!(
        post.body.file().unwrap().text.body_of("text/plain"),
        Some("[file: a b]]")
    );
}

#[test]
fn images_videos_and_sound_say_what_they_are() {
    let file = r#""m.file":{"url":"mxc://example.org/a"}"#;
    assert_eq!(
        plain(
            "m.image",
            &format!(r#"{{{file},"m.image_details":{{"width":640,"height":480}},"m.alt_text":{{"m.text":"a fish"}}}}"#)
        ),
        "[image: 640×480]\na fish"
    );
    assert_eq!(
        plain(
            "m.video",
            &format!(r#"{{{file},"m.video_details":{{"width":1,"height":2,"duration":3725.9}}}}"#)
        ),
        "[video: 1×2, 1:02:05]"
    );
    assert_eq!(
        plain("m.audio", &format!(r#"{{{file},"m.audio_details":{{"duration":90}}}}"#)),
        "[audio: 1:30]"
    );
    assert_eq!(
        plain("m.voice", &format!(r#"{{{file},"m.audio_details":{{"duration":5}}}}"#)),
        "[voice message: 0:05]"
    );
    assert_eq!(plain("m.voice", &format!("{{{file}}}")), "[voice message]");
}

#[test]
fn a_reply_names_the_event_it_answers() {
    let reply = Message::Post(Post::reply(event(EVENT), says("yes")));
    assert_eq!(reply.to_plain(), "[reply] yes");
    let relates_to = reply.to_content().get(RELATES_TO).unwrap().to_string();
    assert_eq!(relates_to, format!(r#"{{"m.in_reply_to":{{"event_id":"{EVENT}"}}}}"#));
}

#[test]
fn a_thread_tells_its_replies_from_its_fallbacks() {
    let thread = |rest: &str| {
        let json = format!(
            r#"{{"m.text":"x","m.relates_to":{{"rel_type":"m.thread","event_id":"{EVENT}","m.in_reply_to":{{"event_id":"{OTHER}"}}{rest}}}}}"#
        );
        parse("m.message", &json)
    };
    let expected = |reply_to, text: &str| {
        let root = event(EVENT);
        let message = Message::Post(Post {
            body: says("x"),
            relation: Some(Relation::Thread { root, reply_to }),
        });
        assert_eq!(message.to_plain(), text);
        message
    };
    assert_eq!(thread(""), expected(Some(event(OTHER)), "[reply] x"));
    assert_eq!(thread(r#","is_falling_back":true"#), expected(None, "[in thread] x"));
}

#[test]
fn an_edit_replaces_a_body_and_tells_old_clients() {
    let edit = Message::Edit(Edit {
        event: event(EVENT),
        body: says("i am a cat"),
    });
    assert_eq!(edit.to_plain(), "[edit] i am a cat");
    assert_eq!(
        edit.to_content().to_string(),
        format!(
            r#"{{"m.new_content":{{"m.text":[{{"body":"i am a cat"}}]}},"m.relates_to":{{"event_id":"{EVENT}","rel_type":"m.replace"}},"m.text":[{{"body":"* i am a cat"}}]}}"#
        )
    );
    assert_eq!(Message::parse("m.message", &edit.to_content()), Ok(edit));
}

#[test]
fn reactions_and_redactions_are_events() {
    let reaction = parse(
        "m.reaction",
        &format!(r#"{{"m.relates_to":{{"rel_type":"m.annotation","event_id":"{EVENT}","key":"👍\u202e"}}}}"#),
    );
    assert_eq!(reaction.to_plain(), "[reaction: 👍\u{fffd}]");
    assert_eq!(reaction.kind(), "m.reaction");
    let redaction = parse(
        "m.room.redaction",
        &format!(r#"{{"redacts":"{EVENT}","reason":"too\nloud"}}"#),
    );
    assert_eq!(redaction.to_plain(), "[deleted: too loud]");
    assert_eq!(
        plain("m.room.redaction", &format!(r#"{{"redacts":"{EVENT}"}}"#)),
        "[deleted]"
    );
}

#[test]
fn an_unknown_type_falls_back_to_its_text() {
    let poll = r#"{"m.text":"Lunch? 1. fish 2. chips","m.poll":{"answers":[1,2]}}"#;
    assert_eq!(plain("m.poll.start", poll), "Lunch? 1. fish 2. chips");
    assert_eq!(
        plain(
            "m.location",
            r#"{"m.location":{"uri":"geo:1,2"},"m.text":[{"body":"at the pond"}]}"#
        ),
        "at the pond"
    );
    assert_eq!(
        plain("m.sticker", r#"{"body":"a happy fish","url":"mxc://a.example/b"}"#),
        "a happy fish"
    );
    assert_eq!(plain("m.call.invite", "{}"), "[message of unknown type m.call.invite]");
    assert_eq!(
        plain("org.example\n\u{1b}", "{}"),
        "[message of unknown type org.example \u{fffd}]"
    );
}

#[test]
fn a_wrong_shape_names_field_and_rule_and_still_shows_text() {
    let nothing = "[message of type m.message that cannot be read]";
    for (json, expected, text) in [
        ("{}", "/m.text: missing", nothing),
        (
            r#"{"m.text":5}"#,
            "/m.text: neither a list of bodies nor a string",
            nothing,
        ),
        (r#"{"m.text":[]}"#, "/m.text: empty", nothing),
        (r#"{"m.text":[{"body":"a"},7]}"#, "/m.text/1: not an object", "a"),
        (
            r#"{"m.text":[{"mimetype":"text/plain"},{"body":"b"}]}"#,
            "/m.text/0/body: missing",
            "b",
        ),
        (
            r#"{"m.text":[{"body":"a","mimetype":"x"}],"body":"c"}"#,
            "/m.text/0/mimetype: not a media type",
            "c",
        ),
        (r#"{"m.text":"a","m.html":[]}"#, "/m.html: not a string", "a"),
        (r#"{"m.message":{}}"#, "/m.message: not an array", nothing),
        (
            r#"{"m.text":"a","m.relates_to":[]}"#,
            "/m.relates_to: not an object",
            "a",
        ),
        (
            r#"{"m.text":"a","m.relates_to":{"m.in_reply_to":{"event_id":"x"}}}"#,
            "/m.relates_to/m.in_reply_to/event_id: not an event ID",
            "a",
        ),
    ] {
        assert_eq!(
            problem("m.message", json),
            (expected.to_owned(), text.to_owned()),
            "{json}"
        );
    }
    let many = format!(r#"{{"m.text":[{}]}}"#, vec![r#"{"body":"a"}"#; 17].join(","));
    assert_eq!(
        problem("m.message", &many),
        ("/m.text: more than 16 entries".to_owned(), "a".to_owned())
    );
}

#[test]
fn wrong_shapes_of_the_other_kinds_name_field_and_rule() {
    let event = format!(r#""event_id":"{EVENT}""#);
    for (kind, json, expected) in [
        ("m.file", "{}".to_owned(), "/m.file: missing"),
        (
            "m.file",
            r#"{"m.file":{"name":"x"}}"#.to_owned(),
            "/m.file/url: missing",
        ),
        (
            "m.file",
            r#"{"m.file":{"url":"https://tracker.example/x"}}"#.to_owned(),
            "/m.file/url: not a content URL (mxc://server/media)",
        ),
        (
            "m.file",
            r#"{"m.file":{"url":"mxc://a.example/b","name":""}}"#.to_owned(),
            "/m.file/name: empty",
        ),
        (
            "m.file",
            r#"{"m.file":{"url":"mxc://a.example/b","size":-1}}"#.to_owned(),
            "/m.file/size: not a whole number from 0 to 9007199254740991",
        ),
        (
            "m.image",
            r#"{"m.file":{"url":"mxc://a.example/b"},"m.image_details":{"width":1}}"#.to_owned(),
            "/m.image_details/height: missing",
        ),
        (
            "m.image",
            r#"{"m.file":{"url":"mxc://a.example/b"},"m.thumbnail":[{"m.file":{"url":7}}]}"#.to_owned(),
            "/m.thumbnail/0/m.file/url: not a string",
        ),
        (
            "m.voice",
            r#"{"m.file":{"url":"mxc://a.example/b"},"m.audio_details":{"duration":-1}}"#.to_owned(),
            "/m.audio_details/duration: not a whole number from 0 to 4294967295",
        ),
        ("m.reaction", "{}".to_owned(), "/m.relates_to: missing"),
        (
            "m.reaction",
            format!(r#"{{"m.relates_to":{{"rel_type":"m.thread",{event},"key":"x"}}}}"#),
            "/m.relates_to/rel_type: not `m.annotation`",
        ),
        (
            "m.reaction",
            format!(
                r#"{{"m.relates_to":{{"rel_type":"m.annotation",{event},"key":"{}"}}}}"#,
                "x".repeat(1025)
            ),
            "/m.relates_to/key: longer than 1024 bytes",
        ),
        (
            "m.room.redaction",
            r#"{"redacts":"$short"}"#.to_owned(),
            "/redacts: not an event ID",
        ),
        (
            "m.message",
            format!(r#"{{"m.text":"a","m.relates_to":{{"rel_type":"m.replace",{event}}}}}"#),
            "/m.new_content: missing",
        ),
    ] {
        assert_eq!(problem(kind, &json).0, expected, "{json}");
    }
}

#[test]
fn a_payload_that_is_no_message_still_shows_something() {
    let shown = |payload: &[u8]| {
        let shown = show_payload(payload);
        (shown.problem.expect("a problem").to_string(), shown.text)
    };
    let unreadable = "[message that cannot be read]".to_owned();
    assert_eq!(
        shown(b"{"),
        ("invalid JSON at byte 1: ends too early".to_owned(), unreadable.clone())
    );
    assert_eq!(shown(b"[]").1, unreadable);
    assert_eq!(shown(b"{}"), ("/type: missing".to_owned(), unreadable));
    assert_eq!(
        shown(br#"{"type":"m.x"}"#),
        (
            "/content: missing".to_owned(),
            "[message of type m.x that cannot be read]".to_owned()
        )
    );
    assert_eq!(
        shown(br#"{"type":"m.file","content":{"m.text":"a file","m.file":[]}}"#),
        ("/content/m.file: not an object".to_owned(), "a file".to_owned())
    );
    let deep = format!(
        r#"{{"type":"m.x","content":{}{}}}"#,
        r#"{"a":"#.repeat(40),
        "1".to_owned() + &"}".repeat(40)
    );
    assert!(shown(deep.as_bytes()).0.contains("nested deeper than 32 levels"));
    assert!(
        shown(&vec![b' '; MAX_EVENT_BYTES + 1])
            .0
            .contains("longer than 65536 bytes")
    );
}

fn encrypted_block() -> Object {
    let secret = FileSecret::from_random([7; FileSecret::RANDOM_BYTES]);
    let (_, sealed) = seal(Outgoing::new(b"a fish".to_vec()), secret, &AcceptAll).unwrap();
    sealed
        .at(ContentUrl::parse("mxc://example.org/abcd1234").unwrap())
        .to_object()
}

#[test]
fn a_sealed_file_travels_with_what_opens_it() {
    let Message::Post(post) = Message::parse("m.file", &object! { "m.file" => encrypted_block() }).unwrap() else {
        panic!("no post")
    };
    let FileSource::Encrypted(file) = &post.body.file().unwrap().block.source else {
        panic!("not encrypted")
    };
    assert_eq!((file.size(), file.ciphertext_size()), (6, 22));
    assert_eq!(post.body.to_plain(), "[file: 6 bytes]");
}

#[test]
fn a_sealed_file_with_anything_missing_or_wrong_is_refused_and_never_taken_for_a_plain_one() {
    let with = |change: fn(&mut Object)| {
        let mut block = encrypted_block();
        change(&mut block);
        problem_of(block)
    };
    fn problem_of(block: Object) -> String {
        let error = Message::parse("m.file", &object! { "m.file" => block }).unwrap_err();
        error.to_string()
    }
    fn key(block: &mut Object) -> &mut Object {
        block.get_mut("key").and_then(Json::as_object_mut).unwrap()
    }
    let long = "A".repeat(100_000);
    for (found, expected) in [
        (with(|block| drop(block.remove("v"))), "/m.file/v: missing"),
        (with(|block| drop(block.insert("v", "v2"))), "/m.file/v: not `A256GCM`"),
        (with(|block| drop(block.remove("key"))), "/m.file/key: missing"),
        (with(|block| drop(block.remove("iv"))), "/m.file/iv: missing"),
        (with(|block| drop(block.remove("hashes"))), "/m.file/hashes: missing"),
        (
            with(|block| drop(block.insert("hashes", object! {}))),
            "/m.file/hashes/sha256: missing",
        ),
        (with(|block| drop(block.remove("size"))), "/m.file/size: missing"),
        (
            with(|block| drop(block.insert("size", 104_857_601))),
            "/m.file/size: not a whole number from 0 to 104857600",
        ),
        (
            with(|block| drop(block.insert("iv", "AAAA"))),
            "/m.file/iv: not base64 of 12 bytes",
        ),
        (
            with(|block| drop(key(block).insert("alg", "A256CTR"))),
            "/m.file/key/alg: not `A256GCM`",
        ),
        (
            with(|block| drop(key(block).insert("kty", "RSA"))),
            "/m.file/key/kty: not `oct`",
        ),
        (
            with(|block| drop(key(block).insert("k", base64u::encode(&[255; 32])))),
            "/m.file/key/k: not base64 of 32 bytes",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let mut block = encrypted_block();
    key(&mut block).insert("k", long);
    assert_eq!(problem_of(block), "/m.file/key/k: not base64 of 32 bytes");
}

#[test]
fn texts_and_labels_have_limits() {
    assert_eq!(Text::new(Vec::new()), Err(Rule::Empty));
    assert_eq!(
        Text::plain("x".repeat(TextBody::MAX_BYTES + 1)),
        Err(Rule::TooLong { max: 65_536 })
    );
    let body = TextBody::new(MediaType::text_plain(), "x").unwrap();
    assert_eq!(Text::new(vec![body; 17]), Err(Rule::TooMany { max: 16 }));
    assert_eq!(
        (Label::new(""), Label::new("x".repeat(1025))),
        (Err(Rule::Empty), Err(Rule::TooLong { max: 1024 }))
    );
}

#[test]
fn the_longest_texts_are_rendered_within_the_bound() {
    let longest = "\u{1}".repeat(TextBody::MAX_BYTES);
    let edit = Message::Edit(Edit {
        event: event(EVENT),
        body: says(&longest),
    });
    assert!(edit.to_plain().len() <= crate::MAX_RENDERED_BYTES);
    assert_eq!(Message::parse("m.message", &edit.to_content()), Ok(edit));
}

fn any_text() -> BoxedStrategy<Text> {
    let media_type = prop_oneof![
        Just(MediaType::text_plain()),
        Just(MediaType::text_html()),
        "[a-z]{1,9}/[a-zA-Z0-9.+-]{1,20}( ?; ?[a-z]=[a-zA-Z0-9 ]{1,5}[a-z])?"
            .prop_filter_map("a media type", |text| MediaType::parse(&text).ok()),
    ];
    prop::collection::vec((media_type, any::<String>()), 1..4)
        .prop_map(|bodies| {
            let bodies = bodies
                .into_iter()
                .map(|(media_type, body)| TextBody::new(media_type, body).unwrap());
            Text::new(bodies.collect()).unwrap()
        })
        .boxed()
}

fn any_label() -> BoxedStrategy<Label> {
    any::<String>()
        .prop_filter_map("a label", |text| Label::new(text).ok())
        .boxed()
}

fn any_event_id() -> BoxedStrategy<EventId> {
    any::<[u8; 32]>().prop_map(EventId::from_hash).boxed()
}

fn any_block() -> BoxedStrategy<FileBlock> {
    let url = "[a-zA-Z0-9_-]{1,40}"
        .prop_map(|media_id| ContentUrl::new(ServerName::parse("files.example.org:8448").unwrap(), &media_id).unwrap());
    let size = prop::option::of(0..=(1_u64 << 53) - 1);
    let plain = (url, size).prop_map(|(url, size)| FileSource::Plain(PlainFile { url, size }));
    let encrypted = any::<u8>().prop_map(|byte| {
        let secret = FileSecret::from_random([byte; FileSecret::RANDOM_BYTES]);
        let (_, sealed) = seal(Outgoing::new(vec![byte; byte.into()]), secret, &AcceptAll).unwrap();
        FileSource::Encrypted(sealed.at(ContentUrl::parse("mxc://example.org/x").unwrap()))
    });
    let media_type = prop::option::of(Just(MediaType::parse("audio/ogg; codecs=opus").unwrap()));
    (prop::option::of(any_label()), media_type, prop_oneof![plain, encrypted])
        .prop_map(|(name, media_type, source)| FileBlock {
            name,
            media_type,
            source,
        })
        .boxed()
}

fn any_file() -> BoxedStrategy<File> {
    (any_block(), any_text(), prop::option::of(any_text()))
        .prop_map(|(block, text, caption)| File { block, text, caption })
        .boxed()
}

fn any_thumbnails() -> BoxedStrategy<Vec<Thumbnail>> {
    let details =
        prop::option::of((any::<u32>(), any::<u32>()).prop_map(|(width, height)| ImageDetails { width, height }));
    prop::collection::vec(
        (any_block(), details).prop_map(|(block, details)| Thumbnail { block, details }),
        0..3,
    )
    .boxed()
}

fn any_body() -> BoxedStrategy<Body> {
    let dimensions = || prop::option::of((any::<u32>(), any::<u32>()));
    let seconds = || prop::option::of(any::<u32>());
    let audio = || (any_file(), seconds()).prop_map(|(file, seconds)| Audio { file, seconds });
    prop_oneof![
        any_text().prop_map(Body::Text),
        any_file().prop_map(Body::File),
        (any_file(), dimensions(), prop::option::of(any_text()), any_thumbnails()).prop_map(
            |(file, dimensions, alt_text, thumbnails)| {
                let details = dimensions.map(|(width, height)| ImageDetails { width, height });
                Body::Image(Image {
                    file,
                    details,
                    alt_text,
                    thumbnails,
                })
            }
        ),
        (any_file(), dimensions(), seconds(), any_thumbnails()).prop_map(|(file, dimensions, seconds, thumbnails)| {
            let details = dimensions.map(|(width, height)| VideoDetails { width, height, seconds });
            Body::Video(Video {
                file,
                details,
                thumbnails,
            })
        }),
        audio().prop_map(Body::Audio),
        audio().prop_map(Body::Voice),
    ]
    .boxed()
}

fn any_message() -> BoxedStrategy<Message> {
    let relation = prop_oneof![
        any_event_id().prop_map(Relation::Reply),
        (any_event_id(), prop::option::of(any_event_id()))
            .prop_map(|(root, reply_to)| Relation::Thread { root, reply_to }),
    ];
    prop_oneof![
        (any_body(), prop::option::of(relation)).prop_map(|(body, relation)| Message::Post(Post { body, relation })),
        (any_event_id(), any_body()).prop_map(|(event, body)| Message::Edit(Edit { event, body })),
        (any_event_id(), any_label()).prop_map(|(event, key)| Message::Reaction(Reaction { event, key })),
        (any_event_id(), prop::option::of(any_label()))
            .prop_map(|(event, reason)| Message::Redaction(Redaction { event, reason })),
        ("[a-z.]{1,12}", prop::option::of(any_text())).prop_map(|(kind, text)| {
            let kind = format!("org.example.{kind}");
            Message::Unknown(Unknown { kind, text })
        }),
    ]
    .boxed()
}

/// Objects that have our names in them, more often than not in the wrong place.
fn any_near_miss() -> BoxedStrategy<Json> {
    let word = prop::sample::select(vec![
        "m.text",
        "m.html",
        "m.message",
        "m.file",
        "m.image_details",
        "m.video_details",
        "m.audio_details",
        "m.caption",
        "m.alt_text",
        "m.thumbnail",
        "m.relates_to",
        "m.in_reply_to",
        "m.new_content",
        "rel_type",
        "m.replace",
        "m.thread",
        "m.annotation",
        "event_id",
        "key",
        "redacts",
        "reason",
        "body",
        "mimetype",
        "text/html",
        "url",
        "name",
        "size",
        "iv",
        "hashes",
        "sha256",
        "v",
        "A256GCM",
        "k",
        "alg",
        "kty",
        "oct",
        "width",
        "height",
        "duration",
        "is_falling_back",
        "mxc://example.org/a",
        EVENT,
        "<p>a<br>b</p>",
    ]);
    let leaf = prop_oneof![
        word.clone().prop_map(Json::from),
        any::<i32>().prop_map(|number| Json::from(i64::from(number))),
        any::<bool>().prop_map(Json::from),
        Just(Json::Null),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((word.clone(), inner), 0..8)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
    .boxed()
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same(message in any_message()) {
        let read = Message::parse(message.kind(), &message.to_content());
        prop_assert_eq!(read, Ok(message.clone()));
        crate::fuzzing::message(&message.to_payload());
    }

    #[test]
    fn any_bytes_have_a_text(data in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::message(&data);
    }

    #[test]
    fn any_object_has_a_text(
        kind in prop::sample::select(vec!["m.message", "m.file", "m.image", "m.video", "m.audio", "m.voice", "m.reaction", "m.room.redaction", "m.x"]),
        content in any_near_miss(),
    ) {
        crate::fuzzing::message(&object! { TYPE => kind, CONTENT => content }.to_canonical());
    }

    #[test]
    fn a_damaged_message_has_a_text(message in any_message(), at: prop::sample::Index, byte: u8) {
        let mut payload = message.to_payload();
        let at = at.index(payload.len());
        payload[at] = byte;
        crate::fuzzing::message(&payload);
        payload.truncate(at);
        crate::fuzzing::message(&payload);
    }
}
