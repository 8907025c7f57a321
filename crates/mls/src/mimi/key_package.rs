//! Key packages of MIMI clients as a server takes them in, hands them out and gets them from others (MIMI #fetch-key-material).

use bytes::Bytes;
use nabe_types::UnixMillis;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::key_material::{KeyMaterialRequest, Mls10KeyMaterialRequest};
use nabe_wire::label::{SignatureError, Verified};
use nabe_wire::mls::{Capabilities, ComponentId, Extension, KeyPackage, RequiredCapabilities};
use nabe_wire::{Kept, Message as _};
use openmls::ciphersuite::hash_ref::make_key_package_ref;

use super::identity::{Identity, IdentityError};
use super::shape;
use crate::key_package::{self, KeyPackageError};
use crate::provider::crypto;
use crate::suite::Suite;

/// What a server notes about a key package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfferedKeyPackage {
    /// Its KeyPackageRef (RFC 9420, 5.2), by which a Welcome names it.
    pub reference: Bytes,
    /// The suite it is for.
    pub suite: Suite,
    /// Whose it is.
    pub identity: Identity,
    /// What its client can do.
    pub capabilities: Capabilities,
    /// When it expires.
    pub expires: UnixMillis,
    /// Whether it may be handed out more than once: it says so by OpenMLS's extension or by the component of MLSX
    /// #last-resort-keypackages.
    pub last_resort: bool,
}

impl OfferedKeyPackage {
    /// Checks a bare `KeyPackage`: both signatures, that its lifetime is acceptable, that its own capabilities cover what it uses, and
    /// that its credential names a user. OpenMLS compares the lifetime with the wall clock; `now` is compared in addition.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(bytes: &[u8], now: UnixMillis) -> Result<Self, OfferRefused> {
        let (suite, package) = key_package::parse(bytes)?;
        if !key_package::supports(&package, suite) {
            return Err(KeyPackageError::Unsupported.into());
        }
        key_package::check_lifetime(package.life_time(), now).map_err(KeyPackageError::Lifetime)?;
        let reference = package
            .hash_ref(crypto())
            .map_err(|_| OfferRefused::KeyPackage(KeyPackageError::Malformed))?;
        let read = KeyPackage::from_bytes(bytes).map_err(|_| OfferRefused::KeyPackage(KeyPackageError::Malformed))?;
        let leaf = read.leaf_node;
        Ok(Self {
            reference: Bytes::copy_from_slice(reference.as_slice()),
            suite,
            identity: Identity::parse(&leaf.credential, &leaf.signature_key)?,
            capabilities: leaf.capabilities,
            expires: key_package::millis(package.life_time().not_after()),
            last_resort: package.last_resort() || is_of_last_resort(&read.extensions),
        })
    }
}

/// Why a key package is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OfferRefused {
    /// It is no good.
    #[error(transparent)]
    KeyPackage(#[from] KeyPackageError),
    /// Its credential names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Checks that whoever asks for key packages has the signature key that it names. Nothing else: that its credential is the requesting
/// user's is for others to check.
///
/// # Errors
/// The signature does not hold, no suite of the request is known, or it is not by MLS 1.0.
pub fn check_key_material_request(
    request: KeyMaterialRequest,
) -> Result<Verified<Mls10KeyMaterialRequest>, SignatureError> {
    request.verify(crypto())
}

/// The KeyPackageRef (RFC 9420, 5.2) of a key package that nothing else is asked of; `None` if its suite is none of ours.
#[must_use]
pub fn key_package_ref(package: &Kept<KeyPackage>) -> Option<Bytes> {
    let suite = Suite::from_id(package.cipher_suite.0)?;
    let reference = make_key_package_ref(package.as_bytes(), suite.ciphersuite(), crypto()).ok()?;
    Some(Bytes::copy_from_slice(reference.as_slice()))
}

/// Whether a client that can do this can do what is required (RFC 9420, 11.1).
#[must_use]
pub fn meets(capabilities: &Capabilities, required: &RequiredCapabilities) -> bool {
    shape::covers(capabilities, required)
}

/// Whether it is marked so by the component, whose entry has no data (MLSX #format). One with data says something else.
fn is_of_last_resort(extensions: &[Extension]) -> bool {
    let dictionary = Extension::app_data_dictionary(extensions).and_then(Result::ok);
    dictionary
        .is_some_and(|dictionary: AppDataDictionary| dictionary.data(ComponentId::LAST_RESORT_KEY_PACKAGE) == Some(&[]))
}

#[cfg(test)]
mod tests {
    use nabe_wire::mls::ProposalType;

    use super::*;
    use crate::key_package::LifetimeFault;
    use crate::testing::mimi::{MimiDevice, key_package_ref as reference_of};
    use crate::testing::{TestDevice, wall_clock};

    #[test]
    fn a_key_package_says_whose_it_is_and_what_its_client_can_do() {
        let phone = MimiDevice::new("mimi://b.example/d/bob/phone");
        let package = phone.key_package();
        let offered = OfferedKeyPackage::check(&package, wall_clock()).unwrap();
        assert_eq!(offered.identity.user().to_string(), "mimi://b.example/u/bob");
        let client = offered.identity.client().unwrap();
        assert_eq!(client.to_string(), "mimi://b.example/d/bob/phone");
        assert_eq!(offered.reference, reference_of(&package));
        let kept = Kept::new(KeyPackage::from_bytes(&package).unwrap());
        assert_eq!(key_package_ref(&kept), Some(offered.reference.clone()));
        assert!(offered.expires > wall_clock() && !offered.last_resort);
        let required = |proposals: &[u16]| RequiredCapabilities {
            extension_types: vec![],
            proposal_types: proposals.iter().copied().map(ProposalType).collect(),
            credential_types: vec![],
        };
        assert!(meets(&offered.capabilities, &required(&[8, 10])));
        assert!(!meets(&offered.capabilities, &required(&[0xf0f0])));
    }

    #[test]
    fn a_key_package_that_is_over_or_changed_or_nobody_s_is_refused() {
        let phone = MimiDevice::new("mimi://b.example/d/bob/phone");
        let mut package = phone.key_package();
        let later = UnixMillis(wall_clock().as_u64() + 1000 * 24 * 3_600_000);
        assert_eq!(
            OfferedKeyPackage::check(&package, later),
            Err(KeyPackageError::Lifetime(LifetimeFault::Expired).into())
        );
        *package.last_mut().unwrap() ^= 1;
        assert_eq!(
            OfferedKeyPackage::check(&package, wall_clock()),
            Err(KeyPackageError::BadSignature.into())
        );
        let of_matrix = TestDevice::new("@alice:a.test", "A").key_package();
        let refused = OfferedKeyPackage::check(&of_matrix, wall_clock());
        assert!(matches!(refused, Err(OfferRefused::Identity(_))), "{refused:?}");
    }

    #[test]
    fn an_entry_without_data_marks_a_key_package_of_last_resort() {
        let phone = MimiDevice::new("mimi://b.example/d/bob/phone");
        let is_marked = |component: ComponentId, data: &[u8]| {
            let mut dictionary = AppDataDictionary::new();
            dictionary.set(component, data.to_vec());
            let package = phone.key_package_with(&dictionary);
            OfferedKeyPackage::check(&package, wall_clock()).unwrap().last_resort
        };
        assert!(is_marked(ComponentId::LAST_RESORT_KEY_PACKAGE, b""));
        assert!(!is_marked(ComponentId::LAST_RESORT_KEY_PACKAGE, b"\0"));
        assert!(!is_marked(ComponentId(0x1a1a), b""));
    }
}
