//! Who someone is: RFC 9420 section 5.3, MLSX #multi-credentials.

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;

use super::names::{CipherSuite, CredentialType};
use crate::codec::{Bytes, Decode, DecodeError, Encode, Message, Reader, wire_struct};
use crate::label::{self, SignatureError, Signed, SigningError, Verified, decode_all};
use crate::pseudonym::PseudonymousCredential;

/// `Credential`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A bare identity; in MIMI a URI.
    Basic {
        /// The identity.
        identity: Bytes,
    },
    /// A chain of certificates, the owner's first.
    X509 {
        /// The chain.
        certificates: Vec<Certificate>,
    },
    /// Of another type: its content without the length.
    Other {
        /// Its type.
        credential_type: CredentialType,
        /// What the type says it is.
        content: Bytes,
    },
}

wire_struct! {
    /// `Certificate`
    pub struct Certificate {
        /// In DER.
        pub cert_data: Bytes,
    }
}

impl Credential {
    /// Its type.
    pub fn credential_type(&self) -> CredentialType {
        match self {
            Self::Basic { .. } => CredentialType::BASIC,
            Self::X509 { .. } => CredentialType::X509,
            Self::Other { credential_type, .. } => *credential_type,
        }
    }

    /// The pseudonym, if it is one (MIMI #credential-encryption).
    ///
    /// # Errors
    /// If it is of that type and its content is not.
    pub fn pseudonymous(&self) -> Option<Result<PseudonymousCredential, DecodeError>> {
        match self {
            Self::Other {
                credential_type: CredentialType::PSEUDONYMOUS,
                content,
            } => Some(PseudonymousCredential::from_bytes(content)),
            _ => None,
        }
    }

    /// The bindings, if it is a multi-credential of either strength (MLSX #multi-credentials).
    ///
    /// # Errors
    /// If it is of such a type and its content is not.
    pub fn bindings(&self) -> Option<Result<Vec<CredentialBinding>, DecodeError>> {
        match self {
            Self::Other {
                credential_type: CredentialType::MULTI | CredentialType::WEAK_MULTI,
                content,
            } => Some(decode_all(&content.to_bytes())),
            _ => None,
        }
    }
}

impl Encode for Credential {
    fn encode(&self, out: &mut Vec<u8>) {
        self.credential_type().encode(out);
        match self {
            Self::Basic { identity } => identity.encode(out),
            Self::X509 { certificates } => certificates.encode(out),
            Self::Other { content, .. } => content.encode(out),
        }
    }
}

impl Decode for Credential {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.read("credential_type")? {
            CredentialType::BASIC => Self::Basic {
                identity: reader.read("identity")?,
            },
            CredentialType::X509 => Self::X509 {
                certificates: reader.read("certificates")?,
            },
            credential_type => Self::Other {
                credential_type,
                content: reader.read("content")?,
            },
        })
    }
}

wire_struct! {
    /// `ExternalSender`: who may propose without being a member.
    pub struct ExternalSender {
        /// Its key.
        pub signature_key: Bytes,
        /// Who it is.
        pub credential: Credential,
    }
}

wire_struct! {
    /// `MultiCredential` and `WeakMultiCredential`, which differ in nothing but their type: the content of such a
    /// credential.
    pub struct MultiCredential {
        /// The credentials, each with a signature that ties it to the leaf's key.
        pub bindings: Vec<CredentialBinding>,
    }
}

wire_struct! {
    /// `CredentialBinding`
    pub struct CredentialBinding {
        /// The suite whose algorithm signs.
        pub cipher_suite: CipherSuite,
        /// Who signs.
        pub credential: Credential,
        /// With which key.
        pub credential_key: Bytes,
        /// Over the fields above and the leaf's key.
        pub signature: Bytes,
    }
}

wire_struct! {
    /// `CredentialBindingTBS`
    pub struct CredentialBindingTbs {
        /// As in the binding.
        pub cipher_suite: CipherSuite,
        /// As in the binding.
        pub credential: Credential,
        /// As in the binding.
        pub credential_key: Bytes,
        /// The key of the leaf that the credential is for.
        pub signature_key: Bytes,
    }
}

impl CredentialBindingTbs {
    const LABEL: &'static str = "CredentialBindingTBS";

    /// Signs with the credential's key.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(self, signer: &impl Signer) -> Result<CredentialBinding, SigningError> {
        let signature = label::sign_for_suite(signer, self.cipher_suite, Self::LABEL, &self.to_bytes())?;
        Ok(CredentialBinding {
            cipher_suite: self.cipher_suite,
            credential: self.credential,
            credential_key: self.credential_key,
            signature,
        })
    }
}

impl CredentialBinding {
    /// Checks that the holder of `credential_key` says that the leaf with `signature_key` is theirs. (The draft says
    /// once that the signature is valid under the leaf's key; that cannot be meant, see D-multi-credential in its
    /// decisions.)
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        self,
        crypto: &impl OpenMlsCrypto,
        signature_key: &[u8],
    ) -> Result<Verified<BoundCredential>, SignatureError> {
        let (suite, key) = (self.cipher_suite, self.credential_key.clone());
        let bound = BoundCredential {
            binding: self,
            signature_key: signature_key.into(),
        };
        label::verify(crypto, suite, &key, bound)
    }
}

/// A binding together with the key of the leaf it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundCredential {
    /// The binding.
    pub binding: CredentialBinding,
    /// The leaf's key.
    pub signature_key: Bytes,
}

impl Signed for BoundCredential {
    const LABEL: &'static str = CredentialBindingTbs::LABEL;

    fn to_be_signed(&self) -> Vec<u8> {
        let binding = &self.binding;
        label::concatenated(&[
            &binding.cipher_suite,
            &binding.credential,
            &binding.credential_key,
            &self.signature_key,
        ])
    }

    fn signature(&self) -> &[u8] {
        &self.binding.signature
    }
}
