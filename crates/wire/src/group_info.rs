//! `POST /groupInfo/{roomId}`: MIMI #claim-group-key-information.

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;

use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, open_enum, wire_struct};
use crate::label::{self, SealError, Sealed, SignatureError, Signed, SigningError, Verified};
use crate::mls::{CipherSuite, Credential, ExternalSender, GroupInfo, HpkeCiphertext, MlsMessage, RatchetTreeOption};
use crate::protocol::{Protocol, protocol_body};
use crate::update::decode_proposal;
use crate::uri::IdentifierUri;

protocol_body! {
    /// `GroupInfoRequest`: a client that wants to join by itself asks for what it needs.
    pub struct GroupInfoRequest(GroupInfoQuery)
}

wire_struct! {
    /// What MLS 1.0 asks for, signed.
    pub struct GroupInfoQuery {
        /// The algorithms of the signatures and of the sealing.
        pub cipher_suite: CipherSuite,
        /// Of the requesting client.
        pub requesting_signature_key: Bytes,
        /// Whose it is.
        pub requesting_credential: Credential,
        /// What the answer is sealed for.
        pub group_info_public_key: Bytes,
        /// Empty if there is none.
        pub joining_code: Bytes,
        /// By `requesting_signature_key`, over a [`GroupInfoRequestTbs`].
        pub signature: Bytes,
    }
}

/// `GroupInfoRequestTBS`: a request that has yet to be signed. The joining code is optional in it and plain in the
/// request; we take an empty one for none. The signature covers neither room nor hub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfoRequestTbs {
    /// As in the request.
    pub cipher_suite: CipherSuite,
    /// As in the request.
    pub requesting_signature_key: Bytes,
    /// As in the request.
    pub requesting_credential: Credential,
    /// As in the request.
    pub group_info_public_key: Bytes,
    /// As in the request; there and empty does not occur.
    pub joining_code: Option<Bytes>,
}

impl Encode for GroupInfoRequestTbs {
    fn encode(&self, out: &mut Vec<u8>) {
        Protocol::MLS10.encode(out);
        self.cipher_suite.encode(out);
        self.requesting_signature_key.encode(out);
        self.requesting_credential.encode(out);
        self.group_info_public_key.encode(out);
        self.joining_code.encode(out);
    }
}

impl GroupInfoRequestTbs {
    /// Signs with the key whose public half it names.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(self, signer: &impl Signer) -> Result<GroupInfoRequest, SigningError> {
        let tbs = Self {
            joining_code: self.joining_code.filter(|code| !code.is_empty()),
            ..self
        };
        let signature = label::sign_for_suite(signer, tbs.cipher_suite, GroupInfoQuery::LABEL, &tbs.to_bytes())?;
        Ok(GroupInfoQuery {
            cipher_suite: tbs.cipher_suite,
            requesting_signature_key: tbs.requesting_signature_key,
            requesting_credential: tbs.requesting_credential,
            group_info_public_key: tbs.group_info_public_key,
            joining_code: tbs.joining_code.unwrap_or_default(),
            signature,
        }
        .into())
    }
}

impl Signed for GroupInfoQuery {
    const LABEL: &'static str = "GroupInfoRequestTBS";

    fn to_be_signed(&self) -> Vec<u8> {
        GroupInfoRequestTbs {
            cipher_suite: self.cipher_suite,
            requesting_signature_key: self.requesting_signature_key.clone(),
            requesting_credential: self.requesting_credential.clone(),
            group_info_public_key: self.group_info_public_key.clone(),
            joining_code: (!self.joining_code.is_empty()).then(|| self.joining_code.clone()),
        }
        .to_bytes()
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl GroupInfoQuery {
    /// Checks that the holder of the key in it signed it. That the credential belongs to the key is for others to check.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(self, crypto: &impl OpenMlsCrypto) -> Result<Verified<Self>, SignatureError> {
        let (suite, key) = (self.cipher_suite, self.requesting_signature_key.clone());
        label::verify(crypto, suite, &key, self)
    }
}

open_enum! {
    /// `GroupInfoCode`
    pub struct GroupInfoCode(u8) {
        /// Here it is.
        SUCCESS = 1 "success",
        /// Not for you, or nothing more is said.
        NOT_AUTHORIZED = 2 "notAuthorized",
        /// There is no such room.
        NO_SUCH_ROOM = 3 "noSuchRoom",
    }
}

/// `GroupInfoResponse`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfoResponse {
    /// That of the request; the draft selects on it by another name.
    pub version: Protocol,
    /// Of which room.
    pub room_id: IdentifierUri,
    /// The status and what goes with it.
    pub outcome: GroupInfoOutcome,
}

/// What a hub answers, by status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupInfoOutcome {
    /// What a joiner needs.
    Success(SealedGroupInfo),
    /// Any other status, with which nothing is sent.
    Refused(GroupInfoCode),
}

wire_struct! {
    /// What a joiner needs, sealed and signed.
    pub struct SealedGroupInfo {
        /// That of the request.
        pub cipher_suite: CipherSuite,
        /// Who signs: the hub, as in the group's list of external senders.
        pub hub_sender: ExternalSender,
        /// A [`GroupInfoRatchetTreeTbe`], sealed for the request's key.
        pub encrypted_groupinfo_and_tree: HpkeCiphertext,
        /// By the hub, over everything before.
        pub signature: Bytes,
    }
}

impl GroupInfoOutcome {
    /// The status.
    pub fn code(&self) -> GroupInfoCode {
        match self {
            Self::Success(_) => GroupInfoCode::SUCCESS,
            Self::Refused(code) => *code,
        }
    }
}

impl Encode for GroupInfoResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        self.version.encode(out);
        self.room_id.encode(out);
        self.outcome.code().encode(out);
        if let GroupInfoOutcome::Success(sealed) = &self.outcome {
            sealed.encode(out);
        }
    }
}

impl Decode for GroupInfoResponse {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let version: Protocol = reader.read("version")?;
        let room_id = reader.read("room_id")?;
        let outcome = match reader.read("status")? {
            GroupInfoCode::SUCCESS if version == Protocol::MLS10 => {
                GroupInfoOutcome::Success(SealedGroupInfo::decode(reader)?)
            }
            GroupInfoCode::SUCCESS => return Err(DecodeError::unknown(start, "version", version.0)),
            code => GroupInfoOutcome::Refused(code),
        };
        Ok(Self {
            version,
            room_id,
            outcome,
        })
    }
}

/// A successful answer with all that is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantedGroupInfo {
    /// Of which room.
    pub room_id: IdentifierUri,
    /// What a joiner needs.
    pub sealed: SealedGroupInfo,
}

impl Signed for GrantedGroupInfo {
    const LABEL: &'static str = "GroupInfoResponseTBS";

    /// `GroupInfoResponseTBS`
    fn to_be_signed(&self) -> Vec<u8> {
        let sealed = &self.sealed;
        response_tbs(
            &self.room_id,
            sealed.cipher_suite,
            &sealed.hub_sender,
            &sealed.encrypted_groupinfo_and_tree,
        )
    }

    fn signature(&self) -> &[u8] {
        &self.sealed.signature
    }
}

fn response_tbs(
    room_id: &IdentifierUri,
    suite: CipherSuite,
    hub_sender: &ExternalSender,
    sealed: &HpkeCiphertext,
) -> Vec<u8> {
    label::concatenated(&[
        &Protocol::MLS10,
        room_id,
        &GroupInfoCode::SUCCESS,
        &suite,
        hub_sender,
        sealed,
    ])
}

impl GroupInfoResponse {
    /// A refusal.
    pub fn refused(room_id: IdentifierUri, code: GroupInfoCode) -> Self {
        Self {
            version: Protocol::MLS10,
            room_id,
            outcome: GroupInfoOutcome::Refused(code),
        }
    }

    /// Signs what was sealed for a request of this suite, with the hub's key.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn success(
        room_id: IdentifierUri,
        cipher_suite: CipherSuite,
        hub_sender: ExternalSender,
        sealed: HpkeCiphertext,
        signer: &impl Signer,
    ) -> Result<Self, SigningError> {
        let tbs = response_tbs(&room_id, cipher_suite, &hub_sender, &sealed);
        let signature = label::sign_for_suite(signer, cipher_suite, GrantedGroupInfo::LABEL, &tbs)?;
        Ok(Self {
            version: Protocol::MLS10,
            room_id,
            outcome: GroupInfoOutcome::Success(SealedGroupInfo {
                cipher_suite,
                hub_sender,
                encrypted_groupinfo_and_tree: sealed,
                signature,
            }),
        })
    }

    /// Checks a successful answer by the hub's key inside it. That the key is the hub's shows once the GroupInfo is
    /// open: it is among the group's external senders.
    ///
    /// # Errors
    /// [`SignatureError`], also for an answer that grants nothing.
    pub fn verify(self, crypto: &impl OpenMlsCrypto) -> Result<Verified<GrantedGroupInfo>, SignatureError> {
        let GroupInfoOutcome::Success(sealed) = self.outcome else {
            return Err(SignatureError::Invalid);
        };
        let (suite, key) = (sealed.cipher_suite, sealed.hub_sender.signature_key.clone());
        let room_id = self.room_id;
        label::verify(crypto, suite, &key, GrantedGroupInfo { room_id, sealed })
    }
}

impl GrantedGroupInfo {
    /// Opens it with the private half of the request's key. The room's URI is the context of the sealing.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, crypto: &impl OpenMlsCrypto, private_key: &[u8]) -> Result<GroupInfoRatchetTreeTbe, SealError> {
        let sealed = &self.sealed;
        GroupInfoRatchetTreeTbe::open(
            crypto,
            sealed.cipher_suite,
            private_key,
            self.room_id.as_bytes(),
            &sealed.encrypted_groupinfo_and_tree,
        )
    }
}

/// `GroupInfoRatchetTreeTBE`: what a joiner needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfoRatchetTreeTbe {
    /// Without the tree.
    pub group_info: Kept<GroupInfo>,
    /// The tree.
    pub ratchet_tree_option: RatchetTreeOption,
    /// All proposals of the epoch that the hub has accepted.
    pub pending_proposals: Vec<PendingProposal>,
}

impl Sealed for GroupInfoRatchetTreeTbe {
    const LABEL: &'static str = "GroupInfo and ratchet_tree encryption";
}

impl Encode for GroupInfoRatchetTreeTbe {
    fn encode(&self, out: &mut Vec<u8>) {
        self.group_info.encode(out);
        self.ratchet_tree_option.encode(out);
        self.pending_proposals.encode(out);
    }
}

impl Decode for GroupInfoRatchetTreeTbe {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group_info: reader.field("group_info", crate::mls::decode_without_tree)?,
            ratchet_tree_option: reader.read("ratchet_tree_option")?,
            pending_proposals: reader.read("pending_proposals")?,
        })
    }
}

/// `PendingProposal`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingProposal {
    /// A public or semi-private message.
    pub proposal: Kept<MlsMessage>,
    /// When the hub accepted it, in milliseconds since 1970.
    pub hub_accepted_time: u64,
}

impl Encode for PendingProposal {
    fn encode(&self, out: &mut Vec<u8>) {
        self.proposal.encode(out);
        self.hub_accepted_time.encode(out);
    }
}

impl Decode for PendingProposal {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proposal: reader.field("proposal", decode_proposal)?,
            hub_accepted_time: reader.read("hub_accepted_time")?,
        })
    }
}

#[cfg(test)]
mod tests;
