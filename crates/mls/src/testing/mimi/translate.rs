//! From OpenMLS's types to those that travel, and back.

use nabe_wire::mls::{GroupContext, MlsMessage, RatchetTreeOption};
use nabe_wire::{Encode as _, Kept, Message as _};
use openmls::prelude::{KeyPackage, KeyPackageIn, MlsMessageIn, MlsMessageOut, ProtocolVersion, RatchetTreeIn};
use tls_codec::Deserialize as _;

use super::member::MimiMember;
use crate::provider::crypto;

/// The context of an epoch in the form that a GroupInfo has it.
#[must_use]
pub fn context_of(member: &MimiMember) -> GroupContext {
    GroupContext::from_bytes(&encode(member.group.public_group().group_context())).expect("a context reads")
}

pub(super) fn tree_in(tree: &RatchetTreeOption) -> RatchetTreeIn {
    let RatchetTreeOption::Full(tree) = tree else {
        panic!("a whole tree is expected");
    };
    RatchetTreeIn::tls_deserialize_exact(tree.to_bytes()).expect("a tree decodes")
}

pub(super) fn read_key_package(bytes: &[u8]) -> KeyPackage {
    KeyPackageIn::tls_deserialize_exact(bytes)
        .expect("a key package decodes")
        .validate(crypto(), ProtocolVersion::Mls10)
        .expect("a key package is valid")
}

pub(super) fn message_in(message: &Kept<MlsMessage>) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(message.as_bytes()).expect("a message decodes")
}

pub(super) fn read_message(message: &MlsMessageOut) -> Kept<MlsMessage> {
    let bytes = message.to_bytes().expect("a message encodes");
    Kept::new(MlsMessage::from_bytes(&bytes).expect("a message reads"))
}

pub(super) fn encode(value: &impl tls_codec::Serialize) -> Vec<u8> {
    value.tls_serialize_detached().expect("memory takes every value")
}

/// The content of a vector.
pub(super) fn content_of(vector: &[u8]) -> Vec<u8> {
    let mut reader = crate::codec::Reader::new(vector);
    reader.opaque().expect("a vector").to_vec()
}
