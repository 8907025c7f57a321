//! Drives an MLS stack through `mls_client.MLSClient`, the gRPC interface by which the working group's interoperability tests drive implementations
//! (`interop/proto/mls_client.proto` in mlswg/mls-implementations). What can be measured by it, and what cannot, is in README.md.

pub mod client;
pub mod driven;
pub mod group;
pub mod messages;
