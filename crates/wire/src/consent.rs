//! `POST /requestConsent/…` and `POST /updateConsent/…`: MIMI #convey-explicit-consent.

use crate::app_data::AppDataDictionary;
use crate::codec::{Decode, DecodeError, Encode, Kept, Reader, open_enum, wire_struct};
use crate::mls::KeyPackage;
use crate::uri::IdentifierUri;

open_enum! {
    /// `ConsentOperation`
    pub struct ConsentOperation(u8) {
        /// Takes a request back.
        CANCEL = 0 "cancel",
        /// Asks.
        REQUEST = 1 "request",
        /// Agrees.
        GRANT = 2 "grant",
        /// Takes an agreement back, or refuses beforehand.
        REVOKE = 3 "revoke",
    }
}

impl ConsentOperation {
    /// True for what goes to `requestConsent`; the others go to `updateConsent`.
    pub fn is_request(self) -> bool {
        matches!(self, Self::CANCEL | Self::REQUEST)
    }
}

wire_struct! {
    /// `ConsentScope`: who may do what.
    pub struct ConsentScope {
        /// Who wants key packages.
        pub requester_uri: IdentifierUri,
        /// Whose.
        pub target_uri: IdentifierUri,
        /// For which room; without one, for any. The draft's type `RoomId` is nowhere defined; it is taken for a URI.
        pub room_id: Option<IdentifierUri>,
    }
}

/// `ConsentEntry`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsentEntry {
    /// What is done.
    pub operation: ConsentAction,
    /// About what.
    pub scope: ConsentScope,
    /// More.
    pub consent_extensions: AppDataDictionary,
}

/// What is done, with what only that operation has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConsentAction {
    /// Takes a request back.
    Cancel,
    /// Asks.
    Request,
    /// Agrees.
    Grant {
        /// Of the target's clients, for use at once. May be empty.
        client_key_packages: Vec<Kept<KeyPackage>>,
    },
    /// Takes an agreement back, or refuses beforehand.
    Revoke,
    /// An operation that is not known, with which nothing more is sent.
    Other(ConsentOperation),
}

impl ConsentAction {
    /// The operation.
    pub fn operation(&self) -> ConsentOperation {
        match self {
            Self::Cancel => ConsentOperation::CANCEL,
            Self::Request => ConsentOperation::REQUEST,
            Self::Grant { .. } => ConsentOperation::GRANT,
            Self::Revoke => ConsentOperation::REVOKE,
            Self::Other(operation) => *operation,
        }
    }
}

impl Encode for ConsentEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.operation.operation().encode(out);
        self.scope.encode(out);
        if let ConsentAction::Grant { client_key_packages } = &self.operation {
            client_key_packages.encode(out);
        }
        self.consent_extensions.encode(out);
    }
}

impl Decode for ConsentEntry {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let operation = reader.read("consent_operation")?;
        let scope = ConsentScope::decode(reader)?;
        let operation = match operation {
            ConsentOperation::CANCEL => ConsentAction::Cancel,
            ConsentOperation::REQUEST => ConsentAction::Request,
            ConsentOperation::GRANT => ConsentAction::Grant {
                client_key_packages: reader.read("client_key_packages")?,
            },
            ConsentOperation::REVOKE => ConsentAction::Revoke,
            other => ConsentAction::Other(other),
        };
        let consent_extensions = reader.read("consent_extensions")?;
        Ok(Self {
            operation,
            scope,
            consent_extensions,
        })
    }
}

#[cfg(test)]
mod tests;
