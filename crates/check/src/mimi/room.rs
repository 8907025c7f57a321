//! A room of MIMI at the subject, which is its hub: a user of the subject makes it, and users of ours are in it.
//!
//! All clients are ours, also those of the subject's users, for which we speak through its client API. Each keeps its side of the group
//! with OpenMLS, and takes in what the hub accepted from whoever sent it, not from the wire: what comes over the wire is for the
//! cases to look at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use nabe_mls::testing::mimi::{
    Change, MimiDevice, MimiMember, RoomDraft, TestBundle, add_participants, group_info_query_with,
    key_material_request,
};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_types::UserId;
use nabe_wire::directory::{Endpoint, escape};
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::group_info::{GroupInfoOutcome, GroupInfoRatchetTreeTbe, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::key_material::{ClientMaterial, KeyMaterialResponse};
use nabe_wire::mls::{
    AppDataUpdate, ComponentId, ExternalSender, MlsMessage, MlsMessageBody, PrivateMessage, RequiredCapabilities,
};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::submit_message::{Acceptance, Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateRoomResponse};
use nabe_wire::{Encode as _, Kept, Message};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;

use super::peer::{MimiPeer, identifier, read};
use super::policy::{ORDINARY, Policy, SUPER};
use crate::case::{Checked, Stop, failed};
use crate::context::{Ctx, list, text};

/// The room.
pub(crate) struct MimiRoom<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) uri: String,
    hub: ExternalSender,
    clients: BTreeMap<&'static str, Client>,
}

/// One client of one user.
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) at: At,
    pub(crate) member: MimiMember,
}

/// Which provider a user is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum At {
    /// The subject.
    Subject,
    /// One of ours, by number.
    Peer(usize),
}

/// What a room begins with, for a case to change before it is made.
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) draft: RoomDraft,
    /// The hub's franking agent, if it has one.
    pub(crate) agent: Option<FrankingAgentData>,
}

impl<'a> MimiRoom<'a> {
    /// A room that a user `alice` of the subject made, who is alone in it.
    pub(crate) async fn create(ctx: &'a Ctx) -> Checked<Self> {
        Self::create_with(ctx, |_| {}).await
    }

    /// The same with changes of policy or components.
    pub(crate) async fn create_with(ctx: &'a Ctx, change: impl FnOnce(&mut Plan)) -> Checked<Self> {
        let domain = ctx.subject_domain().clone();
        let alice = ctx.user("alice");
        let hub = ctx.api(&alice, "GET", "/mimi/hub", None).await?;
        let sender: ExternalSender = decoded("external_sender", text(&hub, "external_sender"))?;
        let agent = match text(&hub, "franking_agent") {
            "" => None,
            agent => Some(decoded("franking_agent", agent)?),
        };
        let uri = format!("mimi://{domain}/r/{}-{}", ctx.tag(), unique());
        let device = device_of(&user_uri(ctx, At::Subject, "alice"), "phone");
        let mut draft = RoomDraft::of(&device, &sender, &uri, &uri.replace("/r/", "/g/"));
        draft.set(ComponentId::PARTICIPANT_LIST, list_of(&[(&device.user(), SUPER)]));
        let mut plan = Plan {
            policy: Policy::new(domain.as_str()),
            draft,
            agent,
        };
        change(&mut plan);
        plan.policy.put_into(&mut plan.draft.dictionary);
        let member = device.create_room_with(&plan.draft);
        let (info, tree) = member.hand_over();
        let body = object! {
            "room" => uri.as_str(),
            "group_info" => base64u::encode(info.as_bytes()),
            "ratchet_tree" => base64u::encode(&tree.to_bytes()),
        };
        ctx.api(&alice, "POST", "/mimi/rooms", Some(&body)).await?;
        let client = Client {
            user: device.user(),
            at: At::Subject,
            member,
        };
        Ok(Self {
            ctx,
            uri,
            hub: sender,
            clients: BTreeMap::from([("alice", client)]),
        })
    }

    /// Alice, and `bob` and `cathy`, ordinary users of our two providers.
    pub(crate) async fn of_three(ctx: &'a Ctx) -> Checked<Self> {
        Self::of_three_with(ctx, |_| {}).await
    }

    /// The same with changes of policy or components.
    pub(crate) async fn of_three_with(ctx: &'a Ctx, change: impl FnOnce(&mut Plan)) -> Checked<Self> {
        let mut room = Self::create_with(ctx, change).await?;
        room.add("alice", "bob", At::Peer(0), ORDINARY).await?;
        room.add("alice", "cathy", At::Peer(1), ORDINARY).await?;
        Ok(room)
    }

    /// What stands first among the group's external senders.
    pub(crate) const fn hub(&self) -> &ExternalSender {
        &self.hub
    }

    pub(crate) fn client(&self, name: &str) -> &Client {
        self.clients.get(name).expect("cases name clients of the room")
    }

    pub(crate) fn member(&mut self, name: &str) -> &mut MimiMember {
        &mut self
            .clients
            .get_mut(name)
            .expect("cases name clients of the room")
            .member
    }

    /// The URI of a user who need not be in the room.
    pub(crate) fn user(&self, at: At, name: &str) -> String {
        user_uri(self.ctx, at, name)
    }

    /// One of our providers.
    pub(crate) fn peer(&self, at: At) -> &'a MimiPeer {
        match at {
            At::Peer(number) => self.ctx.mimi(number),
            At::Subject => unreachable!("the subject is none of ours"),
        }
    }

    /// Takes a member that joined by itself into the room's clients.
    pub(crate) fn joined(&mut self, name: &'static str, at: At, member: MimiMember) {
        let user = member.device().user();
        self.clients.insert(name, Client { user, at, member });
    }

    /// Puts a user with a new client into the room: key packages by way of the hub, one commit, the Welcome over the wire.
    pub(crate) async fn add(&mut self, by: &str, name: &'static str, at: At, role: u32) -> Checked {
        let device = device_of(&self.user(at, name), "phone");
        let package = self.claim(by, at, &device).await?;
        let change = Change {
            add: vec![package],
            updates: vec![add_participants(&[(&device.user(), role)])],
            ..Change::default()
        };
        let bundle = self.accepted(by, &format!("adding {name}"), change).await?;
        let fanned_out = self.welcome(at, &bundle).await?;
        self.join(name, at, &device, &fanned_out)
    }

    /// Joins by what came with a Welcome.
    pub(crate) fn join(&mut self, name: &'static str, at: At, device: &MimiDevice, welcome: &FanoutMessage) -> Checked {
        let (MlsMessageBody::Welcome(bare), FanoutParts::Welcome { ratchet_tree_option }) =
            (&welcome.message.body, &welcome.with)
        else {
            return failed("a Welcome with a tree", format!("{:?}", welcome.message.wire_format()));
        };
        if !matches!(ratchet_tree_option, nabe_wire::mls::RatchetTreeOption::Full(_)) {
            return failed("a whole tree with the Welcome", format!("{ratchet_tree_option:?}"));
        }
        let member = device.join(bare, ratchet_tree_option);
        self.joined(name, at, member);
        Ok(())
    }

    /// A key package of a client of ours, asked for by a client of the room by way of the hub.
    pub(crate) async fn claim(&self, by: &str, at: At, device: &MimiDevice) -> Checked<Vec<u8>> {
        let user = device.user();
        let package = device.key_package();
        if let At::Peer(number) = at {
            self.ctx
                .mimi(number)
                .offer(&user, &client_uri(device), vec![package.clone()]);
        } else {
            self.ctx.upload(device, std::slice::from_ref(&package)).await?;
            self.ctx.agree(&self.client(by).user, &user, None).await?;
        }
        let answer = self.key_material(by, &user).await?;
        let handed_out = packages_in(&answer);
        if !handed_out.contains(&package) {
            return failed(
                "the key package that its provider handed out",
                format!("userStatus {}, {} key packages", answer.user_status.0, handed_out.len()),
            );
        }
        Ok(package)
    }

    /// What the hub says to a client's request for a user's key packages, to be added to this room.
    pub(crate) async fn key_material(&self, by: &str, user: &str) -> Checked<KeyMaterialResponse> {
        let client = self.client(by);
        let request = key_material_request(client.member.device(), user, Some(&self.uri), nothing_required());
        match client.at {
            At::Peer(number) => {
                let peer = self.ctx.mimi(number);
                peer.ask(Endpoint::KeyMaterial, user, request.to_bytes()).await
            }
            At::Subject => {
                let local = self.ctx.local(&client.user)?;
                let reply = self
                    .ctx
                    .subject()
                    .mimi(&local, "/key_material", request.to_bytes())
                    .await?;
                read("keyMaterial", &reply)
            }
        }
    }

    /// Commits, and everybody follows if the hub accepts. What the hub says, and the commit.
    pub(crate) async fn commit(&mut self, by: &str, change: Change) -> Checked<(UpdateRoomResponse, TestBundle)> {
        let bundle = self.member(by).commit(change);
        let answer = self.send(by, &bundle).await?;
        Ok((answer, bundle))
    }

    /// Sends a commit that `by` has pending. Everybody follows if the hub accepts it; if not, it is dropped.
    pub(crate) async fn send(&mut self, by: &str, bundle: &TestBundle) -> Checked<UpdateRoomResponse> {
        let answer = self.update(by, bundle.to_request()).await?;
        match answer.code().0 {
            SUCCESS => {
                self.member(by).merge();
                self.follow(by, &bundle.commit);
            }
            _ => self.member(by).clear(),
        }
        Ok(answer)
    }

    /// Everybody else takes a message in; whoever it removes is taken off the room's clients.
    pub(crate) fn follow(&mut self, by: &str, message: &Kept<MlsMessage>) {
        for (name, client) in &mut self.clients {
            if *name != by {
                client.member.process(message);
            }
        }
        self.clients.retain(|_, client| client.member.group().is_active());
    }

    /// A commit that the hub must accept.
    pub(crate) async fn accepted(&mut self, by: &str, what: &str, change: Change) -> Checked<TestBundle> {
        let (answer, bundle) = self.commit(by, change).await?;
        self.code(what, &answer, &[SUCCESS])?;
        Ok(bundle)
    }

    /// A commit that the hub must refuse with one of these codes, and that leaves the epoch as it is.
    pub(crate) async fn refused(&mut self, by: &str, what: &str, change: Change, codes: &[u8]) -> Checked {
        let (answer, _) = self.commit(by, change).await?;
        self.code(what, &answer, codes)?;
        self.is_unchanged(what).await
    }

    /// Something that `by` made without OpenMLS keeping it must be refused with one of these codes or, if allowed, by 400, and leave
    /// the epoch as it is.
    pub(crate) async fn refuses(&self, by: &str, what: &str, body: Vec<u8>, codes: &[u8], or_400: bool) -> Checked {
        let client = self.client(by);
        let reply = self.update_reply(client.at, &client.user, body).await?;
        if or_400 && reply.status == 400 {
            self.ctx.observe(format!("{what}: 400"));
        } else {
            self.code(what, &read("update", &reply)?, codes)?;
        }
        self.is_unchanged(what).await
    }

    /// The answer must have one of these codes.
    pub(crate) fn code(&self, what: &str, answer: &UpdateRoomResponse, codes: &[u8]) -> Checked {
        let found = answer.code().0;
        let expected = codes.iter().map(u8::to_string).collect::<Vec<_>>().join(" or ");
        match codes.contains(&found) {
            true => {
                self.ctx.observe(format!("{what}: {found}"));
                Ok(())
            }
            false => failed(
                format!("{what}: code {expected}"),
                format!("code {found} {:?}", answer.error_description.0),
            ),
        }
    }

    /// The group is in the epoch in which Alice has it: a commit that nobody heard of is answered as one for the current epoch, and
    /// changes nothing.
    pub(crate) async fn is_unchanged(&self, what: &str) -> Checked {
        let (alice, epoch) = (self.client("alice"), self.client("alice").member.epoch());
        let wrong = future_commit(&alice.member);
        let reply = self.update_reply(alice.at, &alice.user, wrong).await?;
        let answer: UpdateRoomResponse = read("update", &reply)?;
        match answer.verdict {
            nabe_wire::update::UpdateVerdict::WrongEpoch { current_epoch } if current_epoch == epoch => Ok(()),
            verdict => failed(
                format!("{what}: the room is still in epoch {epoch}"),
                format!("to a commit of a later one: {verdict:?}"),
            ),
        }
    }

    /// An update request of a client, whatever it is. Its answer.
    pub(crate) async fn update(&self, by: &str, body: Vec<u8>) -> Checked<UpdateRoomResponse> {
        let client = self.client(by);
        let reply = self.update_reply(client.at, &client.user, body).await?;
        read("update", &reply)
    }

    /// An update request in the name of any user. What came back, whatever it is.
    pub(crate) async fn update_reply(&self, at: At, user: &str, body: Vec<u8>) -> Checked<crate::http_client::Reply> {
        match at {
            At::Peer(number) => self.ctx.mimi(number).call(Endpoint::Update, &self.uri, body).await,
            At::Subject => {
                let path = format!("/rooms/{}/update", escape(&self.uri));
                self.ctx.subject().mimi(&self.ctx.local(user)?, &path, body).await
            }
        }
    }

    /// Proposals of one client, sent together. Everybody keeps them if the hub accepts.
    pub(crate) async fn propose(&mut self, by: &str, proposals: &[Kept<MlsMessage>]) -> Checked<UpdateRoomResponse> {
        let answer = self.update(by, proposals_request(proposals)).await?;
        if answer.code().0 == SUCCESS {
            for proposal in proposals {
                self.take_in(by, proposal);
            }
        }
        Ok(answer)
    }

    /// Everybody but its author keeps a proposal.
    pub(crate) fn take_in(&mut self, author: &str, proposal: &Kept<MlsMessage>) {
        for (name, client) in &mut self.clients {
            if *name != author {
                client.member.process(proposal);
            }
        }
    }

    /// A message of a client. The hub's verdict.
    pub(crate) async fn submit(&self, by: &str, message: &PrivateMessage) -> Checked<SubmitVerdict> {
        let client = self.client(by);
        self.submit_as(client.at, &client.user, &client.user, message).await
    }

    /// A message in the name of any user, from any provider.
    pub(crate) async fn submit_as(
        &self,
        at: At,
        user: &str,
        sending: &str,
        message: &PrivateMessage,
    ) -> Checked<SubmitVerdict> {
        let body = submission(sending, MlsMessageBody::Private(message.clone()));
        let reply = match at {
            At::Peer(number) => {
                self.ctx
                    .mimi(number)
                    .call(Endpoint::SubmitMessage, &self.uri, body)
                    .await?
            }
            At::Subject => {
                let path = format!("/rooms/{}/submit_message", escape(&self.uri));
                self.ctx.subject().mimi(&self.ctx.local(user)?, &path, body).await?
            }
        };
        verdict(&read("submitMessage", &reply)?)
    }

    /// Encrypts a text as a client.
    pub(crate) fn encrypt(&mut self, by: &str, text: &str) -> PrivateMessage {
        self.member(by).encrypt(text.as_bytes(), None)
    }

    /// A message that the hub must accept.
    pub(crate) async fn say(&mut self, by: &str, text: &str) -> Checked<(PrivateMessage, Acceptance)> {
        let message = self.encrypt(by, text);
        match self.submit(by, &message).await? {
            SubmitVerdict::Accepted(acceptance) => Ok((message, acceptance)),
            other => failed(format!("a message of {by}: accepted"), format!("{other:?}")),
        }
    }

    /// Waits until a provider of ours was sent a Welcome, which must be that of the commit, in this room.
    pub(crate) async fn welcome(&self, at: At, bundle: &TestBundle) -> Checked<FanoutMessage> {
        let Some(welcome) = &bundle.parts.welcome else {
            return failed("a commit with a Welcome", "it has none");
        };
        let is_it = |message: &FanoutMessage| matches!(&message.message.body, MlsMessageBody::Welcome(sent) if sent.as_bytes() == welcome.as_bytes());
        match at {
            At::Peer(_) => self.fanned_out(at, "the commit's Welcome", is_it).await,
            At::Subject => {
                self.readable(&self.client("alice").user, "the commit's Welcome", is_it)
                    .await
            }
        }
    }

    /// Waits for a message that this room's hub sends to a provider of ours.
    pub(crate) async fn fanned_out(
        &self,
        at: At,
        what: &str,
        is_it: impl Fn(&FanoutMessage) -> bool,
    ) -> Checked<FanoutMessage> {
        let peer = self.peer(at);
        let find = |_: &[super::peer::Received]| match peer.fanned_out(&self.uri) {
            Ok(messages) => messages.into_iter().find(|message| is_it(message)).map(Ok),
            Err(stop) => Some(Err(stop)),
        };
        peer.wait_for(self.ctx.deadline(), what, (Endpoint::Notify, &self.uri), find)
            .await?
    }

    /// Waits until these very bytes were fanned out to a provider of ours.
    pub(crate) async fn heard(&self, at: At, what: &str, message: &Kept<MlsMessage>) -> Checked<FanoutMessage> {
        let is_it = |heard: &FanoutMessage| heard.message.as_bytes() == message.as_bytes();
        self.fanned_out(at, what, is_it).await
    }

    /// Waits for a message in what a user of the subject may read.
    pub(crate) async fn readable(
        &self,
        user: &str,
        what: &str,
        is_it: impl Fn(&FanoutMessage) -> bool,
    ) -> Checked<FanoutMessage> {
        let user = self.ctx.local(user)?;
        self.ctx
            .eventually(what, || async {
                let messages = self.ctx.messages(&user, &self.uri).await?;
                Ok(messages.into_iter().find(|message| is_it(message)))
            })
            .await
    }

    /// Everything before is delivered: something that Alice says comes to these providers.
    pub(crate) async fn fence(&mut self, peers: &[At]) -> Checked {
        let (message, _) = self.say("alice", &format!("fence {}", unique())).await?;
        let message = private(&message);
        for &at in peers {
            self.heard(at, "the last message", &message).await?;
        }
        Ok(())
    }

    /// What the hub says to a client that asks for the GroupInfo.
    pub(crate) async fn ask_group_info(
        &self,
        at: At,
        device: &MimiDevice,
        code: Option<&[u8]>,
    ) -> Checked<(GroupInfoResponse, Vec<u8>)> {
        let (query, private_key) = group_info_query_with(device, code);
        let body = GroupInfoRequest::from(query).to_bytes();
        let reply = match at {
            At::Peer(number) => self.ctx.mimi(number).call(Endpoint::GroupInfo, &self.uri, body).await?,
            At::Subject => {
                let path = format!("/rooms/{}/group_info", escape(&self.uri));
                let user = self.ctx.local(&device.user())?;
                self.ctx.subject().mimi(&user, &path, body).await?
            }
        };
        Ok((read("groupInfo", &reply)?, private_key))
    }

    /// The GroupInfo, which the hub must give to this client: signed by the hub, sealed for the client's key.
    pub(crate) async fn group_info(
        &self,
        at: At,
        device: &MimiDevice,
        code: Option<&[u8]>,
    ) -> Checked<GroupInfoRatchetTreeTbe> {
        let (answer, private_key) = self.ask_group_info(at, device, code).await?;
        if answer.room_id.as_str() != self.uri {
            return failed(format!("roomId {}", self.uri), answer.room_id.to_string());
        }
        if !matches!(answer.outcome, GroupInfoOutcome::Success(_)) {
            return failed("groupInfo: status 1", format!("{}", answer.outcome.code().0));
        }
        let (provider, wrong) = (OpenMlsRustCrypto::default(), |what: &str| Stop::Failed {
            expected: what.to_owned(),
            got: "it is not".to_owned(),
        });
        let granted = answer.verify(provider.crypto());
        let granted = granted.map_err(|_| wrong("a response signed with the key of `hub_sender`"))?;
        let opened = granted.open(provider.crypto(), &private_key);
        opened.map_err(|_| wrong("GroupInfo and tree sealed for the request's key and this room"))
    }

    /// Who may have what is in the GroupInfo answer: one of these statuses.
    pub(crate) async fn no_group_info(&self, what: &str, at: At, device: &MimiDevice, code: Option<&[u8]>) -> Checked {
        let (answer, _) = self.ask_group_info(at, device, code).await?;
        let status = answer.outcome.code().0;
        self.ctx
            .check(&format!("{what}: status 2 or 3"), matches!(status, 2 | 3), || {
                status.to_string()
            })
    }
}

impl Ctx {
    /// Who a user of the subject's domain is for the client API.
    pub(crate) fn local(&self, user: &str) -> Checked<UserId> {
        let name = user.rsplit('/').next().unwrap_or_default();
        UserId::parse(&format!("@{name}:{}", self.subject_name())).map_err(|error| Stop::Failed {
            expected: format!("{user} to be a user"),
            got: error.to_string(),
        })
    }

    /// Uploads key packages of a client of one of the subject's users. Each must be taken.
    pub(crate) async fn upload(&self, device: &MimiDevice, packages: &[Vec<u8>]) -> Checked {
        let packages: Vec<Json> = packages.iter().map(|package| base64u::encode(package).into()).collect();
        let count = packages.len();
        let body = object! { "client" => client_uri(device), "key_packages" => packages };
        let user = self.local(&device.user())?;
        let kept = self.api(&user, "POST", "/mimi/key_packages", Some(&body)).await?;
        let taken = list(&kept, "results")
            .into_iter()
            .filter(|result| !text(result, "reference").is_empty());
        match taken.count() == count {
            true => Ok(()),
            false => failed("each key package is kept", kept.to_string()),
        }
    }

    /// A user of the subject lets somebody have their key packages, in one room or in all.
    pub(crate) async fn agree(&self, requester: &str, target: &str, room: Option<&str>) -> Checked {
        let entry = super::hosted::consent(
            nabe_wire::consent::ConsentAction::Grant {
                client_key_packages: Vec::new(),
            },
            requester,
            target,
            room,
        );
        let reply = self.subject().mimi(&self.local(target)?, "/consent", entry).await?;
        match reply.status {
            200 => Ok(()),
            _ => failed("client API: consent is granted", reply.brief()),
        }
    }

    /// What a user of the subject may read of a room, oldest first. Nothing of a room that is not theirs.
    pub(crate) async fn messages(&self, user: &UserId, room: &str) -> Checked<Vec<FanoutMessage>> {
        let mut after = 0;
        let mut messages = Vec::new();
        loop {
            let path = format!("/mimi/rooms/{}/messages?after={after}&limit=1000", escape(room));
            let reply = self.subject().api(user, "GET", &path, None).await?;
            if matches!(reply.status, 403 | 404) {
                return Ok(messages);
            }
            if reply.status != 200 {
                return failed(format!("client API GET {path}: 200"), reply.brief());
            }
            let page: Vec<Object> = list(&reply.object(), "messages");
            let Some(last) = page.last() else { return Ok(messages) };
            after = last.get("position").and_then(Json::as_i64).unwrap_or(i64::MAX);
            for entry in &page {
                messages.push(decoded("message", text(entry, "message"))?);
            }
        }
    }
}

/// The user of this name at a provider, whom no other case has.
pub(crate) fn user_uri(ctx: &Ctx, at: At, name: &str) -> String {
    let domain = match at {
        At::Subject => ctx.subject_domain(),
        At::Peer(number) => ctx.mimi(number).domain(),
    };
    format!("mimi://{domain}/u/{name}-{}", ctx.tag())
}

/// A new client of a user.
pub(crate) fn device_of(user: &str, device: &str) -> MimiDevice {
    MimiDevice::new(&format!("{}/{device}", user.replacen("/u/", "/d/", 1)))
}

/// The URI of a client that [`device_of`] made with `phone`; its credential's identity.
pub(crate) fn client_uri(device: &MimiDevice) -> String {
    device.client()
}

/// Bare key packages in an answer.
pub(crate) fn packages_in(answer: &KeyMaterialResponse) -> Vec<Vec<u8>> {
    let packages = answer.clients.iter().filter_map(|client| match &client.material {
        ClientMaterial::KeyPackage(package) => Some(package.as_bytes().to_vec()),
        _ => None,
    });
    packages.collect()
}

/// Capabilities that every client has.
pub(crate) fn nothing_required() -> RequiredCapabilities {
    RequiredCapabilities {
        extension_types: Vec::new(),
        proposal_types: Vec::new(),
        credential_types: Vec::new(),
    }
}

/// The body of an update request with proposals.
pub(crate) fn proposals_request(proposals: &[Kept<MlsMessage>]) -> Vec<u8> {
    let (first, more) = proposals.split_first().expect("there is a proposal");
    HandshakeBundle {
        proposal_or_commit: first.clone(),
        with: HandshakeParts::Proposal {
            more_proposals: more.to_vec(),
        },
    }
    .to_bytes()
}

/// The body of a request to submit something, be it a message or not.
pub(crate) fn submission(sending: &str, body: MlsMessageBody) -> Vec<u8> {
    let submission = Submission {
        app_message: Kept::new(MlsMessage { body }),
        sending_uri: identifier(sending),
    };
    SubmitMessageRequest::from(submission).to_bytes()
}

/// A private message as it travels.
pub(crate) fn private(message: &PrivateMessage) -> Kept<MlsMessage> {
    Kept::new(MlsMessage {
        body: MlsMessageBody::Private(message.clone()),
    })
}

/// What a hub says to a message, in the protocol that we speak.
pub(crate) fn verdict(response: &SubmitMessageResponse) -> Checked<SubmitVerdict> {
    match response.body.mls10() {
        Some(verdict) => Ok(verdict.clone()),
        None => failed("a response by MLS 1.0", format!("{:?}", response.body.protocol())),
    }
}

/// A change of components alone.
pub(crate) fn updates(updates: Vec<AppDataUpdate>) -> Change {
    Change {
        updates,
        ..Change::default()
    }
}

/// The data of a participant list.
pub(crate) fn list_of(participants: &[(&str, u32)]) -> Vec<u8> {
    let participants = participants.iter().map(|(user, role_index)| UserRolePair {
        user: identifier(user),
        role_index: *role_index,
    });
    ParticipantListData {
        participants: participants.collect(),
    }
    .to_bytes()
}

/// A commit of this member for the epoch after the one it is in, which no hub is in.
fn future_commit(member: &MimiMember) -> Vec<u8> {
    let MlsMessageBody::Public(public) = member.forge_commit(Vec::new()).into_value().body else {
        unreachable!("handshakes are public")
    };
    let mut content = public.content;
    content.epoch += 1;
    let (info, _) = member.hand_over();
    HandshakeBundle {
        proposal_or_commit: member.forge_content(content),
        with: HandshakeParts::Commit(Box::new(nabe_wire::update::CommitParts {
            welcome: None,
            group_info_option: nabe_wire::mls::GroupInfoOption::Full(Box::new(info)),
            ratchet_tree_option: nabe_wire::mls::RatchetTreeOption::DistributionService,
        })),
    }
    .to_bytes()
}

/// A struct in unpadded base64.
fn decoded<T: Message>(what: &str, text: &str) -> Checked<T> {
    let wrong = |got: String| Stop::Failed {
        expected: format!("`{what}`: a {}", T::NAME),
        got,
    };
    let bytes = base64u::decode(text).map_err(|_| wrong("no base64".to_owned()))?;
    T::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))
}

fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// `UpdateResponseCode` `success`
pub(crate) const SUCCESS: u8 = 0;
/// `UpdateResponseCode` `wrongEpoch`
pub(crate) const WRONG_EPOCH: u8 = 1;
/// `UpdateResponseCode` `notAllowed`
pub(crate) const NOT_ALLOWED: u8 = 2;
/// `UpdateResponseCode` `invalidProposal`
pub(crate) const INVALID: u8 = 3;
