//! Many messages of one room and what they make of each other: replies, reactions, edits, deletes, topics, expiry (MC #reply,
//! #reaction, #edit, #delete, #unlike, #expiring, #topics-threading).
//!
//! A timeline keeps what came, in whatever order it came, and works out on reading what counts: the same messages always show the
//! same. Only the author of a message may edit or delete it, unless the application has a policy that says otherwise
//! ([`Act`]), and an edit changes nothing but the body (MC #rendering-and-authorization-of-edits-and-deletes).
//!
//! ```
//! use nabe_content::mimi::timeline::{State, Timeline, authors_only};
//! use nabe_content::mimi::{MimiContent, NestedPart, Origin, Received, Salt};
//! use nabe_types::UnixMillis;
//!
//! let alice = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish")?;
//! let first = MimiContent::new(Salt::from_random([1; 16]), &alice, NestedPart::text("I am a fsh"));
//! let first = Received::decode(first.encode()?, alice.clone())?;
//! let body = NestedPart::text("I am a fish");
//! let edit = MimiContent::edit(Salt::from_random([2; 16]), &alice, first.id(), first.content(), body.clone());
//! let edit = Received::decode(edit.encode()?, alice)?;
//!
//! let mut timeline = Timeline::new();
//! let id = first.id();
//! timeline.insert(edit, UnixMillis(2000))?; // the edit came first
//! timeline.insert(first, UnixMillis(1000))?;
//! let post = timeline.post(&id, authors_only).expect("it came");
//! assert!(matches!(post.state, State::Shown { body: shown, edited: true, .. } if *shown == body));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};

use nabe_types::UnixMillis;

use super::arrival::Suspicion;
use super::content::{Intent, MimiContent};
use super::id::{Formula, MessageId, Received};
use super::part::{Disposition, NestedPart};

/// The messages of one room.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    messages: BTreeMap<MessageId, Stored>,
    /// The IDs by revision -07's formula.
    former: BTreeMap<MessageId, MessageId>,
    /// A message's ID, as somebody wrote it → the messages that replace it.
    replacing: BTreeMap<MessageId, Vec<MessageId>>,
    /// A message's ID, as somebody wrote it → the messages that answer or react to it.
    answering: BTreeMap<MessageId, Vec<MessageId>>,
}

#[derive(Clone, Debug)]
struct Stored {
    received: Received,
    /// Its ID by revision -07's formula.
    former: MessageId,
    accepted: UnixMillis,
    read_at: Option<UnixMillis>,
    expired: bool,
    /// The messages that are versions of one another are a set, and each leads to another of the set, except for one. The smaller set
    /// joins the larger, so that nobody's chain of edits makes the way long.
    leads_to: Option<MessageId>,
    /// Where the ways of a set end, how many messages it has.
    versions: usize,
    /// Where the ways of a set end, its first version.
    root: MessageId,
}

impl Stored {
    fn content(&self) -> &MimiContent {
        self.received.content()
    }

    fn sender(&self) -> &str {
        self.received.origin().sender()
    }

    /// By what others may call it.
    const fn names(&self) -> [MessageId; 2] {
        [self.received.id(), self.former]
    }

    /// By the hub's timestamp, then by ID (MC #topics-threading).
    const fn place(&self) -> (UnixMillis, MessageId) {
        (self.accepted, self.received.id())
    }
}

/// Somebody edits or deletes a message of somebody else. Whether that counts is for the room's policy; the draft's own answer is no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Act<'a> {
    /// Who acts, by user URI.
    pub actor: &'a str,
    /// Whose message it is.
    pub author: &'a str,
    /// The message's first version.
    pub of: MessageId,
    /// The message that edits or deletes it.
    pub by: MessageId,
    /// It is deleted, not edited.
    pub deletes: bool,
}

/// The policy where there is none: nobody touches what others wrote.
#[must_use]
pub const fn authors_only(_: &Act<'_>) -> bool {
    false
}

/// A message as it is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// Its ID: that of its first version.
    pub id: MessageId,
    /// Who sent it.
    pub sender: &'a str,
    /// When the hub accepted its first version.
    pub accepted: UnixMillis,
    /// The first version. Topic, reply and expiry are always its own.
    pub content: &'a MimiContent,
    /// What became of it.
    pub state: State<'a>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State<'a> {
    /// It is there.
    Shown {
        /// The body of its newest version.
        body: &'a NestedPart,
        /// The newest version's ID: what a reply refers to.
        version: MessageId,
        /// Receivers are told that it was edited.
        edited: bool,
    },
    /// It was taken back; whoever quotes it hides the quotation.
    Deleted {
        /// By whom.
        by: &'a str,
    },
    /// It expired here.
    Expired,
}

/// One version of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version<'a> {
    /// Its ID.
    pub id: MessageId,
    /// Who wrote it.
    pub by: &'a str,
    /// When the hub accepted it.
    pub accepted: UnixMillis,
    /// What it says.
    pub body: &'a NestedPart,
}

/// A reaction that was not taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reaction<'a> {
    /// The ID of the reaction's first version: what an "unlike" replaces.
    pub id: MessageId,
    /// Who reacts.
    pub by: &'a str,
    /// To which version.
    pub to: MessageId,
    /// With what.
    pub body: &'a NestedPart,
}

/// What a reference leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reference {
    /// A message that is here.
    Known {
        /// Its ID, by the current formula.
        id: MessageId,
        /// The formula that the reference was made by.
        formula: Formula,
    },
    /// No message that is here: one from before we joined, say (MC #general-handling).
    Unknown,
}

/// Following replies leads back to where it began (MC #message-behavior-fields).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the replies lead back to {at}")]
pub struct ReplyLoop {
    /// The message that was met twice.
    pub at: MessageId,
}

impl Timeline {
    /// An empty timeline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message that the hub accepted at `accepted`, or what is left of one. A version of what has expired is forgotten at once.
    /// One with an ID seen before is refused as [`Suspicion::DuplicateId`].
    pub fn insert(&mut self, received: Received, accepted: UnixMillis) -> Result<Intent, Suspicion> {
        let (id, former) = (received.id(), received.id_by_draft_07());
        if self.messages.contains_key(&id) {
            return Err(Suspicion::DuplicateId);
        }
        let content = received.content();
        let intent = content.intent();
        if let Some(of) = content.replaces {
            self.replacing.entry(of).or_default().push(id);
        }
        if let Some(to) = content.in_reply_to {
            self.answering.entry(to).or_default().push(id);
        }
        let replaces = content.replaces;
        // Who sends again what somebody else said takes no references away from it.
        self.former.entry(former).or_insert(id);
        let stored = Stored {
            expired: received.is_forgotten(),
            received,
            former,
            accepted,
            read_at: None,
            leads_to: None,
            versions: 1,
            root: id,
        };
        self.messages.insert(id, stored);
        if let Some(Reference::Known { id: of, .. }) = replaces.map(|of| self.resolve(&of)) {
            self.join(id, of);
        }
        // What came before the message it replaces.
        for waiting in self.replaced_by(&id) {
            self.join(waiting, id);
        }
        let has_expired = self
            .messages
            .get(&id)
            .and_then(|stored| self.messages.get(&self.root(stored)))
            .is_some_and(|root| root.expired);
        if has_expired {
            self.forget_versions(id);
        }
        Ok(intent)
    }

    /// What an ID that somebody wrote stands for.
    #[must_use]
    pub fn resolve(&self, id: &MessageId) -> Reference {
        if self.messages.contains_key(id) {
            let (id, formula) = (*id, Formula::Draft08);
            return Reference::Known { id, formula };
        }
        match self.former.get(id) {
            Some(&id) => Reference::Known {
                id,
                formula: Formula::Draft07,
            },
            None => Reference::Unknown,
        }
    }

    /// The message as received, any version of any message.
    #[must_use]
    pub fn received(&self, id: &MessageId) -> Option<&Received> {
        self.stored(id).map(|stored| &stored.received)
    }

    /// The posts and replies to show, in order. Edits of messages that are not here stand for themselves, unless they are
    /// reactions; edits that do not count stand nowhere.
    #[must_use]
    pub fn posts<'a>(&'a self, policy: impl Fn(&Act<'_>) -> bool) -> Vec<Post<'a>> {
        let mut roots: Vec<&Stored> = self
            .messages
            .values()
            .filter(|stored| {
                let is_root = self.root(stored) == stored.received.id();
                let content = stored.content();
                let is_reaction = content.in_reply_to.is_some() && content.body.disposition == Disposition::REACTION;
                is_root
                    && match content.intent() {
                        Intent::Post | Intent::Reply { .. } => true,
                        // What it answers is for its first version to say.
                        Intent::Edit { .. } => content.body.disposition != Disposition::REACTION,
                        Intent::Reaction { .. } => false,
                        // Of what expired the content is gone, and not the place.
                        Intent::Delete { .. } | Intent::Nothing => stored.expired && !is_reaction,
                    }
            })
            .collect();
        roots.sort_by_key(|stored| stored.place());
        roots.into_iter().map(|root| self.show(root, &policy)).collect()
    }

    /// The posts of one topic, in order.
    #[must_use]
    pub fn topic<'a>(&'a self, topic_id: &[u8], policy: impl Fn(&Act<'_>) -> bool) -> Vec<Post<'a>> {
        let mut posts = self.posts(policy);
        posts.retain(|post| post.content.topic_id == topic_id);
        posts
    }

    /// The message of which `id` is a version.
    #[must_use]
    pub fn post<'a>(&'a self, id: &MessageId, policy: impl Fn(&Act<'_>) -> bool) -> Option<Post<'a>> {
        let root = self.stored(id).map(|stored| self.root(stored))?;
        self.messages.get(&root).map(|root| self.show(root, &policy))
    }

    /// All versions of a message that count, the first one first, up to where it was deleted.
    #[must_use]
    pub fn versions<'a>(&'a self, id: &MessageId, policy: impl Fn(&Act<'_>) -> bool) -> Vec<Version<'a>> {
        let Some(root) = self.stored(id).and_then(|stored| self.messages.get(&self.root(stored))) else {
            return Vec::new();
        };
        let mut versions = vec![root];
        versions.extend(self.replacements(root, &policy));
        versions
            .into_iter()
            .take_while(|stored| !matches!(stored.content().intent(), Intent::Delete { .. }))
            .map(|stored| Version {
                id: stored.received.id(),
                by: stored.sender(),
                accepted: stored.accepted,
                body: &stored.content().body,
            })
            .collect()
    }

    /// The edits and deletes of a message that do not count, because somebody else sent them.
    #[must_use]
    pub fn refused<'a>(&'a self, id: &MessageId, policy: impl Fn(&Act<'_>) -> bool) -> Vec<&'a Received> {
        let Some(root) = self.stored(id).and_then(|stored| self.messages.get(&self.root(stored))) else {
            return Vec::new();
        };
        let all = self.all_replacements(root).into_iter();
        all.filter(|replacement| !may_replace(root, replacement, &policy))
            .map(|stored| &stored.received)
            .collect()
    }

    /// The reactions to any version of a message, in order.
    #[must_use]
    pub fn reactions<'a>(&'a self, id: &MessageId, policy: impl Fn(&Act<'_>) -> bool) -> Vec<Reaction<'a>> {
        let Some(root) = self.stored(id).and_then(|stored| self.messages.get(&self.root(stored))) else {
            return Vec::new();
        };
        let mut versions = vec![root];
        versions.extend(self.all_replacements(root));
        let answers = versions.iter().flat_map(|version| self.answers(version));
        let mut reactions: Vec<&Stored> = answers
            .filter(|answer| matches!(answer.content().intent(), Intent::Reaction { .. }))
            .collect();
        reactions.sort_by_key(|stored| stored.place());
        let shown = reactions.into_iter().filter_map(|reaction| {
            let State::Shown { body, .. } = self.show(reaction, &policy).state else {
                return None;
            };
            let to = reaction.content().in_reply_to?;
            Some(Reaction {
                id: reaction.received.id(),
                by: reaction.sender(),
                to: match self.resolve(&to) {
                    Reference::Known { id, .. } => id,
                    Reference::Unknown => to,
                },
                body,
            })
        });
        shown.collect()
    }

    /// The messages that `id` answers, the one it answers directly first, as far as they are here. Each is named by its first version.
    pub fn reply_chain(&self, id: &MessageId) -> Result<Vec<MessageId>, ReplyLoop> {
        let mut chain = Vec::new();
        let mut met = BTreeSet::new();
        let mut next = self.stored(id);
        while let Some(stored) = next {
            let root = self.root(stored);
            if !met.insert(root) {
                return Err(ReplyLoop { at: root });
            }
            chain.push(root);
            next = self
                .messages
                .get(&root)
                .and_then(|root| root.content().in_reply_to)
                .and_then(|to| self.stored(&to));
        }
        // The message itself.
        if !chain.is_empty() {
            chain.remove(0);
        }
        Ok(chain)
    }

    /// What a reply to `to` should refer to: the newest version (MC #message-behavior-fields). If the reply takes the place of
    /// the message `instead_of`, it must not lead back to that.
    pub fn reply_to(
        &self,
        to: &MessageId,
        instead_of: Option<&MessageId>,
        policy: impl Fn(&Act<'_>) -> bool,
    ) -> Result<MessageId, ReplyLoop> {
        let mut chain = self.reply_chain(to)?;
        chain.extend(self.stored(to).map(|stored| self.root(stored)));
        if let Some(replaced) = instead_of.and_then(|id| self.stored(id)) {
            let at = self.root(replaced);
            if chain.contains(&at) {
                return Err(ReplyLoop { at });
            }
        }
        Ok(match self.post(to, policy).map(|post| post.state) {
            Some(State::Shown { version, .. }) => version,
            _ => *to,
        })
    }

    /// Notes that the user has read the message of which `id` is a version: relative expiry begins. The first time counts.
    pub fn mark_read(&mut self, id: &MessageId, now: UnixMillis) {
        let Some(root) = self.stored(id).map(|stored| self.root(stored)) else {
            return;
        };
        if let Some(stored) = self.messages.get_mut(&root) {
            stored.read_at.get_or_insert(now);
        }
    }

    /// Forgets the content of all messages that are due, with all their versions, and names them. Nobody has to act for it, and
    /// nothing is sent (MC #expiring).
    pub fn expire(&mut self, now: UnixMillis) -> Vec<MessageId> {
        let due: Vec<MessageId> = self
            .messages
            .values()
            .filter(|stored| {
                let expires = stored.content().expires;
                !stored.expired
                    && self.root(stored) == stored.received.id()
                    && expires.is_some_and(|expires| expires.is_due(stored.read_at, now))
            })
            .map(|stored| stored.received.id())
            .collect();
        for id in &due {
            self.forget_versions(*id);
        }
        due
    }

    /// The next moment at which something expires, by what has been read so far.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixMillis> {
        let waiting = self.messages.values().filter(|stored| !stored.expired);
        waiting
            .filter(|stored| self.root(stored) == stored.received.id())
            .filter_map(|stored| stored.content().expires?.deadline(stored.read_at))
            .min()
    }

    /// Forgets what this version says, and what replaces it.
    fn forget_versions(&mut self, id: MessageId) {
        let mut gone = vec![id];
        if let Some(version) = self.messages.get(&id) {
            gone.extend(self.all_replacements(version).iter().map(|stored| stored.received.id()));
        }
        for id in gone {
            if let Some(stored) = self.messages.get_mut(&id) {
                stored.received.forget();
                stored.expired = true;
            }
        }
    }

    fn stored(&self, id: &MessageId) -> Option<&Stored> {
        match self.resolve(id) {
            Reference::Known { id, .. } => self.messages.get(&id),
            Reference::Unknown => None,
        }
    }

    /// The first version of the message of which this is one. An edit should name the first version; one that names a later version
    /// is taken to mean the same message.
    fn root(&self, stored: &Stored) -> MessageId {
        self.end_of(stored).root
    }

    /// Where the way through the set of a message's versions ends, after at most as many steps as the set's size has binary digits.
    fn end_of<'a>(&'a self, stored: &'a Stored) -> &'a Stored {
        let mut end = stored;
        while let Some(next) = end.leads_to.and_then(|id| self.messages.get(&id)) {
            end = next;
        }
        end
    }

    /// Notes that `replacement`, so far a first version, is a version of the message of which `of` is one.
    fn join(&mut self, replacement: MessageId, of: MessageId) {
        let end = |id| self.messages.get(&id).map(|stored| self.end_of(stored));
        let (Some(later), Some(earlier)) = (end(replacement), end(of)) else {
            return;
        };
        let (later_id, earlier_id) = (later.received.id(), earlier.received.id());
        if later_id == earlier_id {
            return;
        }
        let (root, versions) = (earlier.root, earlier.versions + later.versions);
        let (small, large) = if later.versions < earlier.versions {
            (later_id, earlier_id)
        } else {
            (earlier_id, later_id)
        };
        if let Some(small) = self.messages.get_mut(&small) {
            small.leads_to = Some(large);
        }
        if let Some(large) = self.messages.get_mut(&large) {
            large.versions = versions;
            large.root = root;
        }
    }

    /// The messages that replace `id`, by any of its names that stands for it.
    fn replaced_by(&self, id: &MessageId) -> Vec<MessageId> {
        let names = self.messages.get(id).map(Stored::names).into_iter().flatten();
        let names =
            names.filter(|name| matches!(self.resolve(name), Reference::Known { id: named, .. } if named == *id));
        names
            .filter_map(|name| self.replacing.get(&name))
            .flatten()
            .copied()
            .collect()
    }

    /// All edits and deletes of a message, whoever sent them, in order.
    fn all_replacements(&self, root: &Stored) -> Vec<&Stored> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![root];
        while let Some(version) = waiting.pop() {
            let ids = self.replaced_by(&version.received.id()).into_iter();
            for stored in ids.filter_map(|id| self.messages.get(&id)) {
                if stored.received.id() != root.received.id() && found.insert(stored.place(), stored).is_none() {
                    waiting.push(stored);
                }
            }
        }
        found.into_values().collect()
    }

    /// Those that count, in order.
    fn replacements(&self, root: &Stored, policy: &impl Fn(&Act<'_>) -> bool) -> Vec<&Stored> {
        let mut replacements = self.all_replacements(root);
        replacements.retain(|replacement| may_replace(root, replacement, policy));
        replacements
    }

    fn answers(&self, version: &Stored) -> Vec<&Stored> {
        let names = version.names();
        let ids = names.iter().filter_map(|name| self.answering.get(name)).flatten();
        ids.filter_map(|id| self.messages.get(id))
            // An edit repeats whom the first version answered; it is no answer of its own.
            .filter(|stored| self.root(stored) == stored.received.id())
            .collect()
    }

    fn show<'a>(&'a self, root: &'a Stored, policy: &impl Fn(&Act<'_>) -> bool) -> Post<'a> {
        let replacements = self.replacements(root, policy);
        let deleted = replacements
            .iter()
            .find(|stored| matches!(stored.content().intent(), Intent::Delete { .. }));
        let state = if root.expired {
            State::Expired
        } else if let Some(deleted) = deleted {
            // What was taken back stays so, whatever comes later.
            State::Deleted { by: deleted.sender() }
        } else {
            let newest = replacements.last().copied().unwrap_or(root);
            State::Shown {
                body: &newest.content().body,
                version: newest.received.id(),
                edited: newest.content().replaces.is_some(),
            }
        };
        Post {
            id: root.received.id(),
            sender: root.sender(),
            accepted: root.accepted,
            content: root.content(),
            state,
        }
    }
}

fn may_replace(root: &Stored, replacement: &Stored, policy: &impl Fn(&Act<'_>) -> bool) -> bool {
    let act = Act {
        actor: replacement.sender(),
        author: root.sender(),
        of: root.received.id(),
        by: replacement.received.id(),
        deletes: matches!(replacement.content().intent(), Intent::Delete { .. }),
    };
    // Who may delete others' reactions may not delete their messages by calling that a reaction.
    let is_reaction = |it: &Stored| it.content().body.disposition == Disposition::REACTION;
    act.actor == act.author || (is_reaction(root) == is_reaction(replacement) && policy(&act))
}

#[cfg(test)]
mod tests;
