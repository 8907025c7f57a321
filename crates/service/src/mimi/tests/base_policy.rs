//! What the base policy asks of a hub beside the room itself (MRP #base-room-policy-component-syntax): rooms end, rooms with fixed membership
//! are one for their users, and who leaves a room is removed from those that depend on it.

use nabe_auth::mimi::templates::Template;
use nabe_store::PolicyStore as _;
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest};
use nabe_wire::policy::Capability;
use nabe_wire::update::UpdateResponseCode;
use nabe_wire::uri::Uri;

use super::*;
use crate::mimi::CreateRefused;
use crate::mimi::testing::BACKENDS;

const HALL: &str = "mimi://a.example/r/hall";
const CORNER: &str = "mimi://a.example/r/corner";

fn room_uri(uri: &str) -> MimiUri {
    MimiUri::parse(uri).unwrap()
}

fn listed(users: &[(&str, u32)]) -> ParticipantListData {
    let pair = |&(user, role_index): &(&str, u32)| UserRolePair {
        user: identifier(user),
        role_index,
    };
    ParticipantListData {
        participants: users.iter().map(pair).collect(),
    }
}

/// A client of Alice's founds a room with this policy and these participants.
async fn found(
    providers: &Providers,
    client: &str,
    uri: &str,
    template: &Template,
    users: &[(&str, u32)],
) -> Result<MimiMember, CreateRefused> {
    let device = MimiDevice::new(&format!("mimi://a.example/d/alice/{client}"));
    let mut draft = RoomDraft::of(&device, providers.key("a").sender(), uri, &format!("group of {client}"));
    for entry in template.dictionary(&listed(users)).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    let member = device.create_room_with(&draft);
    let (info, tree) = member.hand_over();
    let mimi = providers.mimi("a");
    mimi.create_room(&user_of("alice"), &room_uri(uri), info, tree).await?;
    Ok(member)
}

fn of(providers: Providers, uri: &str, alice: MimiMember) -> Room {
    Room {
        providers,
        uri: room_uri(uri),
        clients: [("alice", Client::new(alice, 0))].into(),
    }
}

const EVERYBODY: [(&str, u32); 3] = [
    (ALICE, templates::SUPER_ADMIN),
    (BOB, templates::ORDINARY_USER),
    (CATHY, templates::ORDINARY_USER),
];

fn depending() -> Template {
    let mut template = templates::cooperative("a.example");
    template.base.parent_dependant = true;
    template.base.parent_room = vec![Uri::new(HALL).unwrap()];
    template
}

/// The hall, in which Alice has a client, and the corner, which depends on it, with Alice and Bob.
async fn hall_and_corner(backend: Backend) -> (MimiMember, Room) {
    let providers = Providers::on(backend, &["a", "b", "c", "d"]).await;
    let hall = templates::cooperative("a.example");
    let hall = found(&providers, "H", HALL, &hall, &EVERYBODY).await.unwrap();
    let corner = found(&providers, "C", CORNER, &depending(), &EVERYBODY[..1]).await;
    let mut corner = of(providers, CORNER, corner.unwrap());
    corner.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
    corner.all_catch_up().await;
    (hall, corner)
}

/// Alice takes Bob off the hall's list.
async fn bob_leaves(hall: &mut MimiMember, room: &Room) {
    let bundle = hall.commit(Change {
        updates: vec![change_participants(&[], &[1], &[])],
        ..Change::default()
    });
    let mimi = room.providers.mimi("a");
    let answer = mimi
        .forward_update(&user_of("alice"), &room_uri(HALL), &bundle.to_request().into())
        .await
        .unwrap();
    assert_eq!(answer.code(), UpdateResponseCode::SUCCESS, "{answer:?}");
    hall.merge();
}

async fn takes_part(room: &Room, user: &str) -> bool {
    let mimi = room.providers.mimi("a");
    let open = mimi.open(&room.uri).await.unwrap().unwrap();
    open.room().policy().takes_part(&identifier(user))
}

#[tokio::test]
async fn who_leaves_a_room_is_removed_by_the_hub_from_those_that_depend_on_it_even_if_it_crashes() {
    for backend in BACKENDS {
        let (mut hall, mut corner) = hall_and_corner(backend).await;
        bob_leaves(&mut hall, &corner).await;
        corner.providers.crash("a").await;
        eventually("Bob is out", || async { !takes_part(&corner, BOB).await }).await;
        let late = corner.message("bob", "I am still here");
        let refused = corner.submit("bob", &late).await;
        assert_eq!(refused.body.mls10(), Some(&SubmitVerdict::NotAllowed));
        corner.all_catch_up().await;
        let bundle = corner.member("alice").update();
        corner.commit("alice", &bundle).await;
        corner.all_catch_up().await;
        assert!(!corner.member("bob").group().is_active());
        let mimi = corner.providers.mimi("a");
        let open = mimi.open(&corner.uri).await.unwrap().unwrap();
        assert_eq!(open.room().group().members().count(), 1);
        assert_eq!(open.room().policy().participants().len(), 1);
        drop(open);
        let due = corner.providers.store("a").due_child_rooms(None, 9).await.unwrap();
        assert_eq!(due, []);
    }
}

#[tokio::test]
async fn a_removal_for_which_the_room_has_to_be_committed_first_comes_after_the_commit() {
    let (mut hall, mut corner) = hall_and_corner(Backend::Memory).await;
    let promoted = change_participants(&[(1, templates::SUPER_ADMIN)], &[], &[]);
    let promoted = corner.member("alice").propose_component(&promoted);
    corner.client("alice").own.insert(promoted.as_bytes().to_vec());
    let answer = corner
        .update("alice", &proposals(std::slice::from_ref(&promoted)))
        .await;
    assert_eq!(answer.code(), UpdateResponseCode::SUCCESS, "{answer:?}");
    bob_leaves(&mut hall, &corner).await;
    let store = corner.providers.store("a");
    assert_eq!(store.due_child_rooms(None, 9).await.unwrap(), [room_uri(CORNER)]);
    corner.all_catch_up().await;
    let bundle = corner.member("alice").update();
    corner.commit("alice", &bundle).await;
    eventually("Bob is out", || async { !takes_part(&corner, BOB).await }).await;
}

/// What makes a room due was not kept when they were founded.
#[tokio::test]
async fn rooms_of_an_earlier_version_depend_on_others_and_are_one_for_their_users_after_the_upgrade() {
    let (mut hall, mut corner) = hall_and_corner(Backend::Memory).await;
    let pair = templates::direct_message();
    let users = [ALICE, CATHY].map(|user| (user, templates::ORDINARY_USER));
    let uri = |name: &str| format!("mimi://a.example/r/{name}");
    found(&corner.providers, "P", &uri("pair"), &pair, &users)
        .await
        .unwrap();
    corner.providers.memory("a").forget_what_is_noted();
    corner.providers.crash("a").await;
    let store = corner.providers.memory("a").clone();
    eventually("everything is noted", || async {
        store.rooms_to_note(None, 9).await.unwrap().is_empty()
    })
    .await;
    bob_leaves(&mut hall, &corner).await;
    eventually("Bob is out", || async { !takes_part(&corner, BOB).await }).await;
    let refused = found(&corner.providers, "Q", &uri("again"), &pair, &users).await;
    let taken = room_uri(&uri("pair"));
    assert!(matches!(refused, Err(CreateRefused::SameMembers(room)) if room == taken));
}

#[tokio::test]
async fn a_room_that_is_there_is_there_for_whoever_asks_again_whatever_has_become_of_its_parent() {
    let providers = Providers::new(&["a", "b"]).await;
    let hall = templates::cooperative("a.example");
    let mut hall = found(&providers, "H", HALL, &hall, &EVERYBODY).await.unwrap();
    let device = MimiDevice::new("mimi://a.example/d/alice/C");
    let mut draft = RoomDraft::of(&device, providers.key("a").sender(), CORNER, "a group");
    for entry in depending().dictionary(&listed(&EVERYBODY[..2])).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    let alice = device.create_room_with(&draft);
    let ((info, tree), mimi) = (alice.hand_over(), providers.mimi("a"));
    let create = async || {
        let (info, tree) = (info.clone(), tree.clone());
        mimi.create_room(&user_of("alice"), &room_uri(CORNER), info, tree).await
    };
    create().await.unwrap();
    let room = of(providers, CORNER, alice);
    bob_leaves(&mut hall, &room).await;
    create().await.unwrap();
}

#[tokio::test]
async fn a_room_is_not_begun_with_strangers_to_its_parent_or_without_it() {
    let providers = Providers::new(&["a"]).await;
    let create = async |client: &str, users: &[(&str, u32)]| {
        let created = found(&providers, client, CORNER, &depending(), users).await;
        created.err().map(|refused| refused.to_string())
    };
    let refused = create("C1", &EVERYBODY[..1]).await.unwrap();
    assert!(refused.contains("is not at hand"), "{refused}");
    let hall = templates::cooperative("a.example");
    found(&providers, "H", HALL, &hall, &EVERYBODY[..2]).await.unwrap();
    let refused = create("C2", &[EVERYBODY[0], EVERYBODY[2]]).await.unwrap();
    assert!(refused.contains("takes no part in the parent room"), "{refused}");
    let refused = create("C3", &EVERYBODY[..2]).await.unwrap();
    assert!(refused.contains("fewer participants"), "{refused}");
    assert_eq!(create("C4", &EVERYBODY[..1]).await, None);
}

#[tokio::test]
async fn the_same_users_have_one_room_with_fixed_membership() {
    let providers = Providers::new(&["a"]).await;
    let pair = templates::direct_message();
    let [alice, bob, cathy] = [ALICE, BOB, CATHY].map(|user| (user, templates::ORDINARY_USER));
    let uri = |name: &str| format!("mimi://a.example/r/{name}");
    let create = async |name: &str, template: &Template, users: &[(&str, u32)]| {
        found(&providers, name, &uri(name), template, users).await
    };
    create("one", &pair, &[alice, bob]).await.unwrap();
    create("two", &pair, &[alice, cathy]).await.unwrap();
    let refused = create("three", &pair, &[bob, alice]).await;
    let taken = room_uri(&uri("one"));
    assert!(matches!(refused, Err(CreateRefused::SameMembers(room)) if room == taken));
    // A room that becomes such a one is no other.
    let mut open = templates::direct_message();
    open.base.fixed_membership = false;
    open.roles.roles[1]
        .role_capabilities
        .push(Capability::CAN_CHANGE_ROOM_MEMBERSHIP_STYLE);
    let mut member = create("four", &open, &[alice, bob]).await.unwrap();
    let bundle = member.commit(Change {
        updates: vec![set_component(ComponentId::BASE_ROOM_POLICY, pair.base.to_bytes())],
        ..Change::default()
    });
    let mimi = providers.mimi("a");
    let body = Bytes::from(bundle.to_request());
    let refused = mimi
        .forward_update(&user_of("alice"), &room_uri(&uri("four")), &body)
        .await;
    let refused = refused.unwrap();
    assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED);
    assert!(refused.error_description.contains("fixed membership"), "{refused:?}");
}

/// Alice, alone, in a room that stays, or does not, leaves with her client.
async fn left_alone(template: &Template) -> Room {
    let providers = Providers::new(&["a"]).await;
    let alice = found(&providers, "A", CORNER, template, &EVERYBODY[..2]).await;
    let mut room = of(providers, CORNER, alice.unwrap());
    let leave = room.member("alice").leave();
    let answer = room.update("alice", &proposals(&[leave])).await;
    assert_eq!(answer.code(), UpdateResponseCode::SUCCESS, "{answer:?}");
    room
}

async fn group_info(room: &Room) -> GroupInfoCode {
    let (query, _) = group_info_query(&MimiDevice::new("mimi://a.example/d/alice/B"));
    let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
    let mimi = room.providers.mimi("a");
    let answer = mimi.forward_group_info(&user_of("alice"), &room.uri, &request).await;
    answer.unwrap().outcome.code()
}

/// Alice's other client on its way in, with what the hub has.
async fn comes_back(room: &mut Room) -> UpdateResponseCode {
    let device = MimiDevice::new("mimi://a.example/d/alice/B");
    let mimi = room.providers.mimi("a");
    let open = mimi.open(&room.uri).await.unwrap().unwrap();
    let (member, bundle) = device.join_externally(open.room().group(), &[]);
    drop(open);
    let answer = room.update("alice", &bundle.to_request()).await;
    room.clients.insert("alice", Client::new(member, 0));
    answer.code()
}

#[tokio::test]
async fn a_room_that_does_not_stay_is_over_when_its_last_client_has_left() {
    let mut template = templates::cooperative("a.example");
    template.base.persistent_room = false;
    let mut room = left_alone(&template).await;
    assert_eq!(group_info(&room).await, GroupInfoCode::NO_SUCH_ROOM);
    room.providers.crash("a").await;
    assert_eq!(group_info(&room).await, GroupInfoCode::NO_SUCH_ROOM);
    assert_eq!(comes_back(&mut room).await, UpdateResponseCode::NOT_ALLOWED);
}

#[tokio::test]
async fn a_room_that_stays_is_there_for_whoever_comes_back() {
    let mut room = left_alone(&templates::cooperative("a.example")).await;
    assert_eq!(group_info(&room).await, GroupInfoCode::SUCCESS);
    room.providers.crash("a").await;
    assert_eq!(comes_back(&mut room).await, UpdateResponseCode::SUCCESS);
    let mimi = room.providers.mimi("a");
    let open = mimi.open(&room.uri).await.unwrap().unwrap();
    assert_eq!(open.room().group().members().count(), 1);
    assert_eq!(
        open.room().policy().participants().len(),
        2,
        "the list and the policy stay"
    );
}

/// The pair begins anew when nobody can come back to what they had.
#[tokio::test]
async fn a_room_that_is_over_keeps_its_users_from_no_other() {
    let mut pair = templates::direct_message();
    pair.base.persistent_room = false;
    let users = [ALICE, BOB].map(|user| (user, templates::ORDINARY_USER));
    let providers = Providers::new(&["a"]).await;
    let alice = found(&providers, "A", CORNER, &pair, &users).await.unwrap();
    let refused = found(&providers, "B", HALL, &pair, &users).await;
    assert!(matches!(refused, Err(CreateRefused::SameMembers(_))));
    let mut room = of(providers, CORNER, alice);
    let leave = room.member("alice").leave();
    room.update("alice", &proposals(&[leave])).await;
    found(&room.providers, "C", HALL, &pair, &users).await.unwrap();
}
