//! `[log]`: what the server says of itself.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::rule::Broken;

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A `tracing` filter such as `info,nabe_service=debug`.
    pub(crate) level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".into(),
        }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), Broken> {
        EnvFilter::try_new(&self.level)
            .map_err(|error| Broken::new(&["log.level"], format!("{:?}: {error}", self.level)))?;
        Ok(())
    }
}
