//! The public state that goes with a commit: a `GroupInfo` (RFC 9420, 12.4.3), which the draft still calls "public group
//! state" (LM #int-ev-mls-commit).
//!
//! It is not decoded for every commit: the ratchet tree in it is as large as the group. What it says of the group's context is
//! compared byte by byte with what staging the commit gave, and the signature is checked over the bytes as they are.

use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::types::SignatureScheme;

use crate::codec::{Malformed, Reader, labeled};
use crate::provider::crypto;
use crate::suite::Suite;

/// The epoch of a public group state; `None` if it is none.
#[must_use]
pub fn epoch_of_group_state(group_state: &[u8]) -> Option<u64> {
    Some(GroupInfoBytes::parse(group_state).ok()?.epoch)
}

/// ```text
/// struct {
///     GroupContext group_context;
///     Extension extensions<V>;
///     MAC confirmation_tag;
///     uint32 signer;
///     opaque signature<V>;
/// } GroupInfo;
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupInfoBytes<'a> {
    /// The whole structure, without an `MLSMessage` around it.
    pub(crate) bytes: &'a [u8],
    /// The encoded context.
    pub(crate) context: &'a [u8],
    pub(crate) suite: u16,
    pub(crate) group_id: &'a [u8],
    pub(crate) epoch: u64,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) tree_hash: &'a [u8],
    pub(crate) has_ratchet_tree: bool,
    pub(crate) has_external_pub: bool,
    pub(crate) confirmation_tag: &'a [u8],
    pub(crate) signer: u32,
    #[cfg(any(test, feature = "testing"))]
    extensions: &'a [u8],
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> GroupInfoBytes<'a> {
    /// Finds the parts, in a bare `GroupInfo` or one in an `MLSMessage`. Nothing may follow.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        // A GroupContext has its suite where an MLSMessage has its wire format. Suite 4 has the number of a GroupInfo's wire
        // format; we cannot compute with it anyway.
        let bytes = bytes.strip_prefix(&WRAPPED).unwrap_or(bytes);
        let mut reader = Reader::new(bytes);
        let version = reader.u16()?;
        let suite = reader.u16()?;
        let group_id = reader.opaque()?;
        let epoch = reader.u64()?;
        let _tree_hash = reader.opaque()?;
        let _confirmed_transcript_hash = reader.opaque()?;
        let _context_extensions = reader.opaque()?;
        let context = &bytes[..bytes.len() - reader.rest().len()];
        let encoded_extensions = reader.opaque()?;
        let mut extensions = Reader::new(encoded_extensions);
        let (mut has_ratchet_tree, mut has_external_pub) = (false, false);
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let data = extensions.opaque()?;
            let (seen, is_well_formed) = match kind {
                RATCHET_TREE => (&mut has_ratchet_tree, !data.is_empty()),
                EXTERNAL_PUB => (&mut has_external_pub, is_external_pub(data)),
                _ => continue,
            };
            if *seen || !is_well_formed {
                return Err(Malformed);
            }
            *seen = true;
        }
        let confirmation_tag = reader.opaque()?;
        let signer = reader.u32()?;
        let signed = &bytes[..bytes.len() - reader.rest().len()];
        let signature = reader.opaque()?;
        if version != MLS_1_0 || !reader.is_empty() {
            return Err(Malformed);
        }
        Ok(Self {
            bytes,
            context,
            suite,
            group_id,
            epoch,
            #[cfg(any(test, feature = "testing"))]
            tree_hash: _tree_hash,
            has_ratchet_tree,
            has_external_pub,
            confirmation_tag,
            signer,
            #[cfg(any(test, feature = "testing"))]
            extensions: encoded_extensions,
            signed,
            signature,
        })
    }

    /// Type and content of each extension.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn extensions(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut reader = Reader::new(self.extensions);
        std::iter::from_fn(move || Some((reader.u16().ok()?, reader.opaque().ok()?)))
    }

    /// Whether `key`, of a leaf, made the signature.
    pub(crate) fn is_signed_by(&self, suite: Suite, key: &[u8]) -> bool {
        self.signature_check(suite, key).holds()
    }

    /// The same question, with all that it takes to answer it later and elsewhere.
    pub(crate) fn signature_check(&self, suite: Suite, key: &[u8]) -> SignatureCheck {
        SignatureCheck {
            scheme: suite.credential_algorithm().scheme(),
            message: labeled("GroupInfoTBS", self.signed),
            key: key.to_vec(),
            signature: self.signature.to_vec(),
        }
    }
}

/// Whether a key made the signature of a group state.
pub(crate) struct SignatureCheck {
    scheme: SignatureScheme,
    message: Vec<u8>,
    key: Vec<u8>,
    signature: Vec<u8>,
}

impl SignatureCheck {
    pub(crate) fn holds(&self) -> bool {
        crypto()
            .verify_signature(self.scheme, &self.message, &self.key, &self.signature)
            .is_ok()
    }
}

/// `struct { HPKEPublicKey external_pub; } ExternalPub` (RFC 9420, 12.4.3.2): a state whose key cannot be read keeps everybody
/// out who would join by it.
fn is_external_pub(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    reader.opaque().is_ok_and(|key| !key.is_empty()) && reader.is_empty()
}

/// An `MLSMessage`'s version and wire format.
const WRAPPED: [u8; 4] = [0, 1, 0, 4];
const MLS_1_0: u16 = 1;
const RATCHET_TREE: u16 = 2;
pub(crate) const EXTERNAL_PUB: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_key_has_its_length_and_nothing_after_it() {
        let mut whole = vec![32];
        whole.extend([7; 32]);
        assert!(is_external_pub(&whole));
        let trailing = [&whole[..], &[0]].concat();
        for wrong in [&whole[1..], &whole[..32], &trailing, &[0], &[]] {
            assert!(!is_external_pub(wrong), "{wrong:?}");
        }
    }
}
