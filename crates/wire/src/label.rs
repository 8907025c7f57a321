//! `SignWithLabel` and `EncryptWithLabel` (RFC 9420 sections 5.1.2 and 5.1.3), over the cryptography of OpenMLS's
//! provider traits.
//!
//! A struct that is signed implements [`Signed`]: its label, what the signature covers, the signature. Checking one
//! gives [`Verified`], which can be had in no other way, so a function that asks for `&Verified<KeyMaterialRequest>`
//! needs no second look.

use std::ops::Deref;

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{CryptoError, HpkeCiphertext as ProviderCiphertext};

pub use openmls_traits::signatures::{Signer, SignerError};
pub use openmls_traits::types::SignatureScheme;

use crate::codec::{Bytes, Decode, DecodeError, Encode, Message};
use crate::mls::{CipherSuite, ComponentId, HpkeCiphertext};

/// What begins every label of MLS 1.0.
const PREFIX: &str = "MLS 1.0 ";

/// A struct that carries a signature over the rest of itself.
pub trait Signed {
    /// The label, without the prefix `MLS 1.0 `.
    const LABEL: &'static str;

    /// The encoding of what is signed, `…TBS` in the drafts.
    fn to_be_signed(&self) -> Vec<u8>;

    /// The signature it carries.
    fn signature(&self) -> &[u8];
}

/// A value whose signature was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value by itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// The cipher suite has no signature algorithm that we know.
    #[error("cipher suite {suite:?} is not known")]
    UnknownSuite {
        /// The suite.
        suite: CipherSuite,
    },
    /// The signature is not by this key over these bytes.
    #[error("the signature does not hold")]
    Invalid,
}

/// Why something could not be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningError {
    /// The signer works with another algorithm than the suite asks for.
    #[error("the key is for another signature algorithm than that of {suite:?}")]
    OtherAlgorithm {
        /// The suite.
        suite: CipherSuite,
    },
    /// The signer failed.
    #[error("signing failed: {0:?}")]
    Signer(SignerError),
}

/// Why something could not be sealed or opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The cipher suite has no HPKE that we know.
    #[error("cipher suite {suite:?} is not known")]
    UnknownSuite {
        /// The suite.
        suite: CipherSuite,
    },
    /// The key is none, or the ciphertext is not for it and this label and context.
    #[error("HPKE failed")]
    Hpke,
    /// It opened, and what was inside is not what it should be.
    #[error("the plaintext: {0}")]
    Plaintext(#[from] DecodeError),
}

/// `SignContent` of RFC 9420 section 5.1.2: what a labelled signature is computed over.
pub fn sign_content(label: &str, content: &[u8]) -> Vec<u8> {
    labelled(label.as_bytes(), content)
}

fn labelled(label: &[u8], content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX.len() + label.len() + content.len() + 8);
    Bytes([PREFIX.as_bytes(), label].concat()).encode(&mut out);
    Bytes::from(content).encode(&mut out);
    out
}

/// `SignWithLabel(key, label, content)` by a key of any algorithm.
///
/// # Errors
/// [`SigningError::Signer`].
pub fn sign_with_label(signer: &impl Signer, label: &str, content: &[u8]) -> Result<Bytes, SigningError> {
    let signature = signer.sign(&sign_content(label, content));
    signature.map(Bytes).map_err(SigningError::Signer)
}

/// The same, by a key of the suite's algorithm.
///
/// # Errors
/// [`SigningError`].
pub(crate) fn sign_for_suite(
    signer: &impl Signer,
    suite: CipherSuite,
    label: &str,
    content: &[u8],
) -> Result<Bytes, SigningError> {
    if suite.signature_scheme() != Some(signer.signature_scheme()) {
        return Err(SigningError::OtherAlgorithm { suite });
    }
    sign_with_label(signer, label, content)
}

/// `VerifyWithLabel(key, label, content, signature)`.
///
/// # Errors
/// [`SignatureError::Invalid`].
pub fn verify_with_label(
    crypto: &impl OpenMlsCrypto,
    scheme: SignatureScheme,
    key: &[u8],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    crypto
        .verify_signature(scheme, &sign_content(label, content), key, signature)
        .map_err(|_: CryptoError| SignatureError::Invalid)
}

/// Checks the signature a struct carries, by the algorithm of a cipher suite.
///
/// # Errors
/// [`SignatureError`].
pub fn verify<T: Signed>(
    crypto: &impl OpenMlsCrypto,
    suite: CipherSuite,
    key: &[u8],
    value: T,
) -> Result<Verified<T>, SignatureError> {
    check(crypto, suite, key, &value)?;
    Ok(Verified(value))
}

/// The same for a value that somebody else goes on with.
pub(crate) fn check<T: Signed>(
    crypto: &impl OpenMlsCrypto,
    suite: CipherSuite,
    key: &[u8],
    value: &T,
) -> Result<(), SignatureError> {
    let scheme = suite.signature_scheme().ok_or(SignatureError::UnknownSuite { suite })?;
    check_by_scheme(crypto, scheme, key, value)
}

fn check_by_scheme<T: Signed>(
    crypto: &impl OpenMlsCrypto,
    scheme: SignatureScheme,
    key: &[u8],
    value: &T,
) -> Result<(), SignatureError> {
    verify_with_label(crypto, scheme, key, T::LABEL, &value.to_be_signed(), value.signature())
}

pub(crate) fn verify_by_scheme<T: Signed>(
    crypto: &impl OpenMlsCrypto,
    scheme: SignatureScheme,
    key: &[u8],
    value: T,
) -> Result<Verified<T>, SignatureError> {
    check_by_scheme(crypto, scheme, key, &value)?;
    Ok(Verified(value))
}

/// `EncryptWithLabel(key, label, context, plaintext)`.
///
/// # Errors
/// [`SealError::UnknownSuite`] or [`SealError::Hpke`].
pub fn encrypt_with_label(
    crypto: &impl OpenMlsCrypto,
    suite: CipherSuite,
    key: &[u8],
    label: &str,
    context: &[u8],
    plaintext: &[u8],
) -> Result<HpkeCiphertext, SealError> {
    let config = suite
        .to_openmls()
        .ok_or(SealError::UnknownSuite { suite })?
        .hpke_config();
    let info = labelled(label.as_bytes(), context);
    let sealed = crypto.hpke_seal(config, key, &info, &[], plaintext);
    let sealed = sealed.map_err(|_: CryptoError| SealError::Hpke)?;
    Ok(HpkeCiphertext {
        kem_output: sealed.kem_output.as_slice().into(),
        ciphertext: sealed.ciphertext.as_slice().into(),
    })
}

/// `DecryptWithLabel(key, label, context, kem_output, ciphertext)`.
///
/// # Errors
/// [`SealError::UnknownSuite`] or [`SealError::Hpke`].
pub fn decrypt_with_label(
    crypto: &impl OpenMlsCrypto,
    suite: CipherSuite,
    private_key: &[u8],
    label: &str,
    context: &[u8],
    sealed: &HpkeCiphertext,
) -> Result<Vec<u8>, SealError> {
    let config = suite
        .to_openmls()
        .ok_or(SealError::UnknownSuite { suite })?
        .hpke_config();
    let info = labelled(label.as_bytes(), context);
    let sealed = ProviderCiphertext {
        kem_output: sealed.kem_output.to_vec().into(),
        ciphertext: sealed.ciphertext.to_vec().into(),
    };
    let opened = crypto.hpke_open(config, &sealed, private_key, &info, &[]);
    opened.map_err(|_: CryptoError| SealError::Hpke)
}

/// A struct that is sent sealed (`…TBE` in the drafts): its label.
pub trait Sealed: Message {
    /// The label, without the prefix `MLS 1.0 `.
    const LABEL: &'static str;

    /// Seals it for the holder of `key`.
    ///
    /// # Errors
    /// [`SealError::UnknownSuite`] or [`SealError::Hpke`].
    fn seal(
        &self,
        crypto: &impl OpenMlsCrypto,
        suite: CipherSuite,
        key: &[u8],
        context: &[u8],
    ) -> Result<HpkeCiphertext, SealError> {
        encrypt_with_label(crypto, suite, key, Self::LABEL, context, &self.to_bytes())
    }

    /// Opens and reads it.
    ///
    /// # Errors
    /// [`SealError`].
    fn open(
        crypto: &impl OpenMlsCrypto,
        suite: CipherSuite,
        private_key: &[u8],
        context: &[u8],
        sealed: &HpkeCiphertext,
    ) -> Result<Self, SealError> {
        let plaintext = decrypt_with_label(crypto, suite, private_key, Self::LABEL, context, sealed)?;
        Ok(Self::from_bytes(&plaintext)?)
    }
}

/// `ComponentOperationLabel` (MLSX #component-ids): the label under which a component signs and seals, as it stands
/// behind the prefix of MLS 1.0.
pub fn component_operation_label(component: ComponentId, label: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Bytes::from(b"MLS Component".as_slice()).encode(&mut out);
    component.encode(&mut out);
    Bytes::from(label.as_bytes()).encode(&mut out);
    out
}

/// `SafeSignWithLabel` (MLSX #signature-keys).
///
/// # Errors
/// [`SigningError::Signer`].
pub fn safe_sign_with_label(
    signer: &impl Signer,
    component: ComponentId,
    label: &str,
    content: &[u8],
) -> Result<Bytes, SigningError> {
    let payload = labelled(&component_operation_label(component, label), content);
    signer.sign(&payload).map(Bytes).map_err(SigningError::Signer)
}

/// `SafeVerifyWithLabel` (MLSX #signature-keys).
///
/// # Errors
/// [`SignatureError::Invalid`].
pub fn safe_verify_with_label(
    crypto: &impl OpenMlsCrypto,
    scheme: SignatureScheme,
    key: &[u8],
    (component, label): (ComponentId, &str),
    content: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let payload = labelled(&component_operation_label(component, label), content);
    let checked = crypto.verify_signature(scheme, &payload, key, signature);
    checked.map_err(|_: CryptoError| SignatureError::Invalid)
}

/// The encodings of several values one after the other.
pub(crate) fn concatenated(parts: &[&dyn Encode]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        part.encode(&mut out);
    }
    out
}

/// Reads a whole input whose type has no name of its own.
pub(crate) fn decode_all<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = crate::codec::Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(reader.error(crate::codec::Rule::TrailingBytes { left })),
    }
}
