//! What a hub is asked about rooms: `p.example` calls, with a certificate. What becomes of rooms that are there is told in the service; here
//! it is about what a request has to be like, and in which form answers come.

use nabe_mls::testing::mimi::{MimiDevice, TestHub, group_info_query};
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::mls::{MlsMessage, MlsMessageBody};
use nabe_wire::submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::UpdateResponseCode;
use nabe_wire::{IdentifierUri, Kept};

use super::*;

const CELLAR: &str = "mimi://h.example/r/cellar";

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

#[tokio::test]
async fn a_server_that_is_no_provider_has_no_room_endpoints() {
    let (world, pki) = (World::new(), Pki::new());
    let router = endpoints().router(settings(), world.state.clone()).unwrap();
    for (endpoint, body) in bodies() {
        let (status, _) = post(&pki, &router, endpoint, CELLAR, body).await;
        assert_eq!(status, 404, "{endpoint}");
    }
}
