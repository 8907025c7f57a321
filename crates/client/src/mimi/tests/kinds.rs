//! Each kind of message that the content draft gives an example of, from one client to another: what is read is what was sent, and it has the
//! same effect for both.

use nabe_content::attachment::Outgoing;
use nabe_content::mimi::markdown::mentions;
use nabe_content::mimi::{
    Disposition, Expiration, ExternalPart, Intent, Languages, MessageId, MimiContent, Part, PartSemantics,
};

use super::*;

/// Two who talk.
struct Talk {
    alice: MimiClient,
    bob: MimiClient,
}

impl Talk {
    fn sends(&mut self, by: &str, content: &MimiContent) -> MessageId {
        let [from, to] = match by {
            ALICE => [&mut self.alice, &mut self.bob],
            _ => [&mut self.bob, &mut self.alice],
        };
        let id = now(from.send(&room(), content)).unwrap();
        sync(from);
        sync(to);
        self.came(by, &id);
        let item = self.other(by).item_of(&room(), &id).unwrap().unwrap();
        let MimiBody::Content(received) = &item.body else {
            panic!("{item:?}");
        };
        assert_eq!(received.content(), content);
        assert_eq!(received.bytes(), content.encode().unwrap());
        id
    }

    fn says(&mut self, by: &str, body: NestedPart) -> MessageId {
        let content = self.own(by).compose(&room(), body).unwrap();
        self.sends(by, &content)
    }

    fn own(&mut self, by: &str) -> &mut MimiClient {
        match by {
            ALICE => &mut self.alice,
            _ => &mut self.bob,
        }
    }

    fn other(&mut self, by: &str) -> &mut MimiClient {
        match by {
            ALICE => &mut self.bob,
            _ => &mut self.alice,
        }
    }

    /// A message of `by` is with the other as it was sent.
    fn came(&mut self, by: &str, id: &MessageId) {
        let sent = self.own(by).item_of(&room(), id).unwrap().unwrap();
        sync(self.other(by));
        let came = self.other(by).item_of(&room(), id).unwrap().unwrap();
        assert_eq!(came.body, sent.body);
        assert_eq!(came.sender, Some(uri(by)));
        assert_eq!(came.franking, Franking::Genuine);
        assert_eq!(came.accepted, sent.accepted);
    }

    fn content(&mut self, by: &str, id: &MessageId) -> MimiContent {
        let item = self.other(by).item_of(&room(), id).unwrap().unwrap();
        match item.body {
            MimiBody::Content(received) => received.content().clone(),
            other => panic!("{other:?}"),
        }
    }

    /// What both show, which is the same.
    fn shown(&mut self) -> Vec<String> {
        let [alice, bob] = [&self.alice, &self.bob].map(|client| {
            let timeline = client.timeline(&room()).unwrap();
            let posts = timeline.posts(authors_only).into_iter();
            posts.map(|post| format!("{post:?}")).collect::<Vec<_>>()
        });
        assert_eq!(alice, bob);
        let timeline = self.bob.timeline(&room()).unwrap();
        let posts = timeline.posts(authors_only).into_iter();
        posts
            .map(|post| match post.state {
                State::Shown { body, .. } => {
                    let mut content = post.content.clone();
                    content.body = body.clone();
                    content.to_plain()
                }
                State::Deleted { .. } => "(deleted)".to_owned(),
                State::Expired => "(expired)".to_owned(),
            })
            .collect()
    }

    /// What the reactions to a message are, for both.
    fn reactions(&mut self, to: &MessageId) -> Vec<(String, String)> {
        let [alice, bob] = [&self.alice, &self.bob].map(|client| {
            let timeline = client.timeline(&room()).unwrap();
            let reactions = timeline.reactions(to, authors_only).into_iter();
            reactions
                .map(|reaction| (reaction.by.to_owned(), body_text(reaction.body)))
                .collect::<Vec<_>>()
        });
        assert_eq!(alice, bob);
        alice
    }
}

fn talk(hub: &MimiHub) -> Talk {
    let [mut alice, mut bob, _] = of_three(hub);
    sync(&mut alice);
    sync(&mut bob);
    Talk { alice, bob }
}

#[test]
fn texts_replies_reactions_mentions_edits_and_deletes_are_read_as_they_were_sent_and_have_their_effect() {
    let hub = MimiHub::new();
    let mut talk = talk(&hub);
    // Original.
    let body = NestedPart::markdown("The _goldfish_ is back");
    let original = talk.says(ALICE, body);

    // Reply.
    let reply = now(talk.bob.reply(&room(), &original, NestedPart::text("Wich one?"))).unwrap();
    talk.came(BOB, &reply);
    assert_eq!(talk.content(BOB, &reply).intent(), Intent::Reply { to: original });

    // Reaction, and "unlike".
    let reaction = now(talk.bob.react(&room(), &original, &["\u{2764}"])).unwrap();
    talk.came(BOB, &reaction);
    assert_eq!(talk.reactions(&original), [(BOB.to_owned(), "\u{2764}".to_owned())]);
    let unlike = now(talk.bob.unreact(&room(), &original)).unwrap();
    talk.came(BOB, &unlike[0]);
    assert_eq!(talk.content(BOB, &unlike[0]).intent(), Intent::Delete { of: reaction });
    assert_eq!(talk.reactions(&original), []);
    assert_eq!(now(talk.bob.unreact(&room(), &original)).unwrap(), []);

    // Mention, in Markdown and in HTML.
    let named = format!("Thanks to [@Bob]({BOB})");
    let mention = talk.says(ALICE, NestedPart::markdown(&named));
    let in_html = NestedPart::html(&format!("<p>Thanks to <a href=\"{BOB}\">@Bob</a></p>"));
    let mention_html = talk.says(ALICE, in_html);
    for id in [mention, mention_html] {
        let content = talk.content(ALICE, &id);
        let named: Vec<_> = mentions(&content.body, |user| user == BOB);
        assert_eq!(named.len(), 1, "{content:?}");
    }

    // Edit, and delete.
    let edit = now(talk.bob.edit(&room(), &reply, NestedPart::text("Which one?"))).unwrap();
    talk.came(BOB, &edit);
    assert_eq!(talk.content(BOB, &edit).intent(), Intent::Edit { of: reply });
    let spoken = ["The _goldfish_ is back", "[reply] Which one?"];
    assert_eq!(talk.shown()[..2], spoken);
    let delete = now(talk.bob.delete(&room(), &reply)).unwrap();
    talk.came(BOB, &delete);
    assert_eq!(talk.content(BOB, &delete).intent(), Intent::Delete { of: reply });
    let shown = talk.shown();
    assert_eq!(shown[..2], ["The _goldfish_ is back", "(deleted)"]);
    assert_eq!(shown.len(), 4, "{shown:?}");
}

#[test]
fn expiring_messages_attachments_conferences_and_parts_are_read_as_they_were_sent() {
    let hub = MimiHub::new();
    let mut talk = talk(&hub);
    // Expiring.
    let mut expiring = talk
        .alice
        .compose(&room(), NestedPart::text("The code is 1234"))
        .unwrap();
    let seconds = u32::try_from(hub.clock()().as_u64() / 1000 + 60).unwrap();
    expiring.expires = Some(Expiration::Absolute { seconds });
    talk.sends(ALICE, &expiring);

    // Attachment.
    let film = b"two goldfish swim".repeat(100);
    let file = Outgoing {
        name: None,
        media_type: Some(nabe_content::MediaType::parse("application/x-film").unwrap()),
        bytes: film.clone(),
    };
    let attachment = now(talk.bob.send_file(&room(), file)).unwrap();
    talk.came(BOB, &attachment);
    let (part, bytes) = now(talk.alice.fetch_file(&room(), &attachment)).unwrap();
    assert_eq!((part.content_type.as_str(), bytes), ("application/x-film", film));

    // Conferencing, with a topic.
    let link = ExternalPart::link("https://meet.example/join/118", "Join us");
    let body = NestedPart::new(Part::External(Box::new(link))).with_disposition(Disposition::SESSION);
    let mut conference = talk.alice.compose(&room(), body).unwrap();
    conference.topic_id = b"Goldfish".to_vec();
    talk.sends(ALICE, &conference);

    // Several parts: of which one is chosen, in several languages, and nested.
    let english = || Languages::new("en").unwrap();
    let choice = NestedPart::multi(
        PartSemantics::ChooseOne,
        vec![
            NestedPart::markdown("# Welcome!").with_language(english()),
            NestedPart::html("<h1>Welcome!</h1>").with_language(english()),
        ],
    );
    talk.says(BOB, choice.clone());
    let languages = NestedPart::multi(
        PartSemantics::ChooseOne,
        vec![
            NestedPart::text("Hello").with_language(english()),
            NestedPart::text("Bonjour").with_language(Languages::new("fr").unwrap()),
        ],
    );
    talk.says(ALICE, languages.clone());
    let picture = NestedPart::single("image/gif", [0x47, 0x49, 0x46]).with_disposition(Disposition::INLINE);
    let nested = NestedPart::multi(
        PartSemantics::ChooseOne,
        vec![
            NestedPart::multi(
                PartSemantics::SingleUnit,
                vec![NestedPart::html("<img src=\"cid:3@local.invalid\">"), picture],
            ),
            NestedPart::multi(PartSemantics::ProcessAll, vec![choice, languages]),
        ],
    );
    talk.says(BOB, nested);

    let shown = talk.shown();
    assert_eq!(shown.len(), 6);
    assert_eq!(shown[0], "The code is 1234");
    assert_eq!(shown[2], "[session: Join us, https://meet.example/join/118]");
    hub.advance(Duration::from_secs(61));
    for client in [&mut talk.alice, &mut talk.bob] {
        sync(client);
    }
    assert_eq!(talk.shown()[0], "(expired)");
}

#[test]
fn a_topic_is_begun_with_an_id_of_its_own_or_with_that_of_its_first_message_and_replies_stay_in_it() {
    let hub = MimiHub::new();
    let mut talk = talk(&hub);
    let (first, topic) = now(talk.alice.begin_topic(&room(), NestedPart::text("Goldfish"))).unwrap();
    let (other, another) = now(talk.alice.begin_topic(&room(), NestedPart::text("Goldfish"))).unwrap();
    assert!(
        topic != another && !topic.is_empty(),
        "nobody's topic is like another one"
    );
    talk.came(ALICE, &first);
    let reply = now(talk.bob.reply(&room(), &first, NestedPart::text("Which?"))).unwrap();
    talk.came(BOB, &reply);
    let third = now(talk.bob.say_in_topic(&room(), &topic, NestedPart::text("None"))).unwrap();
    talk.came(BOB, &third);
    // A topic may grow out of a message that has none.
    let plain = now(talk.bob.say(&room(), NestedPart::text("Cats, however"))).unwrap();
    talk.came(BOB, &plain);
    let grown = talk.alice.topic_of(&room(), &plain).unwrap();
    assert_eq!(grown, plain.as_bytes());
    let about = now(talk.alice.say_in_topic(&room(), &grown, NestedPart::text("eat them"))).unwrap();
    talk.came(ALICE, &about);
    assert_eq!(talk.bob.topic_of(&room(), &about).unwrap(), grown);
    for client in [&talk.alice, &talk.bob] {
        let timeline = client.timeline(&room()).unwrap();
        let of = |topic: &[u8]| {
            let posts = timeline.topic(topic, authors_only).into_iter();
            posts.map(|post| post.id).collect::<Vec<_>>()
        };
        assert_eq!(of(&topic), [first, reply, third]);
        assert_eq!(of(&another), [other]);
        assert_eq!(of(&grown), [about]);
    }
}
