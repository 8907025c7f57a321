//! `a.example` is the hub of a room to which Bob is added; `b.example` is notified.

use nabe_mls::testing::mimi::{Change, MimiDevice, TestHub};
use nabe_wire::mls::{EncryptedGroupSecrets, MlsMessage, RatchetTreeOption, Welcome};
use nabe_wire::notify::FanoutParts;
use nabe_wire::{Encode as _, Kept, Message as _};

use super::*;
use crate::client::testing::server;
use crate::mimi::users::testing::{ALICE, BOB, Providers, ROOM, scope, uri};

const PHONE: &str = "mimi://b.example/d/bob/phone";

/// Messages of the room, made by real clients: the Welcome for Bob's phone, and what Alice says after it.
struct Story {
    providers: Providers,
    welcome: FanoutMessage,
    said: Vec<FanoutMessage>,
}

impl Story {
    async fn new() -> Self {
        Self::granted_for(None).await
    }

    /// The key package was handed out for this room of `a.example`, or for any of its.
    async fn granted_for(room: Option<&str>) -> Self {
        let providers = Providers::new().await;
        let phone = MimiDevice::new(PHONE);
        let package = phone.key_package();
        let mimi = providers.mimi("b");
        let kept = mimi
            .upload_key_packages(&uri(BOB), &uri(PHONE), vec![package.clone().into()])
            .await;
        assert!(kept.unwrap()[0].is_ok());
        // Handed out, so that the Welcome finds its way.
        providers.bob_grants(ALICE, None).await;
        mimi.key_packages_to_grant(&scope(ALICE, BOB, room)).await.unwrap();
        let hub = TestHub::new("mimi://a.example");
        let mut alice = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&hub);
        let bundle = alice.commit(Change {
            add: vec![package],
            ..Change::default()
        });
        alice.merge();
        let welcome = FanoutMessage {
            timestamp: 1000,
            message: Kept::new(MlsMessage {
                body: MlsMessageBody::Welcome(Box::new(bundle.welcome().clone())),
            }),
            with: FanoutParts::Welcome {
                ratchet_tree_option: RatchetTreeOption::Full(alice.tree()),
            },
        };
        let mut say = |text: &str| FanoutMessage {
            timestamp: 2000,
            message: Kept::new(MlsMessage {
                body: MlsMessageBody::Private(alice.encrypt(text.as_bytes(), None)),
            }),
            with: FanoutParts::Application { frank: None },
        };
        let said = ["one", "two", "three"].map(&mut say).to_vec();
        Self {
            providers,
            welcome,
            said,
        }
    }

    async fn notify(&self, from: &str, messages: &[FanoutMessage]) -> Result<(), MimiError> {
        self.notify_of(ROOM, from, messages).await
    }

    async fn notify_of(&self, room: &str, from: &str, messages: &[FanoutMessage]) -> Result<(), MimiError> {
        let batch = FanoutBatch::new(messages.to_vec()).unwrap();
        let body = batch.to_bytes();
        let mimi = self.providers.mimi("b");
        mimi.notify(
            &server(from),
            &uri(room),
            &FanoutBatch::from_bytes(&body).unwrap(),
            &body,
        )
        .await
    }

    async fn read(&self, user: &str, after: i64) -> Result<Vec<FanoutMessage>, MimiError> {
        let after = LogPosition(after);
        let mimi = self.providers.mimi("b");
        let messages = mimi.messages(&uri(user), &uri(ROOM), after, 100, 1 << 20).await?;
        Ok(messages
            .into_iter()
            .map(|message| FanoutMessage::from_bytes(&message.body).unwrap())
            .collect())
    }
}

#[tokio::test]
async fn a_welcome_for_a_key_package_of_ours_opens_a_room_and_messages_follow_in_order() {
    let story = Story::new().await;
    let mut news = story.providers.mimi("b").news();
    story.notify("a", std::slice::from_ref(&story.welcome)).await.unwrap();
    story.notify("a", &story.said[..2]).await.unwrap();
    story.notify("a", &story.said[2..]).await.unwrap();
    let all = [std::slice::from_ref(&story.welcome), &story.said].concat();
    assert_eq!(story.read(BOB, 0).await.unwrap(), all);
    assert_eq!(story.read(BOB, 2).await.unwrap(), all[2..]);
    let rooms = story.providers.mimi("b").rooms_readable_by(&uri(BOB)).await.unwrap();
    assert_eq!(
        (rooms.len(), rooms[0].room.head, &rooms[0].room.hub),
        (1, LogPosition(4), &server("a"))
    );
    for head in [1, 3, 4] {
        let (room, head) = (uri(ROOM), LogPosition(head));
        assert_eq!(news.recv().await.unwrap(), MimiNews::Room { room, head });
    }
}

#[tokio::test]
async fn the_same_body_of_a_hub_is_taken_twice_and_delivered_once() {
    let story = Story::new().await;
    let batch = [story.welcome.clone(), story.said[0].clone()];
    for _ in 0..3 {
        story.notify("a", &batch).await.unwrap();
    }
    assert_eq!(story.read(BOB, 0).await.unwrap(), batch);
    // However long ago it was, and in whatever else it comes.
    for _ in 0..2 {
        story.notify("a", &story.said[..1]).await.unwrap();
        story
            .notify("a", &[batch[1].clone(), story.said[1].clone()])
            .await
            .unwrap();
        story.notify("a", &batch).await.unwrap();
        assert_eq!(story.read(BOB, 0).await.unwrap().len(), 3);
        story.providers.clock.advance(REMEMBERED + Duration::from_secs(1));
        story.providers.mimi("b").forget_what_is_old().await;
    }
}

#[tokio::test]
async fn a_hub_is_believed_about_its_own_rooms_alone() {
    let story = Story::new().await;
    let refused = story.notify("c", std::slice::from_ref(&story.welcome)).await;
    assert!(
        matches!(refused, Err(MimiError::NotTheirs { what: "the room", .. })),
        "{refused:?}"
    );
    assert_eq!(
        story.providers.mimi("b").rooms_readable_by(&uri(BOB)).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_room_that_nobody_here_has_to_do_with_is_unknown() {
    let story = Story::new().await;
    let unknown = story.notify("a", &story.said).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("room"))), "{unknown:?}");
    let other = Story::new().await;
    // A Welcome for somebody else's key package.
    let unknown = story.notify("a", std::slice::from_ref(&other.welcome)).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("room"))), "{unknown:?}");
}

#[tokio::test]
async fn a_welcome_opens_no_room_but_the_one_that_the_key_package_was_handed_out_for() {
    let (other, of_c) = ("mimi://a.example/r/other", "mimi://c.example/r/theirs");
    let story = Story::granted_for(Some(ROOM)).await;
    for (hub, room) in [("a", other), ("c", of_c)] {
        let unknown = story.notify_of(room, hub, std::slice::from_ref(&story.welcome)).await;
        assert!(
            matches!(unknown, Err(MimiError::Unknown("room"))),
            "{room}: {unknown:?}"
        );
    }
    story.notify("a", std::slice::from_ref(&story.welcome)).await.unwrap();
    // Without a room it is for any of that hub's.
    let story = Story::granted_for(None).await;
    let unknown = story.notify_of(of_c, "c", std::slice::from_ref(&story.welcome)).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("room"))), "{unknown:?}");
    let opened = story.notify_of(other, "a", std::slice::from_ref(&story.welcome)).await;
    opened.unwrap();
}

/// A Welcome for clients with such references.
fn welcome_of(story: &Story, references: impl Iterator<Item = Vec<u8>>) -> FanoutMessage {
    let MlsMessageBody::Welcome(welcome) = &story.welcome.message.body else {
        panic!("a Welcome");
    };
    let mut welcome = Welcome::clone(welcome);
    let secrets = welcome.secrets[0].clone();
    let secrets_of = |reference: Vec<u8>| EncryptedGroupSecrets {
        new_member: reference.as_slice().into(),
        ..secrets.clone()
    };
    welcome.secrets = references.map(secrets_of).collect();
    FanoutMessage {
        message: Kept::new(MlsMessage {
            body: MlsMessageBody::Welcome(Box::new(Kept::new(welcome))),
        }),
        ..story.welcome.clone()
    }
}

#[tokio::test]
async fn a_notification_of_a_room_that_is_not_followed_costs_no_look_at_its_messages() {
    let story = Story::new().await;
    let before = story.providers.store("b").lookups();
    let unknown = story.notify("a", &story.said).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("room"))), "{unknown:?}");
    assert_eq!(story.providers.store("b").lookups(), before);
    story.notify("a", std::slice::from_ref(&story.welcome)).await.unwrap();
    let before = story.providers.store("b").lookups();
    story.notify("a", &story.said).await.unwrap();
    assert_eq!(story.providers.store("b").lookups(), before + story.said.len());
}

#[tokio::test]
async fn of_a_stranger_s_welcomes_only_so_many_references_are_looked_for_and_only_what_can_be_one() {
    let story = Story::new().await;
    let looked_for = async |messages: &[FanoutMessage]| {
        let before = story.providers.store("b").lookups();
        let unknown = story.notify("a", messages).await;
        assert!(matches!(unknown, Err(MimiError::Unknown("room"))), "{unknown:?}");
        story.providers.store("b").lookups() - before
    };
    let none = welcome_of(&story, (0..200).map(|len| vec![7; len]));
    assert_eq!(looked_for(&[none]).await, HASH_LENGTHS.len());
    let reference = |n: usize| [n.to_be_bytes(); 4].concat();
    let many = [
        welcome_of(&story, (0..7000).map(reference)),
        welcome_of(&story, (7000..14_000).map(reference)),
    ];
    assert_eq!(looked_for(&many).await, MAX_WELCOMED);
}

#[tokio::test]
async fn a_room_is_read_by_those_who_were_welcomed_from_there_on() {
    let story = Story::new().await;
    let batch = [story.said[0].clone(), story.welcome.clone(), story.said[1].clone()];
    story.notify("a", &batch).await.unwrap();
    assert_eq!(story.read(BOB, 0).await.unwrap(), batch[1..]);
    let other = story.read("mimi://b.example/u/other", 0).await;
    assert!(matches!(other, Err(MimiError::Unknown("room"))), "{other:?}");
}

#[tokio::test]
async fn what_is_old_is_dropped_from_the_log() {
    let story = Story::new().await;
    story.notify("a", std::slice::from_ref(&story.welcome)).await.unwrap();
    story.notify("a", &story.said[..1]).await.unwrap();
    let kept = crate::mimi::UserSettings::default().log_retention.unwrap();
    story.providers.clock.advance(kept);
    story.notify("a", &story.said[1..]).await.unwrap();
    story.providers.mimi("b").forget_what_is_old().await;
    assert_eq!(story.read(BOB, 0).await.unwrap().len(), 4, "to the day");
    story.providers.clock.advance(Duration::from_secs(1));
    story.providers.mimi("b").forget_what_is_old().await;
    assert_eq!(story.read(BOB, 0).await.unwrap(), story.said[1..]);
    let rooms = story.providers.mimi("b").rooms_readable_by(&uri(BOB)).await.unwrap();
    assert_eq!((rooms[0].from, rooms[0].room.head), (LogPosition(1), LogPosition(4)));
}

#[tokio::test]
async fn a_hub_opens_only_so_many_rooms_to_a_user() {
    let story = Story::new().await;
    let open = |n: usize| {
        let write = nabe_store::MimiOrderWrite::Open {
            room: uri(&format!("mimi://a.example/r/{n}")),
            hub: server("a"),
            user: uri(BOB),
            from: LogPosition(1),
        };
        Write::Mimi(MimiWrite::User(MimiUserWrite::Order(write)))
    };
    let service = story.providers.mimi("b").service;
    service.commit((1..MAX_ROOMS_OF_HUB).map(open).collect()).await.unwrap();
    // One more, which is full then.
    story.notify("a", std::slice::from_ref(&story.welcome)).await.unwrap();
    assert_eq!(story.read(BOB, 0).await.unwrap().len(), 1);
    let elsewhere = uri("mimi://a.example/r/elsewhere");
    let batch = FanoutBatch::new(vec![story.welcome.clone()]).unwrap();
    let mimi = story.providers.mimi("b");
    let refused = mimi.notify(&server("a"), &elsewhere, &batch, &batch.to_bytes()).await;
    assert!(matches!(refused, Err(MimiError::Unknown("room"))), "{refused:?}");
}
