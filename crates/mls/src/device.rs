//! The object in which a device publishes its keys (LM #int-mls-credentials); also the answer of LM #int-api-get-device
//! and what `m.device_list_update` carries (LM #int-transport-devices).

use std::collections::BTreeMap;

use nabe_signing::{Json, Object, PublicKey, base64u};
use nabe_types::{DeviceId, InvalidId, KeyId, UserId};
use openmls_traits::crypto::OpenMlsCrypto as _;

use crate::credential::{BasicCredential, CredentialError};
use crate::provider::crypto;
use crate::suite::{CredentialAlgorithm, Suite};

/// Largest device object in bytes of canonical JSON. The draft names no limit; the largest signature scheme we know needs
/// a third of it.
pub const MAX_DEVICE_OBJECT_BYTES: usize = 32 * 1024;

/// A device object that keeps every rule of LM #int-mls-credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceObject {
    object: Object,
    user_id: UserId,
    device_id: DeviceId,
    algorithms: Vec<String>,
    signature_keys: BTreeMap<CredentialAlgorithm, Vec<u8>>,
}

impl DeviceObject {
    /// Checks an object on upload or receipt. All of it is kept as it came, fields we do not know included, because it
    /// is signed. Keys of algorithms that we cannot verify must have a signature, too, but are not used.
    pub fn parse(object: Object) -> Result<Self, DeviceObjectError> {
        let mut signed = Vec::new();
        object.write_canonical_without(&mut signed, &["signatures"]);
        if object.to_canonical().len() > MAX_DEVICE_OBJECT_BYTES {
            return Err(DeviceObjectError::TooLarge);
        }
        let user_id = UserId::parse(string(&object, "user_id")?).map_err(DeviceObjectError::UserId)?;
        let device_id = DeviceId::parse(string(&object, "device_id")?).map_err(DeviceObjectError::DeviceId)?;
        let algorithms = algorithms(&object)?;
        let keys = field(&object, "keys")?
            .as_object()
            .ok_or(DeviceObjectError::Shape { field: "keys" })?;
        let signatures = field(&object, "signatures")?
            .as_object()
            .ok_or(DeviceObjectError::Shape { field: "signatures" })?;
        let signatures = signatures
            .get(user_id.as_str())
            .ok_or(DeviceObjectError::NotSignedByUser)?;
        let signatures = signatures
            .as_object()
            .ok_or(DeviceObjectError::Shape { field: "signatures" })?;
        let mut signature_keys = BTreeMap::new();
        for (key_id, key) in keys {
            let key_id = KeyId::parse(key_id).map_err(DeviceObjectError::KeyId)?;
            if device_id != key_id.version() {
                return Err(DeviceObjectError::KeyOfOtherDevice);
            }
            let signature = signatures
                .get(key_id.as_str())
                .and_then(Json::as_str)
                .ok_or(DeviceObjectError::MissingSignature)?;
            let Some(algorithm) = CredentialAlgorithm::from_name(key_id.algorithm()) else {
                continue;
            };
            let key = credential_key(key, &user_id, &device_id)?;
            verify(algorithm, &key, &signed, signature)?;
            signature_keys.insert(algorithm, key);
        }
        let needed = algorithms
            .iter()
            .filter_map(|algorithm| Suite::from_room_algorithm(algorithm))
            .map(Suite::credential_algorithm);
        for algorithm in needed {
            if !signature_keys.contains_key(&algorithm) {
                return Err(DeviceObjectError::MissingCredential { algorithm });
            }
        }
        Ok(Self {
            object,
            user_id,
            device_id,
            algorithms,
            signature_keys,
        })
    }

    /// The user the device belongs to.
    #[must_use]
    pub const fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// The device.
    #[must_use]
    pub const fn device_id(&self) -> &DeviceId {
        &self.device_id
    }

    /// The encryption algorithms the device supports, as it lists them, unknown ones included.
    #[must_use]
    pub fn algorithms(&self) -> &[String] {
        &self.algorithms
    }

    /// Whether the device lists the room algorithm of `suite`; it then has the key for it, too.
    #[must_use]
    pub fn supports(&self, suite: Suite) -> bool {
        self.algorithms
            .iter()
            .any(|algorithm| Suite::from_room_algorithm(algorithm) == Some(suite))
    }

    /// The public key the device signs with under `algorithm`, in MLS's encoding.
    #[must_use]
    pub fn signature_key(&self, algorithm: CredentialAlgorithm) -> Option<&[u8]> {
        self.signature_keys.get(&algorithm).map(Vec::as_slice)
    }

    /// The object itself.
    #[must_use]
    pub const fn object(&self) -> &Object {
        &self.object
    }

    /// The object itself, to keep.
    #[must_use]
    pub fn into_object(self) -> Object {
        self.object
    }

    /// The object's canonical bytes.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        self.object.to_canonical()
    }
}

/// A device object being made on the device: it still needs a signature by each of its keys.
#[derive(Clone, Debug)]
pub struct DeviceDraft {
    object: Object,
    user_id: UserId,
    keys: Vec<(CredentialAlgorithm, KeyId)>,
}

impl DeviceDraft {
    /// An object for a device that supports `suites` and holds `keys`: for each algorithm a public key in MLS's encoding.
    pub fn new<'k>(
        user_id: &UserId,
        device_id: &DeviceId,
        suites: &[Suite],
        keys: impl IntoIterator<Item = (CredentialAlgorithm, &'k [u8])>,
    ) -> Result<Self, DeviceObjectError> {
        let mut entries = Object::new();
        let mut key_ids = Vec::new();
        for (algorithm, signature_key) in keys {
            let credential = BasicCredential {
                user_id: user_id.clone(),
                device_id: device_id.clone(),
                signature_key: signature_key.to_vec(),
            };
            let key_id = KeyId::parse(&format!("{algorithm}:{device_id}")).map_err(DeviceObjectError::KeyId)?;
            entries.insert(key_id.as_str(), base64u::encode(&credential.to_bytes()));
            key_ids.push((algorithm, key_id));
        }
        let algorithms: Vec<Json> = suites.iter().map(|suite| Json::from(suite.room_algorithm())).collect();
        let mut object = Object::new();
        object.insert("user_id", user_id.as_str());
        object.insert("device_id", device_id.as_str());
        object.insert("algorithms", Json::Array(algorithms));
        object.insert("keys", Json::Object(entries));
        Ok(Self {
            object,
            user_id: user_id.clone(),
            keys: key_ids,
        })
    }

    /// Has `sign` make a signature over the object's canonical bytes with each key, under its scheme (not MLS's labeled
    /// signing: it is an ordinary object signature, LM #int-signing-objects), and checks the result.
    pub fn sign<E>(
        mut self,
        mut sign: impl FnMut(CredentialAlgorithm, &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Result<DeviceObject, DeviceObjectError>, E> {
        let message = self.object.to_canonical();
        let mut by_key = Object::new();
        for (algorithm, key_id) in &self.keys {
            by_key.insert(key_id.as_str(), base64u::encode(&sign(*algorithm, &message)?));
        }
        let mut signatures = Object::new();
        signatures.insert(self.user_id.as_str(), Json::Object(by_key));
        self.object.insert("signatures", Json::Object(signatures));
        Ok(DeviceObject::parse(self.object))
    }
}

/// Why a device object is invalid; one for each rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DeviceObjectError {
    /// Over [`MAX_DEVICE_OBJECT_BYTES`].
    #[error("the device object is over {MAX_DEVICE_OBJECT_BYTES} bytes")]
    TooLarge,
    /// A field that must exist does not.
    #[error("the device object has no `{field}`")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field is not of the type it should be.
    #[error("the device object's `{field}` has the wrong type")]
    Shape {
        /// The field's name.
        field: &'static str,
    },
    /// The user ID is none.
    #[error("the device object's user: {0}")]
    UserId(InvalidId),
    /// The device ID is none.
    #[error("the device object's device: {0}")]
    DeviceId(InvalidId),
    /// A key's name is no key ID.
    #[error("the device object's key: {0}")]
    KeyId(InvalidId),
    /// A key ID's version is not the device ID.
    #[error("a key's version is not the device ID")]
    KeyOfOtherDevice,
    /// A key's value is not base64.
    #[error("a key is not base64")]
    KeyEncoding,
    /// A key's value is not a `BasicCredential`.
    #[error(transparent)]
    Credential(CredentialError),
    /// A credential names another user.
    #[error("a key's credential names another user")]
    CredentialOfOtherUser,
    /// A credential names another device.
    #[error("a key's credential names another device")]
    CredentialOfOtherDevice,
    /// The credential's key is not one of its algorithm, or one under which signatures prove nothing.
    #[error("a key's credential holds no key that is safe to verify with")]
    UnsafeKey,
    /// Nothing in `signatures` is by the user.
    #[error("the user has not signed the device object")]
    NotSignedByUser,
    /// A key has not signed.
    #[error("one of the device's keys has not signed")]
    MissingSignature,
    /// A key's signature does not verify.
    #[error("the signature by one of the device's keys does not verify")]
    BadSignature,
    /// The device claims to support a suite whose key it does not have.
    #[error("the device has no key `{algorithm}` for an algorithm it lists")]
    MissingCredential {
        /// The key that is missing.
        algorithm: CredentialAlgorithm,
    },
}

fn field<'o>(object: &'o Object, name: &'static str) -> Result<&'o Json, DeviceObjectError> {
    object.get(name).ok_or(DeviceObjectError::Missing { field: name })
}

fn string<'o>(object: &'o Object, name: &'static str) -> Result<&'o str, DeviceObjectError> {
    field(object, name)?
        .as_str()
        .ok_or(DeviceObjectError::Shape { field: name })
}

fn algorithms(object: &Object) -> Result<Vec<String>, DeviceObjectError> {
    let shape = DeviceObjectError::Shape { field: "algorithms" };
    let entries = field(object, "algorithms")?.as_array().ok_or(shape)?;
    entries
        .iter()
        .map(|entry| entry.as_str().map(ToOwned::to_owned).ok_or(shape))
        .collect()
}

fn credential_key(key: &Json, user_id: &UserId, device_id: &DeviceId) -> Result<Vec<u8>, DeviceObjectError> {
    let text = key.as_str().ok_or(DeviceObjectError::Shape { field: "keys" })?;
    let bytes = base64u::decode(text).map_err(|_| DeviceObjectError::KeyEncoding)?;
    let credential = BasicCredential::parse(&bytes).map_err(DeviceObjectError::Credential)?;
    if credential.user_id != *user_id {
        return Err(DeviceObjectError::CredentialOfOtherUser);
    }
    if credential.device_id != *device_id {
        return Err(DeviceObjectError::CredentialOfOtherDevice);
    }
    Ok(credential.signature_key)
}

fn verify(
    algorithm: CredentialAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &str,
) -> Result<(), DeviceObjectError> {
    if algorithm == CredentialAlgorithm::Ed25519 {
        let key = key.try_into().map_err(|_| DeviceObjectError::UnsafeKey)?;
        PublicKey::from_bytes(key).map_err(|_| DeviceObjectError::UnsafeKey)?;
    }
    let signature = base64u::decode(signature).map_err(|_| DeviceObjectError::BadSignature)?;
    crypto()
        .verify_signature(algorithm.scheme(), message, key, &signature)
        .map_err(|_| DeviceObjectError::BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDevice;

    #[test]
    fn a_device_signs_with_each_of_its_keys() {
        for suite in Suite::all() {
            let device = TestDevice::with_suite("@alice:a.test", "ABCDEF", suite);
            let object = device.device_object();
            assert_eq!(object.user_id(), "@alice:a.test");
            assert_eq!(object.device_id(), "ABCDEF");
            assert!(object.supports(suite));
            assert_eq!(
                object.signature_key(suite.credential_algorithm()),
                Some(device.signature_key())
            );
            let bytes = object.to_canonical();
            assert_eq!(DeviceObject::parse(Object::parse(&bytes).unwrap()), Ok(object));
        }
    }

    #[test]
    fn a_field_we_do_not_know_is_kept_and_signed() {
        let device = TestDevice::new("@alice:a.test", "ABCDEF");
        let object = device.sign_object(edit(&device, |object| {
            object.insert("org.example.name", "Laptop");
        }));
        let parsed = DeviceObject::parse(object.clone()).unwrap();
        assert_eq!(parsed.object(), &object);
        let mut changed = object;
        changed.insert("org.example.name", "Phone");
        assert_eq!(DeviceObject::parse(changed), Err(DeviceObjectError::BadSignature));
    }

    #[test]
    fn every_field_must_exist() {
        let device = TestDevice::new("@alice:a.test", "ABCDEF");
        for name in ["device_id", "user_id", "algorithms", "keys", "signatures"] {
            let mut object = device.device_object().into_object();
            object.remove(name);
            assert_eq!(
                DeviceObject::parse(object.clone()),
                Err(DeviceObjectError::Missing { field: name })
            );
            object.insert(name, 1);
            assert_eq!(
                DeviceObject::parse(object),
                Err(DeviceObjectError::Shape { field: name }),
                "{name}"
            );
        }
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        let device = TestDevice::new("@alice:a.test", "ABCDEF");
        let key_id = "m.mls.v1.credential.ed25519:ABCDEF";
        let other_user = TestDevice::new("@mallory:a.test", "ABCDEF");
        let other_device = TestDevice::new("@alice:a.test", "OTHER");
        let key_of = |device: &TestDevice| base64u::encode(&device.credential().to_bytes());
        let with_key = |name: &str, value: Json| {
            let mut keys = Object::new();
            keys.insert(name, value);
            refusal(&device, |object| {
                object.insert("keys", keys.clone());
            })
        };
        assert!(matches!(
            refusal(&device, |object| {
                object.insert("user_id", "alice");
            }),
            DeviceObjectError::UserId(_)
        ));
        assert!(matches!(
            refusal(&device, |object| {
                object.insert("device_id", "");
            }),
            DeviceObjectError::DeviceId(_)
        ));
        assert_eq!(
            refusal(&device, |object| {
                object.insert("org.example.big", "x".repeat(MAX_DEVICE_OBJECT_BYTES));
            }),
            DeviceObjectError::TooLarge
        );
        assert!(matches!(with_key("ABCDEF", "AA".into()), DeviceObjectError::KeyId(_)));
        assert_eq!(
            with_key("m.mls.v1.credential.ed25519:OTHER", "AA".into()),
            DeviceObjectError::KeyOfOtherDevice
        );
        assert_eq!(with_key(key_id, 1.into()), DeviceObjectError::Shape { field: "keys" });
        assert_eq!(with_key(key_id, "!".into()), DeviceObjectError::KeyEncoding);
        assert_eq!(
            with_key(key_id, "AA".into()),
            DeviceObjectError::Credential(CredentialError::Malformed)
        );
        assert_eq!(
            with_key(key_id, key_of(&other_user).into()),
            DeviceObjectError::CredentialOfOtherUser
        );
        assert_eq!(
            with_key(key_id, key_of(&other_device).into()),
            DeviceObjectError::CredentialOfOtherDevice
        );
        let weak = BasicCredential {
            signature_key: vec![0; 32],
            ..device.credential().clone()
        };
        assert_eq!(
            with_key(key_id, base64u::encode(&weak.to_bytes()).into()),
            DeviceObjectError::UnsafeKey
        );
        assert_eq!(
            with_key("org.example.other:ABCDEF", "anything".into()),
            DeviceObjectError::MissingSignature
        );
        assert_eq!(
            refusal(&device, |object| {
                object.insert(
                    "algorithms",
                    Json::Array(vec![Suite::P256_AES128.room_algorithm().into()]),
                );
            }),
            DeviceObjectError::MissingCredential {
                algorithm: CredentialAlgorithm::P256
            }
        );
    }

    #[test]
    fn signatures_count_only_under_the_user() {
        let device = TestDevice::new("@alice:a.test", "ABCDEF");
        let mut object = device.device_object().into_object();
        let signatures = object.remove("signatures").unwrap().into_object().unwrap();
        let mut elsewhere = Object::new();
        elsewhere.insert("@mallory:a.test", signatures.get("@alice:a.test").unwrap().clone());
        object.insert("signatures", elsewhere);
        assert_eq!(DeviceObject::parse(object), Err(DeviceObjectError::NotSignedByUser));
    }

    fn edit(device: &TestDevice, change: impl FnOnce(&mut Object)) -> Object {
        let mut object = device.device_object().into_object();
        object.remove("signatures");
        change(&mut object);
        object
    }

    fn refusal(device: &TestDevice, change: impl FnOnce(&mut Object)) -> DeviceObjectError {
        DeviceObject::parse(device.sign_object(edit(device, change))).unwrap_err()
    }
}
