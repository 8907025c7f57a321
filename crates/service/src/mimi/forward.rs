//! What a local user sends to a room, wherever its hub is: to ourselves, or to the hub, by bytes that stay as they are (MIMI
//! #update-room-state, MIMI #submit-a-message, MIMI #claim-group-key-information). The hub's verdict goes back as it is.
//!
//! The hub does not send a provider what came from it. So what it accepted goes from here into the log that the user's other clients
//! read.

use std::time::Duration;

use bytes::Bytes;
use nabe_auth::mimi::user_of;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::NewLocalMessage;
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::directory::Endpoint;
use nabe_wire::group_info::{GroupInfoRequest, GroupInfoResponse};
use nabe_wire::mls::{FramedContentBody, MlsMessage, MlsMessageBody, Proposal, Sender};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::protocol::Body;
use nabe_wire::submit_message::{SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeParts, UpdateRequest, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::{Encode as _, Kept, Message};

use super::{Mimi, MimiError};
use crate::ports::mimi::MimiRequest;

impl Mimi {
    /// Has the room's hub take proposals or a commit of a local user's client. By an external commit the user comes into the room, and may
    /// read it from there on. Whoever is not in the group yet has to be the user: the hub believes us about that.
    ///
    /// # Errors
    ///
    /// [`MimiError::Invalid`] for a body that is none, [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] when the hub's verdict
    /// could not be had: the same again is then the same request.
    pub async fn forward_update(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<UpdateRoomResponse, MimiError> {
        let request: UpdateRequest = read(body)?;
        if !messages_of(&request).all(|message| may_be_of(user, message)) {
            return Err(MimiError::Invalid {
                field: "proposalOrCommit",
                rule: "by a client of the user who sends it",
            });
        }
        let Some(hub) = self.hub_elsewhere(room)? else {
            return self.update(self.domain(), room, body, request).await;
        };
        let verdict: UpdateRoomResponse = self.ask_hub(&hub, Endpoint::Update, room, body).await?;
        if let UpdateVerdict::Success { accepted_timestamp } = verdict.verdict {
            let is_joining = matches!(
                &request.proposal_or_commit.body,
                MlsMessageBody::Public(message) if message.content.sender == Sender::NewMemberCommit
            );
            let message = FanoutMessage {
                timestamp: accepted_timestamp,
                message: request.proposal_or_commit,
                with: match request.with {
                    // What the hub proposes after it comes from the hub.
                    HandshakeParts::Commit(_) => FanoutParts::Commit {
                        external_proposals: Vec::new(),
                    },
                    HandshakeParts::Proposal { more_proposals } => FanoutParts::Proposal { more_proposals },
                },
            };
            let readers = is_joining.then(|| user.clone()).into_iter().collect();
            self.keep_own(&hub, room, &message, readers).await?;
        }
        Ok(verdict)
    }

    /// Has the room's hub take a message of a local user, who has to be the one it is said to be of: the hub believes us.
    ///
    /// # Errors
    ///
    /// As for [`forward_update`](Self::forward_update).
    pub async fn forward_submit(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<SubmitMessageResponse, MimiError> {
        let request: SubmitMessageRequest = read(body)?;
        let sender = request.body.mls10().map(|submission| submission.sending_uri.as_str());
        if sender.is_some_and(|sender| sender != user.to_string()) {
            return Err(MimiError::Invalid {
                field: "sendingUri",
                rule: "the user who sends",
            });
        }
        let Some(hub) = self.hub_elsewhere(room)? else {
            return self.submit(self.domain(), room, body, request).await;
        };
        let answer: SubmitMessageResponse = self.ask_hub(&hub, Endpoint::SubmitMessage, room, body).await?;
        if let (Body::Mls10(submission), Body::Mls10(SubmitVerdict::Accepted(acceptance))) =
            (request.body, &answer.body)
        {
            let message = FanoutMessage {
                timestamp: acceptance.accepted_timestamp,
                message: submission.app_message,
                with: FanoutParts::Application {
                    frank: acceptance.frank.clone(),
                },
            };
            self.keep_own(&hub, room, &message, Vec::new()).await?;
        }
        Ok(answer)
    }

    /// Asks the room's hub for what a local user's client needs to join.
    ///
    /// # Errors
    ///
    /// As for [`forward_update`](Self::forward_update).
    pub async fn forward_group_info(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<GroupInfoResponse, MimiError> {
        let request: GroupInfoRequest = read(body)?;
        let credential = request.body.mls10().map(|query| &query.requesting_credential);
        let asks = credential.map(|credential| user_of(credential).is_some_and(|it| it.as_str() == user.to_string()));
        if asks == Some(false) {
            return Err(MimiError::Invalid {
                field: "requestingCredential",
                rule: "that of the user who asks",
            });
        }
        match self.hub_elsewhere(room)? {
            Some(hub) => self.ask_hub(&hub, Endpoint::GroupInfo, room, body).await,
            None => self.group_info(self.domain(), room, request).await,
        }
    }

    /// The room's hub; `None` if that is us.
    fn hub_elsewhere(&self, room: &MimiUri) -> Result<Option<ServerName>, MimiError> {
        let hub = ServerName::parse(room.host()).map_err(|_| MimiError::Invalid {
            field: "roomId",
            rule: "the room of a provider",
        })?;
        Ok((hub != *self.domain()).then_some(hub))
    }

    async fn ask_hub<T: Message>(
        &self,
        hub: &ServerName,
        endpoint: Endpoint,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<T, MimiError> {
        if self.service.check_policy(hub).is_err() {
            return Err(MimiError::Unknown("provider"));
        }
        let request = MimiRequest {
            endpoint,
            target: room.to_string(),
            body: body.clone(),
            timeout: QUESTION_TIMEOUT,
            max_response_bytes: T::MAX_LEN,
        };
        let answer = self.state.peers.call(hub, request).await;
        let answer = answer.map_err(|error| MimiError::PeerFailed {
            provider: hub.clone(),
            error,
        })?;
        let bad = |what| MimiError::BadAnswer {
            provider: hub.clone(),
            what,
        };
        match answer.status {
            200 => T::from_bytes(&answer.body).map_err(|error| {
                tracing::info!(%hub, %endpoint, %error, "a hub's answer does not read");
                bad("not the struct it should be")
            }),
            429 | 503 if answer.retry_after.is_some() => Err(MimiError::LimitExceeded {
                retry_after: answer.retry_after.unwrap_or_default(),
            }),
            status => {
                tracing::info!(%hub, %endpoint, status, "a hub does not answer");
                Err(bad("another status than 200"))
            }
        }
    }

    /// Puts what the hub took from us into our own users' log. If we are told of it all the same, it is there already.
    async fn keep_own(
        &self,
        hub: &ServerName,
        room: &MimiUri,
        message: &FanoutMessage,
        readers: Vec<MimiUri>,
    ) -> Result<(), MimiError> {
        let body = Bytes::from(message.to_bytes());
        let once = sha256(&body);
        let messages = vec![NewLocalMessage {
            accepted: UnixMillis::new(message.timestamp),
            body,
        }];
        let readers = readers.into_iter().map(|user| (user, 0)).collect();
        let write = self.delivery(room, hub, messages, readers, Some(once));
        self.service.commit(write.into()).await?;
        self.tell_of_room(room).await
    }
}

fn messages_of(request: &UpdateRequest) -> impl Iterator<Item = &MlsMessage> {
    let more: &[Kept<MlsMessage>] = match &request.with {
        HandshakeParts::Proposal { more_proposals } => more_proposals,
        HandshakeParts::Commit(_) => &[],
    };
    std::iter::once(&request.proposal_or_commit)
        .chain(more)
        .map(|message| &**message)
}

/// Whether a message can come from a client of this user. A member's is signed by a key in the group; whoever is not a member says
/// themselves who they are.
fn may_be_of(user: &MimiUri, message: &MlsMessage) -> bool {
    let MlsMessageBody::Public(message) = &message.body else {
        return true;
    };
    let leaf = match (&message.content.sender, &message.content.body) {
        (Sender::Member { .. }, _) => return true,
        (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) => {
            commit.path.as_ref().map(|path| &path.leaf_node)
        }
        (Sender::NewMemberProposal, FramedContentBody::Proposal(proposal)) => {
            let proposal: &Proposal = proposal;
            match proposal {
                Proposal::Add(package) => Some(&package.leaf_node),
                _ => None,
            }
        }
        _ => None,
    };
    leaf.and_then(|leaf| user_of(&leaf.credential))
        .is_some_and(|it| it.as_str() == user.to_string())
}

fn read<T: Message>(body: &Bytes) -> Result<T, MimiError> {
    T::from_bytes(body).map_err(|error| {
        tracing::debug!(%error, "a client's request does not read");
        MimiError::Invalid {
            field: "body",
            rule: "the struct of its endpoint",
        }
    })
}

/// Bound on one question to a hub, which may have to check a commit of a large group.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
