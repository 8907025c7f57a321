//! What all messages of a room have in common (RFC 9420, 6): they are for its group and epoch, and their authenticated data is
//! a SafeAAD (MLSX #safe-aad). And what the hub can see of an application message (MIMI #submit-a-message).

use nabe_wire::app_data::SafeAad;
use nabe_wire::franking::FrankAad;
use nabe_wire::mls::{
    ComponentId, ContentType, FramedContent, MlsMessage, MlsMessageBody, PrivateMessage, PublicMessage, Sender,
};
use nabe_wire::policy::OperationalParameters;
use nabe_wire::{Kept, Message as _};

use super::refusal::{MessageRefusal, MimiRefusal};
use super::{MimiGroup, State};

/// What the hub knows of an application message once it is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedMessage {
    /// The epoch it is of: the group's, or an earlier one that the room's policy tolerates.
    pub epoch: u64,
    /// The tag that the hub franks, if the message carries one (MIMI #message-franking).
    pub franking_tag: Option<[u8; 32]>,
}

impl MimiGroup {
    /// Checks what can be seen of an application message (MIMI #submit-a-message): group, epoch, content type, the form of
    /// the authenticated data, and that a franking tag in it is one. Who sent it is sealed; whether the user that the
    /// provider names may send is for the policy to say.
    pub fn check_message(&self, message: &PrivateMessage) -> Result<CheckedMessage, MessageRefusal> {
        if message.group_id[..] != *self.group_id() {
            return Err(MessageRefusal::WrongGroup);
        }
        if message.content_type != ContentType::APPLICATION {
            return Err(MessageRefusal::NotApplication);
        }
        let (epoch, current) = (message.epoch, self.epoch());
        if epoch > current {
            return Err(MessageRefusal::FutureEpoch { epoch, current });
        }
        if current - epoch > self.epoch_tolerance() {
            return Err(MessageRefusal::EpochTooOld { epoch, current });
        }
        let aad = SafeAad::from_bytes(&message.authenticated_data).map_err(MessageRefusal::SafeAad)?;
        let tag = aad.item(ComponentId::FRANK_AAD).map(FrankAad::from_bytes).transpose();
        let tag = tag.map_err(MessageRefusal::FrankingTag)?;
        Ok(CheckedMessage {
            epoch,
            franking_tag: tag.map(|aad| aad.franking_tag),
        })
    }

    /// How many epochs a message may be late, by the room's operational policy (MRP #operational); 0 without one.
    #[must_use]
    pub fn epoch_tolerance(&self) -> u64 {
        self.component(ComponentId::MLS_OPERATIONAL_POLICY)
            .and_then(|data| OperationalParameters::from_bytes(data).ok())
            .map_or(0, |policy| u64::from(policy.app_message_policy.epoch_tolerance))
    }
}

/// The handshake message that servers can read; others are refused by what they are.
pub(super) fn readable(message: &Kept<MlsMessage>) -> Result<&PublicMessage, MimiRefusal> {
    match &message.body {
        MlsMessageBody::Public(public) => Ok(public),
        MlsMessageBody::Private(_) => Err(MimiRefusal::PrivateHandshake),
        MlsMessageBody::SemiPrivate(_) => Err(MimiRefusal::SemiPrivateHandshake),
        _ => Err(MimiRefusal::WrongWireFormat),
    }
}

impl State {
    /// Checks group, epoch, authenticated data, and that the sender is there.
    pub(super) fn check_frame(&self, content: &FramedContent) -> Result<(), MimiRefusal> {
        let context = self.group.group_context();
        if content.group_id[..] != *context.group_id().as_slice() {
            return Err(MimiRefusal::WrongGroup);
        }
        let (epoch, current) = (content.epoch, context.epoch().as_u64());
        if epoch != current {
            return Err(MimiRefusal::WrongEpoch { epoch, current });
        }
        SafeAad::from_bytes(&content.authenticated_data).map_err(MimiRefusal::SafeAad)?;
        match content.sender {
            Sender::Member { leaf_index: leaf } if self.roster.at(leaf).is_none() => {
                Err(MimiRefusal::UnknownMember { leaf })
            }
            Sender::External { sender_index: index } if self.sender(index).is_none() => {
                Err(MimiRefusal::UnknownExternalSender { index })
            }
            _ => Ok(()),
        }
    }
}
