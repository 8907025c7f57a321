//! Key packages as a server takes them in and hands them out (LM #int-mls-key-packages, #int-transport-key-claim).

use std::time::Duration;

use nabe_types::{DeviceId, InvalidId, KeyId, UnixMillis, UserId};
use openmls::key_packages::errors::KeyPackageVerifyError;
use openmls::prelude::{ExtensionType, KeyPackage, KeyPackageIn, Lifetime, ProtocolVersion};
use openmls::treesync::errors::LifetimeError;
use tls_codec::Deserialize as _;

use crate::codec::Reader;
use crate::credential::{BasicCredential, CredentialError};
use crate::provider::crypto;
use crate::suite::Suite;

/// Largest key package in bytes. Classical ones are around 300 bytes; the largest post-quantum one has 18 KB of keys and
/// signatures.
pub const MAX_KEY_PACKAGE_BYTES: usize = 24 * 1024;

/// Longest a key package may be valid in all. RFC 9420, 7.2 has applications define one.
pub const MAX_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// Least time a key package must have left to be taken in, or to be added to a group.
pub const MIN_REMAINING_LIFETIME: Duration = Duration::from_hours(48);

/// What a server notes about a key package that it takes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackageInfo {
    /// The suite it is for.
    pub suite: Suite,
    /// Its ID: the algorithm of the suite, and as version the hash reference (RFC 9420, 5.2) in lower-case hexadecimal,
    /// which is also how a Welcome names it.
    pub key_id: KeyId,
    /// When it becomes valid.
    pub not_before: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
    /// Whether it may be handed out more than once.
    pub last_resort: bool,
}

/// Checks a key package that `user`'s `device` uploads: a bare `KeyPackage` of `suite` (of any we know, if `None`), with both
/// signatures, whose credential names this device and whose key is `signature_key`, the one in the device object.
pub fn check_key_package(
    bytes: &[u8],
    suite: Option<Suite>,
    user: &UserId,
    device: &DeviceId,
    signature_key: &[u8],
    now: UnixMillis,
) -> Result<KeyPackageInfo, KeyPackageError> {
    let (found, package) = parse(bytes)?;
    if let Some(expected) = suite
        && expected != found
    {
        return Err(KeyPackageError::OtherSuite { expected, found });
    }
    let leaf = package.leaf_node();
    let key = leaf.signature_key().as_slice();
    let credential = BasicCredential::from_leaf(leaf.credential(), key).map_err(KeyPackageError::Credential)?;
    if credential.user_id != *user {
        return Err(KeyPackageError::OtherUser);
    }
    if credential.device_id != *device {
        return Err(KeyPackageError::OtherDevice);
    }
    if key != signature_key {
        return Err(KeyPackageError::OtherSignatureKey);
    }
    if !supports(&package, found) {
        return Err(KeyPackageError::Unsupported);
    }
    check_lifetime(package.life_time(), now).map_err(KeyPackageError::Lifetime)?;
    let reference = package.hash_ref(crypto()).map_err(|_| KeyPackageError::Malformed)?;
    let key_id = format!("{}:{}", found.key_package_algorithm(), hex(reference.as_slice()));
    Ok(KeyPackageInfo {
        suite: found,
        key_id: KeyId::parse(&key_id).map_err(KeyPackageError::KeyId)?,
        not_before: millis(package.life_time().not_before()),
        expires: millis(package.life_time().not_after()),
        last_resort: package.last_resort(),
    })
}

/// Why a key package is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyPackageError {
    /// Over [`MAX_KEY_PACKAGE_BYTES`].
    #[error("the key package is over {MAX_KEY_PACKAGE_BYTES} bytes")]
    TooLarge,
    /// Not a `KeyPackage` and nothing else.
    #[error("the key package is malformed")]
    Malformed,
    /// An `MLSMessage` around the key package.
    #[error("the key package is wrapped in an MLSMessage")]
    Wrapped,
    /// A suite we cannot compute with.
    #[error("the key package is for the unknown cipher suite {id}")]
    UnknownSuite {
        /// The suite's code point.
        id: u16,
    },
    /// Not the suite it was uploaded for.
    #[error("the key package is for {found}, not for {expected}")]
    OtherSuite {
        /// The suite it should be for.
        expected: Suite,
        /// The suite it is for.
        found: Suite,
    },
    /// A signature, of the package or of its leaf, does not verify.
    #[error("a signature of the key package does not verify")]
    BadSignature,
    /// The credential is not one of the draft's.
    #[error(transparent)]
    Credential(CredentialError),
    /// The credential names another user.
    #[error("the key package's credential names another user")]
    OtherUser,
    /// The credential names another device.
    #[error("the key package's credential names another device")]
    OtherDevice,
    /// Not the key that the device published.
    #[error("the key package is not signed with the key in the device object")]
    OtherSignatureKey,
    /// Its own capabilities do not cover what it uses: its suite, MLS 1.0, basic credentials, its extensions.
    #[error("the key package's capabilities do not cover the key package")]
    Unsupported,
    /// It breaks another rule of RFC 9420, 10.1: a leaf of another source, one key for two purposes, a misplaced extension.
    #[error("the key package is invalid")]
    Invalid,
    /// Its lifetime is not acceptable.
    #[error("the key package {0}")]
    Lifetime(LifetimeFault),
    /// Its hash is too long for a key ID.
    #[error("the key package's {0}")]
    KeyId(InvalidId),
}

/// Why a lifetime is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LifetimeFault {
    /// It is over.
    #[error("has expired")]
    Expired,
    /// It has not begun.
    #[error("is not valid yet")]
    NotYetValid,
    /// It is longer than [`MAX_LIFETIME`] in all.
    #[error("is valid for more than 90 days")]
    TooLong,
    /// It ends within [`MIN_REMAINING_LIFETIME`].
    #[error("expires within 48 hours")]
    ExpiresSoon,
}

/// Judges a lifetime at `now`.
pub(crate) fn check_lifetime(lifetime: &Lifetime, now: UnixMillis) -> Result<(), LifetimeFault> {
    let (begins, ends) = (millis(lifetime.not_before()), millis(lifetime.not_after()));
    if ends <= now {
        Err(LifetimeFault::Expired)
    } else if begins > now {
        Err(LifetimeFault::NotYetValid)
    } else if ends.saturating_since(begins) > MAX_LIFETIME {
        Err(LifetimeFault::TooLong)
    } else if ends.saturating_since(now) < MIN_REMAINING_LIFETIME {
        Err(LifetimeFault::ExpiresSoon)
    } else {
        Ok(())
    }
}

pub(crate) fn lifetime_fault(error: &LifetimeError) -> LifetimeFault {
    match error {
        LifetimeError::NotValidYet { .. } => LifetimeFault::NotYetValid,
        LifetimeError::Expired { .. } | LifetimeError::SystemTimeBeforeUnixEpoch => LifetimeFault::Expired,
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<(Suite, KeyPackage), KeyPackageError> {
    if bytes.len() > MAX_KEY_PACKAGE_BYTES {
        return Err(KeyPackageError::TooLarge);
    }
    // struct { ProtocolVersion version; CipherSuite cipher_suite; … } KeyPackage
    let mut reader = Reader::new(bytes);
    let header = reader.u16().and_then(|version| Ok((version, reader.u16()?)));
    let id = match header {
        Ok((MLS_1_0, WIRE_FORMAT_KEY_PACKAGE)) => return Err(KeyPackageError::Wrapped),
        Ok((MLS_1_0, id)) => id,
        _ => return Err(KeyPackageError::Malformed),
    };
    let suite = Suite::from_id(id).ok_or(KeyPackageError::UnknownSuite { id })?;
    let package = KeyPackageIn::tls_deserialize_exact(bytes).map_err(|_| KeyPackageError::Malformed)?;
    let package = package
        .validate(crypto(), ProtocolVersion::Mls10)
        .map_err(|error| match error {
            KeyPackageVerifyError::LifetimeError(error) => KeyPackageError::Lifetime(lifetime_fault(&error)),
            KeyPackageVerifyError::InvalidSignature | KeyPackageVerifyError::InvalidLeafNodeSignature => {
                KeyPackageError::BadSignature
            }
            KeyPackageVerifyError::UnsupportedExtension => KeyPackageError::Unsupported,
            _ => KeyPackageError::Invalid,
        })?;
    Ok((suite, package))
}

/// Whether the leaf's capabilities cover its own suite, version, credential and extensions; whoever would add it must
/// refuse it otherwise.
pub(crate) fn supports(package: &KeyPackage, suite: Suite) -> bool {
    let leaf = package.leaf_node();
    let capabilities = leaf.capabilities();
    capabilities.ciphersuites().contains(&suite.ciphersuite().into())
        && capabilities.versions().contains(&ProtocolVersion::Mls10)
        && capabilities
            .credentials()
            .contains(&leaf.credential().credential_type())
        && leaf.extensions().iter().all(|extension| {
            let kind = extension.extension_type();
            kind == ExtensionType::ApplicationId || capabilities.extensions().contains(&kind)
        })
}

/// MLS counts seconds.
pub(crate) fn millis(seconds: u64) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1000))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(digit)
        .collect()
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).expect("a nibble is a hexadecimal digit")
}

const MLS_1_0: u16 = 1;
/// The wire format of an `MLSMessage`, in the place where a `KeyPackage` has its suite. Suite 5 has the same number; no
/// implementation of it is known to us.
const WIRE_FORMAT_KEY_PACKAGE: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KeyPackageOptions, TestDevice, wall_clock, wrap_key_package};

    #[test]
    fn a_fresh_key_package_of_every_suite_is_taken_in() {
        for suite in Suite::all() {
            let alice = TestDevice::with_suite("@alice:a.test", "A", suite);
            let info = check(&alice, &alice.key_package()).unwrap();
            assert_eq!(info.suite, suite);
            assert!(!info.last_resort);
            assert!(info.not_before < wall_clock() && wall_clock() < info.expires);
            assert_eq!(info.key_id.algorithm(), suite.key_package_algorithm());
            assert!(info.key_id.version().bytes().all(|c| c.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn the_key_id_is_the_reference_a_welcome_uses() {
        let (alice, bob) = (
            TestDevice::new("@alice:a.test", "A"),
            TestDevice::new("@bob:b.test", "B"),
        );
        let package = bob.key_package();
        let info = check(&bob, &package).unwrap();
        let mut group = alice.create_group("!room:a.test");
        let commit = group.add(&[package]);
        assert_eq!(commit.welcome_references(), [info.key_id.version()]);
    }

    #[test]
    fn a_last_resort_package_says_so() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let package = alice.key_package_with(&KeyPackageOptions {
            last_resort: true,
            ..KeyPackageOptions::default()
        });
        assert!(check(&alice, &package).unwrap().last_resort);
    }

    #[test]
    fn a_package_belongs_to_its_device_and_key() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let package = alice.key_package();
        let judge = |device: &TestDevice, key: &[u8], suite| {
            check_key_package(
                &package,
                suite,
                &device.credential().user_id,
                &device.credential().device_id,
                key,
                wall_clock(),
            )
        };
        let other_user = TestDevice::new("@bob:a.test", "A");
        let other_device = TestDevice::new("@alice:a.test", "B");
        let key = alice.signature_key();
        assert_eq!(judge(&other_user, key, None), Err(KeyPackageError::OtherUser));
        assert_eq!(judge(&other_device, key, None), Err(KeyPackageError::OtherDevice));
        assert_eq!(
            judge(&alice, other_device.signature_key(), None),
            Err(KeyPackageError::OtherSignatureKey)
        );
        assert_eq!(
            judge(&alice, key, Some(Suite::P256_AES128)),
            Err(KeyPackageError::OtherSuite {
                expected: Suite::P256_AES128,
                found: Suite::X25519_AES128
            })
        );
    }

    #[test]
    fn a_package_cut_anywhere_is_refused() {
        for suite in Suite::all() {
            let alice = TestDevice::with_suite("@alice:a.test", "A", suite);
            let package = alice.key_package_with(&KeyPackageOptions {
                last_resort: true,
                ..KeyPackageOptions::default()
            });
            for length in 0..package.len() {
                let refused = check(&alice, &package[..length]);
                assert_eq!(refused, Err(KeyPackageError::Malformed), "{length} bytes");
            }
            let longer = [&package[..], &[0]].concat();
            assert_eq!(check(&alice, &longer), Err(KeyPackageError::Malformed));
        }
    }

    #[test]
    fn a_credential_for_another_key_is_refused() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let claims = BasicCredential {
            signature_key: vec![1; 32],
            ..alice.credential().clone()
        };
        let impostor = alice.with_leaf_credential(claims.to_mls());
        assert_eq!(
            check(&impostor, &impostor.key_package()),
            Err(KeyPackageError::Credential(CredentialError::OtherKey))
        );
    }

    #[test]
    fn lifetimes_have_bounds_on_all_sides() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let now = wall_clock().as_u64() / 1000;
        let judge = |not_before: u64, not_after: u64| {
            let package = alice.key_package_with(&KeyPackageOptions {
                lifetime: Some((not_before, not_after)),
                ..KeyPackageOptions::default()
            });
            check(&alice, &package).map(|_| ())
        };
        let day = 86_400;
        assert_eq!(judge(now - 1, now + 3 * day), Ok(()));
        let fault = |fault| Err(KeyPackageError::Lifetime(fault));
        assert_eq!(judge(now - 9, now - 1), fault(LifetimeFault::Expired));
        assert_eq!(judge(now + day, now + 9 * day), fault(LifetimeFault::NotYetValid));
        assert_eq!(judge(now - day, now + 90 * day), fault(LifetimeFault::TooLong));
        assert_eq!(judge(now - 1, now + 2 * day - 60), fault(LifetimeFault::ExpiresSoon));
    }

    #[test]
    fn our_clock_counts_besides_the_one_openmls_reads() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let package = alice.key_package();
        let at = |now| {
            check_key_package(
                &package,
                None,
                &alice.credential().user_id,
                &alice.credential().device_id,
                alice.signature_key(),
                now,
            )
        };
        let later = wall_clock().plus(Duration::from_hours(84 * 24));
        assert_eq!(at(later), Err(KeyPackageError::Lifetime(LifetimeFault::Expired)));
        assert_eq!(
            at(UnixMillis::ZERO),
            Err(KeyPackageError::Lifetime(LifetimeFault::NotYetValid))
        );
    }

    #[test]
    fn capabilities_must_cover_the_package_itself() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let package = alice.key_package_with(&KeyPackageOptions {
            suites: Some(vec![Suite::P256_AES128]),
            ..KeyPackageOptions::default()
        });
        assert_eq!(check(&alice, &package), Err(KeyPackageError::Unsupported));
    }

    #[test]
    fn hostile_bytes_get_a_named_refusal() {
        let alice = TestDevice::new("@alice:a.test", "A");
        let package = alice.key_package();
        for len in 0..package.len() {
            assert_eq!(check(&alice, &package[..len]), Err(KeyPackageError::Malformed), "{len}");
        }
        let longer = [&package[..], &[0]].concat();
        assert_eq!(check(&alice, &longer), Err(KeyPackageError::Malformed));
        for at in 0..package.len() {
            let mut flipped = package.clone();
            flipped[at] ^= 1;
            assert!(check(&alice, &flipped).is_err(), "byte {at}");
        }
        assert_eq!(check(&alice, &vec![0; 2 << 20]), Err(KeyPackageError::TooLarge));
        assert_eq!(
            check(&alice, &wrap_key_package(&package)),
            Err(KeyPackageError::Wrapped)
        );
        let mut unknown = package;
        unknown[3] = 4;
        assert_eq!(check(&alice, &unknown), Err(KeyPackageError::UnknownSuite { id: 4 }));
    }

    fn check(device: &TestDevice, bytes: &[u8]) -> Result<KeyPackageInfo, KeyPackageError> {
        check_key_package(
            bytes,
            None,
            &device.credential().user_id,
            &device.credential().device_id,
            device.signature_key(),
            wall_clock(),
        )
    }
}
