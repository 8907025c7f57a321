//! Requests to other servers: from a server name to an address (LM #int-resolve-domain), from an address to a
//! trusted connection (LM #int-tls), from a request to a signed one (LM #int-transport-auth).
//!
//! - [`peers`]: [`SignedPeers`], the service's `Peers` port over any [`Transport`]
//! - [`transport`]: the port [`Transport`] and what can go wrong below HTTP
//! - [`https`]: [`HttpsTransport`], the transport of a running server: discovery, pool, TLS, limits
//! - [`mimi`]: [`MimiPeers`], requests to the endpoints that a MIMI provider's directory has (MIMI #directory)
//! - [`assets`]: [`AssetDownloads`], files from the web for other providers
//! - [`discovery`]: server name to [`Target`], over the ports [`Dns`] and [`WellKnown`]
//! - [`address`]: which IP addresses we connect to
//! - [`dns`]: `Dns` by the system's resolver
//! - [`tls`]: trust anchors and TLS versions
//! - [`fuzzing`]: entry points for fuzz targets

pub mod address;
pub mod assets;
mod connect;
pub mod discovery;
pub mod dns;
pub mod fuzzing;
pub mod https;
pub mod mimi;
pub mod peers;
mod pool;
pub mod tls;
pub mod transport;

pub use address::AddressGuard;
pub use assets::AssetDownloads;
pub use discovery::{Discovery, Dns, Resolve, Target, WellKnown};
pub use dns::SystemDns;
pub use https::{HttpsSettings, HttpsTransport};
pub use mimi::{MimiPeers, MimiSettings};
pub use peers::{PeerSettings, SignedPeers};
pub use tls::{TlsError, TlsSettings};
pub use transport::{AtMostOnce, ResponseLimit, SpeaksFor, TlsFault, Transport, TransportBody, TransportError};

#[cfg(test)]
mod testing;
