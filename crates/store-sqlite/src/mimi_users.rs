//! What is kept of MIMI for local users, over the files of its tables: [`crate::local`], [`crate::mimi_key_packages`] and
//! [`crate::consents`].

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::{
    ClaimedMimiKeyPackage, ConsentScope, ConsentState, GrantedKeyPackage, IssuedKeyPackage, KeptConsent,
    KeyPackageKept, LocalMessage, LocalRoom, MimiKeyPackage, MimiKeyPackageClaim, MimiKeyPackageOffer, MimiUserStore,
    MimiUserWrite, ProfileEntry, ReadableRoom, ShownJoinCode, StoreError,
};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use sqlx::{Connection, SqliteConnection};

use crate::failure::Failure;
use crate::local::Delivery;
use crate::{SqliteStore, consents, local, mimi_key_packages, order, profiles, read, snapshot};

pub(crate) async fn write(db: &mut SqliteConnection, write: &MimiUserWrite) -> Result<(), Failure> {
    match write {
        MimiUserWrite::Deliver {
            room,
            hub,
            messages,
            readers,
            leavers,
            once,
            now,
        } => {
            let delivery = Delivery {
                room,
                hub,
                messages,
                readers,
                leavers,
                once: once.as_ref(),
                now: *now,
            };
            local::deliver(db, delivery).await
        }
        MimiUserWrite::Order(write) => order::write(db, write).await,
        MimiUserWrite::ForgetDelivered { before } => local::forget_delivered(db, *before).await,
        MimiUserWrite::ForgetLocalMessages { before, limit } => local::forget_messages(db, *before, *limit).await,
        MimiUserWrite::ShowJoinCode { shown } => local::show_join_code(db, shown).await,
        MimiUserWrite::ExpireJoinCodes { now } => local::expire_join_codes(db, *now).await,
        MimiUserWrite::RemoveClient { client } => mimi_key_packages::remove_client(db, client).await,
        MimiUserWrite::RemoveUser { user } => remove_user(db, user).await,
        MimiUserWrite::ExpireKeyPackages { now } => mimi_key_packages::expire(db, *now).await,
        MimiUserWrite::PutProfile {
            user,
            entries,
            instead_of,
        } => profiles::put(db, user, entries, instead_of.as_deref()).await,
        MimiUserWrite::RequestConsent { scope, from, now } => consents::request(db, scope, from.as_ref(), *now).await,
        MimiUserWrite::CancelConsent { scope } => consents::cancel(db, scope).await,
        MimiUserWrite::DecideConsent {
            scope,
            decision,
            key_packages,
            from,
            now,
        } => consents::decide(db, scope, *decision, key_packages, from.as_ref(), *now).await,
    }
}

/// With the clients go their key packages.
async fn remove_user(db: &mut SqliteConnection, user: &MimiUri) -> Result<(), Failure> {
    for sql in [
        "-- mimi user: remove clients
         DELETE FROM mimi_clients WHERE user_uri = ?1",
        "-- mimi user: remove profile
         DELETE FROM profile_entries WHERE user_uri = ?1",
        "-- mimi user: remove consent of theirs
         DELETE FROM consents WHERE target = ?1",
        "-- mimi user: remove consent for them
         DELETE FROM consents WHERE requester = ?1",
        "-- mimi user: remove what came for them
         DELETE FROM granted_key_packages WHERE requester = ?1",
        "-- mimi user: remove what came of them
         DELETE FROM granted_key_packages WHERE target = ?1",
        "-- mimi user: end reading
         UPDATE local_readers
         SET until_position = (SELECT head_position FROM local_rooms WHERE local_rooms.room_no = local_readers.room_no)
         WHERE user_uri = ?1 AND until_position IS NULL",
    ] {
        sqlx::query(sql).bind(user.to_string()).execute(&mut *db).await?;
    }
    Ok(())
}

#[async_trait]
impl MimiUserStore for SqliteStore {
    async fn local_room(&self, room: &MimiUri) -> Result<Option<LocalRoom>, StoreError> {
        read!(self, local::room, room)
    }

    async fn was_delivered(&self, hub: &ServerName, room: &MimiUri, once: &[u8; 32]) -> Result<bool, StoreError> {
        read!(self, local::was_delivered, hub, room, once)
    }

    async fn messages_readable_by(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        read!(self, local::messages_readable_by, user, room, after, limit, max_bytes)
    }

    async fn local_messages(
        &self,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        read!(self, local::messages, room, after, limit, max_bytes)
    }

    async fn rooms_readable_by(&self, user: &MimiUri) -> Result<Vec<ReadableRoom>, StoreError> {
        read!(self, local::readable_by, user)
    }

    async fn readable_room(&self, user: &MimiUri, room: &MimiUri) -> Result<Option<ReadableRoom>, StoreError> {
        read!(self, local::readable_room, user, room)
    }

    async fn shown_join_code(
        &self,
        room: &MimiUri,
        user: &MimiUri,
        signature_key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<ShownJoinCode>, StoreError> {
        read!(self, local::shown_join_code, room, user, signature_key, now)
    }

    async fn add_mimi_key_packages(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        packages: &[MimiKeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(mimi_key_packages::add(writer, user, client, packages, now).await?)
    }

    async fn mimi_clients(&self, user: &MimiUri) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, mimi_key_packages::clients, user)
    }

    async fn mimi_key_package_offers(
        &self,
        user: &MimiUri,
        usable_at: UnixMillis,
    ) -> Result<Vec<MimiKeyPackageOffer>, StoreError> {
        read!(self, mimi_key_packages::offers, user, usable_at)
    }

    async fn claim_mimi_key_packages(
        &self,
        claims: &[MimiKeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(mimi_key_packages::claim(writer, claims, usable_at).await?)
    }

    async fn issued_key_packages(
        &self,
        references: &[Bytes],
        hub: &ServerName,
        room: &MimiUri,
    ) -> Result<Vec<IssuedKeyPackage>, StoreError> {
        snapshot!(self, mimi_key_packages::issued, references, hub, room)
    }

    async fn profile(&self, user: &MimiUri) -> Result<Vec<ProfileEntry>, StoreError> {
        read!(self, profiles::of_user, user)
    }

    async fn users_by_value(&self, value: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, profiles::by_value, value, limit)
    }

    async fn users_by_nick(&self, nick: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, profiles::by_nick, nick, limit)
    }

    async fn users_by_part(&self, part: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, profiles::by_part, part, limit)
    }

    async fn consent(&self, scope: &ConsentScope) -> Result<ConsentState, StoreError> {
        read!(self, consents::state, scope)
    }

    async fn consents_of(&self, user: &MimiUri, after: i64, limit: usize) -> Result<Vec<KeptConsent>, StoreError> {
        read!(self, consents::of_user, user, after, limit)
    }

    async fn granted_key_packages(
        &self,
        scope: &ConsentScope,
        usable_at: UnixMillis,
    ) -> Result<Vec<GrantedKeyPackage>, StoreError> {
        read!(self, consents::granted, scope, usable_at)
    }

    async fn take_granted_key_packages(&self, references: &[Bytes]) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(consents::take_granted(writer, references).await?)
    }
}
