//! Commits: one transaction, and a savepoint per batch if there are several and one of them is refused.

use std::collections::BTreeSet;

use nabe_store::{Batch, StoreError, Write};
use nabe_types::RoomId;
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use crate::failure::Failure;
use crate::rooms::Append;
use crate::{
    accounts, checkpoints, destinations, devices, frozen, groups, inbox, key_packages, media, mimi, outbox, parked,
    pending, replies, rooms, server_keys,
};

pub(crate) async fn commit(
    writer: &mut SqliteConnection,
    batches: Vec<Batch>,
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    if let [batch] = &*batches {
        return Ok(vec![run(writer, batch, Unit::Transaction).await?]);
    }
    // Nearly always nothing is refused, and nothing has to be undone by itself.
    let mut transaction = Unit::Transaction.begin(writer).await?;
    if apply_all(&mut transaction, &batches).await? {
        transaction.commit().await?;
        return Ok(batches.iter().map(|_| Ok(())).collect());
    }
    transaction.rollback().await?;
    let mut transaction = Unit::Transaction.begin(writer).await?;
    let mut results = Vec::with_capacity(batches.len());
    for batch in &batches {
        results.push(run(&mut transaction, batch, Unit::Savepoint).await?);
    }
    transaction.commit().await?;
    Ok(results)
}

/// What a batch is undone with. Dropped anywhere before its end, either is rolled back.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Transaction,
    Savepoint,
}

impl Unit {
    async fn begin(self, db: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, Failure> {
        Ok(match self {
            Self::Transaction => db.begin_with("BEGIN IMMEDIATE").await?,
            Self::Savepoint => db.begin().await?,
        })
    }
}

/// The inner result is a refusal; anything worse fails the commit.
async fn run(db: &mut SqliteConnection, batch: &Batch, unit: Unit) -> Result<Result<(), StoreError>, Failure> {
    let groups = together(&batch.0);
    if groups.len() < batch.0.len() {
        let mut unit = unit.begin(db).await?;
        if apply_groups(&mut unit, &groups).await? {
            unit.commit().await?;
            return Ok(Ok(()));
        }
        unit.rollback().await?;
    }
    let mut unit = unit.begin(db).await?;
    for write in &batch.0 {
        match apply(&mut unit, write).await {
            Ok(()) => {}
            Err(Failure::Store(refusal)) if refusal.is_refusal() => {
                unit.rollback().await?;
                return Ok(Err(refusal));
            }
            Err(failure) => return Err(failure),
        }
    }
    unit.commit().await?;
    Ok(Ok(()))
}

/// The writes in their order: appends to different rooms that stand next to each other together, and replies; everything else alone.
fn together(writes: &[Write]) -> Vec<&[Write]> {
    let mut groups = Vec::new();
    let mut rest = writes;
    while !rest.is_empty() {
        let mut rooms: BTreeSet<&RoomId> = BTreeSet::new();
        let fitting = rest.iter().take_while(|write| match write {
            Write::Append { room, .. } => rooms.insert(room),
            _ => false,
        });
        let replies = rest.iter().take_while(|write| matches!(write, Write::PutReply { .. }));
        let (group, others) = rest.split_at(fitting.count().max(replies.count()).max(1));
        groups.push(group);
        rest = others;
    }
    groups
}

/// The same for several batches: whether nothing in any of them was refused.
async fn apply_all(db: &mut SqliteConnection, batches: &[Batch]) -> Result<bool, Failure> {
    for batch in batches {
        if !apply_groups(db, &together(&batch.0)).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether nothing was refused. What it does otherwise is to be undone; the writes one by one tell what is refused.
async fn apply_groups(db: &mut SqliteConnection, groups: &[&[Write]]) -> Result<bool, Failure> {
    for group in groups {
        let is_done = match group {
            [write] => match apply(db, write).await {
                Err(Failure::Store(refusal)) if refusal.is_refusal() => false,
                done => done.map(|()| true)?,
            },
            [Write::PutReply { .. }, ..] => {
                replies::put(db, &group.iter().filter_map(reply).collect::<Vec<_>>()).await?;
                true
            }
            _ => rooms::append_together(db, &group.iter().filter_map(append).collect::<Vec<_>>()).await?,
        };
        if !is_done {
            return Ok(false);
        }
    }
    Ok(true)
}

fn append(write: &Write) -> Option<Append<'_>> {
    match write {
        Write::Append {
            room,
            expected,
            entries,
            followers,
            now,
        } => Some(Append {
            room,
            expected: *expected,
            entries,
            followers,
            now: *now,
        }),
        _ => None,
    }
}

const fn reply(write: &Write) -> Option<replies::Kept<'_>> {
    match write {
        Write::PutReply { key, reply, now } => Some((key, reply, *now)),
        _ => None,
    }
}

async fn apply(db: &mut SqliteConnection, write: &Write) -> Result<(), Failure> {
    match write {
        Write::Mimi(write) => mimi::write(db, write).await,
        Write::CreateRoom {
            meta,
            checkpoint,
            outliers,
        } => rooms::create(db, meta, checkpoint.as_ref(), outliers).await,
        Write::Append {
            room,
            expected,
            entries,
            followers,
            now,
        } => {
            let append = Append {
                room,
                expected: *expected,
                entries,
                followers,
                now: *now,
            };
            rooms::append(db, append).await
        }
        Write::Rebase {
            room,
            expected,
            checkpoint,
            outliers,
        } => rooms::rebase(db, room, *expected, checkpoint, outliers).await,
        Write::Prepend {
            room,
            expected_first,
            entries,
        } => rooms::prepend(db, room, *expected_first, entries).await,
        Write::PutCheckpoint { room, checkpoint } => checkpoints::put(db, room, checkpoint).await,
        Write::PutGroupChange { room, change } => groups::put_change(db, room, change).await,
        Write::PutGroup {
            room,
            position,
            checkpoint,
        } => groups::put(db, room, *position, checkpoint).await,
        Write::Prune { room, below } => rooms::prune(db, room, *below).await,
        Write::PutReply { key, reply, now } => replies::put(db, &[(key, reply, *now)]).await,
        Write::ExpireReplies { before } => replies::expire(db, *before).await,
        Write::Enqueue {
            destination,
            item,
            limit,
            now,
        } => outbox::enqueue(db, destination, item, *limit, *now).await,
        Write::Freeze { request } => frozen::freeze(db, request).await,
        Write::Thaw { destination, txn_id } => frozen::thaw(db, destination, txn_id).await,
        Write::Confirm { destination, txn_id } => frozen::confirm(db, destination, txn_id).await,
        Write::Backoff {
            destination,
            failures,
            next_attempt,
            last_error,
        } => destinations::back_off(db, destination, *failures, *next_attempt, last_error).await,
        Write::Park { parked } => parked::park(db, parked).await,
        Write::Unpark { room, event_id } => parked::unpark(db, room, event_id).await,
        Write::PutServerKeys {
            server,
            response,
            fetched_at,
            effective_valid_until,
        } => server_keys::put(db, server, response, *fetched_at, *effective_valid_until).await,
        Write::PutAccount {
            user,
            created_at,
            token_hash,
            device,
        } => accounts::put(db, user, *created_at, token_hash.as_ref(), device.as_ref()).await,
        Write::DeleteAccount { user, now } => accounts::delete(db, user, *now).await,
        Write::RevokeToken { token_hash } => accounts::revoke(db, token_hash).await,
        Write::PutDevice { user, device, now } => accounts::put(db, user, *now, None, Some(device)).await,
        Write::PutDeviceObject {
            user,
            device,
            object,
            forget_key_packages,
            now,
        } => devices::put_object(db, user, device, object, *forget_key_packages, *now).await,
        Write::RemoveDevice { user, device } => devices::remove(db, user, device).await,
        Write::PutRemoteDevice { device } => devices::put_remote(db, device).await,
        Write::RemoveRemoteDevice { user, device } => devices::remove_remote(db, user, device).await,
        Write::ExpireRemoteDevices { before } => devices::expire_remote(db, *before).await,
        Write::ExpireKeyPackages { now } => key_packages::expire(db, *now).await,
        Write::Inbox {
            user,
            device,
            kind,
            body,
            now,
        } => inbox::add(db, user, device.as_ref(), *kind, None, body, *now).await,
        Write::Notice {
            user,
            device,
            kind,
            subject,
            body,
            now,
        } => inbox::add(db, user, device.as_ref(), *kind, Some(subject), body, *now).await,
        Write::TrimInbox { user, up_to } => inbox::trim(db, user, *up_to).await,
        Write::PutPending { pending } => pending::put(db, pending).await,
        Write::RemovePending { user, room } => pending::remove(db, user, room).await,
        Write::PutUpload {
            user,
            hash,
            size,
            now,
            limits,
        } => media::put_upload(db, user, hash, *size, *now, *limits).await,
        Write::RemoveUpload { user, hash } => media::remove_upload(db, user, hash).await,
        Write::PutCachedMedia {
            server,
            media_id,
            hash,
            size,
            now,
        } => media::put_cached(db, (server, media_id), hash, *size, *now).await,
        Write::ForgetMedia { hash } => media::forget(db, hash).await,
    }
}
