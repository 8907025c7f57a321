//! Pseudonyms, alone and as credentials, and the claim to one.

use openmls_traits::OpenMlsProvider;

use super::*;
use crate::codec::Message;
use crate::mls::CredentialType;
use crate::testing::{SUITE, assert_wire, basic, keys, provider, uri};

fn pseudonym() -> PseudonymousCredential {
    PseudonymousCredential {
        client_pseudonym: uri("c"),
        user_pseudonym: uri("u"),
        signature_public_key: vec![9].into(),
        identity_link_ciphertext: vec![1, 2].into(),
    }
}

const PSEUDONYM: &str = "01 63 01 75 01 09 02 0102";

#[test]
fn a_pseudonym() {
    assert_wire(&pseudonym(), PSEUDONYM);
}

#[test]
fn a_pseudonym_as_a_credential_is_one_vector() {
    let credential = Credential::Other {
        credential_type: CredentialType::PSEUDONYMOUS,
        content: pseudonym().to_bytes().into(),
    };
    assert_wire(&credential, &format!("f001 09 {PSEUDONYM}"));
    assert_eq!(credential.pseudonymous(), Some(Ok(pseudonym())));
    assert_eq!(basic("a").pseudonymous(), None);
    let broken = Credential::Other {
        credential_type: CredentialType::PSEUDONYMOUS,
        content: vec![1].into(),
    };
    assert!(broken.pseudonymous().unwrap().is_err());
}

#[test]
fn a_claim_holds_for_its_pseudonym_alone() {
    let (provider, keys) = (provider(), keys());
    let pseudonym = pseudonym();
    let tbs = PseudonymousCredentialTbs {
        client_pseudonym: pseudonym.client_pseudonym.clone(),
        user_pseudonym: pseudonym.user_pseudonym.clone(),
        signature_public_key: pseudonym.signature_public_key.clone(),
    };
    let link = tbs.sign(&keys, basic("alice")).unwrap();
    let link = IdentityLinkTbe::from_bytes(&link.to_bytes()).unwrap();
    let scheme = SUITE.signature_scheme().unwrap();
    let verify = |pseudonym| link.verify(provider.crypto(), scheme, keys.public(), pseudonym);
    assert_eq!(verify(&pseudonym), Ok(()));
    let other = PseudonymousCredential {
        signature_public_key: vec![8].into(),
        ..pseudonym.clone()
    };
    assert_eq!(verify(&other), Err(SignatureError::Invalid));
}
