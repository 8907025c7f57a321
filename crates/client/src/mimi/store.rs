//! The rows of a MIMI client. They are in the file of [`ClientStore`], beside OpenMLS's, and change with them in one transaction.

use nabe_content::mimi::{MessageId, Origin, Received};
use nabe_mls::Suite;
use nabe_types::UnixMillis;
use nabe_wire::franking::Frank;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::intent::MimiIntent;
use super::notice::MimiNotice;
use super::receive::{Franking, Unreadable};
use crate::error::StoreError;
use crate::keys::KeyNames;
use crate::store::{ClientStore, meta, set_meta};

/// Where this client stands in a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MimiStatus {
    /// Not in its group.
    None,
    /// It hands the room over to the hub.
    Creating,
    /// It has sent an external commit.
    Joining,
    /// In the group.
    Active,
    /// In the group until somebody commits that it goes.
    Leaving,
    /// Not in the group any more.
    Removed,
    /// It cannot follow the group any more.
    Stuck,
}

/// A room that this client knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownRoom {
    /// Its URI.
    pub room: MimiUri,
    /// Where this client stands.
    pub status: MimiStatus,
    /// Why it is stuck.
    pub reason: Option<String>,
    /// The first epoch whose messages this client can have keys for.
    pub first_epoch: Option<u64>,
    pub(super) group_id: Option<Vec<u8>>,
    /// The epoch that the group is in, so that it need not be loaded to know.
    pub(super) epoch: Option<u64>,
    pub(super) tend_due: Option<UnixMillis>,
    /// When this client last began to join anew by itself.
    pub(super) rejoined: Option<UnixMillis>,
}

impl MimiStatus {
    const ALL: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Creating, "creating"),
        (Self::Joining, "joining"),
        (Self::Active, "active"),
        (Self::Leaving, "leaving"),
        (Self::Removed, "removed"),
        (Self::Stuck, "stuck"),
    ];

    /// Whether this client is in the group and follows it.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}

impl KnownRoom {
    pub(super) const fn new(room: MimiUri) -> Self {
        Self {
            room,
            status: MimiStatus::None,
            reason: None,
            first_epoch: None,
            group_id: None,
            epoch: None,
            tend_due: None,
            rejoined: None,
        }
    }

    pub(super) fn load(connection: &Connection, room: &MimiUri) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_rooms WHERE room = ?1")?
            .query_row([room.to_string()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(super) fn load_or_new(connection: &Connection, room: &MimiUri) -> Result<Self, StoreError> {
        Ok(Self::load(connection, room)?.unwrap_or_else(|| Self::new(room.clone())))
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_rooms ORDER BY room", [], Self::from_row)
    }

    /// The room whose group has this ID.
    pub(super) fn of_group(connection: &Connection, group_id: &[u8]) -> Result<Option<String>, StoreError> {
        Ok(connection
            .prepare_cached("SELECT room FROM mimi_rooms WHERE group_id = ?1")?
            .query_row([group_id], |row| row.get(0))
            .optional()?)
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        let status = MimiStatus::ALL.iter().find(|(status, _)| *status == self.status);
        let (_, status) = status.expect("all are listed");
        connection
            .prepare_cached(
                "INSERT INTO mimi_rooms (room, group_id, status, reason, first_epoch, tend_due, epoch, rejoined) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (room) DO UPDATE SET group_id = ?2, status = ?3, \
                 reason = ?4, first_epoch = ?5, tend_due = ?6, epoch = ?7, rejoined = ?8",
            )?
            .execute(params![
                self.room.to_string(),
                self.group_id,
                status,
                self.reason,
                self.first_epoch.map(to_i64),
                self.tend_due.map(UnixMillis::as_i64),
                self.epoch.map(to_i64),
                self.rejoined.map(UnixMillis::as_i64),
            ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_rooms", column);
        let status: String = row.get("status")?;
        let status = MimiStatus::ALL.iter().find(|(_, name)| *name == status);
        Ok(Self {
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            status: status.ok_or_else(|| bad("status"))?.0,
            reason: row.get("reason")?,
            first_epoch: row.get::<_, Option<i64>>("first_epoch")?.map(to_u64),
            group_id: row.get("group_id")?,
            epoch: row.get::<_, Option<i64>>("epoch")?.map(to_u64),
            tend_due: row.get::<_, Option<i64>>("tend_due")?.map(millis),
            rejoined: row.get::<_, Option<i64>>("rejoined")?.map(millis),
        })
    }
}

// --- Proposals that are pending ---

/// Notes a proposal of the current epoch; false if it is noted already, or if there are more than a hub can have accepted.
pub(super) fn note_pending(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<bool, StoreError> {
    let (there, bytes): (i64, i64) = connection
        .prepare_cached("SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM mimi_pending WHERE room = ?1")?
        .query_row([room.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if there >= MAX_PENDING || bytes >= MAX_PENDING_BYTES {
        return Ok(false);
    }
    let noted = connection
        .prepare_cached("INSERT INTO mimi_pending (room, message) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![room.to_string(), message])?;
    Ok(noted > 0)
}

/// One of them is none.
pub(super) fn drop_pending(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_pending WHERE room = ?1 AND message = ?2")?
        .execute(params![room.to_string(), message])?;
    Ok(())
}

/// The proposals of the current epoch, in the order of acceptance.
pub(super) fn pending(connection: &Connection, room: &MimiUri) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT message FROM mimi_pending WHERE room = ?1 ORDER BY n";
    all(connection, sql, [room.to_string()], |row| Ok(row.get(0)?))
}

/// The newest of them; 0 without any.
pub(super) fn newest_pending(connection: &Connection, room: &MimiUri) -> Result<i64, StoreError> {
    Ok(connection
        .prepare_cached("SELECT COALESCE(MAX(n), 0) FROM mimi_pending WHERE room = ?1")?
        .query_row([room.to_string()], |row| row.get(0))?)
}

/// The epoch is over.
pub(super) fn forget_pending(connection: &Connection, room: &MimiUri) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_pending WHERE room = ?1")?
        .execute([room.to_string()])?;
    Ok(())
}

// --- What came too early ---

/// An entry of an epoch that this client has not reached.
#[derive(Clone, Debug)]
pub(super) struct Held {
    n: i64,
    pub(super) message: Vec<u8>,
}

impl Held {
    /// Keeps an entry; false if there are too many.
    pub(super) fn keep(
        connection: &Connection,
        room: &MimiUri,
        epoch: u64,
        message: &[u8],
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let room = room.to_string();
        let (count, bytes): (i64, i64) = connection
            .prepare_cached("SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM mimi_held WHERE room = ?1")?
            .query_row([&room], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count >= MAX_HELD || bytes >= MAX_HELD_BYTES {
            return Ok(false);
        }
        connection
            .prepare_cached(
                "INSERT INTO mimi_held (room, epoch, hash, message, since) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                room,
                to_i64(epoch),
                &nabe_signing::sha256(message)[..],
                message,
                now.as_i64()
            ])?;
        Ok(true)
    }

    /// Takes the first that is of this epoch or an earlier one; with none, the first of all.
    pub(super) fn take(
        connection: &Connection,
        room: &MimiUri,
        reached: Option<u64>,
    ) -> Result<Option<Self>, StoreError> {
        let reached = reached.map_or(i64::MAX, to_i64);
        let first = connection
            .prepare_cached("SELECT n, message FROM mimi_held WHERE room = ?1 AND epoch <= ?2 ORDER BY n LIMIT 1")?
            .query_row(params![room.to_string(), reached], |row| {
                Ok(Self {
                    n: row.get(0)?,
                    message: row.get(1)?,
                })
            })
            .optional()?;
        if let Some(first) = &first {
            connection
                .prepare_cached("DELETE FROM mimi_held WHERE n = ?1")?
                .execute([first.n])?;
        }
        Ok(first)
    }

    /// Whether any are kept of a room.
    pub(super) fn any(connection: &Connection, room: &MimiUri) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_held WHERE room = ?1)")?
            .query_row([room.to_string()], |row| row.get(0))?)
    }

    /// The rooms of which any are kept, each with the time since when.
    pub(super) fn rooms(connection: &Connection) -> Result<Vec<(MimiUri, UnixMillis)>, StoreError> {
        let sql = "SELECT room, MIN(since) AS since FROM mimi_held GROUP BY room";
        all(connection, sql, [], |row| {
            let room = uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("mimi_held", "room"))?;
            Ok((room, millis(row.get("since")?)))
        })
    }
}

// --- Intentions and what they are made into ---

/// A kept intention.
#[derive(Clone, Debug)]
pub(super) struct StoredIntent {
    pub(super) id: i64,
    pub(super) room: MimiUri,
    pub(super) intent: MimiIntent,
    pub(super) attempts: u32,
    pub(super) due: UnixMillis,
}

impl StoredIntent {
    pub(super) fn insert(
        connection: &Connection,
        room: &MimiUri,
        intent: &MimiIntent,
        due: UnixMillis,
    ) -> Result<i64, StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_intents (room, body, attempts, due) VALUES (?1, ?2, 0, ?3)")?
            .execute(params![room.to_string(), json(intent), due.as_i64()])?;
        Ok(connection.last_insert_rowid())
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_intents ORDER BY intent_id";
        all(connection, sql, [], Self::from_row)
    }

    pub(super) fn load(connection: &Connection, id: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_intents WHERE intent_id = ?1")?
            .query_row([id], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(super) fn postpone(connection: &Connection, id: i64, due: UnixMillis) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_intents SET due = ?2 WHERE intent_id = ?1")?
            .execute(params![id, due.as_i64()])?;
        Ok(())
    }

    pub(super) fn count_attempt(connection: &Connection, id: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_intents SET attempts = attempts + 1 WHERE intent_id = ?1")?
            .execute([id])?;
        Ok(())
    }

    pub(super) fn delete(connection: &Connection, id: i64) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM mimi_intents WHERE intent_id = ?1",
            "DELETE FROM mimi_material WHERE intent_id = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([id])?;
        }
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_intents", column);
        let attempts: i64 = row.get("attempts")?;
        Ok(Self {
            id: row.get("intent_id")?,
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            intent: from_json(&row.get::<_, String>("body")?).ok_or_else(|| bad("body"))?,
            attempts: u32::try_from(attempts).map_err(|_| bad("attempts"))?,
            due: millis(row.get("due")?),
        })
    }
}

/// What a user's provider answered for an intention, if it was asked already.
pub(super) fn material(connection: &Connection, intent: i64, user: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT response FROM mimi_material WHERE intent_id = ?1 AND user = ?2")?
        .query_row(params![intent, user], |row| row.get(0))
        .optional()?)
}

pub(super) fn keep_material(
    connection: &Connection,
    intent: i64,
    user: &str,
    response: &[u8],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO mimi_material (intent_id, user, response) VALUES (?1, ?2, ?3)")?
        .execute(params![intent, user, response])?;
    Ok(())
}

/// What an intention was made into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestKind {
    Create,
    Commit,
    External,
    Proposals,
}

/// How far a request got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RequestState {
    /// To be sent, or sent without an answer.
    Ready,
    /// For an epoch that is over, says the hub: what ended it has yet to come in.
    Stale,
    /// Refused.
    Refused { code: u8, description: String },
}

/// A request that waits for its outcome.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) room: MimiUri,
    pub(super) intent: i64,
    pub(super) kind: RequestKind,
    pub(super) epoch: u64,
    pub(super) message: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) seen: i64,
    /// Whether it does what has to be done before the intention can be, and nothing of that itself.
    pub(super) clears_the_way: bool,
    pub(super) state: RequestState,
}

impl RequestKind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Create, "create"),
        (Self::Commit, "commit"),
        (Self::External, "external"),
        (Self::Proposals, "proposals"),
    ];
}

impl Request {
    pub(super) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        let kind = RequestKind::ALL.iter().find(|(kind, _)| *kind == self.kind);
        let (_, kind) = kind.expect("all are listed");
        let (state, code, description) = match &self.state {
            RequestState::Ready => ("ready", None, None),
            RequestState::Stale => ("stale", None, None),
            RequestState::Refused { code, description } => ("refused", Some(*code), Some(description)),
        };
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO mimi_requests (room, intent_id, kind, epoch, message, body, seen, \
                 clears_the_way, state, code, description) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                self.room.to_string(),
                self.intent,
                kind,
                to_i64(self.epoch),
                self.message,
                self.body,
                self.seen,
                self.clears_the_way,
                state,
                code,
                description,
            ])?;
        Ok(())
    }

    pub(super) fn of_room(connection: &Connection, room: &MimiUri) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_requests WHERE room = ?1")?
            .query_row([room.to_string()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_requests ORDER BY intent_id";
        all(connection, sql, [], Self::from_row)
    }

    pub(super) fn delete(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_requests WHERE room = ?1")?
            .execute([self.room.to_string()])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_requests", column);
        let kind: String = row.get("kind")?;
        let kind = RequestKind::ALL.iter().find(|(_, name)| *name == kind);
        let state: String = row.get("state")?;
        Ok(Self {
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            intent: row.get("intent_id")?,
            kind: kind.ok_or_else(|| bad("kind"))?.0,
            epoch: to_u64(row.get("epoch")?),
            message: row.get("message")?,
            body: row.get("body")?,
            seen: row.get("seen")?,
            clears_the_way: row.get("clears_the_way")?,
            state: match state.as_str() {
                "ready" => RequestState::Ready,
                "stale" => RequestState::Stale,
                "refused" => RequestState::Refused {
                    code: row.get("code")?,
                    description: row.get("description")?,
                },
                _ => return Err(bad("state")),
            },
        })
    }
}

// --- Messages ---

/// A message whose acceptance has not been seen.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) n: i64,
    pub(super) room: MimiUri,
    pub(super) content: Vec<u8>,
    pub(super) message_id: [u8; 32],
    pub(super) message: Option<Vec<u8>>,
    /// It came too late in this epoch, and waits for a later one.
    pub(super) after_epoch: Option<u64>,
    /// How often it came too late.
    pub(super) refusals: u32,
}

impl Outgoing {
    pub(super) fn insert(
        connection: &Connection,
        room: &MimiUri,
        content: &[u8],
        id: &MessageId,
    ) -> Result<i64, StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_outbox (room, content, message_id) VALUES (?1, ?2, ?3)")?
            .execute(params![room.to_string(), content, &id.as_bytes()[..]])?;
        Ok(connection.last_insert_rowid())
    }

    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_outbox ORDER BY n", [], Self::from_row)
    }

    pub(super) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_outbox WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The message that a ciphertext of ours in this room is of, and what was encrypted, until the message is done with.
    pub(super) fn of_ciphertext(
        connection: &Connection,
        room: &MimiUri,
        hash: &[u8],
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        Ok(connection
            .prepare_cached("SELECT n, data FROM mimi_own WHERE hash = ?1 AND room = ?2")?
            .query_row(params![hash, room.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    pub(super) fn encrypted(
        &self,
        connection: &Connection,
        message: &[u8],
        data: &[u8],
        hash: &[u8],
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_outbox SET message = ?2 WHERE n = ?1")?
            .execute(params![self.n, message])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO mimi_own (hash, n, room, data) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![hash, self.n, self.room.to_string(), data])?;
        Ok(())
    }

    /// It has to be encrypted again, in a later epoch than this.
    pub(super) fn again(&self, connection: &Connection, epoch: u64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE mimi_outbox SET message = NULL, after_epoch = ?2, refusals = refusals + 1 WHERE n = ?1",
            )?
            .execute(params![self.n, to_i64(epoch)])?;
        Ok(())
    }

    /// It is done with. Its ciphertexts are known again for a while: the hub may have taken more than one of them.
    pub(super) fn finish(connection: &Connection, n: i64, now: UnixMillis) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_outbox WHERE n = ?1")?
            .execute([n])?;
        connection
            .prepare_cached("UPDATE mimi_own SET data = x'', done = ?2 WHERE n = ?1")?
            .execute(params![n, now.as_i64()])?;
        let long_ago = now.as_i64().saturating_sub(OWN_KEPT_MS);
        connection
            .prepare_cached("DELETE FROM mimi_own WHERE done < ?1")?
            .execute([long_ago])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_outbox", column);
        Ok(Self {
            n: row.get("n")?,
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            content: row.get("content")?,
            message_id: row.get("message_id")?,
            message: row.get("message")?,
            after_epoch: row.get::<_, Option<i64>>("after_epoch")?.map(to_u64),
            refusals: u32::try_from(row.get::<_, i64>("refusals")?).map_err(|_| bad("refusals"))?,
        })
    }
}

/// Something in a room's timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiItem {
    /// Its number, ascending as items become known.
    pub n: i64,
    /// The room.
    pub room: MimiUri,
    /// When the hub accepted it.
    pub accepted: UnixMillis,
    /// The user, by the credential of the client that sent it; `None` if it cannot be read.
    pub sender: Option<MimiUri>,
    /// The client.
    pub client: Option<MimiUri>,
    /// What it holds.
    pub body: MimiBody,
    /// What the hub's stamp on it is worth.
    pub franking: Franking,
    /// Whether this client sent it.
    pub sent: bool,
    /// What a report has to show: all that was encrypted, and the hub's stamp.
    pub evidence: Option<(Vec<u8>, Frank)>,
}

/// What an item of a timeline holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MimiBody {
    /// A message.
    Content(Box<Received>),
    /// Content of another media type than MIMI's own.
    Other {
        /// The type.
        media_type: String,
        /// The content.
        content: Vec<u8>,
    },
    /// It cannot be read, and why.
    Unreadable(Unreadable),
}

/// An item to be put into the timeline.
#[derive(Clone, Debug)]
pub(super) struct NewItem<'a> {
    pub(super) room: &'a MimiUri,
    pub(super) hash: &'a [u8],
    pub(super) accepted: UnixMillis,
    pub(super) sender: Option<&'a MimiUri>,
    pub(super) client: Option<&'a MimiUri>,
    /// Media type, content, and what was encrypted.
    pub(super) content: Result<(&'a str, &'a [u8], &'a [u8]), &'a Unreadable>,
    /// Of MIMI content.
    pub(super) message_id: Option<MessageId>,
    pub(super) frank: Option<&'a Frank>,
    pub(super) franking: &'a Franking,
    pub(super) sent: bool,
}

impl NewItem<'_> {
    /// Puts it there and tells the user, unless it is there already.
    pub(super) fn put(&self, connection: &Connection) -> Result<(), StoreError> {
        let (content, reason) = match self.content {
            Ok(content) => (Some(content), None),
            Err(reason) => (None, Some(json(reason))),
        };
        let item: Option<i64> = connection
            .prepare_cached(
                "INSERT INTO mimi_timeline (room, hash, accepted, sender, client, media_type, content, data, reason, \
                 frank, franking, sent, message_id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
                 ON CONFLICT (room, hash) DO NOTHING RETURNING n",
            )?
            .query_row(
                params![
                    self.room.to_string(),
                    self.hash,
                    self.accepted.as_i64(),
                    self.sender.map(ToString::to_string),
                    self.client.map(ToString::to_string),
                    content.map(|(media_type, ..)| media_type),
                    content.map(|(_, content, _)| content),
                    content.map(|(.., data)| data),
                    reason,
                    self.frank.map(|frank| frank.to_bytes()),
                    json(self.franking),
                    self.sent,
                    self.message_id.as_ref().map(|id| &id.as_bytes()[..]),
                ],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(item) = item {
            let room = self.room.to_string();
            tell(connection, &MimiNotice::Item { room, item })?;
        }
        Ok(())
    }
}

impl MimiItem {
    pub(super) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_timeline WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The newest, oldest first.
    pub(super) fn newest(connection: &Connection, room: &MimiUri, limit: u32) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_timeline WHERE room = ?1 ORDER BY accepted DESC, n DESC LIMIT ?2";
        let mut items = all(connection, sql, params![room.to_string(), limit], Self::from_row)?;
        items.reverse();
        Ok(items)
    }

    /// The item of a message.
    pub(super) fn of_message(
        connection: &Connection,
        room: &MimiUri,
        id: &MessageId,
    ) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached(
                "SELECT * FROM mimi_timeline WHERE room = ?1 AND message_id = ?2 ORDER BY accepted, n LIMIT 1",
            )?
            .query_row(params![room.to_string(), &id.as_bytes()[..]], |row| {
                Ok(Self::from_row(row))
            })
            .optional()?
            .transpose()
    }

    /// How many there are of a room.
    pub(super) fn count(connection: &Connection, room: &MimiUri) -> Result<u64, StoreError> {
        let count: i64 = connection
            .prepare_cached("SELECT COUNT(*) FROM mimi_timeline WHERE room = ?1")?
            .query_row([room.to_string()], |row| row.get(0))?;
        Ok(to_u64(count))
    }

    /// Whether a ciphertext is there.
    pub(super) fn is_there(connection: &Connection, room: &MimiUri, hash: &[u8]) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_timeline WHERE room = ?1 AND hash = ?2)")?
            .query_row(params![room.to_string(), hash], |row| row.get(0))?)
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_timeline", column);
        let room = uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?;
        let named = |column: &'static str| -> Result<Option<MimiUri>, StoreError> {
            let text: Option<String> = row.get(column)?;
            text.map(|text| uri(&text).ok_or_else(|| bad(column))).transpose()
        };
        let (sender, reason): (_, Option<String>) = (named("sender")?, row.get("reason")?);
        let frank: Option<Vec<u8>> = row.get("frank")?;
        let frank = frank.map(|frank| Frank::from_bytes(&frank).map_err(|_| bad("frank")));
        let data: Option<Vec<u8>> = row.get("data")?;
        let franking: String = row.get("franking")?;
        let body = match (&sender, reason) {
            (_, Some(reason)) => MimiBody::Unreadable(from_json(&reason).ok_or_else(|| bad("reason"))?),
            (None, None) => return Err(bad("sender")),
            (Some(sender), None) => {
                let (media_type, content): (String, Vec<u8>) = (row.get("media_type")?, row.get("content")?);
                if media_type == nabe_content::mimi::MEDIA_TYPE {
                    let origin = Origin::new(&sender.to_string(), &room.to_string()).map_err(|_| bad("sender"))?;
                    MimiBody::Content(Box::new(Received::decode(content, origin).map_err(|_| bad("content"))?))
                } else {
                    MimiBody::Other { media_type, content }
                }
            }
        };
        Ok(Self {
            n: row.get("n")?,
            accepted: millis(row.get("accepted")?),
            client: named("client")?,
            franking: from_json(&franking).ok_or_else(|| bad("franking"))?,
            sent: row.get("sent")?,
            evidence: data.zip(frank.transpose()?),
            room,
            sender,
            body,
        })
    }
}

// --- Key packages ---

/// One of our key packages.
#[derive(Clone, Debug)]
pub(super) struct OwnKeyPackage {
    pub(super) reference: Vec<u8>,
    pub(super) suite: Suite,
    pub(super) body: Vec<u8>,
}

impl OwnKeyPackage {
    pub(super) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_key_packages (reference, suite, body, uploaded) VALUES (?1, ?2, ?3, 0)")?
            .execute(params![self.reference, self.suite.id(), self.body])?;
        Ok(())
    }

    /// All whose private halves are kept.
    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_key_packages", [], Self::from_row)
    }

    /// Those that the provider has perhaps not got.
    pub(super) fn waiting(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_key_packages WHERE uploaded = 0";
        all(connection, sql, [], Self::from_row)
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            reference: row.get("reference")?,
            suite: Suite::from_id(row.get("suite")?).ok_or_else(|| bad("mimi_key_packages", "suite"))?,
            body: row.get("body")?,
        })
    }

    pub(super) fn uploaded(connection: &Connection, reference: &[u8]) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_key_packages SET uploaded = 1 WHERE reference = ?1")?
            .execute([reference])?;
        Ok(())
    }

    pub(super) fn is_ours(connection: &Connection, reference: &[u8]) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_key_packages WHERE reference = ?1)")?
            .query_row([reference], |row| row.get(0))?)
    }

    pub(super) fn delete(connection: &Connection, reference: &[u8]) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_key_packages WHERE reference = ?1")?
            .execute([reference])?;
        Ok(())
    }
}

// --- Notices ---

pub(super) fn tell(connection: &Connection, notice: &MimiNotice) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO mimi_notices (body) VALUES (?1)")?
        .execute([json(notice)])?;
    // Numbers ascend, so this is about how many there are; nobody who reads them is so far behind.
    let last = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM mimi_notices WHERE n <= ?1")?
        .execute([last.saturating_sub(MAX_NOTICES)])?;
    Ok(())
}

pub(super) fn untold(connection: &Connection, limit: u32) -> Result<Vec<(i64, MimiNotice)>, StoreError> {
    let sql = "SELECT n, body FROM mimi_notices ORDER BY n LIMIT ?1";
    all(connection, sql, [limit], |row| {
        let body: String = row.get(1)?;
        Ok((
            row.get(0)?,
            from_json(&body).ok_or_else(|| bad("mimi_notices", "body"))?,
        ))
    })
}

pub(super) fn told(connection: &Connection, up_to: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_notices WHERE n <= ?1")?
        .execute([up_to])?;
    Ok(())
}

// --- The file ---

/// Makes the tables, if they are not there, or changes them into those of this version.
pub(super) fn prepare(store: &mut ClientStore) -> Result<(), StoreError> {
    let found = meta(store.read(), FORMAT)?;
    let found = found.as_deref().map(|found| found.first().copied().unwrap_or_default());
    let is_new = match found {
        Some(KNOWN_FORMAT) => return Ok(()),
        Some(found) if found > KNOWN_FORMAT => {
            return Err(StoreError::Newer {
                found: found.into(),
                known: KNOWN_FORMAT.into(),
            });
        }
        found => found.is_none(),
    };
    store.transaction(|connection| {
        if is_new {
            connection.execute_batch(include_str!("schema.sql"))?;
        }
        connection.execute_batch(include_str!("schema_2.sql"))?;
        for item in all(connection, "SELECT * FROM mimi_timeline", [], MimiItem::from_row)? {
            if let MimiBody::Content(received) = &item.body {
                let id = received.id();
                connection
                    .prepare_cached("UPDATE mimi_timeline SET message_id = ?2 WHERE n = ?1")?
                    .execute(params![item.n, &id.as_bytes()[..]])?;
            }
        }
        set_meta(connection, FORMAT, &[KNOWN_FORMAT])
    })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys only")
}

fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn uri(text: &str) -> Option<MimiUri> {
    MimiUri::parse(text).ok()
}

const fn bad(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Inconsistent { table, column }
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn millis(number: i64) -> UnixMillis {
    UnixMillis(to_u64(number))
}

pub(super) const CLIENT: &str = "mimi.client";
pub(super) const CURSOR: &str = "mimi.cursor";
pub(super) const KEYS: KeyNames = KeyNames {
    suites: "mimi.suites",
    key: "mimi.signature_key.",
};
const FORMAT: &str = "mimi.format";
const KNOWN_FORMAT: u8 = 2;
/// How many entries of later epochs are kept of a room, …
const MAX_HELD: i64 = 2_000;
/// … and after how many bytes no more are. One can have 16 MiB.
const MAX_HELD_BYTES: i64 = 32 * 1024 * 1024;
/// Twice as many as Nabe's hub lets be pending.
const MAX_PENDING: i64 = 2_048;
/// After how many bytes of proposals no more are taken in; they are all read for each commit.
const MAX_PENDING_BYTES: i64 = 32 * 1024 * 1024;
const MAX_NOTICES: i64 = 100_000;
/// How long ciphertexts of ours are known again after their message was seen: 30 days.
const OWN_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
