//! `POST /update/{roomId}` at the hub: proposals and commits (MIMI #update-room-state). Followers forward what their clients send as it
//! is, so a request is known by its bytes: a lost answer is had again by the same request again, and the work is done once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_auth::mimi::{JoinCode, MAX_PENDING_OF_ONE, user_of};
use nabe_core::mimi::{KeyPackageRoute, MimiRoom, MimiUri, UpdateRefusal};
use nabe_mls::mimi::key_package_ref;
use nabe_store::{FetchedKeyPackage, MimiWrite, ShownJoinCode, StoredReply, Write};
use nabe_types::ServerName;
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::{FramedContentBody, KeyPackage, MlsMessage, MlsMessageBody, Proposal, Sender};
use nabe_wire::update::{HandshakeParts, UpdateRequest, UpdateRoomResponse};
use nabe_wire::{Encode as _, Kept};

use super::inbox::{HASH_LENGTHS, MAX_WELCOMED};
use super::rooms::ATTEMPTS;
use super::{Mimi, MimiError, NO_SUCH_ROOM, join_links, kept_answer};
use crate::error::ServiceError;
use crate::idempotency::Transaction;
use crate::metric;
use crate::off_reactor::off_reactor;

impl Mimi {
    /// Takes proposals or a commit for a room whose hub we are, from the provider of whoever made them; `body` is the request as it
    /// came. Of two commits for one epoch one is a success. What was accepted once has the same answer again, byte for byte.
    ///
    /// # Errors
    ///
    /// [`MimiError::LimitExceeded`] of a provider that asks too often, and those of our own: a refusal is an answer.
    pub async fn update(
        &self,
        from: &ServerName,
        room: &MimiUri,
        body: &Bytes,
        request: UpdateRequest,
    ) -> Result<UpdateRoomResponse, MimiError> {
        self.limit(from, Endpoint::Update)?;
        let transaction = Transaction::of_bytes(from, "mimi/update", room, body);
        let (mimi, from, uri) = (self.clone(), from.clone(), room.clone());
        let work = move |_, transaction: Transaction| async move {
            mimi.take_update(&from, &uri, &request, &transaction).await
        };
        let reply = self.service.once(transaction, false, work).await?;
        kept_answer(&reply)
    }

    async fn take_update(
        &self,
        from: &ServerName,
        uri: &MimiUri,
        request: &UpdateRequest,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let shown = self.join_code_before(uri, request).await?;
        for _ in 0..ATTEMPTS {
            let Some(open) = self.open(uri).await? else {
                let answer = UpdateRoomResponse::not_allowed(NO_SUCH_ROOM);
                return Ok(transaction.answer(answer.to_bytes().into()));
            };
            // Looked up while nobody else can forget them, and for nobody who is refused anyway.
            let found = match open.room().may_come_from(from, &request.proposal_or_commit) {
                true => self.fetched_packages_of(uri, request).await?,
                false => Vec::new(),
            };
            let routes = routes(&found);
            let code = match &shown {
                Some(shown) => self.remembered(open.room(), shown).await?,
                None => JoinCode::Absent,
            };
            let decided = off_reactor(|| open.room().update(from, request, &routes, code, &open.ctx(self)));
            let outcome = match decided {
                Ok(outcome) => outcome,
                Err(refusal @ UpdateRefusal::Signing(_)) => {
                    tracing::error!(room = %uri, %refusal, "cannot answer an update");
                    return Err(ServiceError::HubKeyUnfit);
                }
                Err(refusal) => {
                    tracing::info!(room = %uri, provider = %from, %refusal, "refused an update");
                    metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "update").increment(1);
                    let answer = refusal.response(open.room().group().epoch());
                    let answer = answer.expect("there is a verdict on all but our own faults");
                    return Ok(transaction.answer(answer.to_bytes().into()));
                }
            };
            let answer = UpdateRoomResponse::success(outcome.accepted.as_u64());
            let (reply, keep) = transaction.keep(answer.to_bytes().into(), &self.service);
            let extra = std::iter::once(keep)
                .chain(to_remember(uri, found, &outcome.to_add))
                .chain(join_links::used(open.room(), shown.clone(), code))
                .collect();
            match open.commit(self, outcome, extra).await {
                Ok(()) => return Ok(reply),
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_fixed_members_taken() => {
                    tracing::info!(room = %uri, provider = %from, %error, "refused an update");
                    let answer = UpdateRoomResponse::not_allowed(SAME_MEMBERS);
                    return Ok(transaction.answer(answer.to_bytes().into()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// Whose the key packages are that a commit's Welcome or proposals name, as far as they were fetched through us for this
    /// room.
    async fn fetched_packages_of(
        &self,
        room: &MimiUri,
        request: &UpdateRequest,
    ) -> Result<Vec<FetchedKeyPackage>, ServiceError> {
        let references = references_in(request);
        match references.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(self
                .service
                .store()
                .fetched_key_packages(&references, Some(room))
                .await?),
        }
    }

    /// The join code that whoever joins by this commit showed when they asked for the GroupInfo (MIMI #claim-group-key-information).
    async fn join_code_before(
        &self,
        room: &MimiUri,
        request: &UpdateRequest,
    ) -> Result<Option<ShownJoinCode>, ServiceError> {
        let MlsMessageBody::Public(message) = &request.proposal_or_commit.body else {
            return Ok(None);
        };
        let (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) =
            (&message.content.sender, &message.content.body)
        else {
            return Ok(None);
        };
        let Some(leaf) = commit.path.as_ref().map(|path| &path.leaf_node) else {
            return Ok(None);
        };
        let user = user_of(&leaf.credential).and_then(|user| MimiUri::parse(user.as_str()).ok());
        let Some(user) = user else {
            return Ok(None);
        };
        let (store, now) = (self.service.store(), self.service.now());
        Ok(store.shown_join_code(room, &user, &leaf.signature_key, now).await?)
    }

    /// What a code is worth that was one of the room's when it was shown.
    async fn remembered(&self, room: &MimiRoom, shown: &ShownJoinCode) -> Result<JoinCode, ServiceError> {
        Ok(match self.join_code(room, &shown.user, &shown.code).await? {
            JoinCode::Unknown => JoinCode::Expired,
            code => code,
        })
    }
}

/// The key packages that somebody is added by. Of more than are looked for, or of what is no reference, the room hears that they were
/// not fetched through us.
fn references_in(request: &UpdateRequest) -> Vec<Bytes> {
    let references: BTreeSet<Bytes> = match &request.with {
        HandshakeParts::Commit(parts) => {
            let secrets = parts.welcome.iter().flat_map(|welcome| &welcome.secrets);
            let references = secrets.map(|secrets| &*secrets.new_member);
            let references = references.filter(|reference| HASH_LENGTHS.contains(&reference.len()));
            references.take(MAX_WELCOMED).map(Bytes::copy_from_slice).collect()
        }
        HandshakeParts::Proposal { more_proposals } => {
            let messages = std::iter::once(&request.proposal_or_commit).chain(more_proposals);
            // The room takes no more at once.
            let messages = messages.take(MAX_PENDING_OF_ONE);
            messages
                .filter_map(|message| key_package_ref(added_by(message)?))
                .collect()
        }
    };
    references.into_iter().collect()
}

fn added_by(message: &MlsMessage) -> Option<&Kept<KeyPackage>> {
    let MlsMessageBody::Public(message) = &message.body else {
        return None;
    };
    match &message.content.body {
        FramedContentBody::Proposal(proposal) => match &***proposal {
            Proposal::Add(package) => Some(package),
            _ => None,
        },
        _ => None,
    }
}

fn routes(found: &[FetchedKeyPackage]) -> BTreeMap<Vec<u8>, KeyPackageRoute> {
    let route = |package: &FetchedKeyPackage| (package.reference.to_vec(), package.route.clone());
    found.iter().map(route).collect()
}

/// Where the Welcomes go of those whose Add waits for a commit of this room.
fn to_remember(room: &MimiUri, found: Vec<FetchedKeyPackage>, to_add: &[Bytes]) -> Option<Write> {
    let packages = found.into_iter().filter(|package| to_add.contains(&package.reference));
    let packages: Vec<_> = packages
        .map(|package| FetchedKeyPackage {
            room: Some(room.clone()),
            until_expiry: true,
            ..package
        })
        .collect();
    (!packages.is_empty()).then(|| Write::Mimi(MimiWrite::PutKeyPackages { packages }))
}

/// What an update hears that would fix the membership of a second room with the same users.
const SAME_MEMBERS: &str = "the same users have a room with fixed membership already, and there is one for them (MRP #base-room-policy-component-syntax)";
