//! What becomes of what is kept of MIMI for a local user who is deleted.

use bytes::Bytes;

use super::fixture::{at, pos, server};
use super::mimi_users::{ALICE, BOB, PHONE, ROOM, deliver, package, put, read_by, uri};
use crate::{
    ConsentDecision, ConsentScope, ConsentState, GrantedKeyPackage, KeyPackageKept, MimiUserWrite, ProfileEntry,
    ProfileFieldName, Searchable, Store,
};

const BOBBY: &str = "mimi://b.example/u/bobby";
const PHONE_OF_BOBBY: &str = "mimi://b.example/d/bobby/phone";

fn granted(requester: &str, target: &str, name: &str) -> MimiUserWrite {
    MimiUserWrite::DecideConsent {
        scope: scope(requester, target),
        decision: ConsentDecision::Granted,
        key_packages: vec![GrantedKeyPackage {
            reference: Bytes::copy_from_slice(name.as_bytes()),
            client: uri("mimi://a.example/d/x/y"),
            body: Bytes::from_static(b"body"),
            not_after: at(90),
        }],
        from: None,
        now: at(5),
    }
}

fn scope(requester: &str, target: &str) -> ConsentScope {
    ConsentScope {
        requester: uri(requester),
        target: uri(target),
        room: None,
    }
}

fn profile(user: &str) -> MimiUserWrite {
    let entry = ProfileEntry {
        name: ProfileFieldName::Nick,
        value: format!("nick of {user}"),
        searchable: Searchable::Exactly,
        shown: true,
    };
    MimiUserWrite::PutProfile {
        user: uri(user),
        entries: vec![entry],
        instead_of: None,
    }
}

/// Their clients, profile and consent in both directions are gone, and they read nothing that comes; of others all is there.
pub async fn nothing_is_kept_for_a_user_who_is_deleted(store: &dyn Store) {
    for (user, client) in [(BOB, PHONE), (BOBBY, PHONE_OF_BOBBY)] {
        let packages = [package(client, 1, 50)];
        let kept = store
            .add_mimi_key_packages(&uri(user), &uri(client), &packages, at(1))
            .await;
        assert_eq!(kept.unwrap(), [KeyPackageKept::Kept]);
    }
    put(
        store,
        [
            read_by(deliver(ROOM, &["one"], None, 5), &[(BOB, 0), (BOBBY, 0)]),
            profile(BOB),
            profile(BOBBY),
            granted(ALICE, BOB, "to Alice"),
            granted(BOB, ALICE, "to Bob"),
            granted(BOBBY, ALICE, "to Bobby"),
            MimiUserWrite::RequestConsent {
                scope: scope("mimi://c.example/u/cathy", BOB),
                from: Some(server("c.example")),
                now: at(5),
            },
            MimiUserWrite::RemoveUser { user: uri(BOB) },
            deliver(ROOM, &["two"], None, 6),
        ],
    )
    .await;
    let clients = |user| async move { store.mimi_clients(&uri(user)).await.unwrap() };
    assert_eq!(
        (clients(BOB).await, clients(BOBBY).await),
        (vec![], vec![uri(PHONE_OF_BOBBY)])
    );
    let offers = |user| async move { store.mimi_key_package_offers(&uri(user), at(10)).await.unwrap().len() };
    assert_eq!((offers(BOB).await, offers(BOBBY).await), (0, 1));
    let named = |user| async move { store.profile(&uri(user)).await.unwrap().len() };
    assert_eq!((named(BOB).await, named(BOBBY).await), (0, 1));
    let found = store.users_by_value(&format!("nick of {BOB}"), 9).await;
    assert_eq!(found.unwrap(), []);
    assert_eq!(store.consents_of(&uri(BOB), 0, 9).await.unwrap(), []);
    for scope in [scope(ALICE, BOB), scope(BOB, ALICE)] {
        assert_eq!(store.consent(&scope).await.unwrap(), ConsentState::default());
        assert_eq!(store.granted_key_packages(&scope, at(10)).await.unwrap(), []);
    }
    let of_bobby = store.granted_key_packages(&scope(BOBBY, ALICE), at(10)).await;
    assert_eq!(of_bobby.unwrap().len(), 1);
    let until = |user| async move { store.rooms_readable_by(&uri(user)).await.unwrap()[0].until };
    assert_eq!((until(BOB).await, until(BOBBY).await), (Some(pos(1)), None));
    // Once more there is nothing to do.
    put(store, [MimiUserWrite::RemoveUser { user: uri(BOB) }]).await;
    assert_eq!(until(BOB).await, Some(pos(1)));
}
