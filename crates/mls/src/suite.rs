//! Cipher suites and the algorithm names made of them (LM #int-mls-considerations, #int-mls-credentials,
//! #int-mls-key-packages).
//!
//! The draft spells out one suite, `MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519`, as
//! `dhkemx25519-aes128gcm-sha256-ed25519`: the MLS name without `MLS` and the security level, in lower case, with
//! hyphens. The others are named the same way.

use std::collections::BTreeSet;
use std::fmt;

use nabe_types::{DeviceId, KeyId};
use openmls_traits::types::{Ciphersuite, SignatureScheme};

/// An MLS cipher suite that this build can compute with.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Suite(Ciphersuite);

impl Suite {
    /// Suite 1, the draft's own and the default.
    pub const X25519_AES128: Self = Self(Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519);
    /// Suite 2.
    pub const P256_AES128: Self = Self(Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256);
    /// Suite 3.
    pub const X25519_CHACHA20: Self = Self(Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519);

    /// Every suite this build knows, in the order of their code points in our table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.suite)
    }

    /// The suite with this code point.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::all().find(|suite| suite.id() == id)
    }

    /// The suite with this name, such as `dhkemx25519-aes128gcm-sha256-ed25519`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.suite)
    }

    /// The suite of a room's algorithm, `m.mls.v1.<suite>`.
    #[must_use]
    pub fn from_room_algorithm(algorithm: &str) -> Option<Self> {
        Self::from_name(algorithm.strip_prefix(ROOM)?)
    }

    /// The suite of a Welcome's algorithm, `m.mls.v1.welcome.<suite>`.
    #[must_use]
    pub fn from_welcome_algorithm(algorithm: &str) -> Option<Self> {
        Self::from_name(algorithm.strip_prefix(WELCOME)?)
    }

    /// The suite of a key package's algorithm, `m.mls.v1.key_package.<suite>`.
    #[must_use]
    pub fn from_key_package_algorithm(algorithm: &str) -> Option<Self> {
        Self::from_name(algorithm.strip_prefix(KEY_PACKAGE)?)
    }

    /// The code point in MLS.
    #[must_use]
    pub fn id(self) -> u16 {
        self.0 as u16
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// `m.mls.v1.<suite>`: in a room's `encryption` and in `m.room.encrypted` (LM #int-mls-considerations).
    #[must_use]
    pub fn room_algorithm(self) -> String {
        format!("{ROOM}{}", self.name())
    }

    /// `m.mls.v1.welcome.<suite>` (LM #int-mls-add-remove).
    #[must_use]
    pub fn welcome_algorithm(self) -> String {
        format!("{WELCOME}{}", self.name())
    }

    /// `m.mls.v1.key_package.<suite>` (LM #int-mls-key-packages).
    #[must_use]
    pub fn key_package_algorithm(self) -> String {
        format!("{KEY_PACKAGE}{}", self.name())
    }

    /// The algorithm of the device key that a device needs for this suite.
    #[must_use]
    pub fn credential_algorithm(self) -> CredentialAlgorithm {
        self.row().credential
    }

    /// The suite in OpenMLS's terms.
    #[must_use]
    pub const fn ciphersuite(self) -> Ciphersuite {
        self.0
    }

    /// The suite that OpenMLS means, if it is one of ours.
    #[must_use]
    pub fn from_ciphersuite(ciphersuite: Ciphersuite) -> Option<Self> {
        Self::from_id(ciphersuite as u16)
    }

    /// Whether this is one of the post-quantum suites, which OpenMLS offers ahead of their standard: their code points are
    /// provisional, and so are the names made of them.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        !DEFAULT.contains(&self)
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.suite == self)
            .expect("a suite is only made from the table's rows")
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self::X25519_AES128
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({})", self.name())
    }
}

/// The suites that a server lets its users make rooms with and upload key packages of. The default is 1, 2 and 3.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SuiteSet(BTreeSet<Suite>);

impl SuiteSet {
    /// Every suite this build knows, the experimental ones among them.
    #[must_use]
    pub fn all() -> Self {
        Suite::all().collect()
    }

    /// Whether `suite` is enabled.
    #[must_use]
    pub fn contains(&self, suite: Suite) -> bool {
        self.0.contains(&suite)
    }

    /// The enabled suites.
    pub fn iter(&self) -> impl Iterator<Item = Suite> + '_ {
        self.0.iter().copied()
    }
}

impl Default for SuiteSet {
    fn default() -> Self {
        DEFAULT.into_iter().collect()
    }
}

impl FromIterator<Suite> for SuiteSet {
    fn from_iter<I: IntoIterator<Item = Suite>>(suites: I) -> Self {
        Self(suites.into_iter().collect())
    }
}

/// The algorithm of a device's signature key (LM #int-mls-credentials). Suites that sign alike share a key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CredentialAlgorithm {
    /// `m.mls.v1.credential.ed25519`, the draft's own.
    Ed25519,
    /// `m.mls.v1.credential.p256`
    P256,
    /// `m.mls.v1.credential.p384`
    P384,
    /// `m.mls.v1.credential.mldsa44`
    MlDsa44,
    /// `m.mls.v1.credential.mldsa65`
    MlDsa65,
    /// `m.mls.v1.credential.mldsa87`
    MlDsa87,
}

impl CredentialAlgorithm {
    /// Reads `m.mls.v1.credential.<algorithm>`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        CREDENTIALS
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|&(algorithm, ..)| algorithm)
    }

    /// `m.mls.v1.credential.<algorithm>`
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The ID of the device's key: algorithm and device ID. `None` if the device ID is so long that no key ID holds both.
    #[must_use]
    pub fn key_id(self, device: &DeviceId) -> Option<KeyId> {
        KeyId::parse(&format!("{}:{device}", self.name())).ok()
    }

    /// The signature scheme in OpenMLS's terms.
    #[must_use]
    pub fn scheme(self) -> SignatureScheme {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, SignatureScheme) {
        CREDENTIALS
            .iter()
            .find(|(algorithm, ..)| *algorithm == self)
            .expect("every algorithm has a row")
    }
}

impl fmt::Display for CredentialAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

struct Row {
    suite: Suite,
    name: &'static str,
    credential: CredentialAlgorithm,
}

const fn row(ciphersuite: Ciphersuite, name: &'static str, credential: CredentialAlgorithm) -> Row {
    Row {
        suite: Suite(ciphersuite),
        name,
        credential,
    }
}

const DEFAULT: [Suite; 3] = [Suite::X25519_AES128, Suite::P256_AES128, Suite::X25519_CHACHA20];

const ROOM: &str = "m.mls.v1.";
const WELCOME: &str = "m.mls.v1.welcome.";
const KEY_PACKAGE: &str = "m.mls.v1.key_package.";

const TABLE: &[Row] = &[
    row(
        Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
        "dhkemx25519-aes128gcm-sha256-ed25519",
        CredentialAlgorithm::Ed25519,
    ),
    row(
        Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        "dhkemp256-aes128gcm-sha256-p256",
        CredentialAlgorithm::P256,
    ),
    row(
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
        "dhkemx25519-chacha20poly1305-sha256-ed25519",
        CredentialAlgorithm::Ed25519,
    ),
    row(
        Ciphersuite::MLS_192_MLKEM1024_AES256GCM_SHA384_P384,
        "mlkem1024-aes256gcm-sha384-p384",
        CredentialAlgorithm::P384,
    ),
    row(
        Ciphersuite::MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519,
        "mlkem768x25519-aes256gcm-sha384-ed25519",
        CredentialAlgorithm::Ed25519,
    ),
    row(
        Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519,
        "mlkem768x25519-aes128gcm-sha256-ed25519",
        CredentialAlgorithm::Ed25519,
    ),
    row(
        Ciphersuite::MLS_128_MLKEM768_AES256GCM_SHA384_P256,
        "mlkem768-aes256gcm-sha384-p256",
        CredentialAlgorithm::P256,
    ),
    row(
        Ciphersuite::MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA384_MLDSA44,
        "mlkem768x25519-chacha20poly1305-sha384-mldsa44",
        CredentialAlgorithm::MlDsa44,
    ),
    row(
        Ciphersuite::MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65,
        "mlkem768-aes256gcm-sha384-mldsa65",
        CredentialAlgorithm::MlDsa65,
    ),
    row(
        Ciphersuite::MLS_256_MLKEM1024_AES256GCM_SHA384_MLDSA87,
        "mlkem1024-aes256gcm-sha384-mldsa87",
        CredentialAlgorithm::MlDsa87,
    ),
    row(
        Ciphersuite::MLS_256_MLKEM1024_AES256GCM_SHA512_MLDSA87,
        "mlkem1024-aes256gcm-sha512-mldsa87",
        CredentialAlgorithm::MlDsa87,
    ),
    row(
        Ciphersuite::MLS_128_MLKEM768_AES256GCM_SHA384_Ed25519,
        "mlkem768-aes256gcm-sha384-ed25519",
        CredentialAlgorithm::Ed25519,
    ),
];

const CREDENTIALS: &[(CredentialAlgorithm, &str, SignatureScheme)] = &[
    (
        CredentialAlgorithm::Ed25519,
        "m.mls.v1.credential.ed25519",
        SignatureScheme::ED25519,
    ),
    (
        CredentialAlgorithm::P256,
        "m.mls.v1.credential.p256",
        SignatureScheme::ECDSA_SECP256R1_SHA256,
    ),
    (
        CredentialAlgorithm::P384,
        "m.mls.v1.credential.p384",
        SignatureScheme::ECDSA_SECP384R1_SHA384,
    ),
    (
        CredentialAlgorithm::MlDsa44,
        "m.mls.v1.credential.mldsa44",
        SignatureScheme::MLDSA44,
    ),
    (
        CredentialAlgorithm::MlDsa65,
        "m.mls.v1.credential.mldsa65",
        SignatureScheme::MLDSA65,
    ),
    (
        CredentialAlgorithm::MlDsa87,
        "m.mls.v1.credential.mldsa87",
        SignatureScheme::MLDSA87,
    ),
];

#[cfg(test)]
mod tests {
    use openmls_traits::crypto::OpenMlsCrypto as _;

    use super::*;
    use crate::provider::crypto;

    #[test]
    fn the_draft_names_suite_one() {
        let suite = Suite::default();
        assert_eq!(suite.id(), 1);
        assert_eq!(suite.room_algorithm(), "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519");
        assert_eq!(
            suite.welcome_algorithm(),
            "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519"
        );
        assert_eq!(
            suite.key_package_algorithm(),
            "m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519"
        );
        assert_eq!(suite.credential_algorithm().name(), "m.mls.v1.credential.ed25519");
    }

    #[test]
    fn every_suite_is_found_by_each_of_its_names() {
        for suite in Suite::all() {
            assert_eq!(Suite::from_id(suite.id()), Some(suite));
            assert_eq!(Suite::from_name(suite.name()), Some(suite));
            assert_eq!(Suite::from_room_algorithm(&suite.room_algorithm()), Some(suite));
            assert_eq!(Suite::from_welcome_algorithm(&suite.welcome_algorithm()), Some(suite));
            assert_eq!(
                Suite::from_key_package_algorithm(&suite.key_package_algorithm()),
                Some(suite)
            );
            let credential = suite.credential_algorithm();
            assert_eq!(CredentialAlgorithm::from_name(credential.name()), Some(credential));
            assert_eq!(suite.ciphersuite().signature_algorithm(), credential.scheme());
        }
    }

    #[test]
    fn the_table_is_what_openmls_supports() {
        let ours: BTreeSet<u16> = Suite::all().map(Suite::id).collect();
        let theirs: BTreeSet<u16> = crypto()
            .supported_ciphersuites()
            .into_iter()
            .map(|suite| suite as u16)
            .collect();
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), Suite::all().count(), "no code point twice");
    }

    #[test]
    fn a_name_is_not_taken_for_another_kind_of_name() {
        let suite = Suite::default();
        assert_eq!(Suite::from_room_algorithm(&suite.welcome_algorithm()), None);
        assert_eq!(Suite::from_welcome_algorithm(&suite.room_algorithm()), None);
        assert_eq!(Suite::from_room_algorithm(suite.name()), None);
        assert_eq!(
            Suite::from_room_algorithm("m.mls.v1.DHKEMX25519-aes128gcm-sha256-ed25519"),
            None
        );
        assert_eq!(Suite::from_id(4), None);
    }

    #[test]
    fn one_to_three_are_enabled_unless_others_are_named() {
        let enabled = SuiteSet::default();
        assert_eq!(enabled.iter().map(Suite::id).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(enabled.iter().all(|suite| !suite.is_experimental()));
        assert!(
            Suite::all()
                .filter(|&suite| !enabled.contains(suite))
                .all(Suite::is_experimental)
        );
        assert_eq!(SuiteSet::all().iter().count(), Suite::all().count());
        let only: SuiteSet = [Suite::P256_AES128].into_iter().collect();
        assert!(only.contains(Suite::P256_AES128) && !only.contains(Suite::X25519_AES128));
    }
}
