//! What the OpenAPI document says beyond the single operations: who it is for, how callers prove who they are, and how every
//! operation fails.

use utoipa::OpenApi as _;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, Content, ContentBuilder, OpenApi, PathItem, RefOr, Required, ResponseBuilder, Schema, path::Operation,
    request_body::RequestBody,
};

use crate::error::{ErrorBody, ErrorInfo};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Nabe client API",
        description = "For the users of a Nabe server and for a provider's backend that acts for them.\n\n\
            A caller sends `Authorization: Bearer <token>`: a user's access token, or the provider's credential together \
            with `Nabe-User: @user:server`. With the latter, `Nabe-Device` names the user's device.\n\n\
            Identifiers in paths are percent-encoded: `/` in a user ID is `%2F`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ErrorBody, ErrorInfo)),
    tags(
        (name = "account", description = "Who the caller is, and their devices"),
        (name = "devices", description = "What end-to-end encryption needs: device objects and key packages"),
        (name = "rooms", description = "Rooms and their state"),
        (name = "membership", description = "Coming and going"),
        (name = "events", description = "Sending and reading"),
        (name = "media", description = "Files: encrypted by clients, kept by servers"),
        (name = "stream", description = "What happens, as it happens"),
        (name = "mimi", description = "Rooms of MIMI, on servers that are a provider of it; others have none of this"),
        (name = "health", description = "For load balancers and monitors; no authentication"),
    ),
    security(("bearer" = [])),
)]
struct Frame;

/// The document without operations.
pub(super) fn frame() -> OpenApi {
    let mut frame = Frame::openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    frame
        .components
        .get_or_insert_default()
        .add_security_scheme("bearer", bearer);
    frame
}

/// Adds to every operation how it fails, to those that want a caller the headers that name one, and says which bodies may be
/// left out: those without a field that must be there.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let schema = utoipa::openapi::Ref::from_schema_name("ErrorBody");
        let failure = ResponseBuilder::new()
            .description("It failed, and why.")
            .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
            .build();
        operation
            .responses
            .responses
            .entry("default".into())
            .or_insert(RefOr::T(failure));
        if let Some(RefOr::T(body)) = &mut operation.request_body
            && !has_required_field(body, components)
        {
            body.required = Some(Required::False);
        }
        // Only what needs no caller says anything about security of its own.
        if operation.security.is_none() {
            operation
                .parameters
                .get_or_insert_default()
                .extend(caller_headers().map(RefOr::T));
        }
    }
    document
}

/// Our bodies are JSON objects, each with a schema under its name.
fn has_required_field(body: &RequestBody, components: &Components) -> bool {
    body.content.values().any(|content| {
        let RefOr::T(Content {
            schema: Some(RefOr::Ref(schema)),
            ..
        }) = content
        else {
            return true;
        };
        let name = schema.ref_location.rsplit('/').next().unwrap_or_default();
        match components.schemas.get(name) {
            Some(RefOr::T(Schema::Object(object))) => !object.required.is_empty(),
            _ => true,
        }
    })
}

fn caller_headers() -> [Parameter; 2] {
    let header = |name: &str, description: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build()
    };
    [
        header(
            "Nabe-User",
            "With the provider's credential, and required then: the user it is for, as `@user:server`.",
        ),
        header(
            "Nabe-Device",
            "With the provider's credential: the user's device it is for.",
        ),
    ]
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}
