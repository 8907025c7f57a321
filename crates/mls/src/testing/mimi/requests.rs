//! What clients ask for, signed: key packages and the GroupInfo.

use nabe_wire::group_info::{GroupInfoQuery, GroupInfoRatchetTreeTbe, GroupInfoRequestTbs, GroupInfoResponse};
use nabe_wire::key_material::{KeyMaterialQuery, KeyMaterialRequest, KeyMaterialRequestTbs};
use nabe_wire::mls::{CipherSuite, RequiredCapabilities};
use nabe_wire::protocol::Body;
use nabe_wire::{IdentifierUri, Message as _};
use openmls::ciphersuite::hash_ref::make_key_package_ref;
use openmls_traits::crypto::OpenMlsCrypto as _;

use super::device::{MimiDevice, user_of};
use super::translate::encode;
use crate::provider::crypto;
use crate::suite::Suite;

/// The KeyPackageRef of a key package of the default suite, bare.
#[must_use]
pub fn key_package_ref(package: &[u8]) -> Vec<u8> {
    let suite = Suite::default().ciphersuite();
    let reference = make_key_package_ref(package, suite, crypto()).expect("the suite is known");
    reference.as_slice().to_vec()
}

/// A client's question for the GroupInfo, and the private key that opens the answer.
#[must_use]
pub fn group_info_query(device: &MimiDevice) -> (GroupInfoQuery, Vec<u8>) {
    group_info_query_with(device, None)
}

/// The same with a joining code.
#[must_use]
pub fn group_info_query_with(device: &MimiDevice, code: Option<&[u8]>) -> (GroupInfoQuery, Vec<u8>) {
    let shared = &device.shared;
    let suite = shared.suite.ciphersuite();
    let keys = crypto()
        .derive_hpke_keypair(suite.hpke_config(), b"one key pair is as good as another here")
        .expect("the suite is known");
    let request = GroupInfoRequestTbs {
        cipher_suite: CipherSuite(shared.suite.id()),
        requesting_signature_key: shared.signer.public().into(),
        requesting_credential: nabe_wire::mls::Credential::from_bytes(&encode(&device.credential))
            .expect("a credential reads"),
        group_info_public_key: keys.public.into(),
        joining_code: code.map(Into::into),
    };
    let request = request.sign(&shared.signer).expect("the key is of the suite");
    let Body::Mls10(query) = request.body else {
        panic!("it was made for MLS 1.0");
    };
    (query, keys.private.to_vec())
}

/// A client's request for key packages of a user, to be added to a room if one is named, of suite 1 and for clients that can do this.
#[must_use]
pub fn key_material_request(
    device: &MimiDevice,
    target: &str,
    room: Option<&str>,
    required: RequiredCapabilities,
) -> KeyMaterialRequest {
    key_material_request_of(device, &user_of(device), target, room, required)
}

/// The same in the name of a user who need not be the client's.
#[must_use]
pub fn key_material_request_of(
    device: &MimiDevice,
    requester: &str,
    target: &str,
    room: Option<&str>,
    required: RequiredCapabilities,
) -> KeyMaterialRequest {
    let uri = |uri: &str| IdentifierUri::new(uri).expect("a test's URI");
    let request = KeyMaterialRequestTbs {
        requesting_user: uri(requester),
        target_user: uri(target),
        room_id: room.map(uri).unwrap_or_default(),
        query: KeyMaterialQuery {
            acceptable_ciphersuites: vec![CipherSuite(device.shared.suite.id())],
            required_capabilities: required,
            requester_signature_key: device.shared.signer.public().into(),
            requester_credential: nabe_wire::mls::Credential::from_bytes(&encode(&device.credential))
                .expect("a credential reads"),
        },
    };
    request.sign(&device.shared.signer).expect("the key is of the suite")
}

/// What the hub answered, once it is verified and opened.
#[must_use]
pub fn open_group_info(answer: GroupInfoResponse, private_key: &[u8]) -> GroupInfoRatchetTreeTbe {
    let granted = answer.verify(crypto()).expect("the hub has signed it");
    granted.open(crypto(), private_key).expect("it is sealed for this key")
}
