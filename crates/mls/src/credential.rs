//! The credential in a leaf of the ratchet tree (LM #int-mls-credentials).
//!
//! The draft gives the name `BasicCredential` to a structure of its own. We carry its bytes as the `identity` of RFC 9420's
//! basic credential, so that every MLS implementation reads the leaf, and hold the key inside to be the leaf's own.

use nabe_types::{DeviceId, InvalidId, UserId};
use openmls::credentials::{BasicCredential as MlsBasicCredential, Credential, CredentialType};

use crate::codec::{Malformed, Reader, write_opaque};

/// Who a leaf is.
///
/// ```text
/// struct {
///     opaque user_id<V>;
///     opaque device_id<V>;
///     opaque signature_key<V>;
/// } BasicCredential;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BasicCredential {
    /// The user the device belongs to.
    pub user_id: UserId,
    /// The device.
    pub device_id: DeviceId,
    /// The public half of the device's signature key, in MLS's encoding for its scheme.
    pub signature_key: Vec<u8>,
}

impl BasicCredential {
    /// Reads the structure. Nothing may follow it, and lengths are encoded as short as can be.
    pub fn parse(bytes: &[u8]) -> Result<Self, CredentialError> {
        let mut reader = Reader::new(bytes);
        let user_id = reader.opaque()?;
        let device_id = reader.opaque()?;
        let signature_key = reader.opaque()?;
        if !reader.is_empty() {
            return Err(CredentialError::TrailingBytes);
        }
        Ok(Self {
            user_id: UserId::parse(text(user_id)?).map_err(CredentialError::UserId)?,
            device_id: DeviceId::parse(text(device_id)?).map_err(CredentialError::DeviceId)?,
            signature_key: signature_key.to_vec(),
        })
    }

    /// The structure's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            self.user_id.as_str().len() + self.device_id.as_str().len() + self.signature_key.len() + 8,
        );
        write_opaque(&mut out, self.user_id.as_str().as_bytes());
        write_opaque(&mut out, self.device_id.as_str().as_bytes());
        write_opaque(&mut out, &self.signature_key);
        out
    }

    /// Reads a leaf's credential: of the type `basic`, and for the key that the leaf signs with.
    pub fn from_leaf(credential: &Credential, signature_key: &[u8]) -> Result<Self, CredentialError> {
        if credential.credential_type() != CredentialType::Basic {
            return Err(CredentialError::NotBasic);
        }
        let basic = MlsBasicCredential::try_from(credential.clone()).map_err(|_| CredentialError::Malformed)?;
        let parsed = Self::parse(basic.identity())?;
        if parsed.signature_key != signature_key {
            return Err(CredentialError::OtherKey);
        }
        Ok(parsed)
    }

    /// The credential as it goes into a leaf.
    #[must_use]
    pub fn to_mls(&self) -> Credential {
        MlsBasicCredential::new(self.to_bytes()).into()
    }
}

/// Why a credential is not one of the draft's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// The leaf's credential has another type than `basic`.
    #[error("the credential's type is not basic")]
    NotBasic,
    /// The bytes are not the structure.
    #[error("the credential is malformed")]
    Malformed,
    /// Something follows the structure.
    #[error("bytes follow the credential")]
    TrailingBytes,
    /// The user ID is none.
    #[error("the credential's user: {0}")]
    UserId(InvalidId),
    /// The device ID is none.
    #[error("the credential's device: {0}")]
    DeviceId(InvalidId),
    /// The key inside is not the key that the leaf signs with.
    #[error("the credential is for another key than the leaf's")]
    OtherKey,
}

impl From<Malformed> for CredentialError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

fn text(bytes: &[u8]) -> Result<&str, CredentialError> {
    std::str::from_utf8(bytes).map_err(|_| CredentialError::Malformed)
}

#[cfg(test)]
mod tests {
    use nabe_types::{IdKind, IdRule};

    use super::*;

    #[test]
    fn the_bytes_are_three_opaque_fields() {
        let credential = alice();
        let bytes = credential.to_bytes();
        assert_eq!(bytes, b"\x0d@alice:a.test\x06ABCDEF\x03\x01\x02\x03");
        assert_eq!(BasicCredential::parse(&bytes), Ok(credential));
    }

    #[test]
    fn every_truncation_and_every_tail_is_refused() {
        let bytes = alice().to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(
                BasicCredential::parse(&bytes[..len]),
                Err(CredentialError::Malformed),
                "{len}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(BasicCredential::parse(&longer), Err(CredentialError::TrailingBytes));
    }

    #[test]
    fn the_ids_keep_their_grammar() {
        let encode = |user: &[u8], device: &[u8]| {
            let mut out = Vec::new();
            for field in [user, device, &[1]] {
                write_opaque(&mut out, field);
            }
            BasicCredential::parse(&out)
        };
        assert!(matches!(
            encode(b"alice", b"A"),
            Err(CredentialError::UserId(InvalidId {
                kind: IdKind::UserId,
                rule: IdRule::Sigil
            }))
        ));
        assert!(matches!(
            encode(b"@alice:a.test", b"A-B"),
            Err(CredentialError::DeviceId(_))
        ));
        assert_eq!(encode(&[0xff], b"A"), Err(CredentialError::Malformed));
    }

    #[test]
    fn a_leaf_must_be_basic_and_sign_with_the_key_inside() {
        let alice = alice();
        assert_eq!(
            BasicCredential::from_leaf(&alice.to_mls(), &[1, 2, 3]),
            Ok(alice.clone())
        );
        assert_eq!(
            BasicCredential::from_leaf(&alice.to_mls(), &[1, 2, 4]),
            Err(CredentialError::OtherKey)
        );
        let x509 = Credential::new(CredentialType::X509, vec![0]);
        assert_eq!(
            BasicCredential::from_leaf(&x509, &[1, 2, 3]),
            Err(CredentialError::NotBasic)
        );
    }

    fn alice() -> BasicCredential {
        BasicCredential {
            user_id: UserId::parse("@alice:a.test").unwrap(),
            device_id: DeviceId::parse("ABCDEF").unwrap(),
            signature_key: vec![1, 2, 3],
        }
    }
}
