//! Who a device is: the draft's `BasicCredential` (LM #int-mls-credentials) inside MLS's basic credential, and the device object.
//! Written from the draft and Nabe's decisions, without a line of Nabe's.

use mls_rs::error::IntoAnyError;
use mls_rs::identity::basic::BasicCredential;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use mls_rs::mls_rules::DefaultMlsRules;
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuiteProvider, CryptoProvider, ExtensionList, IdentityProvider};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use serde_json::{Value, json};

use crate::SUITE;
use crate::api::{decode, encode, object};
use crate::error::{Error, invalid};

/// `m.mls.v1.<suite>`
pub const ALGORITHM: &str = "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519";
/// Of Welcomes.
pub const WELCOME: &str = "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519";
/// Of key packages.
pub const KEY_PACKAGE: &str = "m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519";
const CREDENTIAL: &str = "m.mls.v1.credential.ed25519";

/// The rules this client's groups follow.
pub type Rules = DefaultMlsRules;

/// The draft's structure of that name.
#[derive(Clone, Debug, Eq, PartialEq, MlsSize, MlsEncode, MlsDecode)]
pub struct DraftCredential {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    user_id: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    device_id: Vec<u8>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    signature_key: Vec<u8>,
}

impl DraftCredential {
    /// Of a device that signs with this key.
    pub fn new(user: &str, device: &str, signature_key: &[u8]) -> Self {
        Self {
            user_id: user.into(),
            device_id: device.into(),
            signature_key: signature_key.into(),
        }
    }

    /// Of a leaf, whose own key it must name.
    pub fn of(identity: &SigningIdentity) -> Result<Self, NotADevice> {
        let basic = identity
            .credential
            .as_basic()
            .ok_or(NotADevice("the credential's type is not basic"))?;
        let credential = Self::parse(basic.identifier()).ok_or(NotADevice("the credential is malformed"))?;
        if credential.signature_key != identity.signature_key.as_bytes() {
            return Err(NotADevice("the credential is for another key than the leaf's"));
        }
        Ok(credential)
    }

    /// As it goes into a leaf.
    pub fn to_basic(&self) -> Result<BasicCredential, Error> {
        Ok(BasicCredential::new(self.to_bytes()?))
    }

    /// The user.
    pub fn user(&self) -> &str {
        std::str::from_utf8(&self.user_id).unwrap_or_default()
    }

    /// The device.
    pub fn device(&self) -> &str {
        std::str::from_utf8(&self.device_id).unwrap_or_default()
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let credential = Self::mls_decode(&mut bytes).ok()?;
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        (bytes.is_empty() && is_text(&credential.user_id) && is_text(&credential.device_id)).then_some(credential)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.mls_encode_to_vec().map_err(|error| invalid(format!("{error:?}")))
    }
}

/// Whether a credential is one of the draft's, for mls-rs to ask.
#[derive(Clone, Debug)]
pub struct Devices;

impl IdentityProvider for Devices {
    type Error = NotADevice;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _: Option<MlsTime>,
        _: mls_rs_core::identity::MemberValidationContext<'_>,
    ) -> Result<(), NotADevice> {
        DraftCredential::of(identity).map(|_| ())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), NotADevice> {
        Err(NotADevice("rooms have no external senders"))
    }

    fn identity(&self, identity: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, NotADevice> {
        let credential = DraftCredential::of(identity)?;
        Ok([&credential.user_id[..], b"\n", &credential.device_id[..]].concat())
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        extensions: &ExtensionList,
    ) -> Result<bool, NotADevice> {
        Ok(self.identity(before, extensions)? == self.identity(after, extensions)?)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::BASIC]
    }
}

/// A leaf that is no device of the draft's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotADevice(&'static str);

impl IntoAnyError for NotADevice {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

/// This device's keys.
pub struct OwnDevice {
    /// The user.
    pub user: String,
    /// The device.
    pub device: String,
    /// What signs.
    pub secret: mls_rs::crypto::SignatureSecretKey,
    /// Who it signs for.
    pub identity: SigningIdentity,
}

impl OwnDevice {
    /// With new keys.
    pub fn generate(user: &str, device: &str) -> Result<Self, Error> {
        let (secret, public) = suite()?
            .signature_key_generate()
            .map_err(|error| invalid(format!("making a key: {error:?}")))?;
        let credential = DraftCredential::new(user, device, public.as_bytes());
        Ok(Self {
            user: user.to_owned(),
            device: device.to_owned(),
            secret,
            identity: SigningIdentity::new(credential.to_basic()?.into_credential(), public),
        })
    }

    /// The object to publish: signed with the MLS signature key, without MLS's label.
    pub fn object(&self) -> Result<Value, Error> {
        let key_id = format!("{CREDENTIAL}:{}", self.device);
        let credential = DraftCredential::new(&self.user, &self.device, self.identity.signature_key.as_bytes());
        let mut device = json!({
            "user_id": self.user,
            "device_id": self.device,
            "algorithms": [ALGORITHM],
            "keys": object(&key_id, encode(&credential.to_bytes()?).into()),
        });
        let signature = suite()?
            .sign(&self.secret, canonical(&device).as_bytes())
            .map_err(|error| invalid(format!("signing: {error:?}")))?;
        device["signatures"] = object(&self.user, object(&key_id, encode(&signature).into()));
        Ok(device)
    }
}

/// Checks another device's object as LM #int-mls-credentials has it. Returns its ID and its credential, which a leaf must have;
/// `None` if it cannot do the suite.
pub fn check_device(object: &Value, user: &str) -> Result<Option<DraftCredential>, Error> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let device = text("device_id").ok_or_else(|| invalid("a device object without `device_id`"))?;
    if text("user_id") != Some(user) {
        return Err(invalid("a device object of another user"));
    }
    let algorithms = object.get("algorithms").and_then(Value::as_array);
    if !algorithms.is_some_and(|all| all.iter().any(|one| one == ALGORITHM)) {
        return Ok(None);
    }
    let key_id = format!("{CREDENTIAL}:{device}");
    let entry = |value: Option<&Value>| value.and_then(|keys| keys.get(&key_id)?.as_str().map(str::to_owned));
    let key = entry(object.get("keys")).ok_or_else(|| invalid("a device object without the key of its suite"))?;
    let signature = entry(object.get("signatures").and_then(|signatures| signatures.get(user)));
    let signature = signature.ok_or_else(|| invalid("a device object that is not signed"))?;
    let credential =
        DraftCredential::parse(&decode(&key)?).ok_or_else(|| invalid("a device object with a malformed key"))?;
    if credential.user() != user || credential.device() != device {
        return Err(invalid("a device object with another device's key"));
    }
    let mut signed = object.clone();
    if let Some(fields) = signed.as_object_mut() {
        fields.remove("signatures");
    }
    suite()?
        .verify(
            &credential.signature_key.clone().into(),
            &decode(&signature)?,
            canonical(&signed).as_bytes(),
        )
        .map_err(|_| invalid("the signature of a device object does not verify"))?;
    Ok(Some(credential))
}

/// RFC 8785 for what device objects hold: strings and arrays. serde_json keeps the fields of objects in the order of their bytes, which
/// is the one of their UTF-16 code units in ASCII.
fn canonical(value: &Value) -> String {
    value.to_string()
}

fn suite() -> Result<impl CipherSuiteProvider, Error> {
    let provider = RustCryptoProvider::default().cipher_suite_provider(SUITE);
    provider.ok_or_else(|| invalid("the cipher suite is missing"))
}
