//! What was said in rooms.

use std::collections::BTreeSet;

use nabe_content::mimi::{MessageId, Origin, Received, Remains};
use nabe_types::UnixMillis;
use nabe_wire::franking::Frank;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{all, bad, from_json, json, millis, tell, to_i64, to_u64, uri};
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
    /// The ID of the MLS group that it came by, and the index of its sender's leaf (MC #derived-data-values); `None` if it cannot be
    /// read, and of what an earlier version of this client took in.
    pub place: Option<GroupPlace>,
    /// What it holds.
    pub body: MimiBody,
    /// What the hub's stamp on it is worth.
    pub franking: Franking,
    /// Whether this client sent it.
    pub sent: bool,
    /// What a report has to show: all that was encrypted, and the hub's stamp. Items that are listed with others come without it.
    pub evidence: Option<(Vec<u8>, Frank)>,
    /// When the user read it, as far as this client knows; what they sent themselves they have read.
    pub read_at: Option<UnixMillis>,
}

/// Where in which group a message's sender is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupPlace {
    /// The group's ID.
    pub group_id: Vec<u8>,
    /// The index of the leaf.
    pub leaf: u32,
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

/// By what others call a message, and what it refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) id: MessageId,
    former: MessageId,
    replaces: Option<MessageId>,
    in_reply_to: Option<MessageId>,
}

impl Names {
    pub(crate) fn of(received: &Received) -> Self {
        let content = received.content();
        Self {
            id: received.id(),
            former: received.id_by_draft_07(),
            replaces: content.replaces,
            in_reply_to: content.in_reply_to,
        }
    }
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
    pub(crate) names: Option<Names>,
    /// Group and leaf of its sender.
    pub(crate) place: Option<&'a GroupPlace>,
    pub(crate) frank: Option<&'a Frank>,
    pub(crate) franking: &'a Franking,
    pub(crate) sent: bool,
    /// When its user read it, if that is known.
    pub(crate) read_at: Option<UnixMillis>,
    /// Whether it may delete what somebody else said.
    pub(crate) moderates: bool,
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
                 frank, franking, sent, message_id, read_at, former, replaces, in_reply_to, group_id, leaf, moderates) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) \
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
                    bytes(self.names.map(|names| names.id).as_ref()),
                    self.read_at.map(UnixMillis::as_i64),
                    bytes(self.names.map(|names| names.former).as_ref()),
                    bytes(self.names.and_then(|names| names.replaces).as_ref()),
                    bytes(self.names.and_then(|names| names.in_reply_to).as_ref()),
                    self.place.map(|place| &place.group_id[..]),
                    self.place.map(|place| place.leaf),
                    self.moderates,
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
        let sql = format!(
            "SELECT {LISTED} FROM mimi_timeline WHERE room = ?1 ORDER BY accepted DESC, message_id DESC, n DESC LIMIT ?2"
        );
        let mut items = all(connection, &sql, params![room.to_string(), limit], Self::from_row)?;
        items.reverse();
        Ok(items)
    }

    /// The newest that take at most so many bytes together, oldest first.
    pub(crate) fn newest_within(connection: &Connection, room: &MimiUri, bytes: u64) -> Result<Vec<Self>, StoreError> {
        let sql = format!(
            "SELECT {LISTED} FROM mimi_timeline WHERE n IN (SELECT n FROM (SELECT n, SUM({SIZE}) OVER (ORDER BY \
             accepted DESC, message_id DESC, n DESC) AS up_to FROM mimi_timeline WHERE room = ?1) WHERE up_to <= ?2) ORDER BY accepted, message_id, n"
        );
        all(
            connection,
            &sql,
            params![room.to_string(), to_i64(bytes)],
            Self::from_row,
        )
    }

    /// Reads a room's messages one after the other, oldest first, and keeps what `read` makes of each.
    pub(crate) fn each<T>(
        connection: &Connection,
        room: &MimiUri,
        read: impl Fn(Self) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = format!("SELECT {LISTED} FROM mimi_timeline WHERE room = ?1 ORDER BY accepted, message_id, n");
        let kept = all(connection, &sql, [room.to_string()], |row| {
            Ok(read(Self::from_row(row)?))
        })?;
        Ok(kept.into_iter().flatten().collect())
    }

    /// All versions of a message, of which `id` is one, by whomever: what they replace and what replaces them. If they take more than so
    /// many bytes together, the oldest: first those of its author and of who might delete what others said.
    pub(crate) fn versions(
        connection: &Connection,
        room: &MimiUri,
        id: &MessageId,
        bytes: u64,
    ) -> Result<Vec<Self>, StoreError> {
        let sql = format!(
            "{VERSIONS}, \
             author (sender) AS (SELECT sender FROM mimi_timeline WHERE n IN (SELECT version FROM versions) \
             ORDER BY replaces IS NOT NULL, accepted, n LIMIT 1), \
             sized (n, up_to) AS (SELECT n, SUM({SIZE}) OVER (ORDER BY (sender IS (SELECT sender FROM author) OR \
             moderates = 1) DESC, accepted, n) FROM mimi_timeline WHERE n IN (SELECT version FROM versions)) \
             SELECT {LISTED} FROM mimi_timeline WHERE n IN (SELECT n FROM sized WHERE up_to <= ?3) ORDER BY accepted, n"
        );
        all(
            connection,
            &sql,
            params![room.to_string(), &id.as_bytes()[..], to_i64(bytes)],
            Self::from_row,
        )
    }

    /// The messages of a user, edits aside, that answer or react to any version of a message.
    pub(crate) fn answers_of(
        connection: &Connection,
        room: &MimiUri,
        to: &MessageId,
        user: &MimiUri,
    ) -> Result<Vec<MessageId>, StoreError> {
        let sql = format!(
            "{VERSIONS} SELECT message_id FROM mimi_timeline WHERE room = ?1 AND sender = ?3 AND replaces IS NULL AND \
             expired IS NULL AND in_reply_to IN (SELECT message_id FROM versions UNION SELECT former FROM versions) \
             ORDER BY accepted, n"
        );
        let parameters = params![room.to_string(), &to.as_bytes()[..], user.to_string()];
        all(connection, &sql, parameters, |row| {
            message_id(row.get(0)?).ok_or_else(|| bad("mimi_timeline", "message_id"))
        })
    }

    /// Whether a reply to `to` that takes the place of `instead_of` would lead back to itself (MC #message-behavior-fields): whether of the
    /// messages that `to` answers, one after the other, one is a version of the other.
    pub(crate) fn leads_back(
        connection: &Connection,
        room: &MimiUri,
        to: &MessageId,
        instead_of: &MessageId,
    ) -> Result<bool, StoreError> {
        let Some((end, _)) = first_version(connection, room, instead_of)? else {
            return Ok(false);
        };
        let (mut next, mut met) = (Some(*to), BTreeSet::new());
        while let Some(id) = next.take() {
            let Some((n, answers)) = first_version(connection, room, &id)? else {
                break;
            };
            if n == end {
                return Ok(true);
            }
            if met.insert(n) {
                next = answers;
            }
        }
        Ok(false)
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

    /// The messages of a room that may delete what somebody else said.
    pub(crate) fn moderating(connection: &Connection, room: &MimiUri) -> Result<Vec<MessageId>, StoreError> {
        let sql = "SELECT message_id FROM mimi_timeline WHERE room = ?1 AND moderates = 1";
        all(connection, sql, [room.to_string()], |row| {
            message_id(row.get(0)?).ok_or_else(|| bad("mimi_timeline", "message_id"))
        })
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

    /// Items that are older than the columns of what messages are called and refer to.
    pub(crate) fn note_names(connection: &Connection) -> Result<(), StoreError> {
        let numbers: Vec<i64> = all(connection, "SELECT n FROM mimi_timeline", [], |row| Ok(row.get(0)?))?;
        for n in numbers {
            let Some(MimiBody::Content(received) | MimiBody::Expired(received)) =
                Self::load(connection, n)?.map(|item| item.body)
            else {
                continue;
            };
            let names = Names::of(&received);
            // Whatever may expire is looked at.
            let due = received.content().expires.map(|_| 0);
            connection
                .prepare_cached(
                    "UPDATE mimi_timeline SET message_id = ?2, former = ?3, replaces = ?4, in_reply_to = ?5, due = ?6 \
                     WHERE n = ?1",
                )?
                .execute(params![
                    n,
                    bytes(Some(&names.id)),
                    bytes(Some(&names.former)),
                    bytes(names.replaces.as_ref()),
                    bytes(names.in_reply_to.as_ref()),
                    due
                ])?;
        }
        Ok(())
    }

    /// What the user sent, from whichever client, they have read: items that were taken in by a version that did not know.
    pub(crate) fn note_own_read(connection: &Connection, user: &MimiUri) -> Result<(), StoreError> {
        let sql = "UPDATE mimi_timeline SET read_at = accepted, due = 0 WHERE sender = ?1 AND read_at IS NULL AND \
                   message_id IS NOT NULL AND expired IS NULL";
        connection.prepare_cached(sql)?.execute([user.to_string()])?;
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
            place: match (row.get("group_id")?, row.get("leaf")?) {
                (Some(group_id), Some(leaf)) => Some(GroupPlace { group_id, leaf }),
                _ => None,
            },
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

/// The row of the first version of a message that is here, and what it answers. An edit leads to what it replaces.
fn first_version(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
) -> Result<Option<(i64, Option<MessageId>)>, StoreError> {
    let mut found = None;
    let mut next = Some(id.as_bytes().to_vec());
    while let Some(id) = next.take() {
        let row = connection
            .prepare_cached(
                "SELECT n, replaces, in_reply_to FROM mimi_timeline WHERE room = ?1 AND (message_id = ?2 OR former = ?2) \
                 ORDER BY message_id = ?2 DESC, accepted, n LIMIT 1",
            )?
            .query_row(params![room.to_string(), id], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<Vec<u8>>>(2)?)))
            .optional()?;
        // A message cannot name one that names it: an ID is a hash.
        if let Some((n, replaces, answers)) = row {
            found = Some((n, answers.and_then(message_id)));
            next = replaces;
        }
    }
    Ok(found)
}

fn bytes(id: Option<&MessageId>) -> Option<&[u8]> {
    id.map(|id| &id.as_bytes()[..])
}

/// The versions of message `?2` of room `?1`.
const VERSIONS: &str = "WITH RECURSIVE versions (version, message_id, former, replaces) AS ( \
     SELECT n, message_id, former, replaces FROM mimi_timeline \
     WHERE room = ?1 AND (message_id = ?2 OR former = ?2) UNION \
     SELECT t.n, t.message_id, t.former, t.replaces FROM versions v JOIN mimi_timeline t ON t.room = ?1 AND \
     (t.message_id = v.replaces OR t.former = v.replaces OR t.replaces = v.message_id OR t.replaces = v.former))";

/// How many bytes an item takes, about.
const SIZE: &str = "COALESCE(LENGTH(content), 0) + 1024";

/// All that an item has but for what reports have to show, which takes as much room again.
const LISTED: &str = "n, room, accepted, sender, client, media_type, content, NULL AS data, reason, NULL AS frank, \
                      franking, sent, message_id, read_at, expired, group_id, leaf";

fn message_id(bytes: Vec<u8>) -> Option<MessageId> {
    MessageId::from_bytes(bytes.try_into().ok()?).ok()
}
