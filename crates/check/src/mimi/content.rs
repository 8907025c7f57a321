//! What the checks' clients say in rooms with franking (MIMI #client-creation-and-sending), and what a frank is worth to a receiver (MIMI
//! #receiver-verification-of-frank).

use nabe_content::mimi::franking::{FrankingTag, application_framing};
use nabe_content::mimi::{MimiContent, NestedPart, Origin, Salt};
use nabe_wire::franking::{Frank, FrankingAgentData, ServerFrankingContext};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;

use super::peer::identifier;
use crate::case::{Checked, Stop};

/// A message, ready to be encrypted.
pub(crate) struct Franked {
    /// The application data: media type and content.
    pub(crate) application_data: Vec<u8>,
    /// What the hub stamps.
    pub(crate) tag: [u8; 32],
}

impl Franked {
    /// A text by this sender in this room.
    pub(crate) fn text(sender: &str, room: &str, salt: u8, text: &str) -> Checked<Self> {
        let wrong = |error: String| Stop::Skipped(format!("the check cannot make this message: {error}"));
        let origin = Origin::new(sender, room).map_err(|error| wrong(error.to_string()))?;
        let content = MimiContent::new(Salt::from_random([salt; 16]), &origin, NestedPart::text(text));
        let encoded = content.encode().map_err(|error| wrong(error.to_string()))?;
        let application_data = application_framing(&encoded);
        let tag = FrankingTag::compute(&content.salt, &application_data);
        Ok(Self {
            application_data,
            tag: tag.0,
        })
    }
}

/// Whether a frank is the agent's over this message of this sender in this room at this time.
pub(crate) fn is_genuine(frank: &Frank, agent: &FrankingAgentData, sender: &str, room: &str, accepted: u64) -> bool {
    let context = ServerFrankingContext {
        sender_uri: identifier(sender),
        room_uri: identifier(room),
        accepted_timestamp: accepted,
    };
    let provider = OpenMlsRustCrypto::default();
    frank
        .verify(provider.crypto(), &agent.franking_signature_key, &context)
        .is_ok()
}
