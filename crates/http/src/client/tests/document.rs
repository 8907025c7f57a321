//! The document that describes the API.

use super::*;

/// Every route of the client API, as the contract with its users has it.
const ROUTES: &[&str] = &[
    "get /_nabe/health/live",
    "get /_nabe/health/ready",
    "get /_nabe/v1/devices",
    "delete /_nabe/v1/devices/{device_id}",
    "put /_nabe/v1/devices/{device_id}",
    "get /_nabe/v1/devices/{device_id}/key_packages",
    "post /_nabe/v1/devices/{device_id}/key_packages",
    "post /_nabe/v1/keys/claim",
    "post /_nabe/v1/media",
    "get /_nabe/v1/media/{server}/{media_id}",
    "delete /_nabe/v1/media/{server}/{media_id}",
    "post /_nabe/v1/mimi/assets",
    "get /_nabe/v1/mimi/consent",
    "post /_nabe/v1/mimi/consent",
    "get /_nabe/v1/mimi/hub",
    "post /_nabe/v1/mimi/key_material",
    "get /_nabe/v1/mimi/key_packages",
    "post /_nabe/v1/mimi/key_packages",
    "post /_nabe/v1/mimi/identifier_query/{domain}",
    "get /_nabe/v1/mimi/ohttp/{provider}",
    "post /_nabe/v1/mimi/ohttp/{provider}",
    "get /_nabe/v1/mimi/profile",
    "put /_nabe/v1/mimi/profile",
    "get /_nabe/v1/mimi/reports",
    "get /_nabe/v1/mimi/reports/{number}",
    "put /_nabe/v1/mimi/reports/{number}",
    "get /_nabe/v1/mimi/rooms",
    "post /_nabe/v1/mimi/rooms",
    "get /_nabe/v1/mimi/rooms/{room}/download",
    "post /_nabe/v1/mimi/rooms/{room}/group_info",
    "get /_nabe/v1/mimi/rooms/{room}/messages",
    "post /_nabe/v1/mimi/rooms/{room}/report_abuse",
    "post /_nabe/v1/mimi/rooms/{room}/submit_message",
    "post /_nabe/v1/mimi/rooms/{room}/update",
    "get /_nabe/v1/rooms",
    "post /_nabe/v1/rooms",
    "get /_nabe/v1/rooms/{room}",
    "post /_nabe/v1/rooms/{room}/ban",
    "get /_nabe/v1/rooms/{room}/delivery",
    "get /_nabe/v1/rooms/{room}/events",
    "post /_nabe/v1/rooms/{room}/events",
    "get /_nabe/v1/rooms/{room}/events/{event}",
    "get /_nabe/v1/rooms/{room}/group",
    "post /_nabe/v1/rooms/{room}/invite",
    "post /_nabe/v1/rooms/{room}/join",
    "post /_nabe/v1/rooms/{room}/kick",
    "post /_nabe/v1/rooms/{room}/knock",
    "post /_nabe/v1/rooms/{room}/leave",
    "get /_nabe/v1/rooms/{room}/members",
    "get /_nabe/v1/rooms/{room}/state",
    "get /_nabe/v1/rooms/{room}/state/{type}",
    "get /_nabe/v1/rooms/{room}/state/{type}/{state_key}",
    "post /_nabe/v1/rooms/{room}/unban",
    "get /_nabe/v1/stream",
    "post /_nabe/v1/stream/handled",
    "post /_nabe/v1/to_device",
    "delete /_nabe/v1/users/{user_id}",
    "get /_nabe/v1/users/{user_id}/devices",
    "get /_nabe/v1/whoami",
];

async fn document(world: &World) -> Value {
    world.unsigned("GET", "/_nabe/openapi.json", "").await.expect(200)
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), path, operation))
    })
}

#[tokio::test]
async fn document_has_every_route_and_no_other() {
    let world = World::new();
    let document = document(&world).await;
    let documented: BTreeSet<String> = operations(&document).map(|(name, ..)| name).collect();
    assert_eq!(documented, ROUTES.iter().map(|route| (*route).to_owned()).collect());
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        let target = path.replace(['{', '}'], "");
        let answer = world.unsigned(&method.to_uppercase(), &target, "").await;
        let expected = if path.contains("/health/") { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{route}");
    }
    // Were there a method more on a path than the document has, it would be no 405.
    for path in document["paths"].as_object().unwrap().keys() {
        let target = path.replace(['{', '}'], "");
        for method in ["get", "put", "post", "delete", "patch", "options"] {
            let answer = world.unsigned(&method.to_uppercase(), &target, "").await;
            assert_eq!(
                answer.status != 405,
                documented.contains(&format!("{method} {path}")),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn document_is_well_formed() {
    let world = World::new();
    let document = document(&world).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut ids = BTreeSet::new();
    for (name, path, operation) in operations(&document) {
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has an ID"));
        assert!(ids.insert(id), "{id} is used twice");
        assert!(operation["summary"].is_string(), "{name} has a summary");
        assert!(
            operation["responses"]["default"].is_object(),
            "{name} says how it fails"
        );
        assert!(
            operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .any(|status| status.starts_with('2')),
            "{name}"
        );
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .inspect(|parameter| assert_eq!(parameter["required"], true, "{name}"))
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let used: BTreeSet<&str> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(declared, used, "{name}");
        assert!(
            parameters.iter().all(|parameter| parameter["schema"].is_object()),
            "{name}"
        );
        // What may be left out is left out in `members_come_and_go` and elsewhere.
        let may_be_left_out = ["/join", "/leave", "/knock"].iter().any(|end| path.ends_with(end))
            || ["post /_nabe/v1/rooms", "put /_nabe/v1/devices/{device_id}"].contains(&name.as_str());
        if operation["requestBody"].is_object() {
            assert_eq!(operation["requestBody"]["required"] != true, may_be_left_out, "{name}");
        }
        let has_header = |wanted: &str| {
            let found = parameters.iter().find(|parameter| parameter["name"] == wanted);
            found.is_some_and(|parameter| parameter["in"] == "header" && parameter["required"] == false)
        };
        for header in ["Nabe-User", "Nabe-Device"] {
            assert_eq!(has_header(header), !path.contains("/health/"), "{name}: {header}");
        }
        assert_eq!(
            operation["security"] == json!([{}]),
            path.contains("/health/"),
            "{name}"
        );
    }
    assert_eq!(document["security"], json!([{ "bearer": [] }]));
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"],
        json!({ "type": "http", "scheme": "bearer" })
    );
    check_references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            object.values().for_each(|value| check_references(value, document));
        }
        Value::Array(values) => values.iter().for_each(|value| check_references(value, document)),
        _ => {}
    }
}
