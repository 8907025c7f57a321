//! The one place that names OpenMLS's cryptography and storage.

use std::convert::Infallible;
use std::sync::LazyLock;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::public_storage::PublicStorageProvider;
use openmls_traits::storage::{CURRENT_VERSION, traits};
use serde::de::DeserializeOwned;

/// The implementation of the suites. It holds a random generator and no state of any group.
pub(crate) fn crypto() -> &'static RustCrypto {
    static CRYPTO: LazyLock<RustCrypto> = LazyLock::new(RustCrypto::default);
    &CRYPTO
}

/// Takes every write and keeps nothing: following a commit must not serialize the tree.
pub(crate) struct NoStorage;

/// The parts of one stored group, each as postcard, for [`openmls::group::PublicGroup::load`].
#[derive(Clone, Copy)]
pub(crate) struct StoredGroup<'a> {
    pub(crate) tree: &'a [u8],
    pub(crate) context: &'a [u8],
    pub(crate) interim_transcript_hash: &'a [u8],
    pub(crate) confirmation_tag: &'a [u8],
}

/// A part of a stored group does not decode, or something asks a group that is only being read to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the stored group does not decode")]
pub(crate) struct NotDecoded;

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<T>, NotDecoded> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(Some(value)),
        _ => Err(NotDecoded),
    }
}

/// The trait's methods for a provider whose reads are given and which ignores writes.
macro_rules! read_only {
    ($provider:ty, $error:ty, |$this:ident| {
        tree: $tree:expr, context: $context:expr, interim: $interim:expr, tag: $tag:expr $(,)?
    }) => {
        impl PublicStorageProvider<CURRENT_VERSION> for $provider {
            type PublicError = $error;

            fn write_tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(
                &self,
                _: &G,
                _: &T,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn write_interim_transcript_hash<
                G: traits::GroupId<CURRENT_VERSION>,
                T: traits::InterimTranscriptHash<CURRENT_VERSION>,
            >(
                &self,
                _: &G,
                _: &T,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn write_context<G: traits::GroupId<CURRENT_VERSION>, T: traits::GroupContext<CURRENT_VERSION>>(
                &self,
                _: &G,
                _: &T,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn write_confirmation_tag<
                G: traits::GroupId<CURRENT_VERSION>,
                T: traits::ConfirmationTag<CURRENT_VERSION>,
            >(
                &self,
                _: &G,
                _: &T,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn queue_proposal<
                G: traits::GroupId<CURRENT_VERSION>,
                R: traits::ProposalRef<CURRENT_VERSION>,
                P: traits::QueuedProposal<CURRENT_VERSION>,
            >(
                &self,
                _: &G,
                _: &R,
                _: &P,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn queued_proposals<
                G: traits::GroupId<CURRENT_VERSION>,
                R: traits::ProposalRef<CURRENT_VERSION>,
                P: traits::QueuedProposal<CURRENT_VERSION>,
            >(
                &self,
                _: &G,
            ) -> Result<Vec<(R, P)>, $error> {
                Ok(Vec::new())
            }

            fn tree<G: traits::GroupId<CURRENT_VERSION>, T: traits::TreeSync<CURRENT_VERSION>>(
                &self,
                _: &G,
            ) -> Result<Option<T>, $error> {
                let $this = self;
                $tree
            }

            fn group_context<G: traits::GroupId<CURRENT_VERSION>, T: traits::GroupContext<CURRENT_VERSION>>(
                &self,
                _: &G,
            ) -> Result<Option<T>, $error> {
                let $this = self;
                $context
            }

            fn interim_transcript_hash<
                G: traits::GroupId<CURRENT_VERSION>,
                T: traits::InterimTranscriptHash<CURRENT_VERSION>,
            >(
                &self,
                _: &G,
            ) -> Result<Option<T>, $error> {
                let $this = self;
                $interim
            }

            fn confirmation_tag<G: traits::GroupId<CURRENT_VERSION>, T: traits::ConfirmationTag<CURRENT_VERSION>>(
                &self,
                _: &G,
            ) -> Result<Option<T>, $error> {
                let $this = self;
                $tag
            }

            fn delete_tree<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Result<(), $error> {
                Ok(())
            }

            fn delete_confirmation_tag<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Result<(), $error> {
                Ok(())
            }

            fn delete_context<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Result<(), $error> {
                Ok(())
            }

            fn delete_interim_transcript_hash<G: traits::GroupId<CURRENT_VERSION>>(&self, _: &G) -> Result<(), $error> {
                Ok(())
            }

            fn remove_proposal<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
                &self,
                _: &G,
                _: &R,
            ) -> Result<(), $error> {
                Ok(())
            }

            fn clear_proposal_queue<G: traits::GroupId<CURRENT_VERSION>, R: traits::ProposalRef<CURRENT_VERSION>>(
                &self,
                _: &G,
            ) -> Result<(), $error> {
                Ok(())
            }
        }
    };
}

read_only!(NoStorage, Infallible, |_this| {
    tree: Ok(None),
    context: Ok(None),
    interim: Ok(None),
    tag: Ok(None),
});

read_only!(StoredGroup<'_>, NotDecoded, |this| {
    tree: decode(this.tree),
    context: decode(this.context),
    interim: decode(this.interim_transcript_hash),
    tag: decode(this.confirmation_tag),
});
