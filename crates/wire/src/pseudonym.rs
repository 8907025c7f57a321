//! Rooms that tell their hub no names: MIMI #minimal-metadata-rooms. The draft has no key management for them yet, so
//! links can be signed and read, and not sealed.

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;
use openmls_traits::types::SignatureScheme;

use crate::codec::{Bytes, Encode, wire_struct};
use crate::label::{self, SignatureError, SigningError};
use crate::mls::Credential;
use crate::uri::IdentifierUri;

wire_struct! {
    /// `PseudonymousCredential`: the content of a credential of type [`crate::mls::CredentialType::PSEUDONYMOUS`].
    pub struct PseudonymousCredential {
        /// Of the client.
        pub client_pseudonym: IdentifierUri,
        /// Of the user, the same for all of their clients in the room.
        pub user_pseudonym: IdentifierUri,
        /// The leaf's key. The draft declares it without a length; it has one here.
        pub signature_public_key: Bytes,
        /// An [`IdentityLinkTbe`], sealed for the participants.
        pub identity_link_ciphertext: Bytes,
    }
}

wire_struct! {
    /// `PseudonymousCredentialTBS`
    pub struct PseudonymousCredentialTbs {
        /// As in the credential.
        pub client_pseudonym: IdentifierUri,
        /// As in the credential.
        pub user_pseudonym: IdentifierUri,
        /// As in the credential.
        pub signature_public_key: Bytes,
    }
}

wire_struct! {
    /// `IdentityLinkTBE`: whose the pseudonym is.
    pub struct IdentityLinkTbe {
        /// Over a [`PseudonymousCredentialTbs`], by the key of `client_credential`.
        pub pseudonymous_credential_signature: Bytes,
        /// The client's real credential.
        pub client_credential: Credential,
    }
}

impl PseudonymousCredentialTbs {
    /// The label of the signature, without the prefix.
    pub const LABEL: &'static str = "PseudonymousCredentialTBS";

    /// Signs with the key of the client's real credential.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(&self, signer: &impl Signer, client_credential: Credential) -> Result<IdentityLinkTbe, SigningError> {
        let pseudonymous_credential_signature = label::sign_with_label(signer, Self::LABEL, &self.to_bytes())?;
        Ok(IdentityLinkTbe {
            pseudonymous_credential_signature,
            client_credential,
        })
    }
}

impl IdentityLinkTbe {
    /// Checks that the holder of `key`, which must be that of `client_credential`, claims this pseudonym.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`].
    pub fn verify(
        &self,
        crypto: &impl OpenMlsCrypto,
        scheme: SignatureScheme,
        key: &[u8],
        pseudonym: &PseudonymousCredential,
    ) -> Result<(), SignatureError> {
        let tbs = label::concatenated(&[
            &pseudonym.client_pseudonym,
            &pseudonym.user_pseudonym,
            &pseudonym.signature_public_key,
        ]);
        let signature = &self.pseudonymous_credential_signature;
        label::verify_with_label(crypto, scheme, key, PseudonymousCredentialTbs::LABEL, &tbs, signature)
    }
}

#[cfg(test)]
mod tests;
