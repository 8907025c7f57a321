//! Reports of abuse in rooms of MIMI (MIMI #report-abuse): a user makes one, and the operator of the rooms' hub, who has the provider's
//! credential, decides about those that come.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nabe_service::ServiceError;
use nabe_service::mimi::{Mimi, Report, ReportState};
use nabe_signing::base64u;
use nabe_wire::report_abuse::AbuseReport;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::Empty;
use super::caller::Provider;
use super::mimi::{MimiCaller, Struct, number, room_of};
use super::request::{Target, Typed};
use crate::AppState;
use crate::error::ClientError;
use crate::reply::Reply;

/// The operator of a provider, by its own credential; no user is one.
pub(crate) struct Operator(Mimi);

impl FromRequestParts<AppState> for Operator {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ClientError> {
        Provider::from_request_parts(parts, state).await?;
        let mimi = state.service.mimi().ok_or_else(ClientError::unknown_endpoint)?;
        Ok(Self(mimi))
    }
}

/// Reports, without what they are about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiReportsBody {
    reports: Vec<MimiReportBody>,
}

/// A report of abuse.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiReportBody {
    /// For `after`, and for deciding.
    number: i64,
    /// The room's URI.
    room: String,
    /// The provider that sent it.
    provider: String,
    /// Who reports; absent: somebody who does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reporter: Option<String>,
    /// Who is accused.
    alleged_abuser: String,
    /// The code of the reason. The protocol has none but 0 yet.
    reason: u8,
    /// What the reporter says.
    note: String,
    /// When it came, in milliseconds since 1970.
    received: u64,
    /// Whether there are messages in it, and this hub franked all of them for the accused in this room.
    verified: bool,
    /// The messages.
    messages: Vec<MimiReportedMessage>,
    /// `open`, `resolved` or `dismissed`.
    state: String,
    /// When it was decided about.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<u64>,
    /// What there was to say about that.
    remark: String,
}

/// A message that somebody complains about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MimiReportedMessage {
    /// When the hub accepted it, as the report says.
    accepted: u64,
    /// `genuine`, or why it proves nothing: `no_keys`, `not_content`, `no_claims`, `other_frank`, `other_signature`, `other_sender`,
    /// `other_room`.
    evidence: String,
    /// The message as the reporter decrypted it, MIMI content, in unpadded base64; in answers about one report only.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// What becomes of a report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MimiReportDecision {
    /// `open`, `resolved` or `dismissed`.
    state: String,
    /// What there is to say about that, at most 4096 bytes.
    #[serde(default)]
    remark: String,
}

impl MimiReportBody {
    fn of(Report { kept, report }: &Report, with_content: bool) -> Self {
        let messages = report.messages.iter().zip(&kept.report.evidence);
        let messages = messages.map(|(message, evidence)| MimiReportedMessage {
            accepted: message.accepted_timestamp,
            evidence: evidence.to_string(),
            content: with_content.then(|| base64u::encode(&message.message_content)),
        });
        Self {
            number: kept.number,
            room: kept.report.room.to_string(),
            provider: kept.report.provider.to_string(),
            reporter: Some(report.reporting_user.to_string()).filter(|reporter| !reporter.is_empty()),
            alleged_abuser: report.alleged_abuser_uri.to_string(),
            reason: report.reason_code.0,
            note: report.note.0.clone(),
            received: kept.report.received.as_u64(),
            verified: kept.is_verified(),
            messages: messages.collect(),
            state: kept.state.to_string(),
            decided: kept.decided.map(|decided| decided.as_u64()),
            remark: kept.remark.clone(),
        }
    }
}

/// Reports abuse to the room's hub (MIMI #report-abuse).
///
/// An `AbuseReport`, whose reporter is the caller or nobody. That it was taken says nothing about what becomes of it.
#[utoipa::path(post, path = "/_nabe/v1/mimi/rooms/{room}/report_abuse", tag = "mimi", operation_id = "report_mimi_abuse",
    params(("room" = String, Path, description = "The room's URI.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "An `AbuseReport`."),
    responses((status = 200, description = "The hub has it.", body = Empty)))]
pub(crate) async fn report_abuse(
    caller: MimiCaller,
    target: Target,
    body: Struct<AbuseReport>,
) -> Result<Reply, ClientError> {
    let room = room_of(target.path.text("room")?)?;
    caller.mimi.forward_report(&caller.user, &room, &body.bytes).await?;
    Ok(Reply::of(&Empty {}))
}

/// Reports of abuse in this provider's rooms, for its operator.
///
/// With the provider's own credential; `Nabe-User` is not looked at.
#[utoipa::path(get, path = "/_nabe/v1/mimi/reports", tag = "mimi", operation_id = "mimi_reports",
    params(("after" = Option<u64>, Query, description = "Only those with a greater number; at most 100 come at once."),
        ("state" = Option<String>, Query, description = "Only those that are `open`, `resolved` or `dismissed`.")),
    responses((status = 200, description = "The reports, by ascending number.", body = MimiReportsBody)))]
pub(crate) async fn reports(operator: Operator, target: Target) -> Result<Reply, ClientError> {
    let after = number(&target, "after")?.unwrap_or(0);
    let only = target.query.one("state")?.map(str::parse::<ReportState>).transpose();
    let only = only.map_err(|_| ServiceError::InvalidParam("state"))?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let reports = operator.0.reports(after, only, usize::MAX).await?;
    let reports = reports.iter().map(|report| MimiReportBody::of(report, false));
    Ok(Reply::of(&MimiReportsBody {
        reports: reports.collect(),
    }))
}

/// One report, with what its messages say.
#[utoipa::path(get, path = "/_nabe/v1/mimi/reports/{number}", tag = "mimi", operation_id = "mimi_report",
    params(("number" = u64, Path, description = "Its number.")),
    responses((status = 200, description = "The report.", body = MimiReportBody)))]
pub(crate) async fn report(operator: Operator, target: Target) -> Result<Reply, ClientError> {
    let report = operator.0.report(number_in(&target)?).await?;
    Ok(Reply::of(&MimiReportBody::of(&report, true)))
}

/// Decides about a report, or opens it again.
///
/// What was decided about is forgotten after a while.
#[utoipa::path(put, path = "/_nabe/v1/mimi/reports/{number}", tag = "mimi", operation_id = "decide_mimi_report",
    params(("number" = u64, Path, description = "Its number.")),
    request_body = MimiReportDecision,
    responses((status = 200, description = "The report as it is now.", body = MimiReportBody)))]
pub(crate) async fn decide(
    operator: Operator,
    target: Target,
    Typed(body): Typed<MimiReportDecision>,
) -> Result<Reply, ClientError> {
    let state = body.state.parse::<ReportState>();
    let state = state.map_err(|error| ClientError::bad_request(format!("`state`: {error}")))?;
    let report = operator
        .0
        .decide_report(number_in(&target)?, state, body.remark)
        .await?;
    Ok(Reply::of(&MimiReportBody::of(&report, true)))
}

fn number_in(target: &Target) -> Result<i64, ClientError> {
    let number = target.path.text("number")?.parse();
    number.map_err(|_| ServiceError::InvalidParam("number").into())
}

#[cfg(test)]
mod tests;
