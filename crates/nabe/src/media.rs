//! `[media]`: files that users send (LM #content-repository). Clients encrypt them; here they are bytes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nabe_service::MediaSettings;
use nabe_store::UploadLimits;
use serde::Deserialize;

use crate::config::{Broken, hold};

/// `[media]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Media {
    /// Where the files lie, inside `data_dir`.
    pub(crate) folder: PathBuf,
    /// Bytes of one file.
    pub(crate) max_bytes: u64,
    /// Bytes that one user may upload within 24 hours.
    pub(crate) user_bytes_per_day: u64,
    /// Bytes that the files of one user may take.
    pub(crate) user_bytes: u64,
    /// Bytes kept of other servers' files; the oldest make room.
    pub(crate) cache_bytes: u64,
}

impl Default for Media {
    fn default() -> Self {
        let defaults = MediaSettings::default();
        Self {
            folder: "media".into(),
            max_bytes: defaults.max_bytes,
            user_bytes_per_day: defaults.user.bytes_per_day,
            user_bytes: defaults.user.bytes,
            cache_bytes: defaults.cache_bytes,
        }
    }
}

impl Media {
    /// What the types alone do not say.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        hold(
            (MIN_FILE_OPTION..=MAX_FILE_OPTION).contains(&self.max_bytes),
            &["media.max_bytes"],
            "must be 65536 to 4294967296",
        )?;
        for (bytes, options) in [
            (
                self.user_bytes_per_day,
                &["media.user_bytes_per_day", "media.max_bytes"],
            ),
            (self.user_bytes, &["media.user_bytes", "media.max_bytes"]),
            (self.cache_bytes, &["media.cache_bytes", "media.max_bytes"]),
        ] {
            hold(
                (self.max_bytes..=MAX_FILES_OPTION).contains(&bytes),
                options,
                "must have room for at least one file of max_bytes, and at most 2^53 - 1 bytes",
            )?;
        }
        hold(
            self.folder != Path::new(""),
            &["media.folder"],
            "must name a folder of its own",
        )
    }

    /// Everything but the folder, which has to be opened. Peers that stall lose a file as they lose an answer.
    pub(crate) fn settings(&self, stall: Duration) -> MediaSettings {
        MediaSettings {
            max_bytes: self.max_bytes,
            user: UploadLimits {
                bytes: self.user_bytes,
                bytes_per_day: self.user_bytes_per_day,
            },
            cache_bytes: self.cache_bytes,
            stall,
            ..MediaSettings::default()
        }
    }
}

const MIN_FILE_OPTION: u64 = 64 * 1024;
const MAX_FILE_OPTION: u64 = 4 << 30;
/// What every program takes for the same number.
const MAX_FILES_OPTION: u64 = (1 << 53) - 1;
