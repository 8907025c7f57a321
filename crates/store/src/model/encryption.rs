//! What clients publish for end-to-end encryption: device objects (LM #int-mls-credentials) and key packages
//! (LM #int-mls-key-packages). To a store they are bytes; whoever writes them has checked them.

use bytes::Bytes;
use nabe_types::{DeviceId, UnixMillis, UserId};

/// A device of a local user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredDevice {
    /// Which.
    pub device: DeviceId,
    /// Its device object's JSON; `None` while it has published none.
    pub object: Option<Bytes>,
}

/// A device of another server's user, as that server told us last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemoteDevice {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Its device object's JSON.
    pub object: Bytes,
    /// When we were told.
    pub updated_at: UnixMillis,
}

/// A key package to keep for whoever claims it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackage {
    /// Code point of its cipher suite.
    pub suite: u16,
    /// Its hash reference (RFC 9420, 5.2) as text: by it one package is never kept twice.
    pub hash_ref: String,
    /// The package, byte for byte.
    pub body: Bytes,
    /// When it expires.
    pub not_after: UnixMillis,
    /// Whether it may be handed out more than once. A device has one of these for each suite; a new one replaces it.
    pub last_resort: bool,
}

/// What became of a key package that was to be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyPackageKept {
    /// It can be claimed now.
    Kept,
    /// It is here already.
    Known,
    /// It was here and has been handed out: to take it again would be to hand it out twice.
    Spent,
    /// The device has [`MAX_KEY_PACKAGES`](crate::rules::MAX_KEY_PACKAGES).
    Full,
    /// There is no such device.
    NoDevice,
}

/// A key package asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackageClaim {
    /// Whose.
    pub user: UserId,
    /// For which device.
    pub device: DeviceId,
    /// Code point of the cipher suite.
    pub suite: u16,
    /// Whether the claimant gets the last-resort package at once, so that the others stay for other claimants.
    pub only_last_resort: bool,
}

/// A key package handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimedKeyPackage {
    /// The package, byte for byte.
    pub body: Bytes,
    /// Whether it is the last-resort package, which stays.
    pub last_resort: bool,
    /// How many others of the suite the device has left.
    pub left: u64,
}

/// What a device has of one suite.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyPackageCount {
    /// Code point of the cipher suite.
    pub suite: u16,
    /// Key packages left, without the last-resort one.
    pub left: u64,
    /// Whether there is a last-resort package.
    pub has_last_resort: bool,
}
