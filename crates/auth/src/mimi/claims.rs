//! What a credential says about its owner: whose client it is (MIMI #participant-list), and the claims that preauthorization asks
//! for (MRP #preauth).

use nabe_wire::mls::{Credential, CredentialType};
use nabe_wire::policy::Claim;
use nabe_wire::uri::{MimiKind, MimiUri};
use nabe_wire::{IdentifierUri, codec::Bytes};

/// The claims of one credential. Those of certificates and tokens are found by whoever can read these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    credential_type: CredentialType,
    values: Vec<(Bytes, Bytes)>,
}

impl Claims {
    /// Names and values, as `ClaimId` names them for this type of credential.
    pub fn new(credential_type: CredentialType, values: Vec<(Bytes, Bytes)>) -> Self {
        Self {
            credential_type,
            values,
        }
    }

    /// Of a basic credential its identity under the empty name, and if that is the URI of a user or client, the user under `user` and
    /// their provider under `provider` (D-preauth-basic). Of any other the type alone.
    pub fn of(credential: &Credential) -> Self {
        let mut values = Vec::new();
        if let Credential::Basic { identity } = credential {
            values.push((Bytes::default(), identity.clone()));
            if let Some((uri, user)) = mimi_uri(identity).zip(user_of_identity(identity)) {
                let provider = format!("mimi://{}", uri.host());
                values.push((b"user".as_slice().into(), user.as_bytes().into()));
                values.push((b"provider".as_slice().into(), provider.into_bytes().into()));
            }
        }
        Self::new(credential.credential_type(), values)
    }

    /// The type of the credential.
    pub fn credential_type(&self) -> CredentialType {
        self.credential_type
    }

    /// The claim is there with exactly this value.
    pub(super) fn satisfy(&self, claim: &Claim) -> bool {
        let is_it = |(id, value): &(Bytes, Bytes)| *id == claim.claim_id.id && *value == claim.claim_value;
        claim.claim_id.credential_type == self.credential_type && self.values.iter().any(is_it)
    }
}

/// The user whose client has this credential, as the participant list names them; `None` if the credential names none or is of a
/// type that has to be read elsewhere (D-user-of-client). A basic credential holds the URI of the user, or that of the client,
/// `mimi://host/d/user/device`; a pseudonymous one holds the user's pseudonym.
pub fn user_of(credential: &Credential) -> Option<IdentifierUri> {
    match credential {
        Credential::Basic { identity } => user_of_identity(identity),
        other => {
            let uri = MimiUri::parse(&other.pseudonymous()?.ok()?.user_pseudonym).ok()?;
            let is_user = uri.kind() == MimiKind::User;
            IdentifierUri::new(uri.to_string()).filter(|_| is_user)
        }
    }
}

fn user_of_identity(identity: &[u8]) -> Option<IdentifierUri> {
    let uri = mimi_uri(identity)?;
    let name = match uri.kind() {
        MimiKind::User => uri.name(),
        MimiKind::Client => uri.name().split_once('/')?.0,
        _ => return None,
    };
    IdentifierUri::new(format!("mimi://{}/u/{name}", uri.host()))
}

fn mimi_uri(bytes: &[u8]) -> Option<MimiUri> {
    MimiUri::parse(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use nabe_wire::Encode;
    use nabe_wire::policy::ClaimId;
    use nabe_wire::pseudonym::PseudonymousCredential;

    use super::*;

    fn basic(identity: &str) -> Credential {
        Credential::Basic {
            identity: identity.as_bytes().into(),
        }
    }

    fn claim(credential_type: CredentialType, id: &[u8], value: &str) -> Claim {
        Claim {
            claim_id: ClaimId {
                credential_type,
                id: id.into(),
            },
            claim_value: value.as_bytes().into(),
        }
    }

    #[test]
    fn a_client_is_its_users() {
        for (identity, user) in [
            ("mimi://b.example/d/bob/phone", Some("mimi://b.example/u/bob")),
            ("mimi://b.example/u/bob", Some("mimi://b.example/u/bob")),
            ("mimi://B.example/u/bob", Some("mimi://b.example/u/bob")),
            ("mimi://b.example/d/bob", None),
            ("mimi://b.example/r/bob", None),
            ("mimi://b.example", None),
            ("bob", None),
        ] {
            assert_eq!(user_of(&basic(identity)).as_deref(), user, "{identity}");
        }
        let x509 = Credential::X509 {
            certificates: Vec::new(),
        };
        assert_eq!(user_of(&x509), None);
    }

    #[test]
    fn a_pseudonym_is_compared_as_a_user_is() {
        let of = |user: &str| {
            let uri = |uri: &str| IdentifierUri::new(uri).unwrap();
            let content = PseudonymousCredential {
                client_pseudonym: uri("mimi://b.example/d/3c/1"),
                user_pseudonym: uri(user),
                signature_public_key: b"key".as_slice().into(),
                identity_link_ciphertext: b"sealed".as_slice().into(),
            };
            user_of(&Credential::Other {
                credential_type: CredentialType::PSEUDONYMOUS,
                content: content.to_bytes().into(),
            })
        };
        assert_eq!(of("mimi://B.example/u/3c").as_deref(), Some("mimi://b.example/u/3c"));
        assert_eq!(of("mimi://b.example/r/3c"), None);
    }

    #[test]
    fn a_basic_credential_claims_identity_user_and_provider() {
        let bob = Claims::of(&basic("mimi://b.example/d/bob/phone"));
        for (id, value, holds) in [
            (b"".as_slice(), "mimi://b.example/d/bob/phone", true),
            (b"", "mimi://b.example/u/bob", false),
            (b"", "mimi://b.example", false),
            (b"user", "mimi://b.example/u/bob", true),
            (b"user", "mimi://b.example/u/bo", false),
            (b"provider", "mimi://b.example", true),
            (b"provider", "mimi://a.example", false),
        ] {
            assert_eq!(bob.satisfy(&claim(CredentialType::BASIC, id, value)), holds, "{value}");
            assert!(!bob.satisfy(&claim(CredentialType::X509, id, value)));
        }
    }

    #[test]
    fn a_provider_is_not_its_users() {
        let hub = Claims::of(&basic("mimi://b.example"));
        assert!(hub.satisfy(&claim(CredentialType::BASIC, b"", "mimi://b.example")));
        assert!(!hub.satisfy(&claim(CredentialType::BASIC, b"provider", "mimi://b.example")));
    }

    #[test]
    fn claims_of_certificates_come_from_outside() {
        let claims = Claims::new(
            CredentialType::X509,
            vec![(b"\x06\x03\x55\x04\x0a".as_slice().into(), b"Example".as_slice().into())],
        );
        assert!(claims.satisfy(&claim(CredentialType::X509, b"\x06\x03\x55\x04\x0a", "Example")));
        assert!(!claims.satisfy(&claim(CredentialType::BASIC, b"\x06\x03\x55\x04\x0a", "Example")));
    }
}
