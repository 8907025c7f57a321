//! What concerns users: key packages, consent, and what hubs notify of. `p.example` calls, with a certificate; `alice` is a user of
//! `h.example`, whose directory it takes the paths from.

use nabe_mls::testing::mimi::{MimiDevice, key_material_request};
use nabe_mls::testing::wall_clock;
use nabe_service::ports::Clock as _;
use nabe_wire::IdentifierUri;
use nabe_wire::consent::{ConsentAction, ConsentEntry, ConsentScope};
use nabe_wire::key_material::{KeyMaterialResponse, KeyMaterialUserCode};
use nabe_wire::mls::{MlsMessage, RequiredCapabilities};
use nabe_wire::notify::{FanoutBatch, FanoutMessage, FanoutParts};
use nabe_wire::uri::MimiUri;

use super::*;
use crate::testing::user;

const ALICE: &str = "mimi://h.example/u/alice";
const PHONE: &str = "mimi://h.example/d/alice/phone";
const PETER: &str = "mimi://p.example/u/peter";
const ROOM: &str = "mimi://p.example/r/club";

/// The server with its endpoints, and Alice's account.
struct Provider {
    world: World,
    pki: Pki,
    router: Router,
}

impl Provider {
    async fn new() -> Self {
        let world = World::provider();
        world.clock.set(wall_clock());
        world
            .state
            .service
            .register_device(&user("alice", "h"), None)
            .await
            .unwrap();
        let router = endpoints().router(settings(), world.state.clone()).unwrap();
        Self {
            router,
            world,
            pki: Pki::new(),
        }
    }

    /// `p.example` posts a body.
    async fn post(&self, endpoint: Endpoint, target: &str, body: Vec<u8>) -> (u16, Bytes) {
        let (_, document) = directory(&self.router).await;
        let mut request = request(&self.pki, endpoint, &path_of(&document, endpoint, target));
        *request.body_mut() = body.into();
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
    }

    async fn key_material(&self, target: &str, room: &str) -> (u16, Bytes) {
        let device = MimiDevice::new("mimi://p.example/d/peter/P");
        let required = RequiredCapabilities {
            extension_types: Vec::new(),
            proposal_types: Vec::new(),
            credential_types: Vec::new(),
        };
        let request = key_material_request(&device, target, Some(room), required);
        self.post(Endpoint::KeyMaterial, ALICE, request.to_bytes()).await
    }

    fn mimi(&self) -> Mimi {
        self.world.state.service.mimi().unwrap()
    }
}

fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).unwrap()
}

fn entry(operation: ConsentAction, requester: &str, target: &str) -> ConsentEntry {
    ConsentEntry {
        operation,
        scope: ConsentScope {
            requester_uri: uri(requester),
            target_uri: uri(target),
            room_id: None,
        },
        consent_extensions: Default::default(),
    }
}

fn grant() -> ConsentAction {
    ConsentAction::Grant {
        client_key_packages: Vec::new(),
    }
}

#[tokio::test]
async fn key_material_is_answered_with_200_whatever_the_status_in_it() {
    let provider = Provider::new().await;
    let phone = MimiDevice::new(PHONE);
    let parsed = |text| MimiUri::parse(text).unwrap();
    let packages = vec![phone.key_package().into()];
    let kept = provider
        .mimi()
        .upload_key_packages(&parsed(ALICE), &parsed(PHONE), packages)
        .await;
    assert!(kept.unwrap()[0].is_ok());
    let status = |(status, body): (u16, Bytes)| {
        assert_eq!(status, 200);
        KeyMaterialResponse::from_bytes(&body).unwrap().user_status
    };
    assert_eq!(
        status(provider.key_material(ALICE, ROOM).await),
        KeyMaterialUserCode::NO_CONSENT
    );
    let granted = entry(grant(), PETER, ALICE);
    // Told to `p.example`, which does not answer.
    assert!(provider.mimi().update_consent(&server("h"), &granted).await.is_err());
    assert_eq!(
        status(provider.key_material(ALICE, ROOM).await),
        KeyMaterialUserCode::SUCCESS
    );
    let exhausted = provider.key_material(ALICE, ROOM).await;
    assert_eq!(status(exhausted), KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL);
    // The path's user is another than the body's; the room is another hub's.
    assert_eq!(provider.key_material("mimi://h.example/u/bob", ROOM).await.0, 400);
    assert_eq!(provider.key_material(ALICE, "mimi://q.example/r/club").await.0, 403);
    assert_eq!(provider.post(Endpoint::KeyMaterial, ALICE, vec![1]).await.0, 400);
    assert_eq!(provider.post(Endpoint::KeyMaterial, "alice", Vec::new()).await.0, 400);
}

#[tokio::test]
async fn consent_is_answered_with_201_and_nothing() {
    let provider = Provider::new().await;
    let taken = (201, Bytes::new());
    for target in [ALICE, "mimi://h.example/u/nobody"] {
        for operation in [ConsentAction::Request, ConsentAction::Cancel] {
            let body = entry(operation, PETER, target).to_bytes();
            assert_eq!(
                provider.post(Endpoint::RequestConsent, target, body.clone()).await,
                taken
            );
            assert_eq!(provider.post(Endpoint::RequestConsent, "h.example", body).await, taken);
        }
        for operation in [grant(), ConsentAction::Revoke] {
            let body = entry(operation, target, PETER).to_bytes();
            assert_eq!(provider.post(Endpoint::UpdateConsent, target, body).await, taken);
        }
    }
    let others = entry(ConsentAction::Request, "mimi://q.example/u/quentin", ALICE).to_bytes();
    assert_eq!(provider.post(Endpoint::RequestConsent, ALICE, others).await.0, 403);
    let others = entry(grant(), ALICE, "mimi://q.example/u/quentin").to_bytes();
    assert_eq!(provider.post(Endpoint::UpdateConsent, ALICE, others).await.0, 403);
    let wrong = entry(grant(), PETER, ALICE).to_bytes();
    assert_eq!(provider.post(Endpoint::RequestConsent, ALICE, wrong).await.0, 400);
    assert_eq!(provider.post(Endpoint::UpdateConsent, ALICE, vec![2]).await.0, 400);
}

#[tokio::test]
async fn a_notification_is_answered_with_201_again_and_again_or_404() {
    let provider = Provider::new().await;
    let parsed = |text| MimiUri::parse(text).unwrap();
    let phone = MimiDevice::new(PHONE);
    let package = phone.key_package();
    let kept = provider
        .mimi()
        .upload_key_packages(&parsed(ALICE), &parsed(PHONE), vec![package.clone().into()])
        .await;
    assert!(kept.unwrap()[0].is_ok());
    assert!(
        provider
            .mimi()
            .update_consent(&server("h"), &entry(grant(), PETER, ALICE))
            .await
            .is_err()
    );
    assert_eq!(provider.key_material(ALICE, ROOM).await.0, 200);

    let body = FanoutBatch::new(vec![welcome(package, &provider.world)])
        .unwrap()
        .to_bytes();
    let elsewhere = provider
        .post(Endpoint::Notify, "mimi://q.example/r/club", body.clone())
        .await;
    assert_eq!(elsewhere.0, 403);
    let nobody_s = FanoutBatch::new(vec![welcome(phone.key_package(), &provider.world)]).unwrap();
    assert_eq!(provider.post(Endpoint::Notify, ROOM, nobody_s.to_bytes()).await.0, 404);
    for _ in 0..2 {
        assert_eq!(
            provider.post(Endpoint::Notify, ROOM, body.clone()).await,
            (201, Bytes::new())
        );
    }
    let read = provider
        .mimi()
        .messages(&parsed(ALICE), &parsed(ROOM), nabe_types::LogPosition::ZERO, 9, 1 << 20)
        .await;
    assert_eq!(read.unwrap().len(), 1);
    let (status, text) = provider
        .post(Endpoint::Notify, ROOM, body[..body.len() - 1].to_vec())
        .await;
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&text).contains("field"), "{text:?}");
}

#[tokio::test]
async fn a_query_for_a_user_is_answered_with_200_by_our_domain_alone() {
    use nabe_wire::identifier_query::{IdentifierQueryCode, IdentifierRequest, IdentifierResponse};

    let provider = Provider::new().await;
    let nothing = IdentifierRequest {
        query_elements: Vec::new(),
        id_request_extensions: Default::default(),
    };
    let query = nothing.to_bytes();
    let (status, body) = provider
        .post(Endpoint::IdentifierQuery, "h.example", query.clone())
        .await;
    let code = IdentifierResponse::from_bytes(&body).unwrap().response_code;
    assert_eq!((status, code), (200, IdentifierQueryCode::FORBIDDEN));
    assert_eq!(
        provider.post(Endpoint::IdentifierQuery, "p.example", query).await.0,
        404
    );
    assert_eq!(
        provider.post(Endpoint::IdentifierQuery, "h.example", vec![9]).await.0,
        400
    );
}

/// A Welcome for a client, by a member of a group elsewhere.
fn welcome(package: Vec<u8>, world: &World) -> FanoutMessage {
    use nabe_mls::testing::mimi::{Change, TestHub};
    use nabe_wire::Kept;
    use nabe_wire::mls::{MlsMessageBody, RatchetTreeOption};

    let hub = TestHub::new("mimi://p.example");
    let mut peter = MimiDevice::new("mimi://p.example/d/peter/P").create_room(&hub);
    let bundle = peter.commit(Change {
        add: vec![package],
        ..Change::default()
    });
    peter.merge();
    FanoutMessage {
        timestamp: world.clock.now().as_u64(),
        message: Kept::new(MlsMessage {
            body: MlsMessageBody::Welcome(Box::new(bundle.welcome().clone())),
        }),
        with: FanoutParts::Welcome {
            ratchet_tree_option: RatchetTreeOption::Full(peter.tree()),
        },
    }
}
