//! Why a provider's request has no answer in the struct of its endpoint. Verdicts, such as `notAllowed`, are answers and not here.

use std::time::Duration;

use nabe_store::StoreError;
use nabe_types::ServerName;

use crate::error::ServiceError;
use crate::ports::mimi::MimiPeerError;

/// Why a use case of MIMI failed. Cloneable, because everybody who waits for the same request hears it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MimiError {
    /// There is no such thing here, or not for this caller.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// The caller does not speak for this.
    #[error("{provider} does not speak for {what}")]
    NotTheirs {
        /// The caller.
        provider: ServerName,
        /// For what it does not.
        what: &'static str,
    },
    /// We do not do this for anybody.
    #[error("{0}")]
    Forbidden(&'static str),
    /// A field breaks a rule that its type does not know.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field, by the draft's name.
        field: &'static str,
        /// What it should be.
        rule: &'static str,
    },
    /// Too many requests.
    #[error("too many requests, try again later")]
    LimitExceeded {
        /// When a further request would be served.
        retry_after: Duration,
    },
    /// What has to come before it is not there yet.
    #[error("not yet, try again later")]
    NotYet {
        /// When it would be served.
        retry_after: Duration,
    },
    /// Another provider we needed gave no answer.
    #[error("{provider} did not answer: {error}")]
    PeerFailed {
        /// Whom we asked.
        provider: ServerName,
        /// What happened.
        error: MimiPeerError,
    },
    /// Another provider's answer is of no use.
    #[error("the answer of {provider}: {what}")]
    BadAnswer {
        /// Whom we asked.
        provider: ServerName,
        /// What is wrong with it.
        what: &'static str,
    },
    /// We failed ourselves.
    #[error(transparent)]
    Failed(ServiceError),
}

impl From<ServiceError> for MimiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::LimitExceeded { retry_after } => Self::LimitExceeded { retry_after },
            other => Self::Failed(other),
        }
    }
}

impl From<StoreError> for MimiError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}
