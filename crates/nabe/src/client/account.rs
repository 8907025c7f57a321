//! What `nabe client login` keeps in the state folder besides the database: the server and the credential.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nabe_types::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// A login.
#[derive(Deserialize, Serialize)]
pub(crate) struct Account {
    /// URL of the server's client API.
    pub(crate) server: String,
    pub(crate) device: DeviceId,
    pub(crate) credential: Credential,
    /// The authority of the server's certificate; absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

/// What the server lets the client in with.
#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Credential {
    /// A user's own token.
    User { token: String },
    /// A provider backend's credential, and for whom it speaks.
    Provider { token: String, user: UserId },
}

impl Account {
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(FILE);
        let text = fs::read(&file).with_context(|| format!("{}: log in first", file.display()))?;
        serde_json::from_slice(&text).with_context(|| file.display().to_string())
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(folder.join(FILE))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        Ok(file.sync_all()?)
    }

    pub(crate) fn database(folder: &Path) -> PathBuf {
        folder.join("client.db")
    }
}

const FILE: &str = "account.json";
