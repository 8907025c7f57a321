//! The device itself: its signature keys, the object that publishes them, and its key packages (LM #int-mls-credentials,
//! #int-mls-key-packages).

use std::time::Duration;

use nabe_mls::{BasicCredential, DeviceDraft, DeviceObject, Suite};
use nabe_types::{DeviceId, UnixMillis, UserId};
use openmls::prelude::{Capabilities, CredentialWithKey, ExtensionType, KeyPackage, KeyPackageRef};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::signatures::Signer as _;
use openmls_traits::storage::StorageProvider as _;
use rusqlite::Connection;
use tls_codec::{Deserialize as _, Serialize as _};

use crate::error::{ClientError, Doing as _, StoreError};
use crate::keys::{SignatureKeys, text};
use crate::provider::Provider;
use crate::store::{DEVICE, KEYS, OwnKeyPackage, USER, Upload, set_meta};

/// Who this device is, and the keys it signs with.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) id: DeviceId,
    keys: SignatureKeys,
}

impl Device {
    /// A new device with new keys.
    pub(crate) fn generate(user: UserId, id: DeviceId, suites: &[Suite]) -> Result<Self, ClientError> {
        let keys = SignatureKeys::generate(suites)?;
        Ok(Self { user, id, keys })
    }

    pub(crate) fn save(&self, connection: &Connection) -> Result<(), ClientError> {
        set_meta(connection, USER, self.user.as_str().as_bytes())?;
        set_meta(connection, DEVICE, self.id.as_str().as_bytes())?;
        Ok(self.keys.save(connection, KEYS)?)
    }

    pub(crate) fn load(connection: &Connection) -> Result<Self, ClientError> {
        let bad = || StoreError::Inconsistent {
            table: "meta",
            column: "value",
        };
        Ok(Self {
            user: UserId::parse(&text(connection, USER)?).map_err(|_| bad())?,
            id: DeviceId::parse(&text(connection, DEVICE)?).map_err(|_| bad())?,
            keys: SignatureKeys::load(connection, KEYS)?,
        })
    }

    /// The cipher suites that it can be in groups of.
    pub(crate) fn suites(&self) -> &[Suite] {
        &self.keys.suites
    }

    /// The object to publish.
    pub(crate) fn object(&self) -> Result<DeviceObject, ClientError> {
        let keys = self.keys.iter().map(|(algorithm, pair)| (algorithm, pair.public()));
        let draft = DeviceDraft::new(&self.user, &self.id, self.suites(), keys)?;
        let signed = draft.sign(|algorithm, message| {
            let pair = self.keys.by_algorithm(algorithm).ok_or(CannotSign)?;
            pair.sign(message).map_err(|_| CannotSign)
        });
        Ok(signed.doing("signing the device object")??)
    }

    /// What signs in groups of this suite.
    pub(crate) fn signer(&self, suite: Suite) -> Result<&SignatureKeyPair, ClientError> {
        self.keys.of(suite).doing("signing")
    }

    /// The credential for leaves of this suite.
    pub(crate) fn credential_with_key(&self, suite: Suite) -> Result<CredentialWithKey, ClientError> {
        let signature_key = self.signer(suite)?.public();
        let credential = BasicCredential {
            user_id: self.user.clone(),
            device_id: self.id.clone(),
            signature_key: signature_key.to_vec(),
        };
        Ok(CredentialWithKey {
            credential: credential.to_mls(),
            signature_key: signature_key.into(),
        })
    }

    /// Makes key packages and notes them as not uploaded. They are valid for as long as OpenMLS makes them, twelve weeks.
    pub(crate) fn make_key_packages(
        &self,
        connection: &Connection,
        suite: Suite,
        count: usize,
        last_resort: bool,
    ) -> Result<(), ClientError> {
        let provider = Provider::new(connection);
        for _ in 0..count {
            let mut builder = KeyPackage::builder().leaf_node_capabilities(capabilities(suite));
            if last_resort {
                builder = builder.mark_as_last_resort();
            }
            let bundle = builder
                .build(
                    suite.ciphersuite(),
                    &provider,
                    self.signer(suite)?,
                    self.credential_with_key(suite)?,
                )
                .doing("making a key package")?;
            let package = bundle.key_package();
            let row = OwnKeyPackage {
                reference: package
                    .hash_ref(provider.crypto())
                    .doing("hashing a key package")?
                    .tls_serialize_detached()
                    .doing("encoding a key package's reference")?,
                suite,
                body: package.tls_serialize_detached().doing("encoding a key package")?,
                last_resort,
                expires: UnixMillis(package.life_time().not_after().saturating_mul(1000)),
                upload: Upload::Waiting,
            };
            row.insert(connection)?;
        }
        Ok(())
    }
}

/// A key does not sign, which none of those we make does.
#[derive(Debug, thiserror::Error)]
#[error("the key does not sign")]
struct CannotSign;

/// Drops the private halves of key packages that expired a while ago: a Welcome for them may still be on its way for
/// [`EXPIRED_KEPT`].
pub(crate) fn drop_expired(connection: &Connection, now: UnixMillis) -> Result<(), ClientError> {
    let provider = Provider::new(connection);
    for package in OwnKeyPackage::all(connection)? {
        if package.expires.plus(EXPIRED_KEPT) < now {
            let reference = KeyPackageRef::tls_deserialize_exact(&package.reference).doing("reading a reference")?;
            provider
                .storage()
                .delete_key_package(&reference)
                .doing("dropping a key package")?;
            package.delete(connection)?;
        }
    }
    Ok(())
}

/// What our leaves say they can do: the standard's suites that we have and the group's own, and the extension that marks a last
/// resort, without which no last resort is valid.
pub(crate) fn capabilities(suite: Suite) -> Capabilities {
    let named = |other: &Suite| *other == suite || !other.is_experimental();
    let suites: Vec<_> = Suite::all().filter(named).map(Suite::ciphersuite).collect();
    Capabilities::new(None, Some(&suites), Some(&[ExtensionType::LastResort]), None, None)
}

const EXPIRED_KEPT: Duration = Duration::from_hours(48);
