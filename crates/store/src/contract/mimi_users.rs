//! What is kept of MIMI for local users.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use nabe_core::mimi::MimiUri;
use nabe_types::{LogPosition, UnixMillis};

use super::fixture::{at, commit, pos, server};
use crate::rules::{MAX_GRANTED_KEY_PACKAGES, MAX_HEARD_CONSENTS, MAX_KEY_PACKAGES, MAX_SPENT_KEY_PACKAGES};
use crate::{
    ConsentDecision, ConsentScope, ConsentState, GrantedKeyPackage, IssuedKeyPackage, KeptConsent, KeyPackageKept,
    KeyPackageUse, LocalMessage, LocalRoom, MimiKeyPackage, MimiKeyPackageClaim, MimiKeyPackageOffer, MimiUserWrite,
    MimiWrite, NewLocalMessage, ProfileEntry, ProfileFieldName, ReadableRoom, Searchable, ShownJoinCode, Store,
    StoreError, Write,
};

pub(super) const ALICE: &str = "mimi://a.example/u/alice";
pub(super) const BOB: &str = "mimi://b.example/u/bob";
pub(super) const PHONE: &str = "mimi://b.example/d/bob/phone";
pub(super) const ROOM: &str = "mimi://hub.example/r/a";

pub(super) fn uri(text: &str) -> MimiUri {
    MimiUri::parse(text).unwrap()
}

pub(super) async fn put(store: &dyn Store, writes: impl IntoIterator<Item = MimiUserWrite>) {
    let writes = writes.into_iter().map(|write| Write::Mimi(MimiWrite::User(write)));
    commit(store, writes).await.unwrap();
}

fn message(body: &'static str) -> NewLocalMessage {
    NewLocalMessage {
        accepted: at(3),
        body: Bytes::from_static(body.as_bytes()),
        marks: Vec::new(),
        withheld_from: Vec::new(),
    }
}

pub(super) fn deliver(room: &str, messages: &[&'static str], once: Option<u8>, now: u64) -> MimiUserWrite {
    MimiUserWrite::Deliver {
        room: uri(room),
        hub: server("hub.example"),
        messages: messages.iter().map(|body| message(body)).collect(),
        readers: Vec::new(),
        leavers: Vec::new(),
        once: once.map(|byte| [byte; 32]),
        now: at(now),
    }
}

pub(super) fn read_by(mut write: MimiUserWrite, users: &[(&str, usize)]) -> MimiUserWrite {
    if let MimiUserWrite::Deliver { readers, .. } = &mut write {
        *readers = users.iter().map(|(user, first)| (uri(user), *first)).collect();
    }
    write
}

async fn bodies(store: &dyn Store, room: &str, after: i64, limit: usize, max_bytes: usize) -> Vec<Bytes> {
    let found = store.local_messages(&uri(room), pos(after), limit, max_bytes).await;
    found.unwrap().into_iter().map(|message| message.body).collect()
}

/// In order, each room for itself, within bounds of number and bytes but never less than one.
pub async fn messages_for_local_users_come_in_order(store: &dyn Store) {
    assert_eq!(store.local_room(&uri(ROOM)).await.unwrap(), None);
    put(store, [deliver(ROOM, &["one", "two"], Some(1), 5)]).await;
    put(store, [deliver("mimi://hub.example/r/b", &["other"], None, 6)]).await;
    put(store, [deliver(ROOM, &["three"], None, 7)]).await;
    let room = LocalRoom {
        room: uri(ROOM),
        hub: server("hub.example"),
        head: pos(3),
    };
    assert_eq!(store.local_room(&uri(ROOM)).await.unwrap(), Some(room));
    let first = store
        .local_messages(&uri(ROOM), LogPosition::ZERO, 1, 100)
        .await
        .unwrap();
    let expected = LocalMessage {
        position: pos(1),
        accepted: at(3),
        received: at(5),
        body: Bytes::from_static(b"one"),
    };
    assert_eq!(first, [expected]);
    assert_eq!(bodies(store, ROOM, 0, 9, 100).await, ["one", "two", "three"]);
    assert_eq!(bodies(store, ROOM, 1, 9, 7).await, ["two"]);
    assert_eq!(bodies(store, ROOM, 1, 9, 8).await, ["two", "three"]);
    assert_eq!(bodies(store, ROOM, 2, 9, 0).await, ["three"]);
    assert_eq!(bodies(store, ROOM, 3, 9, 100).await, Vec::<Bytes>::new());
    assert_eq!(bodies(store, ROOM, 0, 2, 100).await, ["one", "two"]);
}

/// By hub, room and hash, until it is forgotten that it came.
pub async fn same_body_is_delivered_once(store: &dyn Store) {
    let hub = server("hub.example");
    let was_delivered = |byte: u8| {
        let hub = hub.clone();
        async move { store.was_delivered(&hub, &uri(ROOM), &[byte; 32]).await.unwrap() }
    };
    assert!(!was_delivered(1).await);
    put(store, [deliver(ROOM, &["one"], Some(1), 5)]).await;
    assert!(was_delivered(1).await);
    assert!(!was_delivered(2).await);
    let again = read_by(deliver(ROOM, &["again"], Some(1), 9), &[(BOB, 0)]);
    let other_room = deliver("mimi://hub.example/r/b", &["other"], Some(1), 9);
    put(store, [again, other_room, deliver(ROOM, &["two"], Some(2), 9)]).await;
    assert_eq!(bodies(store, ROOM, 0, 9, 100).await, ["one", "two"]);
    assert_eq!(bodies(store, "mimi://hub.example/r/b", 0, 9, 100).await, ["other"]);
    assert_eq!(store.rooms_readable_by(&uri(BOB)).await.unwrap(), []);
    put(store, [MimiUserWrite::ForgetDelivered { before: at(6) }]).await;
    assert_eq!((was_delivered(1).await, was_delivered(2).await), (false, true));
}

/// From the message on that was named first, whatever comes later.
pub async fn local_users_read_rooms_from_where_they_came_in(store: &dyn Store) {
    let write = [
        deliver(ROOM, &["one"], None, 5),
        read_by(deliver(ROOM, &["two", "three"], None, 5), &[(BOB, 1)]),
        read_by(deliver(ROOM, &["four"], None, 5), &[(BOB, 0), (ALICE, 0)]),
        read_by(deliver("mimi://hub.example/r/B", &["one"], None, 5), &[(BOB, 0)]),
    ];
    put(store, write).await;
    let readable = |room: &str, head, from| ReadableRoom {
        room: LocalRoom {
            room: uri(room),
            hub: server("hub.example"),
            head: pos(head),
        },
        from: pos(from),
        until: None,
    };
    let of_bob = store.rooms_readable_by(&uri(BOB)).await.unwrap();
    assert_eq!(of_bob, [readable("mimi://hub.example/r/B", 1, 1), readable(ROOM, 4, 3)]);
    let of_alice = store.readable_room(&uri(ALICE), &uri(ROOM)).await.unwrap();
    assert_eq!(of_alice, Some(readable(ROOM, 4, 4)));
    let other = store
        .readable_room(&uri(ALICE), &uri("mimi://hub.example/r/B"))
        .await
        .unwrap();
    assert_eq!(other, None);
}

/// Unless it is another by then.
pub async fn a_profile_is_put_in_place_of_the_one_that_was_read(store: &dyn Store) {
    let profile = |value: &str| {
        vec![ProfileEntry {
            name: ProfileFieldName::Email,
            value: value.to_owned(),
            searchable: Searchable::Exactly,
            shown: false,
        }]
    };
    let replace = |old: Option<Vec<ProfileEntry>>, new| async move {
        let write = MimiUserWrite::PutProfile {
            user: uri(BOB),
            entries: new,
            instead_of: old,
        };
        commit(store, [Write::Mimi(MimiWrite::User(write))]).await
    };
    let changed = Err(StoreError::ProfileChanged { user: uri(BOB) });
    assert_eq!(replace(Some(profile("a")), profile("b")).await, changed);
    assert_eq!(replace(Some(Vec::new()), profile("a")).await, Ok(()));
    assert_eq!(replace(Some(Vec::new()), profile("b")).await, changed);
    assert_eq!(replace(Some(profile("a")), profile("b")).await, Ok(()));
    assert_eq!(store.profile(&uri(BOB)).await.unwrap(), profile("b"));
}

/// By room, user and key, until it expires.
pub async fn shown_join_codes_are_remembered(store: &dyn Store) {
    let code = |key: &'static [u8], code: &'static [u8], expires_at| ShownJoinCode {
        room: uri(ROOM),
        user: uri(BOB),
        signature_key: Bytes::from_static(key),
        code: Bytes::from_static(code),
        expires_at: at(expires_at),
    };
    let show = |shown| MimiUserWrite::ShowJoinCode { shown };
    let (first, second) = (code(b"1", b"second", 20), code(b"2", b"x", 10));
    put(
        store,
        [
            show(code(b"1", b"first", 90)),
            show(first.clone()),
            show(second.clone()),
        ],
    )
    .await;
    let shown = |user: &'static str, key: &'static [u8], now| async move {
        let found = store.shown_join_code(&uri(ROOM), &uri(user), key, at(now)).await;
        found.unwrap()
    };
    assert_eq!(shown(BOB, b"1", 19).await, Some(first.clone()));
    assert_eq!(shown(BOB, b"1", 20).await, None);
    assert_eq!(shown(ALICE, b"1", 5).await, None);
    assert_eq!(shown(BOB, b"2", 5).await, Some(second));
    put(store, [MimiUserWrite::ExpireJoinCodes { now: at(10) }]).await;
    assert_eq!(
        (shown(BOB, b"2", 5).await, shown(BOB, b"1", 5).await),
        (None, Some(first))
    );
}

pub(super) fn package(name: &str, suite: u16, not_after: u64) -> MimiKeyPackage {
    MimiKeyPackage {
        reference: Bytes::from(format!("ref {name}")),
        suite,
        capabilities: Bytes::from_static(b"some"),
        body: Bytes::from(format!("body {name}")),
        not_after: at(not_after),
        last_resort: false,
    }
}

fn last_resort(name: &str, suite: u16, not_after: u64) -> MimiKeyPackage {
    MimiKeyPackage {
        last_resort: true,
        ..package(name, suite, not_after)
    }
}

async fn add(store: &dyn Store, client: &str, packages: &[MimiKeyPackage]) -> Vec<KeyPackageKept> {
    store
        .add_mimi_key_packages(&uri(BOB), &uri(client), packages, at(10))
        .await
        .unwrap()
}

fn claim_of(client: &str, suites: &[u16], last_resort: bool) -> MimiKeyPackageClaim {
    MimiKeyPackageClaim {
        client: uri(client),
        kinds: suites
            .iter()
            .map(|suite| (*suite, Bytes::from_static(b"some")))
            .collect(),
        last_resort,
        for_use: use_in("hub.example", None),
    }
}

fn use_in(hub: &str, room: Option<&str>) -> KeyPackageUse {
    KeyPackageUse {
        hub: server(hub),
        room: room.map(uri),
    }
}

async fn claim(store: &dyn Store, claim: MimiKeyPackageClaim) -> Option<(Bytes, bool)> {
    let mut claimed = store.claim_mimi_key_packages(&[claim], at(10)).await.unwrap();
    let claimed = claimed.remove(0)?;
    let named = claimed.reference.strip_prefix(b"ref ").unwrap();
    assert_eq!(claimed.body.strip_prefix(b"body "), Some(named));
    Some((Bytes::copy_from_slice(named), claimed.last_resort))
}

/// What expires first goes first, of the first suite that has any; what is about to expire does not go at all.
pub async fn mimi_key_package_is_claimed_once(store: &dyn Store) {
    let packages = [
        package("late", 1, 90),
        package("soon", 1, 50),
        package("too soon", 1, 10),
        package("other suite", 2, 40),
    ];
    assert_eq!(add(store, PHONE, &packages[..2]).await, [KeyPackageKept::Kept; 2]);
    let before = store
        .add_mimi_key_packages(&uri(BOB), &uri(PHONE), &packages[2..], at(5))
        .await;
    assert_eq!(before.unwrap(), [KeyPackageKept::Kept; 2]);
    assert_eq!(
        claim(store, claim_of("mimi://b.example/d/bob/other", &[1], true)).await,
        None
    );
    let mut order = Vec::new();
    while let Some((name, false)) = claim(store, claim_of(PHONE, &[3, 1, 2], true)).await {
        order.push(name);
    }
    assert_eq!(order, ["soon", "late", "other suite"]);
    // Neither what is here nor what was is taken again.
    let again = add(store, PHONE, &packages).await;
    assert_eq!(again[..2], [KeyPackageKept::Spent; 2]);
    assert_eq!(again[3], KeyPackageKept::Spent);
    let mine = package("mine", 1, 90);
    let twice = add(store, PHONE, &[mine.clone(), mine]).await;
    assert_eq!(twice, [KeyPackageKept::Kept, KeyPackageKept::Known]);
    let references = ["ref soon", "ref mine", "ref ?"].map(Bytes::from);
    let issued = store
        .issued_key_packages(&references, &server("hub.example"), &uri(ROOM))
        .await;
    let soon = IssuedKeyPackage {
        reference: Bytes::from_static(b"ref soon"),
        user: uri(BOB),
        client: uri(PHONE),
    };
    assert_eq!(issued.unwrap(), [soon], "only what was handed out");
}

/// It comes last, and stays; with a new one the old one is forgotten but for Welcomes.
pub async fn last_resort_mimi_key_package_stays(store: &dyn Store) {
    let packages = [package("one", 1, 50), last_resort("last", 1, 50), package("two", 1, 60)];
    add(store, PHONE, &packages).await;
    let order = [
        (true, Some(("one", false))),
        (false, Some(("two", false))),
        (false, None),
        (true, Some(("last", true))),
        (true, Some(("last", true))),
    ];
    for (may_be_last, expected) in order {
        let expected = expected.map(|(name, last)| (Bytes::from(name), last));
        assert_eq!(claim(store, claim_of(PHONE, &[1], may_be_last)).await, expected);
    }
    add(store, PHONE, &[last_resort("newer", 1, 50), last_resort("of 2", 2, 50)]).await;
    let newest = claim(store, claim_of(PHONE, &[1], true)).await;
    assert_eq!(newest, Some((Bytes::from("newer"), true)));
    assert_eq!(add(store, PHONE, &packages[1..2]).await, [KeyPackageKept::Spent]);
    let references = ["ref last", "ref newer"].map(Bytes::from);
    let issued = store
        .issued_key_packages(&references, &server("hub.example"), &uri(ROOM))
        .await;
    assert_eq!(issued.unwrap().len(), 2);
}

/// A Welcome counts in the room that a key package was handed out for, and in no other; a last-resort one may be for several.
pub async fn mimi_key_package_is_issued_for_a_room(store: &dyn Store) {
    let other = "mimi://hub.example/r/other";
    add(
        store,
        PHONE,
        &[package("one", 1, 50), package("any", 1, 60), last_resort("last", 1, 90)],
    )
    .await;
    for (name, for_use) in [
        ("one", use_in("hub.example", Some(ROOM))),
        ("any", use_in("hub.example", None)),
        ("last", use_in("hub.example", Some(ROOM))),
        ("last", use_in("hub.example", Some(ROOM))),
        ("last", use_in("c.example", Some("mimi://c.example/r/x"))),
    ] {
        let claimed = MimiKeyPackageClaim {
            for_use,
            ..claim_of(PHONE, &[1], true)
        };
        assert_eq!(claim(store, claimed).await.unwrap().0, name);
    }
    let references = ["ref one", "ref any", "ref last"].map(Bytes::from);
    let issued = async |hub: &str, room: &str| {
        let issued = store.issued_key_packages(&references, &server(hub), &uri(room)).await;
        let mut names: Vec<_> = issued.unwrap().into_iter().map(|package| package.reference).collect();
        names.sort();
        names
    };
    assert_eq!(issued("hub.example", ROOM).await, ["ref any", "ref last", "ref one"]);
    assert_eq!(issued("hub.example", other).await, ["ref any"]);
    assert_eq!(issued("c.example", "mimi://c.example/r/x").await, ["ref last"]);
    assert_eq!(issued("e.example", "mimi://e.example/r/x").await, Vec::<Bytes>::new());
    let expire = MimiUserWrite::ExpireKeyPackages { now: at(60) };
    put(store, [expire]).await;
    assert_eq!(issued("hub.example", ROOM).await, ["ref last"]);
}

/// What is handed out for many rooms of one hub pushes out nothing that is for another, and what is handed out again is as new.
pub async fn what_is_issued_for_a_hub_pushes_out_its_own(store: &dyn Store) {
    add(store, PHONE, &[last_resort("last", 1, 90)]).await;
    let claims_for = |hub: &str, rooms: std::ops::Range<usize>| {
        let for_room = |number: usize| MimiKeyPackageClaim {
            for_use: use_in(hub, Some(&format!("mimi://{hub}/r/{number}"))),
            ..claim_of(PHONE, &[1], true)
        };
        rooms.map(for_room).collect::<Vec<_>>()
    };
    let hand_out = async |claims: Vec<MimiKeyPackageClaim>| {
        let claimed = store.claim_mimi_key_packages(&claims, at(10)).await.unwrap();
        assert!(claimed.iter().all(Option::is_some));
    };
    let knows = async |hub: &str, number: usize| {
        let references = [Bytes::from("ref last")];
        let room = uri(&format!("mimi://{hub}/r/{number}"));
        let issued = store.issued_key_packages(&references, &server(hub), &room).await;
        !issued.unwrap().is_empty()
    };
    hand_out(claims_for("a.example", 0..1)).await;
    hand_out(claims_for("m.example", 0..2)).await;
    hand_out(claims_for("m.example", 2..MAX_SPENT_KEY_PACKAGES)).await;
    hand_out(claims_for("m.example", 0..1)).await;
    hand_out(claims_for(
        "m.example",
        MAX_SPENT_KEY_PACKAGES..MAX_SPENT_KEY_PACKAGES + 1,
    ))
    .await;
    assert!(knows("a.example", 0).await, "another hub's is there");
    assert!(knows("m.example", 0).await, "it was handed out again");
    assert!(!knows("m.example", 1).await, "the first is gone");
    assert!(knows("m.example", 2).await && knows("m.example", MAX_SPENT_KEY_PACKAGES).await);
}

/// By client, suite and what the client can do; clients with nothing left are still known.
pub async fn mimi_key_packages_on_offer_are_listed(store: &dyn Store) {
    let tablet = "mimi://b.example/d/bob/tablet";
    let other = MimiKeyPackage {
        capabilities: Bytes::from_static(b"more"),
        ..package("other", 1, 50)
    };
    add(store, tablet, &[package("t", 2, 20)]).await;
    add(
        store,
        PHONE,
        &[package("a", 1, 50), package("b", 1, 60), last_resort("c", 1, 50), other],
    )
    .await;
    let offer = |client: &str, suite, capabilities: &'static str, left, has_last_resort| MimiKeyPackageOffer {
        client: uri(client),
        suite,
        capabilities: Bytes::from_static(capabilities.as_bytes()),
        left,
        has_last_resort,
    };
    let offers = |usable_at| async move { store.mimi_key_package_offers(&uri(BOB), at(usable_at)).await.unwrap() };
    let of_phone = [offer(PHONE, 1, "more", 1, false), offer(PHONE, 1, "some", 2, true)];
    let all = [&of_phone[..], &[offer(tablet, 2, "some", 1, false)]].concat();
    assert_eq!(offers(10).await, all);
    assert_eq!(offers(20).await, of_phone);
    assert_eq!(offers(50).await, [offer(PHONE, 1, "some", 1, false)]);
    assert_eq!(store.mimi_clients(&uri(BOB)).await.unwrap(), [uri(PHONE), uri(tablet)]);
    assert_eq!(store.mimi_clients(&uri(ALICE)).await.unwrap(), []);
    put(store, [MimiUserWrite::ExpireKeyPackages { now: at(50) }]).await;
    assert_eq!(offers(10).await, [offer(PHONE, 1, "some", 1, false)]);
    put(store, [MimiUserWrite::RemoveClient { client: uri(PHONE) }]).await;
    assert_eq!(offers(10).await, []);
    assert_eq!(store.mimi_clients(&uri(BOB)).await.unwrap(), [uri(tablet)]);
}

/// However many ask at once.
pub async fn parallel_claims_share_no_mimi_key_package(store: &dyn Store) {
    let clients: Vec<String> = (0..3).map(|n| format!("mimi://b.example/d/bob/{n}")).collect();
    for client in &clients {
        let packages: Vec<_> = (0..=MAX_KEY_PACKAGES)
            .map(|n| package(&format!("{client} {n}"), 1, 50))
            .collect();
        let kept = add(store, client, &packages).await;
        assert_eq!(
            kept.iter().filter(|kept| **kept == KeyPackageKept::Kept).count(),
            MAX_KEY_PACKAGES
        );
        assert_eq!(kept.last(), Some(&KeyPackageKept::Full));
    }
    let claims = (0..3 * MAX_KEY_PACKAGES + 9).map(|n| {
        let client = &clients[n % clients.len()];
        claim(store, claim_of(client, &[1], true))
    });
    let claimed: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 3 * MAX_KEY_PACKAGES);
    let distinct: BTreeSet<_> = claimed.iter().map(|(name, _)| name).collect();
    assert_eq!(distinct.len(), claimed.len(), "a package was handed out twice");
}

fn scope(room: Option<&str>) -> ConsentScope {
    ConsentScope {
        requester: uri(ALICE),
        target: uri(BOB),
        room: room.map(uri),
    }
}

fn decide(room: Option<&str>, decision: ConsentDecision, now: UnixMillis) -> MimiUserWrite {
    MimiUserWrite::DecideConsent {
        scope: scope(room),
        decision,
        key_packages: Vec::new(),
        from: None,
        now,
    }
}

/// For the very room, for any, and whether another was granted.
pub async fn consent_is_told_by_scope(store: &dyn Store) {
    use ConsentDecision::{Granted, Revoked};
    let state = |room| async move { store.consent(&scope(room)).await.unwrap() };
    assert_eq!(state(Some(ROOM)).await, ConsentState::default());
    put(store, [decide(Some("mimi://hub.example/r/b"), Granted, at(5))]).await;
    let elsewhere = ConsentState {
        elsewhere: true,
        ..ConsentState::default()
    };
    assert_eq!((state(Some(ROOM)).await, state(None).await), (elsewhere, elsewhere));
    put(
        store,
        [decide(None, Granted, at(6)), decide(Some(ROOM), Revoked, at(7))],
    )
    .await;
    let both = ConsentState {
        for_room: Some(Revoked),
        for_any: Some(Granted),
        elsewhere: true,
    };
    assert_eq!(state(Some(ROOM)).await, both);
    assert_eq!(state(None).await.for_any, Some(Granted));
    put(
        store,
        [decide(Some(ROOM), Granted, at(8)), decide(None, Revoked, at(9))],
    )
    .await;
    let turned = state(Some(ROOM)).await;
    assert_eq!((turned.for_room, turned.for_any), (Some(Granted), Some(Revoked)));
    let back = ConsentScope {
        requester: uri(BOB),
        target: uri(ALICE),
        room: None,
    };
    assert_eq!(store.consent(&back).await.unwrap(), ConsentState::default());
}

/// Until they are taken back in the same scope, or answered.
pub async fn requests_for_consent_come_and_go(store: &dyn Store) {
    let request = |room, now| MimiUserWrite::RequestConsent {
        scope: scope(room),
        from: Some(server("a.example")),
        now: at(now),
    };
    let cancel = |room| MimiUserWrite::CancelConsent { scope: scope(room) };
    let kept = |number, room, requested_at: Option<u64>, decision| KeptConsent {
        number,
        scope: scope(room),
        requested_at: requested_at.map(at),
        decision,
    };
    put(store, [request(None, 5), request(Some(ROOM), 6), request(None, 7)]).await;
    let of = |user: &'static str, after| async move { store.consents_of(&uri(user), after, 9).await.unwrap() };
    let both = [kept(1, None, Some(5), None), kept(2, Some(ROOM), Some(6), None)];
    assert_eq!((of(BOB, 0).await, of(ALICE, 0).await), (both.to_vec(), both.to_vec()));
    assert_eq!(of(BOB, 1).await, both[1..]);
    assert_eq!(of("mimi://b.example/u/bobby", 0).await, []);
    put(store, [cancel(Some("mimi://hub.example/r/b")), cancel(Some(ROOM))]).await;
    assert_eq!(of(BOB, 0).await, both[..1]);
    let granted = Some((ConsentDecision::Granted, at(8)));
    put(store, [decide(None, ConsentDecision::Granted, at(8))]).await;
    assert_eq!(of(BOB, 0).await, [kept(1, None, None, granted)]);
    put(store, [request(None, 9)]).await;
    assert_eq!(of(BOB, 0).await, [kept(1, None, Some(9), granted)]);
    put(store, [cancel(None)]).await;
    assert_eq!(of(BOB, 0).await, [kept(1, None, None, granted)]);
}

/// What a provider says pushes out what it said before, never what local users decided.
pub async fn what_is_heard_of_consent_is_bounded(store: &dyn Store) {
    let request = |number: usize| MimiUserWrite::RequestConsent {
        scope: scope(Some(&format!("mimi://a.example/r/{number}"))),
        from: Some(server("a.example")),
        now: at(5),
    };
    let ours = [
        request(0),
        decide(Some("mimi://a.example/r/0"), ConsentDecision::Revoked, at(6)),
    ];
    put(store, ours.into_iter().chain((1..=MAX_HEARD_CONSENTS).map(request))).await;
    let first = scope(Some("mimi://a.example/r/1"));
    let package = GrantedKeyPackage {
        reference: Bytes::from("ref"),
        client: uri(PHONE),
        body: Bytes::from("body"),
        not_after: at(50),
    };
    let grant = MimiUserWrite::DecideConsent {
        scope: first.clone(),
        decision: ConsentDecision::Granted,
        key_packages: vec![package],
        from: Some(server("a.example")),
        now: at(5),
    };
    put(store, [grant]).await;
    assert_eq!(store.granted_key_packages(&first, at(10)).await.unwrap().len(), 1);
    put(store, [request(MAX_HEARD_CONSENTS + 1)]).await;
    assert_eq!(store.granted_key_packages(&first, at(10)).await.unwrap(), []);
    let all = store.consents_of(&uri(BOB), 0, usize::MAX).await.unwrap();
    assert_eq!(all.len(), MAX_HEARD_CONSENTS + 1);
    let rooms: Vec<_> = all[..2]
        .iter()
        .map(|kept| kept.scope.room.clone().unwrap().to_string())
        .collect();
    assert_eq!(rooms, ["mimi://a.example/r/0", "mimi://a.example/r/2"]);
}

/// Once, all that are wanted or none, for the scope in which they came; and they are not taken in again.
pub async fn granted_key_packages_are_taken_once(store: &dyn Store) {
    let package = |number: usize, not_after| GrantedKeyPackage {
        reference: Bytes::from(format!("ref {number}")),
        client: uri(PHONE),
        body: Bytes::from(format!("body {number}")),
        not_after: at(not_after),
    };
    let grant = |room, key_packages| MimiUserWrite::DecideConsent {
        scope: scope(room),
        decision: ConsentDecision::Granted,
        key_packages,
        from: Some(server("b.example")),
        now: at(5),
    };
    let granted = |room| async move { store.granted_key_packages(&scope(room), at(10)).await.unwrap() };
    let take = |numbers: &'static [usize]| async move {
        let references: Vec<_> = numbers.iter().map(|number| package(*number, 0).reference).collect();
        store.take_granted_key_packages(&references).await.unwrap()
    };
    let first = vec![package(1, 50), package(2, 10), package(3, 50)];
    put(
        store,
        [grant(None, first.clone()), grant(Some(ROOM), vec![package(4, 50)])],
    )
    .await;
    assert_eq!(granted(None).await, [package(1, 50), package(3, 50)]);
    assert!(!take(&[1, 7]).await, "one is not there");
    assert_eq!(granted(None).await.len(), 2);
    assert!(take(&[1]).await);
    assert!(!take(&[3, 1]).await, "one is taken");
    assert_eq!(granted(None).await, [package(3, 50)]);
    put(store, [grant(None, first), grant(Some(ROOM), vec![package(4, 50)])]).await;
    assert_eq!(granted(None).await, [package(3, 50)]);
    assert_eq!(granted(Some(ROOM)).await, [package(4, 50)]);
    put(store, [decide(Some(ROOM), ConsentDecision::Revoked, at(6))]).await;
    assert_eq!(granted(Some(ROOM)).await, []);
    assert_eq!(granted(None).await, [package(3, 50)]);
    put(store, [MimiUserWrite::ExpireKeyPackages { now: at(50) }]).await;
    let many = (0..MAX_GRANTED_KEY_PACKAGES + 5).map(|number| package(number, 90));
    put(store, [grant(None, many.collect())]).await;
    assert_eq!(granted(None).await.len(), MAX_GRANTED_KEY_PACKAGES);
}

/// By all of a field, or a part of it, as far as the user lets them.
pub async fn users_are_found_by_their_profiles(store: &dyn Store) {
    let entry = |name, value: &str, searchable, shown| ProfileEntry {
        name,
        value: value.to_owned(),
        searchable,
        shown,
    };
    let put_profile = |user: &str, entries: &[ProfileEntry]| MimiUserWrite::PutProfile {
        user: uri(user),
        entries: entries.to_vec(),
        instead_of: None,
    };
    let name = ProfileFieldName::Claim("given_name".to_owned());
    let bob = [
        entry(ProfileFieldName::Handle, "im:bob@b.example", Searchable::Exactly, false),
        entry(name.clone(), "Bób", Searchable::InPart, true),
        entry(
            ProfileFieldName::Property("ORG".to_owned()),
            "Acme",
            Searchable::Never,
            true,
        ),
    ];
    let alice = [
        entry(ProfileFieldName::Nick, "acme", Searchable::Exactly, false),
        entry(name, "Bóbina", Searchable::InPart, false),
        entry(ProfileFieldName::Phone, "+1", Searchable::Never, false),
        entry(ProfileFieldName::Email, "a@a.example", Searchable::Never, false),
    ];
    put(
        store,
        [
            put_profile(BOB, &alice),
            put_profile(ALICE, &alice),
            put_profile(BOB, &bob),
        ],
    )
    .await;
    assert_eq!(store.profile(&uri(BOB)).await.unwrap(), bob);
    assert_eq!(store.profile(&uri(ALICE)).await.unwrap(), alice);
    assert_eq!(store.profile(&uri("mimi://b.example/u/eve")).await.unwrap(), []);
    let by_value = |value: &'static str| async move { store.users_by_value(value, 9).await.unwrap() };
    assert_eq!(by_value("im:bob@b.example").await, [uri(BOB)]);
    assert_eq!(by_value("im:bob@b").await, []);
    assert_eq!(by_value("Acme").await, [], "not to be searched for");
    assert_eq!(by_value("acme").await, [uri(ALICE)]);
    let by_nick = |nick: &'static str| async move { store.users_by_nick(nick, 9).await.unwrap() };
    assert_eq!(by_nick("bob").await, [uri(BOB)], "the user part of the handle");
    assert_eq!(by_nick("acme").await, [uri(ALICE)]);
    assert_eq!((by_nick("im:bob").await, by_nick("Acme").await), (vec![], vec![]));
    let by_part = |part: &'static str, limit| async move { store.users_by_part(part, limit).await.unwrap() };
    assert_eq!(by_part("BÓB", 9).await, [uri(ALICE), uri(BOB)]);
    assert_eq!(by_part("bób", 1).await, [uri(ALICE)]);
    assert_eq!(by_part("bóbi", 9).await, [uri(ALICE)]);
    assert_eq!(by_part("im:bob", 9).await, [], "not in part");
    put(store, [put_profile(ALICE, &[])]).await;
    assert_eq!(by_part("bób", 9).await, [uri(BOB)]);
}
