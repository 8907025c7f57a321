//! The stream of what happens for a user: events of their rooms, and their inbox.
//!
//! A token says how far a reader has got: a position for each room and one for the inbox. There is no global sequence. Whoever
//! comes back with the token of the last item they handled misses nothing and gets nothing twice. Everything is read from
//! the store, a page at a time, so a slow reader costs no memory.
//!
//! A token is base64url of a version byte, the inbox's position, a moment, and for each room, in ascending order, eight bytes of the
//! SHA-256 of its ID and a position; numbers are LEB128. That is about 14 characters a room. A room that the user has left stays in
//! it for a month, so that what was read can be told from what happened while the reader was away. After that the moment speaks
//! for it: rooms left before it and not listed are read to their end. Clocks of servers may be wrong, but hardly by a month.
//!
//! Who comes back with a token has handled the inbox up to there: see [`Service::acknowledge_inbox`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use nabe_auth::lm::Membership;
use nabe_signing::{base64u, sha256};
use nabe_store::{Between, InboxItem, MembershipAt, Order, Write};
use nabe_types::{DeviceId, LogPosition, RoomId, UnixMillis, UserId};

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
    rooms: BTreeMap<RoomKey, LogPosition>,
    inbox: i64,
    /// Rooms that the user had left by then and that are not listed are read to their end.
    left: UnixMillis,
}

/// Stands for a room in a token. Two rooms of one user with the same key would be mixed up. Nobody can make a room with the
/// key of one that is there; who makes two of their own with one key spoils only those.
type RoomKey = [u8; 8];

/// One step forward, with an item or without.
enum Step {
    Ready,
    Room(RoomId, LogPosition, Option<Box<ClientEvent>>),
    Inbox(i64, Option<InboxItem>),
}

impl Service {
    /// Opens the stream of a user, for one of their devices if given. Without a token it begins with what is in the inbox and with
    /// what happens in rooms from now on; with [`STREAM_START`] as the token, with all there is.
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
        self.note_handled(user, device.as_ref(), at.inbox).await?;
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

    /// Says that a reader, one of the user's devices if given, has handled the inbox up to a token of a stream. Opening a stream with a
    /// token says the same. What every reader has handled is dropped.
    ///
    /// Waited for are all registered devices of the user, and a reader without a device if there was one since this server started;
    /// during the first hour nothing is dropped, so that such a reader can come back. A reader that must never miss anything
    /// therefore names a device.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] for a token we did not make; the store's own.
    pub async fn acknowledge_inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        token: &str,
    ) -> Result<(), ServiceError> {
        let at = Positions::parse(token).ok_or(ServiceError::InvalidParam("token"))?;
        self.note_handled(user, device, at.inbox).await
    }

    async fn note_handled(&self, user: &UserId, device: Option<&DeviceId>, seq: i64) -> Result<(), ServiceError> {
        let devices = self.store().devices(user).await?;
        if device.is_some_and(|device| !devices.contains(device)) {
            return Ok(());
        }
        let readers = &self.inner.client.readers;
        let Some(handled) = readers.note(user, device, seq, &devices, self.now()) else {
            return Ok(());
        };
        // Nobody has handled what is not there yet, whatever a token says.
        let up_to = handled.min(self.store().inbox_head(user).await?);
        let trim = Write::TrimInbox {
            user: user.clone(),
            up_to,
        };
        self.commit(trim.into()).await
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
        let left = self.now().minus(LEFT_LONG_AGO);
        let mut rooms = BTreeMap::new();
        for at in self.store().rooms_of(user).await? {
            if has_left(at.membership) && self.was_appended_by(&at.room, at.position, left).await? {
                continue;
            }
            if let Some(head) = self.store().head(&at.room).await? {
                rooms.insert(room_key(&at.room), head);
            }
        }
        Ok(Positions { rooms, inbox: 0, left })
    }

    /// Whether the log had grown to this position by then. A position without an entry counts as the next one with.
    async fn was_appended_by(&self, room: &RoomId, at: LogPosition, by: UnixMillis) -> Result<bool, ServiceError> {
        let from = Between::after(at.previous());
        let entries = self.store().entries(room, from, 1, Order::Ascending).await?;
        Ok(entries.first().is_some_and(|entry| entry.received_at <= by))
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
            if let Err(error) = self.forget_left_rooms().await {
                return Some(Err(error));
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
                self.at.rooms.insert(room_key(&room), position);
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

    /// Takes the rooms left long ago off the token, now and then. To be called when everything is read.
    async fn forget_left_rooms(&mut self) -> Result<(), ServiceError> {
        let left = self.service.now().minus(LEFT_LONG_AGO);
        if left < self.at.left.plus(FORGET_EVERY) {
            return Ok(());
        }
        for (room, (membership, position)) in &self.rooms {
            if has_left(*membership)
                && self.at.rooms.contains_key(&room_key(room))
                && self.service.was_appended_by(room, *position, left).await?
            {
                self.at.rooms.remove(&room_key(room));
            }
        }
        self.at.left = left;
        Ok(())
    }

    /// Where a room begins for this reader that the token does not list: after the last leave that the token speaks for, or with
    /// the first the user had to do with it. What is at or below zero is older than our log.
    async fn beginning_of(&self, room: &RoomId, history: &[MembershipAt]) -> Result<LogPosition, ServiceError> {
        let leaves = history.iter().rev().filter(|step| has_left(step.membership));
        for leave in leaves.filter(|_| self.at.left > UnixMillis::default()) {
            if self.service.was_appended_by(room, leave.position, self.at.left).await? {
                return Ok(leave.position.max(LogPosition::ZERO));
            }
        }
        let before_first = history.first().map(|first| first.position.previous());
        Ok(before_first.unwrap_or(LogPosition::ZERO).max(LogPosition::ZERO))
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
        let Some(&(membership, since)) = self.rooms.get(room) else {
            return Ok(());
        };
        let store = self.service.store();
        let history = store.membership_history(room, &self.user).await?;
        let after = match self.at.rooms.get(&room_key(room)) {
            Some(position) => *position,
            None => self.beginning_of(room, &history).await?,
        };
        // What happens in a room after the user left it is not for them. Coming back is a change of the user's rooms.
        if has_left(membership) && after >= since {
            return Ok(());
        }
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

/// Whether the user is out of the room and will be told nothing of it until that changes.
const fn has_left(membership: Membership) -> bool {
    matches!(membership, Membership::Leave | Membership::Ban)
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
        let mut bytes = vec![TOKEN_VERSION];
        put_number(self.inbox, &mut bytes);
        put_number(i64::try_from(self.left.as_u64()).unwrap_or(i64::MAX), &mut bytes);
        for (room, position) in &self.rooms {
            bytes.extend_from_slice(room);
            put_number(position.as_i64(), &mut bytes);
        }
        base64u::encode_url(&bytes)
    }

    fn parse(token: &str) -> Option<Self> {
        if token == STREAM_START {
            return Some(Self::default());
        }
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = base64u::decode_url(token).ok()?;
        let mut rest = bytes.strip_prefix(&[TOKEN_VERSION])?;
        let inbox = take_number(&mut rest)?;
        let left = UnixMillis(take_number(&mut rest)?.unsigned_abs());
        let mut rooms = BTreeMap::new();
        while let Some((room, after)) = rest.split_first_chunk() {
            rest = after;
            let position = LogPosition(take_number(&mut rest)?);
            if rooms.last_key_value().is_some_and(|(last, _)| last >= room) {
                return None;
            }
            rooms.insert(*room, position);
        }
        rest.is_empty().then_some(Self { rooms, inbox, left })
    }
}

/// Any text as a token, and any bytes as what a token is made of. What is read is written and read again.
pub(crate) fn fuzz_token(data: &[u8]) {
    let tokens = [String::from_utf8_lossy(data).into_owned(), base64u::encode_url(data)];
    for at in tokens.iter().filter_map(|token| Positions::parse(token)) {
        assert_eq!(
            Positions::parse(&at.to_token()),
            Some(at),
            "a token of ours is read back"
        );
    }
}

fn room_key(room: &RoomId) -> RoomKey {
    let [a, b, c, d, e, f, g, h, ..] = sha256(room.as_str().as_bytes());
    [a, b, c, d, e, f, g, h]
}

/// LEB128. What readers have got to is never below zero.
fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = number.max(0).unsigned_abs();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// A number from the front, in its shortest form and not below zero.
fn take_number(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    // Nine times seven bits are what a number that is not negative has.
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (shift == 0 || *byte != 0).then_some(number);
        }
    }
    None
}

/// The token of a reader who has handled nothing: the stream tells all there is.
pub const STREAM_START: &str = "start";
/// Entries or inbox items read at once.
const PAGE: usize = 50;
/// First byte of every token.
const TOKEN_VERSION: u8 = 2;
/// How long a room stays in tokens after the user left it.
const LEFT_LONG_AGO: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often a stream looks for rooms to take off its token.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// What fits into a header.
const MAX_TOKEN_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            left: UnixMillis(1_700_000_000_000),
        };
        let key = |id| room_key(&RoomId::parse(id).unwrap());
        for (id, position) in [
            ("!a:a.example", 3),
            ("!b:a.example", 0),
            ("!c:a.example", 128),
            ("!d:a.example", i64::MAX),
        ] {
            at.rooms.insert(key(id), LogPosition(position));
        }
        assert_eq!(Positions::parse(&at.to_token()), Some(at));
        assert_eq!(Positions::parse(STREAM_START), Some(Positions::default()));
    }

    #[test]
    fn token_of_four_thousand_rooms_fits_into_half_a_header() {
        let key = |n: i64| room_key(&RoomId::parse(&format!("!{n}:a.example")).unwrap());
        let at = Positions {
            rooms: (0..4000).map(|n| (key(n), LogPosition(10_000 + n))).collect(),
            inbox: 9_999,
            left: UnixMillis(1_700_000_000_000),
        };
        let token = at.to_token();
        assert!(token.len() < 60 * 1024, "{} bytes", token.len());
        assert_eq!(Positions::parse(&token), Some(at));
    }

    #[test]
    fn a_token_we_did_not_make_is_refused() {
        for token in [
            "",
            "!",
            "e30",
            &base64u::encode_url(b"{\"i\":0,\"r\":{}}"),
            &base64u::encode_url(&[1, 0, 0]),
            &base64u::encode_url(&[2]),
            &base64u::encode_url(&[2, 0]),
            // A room without a position, rooms twice, a number too long for what it says, one too large.
            &base64u::encode_url(b"\x02\x00\x00aaaaaaaa"),
            &base64u::encode_url(b"\x02\x00\x00aaaaaaaa\x01aaaaaaaa\x02"),
            &base64u::encode_url(b"\x02\x00\x00aaaa"),
            &base64u::encode_url(b"\x02\x80\x00\x00"),
            &base64u::encode_url(b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
            &"A".repeat(MAX_TOKEN_BYTES + 4),
        ] {
            assert_eq!(Positions::parse(token), None, "{token}");
        }
    }

    fn positions() -> impl Strategy<Value = Positions> {
        let rooms = proptest::collection::btree_map(any::<RoomKey>(), 0..=i64::MAX, 0..40);
        (rooms, 0..=i64::MAX, 0..=i64::MAX).prop_map(|(rooms, inbox, left)| Positions {
            rooms: rooms.into_iter().map(|(key, at)| (key, LogPosition(at))).collect(),
            inbox,
            left: UnixMillis(left.unsigned_abs()),
        })
    }

    proptest! {
        #[test]
        fn every_token_reads_back(at in positions()) {
            prop_assert_eq!(Positions::parse(&at.to_token()), Some(at));
        }

        #[test]
        fn any_token_is_refused_or_reads_back(text in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            fuzz_token(text.as_bytes());
            fuzz_token(&bytes);
            fuzz_token(&[&[TOKEN_VERSION], &bytes[..]].concat());
        }

        #[test]
        fn a_damaged_token_is_refused_or_reads_back(at in positions(), place in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = base64u::decode_url(&at.to_token()).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            fuzz_token(&bytes);
            fuzz_token(&bytes[..place]);
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
