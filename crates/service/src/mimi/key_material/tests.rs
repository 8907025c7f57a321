//! Alice's hub is at `a.example`, Bob has a phone and a tablet at `b.example`.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use nabe_mls::testing::mimi::{MimiDevice, key_material_request, key_material_request_of, key_package_ref};
use nabe_store::{MimiStore as _, MimiUserStore as _};
use nabe_wire::consent::ConsentAction;
use nabe_wire::mls::{ProposalType, RequiredCapabilities};
use nabe_wire::protocol::Body;

use super::*;
use crate::client::testing::server;
use crate::mimi::UserSettings;
use crate::mimi::users::testing::{
    ALICE, BOB, NOBODY, OTHER_ROOM, Providers, ROOM, ROOM_OF_C, entry, response, scope, uri,
};

const PHONE: &str = "mimi://b.example/d/bob/phone";
const TABLET: &str = "mimi://b.example/d/bob/tablet";
const CATHY: &str = "mimi://c.example/u/cathy";

fn required(proposals: &[u16]) -> RequiredCapabilities {
    RequiredCapabilities {
        extension_types: Vec::new(),
        proposal_types: proposals.iter().copied().map(ProposalType).collect(),
        credential_types: Vec::new(),
    }
}

fn alice() -> MimiDevice {
    MimiDevice::new("mimi://a.example/d/alice/laptop")
}

fn request(target: &str, room: Option<&str>) -> KeyMaterialRequest {
    key_material_request(&alice(), target, room, required(&[]))
}

impl Providers {
    /// Alice's client asks her own provider, the hub of her room.
    async fn alice_asks(&self, target: &str) -> KeyMaterialResponse {
        self.ask("a", target, request(target, Some(ROOM))).await.unwrap()
    }

    /// A client of a provider's asks it.
    async fn ask(
        &self,
        name: &str,
        target: &str,
        request: KeyMaterialRequest,
    ) -> Result<KeyMaterialResponse, MimiError> {
        self.mimi(name).key_material(&server(name), &uri(target), request).await
    }

    /// Bob's clients have uploaded so many each.
    async fn of_bob(phone: usize, tablet: usize) -> Self {
        let providers = Self::new().await;
        providers.upload(&MimiDevice::new(PHONE), PHONE, phone).await;
        providers.upload(&MimiDevice::new(TABLET), TABLET, tablet).await;
        providers
    }
}

fn refused(status: KeyMaterialUserCode, user: &str) -> KeyMaterialResponse {
    KeyMaterialResponse::refused(status, identifier(&uri(user)))
}

/// The references of the key packages in an answer.
fn references(response: &KeyMaterialResponse) -> Vec<Bytes> {
    let packages = response.clients.iter().filter_map(|client| match &client.material {
        ClientMaterial::KeyPackage(package) => Some(key_package_ref(package.as_bytes()).into()),
        _ => None,
    });
    packages.collect()
}

#[tokio::test]
async fn whoever_has_consent_gets_a_key_package_of_every_client_and_the_hub_knows_whose_they_are() {
    let providers = Providers::of_bob(1, 1).await;
    providers.bob_grants(ALICE, Some(ROOM)).await;
    let answer = providers.alice_asks(BOB).await;
    assert_eq!(answer.user_status, KeyMaterialUserCode::SUCCESS);
    let clients: Vec<_> = answer
        .clients
        .iter()
        .map(|client| client.client_uri.to_string())
        .collect();
    assert_eq!(clients, [PHONE, TABLET]);
    let mut routes = providers
        .store("a")
        .fetched_key_packages(&references(&answer), Some(&uri(ROOM)))
        .await
        .unwrap();
    routes.sort_by_key(|fetched| fetched.route.client.to_string());
    let routes: Vec<_> = routes.into_iter().map(|fetched| fetched.route).collect();
    let route = |client| KeyPackageRoute {
        provider: server("b"),
        user: uri(BOB),
        client: uri(client),
    };
    assert_eq!(routes, [route(PHONE), route(TABLET)]);
    // And Bob's provider knows which client each is of.
    let issued = providers
        .store("b")
        .issued_key_packages(&references(&answer), &server("a"), &uri(ROOM))
        .await
        .unwrap();
    assert_eq!(issued.len(), 2);
    assert_eq!(
        providers.made(),
        [
            (server("b"), server("a"), Endpoint::UpdateConsent),
            (server("a"), server("b"), Endpoint::KeyMaterial)
        ]
    );
}

#[tokio::test]
async fn a_request_for_another_hub_s_room_goes_through_that_hub() {
    let providers = Providers::of_bob(1, 0).await;
    providers.bob_grants(CATHY, None).await;
    let cathy = MimiDevice::new("mimi://c.example/d/cathy/C");
    let request = key_material_request(&cathy, BOB, Some(ROOM), required(&[]));
    let answer = providers.ask("c", BOB, request).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::PARTIAL_SUCCESS);
    let ways: Vec<_> = providers
        .made()
        .into_iter()
        .skip(1)
        .map(|(from, to, _)| (from, to))
        .collect();
    assert_eq!(ways, [(server("c"), server("a")), (server("a"), server("b"))]);
    let hub_knows = providers
        .store("a")
        .fetched_key_packages(&references(&answer), Some(&uri(ROOM)))
        .await
        .unwrap();
    assert_eq!(hub_knows.len(), 1);
}

/// Whoever could not add anybody by them has others' key packages used up, in the hub's name.
#[tokio::test]
async fn a_hub_passes_on_requests_for_rooms_that_are_there_and_of_those_who_may_add_people_to_them() {
    let providers = Providers::of_bob(2, 2).await;
    let strangers = [
        "mimi://a.example/d/adam/phone",
        "mimi://b.example/d/ben/phone",
        "mimi://c.example/d/carl/phone",
    ];
    for client in strangers
        .iter()
        .chain(["mimi://c.example/d/cathy/C", "mimi://a.example/d/alice/laptop"].iter())
    {
        let device = MimiDevice::new(client);
        providers.bob_grants(&device.user(), None).await;
        let rooms = [
            Some(ROOM).filter(|_| strangers.contains(client)),
            Some("mimi://a.example/r/nothing"),
        ];
        for room in rooms.into_iter().flatten() {
            for target in [BOB, NOBODY, ALICE] {
                let before = asked_of(&providers, "b");
                let request = key_material_request(&device, target, Some(room), required(&[]));
                let provider = &client["mimi://".len()..][..1];
                let refused = providers.ask(provider, target, request).await;
                assert!(
                    matches!(refused, Err(MimiError::Forbidden(_))),
                    "{client}, {room}, {target}: {refused:?}"
                );
                assert_eq!(asked_of(&providers, "b"), before, "nobody else is asked");
            }
        }
    }
    let left = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(
        left.iter().map(|offer| offer.left).sum::<u64>(),
        4,
        "nothing is used up"
    );
}

/// Nobody could add them: their Welcomes would go nowhere.
#[tokio::test]
async fn key_packages_that_are_asked_for_without_a_room_are_for_no_room_of_ours() {
    let providers = Providers::of_bob(2, 0).await;
    providers.bob_grants(ALICE, None).await;
    for (room, known) in [(None, 0), (Some(ROOM), 1)] {
        let answer = providers.ask("a", BOB, request(BOB, room)).await.unwrap();
        let handed_out = references(&answer);
        assert_eq!(handed_out.len(), 1);
        let hub_knows = providers.store("a").fetched_key_packages(&handed_out, None).await;
        assert_eq!(hub_knows.unwrap().len(), known, "{room:?}");
    }
}

#[tokio::test]
async fn a_client_without_any_left_is_exhausted_and_one_that_lacks_what_is_needed_incompatible() {
    let providers = Providers::of_bob(1, 3).await;
    providers.bob_grants(ALICE, None).await;
    assert_eq!(
        providers.alice_asks(BOB).await.user_status,
        KeyMaterialUserCode::SUCCESS
    );
    let partial = providers.alice_asks(BOB).await;
    assert_eq!(partial.user_status, KeyMaterialUserCode::PARTIAL_SUCCESS);
    assert_eq!(partial.clients[0].material, ClientMaterial::Exhausted);
    assert!(matches!(partial.clients[1].material, ClientMaterial::KeyPackage(_)));
    let request = key_material_request(&alice(), BOB, Some(ROOM), required(&[0xf0f0]));
    let none = providers.ask("a", BOB, request).await.unwrap();
    assert_eq!(none.user_status, KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL);
    let materials: Vec<_> = none.clients.iter().map(|client| client.material.clone()).collect();
    assert_eq!(
        materials,
        [ClientMaterial::Exhausted, ClientMaterial::NothingCompatible(None)]
    );
    assert_eq!(
        providers.alice_asks(BOB).await.user_status,
        KeyMaterialUserCode::PARTIAL_SUCCESS
    );
    let exhausted = providers.alice_asks(BOB).await;
    assert_eq!(exhausted.user_status, KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL);
    assert!(
        exhausted
            .clients
            .iter()
            .all(|client| client.material == ClientMaterial::Exhausted)
    );
}

/// How often this provider was asked for key packages.
fn asked_of(providers: &Providers, name: &str) -> usize {
    let made = providers.made();
    let asked = |(_, to, endpoint): &&(ServerName, ServerName, Endpoint)| {
        *to == server(name) && *endpoint == Endpoint::KeyMaterial
    };
    made.iter().filter(asked).count()
}

/// How often somebody was asked for key packages.
fn asked(providers: &Providers) -> usize {
    let made = providers.made();
    made.iter()
        .filter(|(_, _, endpoint)| *endpoint == Endpoint::KeyMaterial)
        .count()
}

impl Providers {
    async fn bob_grants_with_key_packages(&self, requester: &str, room: Option<&str>) {
        let client_key_packages = Vec::new();
        let grant = entry(ConsentAction::Grant { client_key_packages }, requester, BOB, room);
        self.mimi("b").grant_with_key_packages(&grant).await.unwrap();
    }
}

#[tokio::test]
async fn what_came_with_a_grant_is_used_before_more_is_asked_for_and_each_once() {
    let mut providers = Providers::of_bob(3, 3).await;
    providers.bob_grants_with_key_packages(ALICE, None).await;
    let of_grant = providers.alice_asks(BOB).await;
    assert_eq!(asked(&providers), 0);
    assert_eq!(of_grant.user_status, KeyMaterialUserCode::SUCCESS);
    let clients: Vec<_> = of_grant
        .clients
        .iter()
        .map(|client| client.client_uri.to_string())
        .collect();
    assert_eq!(clients, [PHONE, TABLET]);
    let mut seen = references(&of_grant);
    let routes = providers
        .store("a")
        .fetched_key_packages(&seen, Some(&uri(ROOM)))
        .await
        .unwrap();
    assert_eq!(routes.len(), 2, "the hub knows where the Welcome goes");
    providers.crash("a");
    let others = providers.alice_asks(BOB).await;
    assert_eq!(asked(&providers), 1);
    seen.extend(references(&others));
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (4, 4));
}

#[tokio::test]
async fn many_who_ask_at_once_share_what_came_with_grants_and_none_gets_what_another_has() {
    let providers = Providers::of_bob(20, 0).await;
    for room in [None, Some(ROOM), None] {
        providers.bob_grants_with_key_packages(ALICE, room).await;
    }
    let answers = join_all((0..8).map(|_| providers.alice_asks(BOB))).await;
    let all: Vec<_> = answers.iter().flat_map(references).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (8, 8));
    // Of two for any room each request takes one; whoever lost a race asks.
    assert!((5..=7).contains(&asked(&providers)), "{}", asked(&providers));
}

#[tokio::test]
async fn what_came_with_a_grant_is_for_whom_it_was_granted_and_for_rooms_that_it_fits() {
    let providers = Providers::of_bob(9, 0).await;
    providers.bob_grants_with_key_packages(ALICE, Some(ROOM)).await;
    // Another room of ours, a room of another hub, capabilities that it lacks.
    let elsewhere = request(BOB, Some(OTHER_ROOM));
    let answer = providers.ask("a", BOB, elsewhere).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::NO_CONSENT_FOR_THIS_ROOM);
    let of_c = request(BOB, Some(ROOM_OF_C));
    let answer = providers.ask("a", BOB, of_c).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::NO_CONSENT_FOR_THIS_ROOM);
    let unfit = key_material_request(&alice(), BOB, Some(ROOM), required(&[0xf0f0]));
    let answer = providers.ask("a", BOB, unfit).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL);
    // Somebody else, who has consent of their own.
    providers.bob_grants("mimi://a.example/u/ann", Some(ROOM)).await;
    let ann = MimiDevice::new("mimi://a.example/d/ann/laptop");
    let of_ann = key_material_request(&ann, BOB, Some(ROOM), required(&[]));
    let of_ann = references(&providers.ask("a", BOB, of_ann).await.unwrap());
    let before = asked(&providers);
    let of_alice = references(&providers.alice_asks(BOB).await);
    assert_eq!(asked(&providers), before);
    assert_eq!((of_ann.len(), of_alice.len()), (1, 1));
    assert_ne!(of_ann, of_alice);
}

/// Its hub could not tell where the Welcome goes.
#[tokio::test]
async fn a_grant_for_a_room_of_a_third_provider_uses_no_key_package_up() {
    let providers = Providers::of_bob(2, 2).await;
    providers.bob_grants_with_key_packages(ALICE, Some(ROOM_OF_C)).await;
    let left = async || {
        let offers = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
        offers.iter().map(|offer| offer.left).sum::<u64>()
    };
    assert_eq!(left().await, 4);
    let consent = providers.store("a").consent(&scope(ALICE, BOB, Some(ROOM_OF_C))).await;
    assert_eq!(consent.unwrap().for_room, Some(ConsentDecision::Granted));
    providers.bob_grants_with_key_packages(ALICE, Some(ROOM)).await;
    assert_eq!(left().await, 2);
}

#[tokio::test]
async fn what_came_with_a_grant_is_of_no_use_once_that_is_revoked() {
    let users = UserSettings {
        tell_revocations: true,
        ..UserSettings::default()
    };
    let providers = Providers::with(users).await;
    providers.upload(&MimiDevice::new(PHONE), PHONE, 2).await;
    providers.bob_grants_with_key_packages(ALICE, None).await;
    let revoke = entry(ConsentAction::Revoke, ALICE, BOB, None);
    providers.mimi("b").update_consent(&server("b"), &revoke).await.unwrap();
    assert_eq!(
        providers.alice_asks(BOB).await,
        refused(KeyMaterialUserCode::NO_CONSENT, BOB)
    );
    assert_eq!(asked(&providers), 1);
}

#[tokio::test]
async fn what_came_with_a_grant_and_has_expired_is_of_no_use() {
    let providers = Providers::of_bob(1, 0).await;
    providers.bob_grants_with_key_packages(ALICE, None).await;
    providers.clock.advance(Duration::from_hours(24 * 365));
    let answer = providers.alice_asks(BOB).await;
    assert_eq!((asked(&providers), references(&answer).len()), (1, 0));
}

#[tokio::test]
async fn no_key_package_is_handed_out_twice_however_many_ask_and_wherever_it_crashes() {
    let mut providers = Providers::of_bob(40, 0).await;
    providers.bob_grants(ALICE, None).await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let answers = join_all((0..15).map(|_| providers.alice_asks(BOB))).await;
        for reference in answers.iter().flat_map(references) {
            assert!(seen.insert(reference), "handed out twice");
        }
        providers.crash("b");
    }
    assert_eq!(seen.len(), 30);
    let again = providers.alice_asks(BOB).await;
    assert!(references(&again).iter().all(|reference| !seen.contains(reference)));
}

#[tokio::test]
async fn a_last_resort_package_is_handed_out_when_there_is_no_other_if_the_operator_wants_it() {
    for (last_resort, expected) in [(true, 2), (false, 1)] {
        let users = UserSettings {
            last_resort,
            ..UserSettings::default()
        };
        let providers = Providers::with(users).await;
        let phone = MimiDevice::new(PHONE);
        let packages = vec![phone.last_resort_key_package().into(), phone.key_package().into()];
        let kept = providers
            .mimi("b")
            .upload_key_packages(&uri(BOB), &uri(PHONE), packages)
            .await;
        assert!(kept.unwrap().iter().all(Result::is_ok));
        providers.bob_grants(ALICE, None).await;
        let answers = [
            providers.alice_asks(BOB).await,
            providers.alice_asks(BOB).await,
            providers.alice_asks(BOB).await,
        ];
        let distinct: BTreeSet<_> = answers.iter().flat_map(references).collect();
        assert_eq!(distinct.len(), expected);
        assert_eq!(references(&answers[2]).len(), usize::from(last_resort));
    }
}

#[tokio::test]
async fn what_has_expired_is_not_handed_out() {
    let providers = Providers::of_bob(1, 0).await;
    providers.bob_grants(ALICE, None).await;
    providers.clock.advance(Duration::from_hours(24 * 400));
    let answer = providers.alice_asks(BOB).await;
    assert_eq!(answer.user_status, KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL);
    assert_eq!(references(&answer), Vec::<Bytes>::new());
}

#[tokio::test]
async fn without_consent_there_is_nothing_and_who_is_a_user_stays_hidden() {
    let providers = Providers::of_bob(1, 1).await;
    let no_consent = |user| refused(KeyMaterialUserCode::NO_CONSENT, user);
    assert_eq!(providers.alice_asks(BOB).await, no_consent(BOB));
    assert_eq!(providers.alice_asks(NOBODY).await, no_consent(NOBODY));
    providers.bob_grants(CATHY, None).await;
    assert_eq!(providers.alice_asks(BOB).await, no_consent(BOB));
    let left = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(
        left.iter().map(|offer| offer.left).sum::<u64>(),
        2,
        "nothing is used up"
    );

    let users = UserSettings {
        hide_users: false,
        ..UserSettings::default()
    };
    let open = Providers::with(users).await;
    assert_eq!(
        open.alice_asks(NOBODY).await,
        refused(KeyMaterialUserCode::USER_UNKNOWN, NOBODY)
    );
    assert_eq!(open.alice_asks(BOB).await, no_consent(BOB));
}

/// Nor does the time tell that an answer takes: the same is looked up, and the same kept.
#[tokio::test]
async fn as_much_is_done_for_somebody_who_is_no_user_as_for_a_user_without_consent() {
    let providers = Providers::of_bob(1, 1).await;
    let store = providers.store("b");
    let looked_up = async |user: &str| {
        let before = store.lookups();
        let answer = providers.alice_asks(user).await;
        (answer.user_status, store.lookups() - before)
    };
    let of_bob = looked_up(BOB).await;
    assert_eq!(of_bob.0, KeyMaterialUserCode::NO_CONSENT);
    assert_eq!(looked_up(NOBODY).await, of_bob);
    let requested = async |user: &str| {
        let before = store.lookups();
        let request = entry(ConsentAction::Request, ALICE, user, None);
        let theirs = providers.mimi("b");
        theirs.request_consent(&server("a"), &request).await.unwrap();
        let kept = store.consents_of(&uri(user), 0, 10).await.unwrap();
        (store.lookups() - before, kept.len())
    };
    assert_eq!(requested(NOBODY).await, requested(BOB).await);
    // What is counted would show it.
    providers.bob_grants(ALICE, None).await;
    assert!(looked_up(BOB).await.1 > of_bob.1);
}

/// A credential proves nothing, so a hub could ask in anybody's name.
#[tokio::test]
async fn another_hub_gets_no_key_packages_for_one_of_ours_who_has_not_asked() {
    let providers = Providers::of_bob(2, 2).await;
    let pretending = MimiDevice::new("mimi://b.example/d/bob/forged");
    let request = || key_material_request(&pretending, BOB, Some(ROOM), required(&[]));
    let answer = providers
        .mimi("b")
        .key_material(&server("a"), &uri(BOB), request())
        .await;
    assert_eq!(answer.unwrap(), refused(KeyMaterialUserCode::NO_CONSENT, BOB));
    let left = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(left[0].left, 2, "nothing is used up");
    // When they ask themselves, the hub asks us back.
    let answer = providers.ask("b", BOB, request()).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::SUCCESS);
    // What was asked once is not asked again by anybody else.
    let answer = providers
        .mimi("b")
        .key_material(&server("a"), &uri(BOB), request())
        .await;
    assert_eq!(answer.unwrap(), refused(KeyMaterialUserCode::NO_CONSENT, BOB));
}

#[tokio::test]
async fn consent_for_the_room_counts_before_consent_for_any() {
    let providers = Providers::of_bob(20, 20).await;
    let status = || async { providers.alice_asks(BOB).await.user_status };
    providers.bob_grants(ALICE, Some(OTHER_ROOM)).await;
    assert_eq!(status().await, KeyMaterialUserCode::NO_CONSENT_FOR_THIS_ROOM);
    providers.bob_grants(ALICE, None).await;
    assert_eq!(status().await, KeyMaterialUserCode::SUCCESS);
    let revoke = async |room| {
        let entry = entry(ConsentAction::Revoke, ALICE, BOB, room);
        providers.mimi("b").update_consent(&server("b"), &entry).await.unwrap();
    };
    revoke(Some(ROOM)).await;
    assert_eq!(status().await, KeyMaterialUserCode::NO_CONSENT);
    providers.bob_grants(ALICE, Some(ROOM)).await;
    revoke(None).await;
    assert_eq!(status().await, KeyMaterialUserCode::SUCCESS);
    // Whoever asks for their own clients needs nobody's word.
    let tablet = key_material_request(&MimiDevice::new(TABLET), BOB, None, required(&[]));
    let own = providers.ask("b", BOB, tablet).await.unwrap();
    assert_eq!(own.user_status, KeyMaterialUserCode::SUCCESS);
}

#[tokio::test]
async fn a_request_that_is_not_the_requester_s_own_uses_nothing_up() {
    let providers = Providers::of_bob(1, 1).await;
    providers.bob_grants(ALICE, None).await;
    let good = request(BOB, Some(ROOM));
    let mut changed = good.clone();
    changed.room_id = identifier(&uri("mimi://a.example/r/other"));
    let mut others = good.clone();
    others.requesting_user = identifier(&uri("mimi://a.example/u/mallory"));
    for (bad, field) in [
        (changed, "key_material_request_signature"),
        (others, "key_material_request_signature"),
    ] {
        let refused = providers.ask("a", BOB, bad).await;
        assert!(
            matches!(refused, Err(MimiError::Invalid { field: found, .. }) if found == field),
            "{refused:?}"
        );
    }
    // Signed well, by somebody else.
    let mallory = alice().posing_as("mimi://a.example/d/mallory/M");
    let posing = key_material_request_of(&mallory, ALICE, BOB, Some(ROOM), required(&[]));
    let refused = providers.ask("a", BOB, posing).await;
    let is_of_others = matches!(
        refused,
        Err(MimiError::Invalid {
            field: "requesterCredential",
            ..
        })
    );
    assert!(is_of_others, "{refused:?}");
    let elsewhere = providers.ask("a", NOBODY, good.clone()).await;
    assert!(
        matches!(
            elsewhere,
            Err(MimiError::Invalid {
                field: "targetUser",
                ..
            })
        ),
        "{elsewhere:?}"
    );
    // Neither the room's hub nor the requester's provider.
    let (b, c) = (providers.mimi("b"), server("c"));
    let stranger = b.key_material(&c, &uri(BOB), good.clone()).await;
    assert!(
        matches!(stranger, Err(MimiError::NotTheirs { what: "the room", .. })),
        "{stranger:?}"
    );
    let stranger = providers.mimi("a").key_material(&c, &uri(BOB), good).await;
    assert!(
        matches!(
            stranger,
            Err(MimiError::NotTheirs {
                what: "the requester",
                ..
            })
        ),
        "{stranger:?}"
    );
    let without_room = b.key_material(&c, &uri(BOB), request(BOB, None)).await;
    assert!(
        matches!(without_room, Err(MimiError::NotTheirs { .. })),
        "{without_room:?}"
    );
    let left = b.key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(left.iter().map(|offer| offer.left).sum::<u64>(), 2);
}

#[tokio::test]
async fn another_protocol_is_none_of_ours() {
    let providers = Providers::new().await;
    let mut other = request(BOB, Some(ROOM));
    let protocol = nabe_wire::protocol::Protocol(9);
    other.body = Body::Other {
        protocol,
        rest: b"whatever".as_slice().into(),
    };
    let answer = providers.ask("a", BOB, other).await.unwrap();
    assert_eq!(answer.user_status, KeyMaterialUserCode::INCOMPATIBLE_PROTOCOL);
    assert_eq!((answer.protocol, answer.clients.len()), (protocol, 0));
}

#[tokio::test]
async fn a_hub_passes_on_no_key_package_that_is_not_what_was_asked_for() {
    let providers = Providers::of_bob(0, 0).await;
    let phone = MimiDevice::new(PHONE);
    let answer = |user: &str, client: &str, packages: &[Vec<u8>]| {
        let clients = packages.iter().map(|package| ClientKeyMaterial {
            client_uri: identifier(&uri(client)),
            material: ClientMaterial::KeyPackage(Box::new(read_package(package).unwrap())),
        });
        KeyMaterialResponse {
            clients: clients.collect(),
            ..refused(KeyMaterialUserCode::SUCCESS, user)
        }
    };
    let package = phone.key_package();
    let others = MimiDevice::new("mimi://b.example/d/mallory/M").key_package();
    let other_suite = MimiDevice::with_suite(PHONE, nabe_mls::Suite::P256_AES128).key_package();
    let mut broken = package.clone();
    *broken.last_mut().unwrap() ^= 1;
    for (bad, what) in [
        (answer(NOBODY, PHONE, &[]), "it is about another user"),
        (answer(BOB, PHONE, &[others]), "a key package is another user's"),
        (
            answer(BOB, TABLET, std::slice::from_ref(&package)),
            "a key package is another client's",
        ),
        (
            answer(BOB, "mimi://c.example/d/bob/phone", std::slice::from_ref(&package)),
            "a client is none of the provider's",
        ),
        (
            answer(BOB, PHONE, &[other_suite]),
            "a key package is of a suite that was not asked for",
        ),
        (answer(BOB, PHONE, &[broken]), "a key package is no good"),
        (
            answer(BOB, PHONE, &[package.clone(), package.clone()]),
            "a key package is there twice",
        ),
        (
            answer(BOB, PHONE, &vec![package.clone(); MAX_CLIENTS + 1]),
            "it lists too many clients",
        ),
    ] {
        let bytes = bytes_of(&bad);
        providers.intercept(move |_, _| Some(response(200, bytes.clone())));
        let refused = providers.ask("a", BOB, request(BOB, Some(ROOM))).await;
        assert!(
            matches!(refused, Err(MimiError::BadAnswer { what: found, .. }) if found == what),
            "{refused:?}"
        );
        let reference = Bytes::from(key_package_ref(&package));
        let known = providers
            .store("a")
            .fetched_key_packages(&[reference], None)
            .await
            .unwrap();
        assert_eq!(known, []);
    }
    let good = bytes_of(&answer(BOB, PHONE, &[package]));
    providers.intercept(move |_, _| Some(response(200, good.clone())));
    assert_eq!(references(&providers.alice_asks(BOB).await).len(), 1);
    let again = providers.ask("a", BOB, request(BOB, Some(ROOM))).await;
    let what = "a key package was handed out before";
    assert!(
        matches!(again, Err(MimiError::BadAnswer { what: found, .. }) if found == what),
        "{again:?}"
    );
}

#[tokio::test]
async fn an_answer_whose_status_is_not_what_it_lists_is_passed_on_to_nobody() {
    let providers = Providers::of_bob(0, 0).await;
    let package = read_package(&MimiDevice::new(PHONE).key_package()).unwrap();
    let with = ClientMaterial::KeyPackage(Box::new(package));
    let without = ClientMaterial::Exhausted;
    for (status, materials) in [
        (KeyMaterialUserCode::SUCCESS, vec![]),
        (KeyMaterialUserCode::SUCCESS, vec![with.clone(), without.clone()]),
        (KeyMaterialUserCode::PARTIAL_SUCCESS, vec![without]),
        (KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL, vec![with]),
    ] {
        let clients = materials.into_iter().map(|material| ClientKeyMaterial {
            client_uri: identifier(&uri(PHONE)),
            material,
        });
        let answer = KeyMaterialResponse {
            clients: clients.collect(),
            ..refused(status, BOB)
        };
        let bytes = bytes_of(&answer);
        providers.intercept(move |_, _| Some(response(200, bytes.clone())));
        let refused = providers.ask("a", BOB, request(BOB, Some(ROOM))).await;
        let what = "its status is not what became of the clients";
        assert!(
            matches!(refused, Err(MimiError::BadAnswer { what: found, .. }) if found == what),
            "{status:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn an_upload_is_judged_package_by_package() {
    let providers = Providers::new().await;
    let mimi = providers.mimi("b");
    let phone = MimiDevice::new(PHONE);
    let package = Bytes::from(phone.key_package());
    let packages = vec![
        package.clone(),
        package.clone(),
        MimiDevice::new(TABLET).key_package().into(),
        Bytes::from_static(b"nothing"),
    ];
    let kept = mimi
        .upload_key_packages(&uri(BOB), &uri(PHONE), packages)
        .await
        .unwrap();
    assert_eq!(kept[0], Ok(Bytes::from(key_package_ref(&package))));
    assert_eq!(kept[1..3], [Err(OfferNotKept::Known), Err(OfferNotKept::OtherClient)]);
    assert!(matches!(kept[3], Err(OfferNotKept::Refused(_))));
    providers.bob_grants(ALICE, None).await;
    assert_eq!(references(&providers.alice_asks(BOB).await).len(), 1);
    let again = mimi
        .upload_key_packages(&uri(BOB), &uri(PHONE), vec![package.clone()])
        .await;
    assert_eq!(again.unwrap(), [Err(OfferNotKept::Spent)]);
    let foreign = mimi
        .upload_key_packages(&uri(BOB), &uri("mimi://b.example/d/eve/E"), vec![package.clone()])
        .await;
    assert!(
        matches!(foreign, Err(MimiError::Invalid { field: "client", .. })),
        "{foreign:?}"
    );
    let nobody = uri("mimi://b.example/d/nobody/N");
    let unknown = mimi.upload_key_packages(&uri(NOBODY), &nobody, vec![package]).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("user"))), "{unknown:?}");
}

#[tokio::test]
async fn consent_is_asked_about_the_same_whether_there_is_such_a_user_or_not() {
    // What the store is asked is all that takes time.
    let providers = Providers::of_bob(1, 1).await;
    for user in [BOB, NOBODY] {
        let state = providers
            .store("b")
            .consent(&scope(ALICE, user, Some(ROOM)))
            .await
            .unwrap();
        assert_eq!(state, ConsentState::default());
    }
    let to_bob = bytes_of(&providers.alice_asks(BOB).await);
    let to_nobody = bytes_of(&providers.alice_asks(NOBODY).await);
    assert_eq!(to_bob.len() + NOBODY.len(), to_nobody.len() + BOB.len());
}

#[tokio::test]
async fn nobody_gets_a_key_package_of_a_device_that_was_removed() {
    use nabe_types::{DeviceId, UserId};

    let providers = Providers::of_bob(1, 1).await;
    providers.bob_grants(ALICE, None).await;
    let (user, device) = (
        UserId::parse("@bob:b.example").unwrap(),
        DeviceId::parse("phone").unwrap(),
    );
    let service = &providers.mimi("b").service;
    service.register_device(&user, Some(device.clone())).await.unwrap();
    service.remove_device(&user, &device).await.unwrap();
    let answer = providers.alice_asks(BOB).await;
    let clients: Vec<_> = answer
        .clients
        .iter()
        .map(|client| client.client_uri.to_string())
        .collect();
    assert_eq!(clients, [TABLET]);
}

#[tokio::test]
async fn that_a_user_was_deleted_is_told_unless_users_are_hidden_and_nobody_becomes_them() {
    use nabe_types::UserId;

    use crate::ServiceError;

    for (hide_users, status) in [
        (true, KeyMaterialUserCode::NO_CONSENT),
        (false, KeyMaterialUserCode::USER_DELETED),
    ] {
        let users = UserSettings {
            hide_users,
            ..UserSettings::default()
        };
        let providers = Providers::with(users).await;
        providers.upload(&MimiDevice::new(PHONE), PHONE, 2).await;
        providers.bob_grants(ALICE, None).await;
        let service = &providers.mimi("b").service;
        let bob = UserId::parse("@bob:b.example").unwrap();
        let token = service.add_token(&bob, None).await.unwrap();
        service.delete_user(&bob).await.unwrap();
        service.delete_user(&bob).await.unwrap();
        assert_eq!(providers.alice_asks(BOB).await, refused(status, BOB));
        // They are nobody any more, and nobody is them.
        let authenticated = service.authenticate_user(token.secret()).await;
        assert!(
            matches!(authenticated, Err(ServiceError::UnknownToken)),
            "{authenticated:?}"
        );
        for refused in [
            service.act_as(&bob).await,
            service.add_token(&bob, None).await.map(drop),
            service.register_device(&bob, None).await.map(drop),
        ] {
            assert!(matches!(refused, Err(ServiceError::UserDeleted)), "{refused:?}");
        }
        let package = Bytes::from(MimiDevice::new(PHONE).key_package());
        let uploaded = providers
            .mimi("b")
            .upload_key_packages(&uri(BOB), &uri(PHONE), vec![package])
            .await;
        assert!(matches!(uploaded, Err(MimiError::Unknown("user"))), "{uploaded:?}");
        let nobody = UserId::parse("@nobody:b.example").unwrap();
        let unknown = service.delete_user(&nobody).await;
        assert!(matches!(unknown, Err(ServiceError::NotFound(_))), "{unknown:?}");
    }
}
