//! Everything that is served for MIMI, and who may call it. Nothing has a route that is not here.

use axum::routing::MethodFilter;
use nabe_service::mimi::ASSETS;
use nabe_wire::directory::{DIRECTORY_PATH, Endpoint};

use super::OHTTP_PATH;

/// Who may call a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Whoever can reach us, without a certificate.
    Anybody,
    /// Providers with a certificate for the domain in `From` (MIMI #transport-layer).
    Provider,
}

/// A path and method that is served.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Route {
    /// MIMI #directory
    Directory,
    /// A file of a user of ours, sealed (MIMI #download-files).
    Asset,
    /// Whose key requests to the gateway are sealed to (RFC 9540).
    OhttpKeys,
    /// Sealed requests for files (MIMI #download-using-oblivious-http).
    OhttpGateway,
    /// MIMI #mimi-endpoints-and-framing
    Endpoint(Endpoint),
}

impl Route {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Directory, Self::Asset, Self::OhttpKeys, Self::OhttpGateway];
        others.into_iter().chain(Endpoint::ALL.map(Self::Endpoint))
    }

    /// `GET` or `POST`.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Directory | Self::Asset | Self::OhttpKeys => "GET",
            Self::OhttpGateway => "POST",
            Self::Endpoint(endpoint) => endpoint.method(),
        }
    }

    /// The path, with `{…}` for what differs from request to request: one segment, or with `{*…}` all the rest.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Directory => DIRECTORY_PATH.to_owned(),
            Self::Asset => format!("{ASSETS}/{{media_id}}/{{token}}"),
            Self::OhttpKeys | Self::OhttpGateway => OHTTP_PATH.to_owned(),
            Self::Endpoint(endpoint) => format!("{BASE}/{endpoint}/{{*target}}"),
        }
    }

    /// Who may call it. Certificates are for providers: clients read files and keys, and whoever is about to call for the first time the
    /// directory.
    #[must_use]
    pub fn access(self) -> Access {
        match self {
            Self::Directory | Self::Asset | Self::OhttpKeys => Access::Anybody,
            Self::OhttpGateway | Self::Endpoint(_) => Access::Provider,
        }
    }

    pub(super) fn filter(self) -> MethodFilter {
        match self.method() {
            "GET" => MethodFilter::GET,
            _ => MethodFilter::POST,
        }
    }
}

/// What the paths of all endpoints begin with.
pub(crate) const BASE: &str = "/_mimi/v1";
