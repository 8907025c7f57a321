//! Several whole servers in one process: real services, real stores, real HTTP routes and request signatures, joined by a
//! wire that loses, repeats, delays and cuts, under a clock that only moves when told to.
//!
//! - [`cluster`]: the servers; starting, stopping, crashing; waiting until nothing is left to do
//! - [`wire`]: the network between them and its faults
//! - [`disk`]: a store that ends with its server, at any commit

pub mod activity;
pub mod cluster;
pub mod disk;
pub mod entropy;
pub mod wire;

pub use cluster::{Cluster, Options, Server, event, server, user};
pub use wire::{Fault, Wire};
