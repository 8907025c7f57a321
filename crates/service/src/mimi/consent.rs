//! Consent (MIMI #consent, MIMI #convey-explicit-consent): who may fetch whose key packages. It goes from provider to provider, not
//! through a hub, and about it each is believed for its own users alone. Without a target's word nobody may.
//!
//! A local user's request or decision takes the same way as a peer's: it is kept here and, if the other user is somebody else's,
//! told to their provider.

use std::collections::BTreeMap;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_mls::mimi::OfferedKeyPackage;
use nabe_store::rules::MAX_GRANTED_KEY_PACKAGES;
use nabe_store::{ConsentDecision, ConsentScope, GrantedKeyPackage, KeptConsent, MimiUserWrite};
use nabe_types::ServerName;
use nabe_wire::codec::Kept;
use nabe_wire::consent::{ConsentAction, ConsentEntry, ConsentScope as WireScope};
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::KeyPackage;

use super::key_material::read_package;
use super::users::{MimiNews, bytes_of, is_of, provider_of, room_in, user_in};
use super::{Mimi, MimiError};
use crate::off_reactor::off_reactor;

impl Mimi {
    /// Somebody asks for consent, or does no longer.
    ///
    /// # Errors
    ///
    /// [`MimiError::Invalid`] for another operation, [`MimiError::NotTheirs`] unless the requester is the caller's and the target ours
    /// (of a peer), [`MimiError::Unknown`] for a user that is not there, if that may be told; and what the target's provider says.
    pub async fn request_consent(&self, from: &ServerName, entry: &ConsentEntry) -> Result<(), MimiError> {
        self.limit(from, Endpoint::RequestConsent)?;
        let scope = read(&entry.scope)?;
        if !is_of(&scope.requester, from) {
            return Err(not_theirs(from, "the requester"));
        }
        let is_local = from == self.domain();
        if !is_local && !self.is_ours(&scope.target) {
            return Err(not_theirs(from, "the target"));
        }
        let heard_from = (!is_local).then(|| from.clone());
        let now = self.service.now();
        let write = match entry.operation {
            ConsentAction::Request => MimiUserWrite::RequestConsent {
                scope: scope.clone(),
                from: heard_from,
                now,
            },
            ConsentAction::Cancel => MimiUserWrite::CancelConsent { scope: scope.clone() },
            _ => return Err(wrong_operation("should be request or cancel")),
        };
        if is_local && !self.is_user(&scope.requester).await? {
            return Err(MimiError::Unknown("user"));
        }
        if self.is_ours(&scope.target) {
            // What is done for a user that is not here is the same as for one that is.
            let is_user = self.is_user(&scope.target).await?;
            if !is_user && !self.state.settings.users.hide_users {
                return Err(MimiError::Unknown("user"));
            }
        }
        self.write(write).await?;
        self.tell_of_consent(&scope);
        match self.is_ours(&scope.target) {
            true => Ok(()),
            false => self.convey(Endpoint::RequestConsent, &scope.target, entry).await,
        }
    }

    /// A target grants consent, or revokes it. A local user's grant has no key packages of its own;
    /// [`Mimi::grant_with_key_packages`] adds some.
    ///
    /// # Errors
    ///
    /// [`MimiError::Invalid`] for another operation or a key package that is not good, [`MimiError::NotTheirs`] unless the target is
    /// the caller's and the requester ours (of a peer), [`MimiError::Unknown`] for a user that is not there, if that may be told; and
    /// what the requester's provider says.
    pub async fn update_consent(&self, from: &ServerName, entry: &ConsentEntry) -> Result<(), MimiError> {
        self.limit(from, Endpoint::UpdateConsent)?;
        let scope = read(&entry.scope)?;
        if !is_of(&scope.target, from) {
            return Err(not_theirs(from, "the target"));
        }
        if from == self.domain() {
            return self.decide(&scope, entry).await;
        }
        if !self.is_ours(&scope.requester) {
            return Err(not_theirs(from, "the requester"));
        }
        let (decision, packages) = match &entry.operation {
            ConsentAction::Grant { client_key_packages } => {
                let packages = self.look_at_granted(&scope.target, client_key_packages)?;
                (ConsentDecision::Granted, packages)
            }
            ConsentAction::Revoke => (ConsentDecision::Revoked, Vec::new()),
            _ => return Err(wrong_operation("should be grant or revoke")),
        };
        let is_user = self.is_user(&scope.requester).await?;
        if !is_user && !self.state.settings.users.hide_users {
            return Err(MimiError::Unknown("user"));
        }
        self.write(MimiUserWrite::DecideConsent {
            scope: scope.clone(),
            decision,
            key_packages: packages,
            from: Some(from.clone()),
            now: self.service.now(),
        })
        .await?;
        self.tell_of_consent(&scope);
        Ok(())
    }

    /// A local user grants consent by an entry without key packages, to which their provider adds one of each of their clients, for use
    /// at once. They count as handed out, also if the requester's provider does not take them.
    ///
    /// # Errors
    ///
    /// As for [`Mimi::update_consent`]; [`MimiError::Invalid`] for what is no grant, too.
    pub async fn grant_with_key_packages(&self, entry: &ConsentEntry) -> Result<(), MimiError> {
        self.limit(self.domain(), Endpoint::UpdateConsent)?;
        let scope = read(&entry.scope)?;
        if !self.is_ours(&scope.target) {
            return Err(not_theirs(self.domain(), "the target"));
        }
        if decision_of(entry)? != ConsentDecision::Granted {
            return Err(wrong_operation("should be grant"));
        }
        let claimed = self.key_packages_to_grant(&scope).await?;
        let packages = claimed.iter().filter_map(|claimed| read_package(&claimed.body));
        let entry = ConsentEntry {
            operation: ConsentAction::Grant {
                client_key_packages: packages.collect(),
            },
            ..entry.clone()
        };
        self.decide_and_convey(&scope, ConsentDecision::Granted, &entry).await
    }

    /// What is known about a local user's consents, be they requester or target, with numbers after `after`, ascending.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn consents_of(&self, user: &MimiUri, after: i64, limit: usize) -> Result<Vec<KeptConsent>, MimiError> {
        let consents = self
            .service
            .store()
            .consents_of(user, after, limit.min(MAX_LISTED))
            .await;
        Ok(consents?)
    }

    /// Takes one key package of each client of which some came with a grant for this room or, if none did, for any room: those that
    /// `fits` likes, or none at all if a client has no such one. What the target decided last must still be a grant.
    pub(super) async fn take_granted_key_packages(
        &self,
        scope: &ConsentScope,
        fits: impl Fn(&OfferedKeyPackage) -> bool,
    ) -> Result<Vec<GrantedKeyPackage>, MimiError> {
        let store = self.service.store();
        for room in [scope.room.clone(), None] {
            let scope = ConsentScope { room, ..scope.clone() };
            let granted = store.granted_key_packages(&scope, self.usable_at()).await?;
            let of_each = off_reactor(|| self.one_of_each(&scope.target, granted, &fits));
            let Some(of_each) = of_each.filter(|of_each| !of_each.is_empty()) else {
                continue;
            };
            let references: Vec<_> = of_each.iter().map(|package| package.reference.clone()).collect();
            // Somebody else may have been faster, and what is left then is for the next.
            if store.take_granted_key_packages(&references).await? {
                return Ok(of_each);
            }
        }
        Ok(Vec::new())
    }

    /// By client; `None` if one has none that will do.
    fn one_of_each(
        &self,
        target: &MimiUri,
        granted: Vec<GrantedKeyPackage>,
        fits: &impl Fn(&OfferedKeyPackage) -> bool,
    ) -> Option<Vec<GrantedKeyPackage>> {
        let mut chosen: BTreeMap<MimiUri, Option<GrantedKeyPackage>> = BTreeMap::new();
        for package in granted {
            let of_client = chosen.entry(package.client.clone()).or_default();
            let is_good = || {
                let read = read_package(&package.body)?;
                self.look_at_package(target, &read).ok().filter(fits)
            };
            if of_client.is_none() && is_good().is_some() {
                *of_client = Some(package);
            }
        }
        chosen.into_values().collect()
    }

    async fn decide(&self, scope: &ConsentScope, entry: &ConsentEntry) -> Result<(), MimiError> {
        let decision = decision_of(entry)?;
        self.decide_and_convey(scope, decision, entry).await
    }

    /// A local target has decided.
    async fn decide_and_convey(
        &self,
        scope: &ConsentScope,
        decision: ConsentDecision,
        entry: &ConsentEntry,
    ) -> Result<(), MimiError> {
        if !self.is_user(&scope.target).await? {
            return Err(MimiError::Unknown("user"));
        }
        let is_local = self.is_ours(&scope.requester);
        let key_packages = match &entry.operation {
            ConsentAction::Grant { client_key_packages } if is_local => {
                self.look_at_granted(&scope.target, client_key_packages)?
            }
            _ => Vec::new(),
        };
        self.write(MimiUserWrite::DecideConsent {
            scope: scope.clone(),
            decision,
            key_packages,
            from: None,
            now: self.service.now(),
        })
        .await?;
        self.tell_of_consent(scope);
        let is_secret = decision == ConsentDecision::Revoked && !self.state.settings.users.tell_revocations;
        match is_local || is_secret {
            true => Ok(()),
            false => self.convey(Endpoint::UpdateConsent, &scope.requester, entry).await,
        }
    }

    fn look_at_granted(
        &self,
        target: &MimiUri,
        packages: &[Kept<KeyPackage>],
    ) -> Result<Vec<GrantedKeyPackage>, MimiError> {
        let look_at = |package: &Kept<KeyPackage>| {
            let field = "clientKeyPackages";
            let offered = self.look_at_package(target, package);
            let offered = offered.map_err(|rule| MimiError::Invalid { field, rule })?;
            let rule = "a key package does not name its client";
            let client = offered.identity.client();
            let client = client.ok_or(MimiError::Invalid { field, rule })?;
            Ok(GrantedKeyPackage {
                reference: offered.reference,
                client: client.clone(),
                body: Bytes::copy_from_slice(package.as_bytes()),
                not_after: offered.expires,
            })
        };
        // Each costs two signatures to check, and no more would be kept.
        if packages.len() > MAX_GRANTED_KEY_PACKAGES {
            let (field, rule) = ("clientKeyPackages", "should be one of each client");
            return Err(MimiError::Invalid { field, rule });
        }
        off_reactor(|| packages.iter().map(look_at).collect())
    }

    /// Tells the other user's provider.
    async fn convey(&self, endpoint: Endpoint, user: &MimiUri, entry: &ConsentEntry) -> Result<(), MimiError> {
        let provider = provider_of(user, endpoint.variable())?;
        let answer = self.ask(&provider, endpoint, user, bytes_of(entry), MAX_ANSWER).await?;
        match answer.status {
            200..=299 => Ok(()),
            404 => Err(MimiError::Unknown("user")),
            _ => Err(MimiError::BadAnswer {
                provider,
                what: "its status is neither 201 nor 404",
            }),
        }
    }

    fn tell_of_consent(&self, scope: &ConsentScope) {
        for user in [&scope.requester, &scope.target] {
            if self.is_ours(user) {
                let user = user.clone();
                self.tell(MimiNews::Consent { user });
            }
        }
    }
}

fn read(scope: &WireScope) -> Result<ConsentScope, MimiError> {
    let room = scope.room_id.as_ref();
    Ok(ConsentScope {
        requester: user_in("requesterUri", &scope.requester_uri)?,
        target: user_in("targetUri", &scope.target_uri)?,
        room: room.map(|room| room_in("roomId", room)).transpose()?,
    })
}

/// What a local user decides, whose provider alone knows which key packages are still to be had.
fn decision_of(entry: &ConsentEntry) -> Result<ConsentDecision, MimiError> {
    match &entry.operation {
        ConsentAction::Grant { client_key_packages } if client_key_packages.is_empty() => Ok(ConsentDecision::Granted),
        ConsentAction::Grant { .. } => {
            let (field, rule) = ("clientKeyPackages", "should be left to the provider");
            Err(MimiError::Invalid { field, rule })
        }
        ConsentAction::Revoke => Ok(ConsentDecision::Revoked),
        _ => Err(wrong_operation("should be grant or revoke")),
    }
}

const fn wrong_operation(rule: &'static str) -> MimiError {
    let field = "consentOperation";
    MimiError::Invalid { field, rule }
}

fn not_theirs(provider: &ServerName, what: &'static str) -> MimiError {
    MimiError::NotTheirs {
        provider: provider.clone(),
        what,
    }
}

/// The most consents that are listed at once.
const MAX_LISTED: usize = 1000;

/// Bytes of an answer whose body says nothing.
const MAX_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
