//! A hub's stamp on messages that it cannot read (MIMI #message-franking).

use nabe_content::mimi::Origin;
use nabe_content::mimi::franking::{self, FrankingContext, FrankingTag, KeyRing};
use nabe_core::mimi::Franking;
use nabe_types::UnixMillis;
use nabe_wire::franking::{Frank, ServerFrankingContext};
use nabe_wire::label::SignatureScheme;
use nabe_wire::mls::CipherSuite;

use super::keys::Ed25519;

/// The hub's keys for franks: one agent for all of its rooms.
#[derive(Debug)]
pub(crate) struct Franks {
    agent: Ed25519,
    keys: KeyRing,
}

impl Franks {
    pub(super) const fn new(agent: Ed25519, keys: KeyRing) -> Self {
        Self { agent, keys }
    }

    /// By whose signature everybody recognizes the hub's franks.
    pub(super) const fn agent(&self) -> &Ed25519 {
        &self.agent
    }
}

impl Franking for Franks {
    fn frank(
        &self,
        agent: &[u8],
        suite: CipherSuite,
        tag: &[u8; 32],
        context: &ServerFrankingContext,
    ) -> Option<Frank> {
        if agent != self.agent.public() || suite.signature_scheme() != Some(SignatureScheme::ED25519) {
            return None;
        }
        let context = FrankingContext {
            origin: Origin::new(&context.sender_uri, &context.room_uri).ok()?,
            accepted: UnixMillis(context.accepted_timestamp),
        };
        let sign = |message: &[u8]| self.agent.sign_bytes(message);
        let suite_of_frank = franking::CipherSuite(suite.0);
        let frank = franking::Frank::stamp(&self.keys, suite_of_frank, &FrankingTag(*tag), &context, sign)?;
        Some(Frank {
            server_frank: frank.server_frank,
            franking_signature_ciphersuite: suite,
            franking_integrity_signature: frank.integrity_signature[..].into(),
        })
    }
}
