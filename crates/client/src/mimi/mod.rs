//! One client of one MIMI user: its rooms, their groups, its messages, its state on disk (MIMI #example-protocol-flow).
//!
//! [`MimiClient`] talks to the user's own provider through the port [`MimiTransport`] and keeps everything in the SQLite file of a
//! [`ClientStore`](crate::ClientStore), in which OpenMLS has its tables beside ours. It goes by the rules of the Linearized Matrix
//! client: whatever one entry of a room's log causes is one database transaction, cursor included, and nothing leaves the device
//! before the transaction that made it is durable.
//!
//! What a room should become is kept as an intention ([`MimiIntent`]) and made into a commit of whatever epoch the group is in. Whoever
//! loses the race for an epoch takes in what came first and makes the commit again, from the same key packages. What others
//! proposed is in every commit, in the order in which the hub accepted it (decision D-proposal-order).
//!
//! | File | Story |
//! |---|---|
//! | `mimi/client.rs` | what a user can ask for, and the loop |
//! | `mimi/device.rs` | who the client is, its leaves, its key packages |
//! | `mimi/create.rs` | a room begins |
//! | `mimi/change.rs` | what an intention means in an epoch |
//! | `mimi/commit.rs` | intentions become requests, and verdicts take effect |
//! | `mimi/pending.rs` | what is pending as the hub has it |
//! | `mimi/join.rs` | external commits |
//! | `mimi/lines.rs` | hubs that do not answer |
//! | `mimi/send.rs` | messages that go out, reports |
//! | `mimi/rules.rs` | what the room lets users say |
//! | `mimi/may.rs` | of that, what roles do |
//! | `mimi/assets.rs` | and of files, what the policy does |
//! | `mimi/lifetime.rs` | and of messages that expire |
//! | `mimi/operational.rs` | how the room's policy has the group run |
//! | `mimi/expiry.rs` | messages that expire |
//! | `mimi/status.rs` | what becomes of others' messages here, and who is told |
//! | `mimi/files.rs` | files in messages |
//! | `mimi/oblivious.rs` | files by oblivious HTTP |
//! | `mimi/receive.rs` | what comes in |
//! | `mimi/hear.rs` | what others say |
//! | `mimi/group.rs` | OpenMLS |
//! | `mimi/store.rs` | rows |
//! | `mimi/transport.rs` | the port to the provider |

mod assets;
mod change;
mod client;
mod commit;
mod create;
mod device;
mod error;
mod expiry;
mod files;
mod group;
mod hear;
mod intent;
mod join;
mod lifetime;
mod lines;
mod may;
mod notice;
mod oblivious;
mod operational;
mod pending;
mod receive;
mod rules;
mod send;
mod settings;
mod status;
mod store;
pub mod transport;

pub use client::{MimiClient, MimiGroupState, client_in};
pub use create::NewRoom;
pub use error::{GroupFault, MimiError};
pub use files::{Fetch, FetchedFile};
pub use hear::{Franking, Unreadable};
pub use intent::{MimiIntent, Newcomer};
pub use lifetime::ExpiryFault;
pub use may::Moderation;
pub use nabe_auth::mimi::templates;
pub use notice::MimiNotice;
pub use oblivious::ObliviousError;
pub use settings::MimiSettings;
pub use store::{GroupPlace, KnownRoom, MimiBody, MimiItem, MimiStatus};
pub use transport::MimiTransport;

#[cfg(test)]
mod tests;
