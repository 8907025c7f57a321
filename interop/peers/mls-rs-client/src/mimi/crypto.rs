//! mls-rs's cryptography, but over the draft's form of messages (see [`frame`](super::frame)).
//!
//! mls-rs hands its provider of cryptography all that it hashes, signs and authenticates, as bytes. What holds a proposal with the mark
//! in it is put into the draft's form there: under signatures (`FramedContentTBS`), under the membership tag, in the transcript hash and in
//! references to proposals. So every value that others see, or compute, too, is that of the wire.

use std::borrow::Cow;

use mls_rs::crypto::{HpkeCiphertext, HpkePublicKey, HpkeSecretKey, SignaturePublicKey, SignatureSecretKey};
use mls_rs::{CipherSuite, CipherSuiteProvider, CryptoProvider};
use mls_rs_core::crypto::HpkePsk;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use zeroize::Zeroizing;

use super::bytes::{Reader, vec_of};
use super::frame::{Form, contains_mark, framed};
use crate::error::{Result as OurResult, invalid};

type Inner = <RustCryptoProvider as CryptoProvider>::CipherSuiteProvider;
type Failed = <Inner as CipherSuiteProvider>::Error;

/// The provider.
#[derive(Clone, Debug, Default)]
pub struct Crypto(RustCryptoProvider);

/// One cipher suite of it.
#[derive(Clone)]
pub struct Suite(Inner);

impl CryptoProvider for Crypto {
    type CipherSuiteProvider = Suite;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        self.0.supported_cipher_suites()
    }

    fn cipher_suite_provider(&self, suite: CipherSuite) -> Option<Suite> {
        self.0.cipher_suite_provider(suite).map(Suite)
    }
}

/// `SignContent`, whose content is a version, a wire format and a `FramedContent`.
fn signed(data: &[u8]) -> Cow<'_, [u8]> {
    in_draft_form(data, || labelled(data, 4))
}

/// `AuthenticatedContentTBM`
fn tagged(data: &[u8]) -> Cow<'_, [u8]> {
    in_draft_form(data, || after(data, 4))
}

/// `RefHashInput`, or `ConfirmedTranscriptHashInput` after an interim hash that is empty in the first epoch.
fn hashed(data: &[u8]) -> Cow<'_, [u8]> {
    in_draft_form(data, || {
        let is_public = |at: usize| data.get(at..at + 2) == Some(&[0, 1]);
        let transcript = |at: usize| is_public(at).then(|| after(data, at + 2).ok()).flatten();
        labelled(data, 2)
            .ok()
            .or_else(|| transcript(HASH_LENGTH))
            .or_else(|| transcript(0))
            .ok_or_else(|| invalid("none of these"))
    })
}

/// What mls-rs hashes for itself alone, such as messages of its own, stays as it is.
fn in_draft_form(data: &[u8], put: impl FnOnce() -> OurResult<Vec<u8>>) -> Cow<'_, [u8]> {
    if !contains_mark(data) {
        return Cow::Borrowed(data);
    }
    put().map_or(Cow::Borrowed(data), Cow::Owned)
}

fn labelled(data: &[u8], head: usize) -> OurResult<Vec<u8>> {
    let mut from = Reader::new(data);
    let label = from.vec()?;
    let content = from.vec()?;
    if !from.is_empty() {
        return Err(invalid("more than a label and something else"));
    }
    Ok([vec_of(label), vec_of(&after(content, head)?)].concat())
}

fn after(data: &[u8], head: usize) -> OurResult<Vec<u8>> {
    let (head, rest) = data
        .split_at_checked(head)
        .ok_or_else(|| invalid("bytes end too soon"))?;
    Ok([head, &framed(rest, Form::Draft)?].concat())
}

impl CipherSuiteProvider for Suite {
    type Error = Failed;
    type HpkeContextS = <Inner as CipherSuiteProvider>::HpkeContextS;
    type HpkeContextR = <Inner as CipherSuiteProvider>::HpkeContextR;

    fn cipher_suite(&self) -> CipherSuite {
        self.0.cipher_suite()
    }

    fn hash(&self, data: &[u8]) -> Result<Vec<u8>, Failed> {
        self.0.hash(&hashed(data))
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Failed> {
        self.0.mac(key, &tagged(data))
    }

    fn aead_seal(&self, key: &[u8], data: &[u8], aad: Option<&[u8]>, nonce: &[u8]) -> Result<Vec<u8>, Failed> {
        self.0.aead_seal(key, data, aad, nonce)
    }

    fn aead_open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.0.aead_open(key, ciphertext, aad, nonce)
    }

    fn aead_key_size(&self) -> usize {
        self.0.aead_key_size()
    }

    fn aead_nonce_size(&self) -> usize {
        self.0.aead_nonce_size()
    }

    fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.0.kdf_extract(salt, ikm)
    }

    fn kdf_expand(&self, prk: &[u8], info: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.0.kdf_expand(prk, info, len)
    }

    fn kdf_extract_size(&self) -> usize {
        self.0.kdf_extract_size()
    }

    fn hpke_seal(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
    ) -> Result<HpkeCiphertext, Failed> {
        self.0.hpke_seal(key, info, aad, pt)
    }

    fn hpke_seal_psk(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
        psk: HpkePsk<'_>,
    ) -> Result<HpkeCiphertext, Failed> {
        self.0.hpke_seal_psk(key, info, aad, pt, psk)
    }

    fn hpke_open(
        &self,
        ciphertext: &HpkeCiphertext,
        secret: &HpkeSecretKey,
        public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.0.hpke_open(ciphertext, secret, public, info, aad)
    }

    fn hpke_open_psk(
        &self,
        ciphertext: &HpkeCiphertext,
        secret: &HpkeSecretKey,
        public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        psk: HpkePsk<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.0.hpke_open_psk(ciphertext, secret, public, info, aad, psk)
    }

    fn hpke_setup_s(&self, key: &HpkePublicKey, info: &[u8]) -> Result<(Vec<u8>, Self::HpkeContextS), Failed> {
        self.0.hpke_setup_s(key, info)
    }

    fn hpke_setup_r(
        &self,
        kem_output: &[u8],
        secret: &HpkeSecretKey,
        public: &HpkePublicKey,
        info: &[u8],
    ) -> Result<Self::HpkeContextR, Failed> {
        self.0.hpke_setup_r(kem_output, secret, public, info)
    }

    fn kem_derive(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        self.0.kem_derive(ikm)
    }

    fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        self.0.kem_generate()
    }

    fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Result<(), Failed> {
        self.0.kem_public_key_validate(key)
    }

    fn random_bytes(&self, out: &mut [u8]) -> Result<(), Failed> {
        self.0.random_bytes(out)
    }

    fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), Failed> {
        self.0.signature_key_generate()
    }

    fn signature_key_derive_public(&self, secret: &SignatureSecretKey) -> Result<SignaturePublicKey, Failed> {
        self.0.signature_key_derive_public(secret)
    }

    fn sign(&self, secret: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Failed> {
        self.0.sign(secret, &signed(data))
    }

    fn verify(&self, public: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Result<(), Failed> {
        self.0.verify(public, signature, &signed(data))
    }
}

/// Of the suite's hash.
const HASH_LENGTH: usize = 32;
