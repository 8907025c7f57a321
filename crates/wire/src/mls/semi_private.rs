//! Handshake messages that servers of the right kind can read: draft-mahy-mls-semiprivatemessage, which
//! MIMI #update-room-state allows in place of public messages. OpenMLS does not know them, so they can be carried and
//! their keys opened, and no more.

use openmls_traits::crypto::OpenMlsCrypto;

use super::credential::Credential;
use super::framing::decode_content_type;
use super::names::{CipherSuite, ContentType};
use super::proposal::HpkeCiphertext;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, Rule, wire_struct};
use crate::label::{SealError, Sealed};

wire_struct! {
    /// `ExternalReceiver`: an entry of the extension `external_receivers`.
    pub struct ExternalReceiver {
        /// What keys are sealed for.
        pub external_receiver_public_key: Bytes,
        /// Whose it is.
        pub credential: Credential,
    }
}

wire_struct! {
    /// `KeyForExternalReceiver`
    pub struct KeyForExternalReceiver {
        /// The hash of the receiver's [`ExternalReceiver`].
        pub external_receiver_ref: Bytes,
        /// A [`PerMessageKeyAndNonces`], sealed for that receiver.
        pub encrypted_keys_and_nonces: HpkeCiphertext,
    }
}

wire_struct! {
    /// `PerMessageKeyAndNonces`: what opens one message.
    pub struct PerMessageKeyAndNonces {
        /// The key of the ratchet's generation.
        pub key: Bytes,
        /// Its nonce.
        pub nonce: Bytes,
        /// What the nonce is changed by.
        pub reuse_guard: [u8; 4],
        /// Who sends.
        pub sender_leaf_index: u32,
    }
}

wire_struct! {
    /// `SemiPrivateMessageContext`: what the sealing of the keys is bound to.
    pub struct SemiPrivateMessageContext {
        /// In which group.
        pub group_id: Bytes,
        /// In which epoch.
        pub epoch: u64,
        /// The hash of the sender's leaf index and the nonce.
        pub partial_context_hash: Bytes,
    }
}

impl Sealed for PerMessageKeyAndNonces {
    const LABEL: &'static str = "SemiPrivateMessageReceiver";
}

/// `SemiPrivateMessage`: a proposal or a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SemiPrivateMessage {
    /// In which group.
    pub group_id: Bytes,
    /// In which epoch.
    pub epoch: u64,
    /// Proposal or commit.
    pub content_type: ContentType,
    /// What goes along readable and authenticated.
    pub authenticated_data: Bytes,
    /// As in [`SemiPrivateMessageContext`].
    pub partial_context_hash: Bytes,
    /// One for each external receiver.
    pub keys_for_external_receivers: Vec<KeyForExternalReceiver>,
    /// The hash of what is signed.
    pub framed_content_tbs_hash: Bytes,
    /// Who sends, sealed.
    pub encrypted_sender_data: Bytes,
    /// What, sealed.
    pub ciphertext: Bytes,
}

impl SemiPrivateMessage {
    /// What the sealing of its keys is bound to.
    pub fn context(&self) -> SemiPrivateMessageContext {
        SemiPrivateMessageContext {
            group_id: self.group_id.clone(),
            epoch: self.epoch,
            partial_context_hash: self.partial_context_hash.clone(),
        }
    }

    /// The keys, opened by the receiver that one of the entries is for.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open_keys(
        &self,
        crypto: &impl OpenMlsCrypto,
        suite: CipherSuite,
        private_key: &[u8],
        key: &KeyForExternalReceiver,
    ) -> Result<PerMessageKeyAndNonces, SealError> {
        let context = self.context().to_bytes();
        PerMessageKeyAndNonces::open(crypto, suite, private_key, &context, &key.encrypted_keys_and_nonces)
    }
}

impl Encode for SemiPrivateMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.group_id.encode(out);
        self.epoch.encode(out);
        self.content_type.encode(out);
        self.authenticated_data.encode(out);
        self.partial_context_hash.encode(out);
        self.keys_for_external_receivers.encode(out);
        self.framed_content_tbs_hash.encode(out);
        self.encrypted_sender_data.encode(out);
        self.ciphertext.encode(out);
    }
}

impl Decode for SemiPrivateMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group_id: reader.read("group_id")?,
            epoch: reader.read("epoch")?,
            content_type: decode_handshake_type(reader)?,
            authenticated_data: reader.read("authenticated_data")?,
            partial_context_hash: reader.read("partial_context_hash")?,
            keys_for_external_receivers: reader.read("keys_for_external_receivers")?,
            framed_content_tbs_hash: reader.read("framed_content_tbs_hash")?,
            encrypted_sender_data: reader.read("encrypted_sender_data")?,
            ciphertext: reader.read("ciphertext")?,
        })
    }
}

/// The struct inside has no arm for application data.
fn decode_handshake_type(reader: &mut Reader<'_>) -> Result<ContentType, DecodeError> {
    let start = reader.position();
    match decode_content_type(reader)? {
        ContentType::APPLICATION => {
            let found = ContentType::APPLICATION.0;
            let step = crate::codec::Step::Field("content_type");
            Err(DecodeError::new(start, Rule::ContentType { found }).within(step))
        }
        content_type => Ok(content_type),
    }
}
