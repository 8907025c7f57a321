//! The components of a room's policy (draft-ietf-mimi-room-policy), as far as bytes go. What the rules mean is judged
//! elsewhere.
//!
//! Every component's update has the format of its data and replaces it, but for the list of join links.

mod asset;
mod base;
mod join_link;
mod operational;
mod options;
mod preauth;
mod roles;

pub use asset::{AssetPolicy, AssetUploadLocation, DownloadPrivacy, DownloadPrivacyType, ProviderAssetUploadDomains};
pub use base::BaseRoomPolicy;
pub use join_link::{JoinLink, JoinLinkPolicy, JoinLinksData, JoinLinksUpdate};
pub use operational::{
    AppMessagePolicy, ExtendedCapabilities, MinDefaultMaxTime, OperationalParameters, PendingProposalPolicy,
    PendingProposalStrategy,
};
pub use options::{
    Bot, BotPolicy, Expiration, History, HistoryPolicy, LinkPreviewPolicy, LinkPreviewProxy, Logging, LoggingPolicy,
    MessageExpiration, Optionality, StatusNotificationPolicy, UnlessForbidden,
};
pub use preauth::{Claim, ClaimId, PreAuthData, PreAuthRoleEntry};
pub use roles::{Capability, Role, RoleData, SingleSourceRoleChangeTargets};

#[cfg(test)]
mod tests;
