//! The lab: what MLS group operations cost, by implementation, operation, size and shape of the tree.
//!
//! A [`plan`] is a list of [`cell`]s in a seeded order. [`run`] starts a worker process for each group, asks it by [`protocol`] to
//! prepare the group and to measure operations in it, and ends it when it takes too long. What it said is a [`record`]; [`csv`],
//! [`report`] and [`compare`] read that and nothing else. [`worker`] is the other side of the protocol; `group` does it for
//! any MLS library that is a `stack`, such as `openmls`, which Nabe is built on. How it measures is in docs/guides/researcher.md.

pub mod cell;
pub mod compare;
pub mod csv;
#[cfg(feature = "openmls")]
pub mod group;
pub mod machine;
pub mod measure;
#[cfg(feature = "openmls")]
pub mod openmls;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
mod seed;
#[cfg(feature = "openmls")]
pub mod stack;
pub mod stats;
pub mod worker;

pub use seed::Seed;
