//! How a client behaves.

use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether it adds new devices of members, and removes those of users who left, without being asked.
    pub tend: bool,
    /// Over how much time the devices of a room spread such work: the first one does it, the others find it done.
    pub tend_spread: Duration,
    /// Whether it gives itself new keys soon after it was added.
    pub update_after_join: bool,
    /// How many races a commit may lose.
    pub max_attempts: u32,
    /// How many key packages the server should have of each suite.
    pub key_package_stock: u64,
    /// How long to wait for the echo of a commit: this often, …
    pub rounds: u32,
    /// … so long each time.
    pub round: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tend: true,
            tend_spread: Duration::from_secs(2),
            update_after_join: true,
            max_attempts: 50,
            key_package_stock: 50,
            rounds: 40,
            round: Duration::from_millis(500),
        }
    }
}
