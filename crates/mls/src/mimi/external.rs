//! Proposals by those who are not in the group: the hub and other external senders (MIMI #authenticating-proposals).
//!
//! OpenMLS takes from external senders what adds, removes or changes extensions, and nothing else; and what it makes itself
//! has no SafeAAD. So here is what it lacks, and nowhere else: checking a signature, making a message, and putting a proposal
//! into the queue that commits are resolved by. See decision D-external-app-data.

use nabe_wire::label::{self, SigningError};
use nabe_wire::mls::{
    CipherSuite, ExtensionType, ExternalSender, FramedContent, FramedContentBody, MlsMessage, MlsMessageBody, Proposal,
    PublicMessage, Sender,
};
use nabe_wire::{Encode as _, Kept};
use openmls::ciphersuite::hash_ref::{ProposalRef as MlsProposalRef, make_proposal_ref};
use openmls::framing::Sender as MlsSender;
use openmls::group::QueuedProposal;
use openmls::messages::proposals::{AppDataUpdateProposal, AppEphemeralProposal, Proposal as MlsProposal};
use openmls::prelude::{ProposalOrRefType, SenderExtensionIndex};
use openmls_traits::signatures::Signer;
use serde::Serialize;

use super::proposals::ProposalRef;
use super::refusal::MimiRefusal;
use super::{MimiGroup, State};
use crate::provider::crypto;
use crate::stored;
use crate::suite::Suite;

impl MimiGroup {
    /// A proposal by the hub for the current epoch, signed with the key that stands for it among the group's external
    /// senders. Like all proposals it takes effect once it is taken in ([`MimiGroup::propose`]), and sent to everybody.
    ///
    /// Fails if the signer's algorithm is not the group's suite's, or if signing does.
    pub fn hub_proposal(&self, proposal: Proposal, signer: &impl Signer) -> Result<Kept<MlsMessage>, SigningError> {
        let suite = CipherSuite(self.suite().id());
        if suite.signature_scheme() != Some(signer.signature_scheme()) {
            return Err(SigningError::OtherAlgorithm { suite });
        }
        let content = FramedContent {
            group_id: self.group_id().into(),
            epoch: self.epoch(),
            sender: Sender::External { sender_index: HUB },
            // A SafeAAD without items.
            authenticated_data: [0].as_slice().into(),
            body: FramedContentBody::Proposal(Box::new(Kept::new(proposal))),
        };
        let signature = label::sign_with_label(signer, LABEL, &to_be_signed(&content))?;
        Ok(Kept::new(MlsMessage {
            body: MlsMessageBody::Public(Box::new(PublicMessage {
                content,
                signature,
                confirmation_tag: None,
                membership_tag: None,
            })),
        }))
    }
}

impl MimiGroup {
    /// What takes external senders off the group's list: all but the hub and those for whom `stays` holds. `None` if nobody is to go.
    pub fn without_senders(&self, stays: impl Fn(&ExternalSender) -> bool) -> Option<Proposal> {
        let senders = &self.state.senders;
        let kept: Vec<_> = senders
            .iter()
            .enumerate()
            .filter(|(index, sender)| *index == 0 || stays(sender))
            .map(|(_, sender)| sender.clone())
            .collect();
        if kept.len() == senders.len() {
            return None;
        }
        let mut extensions = self.state.context().extensions;
        let list = extensions
            .iter_mut()
            .find(|extension| extension.extension_type == ExtensionType::EXTERNAL_SENDERS)?;
        list.extension_data = kept.to_bytes().into();
        Some(Proposal::GroupContextExtensions(extensions))
    }
}

impl State {
    /// The external sender with this number.
    pub(super) fn sender(&self, index: u32) -> Option<&ExternalSender> {
        self.senders.get(usize::try_from(index).ok()?)
    }

    /// Checks an external sender's signature, and makes the proposal one that can be committed, for the types where OpenMLS does
    /// not. `None` for the others.
    pub(super) fn queue_external(
        &self,
        index: u32,
        public: &PublicMessage,
        proposal: &Proposal,
    ) -> Result<Option<QueuedProposal>, MimiRefusal> {
        queue_from(&self.senders, self.suite, index, public, proposal)
    }
}

/// The same for anybody who knows the external senders and the suite.
pub(super) fn queue_from(
    senders: &[ExternalSender],
    suite: Suite,
    index: u32,
    public: &PublicMessage,
    proposal: &Proposal,
) -> Result<Option<QueuedProposal>, MimiRefusal> {
    let sender = usize::try_from(index).ok().and_then(|index| senders.get(index));
    let sender = sender.ok_or(MimiRefusal::UnknownExternalSender { index })?;
    let Some(proposal) = to_openmls(proposal) else {
        return Ok(None);
    };
    label::verify_with_label(
        crypto(),
        suite.credential_algorithm().scheme(),
        &sender.signature_key,
        LABEL,
        &to_be_signed(&public.content),
        &public.signature,
    )
    .map_err(|_| MimiRefusal::BadSignature)?;
    let sender = MlsSender::External(SenderExtensionIndex::new(index));
    queued(proposal, sender, public, suite).map(Some)
}

/// What OpenMLS would have queued for the proposal in `public`, had it taken it from this sender. Its fields are private;
/// its stored form is not.
pub(crate) fn queued(
    proposal: MlsProposal,
    sender: MlsSender,
    public: &PublicMessage,
    suite: Suite,
) -> Result<QueuedProposal, MimiRefusal> {
    let reference = hash_of(public, suite)?;
    #[derive(Serialize)]
    struct Queued<P, R> {
        proposal: P,
        proposal_reference: R,
        sender: MlsSender,
        proposal_or_ref_type: ProposalOrRefType,
    }
    let stored = stored::encode(&Queued {
        proposal,
        proposal_reference: reference,
        sender,
        proposal_or_ref_type: ProposalOrRefType::Reference,
    });
    Ok(stored::decode(&stored).expect("the fields are those of the version that is pinned, as a test shows"))
}

/// How commits refer to the proposal in `public`.
pub(super) fn reference_of(public: &PublicMessage, suite: Suite) -> Result<ProposalRef, MimiRefusal> {
    hash_of(public, suite).map(|reference| ProposalRef(reference.as_slice().to_vec()))
}

/// Proposals are named by an AuthenticatedContent: wire format, content, and signature.
fn hash_of(public: &PublicMessage, suite: Suite) -> Result<MlsProposalRef, MimiRefusal> {
    let mut authenticated = PUBLIC_MESSAGE.to_vec();
    public.content.encode(&mut authenticated);
    public.signature.encode(&mut authenticated);
    make_proposal_ref(&authenticated, suite.ciphersuite(), crypto()).map_err(|_| MimiRefusal::BadSignature)
}

/// The proposals that OpenMLS does not take from external senders, in its terms.
fn to_openmls(proposal: &Proposal) -> Option<MlsProposal> {
    Some(match proposal {
        Proposal::AppDataUpdate(update) => {
            let component = update.component_id.0;
            let update = match &update.update {
                Some(update) => AppDataUpdateProposal::update(component, update.to_vec()),
                None => AppDataUpdateProposal::remove(component),
            };
            MlsProposal::AppDataUpdate(Box::new(update))
        }
        Proposal::AppEphemeral(ephemeral) => {
            let ephemeral = AppEphemeralProposal::new(ephemeral.component_id.0, ephemeral.data.to_vec());
            MlsProposal::AppEphemeral(Box::new(ephemeral))
        }
        _ => return None,
    })
}

/// `FramedContentTBS` of somebody who is not in the group: nothing of the group's context is in it.
fn to_be_signed(content: &FramedContent) -> Vec<u8> {
    let mut out = [MLS_1_0, PUBLIC_MESSAGE].concat();
    content.encode(&mut out);
    out
}

/// The hub's place among the external senders (MIMI #authenticating-proposals).
const HUB: u32 = 0;
const LABEL: &str = "FramedContentTBS";
const MLS_1_0: [u8; 2] = [0, 1];
const PUBLIC_MESSAGE: [u8; 2] = [0, 1];
