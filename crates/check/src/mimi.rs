//! The checker's side of MIMI: the providers it plays, their clients, and rooms at the subject or at one of these providers.

pub(crate) mod content;
pub(crate) mod forged;
pub(crate) mod hosted;
pub(crate) mod peer;
pub(crate) mod policy;
pub(crate) mod reporting;
pub(crate) mod room;
