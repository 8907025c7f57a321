//! What can go wrong, in one type: whoever drives this client reads the sentence.

use mls_rs::error::MlsError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error("{status} {code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// For a commit: the epoch that the group is in.
        current_epoch: Option<u64>,
    },
    /// No answer, or none that could be read.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// mls-rs refused.
    #[error("mls-rs: {0:?}")]
    Mls(#[from] MlsError),
    /// Something that another party made breaks a rule of the draft.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The command makes no sense now.
    #[error("{0}")]
    CannotDo(String),
}

/// For everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Error::Invalid`].
pub fn invalid(what: impl Into<String>) -> Error {
    Error::Invalid(what.into())
}
