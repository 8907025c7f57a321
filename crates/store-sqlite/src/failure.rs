//! What can go wrong inside this crate, so that `?` works on both kinds of error.

use nabe_store::StoreError;

/// A refusal or bad row of ours, or whatever the database says.
#[derive(Debug)]
pub(crate) enum Failure {
    Store(StoreError),
    Database(sqlx::Error),
    Closed,
    PathNotUtf8,
}

impl Failure {
    /// Whether a `UNIQUE` constraint stood in the way.
    pub(crate) fn is_duplicate(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }

    /// Whether what a row refers to is missing.
    pub(crate) fn is_dangling(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        error
            .as_database_error()
            .is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let cause = match failure {
            Failure::Store(error) => return error,
            Failure::Database(error) => error.to_string(),
            Failure::Closed => "it was closed".to_owned(),
            Failure::PathNotUtf8 => "the path is not UTF-8".to_owned(),
        };
        Self::Unavailable { cause }
    }
}
