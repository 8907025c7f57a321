//! A hub's stamp on a message it cannot read: MIMI #message-franking.
//!
//! Here are the structs and the signature. How a tag and a frank are computed from content and keys is the business of
//! whoever has those.

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;

use crate::codec::{Bytes, Encode, wire_struct};
use crate::label::{self, SignatureError, SigningError};
use crate::mls::{CipherSuite, Credential};
use crate::uri::IdentifierUri;

wire_struct! {
    /// `FrankAAD`: the item of the component `frank_aad` in a message's [`crate::app_data::SafeAad`].
    pub struct FrankAad {
        /// HMAC-SHA256 over the content, by the salt inside it.
        pub franking_tag: [u8; 32],
    }
}

wire_struct! {
    /// `FrankingAgentData`, also `FrankingAgentUpdate`: the data of the component `franking_agent`.
    pub struct FrankingAgentData {
        /// Of the algorithm of the group's suite.
        pub franking_signature_key: Bytes,
        /// Whose it is: the hub.
        pub credential: Credential,
    }
}

wire_struct! {
    /// `Frank`
    pub struct Frank {
        /// HMAC-SHA256 over the tag and the context, by a key of the hub's.
        pub server_frank: [u8; 32],
        /// The group's suite when it was franked.
        pub franking_signature_ciphersuite: CipherSuite,
        /// Over a [`FrankingIntegrityTbs`].
        pub franking_integrity_signature: Bytes,
    }
}

wire_struct! {
    /// `ServerFrankingContext`: what a frank vouches for. It is never sent; who can read the message knows all of it.
    pub struct ServerFrankingContext {
        /// Who sent it, as its provider told the hub.
        pub sender_uri: IdentifierUri,
        /// To which room.
        pub room_uri: IdentifierUri,
        /// When the hub accepted it, in milliseconds since 1970.
        pub accepted_timestamp: u64,
    }
}

wire_struct! {
    /// `FrankingIntegrityTBS`
    pub struct FrankingIntegrityTbs {
        /// As in the [`Frank`].
        pub server_frank: [u8; 32],
        /// As in the [`Frank`].
        pub franking_signature_ciphersuite: CipherSuite,
        /// What it vouches for.
        pub context: ServerFrankingContext,
    }
}

impl FrankingIntegrityTbs {
    /// The label of its signature, without the prefix.
    pub const LABEL: &'static str = "FrankingIntegrityTBS";

    /// Signs with the franking agent's key.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(&self, signer: &impl Signer) -> Result<Frank, SigningError> {
        let suite = self.franking_signature_ciphersuite;
        Ok(Frank {
            server_frank: self.server_frank,
            franking_signature_ciphersuite: suite,
            franking_integrity_signature: label::sign_for_suite(signer, suite, Self::LABEL, &self.to_bytes())?,
        })
    }
}

impl Frank {
    /// Checks that the franking agent with this key signed it, for a message of this context. Whether its suite is that
    /// of the group, and the agent the hub's, is for the caller to check.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        crypto: &impl OpenMlsCrypto,
        franking_signature_key: &[u8],
        context: &ServerFrankingContext,
    ) -> Result<(), SignatureError> {
        let suite = self.franking_signature_ciphersuite;
        let scheme = suite.signature_scheme().ok_or(SignatureError::UnknownSuite { suite })?;
        let tbs = label::concatenated(&[&self.server_frank, &suite, context]);
        let signature = &self.franking_integrity_signature;
        label::verify_with_label(
            crypto,
            scheme,
            franking_signature_key,
            FrankingIntegrityTbs::LABEL,
            &tbs,
            signature,
        )
    }
}

#[cfg(test)]
mod tests;
