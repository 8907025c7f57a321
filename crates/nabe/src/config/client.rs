//! `[client]` and `[mls]`: what users and their devices may do.

use std::path::PathBuf;

use nabe_event::RoomVersionRules;
use nabe_types::RoomVersionId;
use serde::Deserialize;

use super::rule::{Broken, hold};

/// `[client]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Client {
    /// A file with the provider backend's credential; absent = no provider backend.
    pub(crate) provider_token_file: Option<PathBuf>,
    /// The room version of rooms made without naming one.
    pub(crate) default_room_version: Option<RoomVersionId>,
    /// Others may invite users of ours that nobody has seen yet.
    pub(crate) invites_for_unknown_users: bool,
    /// How long a request waits for the hub to take an event before it is answered as queued, milliseconds.
    pub(crate) echo_wait_ms: u64,
}

/// `[mls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mls {
    /// Post-quantum cipher suites, for rooms made here and for key packages of our users' devices.
    pub(crate) experimental_suites: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            provider_token_file: None,
            default_room_version: None,
            invites_for_unknown_users: true,
            echo_wait_ms: 5_000,
        }
    }
}

impl Client {
    pub(super) fn check(&self) -> Result<(), Broken> {
        if let Some(version) = &self.default_room_version
            && RoomVersionRules::for_id(version).is_none()
        {
            return Err(Broken::new(
                &["client.default_room_version"],
                format!("{version} is no room version that is known here"),
            ));
        }
        hold(
            self.echo_wait_ms <= 60_000,
            &["client.echo_wait_ms"],
            "must be at most 60000",
        )
    }
}
