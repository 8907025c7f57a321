//! What was said in rooms.

use nabe_content::mimi::{MessageId, Origin, Received, Remains};
use nabe_types::UnixMillis;
use nabe_wire::franking::Frank;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{all, bad, from_json, json, millis, tell, to_u64, uri};
use crate::error::StoreError;
use crate::mimi::hear::{Franking, Unreadable};
use crate::mimi::notice::MimiNotice;

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
    /// When the user read it, as far as this client knows; what they sent themselves they have read.
    pub read_at: Option<UnixMillis>,
}

/// What an item of a timeline holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MimiBody {
    /// A message.
    Content(Box<Received>),
    /// A message that has expired, and what is left of it: its ID, and what it referred to.
    Expired(Box<Received>),
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
pub(crate) struct NewItem<'a> {
    pub(crate) room: &'a MimiUri,
    pub(crate) hash: &'a [u8],
    pub(crate) accepted: UnixMillis,
    pub(crate) sender: Option<&'a MimiUri>,
    pub(crate) client: Option<&'a MimiUri>,
    /// Media type, content, and what was encrypted.
    pub(crate) content: Result<(&'a str, &'a [u8], &'a [u8]), &'a Unreadable>,
    /// Of MIMI content.
    pub(crate) message_id: Option<MessageId>,
    pub(crate) frank: Option<&'a Frank>,
    pub(crate) franking: &'a Franking,
    pub(crate) sent: bool,
    /// When its user read it, if that is known.
    pub(crate) read_at: Option<UnixMillis>,
}

impl NewItem<'_> {
    /// Puts it there and tells the user, unless it is there already. Its number, if it was not.
    pub(crate) fn put(&self, connection: &Connection) -> Result<Option<i64>, StoreError> {
        let item = self.keep(connection)?;
        if let Some(item) = item {
            let room = self.room.to_string();
            tell(connection, &MimiNotice::Item { room, item })?;
        }
        Ok(item)
    }

    /// Puts it there and tells nobody.
    pub(crate) fn keep(&self, connection: &Connection) -> Result<Option<i64>, StoreError> {
        let (content, reason) = match self.content {
            Ok(content) => (Some(content), None),
            Err(reason) => (None, Some(json(reason))),
        };
        Ok(connection
            .prepare_cached(
                "INSERT INTO mimi_timeline (room, hash, accepted, sender, client, media_type, content, data, reason, \
                 frank, franking, sent, message_id, read_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
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
                    self.read_at.map(UnixMillis::as_i64),
                ],
                |row| row.get(0),
            )
            .optional()?)
    }
}

impl MimiItem {
    pub(crate) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_timeline WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The newest, oldest first.
    pub(crate) fn newest(connection: &Connection, room: &MimiUri, limit: u32) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_timeline WHERE room = ?1 ORDER BY accepted DESC, n DESC LIMIT ?2";
        let mut items = all(connection, sql, params![room.to_string(), limit], Self::from_row)?;
        items.reverse();
        Ok(items)
    }

    /// The item of a message.
    pub(crate) fn of_message(
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

    /// Whether a message has come, whatever became of it.
    pub(crate) fn has_come(connection: &Connection, room: &MimiUri, id: &MessageId) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_timeline WHERE room = ?1 AND message_id = ?2)")?
            .query_row(params![room.to_string(), &id.as_bytes()[..]], |row| row.get(0))?)
    }

    /// How many there are of a room.
    pub(crate) fn count(connection: &Connection, room: &MimiUri) -> Result<u64, StoreError> {
        let count: i64 = connection
            .prepare_cached("SELECT COUNT(*) FROM mimi_timeline WHERE room = ?1")?
            .query_row([room.to_string()], |row| row.get(0))?;
        Ok(to_u64(count))
    }

    /// Whether a ciphertext is there.
    pub(crate) fn is_there(connection: &Connection, room: &MimiUri, hash: &[u8]) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_timeline WHERE room = ?1 AND hash = ?2)")?
            .query_row(params![room.to_string(), hash], |row| row.get(0))?)
    }

    /// Items that are older than the column of their messages' IDs.
    pub(crate) fn note_message_ids(connection: &Connection) -> Result<(), StoreError> {
        for item in all(connection, "SELECT * FROM mimi_timeline", [], Self::from_row)? {
            if let MimiBody::Content(received) = &item.body {
                let id = received.id();
                connection
                    .prepare_cached("UPDATE mimi_timeline SET message_id = ?2 WHERE n = ?1")?
                    .execute(params![item.n, &id.as_bytes()[..]])?;
            }
        }
        Ok(())
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
                let former: Option<Vec<u8>> = row.get("expired")?;
                if media_type != nabe_content::mimi::MEDIA_TYPE {
                    MimiBody::Other { media_type, content }
                } else {
                    let origin = Origin::new(&sender.to_string(), &room.to_string()).map_err(|_| bad("sender"))?;
                    match former {
                        None => {
                            MimiBody::Content(Box::new(Received::decode(content, origin).map_err(|_| bad("content"))?))
                        }
                        Some(former) => {
                            let remains = Remains {
                                id: message_id(row.get("message_id")?).ok_or_else(|| bad("message_id"))?,
                                former: message_id(former).ok_or_else(|| bad("expired"))?,
                                outline: content,
                            };
                            let left = Received::of_remains(&remains, origin).map_err(|_| bad("content"))?;
                            MimiBody::Expired(Box::new(left))
                        }
                    }
                }
            }
        };
        Ok(Self {
            n: row.get("n")?,
            accepted: millis(row.get("accepted")?),
            client: named("client")?,
            franking: from_json(&franking).ok_or_else(|| bad("franking"))?,
            sent: row.get("sent")?,
            read_at: row.get::<_, Option<i64>>("read_at")?.map(millis),
            evidence: data.zip(frank.transpose()?),
            room,
            sender,
            body,
        })
    }
}

fn message_id(bytes: Vec<u8>) -> Option<MessageId> {
    MessageId::from_bytes(bytes.try_into().ok()?).ok()
}
