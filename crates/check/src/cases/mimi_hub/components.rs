//! Cases 43 to 48: what the room says of itself, and who may change it (MRP #caps, MLSX #appdataupdate).

use nabe_mls::testing::mimi::{
    Change, add_participants, change_participants, metadata, remove_component, set_component,
};
use nabe_wire::mls::{ComponentId, Proposal};
use nabe_wire::policy::{Capability, JoinLink, JoinLinksData, JoinLinksUpdate, RoleData};
use nabe_wire::room_metadata::{RichDescription, RoomMetaData};
use nabe_wire::{Encode as _, Message as _};

use crate::case::{Case, Checked, Peers, Suite};
use crate::context::Ctx;
use crate::mimi::policy::{ORDINARY, READER, SUPER, role};
use crate::mimi::room::{At, INVALID, MimiRoom, NOT_ALLOWED, updates};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-43",
        title: "definitions of roles",
        suite: Suite::MimiHub,
        requirements: &[
            "MRP-roles-update-alone",
            "MRP-disruptive-roles",
            "MRP-roles-update-form",
        ],
        sent: "new definitions together with a change of the list, alone, and alone by who may not",
        expected: "notAllowed; success; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(role_definitions),
    },
    Case {
        id: "mimi-44",
        title: "changes of preauthorization",
        suite: Suite::MimiHub,
        requirements: &["MRP-preauth-update-removals", "MRP-disruptive-preauth"],
        sent: "a new preauthorization together with adding a user, and together with removing one",
        expected: "notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(preauthorization),
    },
    Case {
        id: "mimi-45",
        title: "metadata by capabilities",
        suite: Suite::MimiHub,
        requirements: &["MRP-metadata-fields", "MIMI-meta-replaces"],
        sent: "a new name by who may, by who may not, and a new description by who may only name",
        expected: "success; notAllowed; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(metadata_fields),
    },
    Case {
        id: "mimi-46",
        title: "metadata twice",
        suite: Suite::MimiHub,
        requirements: &["MIMI-meta-once-per-commit"],
        sent: "a commit with two updates of the metadata, whose GroupInfo has the first, and one that has the second; one with one",
        expected: "invalidProposal or notAllowed; success",
        peers: Peers::Mimi(1),
        run: run!(metadata_twice),
    },
    Case {
        id: "mimi-47",
        title: "removing components",
        suite: Suite::MimiHub,
        requirements: &["MLSX-update-one-remove-or-updates", "MLSX-update-remove-absent"],
        sent: "commits that remove a component that is not there, that update and remove one in either order, that remove one twice, and that \
               remove one; all but for that without fault",
        expected: "invalidProposal or notAllowed; success of the last",
        peers: Peers::Mimi(1),
        run: run!(remove_components),
    },
    Case {
        id: "mimi-48",
        title: "the dictionary by another way",
        suite: Suite::MimiHub,
        requirements: &["MLSX-update-not-by-extensions"],
        sent: "a commit that changes the room's name by GroupContextExtensions, with a GroupInfo that has the new one, and with one that has \
               the old one; the same by an update of the component, by the same user",
        expected: "invalidProposal or notAllowed; success",
        peers: Peers::Mimi(1),
        run: run!(dictionary_by_extensions),
    },
];

async fn role_definitions(ctx: &Ctx) -> Checked {
    let mut roles = RoleData { roles: Vec::new() };
    let mut room = MimiRoom::of_three_with(ctx, |plan| roles.clone_from(&plan.policy.roles)).await?;
    roles
        .roles
        .push(role(7, "visitor", &[Capability::CAN_RECEIVE_MESSAGE], &[]));
    let update = || set_component(ComponentId::ROLES_LIST, roles.to_bytes());
    let dave = room.user(At::Peer(1), "dave");
    let both = updates(vec![update(), add_participants(&[(&dave, ORDINARY)])]);
    room.refused("alice", "together with a change of the list", both, &[NOT_ALLOWED])
        .await?;
    room.refused("bob", "by who may not", updates(vec![update()]), &[NOT_ALLOWED])
        .await?;
    room.accepted("alice", "alone", updates(vec![update()])).await.map(drop)
}

async fn preauthorization(ctx: &Ctx) -> Checked {
    let mut policy = None;
    let mut room = MimiRoom::of_three_with(ctx, |plan| policy = Some(plan.policy.clone())).await?;
    let mut policy = policy.expect("the room was made by it");
    policy.preauthorize("user", &room.user(At::Peer(1), "doris"), ORDINARY);
    let update = || set_component(ComponentId::PREAUTH_LIST, policy.preauth.to_bytes());
    let dave = room.user(At::Peer(1), "dave");
    let both = updates(vec![update(), add_participants(&[(&dave, ORDINARY)])]);
    room.refused("alice", "together with adding", both, &[NOT_ALLOWED])
        .await?;
    let with_removal = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![update(), change_participants(&[], &[1], &[])],
        ..Change::default()
    };
    room.accepted("alice", "together with removing", with_removal)
        .await
        .map(drop)
}

async fn metadata_fields(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    room.add("alice", "reader", At::Peer(1), READER).await?;
    let rename = |room: &MimiRoom<'_>, name: &str| {
        updates(vec![set_component(
            ComponentId::ROOM_METADATA,
            metadata(&room.uri, name),
        )])
    };
    let change = rename(&room, "Reading room");
    room.refused("reader", "a name by who may not", change, &[NOT_ALLOWED])
        .await?;
    let mut described = RoomMetaData::from_bytes(&metadata(&room.uri, "Clubhouse")).expect("it was just written");
    described.room_descriptions.push(RichDescription {
        media_type: "".into(),
        language_tag: "".into(),
        description_content: b"Where we meet"[..].into(),
    });
    let change = updates(vec![set_component(ComponentId::ROOM_METADATA, described.to_bytes())]);
    room.refused("bob", "a description by who may only name", change, &[NOT_ALLOWED])
        .await?;
    let change = rename(&room, "Cellar");
    room.accepted("bob", "a name by who may", change).await.map(drop)
}

async fn metadata_twice(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let names = ["Cellar", "Attic"].map(|name| metadata(&room.uri, name));
    let updates = names
        .each_ref()
        .map(|data| set_component(ComponentId::ROOM_METADATA, data.clone()));
    let [first, second] = names.map(|data| (ComponentId::ROOM_METADATA, Some(data)));
    let codes = [INVALID, NOT_ALLOWED];
    room.refuses_updates("alice", "metadata twice", &updates, &[first.clone(), second], &codes)
        .await?;
    let [once, _] = updates;
    room.takes_update("alice", "metadata once", once, &first).await
}

async fn remove_components(ctx: &Ctx) -> Checked {
    let (links, codes) = (ComponentId::JOIN_LINKS, [INVALID, NOT_ALLOWED]);
    let mut room = MimiRoom::create(ctx).await?;
    let (what, absent) = ("a component that is not there", [remove_component(links)]);
    room.refuses_updates("alice", what, &absent, &[(links, None)], &codes)
        .await?;
    let data = |links: &[&str]| JoinLinksData {
        join_links: links.iter().map(|link| a_link(ctx, link)).collect(),
    };
    let (both, one) = (data(&["first", "second"]).to_bytes(), data(&["second"]).to_bytes());
    let mut room = MimiRoom::create_with(ctx, |plan| plan.draft.set(links, both)).await?;
    let fewer = JoinLinksUpdate {
        removed_indices: vec![0],
        added_links: Vec::new(),
    };
    let update = set_component(links, fewer.to_bytes());
    let beliefs = [(links, None), (links, Some(one))];
    for (what, updates) in [
        ("updated and removed", [update.clone(), remove_component(links)]),
        ("removed and updated", [remove_component(links), update]),
        ("removed twice", [remove_component(links), remove_component(links)]),
    ] {
        room.refuses_updates("alice", what, &updates, &beliefs, &codes).await?;
    }
    room.takes_update("alice", "removed", remove_component(links), &(links, None))
        .await
}

fn a_link(ctx: &Ctx, name: &str) -> JoinLink {
    let link = format!("https://{}/join/{}-{name}", ctx.subject_domain(), ctx.tag());
    JoinLink {
        join_link: link.into_bytes().into(),
    }
}

async fn dictionary_by_extensions(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create_with(ctx, |plan| {
        let capabilities = &mut plan.policy.role(SUPER).role_capabilities;
        capabilities.push(Capability::CAN_CHANGE_MLS_OPERATIONAL_POLICIES);
    })
    .await?;
    let cellar = (ComponentId::ROOM_METADATA, Some(metadata(&room.uri, "Cellar")));
    let member = &room.client("alice").member;
    let extensions = member.extensions_with(std::slice::from_ref(&cellar));
    let proposal = Proposal::GroupContextExtensions(extensions.clone());
    let codes = [INVALID, NOT_ALLOWED];
    // To a hub that takes the extensions, and to one that leaves the dictionary as it was.
    for believed in [extensions, member.extensions_with(&[])] {
        let body = room.forged("alice", vec![proposal.clone()], believed);
        room.refuses("alice", "the dictionary by extensions", body, &codes, false)
            .await?;
    }
    let update = set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Cellar"));
    room.takes_update("alice", "the same by an update", update, &cellar)
        .await
}
