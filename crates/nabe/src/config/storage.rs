//! `[signing]` and `[storage]`: what lies on disk.

use std::path::PathBuf;

use serde::Deserialize;

use super::rule::{Broken, hold};

/// `[signing]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigningFiles {
    pub(crate) key_file: PathBuf,
    /// Keys no longer used for signing, with the time they were retired; written by `nabe keys rotate`.
    pub(crate) old_keys_file: PathBuf,
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    pub(crate) database: PathBuf,
    pub(crate) readers: u32,
}

impl Default for SigningFiles {
    fn default() -> Self {
        Self {
            key_file: "signing.key".into(),
            old_keys_file: "old-keys.toml".into(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            database: "nabe.sqlite".into(),
            readers: 4,
        }
    }
}

impl Storage {
    pub(super) fn check(&self) -> Result<(), Broken> {
        hold(self.readers > 0, &["storage.readers"], "must be at least 1")
    }
}
