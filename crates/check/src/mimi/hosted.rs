//! A room of MIMI whose hub is one of our providers, with a user of the subject in it: as much of a hub as the checks need. It allows
//! everything, since its cases say themselves what is sent.

use nabe_mls::testing::mimi::{
    Change, MimiDevice, MimiMember, RoomDraft, TestBundle, TestHub, add_participants, key_material_request,
};
use nabe_wire::consent::{ConsentAction, ConsentEntry, ConsentScope};
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::KeyMaterialResponse;
use nabe_wire::mls::{ComponentId, MlsMessage, MlsMessageBody, PrivateMessage, RatchetTreeOption};
use nabe_wire::notify::{FanoutBatch, FanoutMessage, FanoutParts};
use nabe_wire::{Encode as _, Kept};

use super::peer::{MimiPeer, identifier};
use super::policy::{ORDINARY, Policy, SUPER};
use super::room::{At, device_of, list_of, nothing_required, packages_in, private, user_uri};
use crate::author::next_timestamp;
use crate::case::{Checked, failed};
use crate::context::Ctx;
use crate::http_client::Reply;

/// The room. Its hub is our first provider, whose user `hanna` made it.
pub(crate) struct HostedMimiRoom<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) uri: String,
    pub(crate) hanna: MimiMember,
    /// The subject's user, once there.
    pub(crate) alice: Option<MimiMember>,
}

impl<'a> HostedMimiRoom<'a> {
    /// Hanna is alone in it.
    pub(crate) fn create(ctx: &'a Ctx) -> Self {
        let hub = ctx.mimi(0).domain().clone();
        let key = TestHub::new(&format!("mimi://{hub}"));
        let uri = format!("mimi://{hub}/r/{}-{}", ctx.tag(), next_timestamp());
        let device = device_of(&user_uri(ctx, At::Peer(0), "hanna"), "phone");
        let mut draft = RoomDraft::of(&device, key.sender(), &uri, &uri.replace("/r/", "/g/"));
        draft.set(ComponentId::PARTICIPANT_LIST, list_of(&[(&device.user(), SUPER)]));
        Policy::new(hub.as_str()).put_into(&mut draft.dictionary);
        Self {
            ctx,
            uri,
            hanna: device.create_room_with(&draft),
            alice: None,
        }
    }

    /// Hanna has added `alice`, a user of the subject, who is in the group.
    pub(crate) async fn with_alice(ctx: &'a Ctx) -> Checked<Self> {
        let mut room = Self::create(ctx);
        let (bundle, device) = room.add_alice().await?;
        let welcome = room.welcome(&bundle);
        let reply = room.notify(std::slice::from_ref(&welcome)).await?;
        if reply.status != 201 {
            return failed("notify of a Welcome: 201", reply.brief());
        }
        let FanoutParts::Welcome { ratchet_tree_option } = &welcome.with else {
            unreachable!("it was made as one")
        };
        room.alice = Some(device.join(bundle.welcome(), ratchet_tree_option));
        Ok(room)
    }

    /// Hanna commits that Alice is in, whose provider has not heard of it yet.
    pub(crate) async fn add_alice(&mut self) -> Checked<(TestBundle, MimiDevice)> {
        let device = device_of(&user_uri(self.ctx, At::Subject, "alice"), "phone");
        let package = device.key_package();
        self.ctx.upload(&device, std::slice::from_ref(&package)).await?;
        let hanna = self.hanna.device().user();
        self.ctx.agree(&hanna, &device.user(), None).await?;
        let answer = self.key_material(&device.user()).await?;
        if packages_in(&answer) != [package.clone()] {
            return failed(
                "the key package that was uploaded",
                format!("userStatus {}, {} clients", answer.user_status.0, answer.clients.len()),
            );
        }
        let bundle = self.hanna.commit(Change {
            add: vec![package],
            updates: vec![add_participants(&[(&device.user(), ORDINARY)])],
            ..Change::default()
        });
        self.hanna.merge();
        Ok((bundle, device))
    }

    /// What the subject says when Hanna asks for the key packages of one of its users for this room.
    pub(crate) async fn key_material(&self, user: &str) -> Checked<KeyMaterialResponse> {
        let request = key_material_request(self.hanna.device(), user, Some(&self.uri), nothing_required());
        self.hub().ask(Endpoint::KeyMaterial, user, request.to_bytes()).await
    }

    pub(crate) fn hub(&self) -> &'a MimiPeer {
        self.ctx.mimi(0)
    }

    /// The Welcome of a commit that Hanna merged, for fan-out.
    pub(crate) fn welcome(&self, bundle: &TestBundle) -> FanoutMessage {
        FanoutMessage {
            timestamp: stamp(),
            message: Kept::new(MlsMessage {
                body: MlsMessageBody::Welcome(Box::new(bundle.welcome().clone())),
            }),
            with: FanoutParts::Welcome {
                ratchet_tree_option: RatchetTreeOption::Full(self.hanna.tree()),
            },
        }
    }

    /// A text by Hanna, for fan-out.
    pub(crate) fn message(&mut self, text: &str) -> (PrivateMessage, FanoutMessage) {
        let message = self.hanna.encrypt(text.as_bytes(), None);
        let fanned_out = FanoutMessage {
            timestamp: stamp(),
            message: private(&message),
            with: FanoutParts::Application { frank: None },
        };
        (message, fanned_out)
    }

    /// Fans messages out to the subject, in one body.
    pub(crate) async fn notify(&self, messages: &[FanoutMessage]) -> Checked<Reply> {
        self.hub().call(Endpoint::Notify, &self.uri, batch(messages)).await
    }

    /// The bodies of the application messages that Alice may read, as soon as the last one is there.
    pub(crate) async fn read_up_to(&self, last: &FanoutMessage) -> Checked<Vec<FanoutMessage>> {
        let alice = user_uri(self.ctx, At::Subject, "alice");
        let alice = self.ctx.local(&alice)?;
        let is_last = |message: &FanoutMessage| message.message.as_bytes() == last.message.as_bytes();
        let messages = self
            .ctx
            .eventually("the last message", || async {
                let messages = self.ctx.messages(&alice, &self.uri).await?;
                Ok(messages.iter().any(is_last).then_some(messages))
            })
            .await?;
        let is_application = |message: &FanoutMessage| matches!(message.with, FanoutParts::Application { .. });
        Ok(messages.into_iter().filter(is_application).collect())
    }
}

/// The body of a notification.
pub(crate) fn batch(messages: &[FanoutMessage]) -> Vec<u8> {
    FanoutBatch::new(messages.to_vec())
        .expect("there is a message")
        .to_bytes()
}

/// A time of acceptance, later than every earlier one.
pub(crate) fn stamp() -> u64 {
    next_timestamp().unsigned_abs()
}

/// A `ConsentEntry`.
pub(crate) fn consent(operation: ConsentAction, requester: &str, target: &str, room: Option<&str>) -> Vec<u8> {
    ConsentEntry {
        operation,
        scope: ConsentScope {
            requester_uri: identifier(requester),
            target_uri: identifier(target),
            room_id: room.map(identifier),
        },
        consent_extensions: Default::default(),
    }
    .to_bytes()
}
