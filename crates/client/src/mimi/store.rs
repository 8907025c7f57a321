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
    pub(super) tend_due: Option<UnixMillis>,
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
            tend_due: None,
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
                "INSERT INTO mimi_rooms (room, group_id, status, reason, first_epoch, tend_due) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (room) DO UPDATE SET group_id = ?2, status = ?3, \
                 reason = ?4, first_epoch = ?5, tend_due = ?6",
            )?
            .execute(params![
                self.room.to_string(),
                self.group_id,
                status,
                self.reason,
                self.first_epoch.map(to_i64),
                self.tend_due.map(UnixMillis::as_i64),
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
            tend_due: row.get::<_, Option<i64>>("tend_due")?.map(millis),
        })
    }
}

// --- Proposals that are pending ---

/// Notes a proposal of the current epoch; false if it is noted already.
pub(super) fn note_pending(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<bool, StoreError> {
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

    /// The message that a ciphertext of ours is of, and what was encrypted.
    pub(super) fn of_ciphertext(connection: &Connection, hash: &[u8]) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        Ok(connection
            .prepare_cached("SELECT n, data FROM mimi_own WHERE hash = ?1")?
            .query_row([hash], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    pub(super) fn encrypted(
        connection: &Connection,
        n: i64,
        message: &[u8],
        data: &[u8],
        hash: &[u8],
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_outbox SET message = ?2 WHERE n = ?1")?
            .execute(params![n, message])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO mimi_own (hash, n, data) VALUES (?1, ?2, ?3)")?
            .execute(params![hash, n, data])?;
        Ok(())
    }

    /// It has to be encrypted again, in another epoch.
    pub(super) fn again(connection: &Connection, n: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_outbox SET message = NULL WHERE n = ?1")?
            .execute([n])?;
        Ok(())
    }

    pub(super) fn delete(connection: &Connection, n: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_outbox WHERE n = ?1")?
            .execute([n])?;
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
                 frank, franking, sent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
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

    /// Those that the provider has perhaps not got.
    pub(super) fn waiting(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_key_packages WHERE uploaded = 0";
        all(connection, sql, [], |row| {
            Ok(Self {
                reference: row.get("reference")?,
                suite: Suite::from_id(row.get("suite")?).ok_or_else(|| bad("mimi_key_packages", "suite"))?,
                body: row.get("body")?,
            })
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

/// Makes the tables, if they are not there.
pub(super) fn prepare(store: &mut ClientStore) -> Result<(), StoreError> {
    let found = meta(store.read(), FORMAT)?;
    match found.as_deref() {
        None => store.transaction(|connection| {
            connection.execute_batch(include_str!("schema.sql"))?;
            set_meta(connection, FORMAT, KNOWN_FORMAT)
        }),
        Some(found) if found == KNOWN_FORMAT => Ok(()),
        Some(found) => Err(StoreError::Newer {
            found: found.first().copied().unwrap_or_default().into(),
            known: KNOWN_FORMAT[0].into(),
        }),
    }
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
const KNOWN_FORMAT: &[u8] = &[1];
