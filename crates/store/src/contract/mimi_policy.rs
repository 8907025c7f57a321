//! What the policy of MIMI's rooms asks of their hub.

use bytes::Bytes;
use nabe_core::mimi::MimiUri;

use super::fixture::{at, commit};
use crate::{JoinLinkTerms, MimiWrite, PolicyWrite, Store, StoreError, Write};

fn room(name: &str) -> MimiUri {
    MimiUri::parse(&format!("mimi://hub.example/r/{name}")).unwrap()
}

fn user(name: &str) -> MimiUri {
    MimiUri::parse(&format!("mimi://b.example/u/{name}")).unwrap()
}

async fn found(store: &dyn Store, rooms: &[&str]) {
    let founded = rooms.iter().map(|name| {
        Write::Mimi(MimiWrite::Found {
            room: room(name),
            now: at(1),
        })
    });
    commit(store, founded).await.unwrap();
}

async fn put(store: &dyn Store, writes: impl IntoIterator<Item = PolicyWrite>) -> Result<(), StoreError> {
    let writes = writes.into_iter().map(|write| Write::Mimi(MimiWrite::Policy(write)));
    commit(store, writes).await
}

/// Each with the terms that it came with, and with whoever used it first.
pub async fn join_links_keep_their_terms(store: &dyn Store) {
    found(store, &["a", "b"]).await;
    let terms = |link: &'static str, expires_at: Option<u64>, multiuser| JoinLinkTerms {
        link: Bytes::from_static(link.as_bytes()),
        expires_at: expires_at.map(at),
        multiuser,
        used_by: None,
    };
    let change = |added: Vec<JoinLinkTerms>, removed: &[&'static str]| PolicyWrite::ChangeJoinLinks {
        room: room("a"),
        added,
        removed: removed.iter().map(|link| Bytes::from_static(link.as_bytes())).collect(),
    };
    let used = |link: &'static str, by: &str| PolicyWrite::UseJoinLink {
        room: room("a"),
        link: Bytes::from_static(link.as_bytes()),
        user: user(by),
    };
    let kept = |link: &'static str| async move { store.join_link(&room("a"), link.as_bytes()).await.unwrap() };
    let [one, two] = [terms("one", Some(10), false), terms("two", None, true)];
    put(store, [change(vec![one.clone(), two.clone()], &["none"])])
        .await
        .unwrap();
    put(store, [change(vec![terms("one", None, true)], &[])]).await.unwrap();
    assert_eq!((kept("one").await, kept("two").await), (Some(one.clone()), Some(two)));
    assert_eq!(store.join_link(&room("b"), b"one").await.unwrap(), None);
    put(store, [used("one", "bob"), used("one", "ben"), used("none", "bob")])
        .await
        .unwrap();
    let by_bob = JoinLinkTerms {
        used_by: Some(user("bob")),
        ..one.clone()
    };
    assert_eq!(kept("one").await, Some(by_bob));
    put(store, [change(vec![one.clone()], &["one", "two"])]).await.unwrap();
    assert_eq!(
        (kept("one").await, kept("two").await),
        (Some(one), None),
        "it went and came again"
    );
    let elsewhere = PolicyWrite::ChangeJoinLinks {
        room: room("none"),
        added: Vec::new(),
        removed: Vec::new(),
    };
    let refused = put(store, [elsewhere]).await;
    assert_eq!(refused, Err(StoreError::UnknownMimiRoom { room: room("none") }));
}

/// Of those that have it at the same time.
pub async fn one_room_has_fixed_members(store: &dyn Store) {
    found(store, &["a", "b"]).await;
    let set = |name: &str, members_sha256: Option<u8>| PolicyWrite::SetFixedMembers {
        room: room(name),
        members_sha256: members_sha256.map(|byte| [byte; 32]),
    };
    let taken = |by: &str| Err(StoreError::FixedMembersTaken { room: room(by) });
    put(store, [set("a", Some(1)), set("a", Some(1)), set("b", Some(2))])
        .await
        .unwrap();
    assert_eq!(put(store, [set("b", Some(1))]).await, taken("a"));
    assert_eq!(put(store, [set("a", Some(2))]).await, taken("b"), "it is as it was");
    put(store, [set("a", None), set("b", Some(1))]).await.unwrap();
    assert_eq!(put(store, [set("a", Some(1))]).await, taken("b"));
    put(store, [set("a", Some(2))]).await.unwrap();
}

/// They are due from when their parent is marked until it is done.
pub async fn child_rooms_are_due(store: &dyn Store) {
    found(store, &["a", "b", "c", "d"]).await;
    let parent = |name: &str, parent: Option<&str>| PolicyWrite::SetParent {
        room: room(name),
        parent: parent.map(room),
    };
    let mark = |parent: &str| PolicyWrite::MarkChildrenDue { parent: room(parent) };
    let done = |name: &str| PolicyWrite::ChildIsDone { room: room(name) };
    let due = |limit| async move { store.due_child_rooms(None, limit).await.unwrap() };
    put(
        store,
        [parent("c", Some("a")), parent("b", Some("a")), parent("d", Some("b"))],
    )
    .await
    .unwrap();
    assert_eq!(due(10).await, ["b", "c", "d"].map(room), "nobody has looked yet");
    put(store, ["b", "c", "d"].map(done)).await.unwrap();
    assert_eq!(due(10).await, []);
    put(store, [mark("a"), parent("b", Some("a"))]).await.unwrap();
    assert_eq!(due(10).await, [room("b"), room("c")]);
    assert_eq!(due(1).await, [room("b")]);
    let behind = store.due_child_rooms(Some(&room("b")), 9).await;
    assert_eq!(behind.unwrap(), [room("c")]);
    put(store, [done("b"), done("a")]).await.unwrap();
    assert_eq!(due(10).await, [room("c")]);
    put(store, [parent("c", Some("b"))]).await.unwrap();
    assert_eq!(due(10).await, [room("c")], "another parent, which nobody has looked at");
    put(store, [done("c"), parent("c", Some("b"))]).await.unwrap();
    assert_eq!(due(10).await, [], "it is the same");
    put(store, [mark("b"), parent("d", None)]).await.unwrap();
    assert_eq!(due(10).await, [room("c")]);
    // Nothing that was founded by this version has to be noted.
    assert_eq!(store.rooms_to_note(None, 9).await.unwrap(), []);
    put(store, [PolicyWrite::Noted { room: room("a") }]).await.unwrap();
}
