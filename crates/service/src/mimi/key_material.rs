//! Key packages (MIMI #fetch-key-material): taken in from clients of our users (`offers`), handed out once each to whoever has consent,
//! and fetched from other providers. Whoever wants them asks through the hub of the room that they are for, so that the hub knows where
//! the Welcome goes.
//!
//! ```text
//! client ── its provider ── hub ── the target's provider
//!           passes it on    notes whose they are, before it answers
//! ```

mod offers;
mod passing_on;

use std::collections::BTreeSet;

use bytes::Bytes;
use nabe_core::mimi::{KeyPackageRoute, MimiUri};
use nabe_mls::mimi::{OfferedKeyPackage, check_key_material_request, meets};
use nabe_store::{
    ClaimedMimiKeyPackage, ConsentDecision, ConsentScope, ConsentState, FetchedKeyPackage, KeyPackageUse,
    MimiKeyPackageClaim, MimiKeyPackageOffer, MimiWrite, Write,
};
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::Message as _;
use nabe_wire::codec::{Decode as _, Kept, Reader};
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::{
    ClientKeyMaterial, ClientMaterial, KeyMaterialQuery, KeyMaterialRequest, KeyMaterialResponse, KeyMaterialUserCode,
};
use nabe_wire::mls::{Capabilities, ExternalSender, KeyPackage};
use nabe_wire::uri::MimiKind;

use super::users::{Presence, bytes_of, identifier, is_of, provider_of, room_in, user_in, user_of};
use super::{Mimi, MimiError};
use crate::metric;
use crate::off_reactor::off_reactor;

pub use offers::OfferNotKept;
pub(crate) use passing_on::PassingOn;

/// A request that was read and whose signature holds.
struct Asked {
    requester: MimiUri,
    target: MimiUri,
    /// `None` if it is for no room.
    room: Option<MimiUri>,
    /// The room's hub; without a room the requester's provider.
    hub: ServerName,
    query: KeyMaterialQuery,
}

impl Asked {
    fn scope(&self) -> ConsentScope {
        ConsentScope {
            requester: self.requester.clone(),
            target: self.target.clone(),
            room: self.room.clone(),
        }
    }

    /// Whether a key package is what was asked for.
    fn will_do(&self, offered: &OfferedKeyPackage) -> Result<(), &'static str> {
        let suites = &self.query.acceptable_ciphersuites;
        if !suites.iter().any(|suite| suite.0 == offered.suite.id()) {
            return Err("a key package is of a suite that was not asked for");
        }
        match meets(&offered.capabilities, &self.query.required_capabilities) {
            true => Ok(()),
            false => Err("a key package lacks what is required"),
        }
    }
}

/// A key package of another provider that was looked at.
struct Fetched {
    offered: OfferedKeyPackage,
    client: MimiUri,
}

impl Mimi {
    /// Key packages of a user, asked for by a client of `from`'s, or by a hub for somebody else's. `target` is the user in the path.
    ///
    /// # Errors
    ///
    /// [`MimiError::Invalid`] for a bad signature, a credential of another user or another target, [`MimiError::NotTheirs`] if `from`
    /// neither is the hub nor speaks for the requester, [`MimiError::Forbidden`] if the room's hub has no such room, or the requester could
    /// not add the target to it, [`MimiError::Unknown`] if all this is none of our business,
    /// [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] when the request had to be passed on.
    pub async fn key_material(
        &self,
        from: &ServerName,
        target: &MimiUri,
        request: KeyMaterialRequest,
    ) -> Result<KeyMaterialResponse, MimiError> {
        self.limit(from, Endpoint::KeyMaterial)?;
        if user_in("targetUser", &request.target_user)? != *target {
            let (field, rule) = ("targetUser", "should be the user in the path");
            return Err(MimiError::Invalid { field, rule });
        }
        if request.body.mls10().is_none() {
            return Ok(KeyMaterialResponse {
                protocol: request.body.protocol(),
                user_status: KeyMaterialUserCode::INCOMPATIBLE_PROTOCOL,
                user_uri: identifier(target),
                clients: Vec::new(),
            });
        }
        let body = bytes_of(&request);
        let asked = read(target.clone(), request)?;
        let hub = asked.hub.clone();
        let of_requester = is_of(&asked.requester, from);
        if hub == *self.domain() && of_requester {
            self.may_fetch(&asked).await?;
        }
        if hub == *self.domain()
            && from == self.domain()
            && of_requester
            && let Some(response) = self.hand_on_granted(&asked).await?
        {
            return Ok(response);
        }
        match (hub == *self.domain(), self.is_ours(target)) {
            // We are the hub, or it is for no room and the requester is ours or asks directly.
            (true, _) if !of_requester => Err(not_theirs(from, "the requester")),
            (true, true) => {
                let response = self.hand_out(&asked).await?;
                self.note(self.domain(), &asked, &response).await?;
                Ok(response)
            }
            (true, false) => {
                let provider = provider_of(target, "targetUser")?;
                let response = self.fetch(&provider, target, body).await?;
                let response = response.ok_or_else(|| bad_answer(&provider, "its status is 403"))?;
                let fetched = self
                    .look_at(&asked, &response)
                    .map_err(|what| bad_answer(&provider, what))?;
                self.are_new(&provider, &fetched).await?;
                self.note_fetched(&provider, &asked, fetched).await?;
                Ok(response)
            }
            // One of ours asks another hub.
            (false, _) if from == self.domain() && of_requester => {
                let _passing = self.state.passing_on.begin(&body);
                let response = self.fetch(&hub, target, body).await;
                let response = response?.ok_or(MimiError::Forbidden(NOT_FOR_THEM))?;
                self.look_at(&asked, &response).map_err(|what| bad_answer(&hub, what))?;
                Ok(response)
            }
            (false, _) if hub != *from => Err(not_theirs(from, "the room")),
            // That another hub asks for one of ours is true of what we have just passed on to it, and of nothing else.
            (false, true) if self.is_ours(&asked.requester) && !self.state.passing_on.take(&body) => {
                self.hand_out_to(&asked, false).await
            }
            (false, true) => self.hand_out(&asked).await,
            (false, false) => Err(MimiError::Unknown("user")),
        }
    }

    /// What came with a grant to one of ours, instead of what would be handed out: for a room of ours, since another hub could not tell
    /// where the Welcome goes (MIMI #convey-explicit-consent). `None` if there is nothing, or nothing that will do.
    async fn hand_on_granted(&self, asked: &Asked) -> Result<Option<KeyMaterialResponse>, MimiError> {
        if asked.room.is_none() {
            return Ok(None);
        }
        let scope = asked.scope();
        let state = self.service.store().consent(&scope).await?;
        if refusal(&scope, state).is_some() {
            return Ok(None);
        }
        let fits = |offered: &OfferedKeyPackage| asked.will_do(offered).is_ok();
        let taken = self.take_granted_key_packages(&scope, fits).await?;
        let clients = taken.iter().filter_map(|taken| {
            let package = read_package(&taken.body)?;
            Some(ClientKeyMaterial {
                client_uri: identifier(&taken.client),
                material: ClientMaterial::KeyPackage(Box::new(package)),
            })
        });
        let clients: Vec<_> = clients.collect();
        if clients.is_empty() {
            return Ok(None);
        }
        let response = KeyMaterialResponse {
            clients,
            ..KeyMaterialResponse::refused(KeyMaterialUserCode::SUCCESS, identifier(&asked.target))
        };
        let provider = provider_of(&asked.target, "targetUser")?;
        self.note(&provider, asked, &response).await?;
        Ok(Some(response))
    }

    /// Claims of each client of a local user one key package of any kind, for a grant. They are for rooms at the requester's provider: the hub
    /// of another room could not tell where the Welcome goes, so a grant for such a room uses none up (D-consent-key-packages).
    pub(super) async fn key_packages_to_grant(
        &self,
        scope: &ConsentScope,
    ) -> Result<Vec<ClaimedMimiKeyPackage>, MimiError> {
        let hub = provider_of(&scope.requester, "requesterUri")?;
        if scope.room.as_ref().is_some_and(|room| !is_of(room, &hub)) {
            return Ok(Vec::new());
        }
        let for_use = KeyPackageUse {
            hub,
            room: scope.room.clone(),
        };
        let offers = self.key_packages_on_offer(&scope.target).await?;
        let clients: BTreeSet<&MimiUri> = offers.iter().map(|offer| &offer.client).collect();
        let claims = clients.into_iter().map(|client| {
            let of_client = offers.iter().filter(|offer| offer.client == *client);
            let kinds = of_client
                .map(|offer| (offer.suite, offer.capabilities.clone()))
                .collect();
            // A grant is for use at some time, for which a last-resort package is too good.
            MimiKeyPackageClaim {
                client: client.clone(),
                kinds,
                last_resort: false,
                for_use: for_use.clone(),
            }
        });
        Ok(self.claim(claims.collect()).await?.into_iter().flatten().collect())
    }

    async fn claim(&self, claims: Vec<MimiKeyPackageClaim>) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, MimiError> {
        let claimed = self
            .service
            .store()
            .claim_mimi_key_packages(&claims, self.usable_at())
            .await;
        Ok(claimed?)
    }

    /// The target's side. What happens up to a refusal is the same whether there is such a user or not, if users are hidden.
    async fn hand_out(&self, asked: &Asked) -> Result<KeyMaterialResponse, MimiError> {
        self.hand_out_to(asked, true).await
    }

    /// The same. Whoever only pretends to be the requester hears what somebody without consent hears.
    async fn hand_out_to(&self, asked: &Asked, is_requester: bool) -> Result<KeyMaterialResponse, MimiError> {
        let user_uri = identifier(&asked.target);
        let presence = self.presence(&asked.target).await?;
        let scope = asked.scope();
        let state = self.service.store().consent(&scope).await?;
        let refusal = match (presence, self.state.settings.users.hide_users) {
            (Presence::Unknown | Presence::Deleted, true) => Some(KeyMaterialUserCode::NO_CONSENT),
            (Presence::Unknown, false) => Some(KeyMaterialUserCode::USER_UNKNOWN),
            (Presence::Deleted, false) => Some(KeyMaterialUserCode::USER_DELETED),
            (Presence::User, _) if !is_requester => Some(KeyMaterialUserCode::NO_CONSENT),
            (Presence::User, _) => refusal(&scope, state),
        };
        if let Some(status) = refusal {
            return Ok(KeyMaterialResponse::refused(status, user_uri));
        }
        let store = self.service.store();
        let clients = store.mimi_clients(&asked.target).await?;
        let offers = self.key_packages_on_offer(&asked.target).await?;
        let choices: Vec<Choice> = clients
            .into_iter()
            .map(|client| choose(client, &offers, &asked.query))
            .collect();
        let last_resort = self.state.settings.users.last_resort;
        let claims = choices.iter().filter(|choice| !choice.kinds.is_empty());
        let claims = claims.map(|choice| MimiKeyPackageClaim {
            client: choice.client.clone(),
            kinds: choice.kinds.clone(),
            last_resort,
            for_use: KeyPackageUse {
                hub: asked.hub.clone(),
                room: asked.room.clone(),
            },
        });
        let mut claimed = self.claim(claims.collect()).await?.into_iter();
        let material = |choice: Choice| {
            let material = match (choice.kinds.is_empty(), choice.has_any) {
                (true, true) => ClientMaterial::NothingCompatible(None),
                (true, false) => ClientMaterial::Exhausted,
                (false, _) => claimed
                    .next()
                    .flatten()
                    .and_then(|claimed| read_package(&claimed.body))
                    .map_or(ClientMaterial::Exhausted, |package| {
                        ClientMaterial::KeyPackage(Box::new(package))
                    }),
            };
            ClientKeyMaterial {
                client_uri: identifier(&choice.client),
                material,
            }
        };
        let clients: Vec<_> = choices.into_iter().map(material).collect();
        let has_one = |client: &ClientKeyMaterial| matches!(client.material, ClientMaterial::KeyPackage(_));
        let user_status = match clients.iter().filter(|client| has_one(client)).count() {
            0 => KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL,
            count if count == clients.len() => KeyMaterialUserCode::SUCCESS,
            _ => KeyMaterialUserCode::PARTIAL_SUCCESS,
        };
        Ok(KeyMaterialResponse {
            user_status,
            clients,
            ..KeyMaterialResponse::refused(user_status, user_uri)
        })
    }

    /// The hub's side: whether the requester could add the target to the room, if it is for one (MIMI #bob-adds-cathy-to-the-room). To anybody else
    /// there is no telling a room that is there from one that is not (D-unknown-room).
    async fn may_fetch(&self, asked: &Asked) -> Result<(), MimiError> {
        let Some(room) = &asked.room else {
            return Ok(());
        };
        let asking = ExternalSender {
            signature_key: asked.query.requester_signature_key.clone(),
            credential: asked.query.requester_credential.clone(),
        };
        let Some(open) = self.open(room).await? else {
            return Err(MimiError::Forbidden(NOT_FOR_THEM));
        };
        let decided = open.room().fetch_key_packages(&asked.requester, &asked.target, &asking);
        decided.map_err(|refusal| {
            tracing::info!(%room, requester = %asked.requester, %refusal, "refused a request for key packages");
            metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "keyMaterial").increment(1);
            MimiError::Forbidden(NOT_FOR_THEM)
        })
    }

    /// Passes a request on; `None` if whom we ask does not let the requester.
    async fn fetch(
        &self,
        to: &ServerName,
        target: &MimiUri,
        body: Bytes,
    ) -> Result<Option<KeyMaterialResponse>, MimiError> {
        let max_len = KeyMaterialResponse::MAX_LEN;
        let answer = self.ask(to, Endpoint::KeyMaterial, target, body, max_len).await?;
        match answer.status {
            200 => match KeyMaterialResponse::from_bytes(&answer.body) {
                Ok(response) => Ok(Some(response)),
                Err(_) => Err(bad_answer(to, "not a KeyMaterialResponse")),
            },
            403 => Ok(None),
            429 | 503 => Err(MimiError::LimitExceeded {
                retry_after: answer.retry_after.unwrap_or(WAIT),
            }),
            _ => Err(bad_answer(to, "its status is not 200")),
        }
    }

    /// The hub's side: looks at what was handed out and notes where the Welcome goes, before anybody has it.
    async fn note(
        &self,
        provider: &ServerName,
        asked: &Asked,
        response: &KeyMaterialResponse,
    ) -> Result<(), MimiError> {
        let fetched = self
            .look_at(asked, response)
            .map_err(|what| bad_answer(provider, what))?;
        self.note_fetched(provider, asked, fetched).await
    }

    async fn note_fetched(&self, provider: &ServerName, asked: &Asked, fetched: Vec<Fetched>) -> Result<(), MimiError> {
        // What is asked for without saying for which room is not for adding somebody to one.
        if asked.room.is_none() || fetched.is_empty() {
            return Ok(());
        }
        let packages = fetched.into_iter().map(|fetched| FetchedKeyPackage {
            reference: fetched.offered.reference,
            route: KeyPackageRoute {
                provider: provider.clone(),
                user: asked.target.clone(),
                client: fetched.client,
            },
            room: asked.room.clone(),
            expires_at: fetched.offered.expires,
            until_expiry: fetched.offered.last_resort,
        });
        let packages = packages.collect();
        let write = Write::Mimi(MimiWrite::PutKeyPackages { packages });
        Ok(self.service.commit(write.into()).await?)
    }

    /// Whether another provider hands out nothing that it has handed out before (MIMI #fetch-key-material), but what may be used more than
    /// once.
    async fn are_new(&self, provider: &ServerName, fetched: &[Fetched]) -> Result<(), MimiError> {
        let single_use = fetched.iter().filter(|fetched| !fetched.offered.last_resort);
        let references: Vec<Bytes> = single_use.map(|fetched| fetched.offered.reference.clone()).collect();
        if references.is_empty() {
            return Ok(());
        }
        let known = self.service.store().fetched_key_packages(&references, None).await?;
        match known.is_empty() {
            true => Ok(()),
            false => Err(bad_answer(provider, "a key package was handed out before")),
        }
    }

    /// Whether another provider's answer is one to this request, and its key packages are good.
    fn look_at(&self, asked: &Asked, response: &KeyMaterialResponse) -> Result<Vec<Fetched>, &'static str> {
        if *response.user_uri != *asked.target.to_string() {
            return Err("it is about another user");
        }
        // Each costs two signatures to check.
        if response.clients.len() > MAX_CLIENTS {
            return Err("it lists too many clients");
        }
        let has_one = |client: &&ClientKeyMaterial| matches!(client.material, ClientMaterial::KeyPackage(_));
        let with_one = response.clients.iter().filter(has_one).count();
        let agrees = match response.user_status {
            KeyMaterialUserCode::SUCCESS => with_one > 0 && with_one == response.clients.len(),
            KeyMaterialUserCode::PARTIAL_SUCCESS => with_one > 0,
            _ => with_one == 0,
        };
        if !agrees {
            return Err("its status is not what became of the clients");
        }
        off_reactor(|| self.look_at_clients(asked, response))
    }

    fn look_at_clients(&self, asked: &Asked, response: &KeyMaterialResponse) -> Result<Vec<Fetched>, &'static str> {
        let (mut fetched, mut seen) = (Vec::new(), BTreeSet::new());
        for client in &response.clients {
            let ClientMaterial::KeyPackage(package) = &client.material else {
                continue;
            };
            let uri = MimiUri::parse(&client.client_uri).ok();
            let uri = uri.filter(|uri| uri.kind() == MimiKind::Client && uri.host() == asked.target.host());
            let uri = uri.ok_or("a client is none of the provider's")?;
            let offered = self.look_at_package(&asked.target, package)?;
            asked.will_do(&offered)?;
            if offered.identity.client().is_some_and(|named| *named != uri) {
                return Err("a key package is another client's");
            }
            if !seen.insert(offered.reference.clone()) {
                return Err("a key package is there twice");
            }
            fetched.push(Fetched { offered, client: uri });
        }
        Ok(fetched)
    }

    /// Whether a key package of another provider is good, and this user's.
    pub(super) fn look_at_package(
        &self,
        target: &MimiUri,
        package: &Kept<KeyPackage>,
    ) -> Result<OfferedKeyPackage, &'static str> {
        let offered = OfferedKeyPackage::check(package.as_bytes(), self.service.now());
        let offered = offered.map_err(|_| "a key package is no good")?;
        match offered.identity.user() == target {
            true => Ok(offered),
            false => Err("a key package is another user's"),
        }
    }

    /// What expires by then is not worth handing out.
    pub(super) fn usable_at(&self) -> UnixMillis {
        self.service.now().plus(LEAST_USE)
    }
}

/// What a client has for a request.
struct Choice {
    client: MimiUri,
    /// Whether it has anything at all.
    has_any: bool,
    /// What fits, the requester's favorite suite first.
    kinds: Vec<(u16, Bytes)>,
}

fn choose(client: MimiUri, offers: &[MimiKeyPackageOffer], query: &KeyMaterialQuery) -> Choice {
    let of_client: Vec<_> = offers.iter().filter(|offer| offer.client == client).collect();
    let fits = |offer: &MimiKeyPackageOffer| {
        let mut reader = Reader::new(&offer.capabilities);
        let capabilities = Capabilities::decode(&mut reader);
        capabilities.is_ok_and(|capabilities| meets(&capabilities, &query.required_capabilities))
    };
    let kinds = query.acceptable_ciphersuites.iter().flat_map(|suite| {
        let of_suite = of_client.iter().filter(|offer| offer.suite == suite.0 && fits(offer));
        of_suite.map(|offer| (offer.suite, offer.capabilities.clone()))
    });
    Choice {
        has_any: !of_client.is_empty(),
        kinds: kinds.collect(),
        client,
    }
}

/// Checks who asks for what.
fn read(target: MimiUri, request: KeyMaterialRequest) -> Result<Asked, MimiError> {
    let requester = user_in("requestingUser", &request.requesting_user)?;
    let room = match request.room_id.is_empty() {
        true => None,
        false => Some(room_in("roomId", &request.room_id)?),
    };
    let verified = check_key_material_request(request).map_err(|_| MimiError::Invalid {
        field: "key_material_request_signature",
        rule: "should be by the requester's key",
    })?;
    let query = verified.into_inner().tbs.query;
    let named = user_of(&query.requester_credential, &query.requester_signature_key);
    if named.as_ref() != Some(&requester) {
        let (field, rule) = ("requesterCredential", "should be the requesting user's");
        return Err(MimiError::Invalid { field, rule });
    }
    let hub = match &room {
        Some(room) => provider_of(room, "roomId")?,
        None => provider_of(&requester, "requestingUser")?,
    };
    Ok(Asked {
        requester,
        target,
        room,
        hub,
        query,
    })
}

/// What the target's decisions make of a request, by MIMI #consent: what was said of the very room counts before what was said of any,
/// and without a word nobody may. Whoever asks for their own clients needs no consent.
fn refusal(scope: &ConsentScope, state: ConsentState) -> Option<KeyMaterialUserCode> {
    if scope.requester == scope.target {
        return None;
    }
    match state.for_room.or(state.for_any) {
        Some(ConsentDecision::Granted) => None,
        None if state.elsewhere => Some(KeyMaterialUserCode::NO_CONSENT_FOR_THIS_ROOM),
        Some(ConsentDecision::Revoked) | None => Some(KeyMaterialUserCode::NO_CONSENT),
    }
}

/// A key package as it was stored.
pub(super) fn read_package(body: &[u8]) -> Option<Kept<KeyPackage>> {
    Kept::decode(&mut Reader::new(body)).ok()
}

fn not_theirs(provider: &ServerName, what: &'static str) -> MimiError {
    MimiError::NotTheirs {
        provider: provider.clone(),
        what,
    }
}

fn bad_answer(provider: &ServerName, what: &'static str) -> MimiError {
    MimiError::BadAnswer {
        provider: provider.clone(),
        what,
    }
}

/// What whoever could not add anybody hears.
const NOT_FOR_THEM: &str = "the requester may not fetch these key packages for this room";

/// Clients of one user in another provider's answer.
const MAX_CLIENTS: usize = 200;

/// How long a key package should at least be good for when it is handed out.
const LEAST_USE: std::time::Duration = std::time::Duration::from_mins(10);

/// How long to wait for another provider that is busy and does not say how long.
const WAIT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests;
