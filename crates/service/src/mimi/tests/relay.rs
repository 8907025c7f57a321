//! What users have sealed for the gateway of a hub.

use futures_util::{StreamExt as _, stream};

use super::*;
use crate::mimi::{MimiError, Relayed};
use crate::ports::{PeerError, PeerStream};

fn answer(status: u16, media_type: &str, body: &'static str) -> PeerStream {
    PeerStream {
        status,
        content_type: Some(media_type.to_owned()),
        body: Box::pin(stream::iter([Ok(Bytes::from_static(body.as_bytes()))])),
    }
}

fn uri(text: &str) -> MimiUri {
    MimiUri::parse(text).unwrap()
}

/// What the gateway's answer becomes, by the relay of `b.example`.
async fn relayed(room: &Room, answer: PeerStream) -> Result<Option<Vec<Bytes>>, MimiError> {
    room.providers.gateway_answers(answer);
    let mimi = room.providers.mimi("b");
    Ok(
        match mimi
            .relay(&uri(BOB), &server("a"), Bytes::from_static(b"sealed"))
            .await?
        {
            Relayed::Answer(body) => Some(body.map(Result::unwrap).collect().await),
            Relayed::UnknownKey => None,
        },
    )
}

#[tokio::test]
async fn a_user_reaches_the_gateways_of_the_hubs_of_their_rooms_and_no_others() {
    let room = Room::of_three().await;
    let mimi = room.providers.mimi("b");
    let gateway = async |user: &str, provider: &str| mimi.gateway_for(&uri(user), provider).await;
    assert_eq!(gateway(BOB, "a.example").await.unwrap(), server("a"));
    for (user, provider) in [
        (BOB, "b.example"),
        (BOB, "c.example"),
        (BOB, "a.example:8443"),
        (BOB, "127.0.0.1"),
        (BOB, "a.example/x"),
        (BOB, ""),
        ("mimi://b.example/u/ben", "a.example"),
    ] {
        let refused = gateway(user, provider).await.unwrap_err();
        assert!(matches!(refused, MimiError::Unknown(_)), "{user} {provider}: {refused}");
    }
    let alice = uri("mimi://a.example/u/alice");
    let own = room.providers.mimi("a").gateway_for(&alice, "a.example").await;
    assert_eq!(own.unwrap(), server("a"));
}

#[tokio::test]
async fn what_is_sealed_goes_to_the_gateway_as_it_is_and_the_answer_back() {
    let room = Room::of_three().await;
    let file = relayed(&room, answer(200, "message/ohttp-res", "a sealed file")).await;
    assert_eq!(file.unwrap().unwrap(), ["a sealed file"]);
    let sealed = (server("b"), server("a"), Bytes::from_static(b"sealed"));
    assert_eq!(room.providers.relayed(), [sealed]);
}

#[tokio::test]
async fn an_answer_that_is_not_sealed_is_handed_to_nobody() {
    let room = Room::of_three().await;
    let problem = r#"{"type":"https://iana.org/assignments/http-problem-types#ohttp-key"}"#;
    let of_the_key = relayed(&room, answer(400, "application/problem+json", problem)).await;
    assert!(of_the_key.unwrap().is_none());
    for (status, media_type, body) in [
        (200, "text/html", "<script>"),
        (400, "application/problem+json", r#"{"type":"about:blank"}"#),
        (400, "application/problem+json", "["),
        (400, "text/plain", problem),
        (500, "application/problem+json", problem),
        (404, "message/ohttp-res", "x"),
    ] {
        let refused = relayed(&room, answer(status, media_type, body)).await.unwrap_err();
        assert!(
            matches!(refused, MimiError::BadAnswer { .. }),
            "{status} {body}: {refused}"
        );
    }
    for status in [429, 503] {
        let busy = relayed(&room, answer(status, "text/plain", "")).await.unwrap_err();
        assert!(matches!(busy, MimiError::LimitExceeded { .. }), "{busy}");
    }
}

#[tokio::test]
async fn a_problem_without_end_is_not_read_to_its_end() {
    let room = Room::of_three().await;
    let endless = stream::repeat_with(|| Ok::<_, PeerError>(Bytes::from_static(&[b'['; 1024])));
    let endless = PeerStream {
        body: Box::pin(endless),
        ..answer(400, "application/problem+json", "")
    };
    let refused = relayed(&room, endless).await.unwrap_err();
    assert!(matches!(refused, MimiError::BadAnswer { .. }), "{refused}");
}

#[tokio::test]
async fn a_hub_without_a_gateway_is_named() {
    let room = Room::of_three().await;
    let mimi = room.providers.mimi("b");
    let keys = mimi.gateway_keys(&server("a")).await.unwrap_err();
    assert!(matches!(keys, MimiError::Unknown(_)), "{keys}");
    let sealed = mimi.relay(&uri(BOB), &server("a"), Bytes::new()).await.err().unwrap();
    assert!(matches!(sealed, MimiError::Unknown(_)), "{sealed}");
}

#[tokio::test]
async fn one_user_does_not_have_all_the_downloads_that_may_go_on() {
    let room = Room::of_three().await;
    let mimi = room.providers.mimi("b");
    let begin = async |user: &str| {
        room.providers.gateway_answers(answer(200, "message/ohttp-res", "x"));
        mimi.relay(&uri(user), &server("a"), Bytes::new()).await
    };
    let mut open = Vec::new();
    for _ in 0..mimi.settings().assets.of_user {
        open.push(begin(BOB).await.unwrap());
    }
    let refused = begin(BOB).await.err().unwrap();
    assert!(matches!(refused, MimiError::LimitExceeded { .. }), "{refused}");
    begin("mimi://b.example/u/ben").await.unwrap();
    open.pop();
    begin(BOB).await.unwrap();
}
