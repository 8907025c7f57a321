//! How a MIMI client behaves.

use std::time::Duration;

/// How a MIMI client behaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiSettings {
    /// Whether it commits what others proposed, without being asked.
    pub tend: bool,
    /// How long it leaves that to others, where the room's policy does not say: so long for each place of its leaf, up to eight times.
    pub tend_after: Duration,
    /// How many races a change may lose.
    pub max_attempts: u32,
    /// How many key packages the provider should have of each suite.
    pub key_package_stock: u64,
    /// How long to wait for the hub: this often, …
    pub rounds: u32,
    /// … so long each time.
    pub round: Duration,
    /// How long to wait for a commit that others have seen and this client has not: then it cannot follow the group any more. Longer than a hub
    /// takes to try again after an outage of the client's own provider.
    pub missing_after: Duration,
    /// Whether it joins anew by itself, with an external commit, when it cannot follow a group any more; at most once in ten minutes.
    pub rejoin: bool,
    /// Whether commits come with all of the GroupInfo, or with what the hub cannot work out (MIMI #update-room-state).
    pub full_group_info: bool,
    /// Where a room's policy leaves it open: whether others are told that their messages have come, …
    pub delivery_notifications: bool,
    /// … and that the user has read them. What a policy requires is told all the same, and what it forbids is not.
    pub read_receipts: bool,
    /// How long it waits for more messages to report in the same report.
    pub report_after: Duration,
}

impl Default for MimiSettings {
    fn default() -> Self {
        Self {
            tend: true,
            tend_after: Duration::from_millis(250),
            max_attempts: 50,
            key_package_stock: 50,
            rounds: 40,
            round: Duration::from_millis(500),
            missing_after: Duration::from_mins(10),
            rejoin: true,
            full_group_info: false,
            delivery_notifications: true,
            read_receipts: true,
            report_after: Duration::from_secs(2),
        }
    }
}
