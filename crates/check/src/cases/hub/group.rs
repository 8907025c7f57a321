//! Cases 76 to 78: commits to a room's MLS group, as the hub judges them. LM #int-mls-add-remove.

use nabe_event::event_id_of;
use nabe_mls::Suite as MlsSuite;
use nabe_mls::testing::{TestCommit, TestDevice, TestMember};
use nabe_signing::json::Object;
use nabe_signing::{base64u, object};
use nabe_types::UserId;

use crate::case::{Case, Checked, Peers, Suite};
use crate::context::Ctx;
use crate::hub_room::{HubRoom, Refusal};
use crate::peer::Peer;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-76",
        title: "who may be added to and removed from the group",
        suite: Suite::Hub,
        requirements: &[
            "LM-commit-hub-checks",
            "LM-commit-add-joined",
            "LM-commit-remove-own",
            "LM-commit-remove-departed",
            "LM-commit-reject-lpdu",
            "LM-group-first-commit",
            "LM-receive-mls-hub",
        ],
        sent: "commits that add a device of a user who is not joined, remove a joined user's device, add and remove an own \
               device, remove a device of a user who left",
        expected: "rejected; rejected; accepted; accepted; accepted",
        peers: Peers::Any(1),
        run: run!(membership),
    },
    Case {
        id: "lm-77",
        title: "commits a hub cannot follow",
        suite: Suite::Hub,
        requirements: &[
            "LM-mls-public-commits",
            "LM-commit-own-proposals",
            "LM-commit-event-content",
        ],
        sent: "a commit as PrivateMessage, one with a proposal by reference, one of an epoch that is over, one that is cut off, \
               one with another commit's group state",
        expected: "rejected each; the group goes on",
        peers: Peers::Any(1),
        run: run!(unfollowable),
    },
    Case {
        id: "lm-78",
        title: "two commits for one epoch",
        suite: Suite::Hub,
        requirements: &["LM-commit-hub-checks"],
        sent: "two sound commits for one epoch in one transaction",
        expected: "the first is appended, the second in failed_pdus",
        peers: Peers::Any(1),
        run: run!(race),
    },
];

/// A room whose group has the creator's device and two of a peer's users' devices.
struct Grouped<'a> {
    room: HubRoom<'a>,
    peer: &'a Peer,
    alice: UserId,
    bob: UserId,
    /// The creator's.
    founder: TestMember,
    /// Alice's.
    phone: TestMember,
    /// Bob's.
    tablet: TestMember,
}

fn content_of(commit: &TestCommit) -> Object {
    object! {
        "message" => base64u::encode(&commit.message),
        "public_group_state" => base64u::encode(&commit.group_state),
    }
}

impl<'a> Grouped<'a> {
    async fn create(ctx: &'a Ctx) -> Checked<Self> {
        let options = object! {
            "join_rule" => "public",
            "encryption" => MlsSuite::X25519_AES128.room_algorithm(),
        };
        let room = HubRoom::create(ctx, options).await?;
        let peer = ctx.p();
        let (alice, bob) = (peer.user("alice"), peer.user("bob"));
        room.join(peer, &alice).await?;
        room.join(peer, &bob).await?;
        let mut founder = TestDevice::new(room.creator.as_str(), "FOUNDER").create_group(&room.id);
        let (phone, tablet) = (
            TestDevice::new(alice.as_str(), "PHONE"),
            TestDevice::new(bob.as_str(), "TABLET"),
        );
        let first = founder.add(&[phone.key_package(), tablet.key_package()]);
        room.send_as(&room.creator, "m.mls.commit", None, content_of(&first))
            .await?;
        founder.merge();
        let (phone, tablet) = (phone.join(first.welcome()), tablet.join(first.welcome()));
        Ok(Self {
            room,
            peer,
            alice,
            bob,
            founder,
            phone,
            tablet,
        })
    }

    fn lpdu(&self, sender: &UserId, commit: &TestCommit) -> Object {
        self.room
            .lpdu(self.peer, sender, "m.mls.commit", None, content_of(commit))
    }

    async fn refused(&self, what: &str, sender: &UserId, commit: &TestCommit) -> Checked {
        let lpdu = self.lpdu(sender, commit);
        self.room.refused(self.peer, what, &lpdu, Refusal::Reported).await
    }

    /// A commit by Alice's device that must be accepted; all members follow.
    async fn accepted(&mut self, commit: &TestCommit) -> Checked {
        let lpdu = self.lpdu(&self.alice, commit);
        self.room.accepted(self.peer, &lpdu).await?;
        self.phone.merge();
        self.founder.process(&commit.message);
        Ok(())
    }
}

async fn membership(ctx: &Ctx) -> Checked {
    let mut group = Grouped::create(ctx).await?;
    let (alice, bob) = (group.alice.clone(), group.bob.clone());
    let outsider = TestDevice::new(group.peer.user("outsider").as_str(), "PHONE");
    let commit = group.phone.add(&[outsider.key_package()]);
    group
        .refused("adding a device of a user who is not joined", &alice, &commit)
        .await?;
    group.phone.clear();
    let commit = group.phone.remove(&[group.tablet.leaf()]);
    group
        .refused("removing a joined user's device", &alice, &commit)
        .await?;
    group.phone.clear();
    let commit = group.phone.update();
    group
        .refused("a commit of another user's device", &bob, &commit)
        .await?;
    group.phone.clear();

    let laptop = TestDevice::new(alice.as_str(), "LAPTOP");
    let commit = group.phone.add(&[laptop.key_package()]);
    group.accepted(&commit).await?;
    group.tablet.process(&commit.message);
    let laptop = laptop.join(commit.welcome());
    let commit = group.phone.remove(&[laptop.leaf()]);
    group.accepted(&commit).await?;
    group.tablet.process(&commit.message);

    let leave = group.room.membership(group.peer, &bob, &bob, "leave");
    group.room.accepted(group.peer, &leave).await?;
    let commit = group.phone.remove(&[group.tablet.leaf()]);
    group.accepted(&commit).await?;
    let same = group.phone.epoch_authenticator() == group.founder.epoch_authenticator();
    ctx.check("the members agree on the epoch", same, || {
        format!("epochs {} and {}", group.phone.epoch(), group.founder.epoch())
    })
}

async fn unfollowable(ctx: &Ctx) -> Checked {
    let mut group = Grouped::create(ctx).await?;
    let alice = group.alice.clone();
    let private = group.phone.update_privately();
    group.refused("a commit as PrivateMessage", &alice, &private).await?;
    group.phone.clear();
    group.phone.propose_remove(group.tablet.leaf());
    let by_reference = group.phone.commit_proposals();
    group
        .refused("a commit with a proposal by reference", &alice, &by_reference)
        .await?;
    group.phone.clear();

    let stale = group.phone.update();
    group.phone.clear();
    let commit = group.phone.update();
    group.accepted(&commit).await?;
    group
        .refused("a commit of an epoch that is over", &alice, &stale)
        .await?;
    group
        .refused("a commit once more in another event", &alice, &commit)
        .await?;

    let mut cut_off = group.phone.update();
    let foreign_state = TestCommit {
        group_state: commit.group_state.clone(),
        ..cut_off.clone()
    };
    group
        .refused("a commit with another one's group state", &alice, &foreign_state)
        .await?;
    cut_off.message.pop();
    group.refused("a commit that is cut off", &alice, &cut_off).await?;
    group.phone.clear();
    let commit = group.phone.update();
    group.accepted(&commit).await
}

async fn race(ctx: &Ctx) -> Checked {
    let mut group = Grouped::create(ctx).await?;
    let (first, second) = (group.phone.update(), group.tablet.update());
    let first = group.lpdu(&group.alice, &first);
    let second = group.lpdu(&group.bob, &second);
    let failed = group.room.submit(group.peer, &[&first, &second]).await?;
    let (winner, loser) = (event_id_of(&first), event_id_of(&second));
    let is_so = !failed.contains_key(winner.as_str()) && failed.contains_key(loser.as_str());
    ctx.check("only the second is refused", is_so, || format!("failed_pdus {failed}"))
}
