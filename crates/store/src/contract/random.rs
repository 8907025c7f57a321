//! Random batches, and everything that can be seen of a store, to compare backends by.

use bytes::Bytes;
use nabe_core::{Entry, FollowerChange, HoleReason};
use nabe_types::{EventId, ServerName, UserId};

use super::fixture::{RoomLog, at, checkpoint, device, edu, pos, server, user};
use crate::{
    Batch, Between, DeliveryRange, DirectItem, IdempotencyKey, InboxKind, Order, OutboundRequest, ParkReason,
    ParkedEvent, PendingMembership, PendingRoom, RemoteDevice, Store, StoredReply, Write,
};

const SERVERS: [&str; 2] = ["b.example", "c.example"];
const USERS: [&str; 4] = [
    "@alice:hub.example",
    "@bob:b.example",
    "@carol:c.example",
    "@cora:c.example",
];

/// Makes commits out of arbitrary numbers. Most writes fit what is there; some are refused.
#[derive(Debug)]
pub struct Writer<'a> {
    numbers: std::slice::Iter<'a, u16>,
    rooms: [RoomLog; 2],
    made: Vec<Entry>,
    now: u64,
}

impl<'a> Writer<'a> {
    /// A writer that stops when the numbers end.
    #[must_use]
    pub fn new(numbers: &'a [u16]) -> Self {
        let rooms = [RoomLog::hub("a"), RoomLog::participant("b")];
        Self {
            numbers: numbers.iter(),
            rooms,
            made: Vec::new(),
            now: 100,
        }
    }

    /// Commits the same to both stores until the numbers end. Fails when the stores answer differently, or when
    /// something differs that can be seen of them afterwards.
    pub async fn run(mut self, one: &dyn Store, two: &dyn Store) {
        let setup = vec![
            Batch::from(self.rooms[0].create()),
            Batch::from(self.rooms[1].create_with(vec![], vec![])),
        ];
        self.commit(one, two, setup).await;
        while self.numbers.len() > 0 {
            let mut batches = Vec::new();
            for _ in 0..=self.below(3) {
                let writes = 1 + self.below(4);
                batches.push((0..writes).map(|_| self.write()).collect());
            }
            self.commit(one, two, batches).await;
        }
    }

    async fn commit(&mut self, one: &dyn Store, two: &dyn Store, batches: Vec<Batch>) {
        let results = (one.commit(batches.clone()).await, two.commit(batches.clone()).await);
        assert_eq!(results.0, results.1, "{batches:#?}");
        let seen = (self.observe(one).await, self.observe(two).await);
        for (one, two) in seen.0.iter().zip(&seen.1) {
            assert_eq!(one, two, "{batches:#?}");
        }
        // A refused batch leaves the log shorter than we thought it would be.
        for room in &mut self.rooms {
            let head = one.head(room.id()).await.unwrap().unwrap();
            room.jump(head.0);
        }
    }

    fn write(&mut self) -> Write {
        self.now += 1;
        match self.below(22) {
            0..=7 => self.append(),
            8 => self.prepend(),
            9 => self.put_checkpoint(),
            10 => self.prune(),
            11 => self.rebase(),
            12 | 20 => self.freeze(),
            13 | 21 => self.confirm(),
            14 | 15 => self.enqueue(),
            16 => self.outbound(),
            17 => self.replies(),
            18 => self.parked(),
            _ => self.client(),
        }
    }

    fn append(&mut self) -> Write {
        let room = self.room();
        let mut entries = Vec::new();
        for _ in 0..self.below(4) {
            let entry = match self.below(8) {
                0 => self.rooms[room].creation(),
                1 => self.rooms[room].topic("t"),
                2..=4 => {
                    let (user, membership) = (self.pick(&USERS), self.pick(&["join", "leave", "invite", "odd"]));
                    self.rooms[room].member(user, membership)
                }
                5 => self.rooms[room].hole(HoleReason::Malformed),
                _ => self.rooms[room].message("m"),
            };
            let soft_failed = self.below(8) == 0;
            entries.push(Entry { soft_failed, ..entry });
        }
        if self.below(8) == 0
            && let (Some(last), Some(known)) = (entries.last_mut(), self.known_entry())
        {
            last.lpdu_id = known.lpdu_id;
        }
        self.made.extend(entries.iter().cloned());
        let position = self.rooms[room].position();
        let followers = match self.below(6) {
            0 => vec![FollowerChange::Open {
                server: self.server(),
                from: position,
            }],
            1 => vec![FollowerChange::Close {
                server: self.server(),
                until: position,
            }],
            2 => vec![FollowerChange::Once {
                server: self.server(),
                at: position,
            }],
            _ => vec![],
        };
        self.rooms[room].append_with(entries, followers, at(self.now))
    }

    fn prepend(&mut self) -> Write {
        let mut past = self.rooms[1].clone();
        let first = 1 - i64::from(self.below(4));
        past.jump(first - 3);
        let entries = match self.known_entry() {
            Some(known) if self.below(3) == 0 => vec![Entry {
                position: pos(first - 1),
                ..known
            }],
            _ => vec![past.member(self.pick(&USERS), "join"), past.message("old")],
        };
        Write::Prepend {
            room: past.id().clone(),
            expected_first: pos(first),
            entries,
        }
    }

    fn put_checkpoint(&mut self) -> Write {
        let room = self.room();
        let position = self.rooms[room].position().0 - i64::from(self.below(4));
        let outlier = self.rooms[room].outlier("m.room.name", "");
        let state = self.known_entry().and_then(|entry| entry.pdu().cloned());
        let state = state.filter(|pdu| pdu.is_state() && pdu.room_id() == self.rooms[room].id());
        let checkpoint = checkpoint(position, None, std::iter::once(outlier).chain(state).collect());
        Write::PutCheckpoint {
            room: self.rooms[room].id().clone(),
            checkpoint,
        }
    }

    fn prune(&mut self) -> Write {
        let room = self.room();
        let below = pos(self.rooms[room].position().0 - i64::from(self.below(6)));
        Write::Prune {
            room: self.rooms[room].id().clone(),
            below,
        }
    }

    fn rebase(&mut self) -> Write {
        let room = self.room();
        let expected = self.rooms[room].position();
        let mut elsewhere = self.rooms[room].clone();
        let member = elsewhere.member(self.pick(&USERS), "join").pdu().cloned();
        let outliers = vec![self.rooms[room].outlier("m.room.create", "")];
        self.rooms[room].jump(expected.next().0);
        Write::Rebase {
            room: self.rooms[room].id().clone(),
            expected,
            checkpoint: checkpoint(expected.next().0, None, member.into_iter().collect()),
            outliers,
        }
    }

    fn freeze(&mut self) -> Write {
        let room = self.room();
        let through = self.rooms[room].position();
        let interval_from = pos(through.0 - i64::from(self.below(4)));
        let range = DeliveryRange {
            room: self.rooms[room].id().clone(),
            interval_from,
            after: interval_from,
            through,
        };
        let request = OutboundRequest {
            destination: self.server(),
            txn_id: self.txn_id(),
            ranges: vec![range],
            direct: (1..=i64::from(self.below(4))).collect(),
            body_sha256: [self.below(256) as u8; 32],
            frozen_at: at(self.now),
        };
        Write::Freeze { request }
    }

    fn confirm(&mut self) -> Write {
        let (destination, txn_id) = (self.server(), self.txn_id());
        if self.below(4) == 0 {
            return Write::Thaw { destination, txn_id };
        }
        Write::Confirm { destination, txn_id }
    }

    fn enqueue(&mut self) -> Write {
        let item = match self.known_entry() {
            Some(entry) if self.below(2) == 0 => DirectItem::Lpdu {
                room: self.rooms[0].id().clone(),
                lpdu_id: entry.event_id().clone(),
                bytes: Bytes::from_static(b"{}"),
                sender: user(USERS[0]),
            },
            _ => edu("e"),
        };
        Write::Enqueue {
            destination: self.server(),
            item,
            limit: 4,
            now: at(self.now),
        }
    }

    fn outbound(&mut self) -> Write {
        if self.below(2) == 0 {
            return Write::Backoff {
                destination: self.server(),
                failures: self.below(5).into(),
                next_attempt: at(self.now + 9),
                last_error: "timeout".to_owned(),
            };
        }
        Write::PutServerKeys {
            server: self.server(),
            response: format!(r#"{{"verify_keys":{},"valid_until_ts":{}}}"#, self.below(3), self.now).into(),
            fetched_at: at(self.now - u64::from(self.below(9))),
            effective_valid_until: at(self.now + 9),
        }
    }

    fn replies(&mut self) -> Write {
        if self.below(4) == 0 {
            return Write::ExpireReplies {
                before: at(self.now - 5),
            };
        }
        let reply = StoredReply {
            status: 200,
            body: self.now.to_string().into(),
            request_sha256: [1; 32],
        };
        Write::PutReply {
            key: reply_key(self.below(4)),
            reply,
            now: at(self.now),
        }
    }

    fn parked(&mut self) -> Write {
        let (room, event_id) = (
            self.rooms[0].id().clone(),
            EventId::from_hash([self.below(4) as u8; 32]),
        );
        if self.below(3) == 0 {
            return Write::Unpark { room, event_id };
        }
        let parked = ParkedEvent {
            room,
            event_id,
            origin: self.server(),
            bytes: Bytes::from_static(b"{}"),
            reason: ParkReason::JoinPending,
            received_at: at(self.now),
            next_try: at(self.now + u64::from(self.below(9))),
            attempts: self.below(3).into(),
        };
        Write::Park { parked }
    }

    fn client(&mut self) -> Write {
        let who = user(self.pick(&USERS));
        let which = device(self.pick(&["PHONE", "LAPTOP"]));
        let which = (self.below(2) == 0).then_some(which);
        let room = self.rooms[1].id().clone();
        match self.below(19) {
            12..=17 => self.encryption(who),
            18 => Write::DeleteAccount {
                user: who,
                now: at(self.now),
            },
            0 | 1 => Write::PutAccount {
                user: who,
                created_at: at(self.now),
                token_hash: Some([self.below(3) as u8; 32]),
                device: which,
            },
            2 | 3 => Write::RevokeToken {
                token_hash: [self.below(3) as u8; 32],
            },
            4 | 5 => Write::Inbox {
                user: who,
                device: which,
                kind: InboxKind::Invite,
                body: Bytes::from_static(b"{}"),
                now: at(self.now),
            },
            6 | 7 => Write::TrimInbox {
                user: who,
                up_to: self.below(4).into(),
            },
            8 | 9 => Write::RemovePending { user: who, room },
            _ => Write::PutPending {
                pending: PendingRoom {
                    user: who,
                    room,
                    membership: PendingMembership::Invite,
                    hub: self.server(),
                    version: self.rooms[1].meta().version.clone(),
                    stripped_state: Bytes::from_static(b"[]"),
                    event: None,
                    at: at(self.now),
                },
            },
        }
    }

    fn encryption(&mut self, who: UserId) -> Write {
        let which = device(self.pick(&["PHONE", "LAPTOP"]));
        let object = Bytes::from(self.now.to_string());
        match self.below(6) {
            0 | 1 => Write::PutDeviceObject {
                user: who,
                device: which,
                object,
                forget_key_packages: self.below(2) == 0,
                now: at(self.now),
            },
            2 => Write::RemoveDevice {
                user: who,
                device: which,
            },
            3 => Write::PutRemoteDevice {
                device: RemoteDevice {
                    user: who,
                    device: which,
                    object,
                    updated_at: at(self.now),
                },
            },
            4 => Write::ExpireRemoteDevices {
                before: at(self.now - 20),
            },
            _ => Write::Notice {
                user: who,
                device: Some(which),
                kind: InboxKind::DeviceList,
                subject: self.below(2).to_string(),
                body: object,
                now: at(self.now),
            },
        }
    }

    /// Everything the trait answers, one line per question.
    async fn observe(&self, store: &dyn Store) -> Vec<String> {
        let mut seen = vec![
            format!("{:?}", store.rooms().await),
            format!("{:?}", store.destinations_with_work().await),
        ];
        for room in &self.rooms {
            let id = room.id();
            let load = store.load(id).await.unwrap().unwrap();
            seen.push(format!("{id} {:?} {:?}", load.checkpoint, load.tail));
            let all = store.entries(id, Between::ALL, 1000, Order::Descending).await;
            seen.push(format!("{id} {all:?} {:?}", store.followers(id).await));
            for position in -6..=room.position().0 + 1 {
                let state = store.state_before(id, pos(position)).await;
                seen.push(format!("{id} before {position}: {state:?}"));
            }
            let ids: Vec<_> = self.made.iter().map(|entry| entry.event_id().clone()).collect();
            seen.push(format!("{id} {:?}", store.events(id, &ids).await));
            let lpdus: Vec<_> = self.made.iter().filter_map(|entry| entry.lpdu_id.clone()).collect();
            let mut known = store.entry_by_lpdu(id, &lpdus).await.unwrap();
            known.sort_by_key(|known| known.position);
            seen.push(format!("{id} {known:?}"));
            let bytes = store.entry_bytes(&[(id.clone(), Between::ALL)]).await;
            seen.push(format!("{id} {bytes:?}"));
            seen.push(format!(
                "{id} {:?} {:?}",
                store.parked(id).await,
                store.pending_in(id).await
            ));
            for who in USERS.map(user) {
                seen.push(format!("{id} {who} {:?}", store.membership_history(id, &who).await));
            }
        }
        for entry in &self.made {
            seen.push(format!("{:?}", store.entry(entry.event_id()).await));
        }
        for name in SERVERS.map(server) {
            let (dirty, outbox) = (store.dirty(&name, 2).await, store.outbox(&name, 3).await);
            seen.push(format!(
                "{name} {dirty:?} {outbox:?} {:?}",
                store.outbox_len(&name).await
            ));
            seen.push(format!(
                "{name} {:?} {:?}",
                store.frozen(&name).await,
                store.destination(&name).await
            ));
            seen.push(format!("{name} {:?}", store.server_keys(&name).await));
        }
        for who in USERS.map(user) {
            let (rooms, sharing) = (store.rooms_of(&who).await, store.servers_sharing_rooms_with(&who).await);
            seen.push(format!("{who} {rooms:?} {sharing:?} {:?}", store.account(&who).await));
            let phone = device("PHONE");
            seen.push(format!("{who} {:?}", store.inbox(&who, Some(&phone), 1, 3).await));
            seen.push(format!(
                "{who} {:?} {:?}",
                store.inbox_head(&who).await,
                store.devices(&who).await
            ));
            seen.push(format!("{who} {:?}", store.pending(&who).await));
            seen.push(format!(
                "{who} {:?} {:?} {:?}",
                store.device(&who, &phone).await,
                store.published_devices(&who).await,
                store.remote_devices(&who).await
            ));
            let local = store.users_sharing_rooms_with(&who, &server("c.example")).await;
            seen.push(format!("{who} {local:?}"));
        }
        for number in 0..4 {
            seen.push(format!("{:?}", store.reply(&reply_key(number)).await));
            seen.push(format!("{:?}", store.account_by_token(&[number as u8; 32]).await));
        }
        seen.push(format!("{:?}", store.parked_due(at(self.now), 3).await));
        seen
    }

    fn below(&mut self, limit: u16) -> u16 {
        self.numbers.next().map_or(0, |number| number % limit)
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[usize::from(self.below(from.len() as u16))]
    }

    fn server(&mut self) -> ServerName {
        server(self.pick(&SERVERS))
    }

    fn txn_id(&mut self) -> String {
        if self.below(6) == 0 { "2" } else { "1" }.to_owned()
    }

    fn room(&mut self) -> usize {
        self.below(2).into()
    }

    fn known_entry(&mut self) -> Option<Entry> {
        let nth = self.below(u16::MAX);
        let count = self.made.len().max(1);
        self.made.get(usize::from(nth) % count).cloned()
    }
}

fn reply_key(number: u16) -> IdempotencyKey {
    IdempotencyKey {
        scope: "a".to_owned(),
        endpoint: "send".to_owned(),
        txn_id: number.to_string(),
    }
}
