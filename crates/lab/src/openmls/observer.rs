//! What follows a group by OpenMLS without secrets: its `PublicGroup` by itself, and Nabe's hub, whose state is what a checkpoint holds.

use std::marker::PhantomData;

use nabe_mls::HubGroup;
use nabe_mls::testing::BareGroup;

use super::Backend;
use crate::stack::Observer;
use crate::worker::Failure;

/// A hub that stays where it is.
pub struct Following<B> {
    hub: HubGroup,
    backend: PhantomData<B>,
}

impl<B> Following<B> {
    pub(super) fn of(hub: &HubGroup) -> Result<Self, Failure> {
        Self::read(&hub.checkpoint())
    }

    fn read(checkpoint: &[u8]) -> Result<Self, Failure> {
        let hub = HubGroup::restore(checkpoint).map_err(Failure::at("reading a checkpoint"))?;
        Ok(Self {
            hub,
            backend: PhantomData,
        })
    }
}

/// OpenMLS's public group, and what it computes with.
pub struct Bare<B: Backend> {
    group: BareGroup,
    crypto: B::Crypto,
}

impl<B: Backend> Observer for Following<B> {
    type Bare = Bare<B>;

    fn bare(&self) -> Result<Bare<B>, Failure> {
        Ok(Bare {
            group: BareGroup::of(&self.hub),
            crypto: B::crypto(),
        })
    }

    fn take(bare: &mut Bare<B>, commit: &[u8]) -> Result<(), Failure> {
        bare.group.take_with(&bare.crypto, commit);
        Ok(())
    }

    fn checkpoint(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.hub.checkpoint().to_vec())
    }

    fn restore(checkpoint: &[u8]) -> Result<Self, Failure> {
        Self::read(checkpoint)
    }
}
