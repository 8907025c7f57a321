//! Requests to other servers: from a server name to an address (LM #int-resolve-domain), from an address to a
//! trusted connection (LM #int-tls), from a request to a signed one (LM #int-transport-auth).
//!
//! - [`discovery`]: server name to [`Target`], over the ports [`Dns`] and [`WellKnown`]
//! - [`address`]: which IP addresses we connect to
//! - [`dns`]: `Dns` by the system's resolver

pub mod address;
pub mod discovery;
pub mod dns;

pub use address::AddressGuard;
pub use discovery::{Discovery, Dns, Target, WellKnown};
pub use dns::SystemDns;

#[cfg(test)]
mod testing;
