//! The subject is the hub.

pub(crate) mod events;
pub(crate) mod format;
pub(crate) mod history;
pub(crate) mod hostile;
pub(crate) mod keys;
pub(crate) mod membership;
pub(crate) mod requests;
pub(crate) mod rules;
