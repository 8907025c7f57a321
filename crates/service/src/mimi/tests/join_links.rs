//! Join links end, and some are for one user (MRP #join-link).

use std::time::Duration;

use nabe_wire::group_info::{GroupInfoCode, GroupInfoRatchetTreeTbe, GroupInfoRequest};
use nabe_wire::policy::{Capability, JoinLink, JoinLinkPolicy, JoinLinksData, JoinLinksUpdate, Role, RoleData};
use nabe_wire::update::UpdateResponseCode;

use super::*;
use crate::mimi::testing::BACKENDS;

const LINK: &str = "https://a.example/join/me";
const OTHER_LINK: &str = "https://a.example/join/us";
const HOUR: Duration = Duration::from_secs(3_600);

fn link(link: &str) -> JoinLink {
    JoinLink {
        join_link: link.as_bytes().into(),
    }
}

fn terms(multiuser: bool, expiration: Duration) -> Vec<u8> {
    JoinLinkPolicy {
        on_request: false,
        join_link: nabe_wire::uri::Uri::default(),
        multiuser,
        expiration: u32::try_from(expiration.as_secs()).unwrap(),
    }
    .to_bytes()
}

/// Alice, alone, in a room that is joined by a link with these terms.
async fn room_with_link(backend: Backend, terms: Option<Vec<u8>>) -> Room {
    Room::on(backend, |draft| {
        let list = ParticipantListData { participants: vec![] };
        let dictionary = templates::strict("a.example").dictionary(&list);
        let roles = dictionary.data(ComponentId::ROLES_LIST).unwrap();
        let mut roles = RoleData::from_bytes(roles).unwrap();
        let is_alices = |role: &&mut Role| role.role_index == templates::SUPER_ADMIN;
        let role = roles.roles.iter_mut().find(is_alices).unwrap();
        role.role_capabilities
            .push(Capability::CAN_CHANGE_OTHER_POLICY_ATTRIBUTE);
        draft.set(ComponentId::ROLES_LIST, roles.to_bytes());
        let links = JoinLinksData {
            join_links: vec![link(LINK)],
        };
        draft.set(ComponentId::JOIN_LINKS, links.to_bytes());
        if let Some(terms) = terms {
            draft.set(ComponentId::JOIN_LINK_POLICY, terms);
        }
    })
    .await
}

/// A client on its way in.
struct Joiner {
    name: &'static str,
    device: MimiDevice,
}

impl Joiner {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            device: MimiDevice::new(&format!("mimi://d.example/d/{name}/D")),
        }
    }

    /// Asks for the GroupInfo with a link.
    async fn ask(&self, room: &Room, link: &str) -> Result<GroupInfoRatchetTreeTbe, GroupInfoCode> {
        let (query, private_key) = group_info_query_with(&self.device, Some(link.as_bytes()));
        let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
        let mimi = room.providers.mimi("d");
        let answer = mimi.forward_group_info(&user_of(self.name), &room.uri, &request).await;
        let answer = answer.unwrap();
        match answer.outcome.code() {
            GroupInfoCode::SUCCESS => Ok(open_group_info(answer, &private_key)),
            code => Err(code),
        }
    }

    /// Joins with what it was given.
    async fn join(self, room: &mut Room, opened: &GroupInfoRatchetTreeTbe) -> UpdateResponseCode {
        let comes = [add_participants(&[(&user_of(self.name).to_string(), 2)])];
        let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
        let (member, bundle) = self.device.join_externally_with(info, tree, &[], &comes);
        let code = room.update(self.name, &bundle.to_request()).await.code();
        if code == UpdateResponseCode::SUCCESS {
            let mut client = Client::new(member, 0);
            client.own.insert(bundle.commit.as_bytes().to_vec());
            client.member.merge();
            room.clients.insert(self.name, client);
        }
        code
    }
}

#[tokio::test]
async fn nobody_joins_by_a_link_that_has_expired() {
    let mut room = room_with_link(Backend::Memory, Some(terms(true, HOUR))).await;
    room.providers.clock.advance(HOUR - Duration::from_millis(1));
    let (dave, doris) = (Joiner::new("dave"), Joiner::new("doris"));
    let opened = dave.ask(&room, LINK).await.unwrap();
    doris.ask(&room, LINK).await.unwrap();
    assert_eq!(dave.join(&mut room, &opened).await, UpdateResponseCode::SUCCESS);
    room.all_catch_up().await;
    let opened = doris.ask(&room, LINK).await.unwrap();
    room.providers.clock.advance(Duration::from_millis(1));
    assert_eq!(doris.ask(&room, LINK).await.err(), Some(GroupInfoCode::NOT_AUTHORIZED));
    assert_eq!(doris.join(&mut room, &opened).await, UpdateResponseCode::NOT_ALLOWED);
}

#[tokio::test]
async fn a_link_is_good_for_as_long_as_was_said_when_it_was_added() {
    let mut room = room_with_link(Backend::Memory, Some(terms(true, HOUR))).await;
    room.providers.clock.advance(HOUR / 2);
    let added = JoinLinksUpdate {
        removed_indices: Vec::new(),
        added_links: vec![link(OTHER_LINK)],
    };
    let changes = [
        set_component(ComponentId::JOIN_LINKS, added.to_bytes()),
        set_component(ComponentId::JOIN_LINK_POLICY, terms(true, HOUR * 9)),
    ];
    for update in changes {
        let bundle = room.member("alice").commit(Change {
            updates: vec![update],
            ..Change::default()
        });
        room.commit("alice", &bundle).await;
    }
    let dave = Joiner::new("dave");
    room.providers.clock.advance(HOUR / 2);
    assert_eq!(dave.ask(&room, LINK).await.err(), Some(GroupInfoCode::NOT_AUTHORIZED));
    dave.ask(&room, OTHER_LINK).await.unwrap();
    room.providers.clock.advance(HOUR / 2);
    assert_eq!(
        dave.ask(&room, OTHER_LINK).await.err(),
        Some(GroupInfoCode::NOT_AUTHORIZED)
    );
}

#[tokio::test]
async fn a_link_that_is_for_one_user_is_used_by_one_user_even_if_the_hub_restarts() {
    for backend in BACKENDS {
        let mut room = room_with_link(backend, Some(terms(false, Duration::ZERO))).await;
        let [dave, doris] = ["dave", "doris"].map(Joiner::new);
        let opened = dave.ask(&room, LINK).await.unwrap();
        doris.ask(&room, LINK).await.unwrap();
        assert_eq!(dave.join(&mut room, &opened).await, UpdateResponseCode::SUCCESS);
        room.providers.crash("a").await;
        assert_eq!(doris.ask(&room, LINK).await.err(), Some(GroupInfoCode::NOT_AUTHORIZED));
        // That she showed it while it was good is remembered, and is no use.
        let opened = {
            let mimi = room.providers.mimi("a");
            let open = mimi.open(&room.uri).await.unwrap().unwrap();
            let group = open.room().group();
            (group.group_info(), group.ratchet_tree())
        };
        let comes = [add_participants(&[("mimi://d.example/u/doris", 2)])];
        let (_, bundle) = doris
            .device
            .join_externally_with(opened.0.as_bytes(), &opened.1, &[], &comes);
        let refused = room.update("doris", &bundle.to_request()).await;
        assert_eq!(refused.code(), UpdateResponseCode::NOT_ALLOWED, "{refused:?}");
    }
}

/// It was used, and yet it is not used up.
#[tokio::test]
async fn a_link_for_several_users_is_used_by_several_and_so_is_one_without_terms() {
    for terms in [Some(terms(true, Duration::ZERO)), None] {
        let mut room = room_with_link(Backend::Memory, terms).await;
        for name in ["dave", "doris"] {
            let joiner = Joiner::new(name);
            let opened = joiner.ask(&room, LINK).await.unwrap();
            assert_eq!(joiner.join(&mut room, &opened).await, UpdateResponseCode::SUCCESS);
        }
    }
}
