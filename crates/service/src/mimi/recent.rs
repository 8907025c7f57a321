//! What was appended to rooms lately, for the workers that notify followers: all of a room's followers are sent the same, one soon after the
//! other, so it is not read from the database for each of them. What is not here any more is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nabe_core::mimi::{MimiEntry, MimiUri};
use nabe_store::Between;

/// The newest entries of rooms with followers, as far as they take no more than [`MAX_BYTES`].
#[derive(Default)]
pub(crate) struct Recent {
    tails: Mutex<Tails>,
}

#[derive(Default)]
struct Tails {
    rooms: BTreeMap<MimiUri, Tail>,
    /// Rooms by when something was appended.
    by_age: BTreeMap<u64, MimiUri>,
    bytes: usize,
    appended: u64,
}

/// Entries at consecutive positions, up to the newest.
#[derive(Default)]
struct Tail {
    entries: VecDeque<MimiEntry>,
    bytes: usize,
    age: u64,
}

impl Recent {
    fn tails(&self) -> MutexGuard<'_, Tails> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is stored by now. To be called before anybody else can append to the room.
    pub(super) fn add(&self, room: &MimiUri, entries: &[MimiEntry]) {
        self.tails().add(room, entries, MAX_BYTES);
    }

    /// The same entries as the store would give, at most `limit` and no more than fit into `max_bytes`, but at least one. `None` if they are
    /// not all here.
    pub(super) fn entries(
        &self,
        room: &MimiUri,
        between: Between,
        limit: usize,
        max_bytes: usize,
    ) -> Option<Vec<MimiEntry>> {
        self.tails().rooms.get(room)?.entries(between, limit, max_bytes)
    }
}

impl Tails {
    fn add(&mut self, room: &MimiUri, entries: &[MimiEntry], max_bytes: usize) {
        let Some(first) = entries.first() else {
            return;
        };
        let mut tail = self.take(room).unwrap_or_default();
        // Somebody appended who did not come to tell: what is here ends before that.
        if tail
            .entries
            .back()
            .is_some_and(|last| last.position.next() != first.position)
        {
            tail = Tail::default();
        }
        for entry in entries {
            tail.bytes += bytes_of(entry);
            tail.entries.push_back(entry.clone());
        }
        while tail.bytes > max_bytes / SHARE
            && let Some(oldest) = tail.entries.pop_front()
        {
            tail.bytes -= bytes_of(&oldest);
        }
        if tail.entries.is_empty() {
            return;
        }
        self.appended += 1;
        tail.age = self.appended;
        self.bytes += tail.bytes;
        self.by_age.insert(tail.age, room.clone());
        self.rooms.insert(room.clone(), tail);
        while self.bytes > max_bytes
            && let Some((_, room)) = self.by_age.pop_first()
            && let Some(tail) = self.rooms.remove(&room)
        {
            self.bytes -= tail.bytes;
        }
    }

    fn take(&mut self, room: &MimiUri) -> Option<Tail> {
        let tail = self.rooms.remove(room)?;
        self.by_age.remove(&tail.age);
        self.bytes -= tail.bytes;
        Some(tail)
    }
}

impl Tail {
    fn entries(&self, between: Between, limit: usize, max_bytes: usize) -> Option<Vec<MimiEntry>> {
        let (first, last) = (self.entries.front()?.position, self.entries.back()?.position);
        if between.after.next() < first || between.through > last {
            return None;
        }
        let mut bytes = 0;
        let mut theirs: Vec<MimiEntry> = Vec::new();
        let asked = |entry: &&MimiEntry| entry.position > between.after && entry.position <= between.through;
        for entry in self.entries.iter().filter(asked).take(limit) {
            bytes += entry.body.len();
            if bytes > max_bytes && !theirs.is_empty() {
                break;
            }
            theirs.push(entry.clone());
        }
        Some(theirs)
    }
}

/// About what an entry takes.
fn bytes_of(entry: &MimiEntry) -> usize {
    size_of::<MimiEntry>() + entry.body.len()
}

/// Bytes of all that is here.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// One room has this share of them at most.
const SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nabe_core::mimi::{Audience, MimiEntryKind};
    use nabe_types::{LogPosition, ServerName, UnixMillis};

    use super::*;

    fn room(name: &str) -> MimiUri {
        MimiUri::parse(&format!("mimi://a.example/r/{name}")).unwrap()
    }

    fn entries(positions: std::ops::RangeInclusive<i64>, bytes: usize) -> Vec<MimiEntry> {
        let entry = |position| MimiEntry {
            position: LogPosition::new(position),
            kind: MimiEntryKind::Application,
            accepted: UnixMillis::new(1),
            origin: ServerName::parse("b.example").unwrap(),
            audience: Audience::Others,
            body: Bytes::from(vec![7; bytes]),
        };
        positions.map(entry).collect()
    }

    fn between(after: i64, through: i64) -> Between {
        Between {
            after: LogPosition::new(after),
            through: LogPosition::new(through),
        }
    }

    #[test]
    fn what_was_appended_is_there_as_the_store_would_give_it() {
        let recent = Recent::default();
        recent.add(&room("a"), &entries(3..=4, 100));
        recent.add(&room("a"), &entries(5..=6, 100));
        let read = |after, through, limit, bytes| {
            let read = recent.entries(&room("a"), between(after, through), limit, bytes)?;
            Some(read.iter().map(|entry| entry.position.as_i64()).collect::<Vec<_>>())
        };
        assert_eq!(read(2, 6, 9, 1_000), Some(vec![3, 4, 5, 6]));
        assert_eq!(read(3, 5, 9, 1_000), Some(vec![4, 5]));
        assert_eq!(read(2, 6, 2, 1_000), Some(vec![3, 4]));
        assert_eq!(read(2, 6, 9, 250), Some(vec![3, 4]));
        assert_eq!(read(2, 6, 9, 1), Some(vec![3]), "one in any case");
        assert_eq!(read(1, 6, 9, 1_000), None, "the store has what came before");
        assert_eq!(read(2, 7, 9, 1_000), None, "something newer is stored that is not here");
        assert!(recent.entries(&room("b"), between(2, 6), 9, 1_000).is_none());
    }

    #[test]
    fn after_a_gap_nothing_before_it_is_given() {
        let recent = Recent::default();
        recent.add(&room("a"), &entries(3..=4, 100));
        recent.add(&room("a"), &entries(6..=6, 100));
        assert!(recent.entries(&room("a"), between(2, 6), 9, 1_000).is_none());
        assert!(recent.entries(&room("a"), between(2, 4), 9, 1_000).is_none());
        assert_eq!(recent.entries(&room("a"), between(5, 6), 9, 1_000).unwrap().len(), 1);
    }

    #[test]
    fn neither_one_room_nor_all_of_them_take_more_than_they_may() {
        let mut tails = Tails::default();
        let most = 64 * 1024;
        for position in 1..=200 {
            tails.add(&room("a"), &entries(position..=position, 1024), most);
        }
        let tail = &tails.rooms[&room("a")];
        assert!(
            tail.bytes <= most / SHARE && tail.entries.len() > 3,
            "{} bytes",
            tail.bytes
        );
        assert_eq!(tail.entries.back().unwrap().position, LogPosition::new(200));
        for number in 0..100 {
            tails.add(&room(&number.to_string()), &entries(1..=4, 1024), most);
        }
        assert!(tails.bytes <= most);
        assert_eq!(tails.bytes, tails.rooms.values().map(|tail| tail.bytes).sum::<usize>());
        assert_eq!(tails.rooms.len(), tails.by_age.len());
        assert!(!tails.rooms.contains_key(&room("a")), "the oldest goes");
        assert!(tails.rooms.contains_key(&room("99")));
        // What alone is too long is not kept at all.
        tails.add(&room("b"), &entries(1..=1, most), most);
        assert!(!tails.rooms.contains_key(&room("b")));
    }
}
