//! What the lab asks of an MLS library: joining, committing, following, and messages, from bytes to bytes. [`crate::group`] makes groups of
//! any size and shape with it and measures in them, so that every library is measured in the same way, in groups of the same make.

use std::collections::BTreeMap;

use nabe_mls::HubGroup;
use nabe_mls::testing::TestDevice;

use crate::cell::Operation;
use crate::worker::Failure;

/// An MLS library with its cryptography.
pub trait Stack: 'static {
    /// Its name as a worker.
    const NAME: &'static str;
    /// A device that is in no group.
    type Joiner: Joiner<Member = Self::Member>;
    /// A device that is in one.
    type Member: Member;
    /// What follows a group without its secrets.
    type Observer: Observer;

    /// What it is made of, each with its version.
    fn versions() -> BTreeMap<String, String>;

    /// The suites it has, by their numbers.
    fn suites() -> Vec<u16>;

    /// Why it has no such operation, if it has none.
    fn lacks(_operation: Operation) -> Option<&'static str> {
        None
    }

    /// A device with this one's credential and key.
    ///
    /// # Errors
    /// If the library does not take them.
    fn joiner(device: &TestDevice) -> Result<Self::Joiner, Failure>;

    /// Begins to follow a group, of which both know the same epoch.
    ///
    /// # Errors
    /// If the library does not take it.
    fn observer(hub: &HubGroup, group_info: &[u8]) -> Result<Self::Observer, Failure>;

    /// The cryptographic operations since the last call, by name; empty if nobody counts.
    fn take_work() -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}

/// A device that is in no group yet.
pub trait Joiner: Sized {
    /// The device once it is.
    type Member;

    /// As it was before it did anything but make key packages.
    ///
    /// # Errors
    /// If it cannot be copied.
    fn copy(&self) -> Result<Self, Failure>;

    /// A new `KeyPackage`, whose private half it keeps.
    ///
    /// # Errors
    /// Why there is none.
    fn key_package(&self) -> Result<Vec<u8>, Failure>;

    /// Makes the group, as its only member.
    ///
    /// # Errors
    /// Why it cannot.
    fn create(self) -> Result<Self::Member, Failure>;

    /// Joins by a Welcome, an `MLSMessage` with the tree inside.
    ///
    /// # Errors
    /// Why it cannot.
    fn join(self, welcome: &[u8]) -> Result<Self::Member, Failure>;

    /// Joins by an external commit on this GroupInfo, an `MLSMessage` with the tree inside; in place of what is at `leaf`, if it was there
    /// before.
    ///
    /// # Errors
    /// Why it cannot.
    fn join_externally(self, group_info: &[u8], leaf: Option<u32>) -> Result<(Self::Member, Made), Failure>;
}

/// A device in the group. What it does it also stores, as the library's users have to.
pub trait Member: Sized {
    /// The same, with a storage of its own.
    ///
    /// # Errors
    /// If it cannot be read back.
    fn copy(&mut self) -> Result<Self, Failure>;

    /// Its leaf's index.
    fn leaf(&self) -> u32;

    /// Adds the owners of these key packages and removes these leaves, with new keys for itself; pending until [`Member::merge`] or
    /// [`Member::clear`].
    ///
    /// # Errors
    /// Why it cannot.
    fn commit(&mut self, key_packages: &[Vec<u8>], leaves: &[u32]) -> Result<Made, Failure>;

    /// Its pending commit was accepted.
    ///
    /// # Errors
    /// Why it cannot go on.
    fn merge(&mut self) -> Result<(), Failure>;

    /// Its pending commit was refused.
    ///
    /// # Errors
    /// Why it cannot drop it.
    fn clear(&mut self) -> Result<(), Failure>;

    /// Takes in another member's commit.
    ///
    /// # Errors
    /// Why it does not.
    fn process(&mut self, commit: &[u8]) -> Result<(), Failure>;

    /// An application message.
    ///
    /// # Errors
    /// Why there is none.
    fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Failure>;

    /// What another member's application message says.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure>;

    /// A secret of 32 bytes.
    ///
    /// # Errors
    /// Why there is none.
    fn export(&self) -> Result<Vec<u8>, Failure>;

    /// Where it is.
    ///
    /// # Errors
    /// If it does not know.
    fn position(&self) -> Result<Position, Failure>;

    /// Bytes that it stores, keys included.
    fn stored_bytes(&self) -> u64;
}

/// What follows a group without its secrets.
pub trait Observer: Sized {
    /// The library's own group of that kind, and nothing around it.
    type Bare;

    /// A copy of it.
    ///
    /// # Errors
    /// If it cannot be copied.
    fn bare(&self) -> Result<Self::Bare, Failure>;

    /// Takes in a commit.
    ///
    /// # Errors
    /// Why it does not.
    fn take(bare: &mut Self::Bare, commit: &[u8]) -> Result<(), Failure>;

    /// The whole state.
    ///
    /// # Errors
    /// If it cannot be written.
    fn checkpoint(&self) -> Result<Vec<u8>, Failure>;

    /// That read back.
    ///
    /// # Errors
    /// If it cannot be read.
    fn restore(checkpoint: &[u8]) -> Result<Self, Failure>;
}

/// What a committer sends, each an `MLSMessage`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Made {
    /// The commit, a `PublicMessage`.
    pub commit: Vec<u8>,
    /// GroupInfo of the epoch it begins, with ratchet tree and external public key.
    pub group_info: Vec<u8>,
    /// For whoever it adds.
    pub welcome: Option<Vec<u8>>,
}

/// Where a member is in the group's history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The epoch.
    pub epoch: u64,
    /// The tree's hash.
    pub tree_hash: Vec<u8>,
    /// What only members of the epoch know.
    pub authenticator: Vec<u8>,
}
