//! What surrounds the routes.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::testing::World;
use crate::{client_router, federation_router, operations_router};

async fn status(router: axum::Router, target: &str) -> u16 {
    router
        .oneshot(Request::builder().uri(target).body(Body::empty()).unwrap())
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn each_router_has_its_own_routes_only() {
    let state = World::new().state;
    let (keys, health, metrics) = ("/_matrix/key/v2/server", "/_nabe/health/live", "/metrics");
    for (router, expected) in [
        (crate::app(state.clone()), [200, 200, 404]),
        (federation_router(state.clone()), [200, 404, 404]),
        (client_router(state.clone()), [404, 200, 404]),
        (operations_router(state), [404, 200, 200]),
    ] {
        let found = [
            status(router.clone(), keys).await,
            status(router.clone(), health).await,
            status(router, metrics).await,
        ];
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn metrics_are_text() {
    let router = operations_router(World::new().state);
    let response = router
        .oneshot(Request::builder().uri("/metrics").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "nabe_up 1\n");
}

#[tokio::test]
async fn fuzzing_entry_takes_anything() {
    for target in [
        "",
        "/a?ver=1&ver=2&v=%ff",
        "/a?ver=1&ver=2&limit=3&event_id=",
        "\u{7f}",
        "*",
    ] {
        crate::fuzzing::path(target.as_bytes());
    }
    crate::fuzzing::path(&[0xff, 0xfe]);
}
