//! Alice at `a.example` wants to add Bob at `b.example`.

use nabe_mls::testing::mimi::MimiDevice;
use nabe_store::{MimiStore as _, MimiUserStore as _};

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

#[tokio::test]
async fn key_packages_that_come_with_a_grant_count_as_handed_out_and_are_taken_once() {
    let providers = Providers::new().await;
    providers.upload(&MimiDevice::new(PHONE), PHONE, 2).await;
    let granted = scope(ALICE, BOB, None);
    providers.mimi("b").grant(&granted).await.unwrap();
    let left = providers.mimi("b").key_packages_on_offer(&uri(BOB)).await.unwrap();
    assert_eq!(left[0].left, 1);
    let taken = providers.mimi("a").take_granted_key_packages(&granted).await.unwrap();
    assert_eq!(
        taken
            .iter()
            .map(|package| package.client.to_string())
            .collect::<Vec<_>>(),
        [PHONE]
    );
    let again = providers.mimi("a").take_granted_key_packages(&granted).await.unwrap();
    assert_eq!(again, []);
    // Both know where a Welcome goes.
    let references = [taken[0].reference.clone()];
    assert_eq!(
        providers
            .store("a")
            .fetched_key_packages(&references)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        providers
            .store("b")
            .issued_key_packages(&references)
            .await
            .unwrap()
            .len(),
        1
    );
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
