//! Key packages (LM #int-mls-key-packages): a device uploads its own, and claims those of others.

use std::collections::BTreeMap;

use axum::extract::State;
use nabe_service::{NewKeyPackage, Service};
use nabe_signing::{base64u, object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::request::{Content, Target, Typed};
use crate::error::ClientError;
use crate::reply::Reply;

/// Key packages of one algorithm.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPackagesBody {
    /// `m.mls.v1.key_package.<suite>`
    algorithm: String,
    /// At most 200.
    key_packages: Vec<KeyPackageBody>,
}

/// A key package.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPackageBody {
    /// The bare `KeyPackage` in unpadded base64.
    key: String,
    /// Whether it may be handed out more than once; its `last_resort` extension must agree. It replaces the one before.
    #[serde(default)]
    last_resort: bool,
}

/// What became of each key package, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyPackageResults {
    results: Vec<KeyPackageResult>,
}

/// One of the two.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyPackageResult {
    /// It was taken in; its ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// It was not, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What is left of a device's key packages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyPackagesLeftBody {
    key_packages: Vec<LeftOfAlgorithm>,
}

/// What is left for one algorithm.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftOfAlgorithm {
    algorithm: String,
    /// Without the last-resort one. Those that expire within 48 hours do not count: they are handed out no more.
    left: u64,
    /// Whether there is a last-resort one.
    last_resort: bool,
}

/// Whose key packages to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimBody {
    /// `{user: {device: algorithm}}`, at most 1000 devices.
    #[schema(value_type = Object)]
    one_time_keys: Content,
}

/// Key packages that were claimed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClaimedBody {
    /// `{user: {device: {algorithm: key package in unpadded base64}}}`. What is missing has none left, or its server failed. Not verified
    /// for you.
    #[schema(value_type = Object)]
    one_time_keys: Content,
    /// Servers that gave no answer, and why.
    failures: BTreeMap<String, String>,
}

/// Uploads key packages of one of the caller's devices.
///
/// Each is taken in or refused for itself: expired, of another suite, not by the key in the device object, seen before, too many (200).
/// `key_packages_low` on the stream says when it is time for more.
#[utoipa::path(post, path = "/_nabe/v1/devices/{device_id}/key_packages", tag = "devices", operation_id = "upload_key_packages",
    params(("device_id" = String, Path, description = "The device's ID.")),
    request_body = KeyPackagesBody,
    responses((status = 200, description = "What became of each.", body = KeyPackageResults)))]
pub(crate) async fn upload(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<KeyPackagesBody>,
) -> Result<Reply, ClientError> {
    let read = body.key_packages.into_iter().map(|package| {
        let body = base64u::decode(&package.key).ok()?.into();
        Some(NewKeyPackage {
            body,
            last_resort: package.last_resort,
        })
    });
    let read: Vec<Option<NewKeyPackage>> = read.collect();
    let packages = read.iter().flatten().cloned().collect();
    let device = target.device()?;
    let results = service
        .upload_key_packages(&caller, &device, &body.algorithm, packages)
        .await?;
    let mut results = results.into_iter();
    let result = |read: Option<NewKeyPackage>| match read.and_then(|_| results.next()) {
        Some(Ok(key_id)) => KeyPackageResult {
            key_id: Some(key_id.to_string()),
            error: None,
        },
        Some(Err(reason)) => KeyPackageResult::refused(reason.to_string()),
        None => KeyPackageResult::refused("the key package is not base64".to_owned()),
    };
    Ok(Reply::of(&KeyPackageResults {
        results: read.into_iter().map(result).collect(),
    }))
}

/// How many key packages one of the caller's devices has left.
#[utoipa::path(get, path = "/_nabe/v1/devices/{device_id}/key_packages", tag = "devices", operation_id = "key_packages_left",
    params(("device_id" = String, Path, description = "The device's ID.")),
    responses((status = 200, description = "What is left.", body = KeyPackagesLeftBody)))]
pub(crate) async fn left(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let left = service.key_packages_left(&caller.user, &target.device()?).await?;
    let key_packages = left.into_iter().map(|of| LeftOfAlgorithm {
        algorithm: of.algorithm,
        left: of.left,
        last_resort: of.has_last_resort,
    });
    Ok(Reply::of(&KeyPackagesLeftBody {
        key_packages: key_packages.collect(),
    }))
}

/// Claims a key package of each of these devices, here and on other servers.
#[utoipa::path(post, path = "/_nabe/v1/keys/claim", tag = "devices", operation_id = "claim_keys",
    request_body = ClaimBody,
    responses((status = 200, description = "What there was.", body = ClaimedBody)))]
pub(crate) async fn claim(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    Typed(body): Typed<ClaimBody>,
) -> Result<Reply, ClientError> {
    let asked = object! { "one_time_keys" => body.one_time_keys.0 };
    let claimed = service.claim_for(&caller.user, &asked).await?;
    let failures = claimed.failures.into_iter();
    Ok(Reply::of(&ClaimedBody {
        one_time_keys: Content(claimed.one_time_keys),
        failures: failures.map(|(server, reason)| (server.to_string(), reason)).collect(),
    }))
}

impl KeyPackageResult {
    const fn refused(reason: String) -> Self {
        Self {
            key_id: None,
            error: Some(reason),
        }
    }
}
