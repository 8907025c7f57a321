//! Commits: one transaction, a savepoint per batch.

use nabe_store::{Batch, StoreError, Write};
use sqlx::{Connection, SqliteConnection};

use crate::failure::Failure;
use crate::{accounts, checkpoints, destinations, frozen, inbox, outbox, parked, pending, replies, rooms, server_keys};

pub(crate) async fn commit(
    writer: &mut SqliteConnection,
    batches: Vec<Batch>,
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    // Dropped anywhere before its end, a transaction is rolled back.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut results = Vec::with_capacity(batches.len());
    for batch in batches {
        results.push(run(&mut transaction, batch).await?);
    }
    transaction.commit().await?;
    Ok(results)
}

/// The inner result is a refusal; anything worse fails the commit.
async fn run(transaction: &mut SqliteConnection, batch: Batch) -> Result<Result<(), StoreError>, Failure> {
    let mut savepoint = transaction.begin().await?;
    for write in batch.0 {
        match apply(&mut savepoint, write).await {
            Ok(()) => {}
            Err(Failure::Store(refusal)) if refusal.is_refusal() => {
                savepoint.rollback().await?;
                return Ok(Err(refusal));
            }
            Err(failure) => return Err(failure),
        }
    }
    savepoint.commit().await?;
    Ok(Ok(()))
}

async fn apply(db: &mut SqliteConnection, write: Write) -> Result<(), Failure> {
    match write {
        Write::CreateRoom {
            meta,
            checkpoint,
            outliers,
        } => rooms::create(db, &meta, checkpoint, &outliers).await,
        Write::Append {
            room,
            expected,
            entries,
            followers,
            now,
        } => rooms::append(db, &room, expected, &entries, followers, now).await,
        Write::Rebase {
            room,
            expected,
            checkpoint,
            outliers,
        } => rooms::rebase(db, &room, expected, &checkpoint, &outliers).await,
        Write::Prepend {
            room,
            expected_first,
            entries,
        } => rooms::prepend(db, &room, expected_first, &entries).await,
        Write::PutCheckpoint { room, checkpoint } => checkpoints::put(db, &room, &checkpoint).await,
        Write::Prune { room, below } => rooms::prune(db, &room, below).await,
        Write::PutReply { key, reply, now } => replies::put(db, &key, &reply, now).await,
        Write::ExpireReplies { before } => replies::expire(db, before).await,
        Write::Enqueue {
            destination,
            item,
            limit,
            now,
        } => outbox::enqueue(db, &destination, &item, limit, now).await,
        Write::Freeze { request } => frozen::freeze(db, &request).await,
        Write::Thaw { destination, txn_id } => frozen::thaw(db, &destination, &txn_id).await,
        Write::Confirm {
            destination,
            txn_id,
            now: _,
        } => frozen::confirm(db, &destination, &txn_id).await,
        Write::Backoff {
            destination,
            failures,
            next_attempt,
            last_error,
        } => destinations::back_off(db, &destination, failures, next_attempt, &last_error).await,
        Write::Park { parked } => parked::park(db, &parked).await,
        Write::Unpark { room, event_id } => parked::unpark(db, &room, &event_id).await,
        Write::PutServerKeys {
            server,
            response,
            fetched_at,
            effective_valid_until,
        } => server_keys::put(db, &server, &response, fetched_at, effective_valid_until).await,
        Write::PutAccount {
            user,
            created_at,
            token_hash,
            device,
        } => accounts::put(db, &user, created_at, token_hash.as_ref(), device.as_ref()).await,
        Write::RevokeToken { token_hash } => accounts::revoke(db, &token_hash).await,
        Write::PutDevice { user, device, now } => accounts::put(db, &user, now, None, Some(&device)).await,
        Write::Inbox {
            user,
            device,
            kind,
            body,
            now,
        } => inbox::add(db, &user, device.as_ref(), kind, &body, now).await,
        Write::TrimInbox { user, up_to } => inbox::trim(db, &user, up_to).await,
        Write::PutPending { pending } => pending::put(db, &pending).await,
        Write::RemovePending { user, room } => pending::remove(db, &user, &room).await,
    }
}
