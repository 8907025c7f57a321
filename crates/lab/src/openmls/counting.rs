//! A provider for OpenMLS of any cryptography and memory storage, which counts what is asked of it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nabe_mls::testing::TestDevice;
use openmls_rust_crypto::MemoryStorage;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair, KemOutput,
    SignatureScheme,
};
use tls_codec::SecretVLBytes;

use super::Backend;

/// What was asked for so far, in this process.
struct Counters {
    seals: AtomicU64,
    opens: AtomicU64,
    signatures: AtomicU64,
    verifications: AtomicU64,
}

static COUNTERS: Counters = Counters {
    seals: AtomicU64::new(0),
    opens: AtomicU64::new(0),
    signatures: AtomicU64::new(0),
    verifications: AtomicU64::new(0),
};

/// The cryptographic operations since the last call, by name.
pub(super) fn take_work() -> BTreeMap<String, u64> {
    let take = |name: &str, counter: &AtomicU64| (name.to_owned(), counter.swap(0, Relaxed));
    [
        take("seals", &COUNTERS.seals),
        take("opens", &COUNTERS.opens),
        take("signatures", &COUNTERS.signatures),
        take("verifications", &COUNTERS.verifications),
    ]
    .into()
}

/// One device's provider.
pub(super) struct Provider<B: Backend> {
    crypto: Counted<B>,
    storage: MemoryStorage,
}

impl<B: Backend> Provider<B> {
    pub(super) fn new() -> Self {
        Self {
            crypto: Counted(B::crypto()),
            storage: MemoryStorage::default(),
        }
    }

    /// A copy of what is stored.
    pub(super) fn copy(&self) -> Self {
        let values = self.storage.values.read().unwrap_or_else(PoisonError::into_inner);
        Self {
            crypto: Counted(B::crypto()),
            storage: MemoryStorage {
                values: RwLock::new(values.clone()),
            },
        }
    }

    /// Bytes stored, keys included.
    pub(super) fn stored_bytes(&self) -> u64 {
        let values = self.storage.values.read().unwrap_or_else(PoisonError::into_inner);
        values.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

impl<B: Backend> OpenMlsProvider for Provider<B> {
    type CryptoProvider = Counted<B>;
    type RandProvider = B::Crypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    fn crypto(&self) -> &Counted<B> {
        &self.crypto
    }

    fn rand(&self) -> &B::Crypto {
        &self.crypto.0
    }
}

/// Signs with a device's key by the same cryptography, and counts.
pub(super) struct CountingSigner<'a, B: Backend> {
    pub(super) crypto: &'a Counted<B>,
    pub(super) device: &'a TestDevice,
}

impl<B: Backend> Signer for CountingSigner<'_, B> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signed = self
            .crypto
            .sign(self.signature_scheme(), payload, self.device.private_key());
        signed.map_err(SignerError::CryptoError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        self.device.signer().signature_scheme()
    }
}

/// What is computed, counted.
pub(super) struct Counted<B: Backend>(B::Crypto);

impl<B: Backend> OpenMlsCrypto for Counted<B> {
    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        self.0.supports(suite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.0.supported_ciphersuites()
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.0.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.0.hmac(hash, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.0.hkdf_expand(hash, prk, info, length)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.0.aead_encrypt(aead, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.0.aead_decrypt(aead, key, data, nonce, aad)
    }

    fn signature_key_gen(&self, scheme: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.0.signature_key_gen(scheme)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        COUNTERS.verifications.fetch_add(1, Relaxed);
        self.0.verify_signature(scheme, data, key, signature)
    }

    fn sign(&self, scheme: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        COUNTERS.signatures.fetch_add(1, Relaxed);
        self.0.sign(scheme, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        COUNTERS.seals.fetch_add(1, Relaxed);
        self.0.hpke_seal(config, key, info, aad, plaintext)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        COUNTERS.opens.fetch_add(1, Relaxed);
        self.0.hpke_open(config, input, key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.0.hpke_setup_sender_and_export(config, key, info, context, length)
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
        self.0
            .hpke_setup_receiver_and_export(config, enc, key, info, context, length)
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        self.0.derive_hpke_keypair(config, ikm)
    }
}
