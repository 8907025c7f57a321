//! Alice of `h.example` says what she is found by, and looks for others.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use http_body_util::BodyExt as _;
use nabe_mls::testing::mimi::TestHub;
use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::identifier_query::{
    IdentifierQueryCode, IdentifierResponse, QueryElement, SearchField, SearchIdentifierType,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Answer, World, client_request};

const PATH: &str = "/_nabe/v1/mimi/profile";

fn provider() -> World {
    World::provider_with(Arc::new(TestHub::new("mimi://h.example")))
}

/// With the credential of a device of Alice's.
async fn by_device(world: &World, token: &str, body: &Value) -> Answer {
    let request = Request::put(PATH)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    world.ask(request).await
}

async fn by_provider(world: &World, body: &Value) -> Answer {
    world
        .ask(client_request("alice", "PUT", PATH, &body.to_string(), &[]))
        .await
}

async fn looked_for(world: &World, by: SearchIdentifierType, value: &str) -> IdentifierResponse {
    let query = IdentifierRequest {
        query_elements: vec![QueryElement {
            search: SearchField::Other(by),
            search_value: value.into(),
        }],
        id_request_extensions: AppDataDictionary::default(),
    };
    let mut request = client_request("bob", "POST", "/_nabe/v1/mimi/identifier_query/h.example", "", &[]);
    *request.body_mut() = Body::from(query.to_bytes());
    let (head, body) = world.raw(request).await.into_parts();
    assert_eq!(head.status, 200);
    IdentifierResponse::from_bytes(&body.collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn a_user_is_found_by_what_the_profile_lets_be_searched_and_shows_what_it_lets_be_shown() {
    let world = provider();
    let email = |searchable: &str| json!({ "kind": "email", "value": "alice@mail.example", "searchable": searchable, "shown": false });
    let name =
        json!({ "kind": "claim", "name": "given_name", "value": "Alice", "searchable": "in_part", "shown": true });
    let profile = json!({ "fields": [email("never"), name] });
    by_provider(&world, &profile).await.expect(200);
    let kept = world
        .ask(client_request("alice", "GET", PATH, "", &[]))
        .await
        .expect(200);
    assert_eq!(kept, profile);
    let by_email = looked_for(&world, SearchIdentifierType::EMAIL, "alice@mail.example").await;
    assert_eq!(by_email.response_code, IdentifierQueryCode::NOT_FOUND);

    // Alice herself lets it be searched for.
    let token = world.token("alice", Some("phone")).await;
    by_device(&world, &token, &json!({ "fields": [email("exactly"), name] }))
        .await
        .expect(200);
    let by_email = looked_for(&world, SearchIdentifierType::EMAIL, "alice@mail.example").await;
    assert_eq!(by_email.response_code, IdentifierQueryCode::SUCCESS);
    assert_eq!(by_email.uri[0].as_str(), "mimi://h.example/u/alice");
    let shown = &by_email.found_profiles[0].fields;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(
        (&*shown[0].field_name.0, &*shown[0].field_value),
        ("given_name", &b"Alice"[..])
    );
    let in_part = looked_for(&world, SearchIdentifierType::PARTIAL_NAME, "LIC").await;
    assert_eq!(in_part.uri, by_email.uri);
}

#[tokio::test]
async fn whose_an_address_is_the_provider_says() {
    let world = provider();
    let token = world.token("alice", Some("phone")).await;
    for kind in ["handle", "email", "phone"] {
        let field = json!({ "kind": kind, "value": "x", "searchable": "exactly", "shown": true });
        let body = json!({ "fields": [field] });
        by_device(&world, &token, &body).await.expect_code(403, "forbidden");
        by_provider(&world, &body).await.expect(200);
        by_device(&world, &token, &body).await.expect(200);
    }
}

#[tokio::test]
async fn a_profile_that_does_not_read_is_refused_with_the_field() {
    let world = provider();
    let field = |kind: &str, name: Value| {
        let mut field = json!({ "kind": kind, "value": "x", "searchable": "never", "shown": false });
        if !name.is_null() {
            field["name"] = name;
        }
        field
    };
    for (wrong, told) in [
        (field("claim", Value::Null), "`fields[1].name`"),
        (field("nick", json!("x")), "`fields[1].name`"),
    ] {
        let body = json!({ "fields": [field("nick", Value::Null), wrong] });
        let text = by_provider(&world, &body).await.expect_code(400, "bad_request");
        assert!(text.contains(told), "{text}");
    }
    let unknown = json!({ "fields": [field("shoe_size", Value::Null)] });
    by_provider(&world, &unknown).await.expect_code(400, "bad_request");
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_told_of() {
    let world = provider();
    let mut request = client_request("bob", "POST", "/_nabe/v1/mimi/identifier_query/h_h", "", &[]);
    let query = IdentifierRequest {
        query_elements: Vec::new(),
        id_request_extensions: AppDataDictionary::default(),
    };
    *request.body_mut() = Body::from(query.to_bytes());
    world.ask(request).await.expect_code(400, "bad_request");
}
