//! Alice at `a.example` wants to add Bob at `b.example`.

use nabe_mls::testing::mimi::MimiDevice;
use nabe_mls::testing::wall_clock;
use nabe_store::MimiUserStore as _;

use super::*;
use crate::client::testing::server;
use crate::mimi::UserSettings;
use crate::mimi::users::testing::{ALICE, BOB, NOBODY, Providers, ROOM, entry, scope, uri};

const PHONE: &str = "mimi://b.example/d/bob/phone";

fn grant() -> ConsentAction {
    ConsentAction::Grant {
        client_key_packages: Vec::new(),
    }
}

impl Providers {
    async fn alice(&self, operation: ConsentAction, target: &str, room: Option<&str>) -> Result<(), MimiError> {
        let entry = entry(operation, ALICE, target, room);
        self.mimi("a").request_consent(&server("a"), &entry).await
    }

    async fn bob(&self, operation: ConsentAction, room: Option<&str>) -> Result<(), MimiError> {
        let entry = entry(operation, ALICE, BOB, room);
        self.mimi("b").update_consent(&server("b"), &entry).await
    }

    /// What a provider knows, as room, whether it is asked for, and what was decided.
    async fn known(&self, name: &str, user: &str) -> Vec<(Option<String>, bool, Option<ConsentDecision>)> {
        let known = self.mimi(name).consents_of(&uri(user), 0, 10).await.unwrap();
        let row = |kept: KeptConsent| {
            let room = kept.scope.room.map(|room| room.to_string());
            let decision = kept.decision.map(|(decision, _)| decision);
            (room, kept.requested_at.is_some(), decision)
        };
        known.into_iter().map(row).collect()
    }
}

#[tokio::test]
async fn a_request_reaches_the_target_and_goes_when_it_is_taken_back_or_answered() {
    let providers = Providers::new().await;
    let mut news = providers.mimi("b").news();
    providers.alice(ConsentAction::Request, BOB, None).await.unwrap();
    providers.alice(ConsentAction::Request, BOB, Some(ROOM)).await.unwrap();
    assert_eq!(news.recv().await.unwrap(), MimiNews::Consent { user: uri(BOB) });
    let both = [(None, true, None), (Some(ROOM.to_owned()), true, None)];
    assert_eq!(providers.known("b", BOB).await, both);
    assert_eq!(providers.known("a", ALICE).await, both);
    // In another scope there is nothing to take back.
    providers
        .alice(ConsentAction::Cancel, BOB, Some("mimi://a.example/r/x"))
        .await
        .unwrap();
    assert_eq!(providers.known("b", BOB).await, both);
    providers.alice(ConsentAction::Cancel, BOB, None).await.unwrap();
    assert_eq!(providers.known("b", BOB).await, both[1..]);
    providers.bob(grant(), Some(ROOM)).await.unwrap();
    let granted = [(Some(ROOM.to_owned()), false, Some(ConsentDecision::Granted))];
    assert_eq!(providers.known("b", BOB).await, granted);
    assert_eq!(providers.known("a", ALICE).await, granted);
}

#[tokio::test]
async fn a_grant_needs_no_request_and_a_revocation_is_kept_to_ourselves() {
    let providers = Providers::new().await;
    providers.bob(grant(), None).await.unwrap();
    let granted = [(None, false, Some(ConsentDecision::Granted))];
    assert_eq!(providers.known("a", ALICE).await, granted);
    providers.bob(ConsentAction::Revoke, None).await.unwrap();
    assert_eq!(
        providers.known("b", BOB).await,
        [(None, false, Some(ConsentDecision::Revoked))]
    );
    assert_eq!(providers.known("a", ALICE).await, granted);

    let users = UserSettings {
        tell_revocations: true,
        ..UserSettings::default()
    };
    let telling = Providers::with(users).await;
    telling.bob(ConsentAction::Revoke, None).await.unwrap();
    assert_eq!(
        telling.known("a", ALICE).await,
        [(None, false, Some(ConsentDecision::Revoked))]
    );
}

#[tokio::test]
async fn each_provider_speaks_for_its_own_users_alone() {
    let providers = Providers::new().await;
    let (a, b) = (providers.mimi("a"), providers.mimi("b"));
    let not_theirs = |result: Result<(), MimiError>, whose| {
        assert!(
            matches!(result, Err(MimiError::NotTheirs { what, .. }) if what == whose),
            "{result:?}"
        );
    };
    let request = entry(ConsentAction::Request, ALICE, BOB, None);
    not_theirs(b.request_consent(&server("c"), &request).await, "the requester");
    let elsewhere = entry(ConsentAction::Request, ALICE, "mimi://c.example/u/cathy", None);
    not_theirs(b.request_consent(&server("a"), &elsewhere).await, "the target");
    let granted = entry(grant(), ALICE, BOB, None);
    not_theirs(a.update_consent(&server("c"), &granted).await, "the target");
    let elsewhere = entry(grant(), "mimi://c.example/u/cathy", BOB, None);
    not_theirs(a.update_consent(&server("b"), &elsewhere).await, "the requester");
    // Nor may one decide about one's own request.
    not_theirs(b.update_consent(&server("a"), &granted).await, "the target");
    assert_eq!(
        providers.store("b").consent(&scope(ALICE, BOB, None)).await.unwrap(),
        Default::default()
    );
}

#[tokio::test]
async fn operations_belong_to_one_endpoint_each() {
    let providers = Providers::new().await;
    for operation in [grant(), ConsentAction::Revoke] {
        let refused = providers.alice(operation, BOB, None).await;
        assert!(
            matches!(
                refused,
                Err(MimiError::Invalid {
                    field: "consentOperation",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    for operation in [ConsentAction::Request, ConsentAction::Cancel] {
        let entry = entry(operation, ALICE, BOB, None);
        for (at, from) in [("b", "b"), ("a", "b")] {
            let refused = providers.mimi(at).update_consent(&server(from), &entry).await;
            assert!(
                matches!(
                    refused,
                    Err(MimiError::Invalid {
                        field: "consentOperation",
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn who_is_a_user_is_told_only_if_the_operator_wants_it() {
    let providers = Providers::new().await;
    providers.alice(ConsentAction::Request, NOBODY, None).await.unwrap();
    let to_nobody = entry(grant(), "mimi://a.example/u/nobody", BOB, None);
    providers
        .mimi("b")
        .update_consent(&server("b"), &to_nobody)
        .await
        .unwrap();

    let users = UserSettings {
        hide_users: false,
        ..UserSettings::default()
    };
    let open = Providers::with(users).await;
    open.alice(ConsentAction::Request, BOB, None).await.unwrap();
    let unknown = open.alice(ConsentAction::Request, NOBODY, None).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("user"))), "{unknown:?}");
    let unknown = open.mimi("b").update_consent(&server("b"), &to_nobody).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("user"))), "{unknown:?}");
    // Of its own users a provider hides nothing from itself.
    let own = entry(ConsentAction::Request, "mimi://a.example/u/nobody", BOB, None);
    let unknown = providers.mimi("a").request_consent(&server("a"), &own).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("user"))), "{unknown:?}");
}

/// Nor does the time tell that an answer takes: the same is looked up, and the same kept.
#[tokio::test]
async fn as_much_is_done_with_a_decision_for_somebody_who_is_no_user_as_for_a_user() {
    const SOMEBODY: &str = "mimi://a.example/u/somebody";
    let done = async |providers: &Providers, user: &str, device: &MimiDevice, operation: ConsentAction| {
        let with_package = match operation {
            ConsentAction::Grant { .. } => ConsentAction::Grant {
                client_key_packages: vec![read_package(&device.key_package()).unwrap()],
            },
            other => other,
        };
        let (a, store) = (providers.mimi("a"), providers.store("a"));
        let before = store.lookups();
        let told = a
            .update_consent(&server("b"), &entry(with_package, user, BOB, None))
            .await;
        let looked_up = store.lookups() - before;
        let known = store.consents_of(&uri(user), 0, 10).await.unwrap();
        let decisions: Vec<_> = known
            .iter()
            .map(|kept| kept.decision.map(|(decision, _)| decision))
            .collect();
        let scope = scope(user, BOB, None);
        let packages = store.granted_key_packages(&scope, wall_clock()).await.unwrap();
        (told.is_ok(), looked_up, decisions, packages.len())
    };
    let providers = Providers::new().await;
    let phone = MimiDevice::new(PHONE);
    for operation in [grant(), grant(), ConsentAction::Revoke] {
        let of_alice = done(&providers, ALICE, &phone, operation.clone()).await;
        assert!(of_alice.0, "{operation:?}");
        assert_eq!(done(&providers, SOMEBODY, &phone, operation).await, of_alice);
    }
    // Where users are not hidden it would show.
    let users = UserSettings {
        hide_users: false,
        ..UserSettings::default()
    };
    let open = Providers::with(users).await;
    let of_alice = done(&open, ALICE, &phone, grant()).await;
    assert_ne!(done(&open, SOMEBODY, &phone, grant()).await, of_alice);
}

#[tokio::test]
async fn key_packages_that_go_with_a_grant_count_as_handed_out_and_are_there_for_the_requester() {
    let providers = Providers::new().await;
    providers.upload(&MimiDevice::new(PHONE), PHONE, 2).await;
    let entry = entry(grant(), ALICE, BOB, None);
    providers.mimi("b").grant_with_key_packages(&entry).await.unwrap();
    let left = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(left[0].left, 1);
    assert_eq!(
        providers.known("a", ALICE).await,
        [(None, false, Some(ConsentDecision::Granted))]
    );
    let scope = scope(ALICE, BOB, None);
    let at_a = providers.store("a").granted_key_packages(&scope, wall_clock());
    let at_a = at_a.await.unwrap();
    assert_eq!(
        at_a.iter()
            .map(|package| package.client.to_string())
            .collect::<Vec<_>>(),
        [PHONE]
    );
    let references = [at_a[0].reference.clone()];
    let issued = providers
        .store("b")
        .issued_key_packages(&references, &server("a"), &uri(ROOM))
        .await
        .unwrap();
    assert_eq!(issued.len(), 1);
}

#[tokio::test]
async fn key_packages_go_with_grants_of_ones_own_alone() {
    let providers = Providers::new().await;
    providers.upload(&MimiDevice::new(PHONE), PHONE, 1).await;
    let b = providers.mimi("b");
    let refused = b
        .grant_with_key_packages(&entry(ConsentAction::Revoke, ALICE, BOB, None))
        .await;
    let is_wrong = matches!(&refused, Err(MimiError::Invalid { field, .. }) if *field == "consentOperation");
    assert!(is_wrong, "{refused:?}");
    let refused = b.grant_with_key_packages(&entry(grant(), BOB, ALICE, None)).await;
    assert!(matches!(refused, Err(MimiError::NotTheirs { .. })), "{refused:?}");
    let refused = b.grant_with_key_packages(&entry(grant(), ALICE, NOBODY, None)).await;
    assert!(matches!(refused, Err(MimiError::Unknown("user"))), "{refused:?}");
    assert_eq!(b.key_packages_on_offer(&uri(BOB)).await.unwrap()[0].left, 1);
    assert_eq!(providers.made(), []);
}

#[tokio::test]
async fn key_packages_of_others_come_with_no_grant() {
    let providers = Providers::new().await;
    let with = |device: MimiDevice| ConsentAction::Grant {
        client_key_packages: vec![read_package(&device.key_package()).unwrap()],
    };
    let mallory = with(MimiDevice::new("mimi://b.example/d/mallory/M"));
    let refused = providers
        .mimi("a")
        .update_consent(&server("b"), &entry(mallory, ALICE, BOB, None))
        .await;
    assert!(
        matches!(
            refused,
            Err(MimiError::Invalid {
                field: "clientKeyPackages",
                ..
            })
        ),
        "{refused:?}"
    );
    let own = with(MimiDevice::new(PHONE));
    let refused = providers.bob(own, None).await;
    assert!(
        matches!(
            refused,
            Err(MimiError::Invalid {
                field: "clientKeyPackages",
                ..
            })
        ),
        "{refused:?}"
    );
}
