//! The answer to somebody who asks for the GroupInfo, to join by an external commit (MIMI #claim-group-key-information).

use nabe_wire::IdentifierUri;
use nabe_wire::group_info::{GroupInfoQuery, GroupInfoResponse};
use nabe_wire::label::{SealError, Sealed as _, SignatureError, Signer, SigningError, Verified};

use super::MimiGroup;
use crate::provider::crypto;

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JoinerError {
    /// The hub signs nothing by the suite that the question is signed by.
    #[error("the hub does not sign by the cipher suite of the question")]
    OtherSuite,
    /// The public key is none of the suite.
    #[error("the answer cannot be sealed: {0}")]
    Seal(SealError),
    /// The hub cannot sign for the suite.
    #[error("the answer cannot be signed: {0}")]
    Sign(SigningError),
}

/// Checks that whoever asks has the signature key that it names. Nothing else: what it may have is for the policy to say.
///
/// # Errors
/// The signature does not hold, or the suite is not known.
pub fn check_group_info_query(query: GroupInfoQuery) -> Result<Verified<GroupInfoQuery>, SignatureError> {
    query.verify(crypto())
}

impl MimiGroup {
    /// GroupInfo, tree and pending proposals, sealed for whoever asks and signed with the key that stands for the hub among the
    /// group's external senders: both by the suite of the question, whatever the group's is (MIMI #claim-group-key-information).
    ///
    /// # Errors
    /// The keys do not fit that suite.
    pub fn for_joiner(
        &self,
        query: &Verified<GroupInfoQuery>,
        signer: &impl Signer,
    ) -> Result<GroupInfoResponse, JoinerError> {
        let suite = query.cipher_suite;
        if suite.signature_scheme() != Some(signer.signature_scheme()) {
            return Err(JoinerError::OtherSuite);
        }
        let room = IdentifierUri::new(self.room().to_string()).expect("a mimi URI is short enough for any field");
        let sealed = self
            .for_joiners()
            .seal(crypto(), suite, &query.group_info_public_key, room.as_bytes())
            .map_err(JoinerError::Seal)?;
        let hub = self.external_senders()[0].clone();
        GroupInfoResponse::success(room, suite, hub, sealed, signer).map_err(JoinerError::Sign)
    }
}
