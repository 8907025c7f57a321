//! How many requests without a verdict one user may have.

use nabe_mls::testing::mimi::{MimiDevice, TestHub};
use nabe_wire::Encode as _;
use nabe_wire::submit_message::Submission;
use nabe_wire::uri::MimiUri;

use super::*;
use crate::client::testing::server;
use crate::mimi::testing::{Backend, Providers, status};

#[tokio::test]
async fn requests_without_a_verdict_are_bounded_by_user() {
    let providers = Providers::on(Backend::Sqlite, &["a", "b"]).await;
    providers.intercept(|to, _| (*to == server("a")).then(|| status(500, None)));
    let (bob, room) = ("mimi://b.example/u/bob", "mimi://a.example/r/clubhouse");
    let (bob, room) = (MimiUri::parse(bob).unwrap(), MimiUri::parse(room).unwrap());
    let mut member = MimiDevice::new("mimi://b.example/d/bob/B").create_room(&TestHub::new("mimi://a.example"));
    let mut send = async || {
        let request = SubmitMessageRequest::from(Submission {
            app_message: Kept::new(MlsMessage {
                body: MlsMessageBody::Private(member.encrypt(b"hello", None)),
            }),
            sending_uri: nabe_wire::IdentifierUri::new(bob.to_string()).unwrap(),
        });
        let body = request.to_bytes().into();
        providers
            .mimi("b")
            .forward_submit(&bob, &room, &body)
            .await
            .unwrap_err()
    };
    for _ in 0..MAX_OPEN {
        let error = send().await;
        assert!(matches!(error, MimiError::BadAnswer { .. }), "{error:?}");
    }
    let error = send().await;
    assert!(matches!(error, MimiError::LimitExceeded { .. }), "{error:?}");
}
