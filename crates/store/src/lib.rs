//! What the server keeps: the [`Store`] trait, the writes it takes as data, the model it answers with, a backend in
//! memory, and the contract tests every backend runs.
//!
//! Nothing here decides anything about a room; `nabe-core` did that before a [`Write`] came to be. A store only
//! refuses writes that would break what it already holds ([`StoreError::Conflict`] and its kin).

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod memory;
mod mimi;
mod mimi_order;
mod mimi_policy;
mod mimi_reports;
mod mimi_users;
mod model;
pub mod rules;
mod store;
mod write;

pub use error::StoreError;
pub use memory::MemoryStore;
pub use mimi::{FetchedKeyPackage, MimiFollower, MimiStore, MimiWrite, Notification, NotifyWork};
pub use mimi_order::{
    Forwarded, LocalOrder, MessageKind, MimiOrderStore, MimiOrderWrite, OpenForward, OpenOfUser, UnknownMessageKind,
    WaitingMessage,
};
pub use mimi_policy::{JoinLinkTerms, PolicyStore, PolicyWrite};
pub use mimi_reports::{KeptReport, NewReport, OpenReports, ReportState, ReportStore, ReportWrite, UnknownReportState};
pub use mimi_users::{
    ClaimedMimiKeyPackage, ConsentDecision, ConsentScope, ConsentState, GrantedKeyPackage, IssuedKeyPackage,
    KeptConsent, KeyPackageUse, LocalMessage, LocalRoom, MimiKeyPackage, MimiKeyPackageClaim, MimiKeyPackageOffer,
    MimiUserStore, MimiUserWrite, NewLocalMessage, ProfileEntry, ProfileFieldName, ReadableRoom, Searchable,
    ShownJoinCode,
};
pub use model::{
    Account, ClaimedKeyPackage, DeliveryRange, DestinationStatus, DirectItem, EntryBytes, Follower, IdempotencyKey,
    InboxItem, InboxKind, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, KnownLpdu, MediaFile, MediaUse,
    MembershipAt, OutboundRequest, ParkReason, ParkedEvent, PendingMembership, PendingRoom, RemoteDevice,
    RoomMembership, RoomSummary, StoredDevice, StoredReply, StoredRoom, StoredServerKeys, UploadLimits,
};
pub use store::{Between, Order, Store};
pub use write::{Batch, Write};
