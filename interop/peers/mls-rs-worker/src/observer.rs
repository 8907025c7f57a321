//! What follows a group by mls-rs without secrets.

use mls_rs::external_client::builder::{ExternalBaseConfig, WithCryptoProvider, WithIdentityProvider};
use mls_rs::external_client::{ExternalClient, ExternalGroup, ExternalReceivedMessage, ExternalSnapshot};
use mls_rs::identity::basic::BasicIdentityProvider;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use nabe_lab::stack::Observer;
use nabe_lab::worker::Failure;

use crate::member::read;

type Config = WithCryptoProvider<RustCryptoProvider, WithIdentityProvider<BasicIdentityProvider, ExternalBaseConfig>>;

/// One that stays where it is.
pub struct Following(ExternalGroup<Config>);

impl Following {
    pub fn of(group_info: &[u8]) -> Result<Self, Failure> {
        let following = read(group_info).and_then(|info| client().observe_group(info, None, None));
        following.map(Self).map_err(Failure::at("following a group"))
    }
}

fn client() -> ExternalClient<Config> {
    ExternalClient::builder()
        .identity_provider(BasicIdentityProvider::new())
        .crypto_provider(RustCryptoProvider::default())
        .build()
}

impl Observer for Following {
    type Bare = ExternalGroup<Config>;

    fn bare(&self) -> Result<ExternalGroup<Config>, Failure> {
        Ok(self.0.clone())
    }

    fn take(bare: &mut ExternalGroup<Config>, commit: &[u8]) -> Result<(), Failure> {
        let failed = "taking in a commit without secrets";
        let taken = read(commit).and_then(|commit| bare.process_incoming_message(commit));
        match taken.map_err(Failure::at(failed))? {
            ExternalReceivedMessage::Commit(_) => Ok(()),
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    fn checkpoint(&self) -> Result<Vec<u8>, Failure> {
        let bytes = self.0.snapshot().to_bytes();
        bytes.map_err(Failure::at("writing a snapshot"))
    }

    fn restore(checkpoint: &[u8]) -> Result<Self, Failure> {
        let read = ExternalSnapshot::from_bytes(checkpoint).and_then(|snapshot| client().load_group(snapshot));
        read.map(Self).map_err(Failure::at("reading a snapshot"))
    }
}
