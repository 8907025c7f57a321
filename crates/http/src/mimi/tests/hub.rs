//! What a hub is asked about rooms: `p.example` calls, with a certificate. What becomes of rooms that are there is told in the service; here
//! it is about what a request has to be like, and in which form answers come.

use nabe_auth::mimi::templates;
use nabe_mls::testing::mimi::{MimiDevice, RoomDraft, TestHub, group_info_query, metadata};
use nabe_mls::testing::wall_clock;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::mls::{ComponentId, MlsMessage, MlsMessageBody, RatchetTreeOption};
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::report_abuse::{AbuseReport, AbuseType};
use nabe_wire::submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::UpdateResponseCode;
use nabe_wire::uri::MimiUri;
use nabe_wire::{IdentifierUri, Kept};

use super::*;

const CELLAR: &str = "mimi://h.example/r/cellar";
const CLUB: &str = "mimi://h.example/r/club";
const ALICE: &str = "mimi://h.example/u/alice";

/// What a client of `p.example` has to say: a commit, a message, a question for the GroupInfo.
fn bodies() -> [(Endpoint, Vec<u8>); 3] {
    let device = MimiDevice::new("mimi://p.example/d/peter/P");
    let mut member = device.create_room(&TestHub::new("mimi://h.example"));
    let submission = Submission {
        app_message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(member.encrypt(b"hello", None)),
        }),
        sending_uri: IdentifierUri::new("mimi://p.example/u/peter").unwrap(),
    };
    let update = member.update().to_request();
    let (query, _) = group_info_query(&device);
    [
        (Endpoint::Update, update),
        (
            Endpoint::SubmitMessage,
            SubmitMessageRequest::from(submission).to_bytes(),
        ),
        (Endpoint::GroupInfo, GroupInfoRequest::from(query).to_bytes()),
    ]
}

async fn post(pki: &Pki, router: &Router, endpoint: Endpoint, target: &str, body: Vec<u8>) -> (u16, Bytes) {
    let (_, document) = directory(router).await;
    let mut request = request(pki, endpoint, &path_of(&document, endpoint, target));
    *request.body_mut() = body.into();
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn what_a_hub_refuses_is_answered_with_200_and_a_verdict() {
    let (world, pki) = (World::provider(), Pki::new());
    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    for (endpoint, body) in bodies() {
        let (status, answer) = post(&pki, &router, endpoint, CELLAR, body).await;
        assert_eq!(status, 200, "{endpoint}");
        match endpoint {
            Endpoint::Update => {
                let answer = UpdateRoomResponse::from_bytes(&answer).unwrap();
                assert_eq!(answer.code(), UpdateResponseCode::NOT_ALLOWED);
            }
            Endpoint::SubmitMessage => {
                let answer = SubmitMessageResponse::from_bytes(&answer).unwrap();
                assert_eq!(answer.body.mls10(), Some(&SubmitVerdict::NotAllowed));
            }
            _ => {
                let answer = GroupInfoResponse::from_bytes(&answer).unwrap();
                assert_eq!(answer.room_id.as_str(), CELLAR);
                assert_eq!(answer.outcome.code(), GroupInfoCode::NO_SUCH_ROOM);
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_read_or_names_no_room_is_answered_with_400() {
    let (world, pki) = (World::provider(), Pki::new());
    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    for (endpoint, body) in bodies() {
        let longer = [&body[..], &[0]].concat();
        let shorter = body[..body.len() - 1].to_vec();
        for broken in [longer, shorter, Vec::new()] {
            let (status, _) = post(&pki, &router, endpoint, CELLAR, broken).await;
            assert_eq!(status, 400, "{endpoint}");
        }
        let (status, _) = post(&pki, &router, endpoint, "mimi://h.example/u/alice", body).await;
        assert_eq!(status, 400, "{endpoint}");
    }
}

fn report(accused: &str) -> Vec<u8> {
    AbuseReport {
        reporting_user: IdentifierUri::new("").unwrap(),
        alleged_abuser_uri: IdentifierUri::new(accused).unwrap(),
        reason_code: AbuseType::RESERVED,
        note: "rude".into(),
        messages: Vec::new(),
        abuse_extensions: AppDataDictionary::new(),
    }
    .to_bytes()
}

/// Alice's room, and the request by which Peter of `p.example`, who is on its list, joins it.
async fn club(world: &World, hub: &TestHub) -> Vec<u8> {
    let device = MimiDevice::new("mimi://h.example/d/alice/A");
    let mut draft = RoomDraft::new(&device, hub);
    let pair = |user: &str, role_index| UserRolePair {
        user: IdentifierUri::new(user).unwrap(),
        role_index,
    };
    let participants = vec![
        pair(ALICE, templates::SUPER_ADMIN),
        pair("mimi://p.example/u/peter", templates::ORDINARY_USER),
    ];
    let list = ParticipantListData { participants };
    for entry in templates::cooperative("h.example").dictionary(&list).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    draft.set(ComponentId::ROOM_METADATA, metadata(CLUB, "Club"));
    let (info, tree) = device.create_room_with(&draft).hand_over();
    let (alice, room) = [ALICE, CLUB].map(|uri| MimiUri::parse(uri).unwrap()).into();
    let peter = MimiDevice::new("mimi://p.example/d/peter/P");
    let option = RatchetTreeOption::Full(tree.clone());
    let (_, bundle) = peter.join_externally_with(info.as_bytes(), &option, &[], &[]);
    let mimi = world.state.service.mimi().unwrap();
    mimi.create_room(&alice, &room, info, tree).await.unwrap();
    bundle.to_request()
}

#[tokio::test]
async fn a_report_of_a_provider_in_the_room_is_taken_with_201_and_no_body() {
    let hub = Arc::new(TestHub::new("mimi://h.example"));
    let (world, pki) = (World::provider_with(Arc::clone(&hub)), Pki::new());
    world.clock.set(wall_clock());
    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    let join = club(&world, &hub).await;
    let ask = async |room: &str, body: Vec<u8>| post(&pki, &router, Endpoint::ReportAbuse, room, body).await;
    assert_eq!(ask(CLUB, report(ALICE)).await.0, 403, "before it is in the room");
    let (_, answer) = post(&pki, &router, Endpoint::Update, CLUB, join).await;
    let verdict = UpdateRoomResponse::from_bytes(&answer).unwrap();
    assert_eq!(verdict.code(), UpdateResponseCode::SUCCESS, "{verdict:?}");
    assert_eq!(ask(CLUB, report(ALICE)).await, (201, Bytes::new()));
    assert_eq!(ask(CELLAR, report(ALICE)).await.0, 404);
    for nonsense in [report(CLUB), [&report(ALICE)[..], &[0]].concat(), Vec::new()] {
        assert_eq!(ask(CLUB, nonsense).await.0, 400);
    }
}

#[tokio::test]
async fn a_server_that_is_no_provider_has_no_room_endpoints() {
    let (world, pki) = (World::new(), Pki::new());
    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    for (endpoint, body) in bodies() {
        let (status, _) = post(&pki, &router, endpoint, CELLAR, body).await;
        assert_eq!(status, 404, "{endpoint}");
    }
}
