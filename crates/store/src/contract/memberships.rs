//! Who is in which room.

use nabe_auth::lm::Membership;
use nabe_types::UserId;

use super::fixture::{RoomLog, at, checkpoint, commit, pdus, pos, server, user};
use crate::{MembershipAt, RoomMembership, Store, Write};

async fn history(store: &dyn Store, log: &RoomLog, user: &UserId) -> Vec<(i64, Membership)> {
    let steps = store.membership_history(log.id(), user).await.unwrap();
    steps
        .into_iter()
        .map(|MembershipAt { position, membership }| (position.0, membership))
        .collect()
}

/// A user's rooms with the membership as it is now.
pub async fn rooms_of_a_user(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let entries = vec![
        one.creation(),
        one.member("@bob:b.example", "invite"),
        one.member("@bob:b.example", "join"),
    ];
    commit(store, [one.create(), one.append(entries, at(5))]).await.unwrap();
    let entries = vec![
        two.creation(),
        two.member("@bob:b.example", "join"),
        two.member("@bob:b.example", "ban"),
    ];
    commit(
        store,
        [two.create(), two.append(entries, at(5)), RoomLog::hub("c").create()],
    )
    .await
    .unwrap();
    let expected = |log: &RoomLog, membership| RoomMembership {
        room: log.id().clone(),
        membership,
        position: pos(3),
    };
    assert_eq!(
        store.rooms_of(&user("@bob:b.example")).await.unwrap(),
        vec![expected(&one, Membership::Join), expected(&two, Membership::Ban)]
    );
    assert_eq!(store.rooms_of(&user("@carol:b.example")).await.unwrap(), vec![]);
}

/// Every step of a membership, over several commits, and through pruning.
pub async fn history_tells_every_step(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let bob = user("@bob:b.example");
    let entries = vec![
        log.creation(),
        log.member("@bob:b.example", "knock"),
        log.member("@bob:b.example", "invite"),
    ];
    let create = pdus(&entries[..1]);
    commit(store, [log.create(), log.append(entries, at(5))]).await.unwrap();
    let entries = vec![
        log.member("@bob:b.example", "join"),
        log.message("m"),
        log.member("@bob:b.example", "leave"),
    ];
    commit(store, [log.append(entries, at(5))]).await.unwrap();
    let steps = vec![
        (2, Membership::Knock),
        (3, Membership::Invite),
        (4, Membership::Join),
        (6, Membership::Leave),
    ];
    assert_eq!(history(store, &log, &bob).await, steps);
    assert_eq!(history(store, &log, &user("@carol:b.example")).await, vec![]);
    let kept = Write::PutCheckpoint {
        room: log.id().clone(),
        checkpoint: checkpoint(6, None, create),
    };
    commit(
        store,
        [
            kept,
            Write::Prune {
                room: log.id().clone(),
                below: pos(6),
            },
        ],
    )
    .await
    .unwrap();
    assert_eq!(history(store, &log, &bob).await, steps);
}

/// Backfill tells how it was, not how it is.
pub async fn prepended_history_does_not_change_the_present(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let bob = user("@bob:b.example");
    log.jump(-2);
    let old = vec![
        log.member("@bob:b.example", "ban"),
        log.member("@bob:b.example", "leave"),
    ];
    let join = log.member("@bob:b.example", "join");
    commit(
        store,
        [log.create_with(pdus(&old[1..]), vec![]), log.append(vec![join], at(5))],
    )
    .await
    .unwrap();
    assert_eq!(
        history(store, &log, &bob).await,
        vec![(0, Membership::Leave), (1, Membership::Join)]
    );
    commit(
        store,
        [Write::Prepend {
            room: log.id().clone(),
            expected_first: pos(1),
            entries: old,
        }],
    )
    .await
    .unwrap();
    let steps = vec![(-1, Membership::Ban), (0, Membership::Leave), (1, Membership::Join)];
    assert_eq!(history(store, &log, &bob).await, steps);
    assert_eq!(store.rooms_of(&bob).await.unwrap()[0].membership, Membership::Join);
}

/// A new snapshot is the whole truth about who is there.
pub async fn rebase_forgets_who_is_gone(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let (bob, carol, dave) = (
        user("@bob:b.example"),
        user("@carol:c.example"),
        user("@dave:d.example"),
    );
    let entries = vec![
        log.member("@bob:b.example", "join"),
        log.member("@carol:c.example", "join"),
        log.member("@bob:b.example", "leave"),
    ];
    commit(store, [log.create_with(vec![], vec![]), log.append(entries, at(5))])
        .await
        .unwrap();
    let mut elsewhere = log.clone();
    let state = pdus([&elsewhere.member("@dave:d.example", "invite")]);
    let rebase = Write::Rebase {
        room: log.id().clone(),
        expected: pos(3),
        checkpoint: checkpoint(4, None, state),
        outliers: vec![],
    };
    commit(store, [rebase]).await.unwrap();
    assert_eq!(
        history(store, &log, &carol).await,
        vec![(2, Membership::Join), (4, Membership::Leave)]
    );
    assert_eq!(history(store, &log, &dave).await, vec![(4, Membership::Invite)]);
    assert_eq!(
        history(store, &log, &bob).await,
        vec![(1, Membership::Join), (3, Membership::Leave)]
    );
}

/// Servers of users joined now, in rooms the user is joined to now.
pub async fn servers_sharing_rooms(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let entries = vec![
        one.creation(),
        one.member("@bob:b.example", "join"),
        one.member("@carol:c.example", "join"),
        one.member("@cora:c.example", "join"),
        one.member("@dave:d.example", "join"),
        one.member("@dave:d.example", "leave"),
        one.member("@erin:e.example", "invite"),
    ];
    commit(store, [one.create(), one.append(entries, at(5))]).await.unwrap();
    let entries = vec![
        two.creation(),
        two.member("@bob:b.example", "join"),
        two.member("@frank:f.example", "join"),
        two.member("@bob:b.example", "leave"),
    ];
    commit(store, [two.create(), two.append(entries, at(5))]).await.unwrap();
    let sharing = store.servers_sharing_rooms_with(&user("@bob:b.example")).await.unwrap();
    assert_eq!(sharing, vec![server("b.example"), server("c.example")]);
    assert!(
        store
            .servers_sharing_rooms_with(&user("@dave:d.example"))
            .await
            .unwrap()
            .is_empty()
    );
}

/// Users of one server that are joined to a room of the user's, each once; those who left or were only invited are not.
pub async fn users_sharing_rooms(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let entries = vec![
        one.creation(),
        one.member("@bob:b.example", "join"),
        one.member("@cora:c.example", "join"),
        one.member("@carol:c.example", "join"),
        one.member("@cain:c.example", "invite"),
        one.member("@dave:d.example", "join"),
    ];
    commit(store, [one.create(), one.append(entries, at(5))]).await.unwrap();
    let entries = vec![
        two.creation(),
        two.member("@bob:b.example", "join"),
        two.member("@cora:c.example", "join"),
        two.member("@carol:c.example", "join"),
        two.member("@cain:c.example", "join"),
        two.member("@cain:c.example", "leave"),
    ];
    commit(store, [two.create(), two.append(entries, at(5))]).await.unwrap();
    let sharing = async |of: &str, name: &str| store.users_sharing_rooms_with(&user(of), &server(name)).await.unwrap();
    let expected = [user("@carol:c.example"), user("@cora:c.example")];
    assert_eq!(sharing("@bob:b.example", "c.example").await, expected);
    assert_eq!(sharing("@bob:b.example", "b.example").await, [user("@bob:b.example")]);
    assert!(sharing("@bob:b.example", "e.example").await.is_empty());
    assert!(sharing("@cain:c.example", "c.example").await.is_empty());
}
