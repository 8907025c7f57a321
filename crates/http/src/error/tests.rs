use http_body_util::BodyExt as _;
use nabe_service::Missing;
use nabe_service::ports::PeerError;

use super::*;
use crate::testing::server;

/// A failure, and status and code as a peer and as a client hear it.
type Case = (ServiceError, (u16, &'static str), (u16, &'static str));

async fn heard(response: Response) -> (u16, serde_json::Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn wrong_server_names_the_hub() {
    let error = ServiceError::WrongServer { hub: Some(server("t")) };
    let (status, body) = heard(FederationError::from(error).into_response()).await;
    assert_eq!(status, 400);
    assert_eq!(body["errcode"], "M_WRONG_SERVER");
    assert_eq!(body["hub_server"], "t.example");
}

#[tokio::test]
async fn refusal_of_another_server_is_passed_on_as_it_is() {
    let body = Bytes::from_static(br#"{"errcode":"ORG_EXAMPLE_NO","error":"not you"}"#);
    let error = || ServiceError::Proxied {
        status: 418,
        body: body.clone(),
    };
    let response = FederationError::from(error()).into_response();
    assert_eq!(response.status().as_u16(), 418);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    let (status, body) = heard(ClientError::from(error()).into_response()).await;
    assert_eq!((status, &body["error"]["code"]), (502, &"peer_refused".into()));
    assert!(
        body["error"]["message"].as_str().unwrap().ends_with(": not you"),
        "{body}"
    );
}

#[tokio::test]
async fn each_failure_has_its_status_and_code_for_both_sides() {
    let peer = server("p");
    let cases: [Case; 12] = [
        (
            ServiceError::PolicyRefused { server: peer.clone() },
            (403, "M_FORBIDDEN"),
            (403, "forbidden"),
        ),
        (
            ServiceError::NotFound(Missing::Room),
            (404, "M_NOT_FOUND"),
            (404, "not_found"),
        ),
        (ServiceError::BadJson("x"), (400, "M_BAD_JSON"), (400, "bad_request")),
        (
            ServiceError::InvalidParam("x"),
            (400, "M_INVALID_PARAM"),
            (400, "bad_request"),
        ),
        (
            ServiceError::TransactionInProgress,
            (400, "M_BAD_STATE"),
            (409, "conflict"),
        ),
        (
            ServiceError::LimitExceeded {
                retry_after: Duration::from_millis(1),
            },
            (429, "M_LIMIT_EXCEEDED"),
            (429, "limit_exceeded"),
        ),
        (
            ServiceError::PeerFailed {
                server: peer.clone(),
                error: PeerError::Timeout,
            },
            (502, "M_UNKNOWN"),
            (502, "peer_unreachable"),
        ),
        (
            ServiceError::BadAnswer {
                server: peer,
                what: "x",
            },
            (502, "M_UNKNOWN"),
            (502, "peer_refused"),
        ),
        (ServiceError::RoomTooBusy, (503, "M_UNKNOWN"), (503, "unavailable")),
        (ServiceError::ShuttingDown, (503, "M_UNKNOWN"), (503, "unavailable")),
        (ServiceError::UnknownToken, (403, "M_FORBIDDEN"), (401, "unauthorized")),
        (ServiceError::NotInRoom, (403, "M_FORBIDDEN"), (403, "forbidden")),
    ];
    for (error, (peer_status, errcode), (client_status, code)) in cases {
        let (status, body) = heard(FederationError::from(error.clone()).into_response()).await;
        assert_eq!(
            (status, body["errcode"].as_str().unwrap()),
            (peer_status, errcode),
            "{error:?}"
        );
        let (status, body) = heard(ClientError::from(error.clone()).into_response()).await;
        assert_eq!(
            (status, body["error"]["code"].as_str().unwrap()),
            (client_status, code),
            "{error:?}"
        );
    }
}
