//! Signatures that OpenMLS will ask about while it processes a commit, offered to other threads before it does: those of new leaves and
//! key packages, which are known from the commit's bytes alone. OpenMLS asks one after the other and for nothing else meanwhile.
//!
//! An answer counts for exactly the question it was worked out for: algorithm, key, content and signature. Whatever OpenMLS asks that
//! nobody was asked before is answered on the spot, so nothing is taken for checked that is not.

use std::sync::{Mutex, PoisonError};

use nabe_wire::Kept;
use nabe_wire::label::{Signed as _, sign_content};
use nabe_wire::mls::{Commit, KeyPackage, LeafNode, Proposal, ProposalOrRef};
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair, KemOutput,
    SignatureScheme,
};
use tls_codec::SecretVLBytes;

use crate::meanwhile::Meanwhile;
use crate::provider::crypto;

/// The cryptography of a commit that is being processed, with the signatures that are checked ahead.
pub(super) struct CheckedAhead {
    scheme: SignatureScheme,
    checks: Mutex<Vec<Meanwhile<Question, bool>>>,
}

/// Whether this key has signed that.
struct Question {
    scheme: SignatureScheme,
    key: Vec<u8>,
    content: Vec<u8>,
    signature: Vec<u8>,
}

impl CheckedAhead {
    /// Has the signatures of what is new in a commit checked. `committer` is the group's ID and the leaf of a member that commits; whoever
    /// joins by the commit has no leaf yet, and its signature is left for later.
    pub(super) fn of(commit: &Commit, scheme: SignatureScheme, committer: Option<(&[u8], u32)>) -> Self {
        let ahead = Self {
            scheme,
            checks: Mutex::default(),
        };
        if let (Some(path), Some(place)) = (&commit.path, committer) {
            ahead.offer_leaf(&path.leaf_node, Some(place));
        }
        for proposal in commit.proposals.iter().take(MAX_PACKAGES) {
            if let ProposalOrRef::Proposal(Proposal::Add(package)) = proposal {
                ahead.offer_package(package);
            }
        }
        ahead
    }

    fn offer_package(&self, package: &Kept<KeyPackage>) {
        let leaf = &package.leaf_node;
        self.offer_leaf(leaf, None);
        let content = sign_content(KeyPackage::LABEL, &package.to_be_signed());
        self.offer(&leaf.signature_key, content, package.signature());
    }

    fn offer_leaf(&self, leaf: &LeafNode, place: Option<(&[u8], u32)>) {
        let content = sign_content(LeafNode::LABEL, &leaf.to_be_signed(place));
        self.offer(&leaf.signature_key, content, &leaf.signature);
    }

    fn offer(&self, key: &[u8], content: Vec<u8>, signature: &[u8]) {
        let question = Question {
            scheme: self.scheme,
            key: key.to_vec(),
            content,
            signature: signature.to_vec(),
        };
        let check = Meanwhile::offer(question, Question::answer);
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// The check of exactly this, if it was offered.
    fn take(
        &self,
        scheme: SignatureScheme,
        content: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Option<Meanwhile<Question, bool>> {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = checks.iter().position(|check| {
            let asked = check.work();
            asked.scheme == scheme && asked.signature == signature && asked.key == key && asked.content == content
        })?;
        Some(checks.swap_remove(place))
    }

    /// How many OpenMLS has not asked about.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Question {
    fn answer(&self) -> bool {
        let answer = crypto().verify_signature(self.scheme, &self.content, &self.key, &self.signature);
        answer.is_ok()
    }
}

impl OpenMlsCrypto for CheckedAhead {
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
        match self.take(scheme, data, key, signature).is_some_and(Meanwhile::finish) {
            true => Ok(()),
            // Nobody was asked; or what fails says why.
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

/// Key packages whose signatures are checked ahead: looking for one among them costs less than checking it.
const MAX_PACKAGES: usize = 64;
