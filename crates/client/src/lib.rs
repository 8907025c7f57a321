//! One device of one user: its MLS groups, its messages, its state on disk (LM #int-mls-considerations).
//!
//! [`Client`] talks to a server through the port [`Transport`] and keeps everything in one SQLite file ([`ClientStore`]), in which
//! OpenMLS has its tables beside ours. Whatever one incoming item causes is one database transaction, token included, and
//! nothing leaves the device before the transaction that made it is durable. A process that is killed at any moment goes on
//! where it was: no message key is used twice, nothing is lost, nothing is doubled.
//!
//! The hub accepts one commit for each epoch. Whoever loses that race takes in the winner's commit, makes their own again on
//! top of it, and so on; see [`Intent`]. What a commit should do is therefore kept as an intention and not as bytes.
//!
//! For rooms of MIMI there is [`mimi::MimiClient`], by the same rules.
//!
//! No runtime is needed: the futures wait for the transport only.

mod client;
mod compact;
mod device;
mod error;
mod groups;
mod intent;
mod keys;
pub mod mimi;
mod mls;
mod notice;
mod provider;
mod receive;
mod send;
mod settings;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
mod undecryptable;
mod work;

pub use client::{Client, Clock, GroupInfo, room_algorithm};
pub use error::{ClientError, NoRoom, StoreError};
pub use intent::Intent;
pub use notice::{DeviceName, Notice};
pub use settings::Settings;
#[cfg(any(test, feature = "testing"))]
pub use store::Fuse;
pub use store::{ClientStore, GroupStatus, ItemBody, Room, TimelineItem};
pub use transport::{Transport, TransportError};
pub use undecryptable::Undecryptable;

#[cfg(test)]
mod tests;
