//! A hub, or another server, by its key: what it proposes from outside.

use nabe_wire::mls::{
    ExternalSender, FramedContent, FramedContentBody, MlsMessage, MlsMessageBody, Proposal, PublicMessage, Sender,
};
use nabe_wire::{Encode as _, Kept, label};
use openmls::prelude::ExternalSender as MlsExternalSender;
use openmls_basic_credential::SignatureKeyPair;
use tls_codec::Deserialize as _;

use crate::mimi::MimiGroup;
use crate::suite::Suite;

/// The hub, by its key.
pub struct TestHub {
    pub(super) signer: SignatureKeyPair,
    pub(super) sender: ExternalSender,
}

impl TestHub {
    /// A hub, or another server that proposes.
    #[must_use]
    pub fn new(uri: &str) -> Self {
        Self::with_suite(uri, Suite::default())
    }

    /// One whose key is of another suite.
    #[must_use]
    pub fn with_suite(uri: &str, suite: Suite) -> Self {
        let signer = new_key(suite);
        let sender = ExternalSender {
            signature_key: signer.public().into(),
            credential: nabe_wire::mls::Credential::Basic {
                identity: uri.as_bytes().into(),
            },
        };
        Self { signer, sender }
    }

    /// Its key.
    #[must_use]
    pub const fn signer(&self) -> &SignatureKeyPair {
        &self.signer
    }

    /// What stands among a group's external senders.
    #[must_use]
    pub const fn sender(&self) -> &ExternalSender {
        &self.sender
    }

    /// The same in OpenMLS's terms.
    #[must_use]
    pub fn to_openmls(&self) -> MlsExternalSender {
        MlsExternalSender::tls_deserialize_exact(self.sender.to_bytes()).expect("it is encoded alike")
    }

    /// A proposal from outside by any number, signed with this key, whatever it says.
    #[must_use]
    pub fn propose(&self, index: u32, group: &MimiGroup, proposal: Proposal, aad: &[u8]) -> Kept<MlsMessage> {
        let sender = Sender::External { sender_index: index };
        propose_from_outside(&self.signer, group, sender, proposal, aad)
    }
}

impl label::Signer for TestHub {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, label::SignerError> {
        self.signer.sign(payload)
    }

    fn signature_scheme(&self) -> label::SignatureScheme {
        self.signer.signature_scheme()
    }
}

pub(super) fn propose_from_outside(
    signer: &SignatureKeyPair,
    group: &MimiGroup,
    sender: Sender,
    proposal: Proposal,
    aad: &[u8],
) -> Kept<MlsMessage> {
    let content = FramedContent {
        group_id: group.group_id().into(),
        epoch: group.epoch(),
        sender,
        authenticated_data: aad.into(),
        body: FramedContentBody::Proposal(Box::new(Kept::new(proposal))),
    };
    let signed = [&[0, 1, 0, 1], &content.to_bytes()[..]].concat();
    let signature = label::sign_with_label(signer, "FramedContentTBS", &signed).expect("the key signs");
    Kept::new(MlsMessage {
        body: MlsMessageBody::Public(Box::new(PublicMessage {
            content,
            signature,
            confirmation_tag: None,
            membership_tag: None,
        })),
    })
}

pub(super) fn new_key(suite: Suite) -> SignatureKeyPair {
    SignatureKeyPair::new(suite.credential_algorithm().scheme()).expect("a key pair is made")
}
