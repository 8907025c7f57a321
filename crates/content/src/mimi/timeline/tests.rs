use proptest::prelude::*;

use super::*;
use crate::mimi::{Expiration, Origin, Salt};

const ALICE: &str = "mimi://a.example/u/alice";
const BOB: &str = "mimi://b.example/u/bob";
const MALLORY: &str = "mimi://m.example/u/mallory";
const ROOM: &str = "mimi://a.example/r/fish";

/// A timeline, and a salt and a second for each message.
#[derive(Default)]
struct Room {
    timeline: Timeline,
    count: u8,
}

impl Room {
    fn salt(&mut self) -> Salt {
        self.count += 1;
        Salt::from_random([self.count; 16])
    }

    fn send(&mut self, sender: &str, content: &MimiContent) -> MessageId {
        let accepted = UnixMillis(u64::from(self.count) * 1000);
        self.send_at(sender, content, accepted)
    }

    fn send_at(&mut self, sender: &str, content: &MimiContent, accepted: UnixMillis) -> MessageId {
        let received = Received::decode(content.encode().unwrap(), origin(sender)).unwrap();
        let id = received.id();
        self.timeline.insert(received, accepted).unwrap();
        id
    }

    fn says(&mut self, sender: &str, text: &str) -> MessageId {
        let content = MimiContent::new(self.salt(), &origin(sender), NestedPart::text(text));
        self.send(sender, &content)
    }

    fn replies(&mut self, sender: &str, to: MessageId, text: &str) -> MessageId {
        let content = MimiContent::reply(self.salt(), &origin(sender), to, NestedPart::text(text));
        self.send(sender, &content)
    }

    fn reacts(&mut self, sender: &str, to: MessageId, with: &str) -> MessageId {
        let content = MimiContent::reaction(self.salt(), &origin(sender), to, &[with]).unwrap();
        self.send(sender, &content)
    }

    fn content(&self, id: &MessageId) -> MimiContent {
        self.timeline.received(id).unwrap().content().clone()
    }

    fn edits(&mut self, sender: &str, of: MessageId, text: &str) -> MessageId {
        let original = self.content(&of);
        let content = MimiContent::edit(self.salt(), &origin(sender), of, &original, NestedPart::text(text));
        self.send(sender, &content)
    }

    fn deletes(&mut self, sender: &str, of: MessageId) -> MessageId {
        let original = self.content(&of);
        let content = MimiContent::delete(self.salt(), &origin(sender), of, &original);
        self.send(sender, &content)
    }

    /// What is shown, in order: texts, `-` for what was deleted, `~` for what expired.
    fn shown(&self) -> Vec<String> {
        let posts = self.timeline.posts(authors_only);
        posts.iter().map(|post| words(&post.state)).collect()
    }
}

fn origin(sender: &str) -> Origin {
    Origin::new(sender, ROOM).unwrap()
}

fn text(body: &NestedPart) -> String {
    match &body.part {
        crate::mimi::Part::Single(single) => single.as_text().unwrap().to_owned(),
        other => panic!("no text: {other:?}"),
    }
}

fn words(state: &State<'_>) -> String {
    match state {
        State::Shown { body, .. } => text(body),
        State::Deleted { .. } => "-".to_owned(),
        State::Expired => "~".to_owned(),
    }
}

#[test]
fn an_author_edits_and_the_newest_version_is_shown_as_edited() {
    let mut room = Room::default();
    let first = room.says(ALICE, "Bob, could I borow a pen?");
    room.edits(ALICE, first, "Bob, could I borrow a pen?");
    let newest = room.edits(ALICE, first, "Bob, could I borrow your pen?");
    let post = room.timeline.post(&first, authors_only).unwrap();
    assert_eq!((post.id, post.sender, post.accepted), (first, ALICE, UnixMillis(1000)));
    let State::Shown { body, version, edited } = post.state else {
        panic!("not shown")
    };
    assert_eq!(
        (text(body).as_str(), version, edited),
        ("Bob, could I borrow your pen?", newest, true)
    );
    assert_eq!(room.shown().len(), 1);
    let versions = room.timeline.versions(&newest, authors_only);
    assert_eq!(
        versions.iter().map(|version| version.by).collect::<Vec<_>>(),
        [ALICE; 3]
    );
    assert_eq!(text(versions[0].body), "Bob, could I borow a pen?");
}

#[test]
fn nobody_edits_or_deletes_what_others_wrote() {
    let mut room = Room::default();
    let first = room.says(ALICE, "mine");
    let edit = room.edits(MALLORY, first, "Mallory's");
    let delete = room.deletes(MALLORY, first);
    assert_eq!(room.shown(), ["mine"]);
    let refused = room.timeline.refused(&first, authors_only);
    assert_eq!(
        refused.iter().map(|received| received.id()).collect::<Vec<_>>(),
        [edit, delete]
    );
}

#[test]
fn a_policy_may_let_a_moderator_delete_and_not_edit() {
    let mut room = Room::default();
    let first = room.says(MALLORY, "spam");
    room.edits(BOB, first, "Bob's words in Mallory's mouth");
    let moderated = |act: &Act<'_>| act.actor == BOB && act.deletes;
    let post = room.timeline.post(&first, moderated).unwrap();
    assert_eq!(words(&post.state), "spam");
    room.deletes(BOB, first);
    let post = room.timeline.post(&first, moderated).unwrap();
    assert_eq!(post.state, State::Deleted { by: BOB });
    assert_eq!(words(&room.timeline.post(&first, authors_only).unwrap().state), "spam");
}

#[test]
fn an_edit_changes_nothing_but_the_body() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let salt = room.salt();
    let mut edit = MimiContent::new(salt, &origin(ALICE), NestedPart::text("b"));
    edit.replaces = Some(first);
    edit.topic_id = b"elsewhere".to_vec();
    edit.expires = Some(Expiration::Absolute { seconds: 1 });
    edit.in_reply_to = Some(first);
    room.send(ALICE, &edit);
    let post = room.timeline.post(&first, authors_only).unwrap();
    assert_eq!(words(&post.state), "b");
    assert!(post.content.topic_id.is_empty() && post.content.expires.is_none() && post.content.in_reply_to.is_none());
    assert!(room.timeline.expire(UnixMillis(1_000_000)).is_empty());
    assert!(room.timeline.topic(b"elsewhere", authors_only).is_empty());
}

#[test]
fn what_was_deleted_stays_deleted() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    room.deletes(ALICE, first);
    room.edits(ALICE, first, "b");
    assert_eq!(room.shown(), ["-"]);
    let versions = room.timeline.versions(&first, authors_only);
    assert_eq!(
        versions.iter().map(|version| text(version.body)).collect::<Vec<_>>(),
        ["a"]
    );
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let edit = room.edits(ALICE, first, "b");
    room.reacts(BOB, edit, "👍");
    let reply = room.replies(BOB, first, "yes");
    room.deletes(BOB, reply);
    let mut backwards = Timeline::new();
    let mut all: Vec<_> = room.timeline.messages.values().cloned().collect();
    all.sort_by_key(|stored| std::cmp::Reverse(stored.place()));
    for stored in all {
        backwards.insert(stored.received, stored.accepted).unwrap();
    }
    let shown = |timeline: &Timeline| {
        let posts = timeline.posts(authors_only);
        posts
            .iter()
            .map(|post| (post.id, words(&post.state)))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&backwards), shown(&room.timeline));
    assert_eq!(shown(&backwards).len(), 2);
    assert_eq!(backwards.reactions(&first, authors_only).len(), 1);
}

#[test]
fn messages_are_in_the_hubs_order_and_then_in_that_of_their_ids() {
    let mut room = Room::default();
    let mut ids = Vec::new();
    for text in ["a", "b", "c", "d"] {
        let content = MimiContent::new(room.salt(), &origin(ALICE), NestedPart::text(text));
        ids.push(room.send_at(ALICE, &content, UnixMillis(5000)));
    }
    let early = MimiContent::new(room.salt(), &origin(ALICE), NestedPart::text("early"));
    let early = room.send_at(ALICE, &early, UnixMillis(4999));
    ids.sort();
    ids.insert(0, early);
    let shown: Vec<_> = room.timeline.posts(authors_only).iter().map(|post| post.id).collect();
    assert_eq!(shown, ids);
}

#[test]
fn an_unlike_takes_a_reaction_back() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let like = room.reacts(BOB, first, "❤");
    room.reacts(MALLORY, first, "👎");
    let reactions = room.timeline.reactions(&first, authors_only);
    let seen: Vec<_> = reactions
        .iter()
        .map(|reaction| (reaction.by, text(reaction.body)))
        .collect();
    assert_eq!(seen, [(BOB, "❤".to_owned()), (MALLORY, "👎".to_owned())]);
    room.deletes(MALLORY, like); // not hers
    assert_eq!(room.timeline.reactions(&first, authors_only).len(), 2);
    room.deletes(BOB, like);
    let reactions = room.timeline.reactions(&first, authors_only);
    assert_eq!(
        reactions.iter().map(|reaction| reaction.by).collect::<Vec<_>>(),
        [MALLORY]
    );
    assert_eq!(room.shown(), ["a"]);
}

#[test]
fn a_reaction_refers_to_one_version() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a pen?");
    let agreed = room.reacts(BOB, first, "👍");
    room.edits(ALICE, first, "a Ferrari?");
    let reactions = room.timeline.reactions(&first, authors_only);
    assert_eq!((reactions[0].id, reactions[0].to), (agreed, first));
    // A receiver sees that it was to an earlier version.
    let State::Shown { version, .. } = room.timeline.post(&first, authors_only).unwrap().state else {
        panic!("not shown")
    };
    assert_ne!(reactions[0].to, version);
}

#[test]
fn a_duplicate_id_is_suspicious() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let again = room.timeline.received(&first).unwrap().clone();
    assert_eq!(
        room.timeline.insert(again, UnixMillis(9000)),
        Err(Suspicion::DuplicateId)
    );
    assert_eq!(room.shown().len(), 1);
}

#[test]
fn references_to_unknown_messages_are_no_error() {
    let mut room = Room::default();
    let mut elsewhere = Room {
        count: 100,
        ..Room::default()
    };
    let unknown = elsewhere.says(ALICE, "before we joined");
    room.replies(BOB, unknown, "yes");
    room.reacts(BOB, unknown, "👍");
    let original = elsewhere.content(&unknown);
    let body = NestedPart::text("edited");
    let edit = MimiContent::edit(room.salt(), &origin(ALICE), unknown, &original, body);
    room.send(ALICE, &edit);
    let delete = MimiContent::delete(room.salt(), &origin(ALICE), unknown, &original);
    room.send(ALICE, &delete);
    assert_eq!(room.shown(), ["yes", "edited"]);
    assert_eq!(room.timeline.resolve(&unknown), Reference::Unknown);
}

#[test]
fn an_id_of_revision_07_is_recognized_and_named() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let former = room.timeline.received(&first).unwrap().id_by_draft_07();
    assert_ne!(former, first);
    let expected = Reference::Known {
        id: first,
        formula: Formula::Draft07,
    };
    assert_eq!(room.timeline.resolve(&former), expected);
    room.reacts(BOB, former, "👍");
    let reply = room.replies(BOB, former, "yes");
    assert_eq!(room.timeline.reactions(&first, authors_only)[0].to, first);
    assert_eq!(room.timeline.reply_chain(&reply), Ok(vec![first]));
    let original = room.content(&first);
    let salt = room.salt();
    let edit = MimiContent::edit(salt, &origin(ALICE), former, &original, NestedPart::text("b"));
    room.send(ALICE, &edit);
    assert_eq!(room.shown(), ["b", "yes"]);
}

#[test]
fn an_edit_of_an_edit_edits_the_first_version() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let second = room.edits(ALICE, first, "b");
    room.edits(ALICE, second, "c");
    assert_eq!(room.shown(), ["c"]);
    // Somebody else's edit in between opens no way in.
    let foreign = room.edits(MALLORY, first, "x");
    room.edits(MALLORY, foreign, "y");
    assert_eq!(room.shown(), ["c"]);
}

#[test]
fn a_reply_refers_to_the_newest_version_and_never_back_to_itself() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let edit = room.edits(ALICE, first, "b");
    assert_eq!(room.timeline.reply_to(&first, None, authors_only), Ok(edit));
    let reply = room.replies(BOB, edit, "yes");
    let third = room.replies(ALICE, reply, "really?");
    assert_eq!(room.timeline.reply_chain(&third), Ok(vec![reply, first]));
    // In the place of the first message, a reply to the third would lead back to the first.
    let looping = room.timeline.reply_to(&third, Some(&edit), authors_only);
    assert_eq!(looping, Err(ReplyLoop { at: first }));
    assert_eq!(room.timeline.reply_to(&first, Some(&third), authors_only), Ok(edit));
}

#[test]
fn a_topic_groups_its_messages() {
    let mut room = Room::default();
    room.says(ALICE, "a");
    for (sender, text) in [(ALICE, "b"), (BOB, "c")] {
        let mut content = MimiContent::new(room.salt(), &origin(sender), NestedPart::text(text));
        content.topic_id = b"fish".to_vec();
        room.send(sender, &content);
    }
    let topic = room.timeline.topic(b"fish", authors_only);
    assert_eq!(
        topic.iter().map(|post| words(&post.state)).collect::<Vec<_>>(),
        ["b", "c"]
    );
}

#[test]
fn an_absolute_expiry_needs_no_reading_and_a_relative_one_does() {
    let mut room = Room::default();
    let mut expiring = |expires| {
        let mut content = MimiContent::new(room.salt(), &origin(ALICE), NestedPart::text("soon gone"));
        content.expires = Some(expires);
        room.send(ALICE, &content)
    };
    let absolute = expiring(Expiration::Absolute { seconds: 100 });
    let relative = expiring(Expiration::Relative { seconds: 10 });
    room.edits(ALICE, relative, "soon gone, too");
    assert_eq!(room.timeline.next_expiry(), Some(UnixMillis(100_000)));
    assert!(room.timeline.expire(UnixMillis(99_999)).is_empty());
    assert_eq!(room.timeline.expire(UnixMillis(100_000)), [absolute]);
    assert_eq!(room.shown(), ["~", "soon gone, too"]);
    room.timeline.mark_read(&relative, UnixMillis(200_000));
    room.timeline.mark_read(&relative, UnixMillis(205_000)); // the first time counts
    assert!(room.timeline.expire(UnixMillis(209_999)).is_empty());
    assert_eq!(room.timeline.expire(UnixMillis(210_000)), [relative]);
    assert_eq!(room.shown(), ["~", "~"]);
    // Nothing of it is left, in no version.
    for stored in room.timeline.messages.values() {
        assert!(stored.received.bytes().is_empty() && stored.content().body.part == crate::mimi::Part::Null);
    }
    assert!(room.timeline.expire(UnixMillis(999_999)).is_empty());
}

/// Whoever keeps what is left of it can go on from there.
#[test]
fn what_is_left_of_an_expired_message_keeps_its_place_and_takes_later_versions_with_it() {
    let mut room = Room::default();
    let mut content = MimiContent::new(room.salt(), &origin(ALICE), NestedPart::text("soon gone"));
    content.expires = Some(Expiration::Absolute { seconds: 100 });
    content.topic_id = b"topic".to_vec();
    let first = room.send(ALICE, &content);
    let reply = room.replies(BOB, first, "yes");
    let former = room.timeline.received(&first).unwrap().id_by_draft_07();
    assert_eq!(room.timeline.received(&first).unwrap().remains(), None);
    room.timeline.expire(UnixMillis(100_000));
    let left = room.timeline.received(&first).unwrap().clone();
    assert!(left.is_forgotten() && left.content().salt == Salt::from_random([0; 16]));
    let remains = left.remains().unwrap();
    assert_eq!((remains.id, remains.former), (first, former));

    let mut after = Room {
        count: room.count,
        ..Room::default()
    };
    let kept = Received::of_remains(&remains, origin(ALICE)).unwrap();
    assert_eq!(kept, left);
    after.timeline.insert(kept, UnixMillis(1_000)).unwrap();
    let answer = room.timeline.received(&reply).unwrap().clone();
    after.timeline.insert(answer, UnixMillis(2_000)).unwrap();
    assert_eq!(after.shown(), ["~", "yes"]);
    assert_eq!(after.timeline.reply_chain(&reply).unwrap(), [first]);
    assert_eq!(after.timeline.topic(b"topic", authors_only).len(), 1);
    assert_eq!(after.timeline.next_expiry(), None);
    // By either name.
    for of in [first, former] {
        let edit = MimiContent::edit(
            after.salt(),
            &origin(ALICE),
            of,
            &content,
            NestedPart::text("once more"),
        );
        let edit = after.send(ALICE, &edit);
        assert!(after.timeline.received(&edit).unwrap().is_forgotten());
    }
    assert_eq!(after.shown(), ["~", "yes"]);
}

#[test]
fn an_edit_of_a_reaction_that_never_came_is_no_post() {
    let mut room = Room::default();
    let first = room.says(ALICE, "a");
    let unknown = MessageId::from_bytes([1; 32]).unwrap();
    let original = MimiContent::reaction(room.salt(), &origin(BOB), first, &["👍"]).unwrap();
    let body = NestedPart::text("❤").with_disposition(Disposition::REACTION);
    let mut edit = MimiContent::edit(room.salt(), &origin(BOB), unknown, &original, body);
    room.send(BOB, &edit);
    edit.salt = room.salt();
    edit.in_reply_to = None;
    room.send(BOB, &edit);
    assert_eq!(room.shown(), ["a"]);
    let original = MimiContent::new(room.salt(), &origin(BOB), NestedPart::text("b"));
    let edit = MimiContent::edit(room.salt(), &origin(BOB), unknown, &original, NestedPart::text("c"));
    room.send(BOB, &edit);
    assert_eq!(room.shown(), ["a", "c"]);
}

/// Messages of which each replaces the one that `replaces` says, by either of its names.
fn versions(replaces: &[Option<(usize, bool)>]) -> Vec<Received> {
    let mut all: Vec<Received> = Vec::new();
    for (at, replaced) in replaces.iter().enumerate() {
        let salt = Salt::from_random((at as u128).to_be_bytes());
        let mut content = MimiContent::new(salt, &origin(ALICE), NestedPart::text("a"));
        content.replaces = replaced.map(|(of, by_former)| {
            let of = &all[of];
            if by_former { of.id_by_draft_07() } else { of.id() }
        });
        all.push(Received::decode(content.encode().unwrap(), origin(ALICE)).unwrap());
    }
    all
}

#[test]
fn a_long_chain_of_edits_leads_to_its_first_version_in_few_steps() {
    const LENGTH: usize = 20_000;
    let replaces: Vec<_> = (0..LENGTH).map(|at| at.checked_sub(1).map(|of| (of, false))).collect();
    let chain = versions(&replaces);
    let mut backwards = chain.clone();
    backwards.reverse();
    let (evens, odds): (Vec<_>, Vec<_>) = (0..LENGTH).partition(|at| at % 2 == 0);
    let mixed = evens.into_iter().chain(odds).map(|at| chain[at].clone()).collect();
    for messages in [chain.clone(), backwards, mixed] {
        let mut timeline = Timeline::new();
        for received in messages {
            timeline.insert(received, UnixMillis(1000)).unwrap();
        }
        for stored in timeline.messages.values() {
            let mut steps = 0;
            let mut next = stored.leads_to;
            while let Some(id) = next {
                steps += 1;
                next = timeline.messages[&id].leads_to;
            }
            assert!(steps <= LENGTH.ilog2(), "{steps}");
            assert_eq!(timeline.root(stored), chain[0].id());
        }
        let posts = timeline.posts(authors_only);
        assert_eq!((posts.len(), posts[0].id), (1, chain[0].id()));
        assert_eq!(timeline.versions(&chain[LENGTH - 1].id(), authors_only).len(), LENGTH);
    }
}

/// Follows what each message replaces.
fn walked_root(timeline: &Timeline, id: MessageId) -> MessageId {
    let mut root = id;
    while let Some(before) = timeline.messages[&root].content().replaces
        && let Reference::Known { id, .. } = timeline.resolve(&before)
    {
        root = id;
    }
    root
}

proptest! {
    #[test]
    fn roots_are_where_a_walk_ends_whatever_came_first(
        links in prop::collection::vec(prop::option::weighted(0.8, (any::<prop::sample::Index>(), any::<bool>())), 1..24),
        order in prop::collection::vec(any::<u32>(), 24),
    ) {
        let replaces: Vec<_> = links
            .iter()
            .enumerate()
            .map(|(at, link)| link.filter(|_| at > 0).map(|(of, by_former)| (of.index(at), by_former)))
            .collect();
        let mut messages: Vec<_> = versions(&replaces).into_iter().zip(order).collect();
        messages.sort_by_key(|(_, place)| *place);
        let mut timeline = Timeline::new();
        for (received, _) in messages {
            timeline.insert(received, UnixMillis(1000)).unwrap();
            for (id, stored) in &timeline.messages {
                prop_assert_eq!(timeline.root(stored), walked_root(&timeline, *id));
            }
        }
    }
}
