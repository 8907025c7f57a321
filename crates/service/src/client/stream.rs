//! The stream of what happens for a user: events of their rooms, and their inbox.
//!
//! A token says how far a reader has got: a position for each room and one for the inbox. There is no global sequence. Whoever
//! comes back with the token of the last item they handled misses nothing and gets nothing twice. Everything is read from
//! the store, a page at a time, so a slow reader costs no memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::Stream;
use nabe_auth::lm::Membership;
use nabe_signing::json::{Json, Limits, Object};
use nabe_signing::{base64u, object};
use nabe_store::{Between, InboxItem, MembershipAt, Order};
use nabe_types::{DeviceId, LogPosition, RoomId, UserId};

use super::ClientEvent;
use super::signals::{Changed, Ear};
use crate::{Service, ServiceError};

/// One item of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamItem {
    /// Resumes after this item.
    pub token: String,
    /// What happened.
    pub body: StreamBody,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StreamBody {
    /// Nothing yet: the first item of every stream, so that a reader has a token before anything happens.
    Ready,
    /// An event in a room of the user.
    Event(ClientEvent),
    /// An item in the user's inbox.
    Inbox(InboxItem),
}

/// A user's stream. Holds at most one page of items.
pub struct EventStream {
    service: Service,
    user: UserId,
    device: Option<DeviceId>,
    at: Positions,
    ear: Arc<Ear>,
    /// What to read again.
    unread: BTreeSet<Changed>,
    /// The rooms of the user and where their membership of each was set.
    rooms: BTreeMap<RoomId, (Membership, LogPosition)>,
    page: VecDeque<Step>,
}

/// How far a reader has got.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Positions {
    rooms: BTreeMap<RoomId, LogPosition>,
    inbox: i64,
}

/// One step forward, with an item or without.
enum Step {
    Ready,
    Room(RoomId, LogPosition, Option<Box<ClientEvent>>),
    Inbox(i64, Option<InboxItem>),
}

impl Service {
    /// Opens the stream of a user, for one of their devices if given. Without a token it begins with what is in the inbox and with
    /// what happens in rooms from now on.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] for a token we did not make.
    pub async fn stream(
        &self,
        user: &UserId,
        device: Option<DeviceId>,
        token: Option<&str>,
    ) -> Result<EventStream, ServiceError> {
        let at = match token {
            Some(token) => Positions::parse(token).ok_or(ServiceError::InvalidParam("token"))?,
            None => self.current_positions(user).await?,
        };
        let ear = Arc::new(Ear::default());
        self.inner.client.signals.listen(Changed::User(user.clone()), &ear);
        Ok(EventStream {
            service: self.clone(),
            user: user.clone(),
            device,
            at,
            ear,
            unread: BTreeSet::from([Changed::User(user.clone())]),
            rooms: BTreeMap::new(),
            page: VecDeque::from([Step::Ready]),
        })
    }

    /// Drops a user's inbox items up to and including a sequence number, once all their devices have handled them.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn trim_inbox(&self, user: &UserId, up_to: i64) -> Result<(), ServiceError> {
        self.commit(
            nabe_store::Write::TrimInbox {
                user: user.clone(),
                up_to,
            }
            .into(),
        )
        .await
    }

    /// Inbox items after a sequence number, at most 100.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        after: i64,
    ) -> Result<Vec<InboxItem>, ServiceError> {
        Ok(self.store().inbox(user, device, after, 100).await?)
    }

    async fn current_positions(&self, user: &UserId) -> Result<Positions, ServiceError> {
        let mut rooms = BTreeMap::new();
        for membership in self.store().rooms_of(user).await? {
            if let Some(head) = self.store().head(&membership.room).await? {
                rooms.insert(membership.room, head);
            }
        }
        Ok(Positions { rooms, inbox: 0 })
    }
}

impl EventStream {
    /// The next item; waits for one. `None` when the server is shutting down. After an error the stream can be asked again.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn next(&mut self) -> Option<Result<StreamItem, ServiceError>> {
        loop {
            if let Some(step) = self.page.pop_front() {
                if let Some(item) = self.take(step) {
                    return Some(Ok(item));
                }
                continue;
            }
            self.unread.append(&mut self.ear.take());
            if let Some(changed) = self.unread.pop_first() {
                if let Err(error) = self.read(&changed).await {
                    self.unread.insert(changed);
                    return Some(Err(error));
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.service.stopping() => return None,
                mut changed = self.ear.changed() => self.unread.append(&mut changed),
            }
        }
    }

    /// The stream as a [`Stream`], which ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<StreamItem, ServiceError>> + Send {
        futures_util::stream::unfold(Some(self), |stream| async {
            let mut stream = stream?;
            let item = stream.next().await?;
            let rest = item.is_ok().then_some(stream);
            Some((item, rest))
        })
    }

    fn take(&mut self, step: Step) -> Option<StreamItem> {
        let body = match step {
            Step::Ready => StreamBody::Ready,
            Step::Room(room, position, event) => {
                self.at.rooms.insert(room, position);
                StreamBody::Event(*event?)
            }
            Step::Inbox(seq, item) => {
                self.at.inbox = seq;
                StreamBody::Inbox(item?)
            }
        };
        Some(StreamItem {
            token: self.at.to_token(),
            body,
        })
    }

    async fn read(&mut self, changed: &Changed) -> Result<(), ServiceError> {
        match changed {
            Changed::User(_) => {
                self.look_for_rooms().await?;
                self.read_inbox().await
            }
            Changed::Room(room) => self.read_room(room).await,
        }
    }

    /// Notices rooms joined and left, and marks them to be read.
    async fn look_for_rooms(&mut self) -> Result<(), ServiceError> {
        for now in self.service.store().rooms_of(&self.user).await? {
            let known = self.rooms.get(&now.room);
            if known == Some(&(now.membership, now.position)) {
                continue;
            }
            let subject = Changed::Room(now.room.clone());
            if known.is_none() {
                // Heard before read: what is appended in between is not missed.
                self.service.inner.client.signals.listen(subject.clone(), &self.ear);
            }
            self.rooms.insert(now.room, (now.membership, now.position));
            self.unread.insert(subject);
        }
        Ok(())
    }

    async fn read_inbox(&mut self) -> Result<(), ServiceError> {
        let items = self
            .service
            .store()
            .inbox(&self.user, self.device.as_ref(), self.at.inbox, PAGE)
            .await?;
        if items.len() == PAGE {
            self.unread.insert(Changed::User(self.user.clone()));
        }
        self.page
            .extend(items.into_iter().map(|item| Step::Inbox(item.seq, Some(item))));
        Ok(())
    }

    async fn read_room(&mut self, room: &RoomId) -> Result<(), ServiceError> {
        if !self.rooms.contains_key(room) {
            return Ok(());
        }
        let store = self.service.store();
        let history = store.membership_history(room, &self.user).await?;
        let after = match self.at.rooms.get(room) {
            Some(position) => *position,
            // The room is new to the reader. What is at or below zero is older than our log.
            None => history
                .first()
                .map_or(LogPosition::ZERO, |first| first.position.previous())
                .max(LogPosition::ZERO),
        };
        let entries = store
            .entries(room, Between::after(after), PAGE, Order::Ascending)
            .await?;
        if entries.len() == PAGE {
            self.unread.insert(Changed::Room(room.clone()));
        }
        // A membership set after `history` was read belongs to an entry that is perhaps in `entries`: read it anew then.
        let history = match entries.last() {
            Some(_) => store.membership_history(room, &self.user).await?,
            None => history,
        };
        for entry in entries {
            let shown = !entry.soft_failed && is_shown(&history, entry.position);
            let event = entry.pdu().filter(|_| shown).cloned();
            let event = event.map(|pdu| {
                Box::new(ClientEvent {
                    position: Some(entry.position),
                    pdu,
                })
            });
            self.page.push_back(Step::Room(room.clone(), entry.position, event));
        }
        Ok(())
    }
}

/// Whether a user is sent the event at `position` while it is new: they are in the room, or it is what ended that.
fn is_shown(history: &[MembershipAt], position: LogPosition) -> bool {
    let next = history.partition_point(|step| step.position <= position);
    let Some(current) = next.checked_sub(1).and_then(|index| history.get(index)) else {
        return false;
    };
    let was_joined = || {
        next >= 2
            && history
                .get(next - 2)
                .is_some_and(|step| step.membership == Membership::Join)
    };
    current.membership == Membership::Join || (current.position == position && was_joined())
}

impl Positions {
    fn to_token(&self) -> String {
        let rooms: Object = self
            .rooms
            .iter()
            .map(|(room, position)| (room.to_string(), Json::from(position.as_i64())))
            .collect();
        base64u::encode_url(&object! { "i" => self.inbox, "r" => rooms }.to_canonical())
    }

    fn parse(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = base64u::decode_url(token).ok()?;
        let object = Object::parse_with(
            &bytes,
            Limits {
                max_bytes: MAX_TOKEN_BYTES,
                max_depth: 4,
            },
        )
        .ok()?;
        let rooms = object.get("r")?.as_object()?;
        let rooms = rooms
            .iter()
            .map(|(room, position)| Some((RoomId::parse(room).ok()?, LogPosition(position.as_i64()?))))
            .collect::<Option<_>>()?;
        let inbox = object.get("i").and_then(Json::as_i64).filter(|inbox| *inbox >= 0)?;
        Some(Self { rooms, inbox })
    }
}

/// Entries or inbox items read at once.
const PAGE: usize = 50;
const MAX_TOKEN_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn step(position: i64, membership: Membership) -> MembershipAt {
        MembershipAt {
            position: LogPosition(position),
            membership,
        }
    }

    #[test]
    fn tokens_read_back_as_written() {
        let mut at = Positions {
            rooms: BTreeMap::new(),
            inbox: 7,
        };
        at.rooms.insert(RoomId::parse("!a:a.example").unwrap(), LogPosition(3));
        at.rooms.insert(RoomId::parse("!b:a.example").unwrap(), LogPosition(0));
        assert_eq!(Positions::parse(&at.to_token()), Some(at));
    }

    #[test]
    fn a_token_we_did_not_make_is_refused() {
        for token in [
            "",
            "!",
            "e30",
            &base64u::encode_url(b"{\"i\":-1,\"r\":{}}"),
            &base64u::encode_url(b"[]"),
        ] {
            assert_eq!(Positions::parse(token), None, "{token}");
        }
    }

    #[test]
    fn a_user_sees_from_the_join_through_the_kick_and_again_after_coming_back() {
        let history = [
            step(2, Membership::Invite),
            step(4, Membership::Join),
            step(7, Membership::Leave),
            step(9, Membership::Invite),
            step(10, Membership::Join),
        ];
        let shown: Vec<i64> = (1..=12)
            .filter(|position| is_shown(&history, LogPosition(*position)))
            .collect();
        assert_eq!(shown, [4, 5, 6, 7, 10, 11, 12]);
    }
}
