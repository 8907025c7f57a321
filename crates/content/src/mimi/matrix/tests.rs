use nabe_signing::{Json, object};

use super::to_matrix::written;
use super::{external as as_part, *};
use crate::attachment::{AcceptAll, FileSecret, Outgoing, seal};
use crate::file::{File, FileBlock, FileSource, PlainFile};
use crate::label::Label;
use crate::media::{Audio, Image, ImageDetails, Thumbnail, Video, VideoDetails};
use crate::media_type::MediaType;
use crate::message::{Body, Edit, MAX_CONTENT_BYTES, Message, Post, Reaction, Redaction};
use crate::mimi::content::MimiContent;
use crate::mimi::extensions::ExtensionKey;
use crate::mimi::external::{self, Secret};
use crate::mimi::id::{Origin, Salt};
use crate::mimi::part::PartSemantics;
use crate::mimi::status::{MessageStatus, StatusReport};
use crate::mimi::{Expiration, Languages, TEXT_HTML};
use crate::relation::Relation;

const ALICE: &str = "mimi://a.example/u/alice";
const ROOM: &str = "mimi://a.example/r/fish";
const WEB: &str = "https://files.example/abcd1234";
const MXC: &str = "mxc://files.example/abcd1234";

fn origin() -> Origin {
    Origin::new(ALICE, ROOM).unwrap()
}

fn salt() -> Salt {
    Salt::from_random([7; 16])
}

fn message_id(fill: u8) -> MessageId {
    let mut bytes = [fill; 32];
    bytes[0] = 1;
    MessageId::from_bytes(bytes).unwrap()
}

fn event_id(fill: u8) -> EventId {
    EventId::from_hash([fill; 32])
}

/// Messages 1 and 2 are events 1 and 2, and a file is at two URLs.
fn ids() -> IdMap {
    let mut ids = IdMap::new();
    for fill in [1, 2] {
        ids.link(message_id(fill), event_id(fill));
    }
    ids.link_url(WEB, ContentUrl::parse(MXC).unwrap());
    ids
}

fn says(body: NestedPart) -> MimiContent {
    MimiContent::new(salt(), &origin(), body)
}

fn out(message: &MimiContent) -> Conversion<Vec<Event>> {
    to_matrix(message, &ids())
}

fn back(event: &Event) -> Conversion<MimiContent> {
    from_matrix(&event.kind, &event.content, salt(), &origin(), &ids()).unwrap()
}

fn from(message: &Message) -> Conversion<MimiContent> {
    back(&written(message))
}

/// Survives to Matrix and back, with these losses on the way there.
fn assert_survives(message: &MimiContent, kind: &str, lost: &[Lost]) {
    let converted = out(message);
    assert_eq!(converted.lost, lost, "{kind}, to Matrix");
    let [event] = &converted.value[..] else {
        panic!("{kind}: {} events", converted.value.len())
    };
    assert_eq!(event.kind, kind);
    let returned = back(event);
    assert_eq!(&returned.value, message, "{kind}, there and back");
}

/// Survives to MIMI and back, with these losses on the way there.
fn assert_returns(message: &Message, lost: &[Lost]) {
    let converted = from(message);
    assert_eq!(converted.lost, lost, "{}, to MIMI", message.kind());
    let returned = out(&converted.value);
    assert_eq!(returned.value, [written(message)], "{}, there and back", message.kind());
}

/// What is left of an event whose losses are known.
fn assert_becomes(message: &Message, lost: &[Lost], left: &Message) {
    let converted = from(message);
    assert_eq!(converted.lost, lost, "{}, to MIMI", message.kind());
    assert_eq!(out(&converted.value).value, [written(left)]);
}

fn post(body: Body) -> Message {
    Message::Post(Post::new(body))
}

fn file() -> File {
    let mut file = File::new(FileBlock {
        name: Some(Label::new("fish.png").unwrap()),
        media_type: Some(MediaType::parse("image/png").unwrap()),
        source: FileSource::Plain(PlainFile {
            url: ContentUrl::parse(MXC).unwrap(),
            size: Some(6),
        }),
    });
    file.caption = Some(Text::plain("a fish").unwrap());
    file
}

fn file_of(media_type: &str) -> File {
    let mut file = file();
    file.block.media_type = Some(MediaType::parse(media_type).unwrap());
    // The text for others names the type.
    File {
        caption: file.caption,
        ..File::new(file.block)
    }
}

fn image(file: File) -> Image {
    Image {
        file,
        details: None,
        alt_text: None,
        thumbnails: Vec::new(),
    }
}

fn linked(content_type: &str, disposition: Disposition) -> NestedPart {
    let mut part = ExternalPart::link(WEB, "a fish");
    content_type.clone_into(&mut part.content_type);
    part.size = 6;
    part.filename = "fish".to_owned();
    as_part(part, disposition)
}

#[test]
fn text_markdown_and_html_survive_both_ways() {
    assert_survives(&says(NestedPart::text("a\nfish")), "m.message", &[]);
    assert_survives(&says(NestedPart::markdown("a __fish__")), "m.message", &[]);
    assert_survives(&says(NestedPart::html("<p>a <b>fish</b></p>")), "m.message", &[]);
    assert_returns(&post(Body::Text(Text::plain("a fish").unwrap())), &[]);
    assert_returns(&post(Body::Text(Text::html("<b>a fish</b>", "a fish").unwrap())), &[]);
    assert_returns(
        &post(Body::Text(Text::html("<b>a fish</b>", "in other words").unwrap())),
        &[],
    );
    // Who has no Markdown sees the text.
    let event = &out(&says(NestedPart::markdown("a __fish__"))).value[0];
    assert_eq!(
        Message::parse(&event.kind, &event.content).unwrap().to_plain(),
        "a __fish__"
    );
}

#[test]
fn alternatives_survive_without_their_languages() {
    let alternatives = |language: &str| {
        let html = NestedPart::html("<b>fish</b>").with_language(Languages::new(language).unwrap());
        NestedPart::multi(PartSemantics::ChooseOne, vec![html, NestedPart::text("in other words")])
    };
    assert_survives(&says(alternatives("")), "m.message", &[]);
    let converted = out(&says(alternatives("en")));
    assert_eq!(converted.lost, [Lost::Language]);
    assert_eq!(back(&converted.value[0]).value, says(alternatives("")));
}

#[test]
fn replies_and_threads_survive_both_ways() {
    let mut message = says(NestedPart::text("yes"));
    message.in_reply_to = Some(message_id(1));
    assert_survives(&message, "m.message", &[]);
    message.topic_id = message_id(2).as_bytes().to_vec();
    assert_survives(&message, "m.message", &[]);
    message.in_reply_to = None;
    assert_survives(&message, "m.message", &[]);
    let body = || Body::Text(Text::plain("yes").unwrap());
    assert_returns(&Message::Post(Post::reply(event_id(1), body())), &[]);
    let relation = Some(Relation::Thread {
        root: event_id(2),
        reply_to: Some(event_id(1)),
    });
    assert_returns(&Message::Post(Post { body: body(), relation }), &[]);
}

#[test]
fn a_reply_to_nothing_known_stays_a_message() {
    let mut message = says(NestedPart::text("yes"));
    message.in_reply_to = Some(message_id(9));
    message.topic_id = b"Foo 118".to_vec();
    let converted = out(&message);
    assert_eq!(converted.lost, [Lost::Reference, Lost::Topic]);
    assert_eq!(back(&converted.value[0]).value, says(NestedPart::text("yes")));
    let body = Body::Text(Text::plain("yes").unwrap());
    let relation = Some(Relation::Thread {
        root: event_id(8),
        reply_to: Some(event_id(9)),
    });
    let converted = from(&Message::Post(Post { body, relation }));
    assert_eq!(converted.lost, [Lost::Topic, Lost::Reference]);
    assert_eq!(converted.value, says(NestedPart::text("yes")));
}

#[test]
fn edits_deletes_and_reactions_survive_both_ways() {
    let mut edit = says(NestedPart::text("a cat"));
    edit.replaces = Some(message_id(1));
    assert_survives(&edit, "m.message", &[]);
    edit.body = NestedPart::null();
    assert_survives(&edit, "m.room.redaction", &[]);
    let reaction = MimiContent::reaction(salt(), &origin(), message_id(1), &["👍"]).unwrap();
    assert_survives(&reaction, "m.reaction", &[]);
    let event = event_id(1);
    let body = Body::Text(Text::plain("a cat").unwrap());
    assert_returns(
        &Message::Edit(Edit {
            event: event.clone(),
            body,
        }),
        &[],
    );
    let key = Label::new("👍").unwrap();
    assert_returns(
        &Message::Reaction(Reaction {
            event: event.clone(),
            key,
        }),
        &[],
    );
    let redaction = |reason| {
        Message::Redaction(Redaction {
            event: event.clone(),
            reason,
        })
    };
    assert_returns(&redaction(None), &[]);
    let reason = Some(Label::new("too loud").unwrap());
    assert_becomes(&redaction(reason), &[Lost::Reason], &redaction(None));
}

#[test]
fn what_is_done_to_unknown_messages_cannot_be_said() {
    let mut edit = says(NestedPart::text("a cat"));
    edit.replaces = Some(message_id(9));
    let reaction = MimiContent::reaction(salt(), &origin(), message_id(9), &["👍"]).unwrap();
    for message in [edit, reaction] {
        let converted = out(&message);
        assert_eq!((converted.value, converted.lost), (vec![], vec![Lost::Reference]));
    }
    let redaction = written(&Message::Redaction(Redaction {
        event: event_id(9),
        reason: None,
    }));
    let refused = from_matrix(&redaction.kind, &redaction.content, salt(), &origin(), &ids());
    assert_eq!(refused, Err(Unconvertible::Reference));
}

#[test]
fn several_reactions_become_several_events() {
    let message = MimiContent::reaction(salt(), &origin(), message_id(1), &["❤", "🥳"]).unwrap();
    let converted = out(&message);
    assert_eq!(converted.lost, []);
    let shown: Vec<_> = converted
        .value
        .iter()
        .map(|event| Message::parse(&event.kind, &event.content).unwrap().to_plain())
        .collect();
    assert_eq!(shown, ["[reaction: ❤]", "[reaction: 🥳]"]);
}

#[test]
fn a_reaction_that_is_no_text_becomes_a_reply() {
    let rocket = NestedPart::single("image/gif", [1, 2]).with_disposition(Disposition::REACTION);
    let message = MimiContent::reply(salt(), &origin(), message_id(1), rocket);
    let converted = out(&message);
    assert_eq!(converted.lost, [Lost::ReactionContent]);
    let event = &converted.value[0];
    let text = Message::parse(&event.kind, &event.content).unwrap().to_plain();
    assert_eq!(text, "[reply] [reaction: [image/gif, 2 bytes]]");
}

#[test]
fn mentions_survive_both_ways() {
    let markdown = says(NestedPart::markdown("Kudos to [@Alice](mimi://a.example/u/alice)!"));
    assert_survives(&markdown, "m.message", &[]);
    let html = says(NestedPart::html(r#"<a href="mimi://a.example/u/alice">Alice</a>"#));
    assert_survives(&html, "m.message", &[]);
    let event = &out(&html).value[0];
    assert_eq!(
        event.content.get("m.mentions").unwrap().to_string(),
        r#"{"user_ids":["@alice:a.example"]}"#
    );
    let text = event.content.get("m.text").unwrap().to_string();
    assert!(text.contains("https://matrix.to/#/@alice:a.example"), "{text}");
    // What is no user stays what it is.
    let room = says(NestedPart::markdown("see mimi://a.example/r/fish"));
    assert_survives(&room, "m.message", &[]);
    assert_eq!(out(&room).value[0].content.get("m.mentions"), None);
}

/// A text of Matrix that mentions somebody.
fn mentioning(html: &str, mentions: Object) -> Event {
    let mut event = written(&post(Body::Text(Text::html(html, "hello Alice").unwrap())));
    event.content.insert("m.mentions", mentions);
    event
}

#[test]
fn mentions_survive_from_matrix_first() {
    let alice = || object! { "user_ids" => ["@alice:a.example"].into_iter().map(Json::from).collect::<Json>() };
    for link in [
        "https://matrix.to/#/@alice:a.example",
        "https://matrix.to/#/%40alice%3Aa.example",
        "https://matrix.to/#/%40alice%3aa.example?via=a.example&amp;via=b.example",
    ] {
        let event = mentioning(&format!("hello <a href=\"{link}\">Alice</a>"), alice());
        let converted = back(&event);
        assert_eq!(converted.lost, [], "{link}");
        let Part::Multi(multi) = &converted.value.body.part else {
            panic!("{:?}", converted.value.body)
        };
        let html = NestedPart::html("hello <a href=\"mimi://a.example/u/alice\">Alice</a>");
        assert_eq!(multi.parts.as_slice()[0], html, "{link}");
        let returned = &out(&converted.value).value[0];
        assert_eq!(returned.content.get("m.mentions"), Some(&alice().into()));
    }
    // What is no user stays as it is.
    for link in [
        "https://matrix.to/#/%23room%3Aa.example?via=x",
        "https://matrix.to/#/%ff",
        "https://matrix.to/#/%4",
    ] {
        let text = Text::html(format!("<a href=\"{link}\">x</a>"), "in other words").unwrap();
        assert_returns(&post(Body::Text(text)), &[]);
    }
}

#[test]
fn a_mention_without_a_link_is_said_to_be_lost() {
    let users = |users: &[&str]| object! { "user_ids" => users.iter().map(|user| Json::from(*user)).collect::<Json>() };
    let link = r#"hello <a href="https://matrix.to/#/@alice:a.example">Alice</a>"#;
    let lost = |html: &str, mentions: Object| back(&mentioning(html, mentions)).lost;
    assert_eq!(lost(link, users(&[])), []);
    assert_eq!(lost("hello Alice", users(&["@alice:a.example"])), [Lost::Mention]);
    assert_eq!(
        lost(link, users(&["@alice:a.example", "@bob:b.example"])),
        [Lost::Mention]
    );
    assert_eq!(lost(link, users(&["nobody"])), [Lost::Mention]);
    assert_eq!(lost(link, object! { "room" => true }), [Lost::Mention]);
    assert_eq!(lost(link, object! { "room" => false }), []);
    // In the description of a file nothing is linked.
    let mut picture = written(&post(Body::Image(image(file()))));
    picture.content.insert("m.mentions", users(&["@alice:a.example"]));
    assert_eq!(back(&picture).lost, [Lost::Mention]);
}

#[test]
fn mentions_survive_in_edits() {
    let mut message = says(NestedPart::html(r#"<a href="mimi://a.example/u/alice">Alice</a>"#));
    message.replaces = Some(message_id(1));
    assert_survives(&message, "m.message", &[]);
    let event = &out(&message).value[0];
    let alice = r#"{"user_ids":["@alice:a.example"]}"#;
    let new = event.content.get("m.new_content").and_then(Json::as_object).unwrap();
    for content in [&event.content, new] {
        assert_eq!(content.get("m.mentions").unwrap().to_string(), alice);
    }
    let mut plain = message.clone();
    plain.body = NestedPart::text("Alice");
    let mut event = out(&plain).value.remove(0);
    let mut new = event
        .content
        .get("m.new_content")
        .and_then(Json::as_object)
        .unwrap()
        .clone();
    new.insert("m.mentions", object! { "room" => true });
    event.content.insert("m.new_content", new);
    assert_eq!(back(&event).lost, [Lost::Mention]);
}

#[test]
fn what_is_longer_than_an_event_is_cut_and_said_to_be() {
    let long = "fish ".repeat(20_000);
    let shown = |event: &Event| Message::parse(&event.kind, &event.content).unwrap().to_plain();
    for part in [
        NestedPart::text(&long),
        NestedPart::html(&long),
        NestedPart::markdown(&long),
    ] {
        let converted = out(&says(part));
        assert_eq!(converted.lost, [Lost::Length]);
        let text = shown(&converted.value[0]);
        assert!(
            text.starts_with("fish fish") && text.ends_with("… [cut]"),
            "{}",
            text.len()
        );
    }
    // What one alternative has no room for, another says.
    let parts = vec![NestedPart::html(&long), NestedPart::text("fish")];
    let converted = out(&says(NestedPart::multi(PartSemantics::ChooseOne, parts)));
    assert_eq!(
        (shown(&converted.value[0]).as_str(), converted.lost),
        ("fish", vec![Lost::Length])
    );
    // Descriptions, too.
    for part in [
        as_part(ExternalPart::link(WEB, &long), Disposition::ATTACHMENT),
        as_part(
            ExternalPart::link("https://elsewhere.example/", &long),
            Disposition::ATTACHMENT,
        ),
        as_part(
            ExternalPart::link("https://elsewhere.example/", &long),
            Disposition::SESSION,
        ),
        as_part(ExternalPart::link("geo:1,2", &long), Disposition::RENDER),
    ] {
        let converted = out(&says(part));
        assert!(converted.lost.contains(&Lost::Length), "{:?}", converted.lost);
    }
}

/// How many bytes the content of `event` could be longer.
fn measured(event: &Event) -> usize {
    Message::parse(&event.kind, &event.content).unwrap();
    let bytes = event.content.to_canonical().len();
    let left = MAX_CONTENT_BYTES.checked_sub(bytes);
    left.unwrap_or_else(|| panic!("{bytes} bytes"))
}

#[test]
fn the_content_of_an_event_is_never_longer_than_an_event_carries() {
    let links = |count: usize| {
        (0..count)
            .map(|user| format!("<mimi://a.example/u/{user}> "))
            .collect::<String>()
    };
    let related = |body: &NestedPart| {
        let mut reply = says(body.clone());
        reply.in_reply_to = Some(message_id(1));
        reply.topic_id = message_id(2).as_bytes().to_vec();
        let mut edit = says(body.clone());
        edit.replaces = Some(message_id(1));
        [says(body.clone()), reply, edit]
    };
    for unit in ["x", "\"", "\\", "\n", "\u{1}", "é\"", "<b>\"&lt;</b>"] {
        for bytes in [20_000, 43_000, 45_056, 100_000] {
            let long = unit.repeat(bytes / unit.len());
            let mut place = ExternalPart::link("geo:1,2", &long);
            place.filename = "x".to_owned();
            let mut picture = ExternalPart::link(WEB, &long);
            picture.content_type = "image/png".to_owned();
            picture.filename = "\"".repeat(1024);
            for body in [
                NestedPart::text(&long),
                NestedPart::html(&long),
                NestedPart::markdown(&long),
                NestedPart::multi(
                    PartSemantics::ChooseOne,
                    vec![NestedPart::html(&long), NestedPart::text(&long)],
                ),
                as_part(place, Disposition::RENDER),
                as_part(picture, Disposition::INLINE),
                as_part(ExternalPart::link(&format!("geo:{long}"), "fish"), Disposition::RENDER),
            ] {
                for message in related(&body) {
                    let converted = out(&message);
                    let said = MAX_CONTENT_BYTES - measured(&converted.value[0]);
                    assert!(
                        said >= long.len() || converted.lost.contains(&Lost::Length),
                        "{unit} {bytes}: {said} {:?}",
                        converted.lost
                    );
                }
            }
        }
    }
    for count in [1, 10, 100, 400, 500, 600, 700, 900, 2_000] {
        for body in [NestedPart::markdown(&links(count)), NestedPart::html(&links(count))] {
            for message in related(&body) {
                let converted = out(&message);
                measured(&converted.value[0]);
                let mentioned = converted.value[0].content.get("m.mentions").is_some();
                assert_eq!(mentioned, converted.lost.is_empty(), "{count}: {:?}", converted.lost);
            }
        }
    }
    let mut reaction = MimiContent::reaction(salt(), &origin(), message_id(1), &["👍"]).unwrap();
    reaction.body = NestedPart::markdown(&"\"".repeat(100_000)).with_disposition(Disposition::REACTION);
    let converted = out(&reaction);
    measured(&converted.value[0]);
    assert!(converted.lost.contains(&Lost::ReactionContent));
}

#[test]
fn a_text_that_has_room_is_not_cut() {
    let room = MAX_CONTENT_BYTES - r#"{"m.text":[{"body":""}]}"#.len();
    for (unit, bytes) in [("x", 1), ("\"", 2), ("\u{1}", 6)] {
        // A byte or so is left for a comma.
        let fits = unit.repeat(room / bytes - 1);
        let converted = out(&says(NestedPart::text(&fits)));
        let left = measured(&converted.value[0]);
        assert!(left < 12, "{left}");
        assert_eq!(converted.lost, []);
        let converted = out(&says(NestedPart::text(&(fits + unit + unit))));
        measured(&converted.value[0]);
        assert_eq!(converted.lost, [Lost::Length]);
    }
}

#[test]
fn a_long_edit_survives_and_only_what_others_see_of_it_is_cut() {
    let long = "x".repeat(40_000);
    let mut message = says(NestedPart::text(&long));
    message.replaces = Some(message_id(1));
    let converted = out(&message);
    assert_eq!(converted.lost, []);
    measured(&converted.value[0]);
    assert_eq!(back(&converted.value[0]).value.body, message.body);
    let fallback = converted.value[0].content.get("m.text").unwrap().to_string();
    assert!(fallback.starts_with(r#"[{"body":"* xxx"#) && fallback.contains("… [cut]"));
    let edit = Message::Edit(Edit {
        event: event_id(1),
        body: Body::Text(Text::plain("\"".repeat(20_000)).unwrap()),
    });
    assert!(edit.to_content().to_canonical().len() <= MAX_CONTENT_BYTES);
}

#[test]
fn what_a_part_is_for_is_said_to_be_lost_where_the_kind_of_event_does_not_say_it() {
    let text = |disposition| NestedPart::text("fish").with_disposition(disposition);
    let image = |disposition| linked("image/png", disposition);
    let paper = |disposition| linked("application/pdf", disposition);
    for (part, lost) in [
        (text(Disposition::RENDER), vec![]),
        (text(Disposition::UNSPECIFIED), vec![]),
        (text(Disposition::ATTACHMENT), vec![Lost::Disposition]),
        (image(Disposition::UNSPECIFIED), vec![]),
        (image(Disposition::RENDER), vec![Lost::Disposition]),
        (image(Disposition::ICON), vec![Lost::Disposition]),
        (paper(Disposition::INLINE), vec![Lost::Disposition]),
        (linked("audio/ogg", Disposition::PREVIEW), vec![Lost::Disposition]),
        (linked("audio/ogg", Disposition(77)), vec![Lost::Disposition]),
    ] {
        assert_eq!(out(&says(part.clone())).lost, lost, "{part:?}");
    }
    let alternatives = vec![NestedPart::html("<b>fish</b>"), text(Disposition::PREVIEW)];
    let alternatives = NestedPart::multi(PartSemantics::ChooseOne, alternatives);
    assert_eq!(out(&says(alternatives)).lost, [Lost::Disposition]);
}

#[test]
fn small_things_that_have_no_place_are_said_to_be_lost() {
    let mut place = ExternalPart::link("geo:51.5,-0.1", "the pond");
    place.filename = "pond.geo".to_owned();
    assert_eq!(out(&says(as_part(place, Disposition::RENDER))).lost, [Lost::Name]);
    let mut place = ExternalPart::link("geo:51.5,-0.1", "the pond");
    place.content_type = "application/gpx+xml".to_owned();
    assert_eq!(out(&says(as_part(place, Disposition::RENDER))).lost, [Lost::MediaType]);
    assert_eq!(
        out(&says(linked("image/", Disposition::INLINE))).lost,
        [Lost::MediaType]
    );
    assert_eq!(out(&says(linked("image/*", Disposition::INLINE))).lost, []);
    let mut reaction = MimiContent::reaction(salt(), &origin(), message_id(1), &["👍"]).unwrap();
    reaction.body.language = Languages::new("en").unwrap();
    assert_eq!(out(&reaction).lost, [Lost::Language]);
    // Of a caption, its plain text survives.
    let mut described = file();
    described.caption = Some(Text::html("a <b>fish</b>", "a fish").unwrap());
    let converted = from(&post(Body::File(described)));
    assert_eq!(converted.lost, [Lost::Alternatives]);
    assert_eq!(out(&converted.value).value, [written(&post(Body::File(file())))]);
}

#[test]
fn parameters_of_other_texts_survive() {
    let part = NestedPart::single("text/calendar;method=REQUEST", "BEGIN:VCALENDAR");
    assert_survives(&says(part), "m.message", &[]);
}

#[test]
fn all_alternatives_together_are_no_longer_than_an_event() {
    let bodies = |event: &Event| match Message::parse(&event.kind, &event.content).unwrap() {
        Message::Post(Post {
            body: Body::Text(text), ..
        }) => text.bodies().iter().map(|body| body.body().len()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let (some, more) = ("x".repeat(40_000), "y".repeat(30_000));
    // What we would add ourselves is not missed.
    let converted = out(&says(NestedPart::markdown(&some)));
    assert_eq!((bodies(&converted.value[0]), converted.lost), (vec![40_000], vec![]));
    let parts = vec![NestedPart::html(&some), NestedPart::text(&more), NestedPart::text("z")];
    let converted = out(&says(NestedPart::multi(PartSemantics::ChooseOne, parts)));
    assert_eq!(
        (bodies(&converted.value[0]), converted.lost),
        (vec![40_000, 1], vec![Lost::Length])
    );
}

#[test]
fn who_is_mentioned_in_what_was_left_out_is_not_listed() {
    let links: String = (0..60_000).map(|user| format!("mimi://a/u/{user} ")).collect();
    let converted = out(&says(NestedPart::markdown(&links)));
    assert_eq!(converted.lost, [Lost::Length]);
    assert!(converted.value[0].content.get("m.mentions").is_none());
    let links: String = (0..500).map(|user| format!("mimi://a/u/{user} ")).collect();
    let converted = out(&says(NestedPart::markdown(&links)));
    assert_eq!(converted.lost, []);
    let mentions = converted.value[0]
        .content
        .get("m.mentions")
        .and_then(Json::as_object)
        .unwrap();
    assert_eq!(mentions.get("user_ids").and_then(Json::as_array).unwrap().len(), 500);
}

#[test]
fn a_media_type_that_matrix_does_not_have_is_said_to_be_lost() {
    let parts = vec![NestedPart::single("text/a b", "b"), NestedPart::text("fish")];
    let converted = out(&says(NestedPart::multi(PartSemantics::ChooseOne, parts)));
    assert_eq!(converted.lost, [Lost::Alternatives]);
    assert_eq!(back(&converted.value[0]).value, says(NestedPart::text("fish")));
    let alone = out(&says(NestedPart::single("text/a b", "fish")));
    assert_eq!(alone.lost, [Lost::InlineContent]);
    let left = says(NestedPart::text("[text/a b, 4 bytes]"));
    assert_eq!(back(&alone.value[0]).value, left);
    // Whose letters are others, though its bytes happen to be UTF-8.
    let foreign = out(&says(NestedPart::single("text/plain;charset=iso-8859-1", "é")));
    assert_eq!(foreign.lost, [Lost::InlineContent]);
    // Of several, those that can be shown are, and none is passed over in silence.
    let two = |first| {
        NestedPart::multi(
            PartSemantics::ProcessAll,
            vec![first, NestedPart::single("text/a b", "b")],
        )
    };
    let converted = out(&says(two(NestedPart::text("fish"))));
    assert_eq!((converted.value.len(), converted.lost), (1, vec![Lost::InlineContent]));
    let converted = out(&says(two(NestedPart::single("x", "a"))));
    assert_eq!(converted.lost, [Lost::InlineContent]);
    let left = says(NestedPart::text("[content that cannot be shown]"));
    assert_eq!(back(&converted.value[0]).value, left);
    let picture = NestedPart::single("image/png", [1]).with_disposition(Disposition::INLINE);
    let html = NestedPart::html(r#"<img src="cid:2@local.invalid">"#);
    let converted = out(&says(NestedPart::multi(PartSemantics::ProcessAll, vec![html, picture])));
    assert_eq!(converted.lost, [Lost::InlineContent]);
}

#[test]
fn files_images_videos_sound_and_voice_survive_both_ways() {
    for (content_type, disposition, kind) in [
        ("application/pdf", Disposition::ATTACHMENT, "m.file"),
        ("image/png", Disposition::ATTACHMENT, "m.file"),
        ("image/png", Disposition::INLINE, "m.image"),
        ("video/mp4", Disposition::INLINE, "m.video"),
        ("audio/ogg", Disposition::INLINE, "m.audio"),
        ("audio/ogg", Disposition::RENDER, "m.voice"),
    ] {
        assert_survives(&says(linked(content_type, disposition)), kind, &[]);
    }
    assert_returns(&post(Body::File(file())), &[]);
    assert_returns(&post(Body::Image(image(file()))), &[]);
    let video = Video {
        file: file_of("video/mp4"),
        details: None,
        thumbnails: Vec::new(),
    };
    assert_returns(&post(Body::Video(video)), &[]);
    let sound = || Audio {
        file: file_of("audio/ogg"),
        seconds: None,
    };
    assert_returns(&post(Body::Audio(sound())), &[]);
    assert_returns(&post(Body::Voice(sound())), &[]);
}

#[test]
fn dimensions_durations_and_thumbnails_do_not_survive() {
    let (width, height) = (640, 480);
    let full = Image {
        details: Some(ImageDetails { width, height }),
        alt_text: Some(Text::plain("for those who cannot see").unwrap()),
        thumbnails: vec![Thumbnail {
            block: file().block,
            details: None,
        }],
        ..image(file())
    };
    assert_becomes(
        &post(Body::Image(full)),
        &[Lost::Dimensions, Lost::Thumbnails, Lost::AltText],
        &post(Body::Image(image(file()))),
    );
    let video = |details| {
        post(Body::Video(Video {
            file: file_of("video/mp4"),
            details,
            thumbnails: Vec::new(),
        }))
    };
    let details = VideoDetails {
        width,
        height,
        seconds: Some(9),
    };
    assert_becomes(&video(Some(details)), &[Lost::Dimensions, Lost::Duration], &video(None));
    let voice = |seconds| {
        post(Body::Voice(Audio {
            file: file_of("audio/ogg"),
            seconds,
        }))
    };
    assert_becomes(&voice(Some(9)), &[Lost::Duration], &voice(None));
    // A description for those who cannot see takes the caption's place if there is none.
    let described = Image {
        alt_text: Some(Text::plain("a fish").unwrap()),
        file: File {
            caption: None,
            ..file()
        },
        ..image(file())
    };
    assert_becomes(&post(Body::Image(described)), &[], &post(Body::Image(image(file()))));
}

#[test]
fn sealed_files_survive_in_the_cipher_both_sides_have() {
    let secret = FileSecret::from_random([7; FileSecret::RANDOM_BYTES]);
    let (ciphertext, sealed) = seal(Outgoing::new(b"a fish".to_vec()), secret, &AcceptAll).unwrap();
    let mut sealed_file = file();
    sealed_file.block.source = FileSource::Encrypted(sealed.at(ContentUrl::parse(MXC).unwrap()));
    let sealed_file = post(Body::Image(image(sealed_file)));
    assert_returns(&sealed_file, &[Lost::Cipher]);
    let converted = from(&sealed_file).value;
    let Part::External(part) = &converted.body.part else {
        panic!("not external")
    };
    assert_eq!(external::open(ciphertext, part).unwrap(), b"a fish");

    let secret = Secret::from_random([7; Secret::RANDOM_BYTES]);
    let (_, sealed) = external::seal(b"a fish".to_vec(), secret).unwrap();
    let mut part = sealed.at(WEB);
    part.description = "a fish".to_owned();
    let converted = out(&says(as_part(part, Disposition::INLINE)));
    assert_eq!(converted.lost, [Lost::Cipher]);
    assert_eq!(
        back(&converted.value[0]).value,
        says(NestedPart::text(&format!("a fish: {WEB}")))
    );
}

#[test]
fn a_file_that_the_other_side_cannot_fetch_is_said_to_be_lost() {
    let elsewhere = as_part(
        ExternalPart::link("https://elsewhere.example/x", "a fish"),
        Disposition::ATTACHMENT,
    );
    let converted = out(&says(elsewhere));
    assert_eq!(converted.lost, [Lost::Url]);
    assert_eq!(
        back(&converted.value[0]).value,
        says(NestedPart::text("a fish: https://elsewhere.example/x"))
    );
    let mut block = file().block;
    block.source = FileSource::Plain(PlainFile {
        url: ContentUrl::parse("mxc://files.example/other").unwrap(),
        size: None,
    });
    assert_returns(&post(Body::File(File::new(block))), &[Lost::Url]);
}

#[test]
fn a_location_survives_both_ways() {
    let place = as_part(ExternalPart::link("geo:51.5,-0.1", "the pond"), Disposition::RENDER);
    assert_survives(&says(place), "m.location", &[]);
    let content = object! {
        "m.location" => object! { "uri" => "geo:51.5,-0.1", "zoom_level" => 15_i64 },
        "m.text" => "the pond",
    };
    let converted = from_matrix("m.location", &content, salt(), &origin(), &ids()).unwrap();
    let place = as_part(ExternalPart::link("geo:51.5,-0.1", "the pond"), Disposition::RENDER);
    assert_eq!(
        converted,
        Conversion {
            value: says(place),
            lost: vec![]
        }
    );
}

#[test]
fn of_a_poll_the_text_survives() {
    let content = object! { "m.poll" => object! { "max_selections" => 1_i64 }, "m.text" => "Fish?\n1. Yes\n2. No" };
    let converted = from_matrix("m.poll.start", &content, salt(), &origin(), &ids()).unwrap();
    assert_eq!(converted.value, says(NestedPart::text("Fish?\n1. Yes\n2. No")));
    assert_eq!(converted.lost, [Lost::Kind]);
    let silent = from_matrix("m.poll.start", &object! {}, salt(), &origin(), &ids());
    assert_eq!(silent, Err(Unconvertible::NoText));
}

#[test]
fn expiry_does_not_survive() {
    let mut message = says(NestedPart::text("soon gone"));
    message.expires = Some(Expiration::Relative { seconds: 60 });
    let converted = out(&message);
    assert_eq!(converted.lost, [Lost::Expiry]);
    assert_eq!(back(&converted.value[0]).value, says(NestedPart::text("soon gone")));
}

#[test]
fn a_conferencing_link_becomes_text() {
    let link = ExternalPart::link("https://example.com/join/1", "Join us");
    let converted = out(&says(as_part(link, Disposition::SESSION)));
    assert_eq!(converted.lost, [Lost::Session]);
    let text = says(NestedPart::text("Join us: https://example.com/join/1"));
    assert_eq!(back(&converted.value[0]).value, text);
}

#[test]
fn content_inside_a_message_is_named() {
    let converted = out(&says(NestedPart::single("image/gif", [1, 2, 3])));
    assert_eq!(converted.lost, [Lost::InlineContent]);
    assert_eq!(
        back(&converted.value[0]).value,
        says(NestedPart::text("[image/gif, 3 bytes]"))
    );
}

#[test]
fn several_parts_become_several_events() {
    for (semantics, lost) in [
        (PartSemantics::ProcessAll, vec![]),
        (PartSemantics::SingleUnit, vec![Lost::Unit]),
    ] {
        let parts = vec![
            NestedPart::single(TEXT_HTML, "<b>x</b>"),
            linked("image/png", Disposition::INLINE),
        ];
        let converted = out(&says(NestedPart::multi(semantics, parts)));
        assert_eq!(converted.lost, lost);
        let kinds: Vec<_> = converted.value.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["m.message", "m.image"]);
    }
    let parts = vec![NestedPart::text("x"), linked("image/png", Disposition::INLINE)];
    let converted = out(&says(NestedPart::multi(PartSemantics::ChooseOne, parts)));
    assert_eq!(converted.lost, [Lost::Alternatives]);
    assert_eq!(converted.value.len(), 1);
}

#[test]
fn receipts_and_unknown_extensions_are_said_to_be_lost() {
    let report = StatusReport::new(vec![(message_id(1), MessageStatus::READ)]);
    let converted = out(&says(report.to_part()));
    assert_eq!((converted.value, converted.lost), (vec![], vec![Lost::Receipt]));
    let mut message = says(NestedPart::text("x"));
    let value = super::super::cbor::CborValue::unsigned(1);
    message
        .extensions
        .insert(ExtensionKey::int(99).unwrap(), value)
        .unwrap();
    assert_eq!(out(&message).lost, [Lost::Extensions]);
}
