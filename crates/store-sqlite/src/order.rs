//! Tables of what decides on the order of local logs: `forwarded` and `waiting_messages`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use nabe_core::mimi::MimiUri;
use nabe_store::{
    Forwarded, LocalOrder, MimiOrderStore, MimiOrderWrite, NewLocalMessage, OpenForward, OpenOfUser, StoreError,
    WaitingMessage,
};
use nabe_types::{LogPosition, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, SqliteConnection};

use crate::failure::Failure;
use crate::fields::{Fields, millis, number_array, rows};
use crate::mimi::uri;
use crate::{SqliteStore, local, read, snapshot};

pub(crate) async fn write(db: &mut SqliteConnection, write: &MimiOrderWrite) -> Result<(), Failure> {
    match write {
        MimiOrderWrite::Forward { forwarded } => forward(db, forwarded).await,
        MimiOrderWrite::PutOff {
            room,
            request,
            failures,
            next_attempt,
        } => put_off(db, room, request, *failures, *next_attempt).await,
        MimiOrderWrite::End { room, request } => end(db, room, request).await,
        MimiOrderWrite::Wait {
            room,
            hub,
            message,
            kind,
            epoch,
            now,
        } => {
            let (room_no, _) = local::room_to_write_to(db, room, hub).await?;
            wait(db, room_no, message, &kind.to_string(), *epoch, *now).await?;
            local::mark(db, room_no, message.marks.iter(), *now).await
        }
        MimiOrderWrite::EndWaits { numbers } => end_waits(db, numbers).await,
        MimiOrderWrite::SetEpoch { room, epoch } => set_epoch(db, room, *epoch).await,
        MimiOrderWrite::Open { room, hub, user, from } => {
            let (room_no, _) = local::room_to_write_to(db, room, hub).await?;
            local::begin(db, room_no, user, *from).await
        }
    }
}

/// An epoch as the database keeps it.
fn epoch_of(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

async fn forward(db: &mut SqliteConnection, forwarded: &Forwarded) -> Result<(), Failure> {
    sqlx::query(
        "-- order: forward
         INSERT INTO forwarded (room_uri, request, hub, user_uri, endpoint, kind, epoch, message_sha256, joins_from,
                                body, sent_at, failures, next_attempt)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room_uri, request) DO NOTHING",
    )
    .bind(forwarded.room.to_string())
    .bind(&forwarded.request[..])
    .bind(forwarded.hub.as_str())
    .bind(forwarded.user.to_string())
    .bind(&forwarded.endpoint)
    .bind(forwarded.kind.to_string())
    .bind(epoch_of(forwarded.epoch))
    .bind(&forwarded.message[..])
    .bind(forwarded.joins_from.map(LogPosition::as_i64))
    .bind(&forwarded.body[..])
    .bind(millis(forwarded.sent_at))
    .bind(i64::from(forwarded.failures))
    .bind(millis(forwarded.next_attempt))
    .execute(db)
    .await?;
    Ok(())
}

async fn put_off(
    db: &mut SqliteConnection,
    room: &MimiUri,
    request: &[u8; 32],
    failures: u32,
    next_attempt: UnixMillis,
) -> Result<(), Failure> {
    sqlx::query(
        "-- order: put off
         UPDATE forwarded SET failures = ?, next_attempt = ? WHERE room_uri = ? AND request = ?",
    )
    .bind(i64::from(failures))
    .bind(millis(next_attempt))
    .bind(room.to_string())
    .bind(&request[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn end(db: &mut SqliteConnection, room: &MimiUri, request: &[u8; 32]) -> Result<(), Failure> {
    sqlx::query(
        "-- order: end
         DELETE FROM forwarded WHERE room_uri = ? AND request = ?",
    )
    .bind(room.to_string())
    .bind(&request[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn wait(
    db: &mut SqliteConnection,
    room_no: i64,
    message: &NewLocalMessage,
    kind: &str,
    epoch: u64,
    now: UnixMillis,
) -> Result<(), Failure> {
    sqlx::query(
        "-- order: wait
         INSERT INTO waiting_messages (room_no, epoch, kind, accepted, since, body) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(room_no)
    .bind(epoch_of(epoch))
    .bind(kind)
    .bind(millis(message.accepted))
    .bind(millis(now))
    .bind(&message.body[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn end_waits(db: &mut SqliteConnection, numbers: &[i64]) -> Result<(), Failure> {
    sqlx::query(
        "-- order: end waits
         DELETE FROM waiting_messages WHERE waiting_no IN (SELECT value FROM json_each(?))",
    )
    .bind(number_array(numbers.iter().copied()))
    .execute(db)
    .await?;
    Ok(())
}

async fn set_epoch(db: &mut SqliteConnection, room: &MimiUri, epoch: Option<u64>) -> Result<(), Failure> {
    sqlx::query(
        "-- order: set epoch
         UPDATE local_rooms SET epoch = ? WHERE uri = ?",
    )
    .bind(epoch.map(epoch_of))
    .bind(room.to_string())
    .execute(db)
    .await?;
    Ok(())
}

fn open_forward(row: &SqliteRow) -> Result<OpenForward, Failure> {
    let row = Fields::new("forwarded", row);
    Ok(OpenForward {
        room: uri(row, "room_uri")?,
        request: row.hash("request")?,
        hub: row.text("hub")?,
        kind: row.text("kind")?,
        epoch: row.number("epoch")?,
        joins_from: row.position_or_null("joins_from")?,
        next_attempt: row.moment("next_attempt")?,
    })
}

async fn order(db: &mut SqliteConnection, room: &MimiUri) -> Result<LocalOrder, Failure> {
    let open = sqlx::query(
        "-- order: open
         SELECT forward_no AS row_key, room_uri, request, hub, kind, epoch, joins_from, next_attempt
         FROM forwarded WHERE room_uri = ? ORDER BY forward_no",
    )
    .bind(room.to_string())
    .fetch_all(&mut *db)
    .await?;
    let mut order = LocalOrder {
        open: open.iter().map(open_forward).collect::<Result<_, _>>()?,
        ..LocalOrder::default()
    };
    let row = sqlx::query(
        "-- order: room
         SELECT room_no AS row_key, head_position, epoch,
                EXISTS (SELECT 1 FROM local_readers WHERE room_no = local_rooms.room_no) AS has_log
         FROM local_rooms WHERE uri = ?",
    )
    .bind(room.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(order);
    };
    let row = Fields::new("local_rooms", &row);
    let room_no: i64 = row.get("row_key")?;
    order.head = row.position("head_position")?;
    order.has_log = row.get::<i64>("has_log")? != 0;
    let epoch: Option<i64> = row.get("epoch")?;
    order.epoch = epoch
        .map(|epoch| u64::try_from(epoch).map_err(|_| row.bad("epoch")))
        .transpose()?;
    let readers = sqlx::query(
        "-- order: readers
         SELECT rowid AS row_key, user_uri FROM local_readers WHERE room_no = ? AND until_position IS NULL",
    )
    .bind(room_no)
    .fetch_all(&mut *db)
    .await?;
    let reader = |row: &SqliteRow| uri(Fields::new("local_readers", row), "user_uri");
    order.readers = readers.iter().map(reader).collect::<Result<_, _>>()?;
    let waiting = sqlx::query(
        "-- order: waiting
         SELECT waiting_no AS row_key, kind, epoch, accepted, since, body FROM waiting_messages
         WHERE room_no = ? ORDER BY waiting_no",
    )
    .bind(room_no)
    .fetch_all(&mut *db)
    .await?;
    let message = |row: &SqliteRow| {
        let row = Fields::new("waiting_messages", row);
        Ok(WaitingMessage {
            number: row.get("row_key")?,
            kind: row.text("kind")?,
            epoch: row.number("epoch")?,
            accepted: row.moment("accepted")?,
            since: row.moment("since")?,
            body: row.bytes("body")?,
        })
    };
    order.waiting = waiting.iter().map(message).collect::<Result<_, Failure>>()?;
    Ok(order)
}

async fn delivered(
    db: &mut SqliteConnection,
    room: &MimiUri,
    messages: &[[u8; 32]],
) -> Result<BTreeSet<[u8; 32]>, Failure> {
    let mut known = BTreeSet::new();
    for message in messages {
        let found: i64 = sqlx::query_scalar(
            "-- order: delivered
             SELECT EXISTS (
                 SELECT 1 FROM delivered_messages WHERE message_sha256 = ?
                   AND room_no = (SELECT room_no FROM local_rooms WHERE uri = ?)
             )",
        )
        .bind(&message[..])
        .bind(room.to_string())
        .fetch_one(&mut *db)
        .await?;
        if found != 0 {
            known.insert(*message);
        }
    }
    Ok(known)
}

async fn due(db: &mut SqliteConnection, now: UnixMillis, limit: usize) -> Result<Vec<OpenForward>, Failure> {
    let found = sqlx::query(
        "-- order: due
         SELECT forward_no AS row_key, room_uri, request, hub, kind, epoch, joins_from, next_attempt
         FROM forwarded WHERE next_attempt <= ? ORDER BY next_attempt, forward_no LIMIT +?",
    )
    .bind(millis(now))
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(open_forward).collect()
}

async fn next(db: &mut SqliteConnection) -> Result<Option<UnixMillis>, Failure> {
    let row = sqlx::query(
        "-- order: next
         SELECT 0 AS row_key, MIN(next_attempt) AS next_attempt FROM forwarded",
    )
    .fetch_one(db)
    .await?;
    Fields::new("forwarded", &row).moment_or_null("next_attempt")
}

async fn forwarded(
    db: &mut SqliteConnection,
    room: &MimiUri,
    request: &[u8; 32],
) -> Result<Option<Forwarded>, Failure> {
    let found = sqlx::query(
        "-- order: forwarded
         SELECT forward_no AS row_key, hub, user_uri, endpoint, kind, epoch, message_sha256, joins_from, body, sent_at,
                failures, next_attempt
         FROM forwarded WHERE room_uri = ? AND request = ?",
    )
    .bind(room.to_string())
    .bind(&request[..])
    .fetch_optional(db)
    .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let row = Fields::new("forwarded", &row);
    Ok(Some(Forwarded {
        room: room.clone(),
        request: *request,
        hub: row.text("hub")?,
        user: uri(row, "user_uri")?,
        endpoint: row.get("endpoint")?,
        kind: row.text("kind")?,
        epoch: row.number("epoch")?,
        message: row.hash("message_sha256")?,
        joins_from: row.position_or_null("joins_from")?,
        body: row.bytes("body")?,
        sent_at: row.moment("sent_at")?,
        failures: row.number("failures")?,
        next_attempt: row.moment("next_attempt")?,
    }))
}

async fn open_of(db: &mut SqliteConnection, user: &MimiUri) -> Result<OpenOfUser, Failure> {
    let row = sqlx::query(
        "-- order: open of user
         SELECT 0 AS row_key, COUNT(*) AS requests, COALESCE(SUM(length(body)), 0) AS bytes
         FROM forwarded WHERE user_uri = ?",
    )
    .bind(user.to_string())
    .fetch_one(db)
    .await?;
    let row = Fields::new("forwarded", &row);
    Ok(OpenOfUser {
        count: row.number("requests")?,
        bytes: row.number("bytes")?,
    })
}

async fn waiting_since(db: &mut SqliteConnection, before: UnixMillis) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- order: waiting since
         SELECT DISTINCT room_no AS row_key, uri FROM waiting_messages JOIN local_rooms USING (room_no)
         WHERE since <= ? ORDER BY uri",
    )
    .bind(millis(before))
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| uri(Fields::new("local_rooms", row), "uri"))
        .collect()
}

#[async_trait]
impl MimiOrderStore for SqliteStore {
    async fn local_order(&self, room: &MimiUri) -> Result<LocalOrder, StoreError> {
        snapshot!(self, order, room)
    }

    async fn delivered_messages(
        &self,
        room: &MimiUri,
        messages: &[[u8; 32]],
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        snapshot!(self, delivered, room, messages)
    }

    async fn forwards_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<OpenForward>, StoreError> {
        read!(self, due, now, limit)
    }

    async fn next_forward(&self) -> Result<Option<UnixMillis>, StoreError> {
        read!(self, next)
    }

    async fn forwarded(&self, room: &MimiUri, request: &[u8; 32]) -> Result<Option<Forwarded>, StoreError> {
        read!(self, forwarded, room, request)
    }

    async fn open_forwards_of(&self, user: &MimiUri) -> Result<OpenOfUser, StoreError> {
        read!(self, open_of, user)
    }

    async fn rooms_waiting_since(&self, before: UnixMillis) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, waiting_since, before)
    }
}
