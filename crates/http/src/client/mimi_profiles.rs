//! Who is found by what (MIMI #find-internal-address): a user's profile, and the search for users of this provider and of others.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use nabe_service::ServiceError;
use nabe_service::mimi::{ProfileEntry, ProfileFieldName, ProfileSource, Searchable};
use nabe_types::ServerName;
use nabe_wire::Message as _;
use nabe_wire::identifier_query::IdentifierRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::Empty;
use super::caller::is_provider;
use super::mimi::{MimiCaller, Struct, octets};
use super::request::{Target, Typed};
use crate::AppState;
use crate::error::ClientError;
use crate::reply::Reply;

/// What others may know of a user.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MimiProfile {
    /// At most 100.
    fields: Vec<MimiProfileField>,
}

/// One thing that others may know of a user.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MimiProfileField {
    /// What it is.
    kind: MimiFieldKind,
    /// Which `claim` or `property` it is; of other kinds there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What it says, at most 1024 bytes.
    value: String,
    /// Whether others find the user by it.
    searchable: MimiSearchable,
    /// Whether those who found the user see it. In answers there is a place for claims and properties alone.
    shown: bool,
}

/// Kinds of fields.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MimiFieldKind {
    /// A whole handle, a URI.
    Handle,
    /// A nickname, or the user part of a handle.
    Nick,
    /// An address of electronic mail.
    Email,
    /// A telephone number in international form, with `+`.
    Phone,
    /// A standard claim of OpenID Connect.
    Claim,
    /// A property of a vCard.
    Property,
}

/// Whether others find a user by a field.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MimiSearchable {
    /// They do not.
    Never,
    /// If they know all of it.
    Exactly,
    /// Also if they know a part of it.
    InPart,
}

impl MimiProfileField {
    fn read(self, index: usize) -> Result<ProfileEntry, ClientError> {
        let name = match (self.kind, self.name) {
            (MimiFieldKind::Claim, Some(name)) => ProfileFieldName::Claim(name),
            (MimiFieldKind::Property, Some(name)) => ProfileFieldName::Property(name),
            (MimiFieldKind::Handle, None) => ProfileFieldName::Handle,
            (MimiFieldKind::Nick, None) => ProfileFieldName::Nick,
            (MimiFieldKind::Email, None) => ProfileFieldName::Email,
            (MimiFieldKind::Phone, None) => ProfileFieldName::Phone,
            (_, name) => {
                let rule = match name {
                    None => "a `claim` or `property` needs a `name`",
                    Some(_) => "only a `claim` or `property` has a `name`",
                };
                return Err(ClientError::bad_request(format!("`fields[{index}].name`: {rule}")));
            }
        };
        Ok(ProfileEntry {
            name,
            value: self.value,
            searchable: match self.searchable {
                MimiSearchable::Never => Searchable::Never,
                MimiSearchable::Exactly => Searchable::Exactly,
                MimiSearchable::InPart => Searchable::InPart,
            },
            shown: self.shown,
        })
    }
}

impl From<ProfileEntry> for MimiProfileField {
    fn from(entry: ProfileEntry) -> Self {
        let (kind, name) = match entry.name {
            ProfileFieldName::Handle => (MimiFieldKind::Handle, None),
            ProfileFieldName::Nick => (MimiFieldKind::Nick, None),
            ProfileFieldName::Email => (MimiFieldKind::Email, None),
            ProfileFieldName::Phone => (MimiFieldKind::Phone, None),
            ProfileFieldName::Claim(name) => (MimiFieldKind::Claim, Some(name)),
            ProfileFieldName::Property(name) => (MimiFieldKind::Property, Some(name)),
        };
        Self {
            kind,
            name,
            value: entry.value,
            searchable: match entry.searchable {
                Searchable::Never => MimiSearchable::Never,
                Searchable::Exactly => MimiSearchable::Exactly,
                Searchable::InPart => MimiSearchable::InPart,
            },
            shown: entry.shown,
        }
    }
}

/// Whose word a request is: the provider's backend is the provider.
pub(crate) struct Source(ProfileSource);

impl FromRequestParts<AppState> for Source {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ClientError> {
        Ok(Self(match is_provider(parts, state)? {
            true => ProfileSource::Provider,
            false => ProfileSource::User,
        }))
    }
}

/// The caller's profile.
#[utoipa::path(get, path = "/_nabe/v1/mimi/profile", tag = "mimi", operation_id = "mimi_profile",
    responses((status = 200, description = "The profile.", body = MimiProfile)))]
pub(crate) async fn profile(caller: MimiCaller) -> Result<Reply, ClientError> {
    let entries = caller.mimi.profile(&caller.user).await?;
    Ok(Reply::of(&MimiProfile {
        fields: entries.into_iter().map(MimiProfileField::from).collect(),
    }))
}

/// Puts the caller's profile in place of the one before; without one nobody finds them (MIMI #find-internal-address).
///
/// Which handles, addresses and numbers a user has only the provider's backend says; the user says of each whether it can be searched
/// for and is shown.
#[utoipa::path(put, path = "/_nabe/v1/mimi/profile", tag = "mimi", operation_id = "put_mimi_profile",
    request_body = MimiProfile,
    responses((status = 200, description = "It is kept.", body = Empty)))]
pub(crate) async fn put_profile(
    caller: MimiCaller,
    Source(source): Source,
    Typed(body): Typed<MimiProfile>,
) -> Result<Reply, ClientError> {
    let fields = body.fields.into_iter().enumerate();
    let entries: Result<Vec<_>, _> = fields.map(|(index, field)| field.read(index)).collect();
    caller.mimi.put_profile(&caller.user, entries?, source).await?;
    Ok(Reply::of(&Empty {}))
}

/// Looks for users of a provider, this or another, by what is known of them (MIMI #find-internal-address).
///
/// `IdentifierRequest` and `IdentifierResponse`.
#[utoipa::path(post, path = "/_nabe/v1/mimi/identifier_query/{domain}", tag = "mimi", operation_id = "mimi_identifier_query",
    params(("domain" = String, Path, description = "The provider's domain.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "An `IdentifierRequest`."),
    responses((status = 200, description = "An `IdentifierResponse`.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn identifier_query(
    caller: MimiCaller,
    target: Target,
    body: Struct<IdentifierRequest>,
) -> Result<Response, ClientError> {
    let domain = ServerName::parse(target.path.text("domain")?).map_err(|_| ServiceError::InvalidParam("domain"))?;
    let request =
        IdentifierRequest::from_bytes(&body.bytes).map_err(|error| ClientError::bad_request(error.to_string()))?;
    Ok(octets(&caller.mimi.search(&domain, &request).await?))
}

#[cfg(test)]
mod tests;
