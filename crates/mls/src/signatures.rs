//! Signatures that other threads check while OpenMLS processes the message that they are in. OpenMLS asks about one after the other, and
//! does nothing else meanwhile; what it does is little without them, since a hub decrypts nothing.
//!
//! So OpenMLS is told at once that a signature holds, and goes on. What comes of it counts only if every one of them does, which is waited
//! for before anybody sees it. If one does not, all is thrown away and done again with each signature checked in its place: the
//! refusal is the one that OpenMLS has for it, and comes before whatever it would have found later.

use std::sync::{Mutex, PoisonError};

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair, KemOutput,
    SignatureScheme,
};
use tls_codec::SecretVLBytes;

use crate::meanwhile::Meanwhile;
use crate::provider::crypto;

/// What `process` makes of a message, which only reads the group: done once, with the signatures checked meanwhile, and a second time with
/// each in its place if one of them does not hold.
pub(crate) fn checked<T, E>(mut process: impl FnMut(&Signatures) -> Result<T, E>) -> Result<T, E> {
    let meanwhile = Signatures::meanwhile();
    let outcome = process(&meanwhile);
    match meanwhile.all_hold() {
        true => outcome,
        false => process(&Signatures::in_place()),
    }
}

/// The cryptography with which OpenMLS processes one message.
pub(crate) struct Signatures {
    /// What OpenMLS was told of already. `None`: it is told when it is known.
    owed: Option<Mutex<Vec<Meanwhile<Question, bool>>>>,
}

/// Whether this key has signed that.
struct Question {
    scheme: SignatureScheme,
    key: Vec<u8>,
    content: Vec<u8>,
    signature: Vec<u8>,
}

impl Signatures {
    fn meanwhile() -> Self {
        Self {
            owed: Some(Mutex::default()),
        }
    }

    /// OpenMLS is told the truth at once.
    pub(crate) fn in_place() -> Self {
        Self { owed: None }
    }

    /// Whether all that is owed holds. Other threads begin with the first, so this one does with the last.
    fn all_hold(self) -> bool {
        let owed = self.owed.map(Mutex::into_inner).transpose();
        let mut owed = owed
            .unwrap_or_else(|poisoned| Some(poisoned.into_inner()))
            .unwrap_or_default();
        let mut all_hold = true;
        while let Some(check) = owed.pop() {
            // What is not begun when one has failed is not begun at all.
            all_hold = all_hold && check.finish();
        }
        all_hold
    }

    /// Has the question answered meanwhile, unless too many are.
    fn owe(&self, question: impl FnOnce() -> Question) -> bool {
        let Some(owed) = &self.owed else { return false };
        let mut owed = owed.lock().unwrap_or_else(PoisonError::into_inner);
        let there_is_room = owed.len() < MAX_OWED;
        if there_is_room {
            owed.push(Meanwhile::offer(question(), Question::answer));
        }
        there_is_room
    }
}

impl Question {
    fn answer(&self) -> bool {
        let answer = crypto().verify_signature(self.scheme, &self.content, &self.key, &self.signature);
        answer.is_ok()
    }
}

impl OpenMlsCrypto for Signatures {
    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        crypto().supports(suite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        crypto().supported_ciphersuites()
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        crypto().hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        crypto().hmac(hash, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        crypto().hkdf_expand(hash, prk, info, length)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        crypto().hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        crypto().aead_encrypt(aead, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        crypto().aead_decrypt(aead, key, data, nonce, aad)
    }

    fn signature_key_gen(&self, scheme: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        crypto().signature_key_gen(scheme)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let question = || Question {
            scheme,
            key: key.to_vec(),
            content: data.to_vec(),
            signature: signature.to_vec(),
        };
        match self.owe(question) {
            true => Ok(()),
            false => crypto().verify_signature(scheme, data, key, signature),
        }
    }

    fn sign(&self, scheme: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        crypto().sign(scheme, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        crypto().hpke_seal(config, key, info, aad, plaintext)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        crypto().hpke_open(config, input, key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        crypto().hpke_setup_sender_and_export(config, key, info, context, length)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        crypto().hpke_setup_receiver_and_export(config, enc, key, info, context, length)
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        crypto().derive_hpke_keypair(config, ikm)
    }
}

/// Signatures of one message that are checked meanwhile, each with a copy of what is signed; those of a commit that adds five hundred.
const MAX_OWED: usize = 1_024;
