//! Files that users send. The store knows of each what is to be told without opening it; the bytes themselves lie outside
//! the database, under their hash.

use nabe_types::UnixMillis;

/// A file, whoever uploaded it and whatever it is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MediaFile {
    /// SHA-256 of its bytes.
    pub hash: [u8; 32],
    /// How many bytes.
    pub size: u64,
    /// How many local users have uploaded it. 0: it is another server's, and kept only for as long as there is room.
    pub uploaders: u64,
}

/// What the files of a local user take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MediaUse {
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of the recent ones.
    pub recent_bytes: u64,
    /// When the first of the recent ones was uploaded.
    pub first_recent: Option<UnixMillis>,
}

/// What the files of a local user may take, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UploadLimits {
    /// All of them.
    pub bytes: u64,
    /// Those uploaded within a day.
    pub bytes_per_day: u64,
}
