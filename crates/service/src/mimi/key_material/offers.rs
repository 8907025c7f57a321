//! What clients of our users upload to be handed out (MIMI #fetch-key-material).

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_mls::mimi::{OfferRefused, OfferedKeyPackage};
use nabe_store::rules::MAX_KEY_PACKAGES;
use nabe_store::{KeyPackageKept, MimiKeyPackage, MimiKeyPackageOffer};
use nabe_types::UnixMillis;
use nabe_wire::Encode as _;
use nabe_wire::uri::MimiKind;

use crate::mimi::{Mimi, MimiError};

/// Why a client's key package is not taken in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OfferNotKept {
    /// It is no good.
    #[error(transparent)]
    Refused(#[from] OfferRefused),
    /// It is of a suite that is not enabled here.
    #[error("the cipher suite is not enabled here")]
    Suite,
    /// Its credential names another user or client.
    #[error("the key package's credential names another client")]
    OtherClient,
    /// It is here already.
    #[error("the key package is here already")]
    Known,
    /// It was handed out.
    #[error("the key package has been used already")]
    Spent,
    /// The client has as many as are kept.
    #[error("the client has {MAX_KEY_PACKAGES} key packages already")]
    Full,
}

impl Mimi {
    /// Takes in key packages of a local user's client, each for itself. The answers are in their order: its KeyPackageRef, or why not.
    /// That the caller is this client is for the caller to know.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for a user that is not here, [`MimiError::Invalid`] for a client that is not the user's, or for more
    /// packages than a client can have.
    pub async fn upload_key_packages(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        packages: Vec<Bytes>,
    ) -> Result<Vec<Result<Bytes, OfferNotKept>>, MimiError> {
        let owner = client.name().split_once('/').map(|(owner, _)| owner);
        if client.kind() != MimiKind::Client || client.host() != user.host() || owner != Some(user.name()) {
            let (field, rule) = ("client", "should be a client of the user");
            return Err(MimiError::Invalid { field, rule });
        }
        if packages.len() > MAX_KEY_PACKAGES {
            let (field, rule) = ("key packages", "should be no more than a client can have");
            return Err(MimiError::Invalid { field, rule });
        }
        if !self.is_user(user).await? {
            return Err(MimiError::Unknown("user"));
        }
        let now = self.service.now();
        let mut checked = Vec::with_capacity(packages.len());
        for package in packages {
            checked.push(self.check_offer(user, client, package, now));
            // Signatures are checked here, up to two hundred times two: others get their turn in between.
            tokio::task::yield_now().await;
        }
        let good: Vec<_> = checked.iter().filter_map(|checked| checked.clone().ok()).collect();
        let kept = self
            .service
            .store()
            .add_mimi_key_packages(user, client, &good, now)
            .await;
        let mut kept = kept?.into_iter();
        let answer = |checked: Result<MimiKeyPackage, OfferNotKept>| {
            let package = checked?;
            match kept.next() {
                Some(KeyPackageKept::Kept) => Ok(package.reference),
                Some(KeyPackageKept::Known) => Err(OfferNotKept::Known),
                Some(KeyPackageKept::Spent) => Err(OfferNotKept::Spent),
                Some(KeyPackageKept::Full | KeyPackageKept::NoDevice) | None => Err(OfferNotKept::Full),
            }
        };
        Ok(checked.into_iter().map(answer).collect())
    }

    /// What a local user's clients have on offer.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn key_packages_on_offer(&self, user: &MimiUri) -> Result<Vec<MimiKeyPackageOffer>, MimiError> {
        let offers = self
            .service
            .store()
            .mimi_key_package_offers(user, self.usable_at())
            .await;
        Ok(offers?)
    }

    fn check_offer(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        body: Bytes,
        now: UnixMillis,
    ) -> Result<MimiKeyPackage, OfferNotKept> {
        let offered = OfferedKeyPackage::check(&body, now)?;
        if !self.service.settings().suites.contains(offered.suite) {
            return Err(OfferNotKept::Suite);
        }
        let named = offered.identity.client();
        if offered.identity.user() != user || named.is_some_and(|named| named != client) {
            return Err(OfferNotKept::OtherClient);
        }
        Ok(MimiKeyPackage {
            reference: offered.reference,
            suite: offered.suite.id(),
            capabilities: offered.capabilities.to_bytes().into(),
            body,
            not_after: offered.expires,
            last_resort: offered.last_resort,
        })
    }
}
