//! A hub's stamp on messages that it cannot read (MIMI #message-franking).

use nabe_content::mimi::Origin;
use nabe_content::mimi::franking::{self, FrankError, FrankingContext, FrankingTag, KeyRing};
use nabe_core::mimi::{Evidence, Franking};
use nabe_types::UnixMillis;
use nabe_wire::IdentifierUri;
use nabe_wire::franking::{Frank, ServerFrankingContext};
use nabe_wire::label::SignatureScheme;
use nabe_wire::mls::CipherSuite;
use nabe_wire::report_abuse::AbusiveMessage;

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

    fn recognize(&self, message: &AbusiveMessage) -> Result<ServerFrankingContext, Evidence> {
        let frank = franking::Frank {
            server_frank: message.frank.server_frank,
            cipher_suite: franking::CipherSuite(message.frank.franking_signature_ciphersuite.0),
            integrity_signature: message.frank.franking_integrity_signature.to_vec(),
        };
        let accepted = UnixMillis(message.accepted_timestamp);
        let verify = franking::ed25519(self.agent.public_key());
        let context = frank
            .verify_report(&message.message_content, accepted, &self.keys, verify)
            .map_err(|error| match error {
                FrankError::Content(_) | FrankError::Framing => Evidence::NotContent,
                FrankError::NoClaims => Evidence::NoClaims,
                FrankError::Signature => Evidence::OtherSignature,
                _ => Evidence::OtherFrank,
            })?;
        let uri = |uri: &str| IdentifierUri::new(uri).ok_or(Evidence::NoClaims);
        Ok(ServerFrankingContext {
            sender_uri: uri(context.origin.sender())?,
            room_uri: uri(context.origin.room())?,
            accepted_timestamp: context.accepted.as_u64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use nabe_content::mimi::franking::{HubKey, application_framing};
    use nabe_content::mimi::{MimiContent, NestedPart, Salt};

    use super::*;

    const ROOM: &str = "mimi://a.example/r/club";

    #[test]
    fn the_hub_recognizes_what_it_franked_and_nothing_that_was_changed() {
        let mut ring = KeyRing::new();
        ring.add(UnixMillis(0), HubKey::from_random([2; 32]));
        let franks = Franks::new(Ed25519::from_seed([1; 32]), ring);
        let origin = Origin::new("mimi://b.example/u/bob", ROOM).unwrap();
        let content = MimiContent::new(Salt::from_random([7; 16]), &origin, NestedPart::text("You fish!"));
        let bare = content.encode().unwrap();
        let context = ServerFrankingContext {
            sender_uri: IdentifierUri::new(origin.sender()).unwrap(),
            room_uri: IdentifierUri::new(ROOM).unwrap(),
            accepted_timestamp: 1_790_000_000_000,
        };
        for sent in [bare.clone(), application_framing(&bare)] {
            let tag = FrankingTag::compute(&content.salt, &sent);
            let agent = franks.agent().public();
            let frank = franks.frank(&agent, CipherSuite(1), &tag.0, &context).unwrap();
            let genuine = AbusiveMessage {
                message_content: sent[..].into(),
                frank,
                accepted_timestamp: context.accepted_timestamp,
            };
            assert_eq!(franks.recognize(&genuine).as_ref(), Ok(&context));
            let mut later = genuine.clone();
            later.accepted_timestamp += 1;
            assert_eq!(franks.recognize(&later), Err(Evidence::OtherFrank));
            let mut edited = genuine.clone();
            let other = MimiContent::new(content.salt, &origin, NestedPart::text("You fox!"));
            edited.message_content = other.encode().unwrap()[..].into();
            assert_eq!(franks.recognize(&edited), Err(Evidence::OtherFrank));
            let mut unsigned = genuine.clone();
            unsigned.frank.franking_integrity_signature = vec![0; 64][..].into();
            assert_eq!(franks.recognize(&unsigned), Err(Evidence::OtherSignature));
            let mut garbage = genuine;
            garbage.message_content = b"no content"[..].into();
            assert_eq!(franks.recognize(&garbage), Err(Evidence::NotContent));
        }
    }
}
