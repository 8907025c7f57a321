//! One of our servers is the hub, and the subject takes part.

pub(super) mod events;
pub(super) mod format;
pub(super) mod hostile;
pub(super) mod membership;
pub(super) mod requests;
