//! What is kept of MIMI for the users of this provider, wherever the hub is: what hubs notified of, as a log per room that clients read
//! (MIMI #fanout-messages-and-room-events), key packages to be handed out once (MIMI #fetch-key-material), and who has consented to
//! what (MIMI #consent).
//!
//! A provider that is the hub itself writes into the same logs what is for its own users, so that clients read in one place.

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_types::{LogPosition, ServerName, UnixMillis};

use crate::error::StoreError;
use crate::mimi_order::MimiOrderWrite;
use crate::model::KeyPackageKept;

/// A message for local users, as it goes into a room's local log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewLocalMessage {
    /// When the hub accepted it.
    pub accepted: UnixMillis,
    /// The `FanoutMessage`, byte for byte.
    pub body: Bytes,
    /// SHA-256 of each `MLSMessage` in it, by which it is known if it comes again; empty if that cannot be.
    pub marks: Vec<[u8; 32]>,
    /// Readers of the room who do not get it.
    pub withheld_from: Vec<MimiUri>,
}

/// A message in a room's local log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalMessage {
    /// Its place, counted from 1 in each room; another one than at the hub.
    pub position: LogPosition,
    /// When the hub accepted it.
    pub accepted: UnixMillis,
    /// When it came.
    pub received: UnixMillis,
    /// The `FanoutMessage`, byte for byte.
    pub body: Bytes,
}

/// A room that has a local log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalRoom {
    /// The room.
    pub room: MimiUri,
    /// Who sends what is in it; our own name if that is us.
    pub hub: ServerName,
    /// The position of the newest message.
    pub head: LogPosition,
}

/// A room that a local user may read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadableRoom {
    /// The room.
    pub room: LocalRoom,
    /// The position of the first message the user may read.
    pub from: LogPosition,
    /// The position of the last one; `None` while more will come.
    pub until: Option<LogPosition>,
}

/// Somebody asked for the GroupInfo with a join code; the commit that follows has no place for it (MIMI
/// #claim-group-key-information).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownJoinCode {
    /// The room.
    pub room: MimiUri,
    /// Who showed it.
    pub user: MimiUri,
    /// The signature key of the client that did.
    pub signature_key: Bytes,
    /// The code.
    pub code: Bytes,
    /// Until when it is remembered.
    pub expires_at: UnixMillis,
}

/// A key package that a local user's client offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiKeyPackage {
    /// Its KeyPackageRef, by which it is never kept twice and a Welcome finds its client.
    pub reference: Bytes,
    /// Code point of its cipher suite.
    pub suite: u16,
    /// What its client can do, in any encoding; to a store these are bytes that are equal or not.
    pub capabilities: Bytes,
    /// The bare `KeyPackage`, byte for byte.
    pub body: Bytes,
    /// When it expires.
    pub not_after: UnixMillis,
    /// Whether it may be handed out more than once. A client has one of these for each suite; a new one replaces it.
    pub last_resort: bool,
}

/// Key packages of one kind that a client has on offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiKeyPackageOffer {
    /// The client.
    pub client: MimiUri,
    /// Code point of the cipher suite.
    pub suite: u16,
    /// [`MimiKeyPackage::capabilities`].
    pub capabilities: Bytes,
    /// How many there are, without the last-resort one.
    pub left: u64,
    /// Whether there is a last-resort one.
    pub has_last_resort: bool,
}

/// A key package of a client asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiKeyPackageClaim {
    /// The client.
    pub client: MimiUri,
    /// Which kinds will do, by suite and capabilities, the best first.
    pub kinds: Vec<(u16, Bytes)>,
    /// Whether a last-resort package will do when there is no other.
    pub last_resort: bool,
    /// What it is handed out for.
    pub for_use: KeyPackageUse,
}

/// What a key package is handed out for: a single room (MIMI #fetch-key-material). A Welcome of another hub, or for another room, is not
/// what it was for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackageUse {
    /// The room's hub.
    pub hub: ServerName,
    /// The room; `None` for any of the hub's.
    pub room: Option<MimiUri>,
}

/// A key package handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimedMimiKeyPackage {
    /// Its KeyPackageRef.
    pub reference: Bytes,
    /// The package, byte for byte.
    pub body: Bytes,
    /// Whether it is a last-resort package, which stays.
    pub last_resort: bool,
}

/// Whose key package it is, for a Welcome that names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuedKeyPackage {
    /// Its KeyPackageRef.
    pub reference: Bytes,
    /// Whose.
    pub user: MimiUri,
    /// For which client.
    pub client: MimiUri,
}

/// `ConsentScope`: who may fetch whose key packages, and for which room (MIMI #convey-explicit-consent).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ConsentScope {
    /// Who wants key packages.
    pub requester: MimiUri,
    /// Whose.
    pub target: MimiUri,
    /// For which room; `None` for any.
    pub room: Option<MimiUri>,
}

/// What a target decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsentDecision {
    /// The requester may.
    Granted,
    /// The requester may not, be it any more or in the first place.
    Revoked,
}

/// What is known about consent in one scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptConsent {
    /// The order in which scopes came to be known.
    pub number: i64,
    /// The scope.
    pub scope: ConsentScope,
    /// When the requester asked; `None` if they did not, took it back, or were answered since.
    pub requested_at: Option<UnixMillis>,
    /// What the target decided last, and when.
    pub decision: Option<(ConsentDecision, UnixMillis)>,
}

/// What counts for a requester, a target and perhaps a room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConsentState {
    /// What was decided for this very room; `None` without a room, too.
    pub for_room: Option<ConsentDecision>,
    /// What was decided for any room.
    pub for_any: Option<ConsentDecision>,
    /// Whether some other room was granted.
    pub elsewhere: bool,
}

/// A key package that came with a grant, for the requester to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantedKeyPackage {
    /// Its KeyPackageRef.
    pub reference: Bytes,
    /// For which client of the target.
    pub client: MimiUri,
    /// The bare `KeyPackage`.
    pub body: Bytes,
    /// When it expires.
    pub not_after: UnixMillis,
}

/// What a field of a profile is (MIMI #find-internal-address).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ProfileFieldName {
    /// A whole handle, a URI.
    Handle,
    /// A nickname, or the user part of a handle.
    Nick,
    /// An address of electronic mail.
    Email,
    /// A telephone number in international form.
    Phone,
    /// A standard claim of OpenID Connect.
    Claim(String),
    /// A property of a vCard.
    Property(String),
}

/// Whether others find a user by a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Searchable {
    /// They do not.
    Never,
    /// If they know all of it.
    Exactly,
    /// Also if they know a part of it.
    InPart,
}

/// A field of a local user's profile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileEntry {
    /// What it is.
    pub name: ProfileFieldName,
    /// What it says.
    pub value: String,
    /// Whether others find the user by it.
    pub searchable: Searchable,
    /// Whether others who found the user see it.
    pub shown: bool,
}

impl ProfileEntry {
    /// Of a handle the part before the `@`, without the scheme: `alice.smith` of `im:alice.smith@a.example`.
    #[must_use]
    pub fn user_part(&self) -> Option<&str> {
        let (_, address) = self
            .value
            .split_once(':')
            .filter(|_| self.name == ProfileFieldName::Handle)?;
        let (user, _) = address.split_once('@')?;
        (!user.is_empty()).then_some(user)
    }
}

/// One change to what is kept for local users. None of them names a room that has to be there.
#[derive(Clone, Debug)]
pub enum MimiUserWrite {
    /// Adds messages to a room's local log, which begins with its first message. Nothing happens if `once` was there before, from the
    /// same hub and for the same room.
    Deliver {
        /// The room.
        room: MimiUri,
        /// Who sends what is in it. The log keeps the first one.
        hub: ServerName,
        /// What is added, in order.
        messages: Vec<NewLocalMessage>,
        /// Local users who may read the room, unless they may already, each with the index of the first of these messages that they
        /// may read.
        readers: Vec<(MimiUri, usize)>,
        /// Local users who may read it no longer, each with the index of the last of these messages that they may read. Whoever is among
        /// `readers` for a later one comes back with it.
        leavers: Vec<(MimiUri, usize)>,
        /// SHA-256 of what the messages came in, if it may come again.
        once: Option<[u8; 32]>,
        /// When they came.
        now: UnixMillis,
    },
    /// A change to what decides on the order of local logs.
    Order(MimiOrderWrite),
    /// Forgets what came before a moment; only that it came, not what it was.
    ForgetDelivered {
        /// The moment.
        before: UnixMillis,
    },
    /// Drops messages from local logs that came before a moment, those that came first: at most so many. Positions stay as they are.
    ForgetLocalMessages {
        /// The moment.
        before: UnixMillis,
        /// How many at most.
        limit: usize,
    },
    /// Remembers a join code; the newest of the same room, user and key counts.
    ShowJoinCode {
        /// The code.
        shown: ShownJoinCode,
    },
    /// Forgets join codes that are no longer remembered.
    ExpireJoinCodes {
        /// The time.
        now: UnixMillis,
    },
    /// Forgets a client and its key packages, if there.
    RemoveClient {
        /// The client.
        client: MimiUri,
    },
    /// Forgets what is kept of a local user who was deleted: their clients with their key packages, their profile, and consent of theirs and
    /// for them, with what came with it. They read no room any more.
    RemoveUser {
        /// The user.
        user: MimiUri,
    },
    /// Drops key packages that have expired, and what is remembered of spent and granted ones.
    ExpireKeyPackages {
        /// The time.
        now: UnixMillis,
    },
    /// Keeps a local user's profile in place of the one before. `ProfileChanged` if that is another than it should be.
    PutProfile {
        /// Whose.
        user: MimiUri,
        /// All of it, in order.
        entries: Vec<ProfileEntry>,
        /// What it should be in place of; `None` for whatever there is.
        instead_of: Option<Vec<ProfileEntry>>,
    },
    /// Somebody asks for consent; again is nothing new.
    RequestConsent {
        /// The scope.
        scope: ConsentScope,
        /// The provider we hear it from; `None` if the requester is ours. Of what was only heard, no more than
        /// [`MAX_HEARD_CONSENTS`](crate::rules::MAX_HEARD_CONSENTS) is kept of each provider; what was heard first goes first.
        from: Option<ServerName>,
        /// The time.
        now: UnixMillis,
    },
    /// They do no longer, if they did in this very scope.
    CancelConsent {
        /// The scope.
        scope: ConsentScope,
    },
    /// The target grants or revokes it; what was asked for in this very scope is answered.
    DecideConsent {
        /// The scope.
        scope: ConsentScope,
        /// What is decided.
        decision: ConsentDecision,
        /// Key packages that come with it, for the requester. Of those that are known already nothing becomes; no more than
        /// [`MAX_GRANTED_KEY_PACKAGES`](crate::rules::MAX_GRANTED_KEY_PACKAGES) are kept of one target for one requester. What was not
        /// taken goes with a revocation in this scope, and when the scope is pushed out.
        key_packages: Vec<GrantedKeyPackage>,
        /// The provider we hear it from; `None` if the target is ours. As for requests.
        from: Option<ServerName>,
        /// The time.
        now: UnixMillis,
    },
}

/// What is asked for local users. As with [`crate::Store`], reads see all commits that returned before they began.
#[async_trait]
pub trait MimiUserStore {
    /// A room's local log, if it has one.
    async fn local_room(&self, room: &MimiUri) -> Result<Option<LocalRoom>, StoreError>;

    /// Whether these messages came before ([`MimiUserWrite::Deliver::once`]).
    async fn was_delivered(&self, hub: &ServerName, room: &MimiUri, once: &[u8; 32]) -> Result<bool, StoreError>;

    /// Messages of a room after a position that a user may read, ascending: at most `limit`, and no more than fit into `max_bytes`, but
    /// at least one if there is one.
    async fn messages_readable_by(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError>;

    /// As [`messages_readable_by`](Self::messages_readable_by), whoever reads them.
    async fn local_messages(
        &self,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError>;

    /// The rooms that a local user may read, or could, by URI: each from where they first could, and until where they may last.
    async fn rooms_readable_by(&self, user: &MimiUri) -> Result<Vec<ReadableRoom>, StoreError>;

    /// A room, if this local user may read it or could.
    async fn readable_room(&self, user: &MimiUri, room: &MimiUri) -> Result<Option<ReadableRoom>, StoreError>;

    /// The join code that this client showed, unless it is no longer remembered.
    async fn shown_join_code(
        &self,
        room: &MimiUri,
        user: &MimiUri,
        signature_key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<ShownJoinCode>, StoreError>;

    /// Keeps key packages of a local user's client, each for itself; the answers are in their order, and none of them is
    /// [`KeyPackageKept::NoDevice`]. Expired ones of the client make room. What is kept is durable when this returns.
    async fn add_mimi_key_packages(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        packages: &[MimiKeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError>;

    /// The user's clients that have ever offered key packages, in order.
    async fn mimi_clients(&self, user: &MimiUri) -> Result<Vec<MimiUri>, StoreError>;

    /// What the user's clients have on offer that expires after `usable_at`, by client, suite and capabilities.
    async fn mimi_key_package_offers(
        &self,
        user: &MimiUri,
        usable_at: UnixMillis,
    ) -> Result<Vec<MimiKeyPackageOffer>, StoreError>;

    /// Takes key packages that expire after `usable_at`: of each claim the one of the first kind there is, and of that the one that
    /// expires first. None is ever answered twice but last-resort ones, whatever happens meanwhile and afterwards. What was taken is
    /// durable when this returns.
    async fn claim_mimi_key_packages(
        &self,
        claims: &[MimiKeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, StoreError>;

    /// Whose key packages these are, as far as they were handed out for use in this room by this hub, in no particular order.
    async fn issued_key_packages(
        &self,
        references: &[Bytes],
        hub: &ServerName,
        room: &MimiUri,
    ) -> Result<Vec<IssuedKeyPackage>, StoreError>;

    /// A local user's profile, in order.
    async fn profile(&self, user: &MimiUri) -> Result<Vec<ProfileEntry>, StoreError>;

    /// Users with a field, whatever it is, that says exactly this and may be searched for; by URI.
    async fn users_by_value(&self, value: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError>;

    /// As [`users_by_value`](Self::users_by_value), and those with a handle of this user part.
    async fn users_by_nick(&self, nick: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError>;

    /// Users with a field, whatever it is, that has this in it and may be searched for in part; by URI. Without regard to case, as
    /// [`str::to_lowercase`] has it.
    async fn users_by_part(&self, part: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError>;

    /// What counts for a requester, a target and perhaps a room.
    async fn consent(&self, scope: &ConsentScope) -> Result<ConsentState, StoreError>;

    /// What is known about a user's consents, be they requester or target, with numbers after `after`, ascending.
    async fn consents_of(&self, user: &MimiUri, after: i64, limit: usize) -> Result<Vec<KeptConsent>, StoreError>;

    /// The key packages that were granted in this very scope, expire after `usable_at` and were not taken, in the order in which they
    /// came.
    async fn granted_key_packages(
        &self,
        scope: &ConsentScope,
        usable_at: UnixMillis,
    ) -> Result<Vec<GrantedKeyPackage>, StoreError>;

    /// Takes key packages that were granted: all of these or, if one was taken or is not there, none; whether it took them. None is ever
    /// taken twice, whatever happens meanwhile and afterwards. What was taken is durable when this returns.
    async fn take_granted_key_packages(&self, references: &[Bytes]) -> Result<bool, StoreError>;
}
