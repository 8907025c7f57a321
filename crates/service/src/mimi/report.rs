//! `POST /reportAbuse/{roomId}` at the hub (MIMI #report-abuse), and what its operator does with the reports that come. A report is taken
//! whatever its messages are worth; what that is is noted when it comes, while the keys by which they were franked are at hand.
//!
//! A local user's report takes the same way: to ourselves, or by us to the room's hub.

use bytes::Bytes;
use nabe_core::mimi::{MimiUri, ReportRefusal};
use nabe_signing::sha256;
use nabe_store::{KeptReport, MimiWrite, NewReport, ReportState, ReportWrite, StoreError, Write};
use nabe_types::ServerName;
use nabe_wire::directory::Endpoint;
use nabe_wire::report_abuse::AbuseReport;
use nabe_wire::{Encode as _, IdentifierUri, Message as _};

use super::{Mimi, MimiError};
use crate::metric;
use crate::off_reactor::off_reactor;

/// The operator's choices about reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReportSettings {
    /// Reports of one provider that nobody has decided about; beyond it no further ones are taken.
    pub open: u64,
    /// Bytes that they take.
    pub open_bytes: u64,
    /// Reports of one user: undecided ones here that name them as the reporter; and of our own users those that they hand in, named or
    /// not, wherever the hub is: at once, and in 24 hours after that.
    pub of_user: u32,
    /// How long a report is kept once it was decided about.
    pub decided_for: std::time::Duration,
}

/// A report that came, and what has become of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// As it is kept.
    pub kept: KeptReport,
    /// What it says.
    pub report: AbuseReport,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            open: 1_000,
            open_bytes: 64 * 1024 * 1024,
            of_user: 20,
            decided_for: std::time::Duration::from_hours(24 * 90),
        }
    }
}

impl Mimi {
    /// Takes a report about a room whose hub we are; `body` is the request as it came. The same again is the same report.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] without such a room, [`MimiError::NotTheirs`] of a provider that has no clients in it or names another
    /// one's user as the reporter, [`MimiError::Forbidden`] by the room's policy, [`MimiError::Invalid`] for a report of nobody or of too
    /// many messages, [`MimiError::LimitExceeded`] while too much of the provider's or the reporter's is undecided.
    pub async fn report_abuse(
        &self,
        from: &ServerName,
        room: &MimiUri,
        body: &Bytes,
        report: &AbuseReport,
    ) -> Result<(), MimiError> {
        self.limit(from, Endpoint::ReportAbuse)?;
        let Some(open) = self.open(room).await? else {
            return Err(MimiError::Unknown("room"));
        };
        let hub = open.room();
        hub.report(from, report).map_err(|refusal| {
            tracing::info!(%room, provider = %from, %refusal, "refused a report");
            metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "reportAbuse").increment(1);
            refused(from, refusal)
        })?;
        let franking = self.state.franking.as_deref();
        let evidence = off_reactor(|| hub.evidence(report, franking));
        drop(open);
        self.limit_undecided(from, &report.reporting_user).await?;
        let report = NewReport {
            room: room.clone(),
            provider: from.clone(),
            body: body.clone(),
            body_sha256: sha256(body),
            evidence,
            received: self.service.now(),
        };
        self.write_report(ReportWrite::Put { report }).await?;
        tracing::warn!(%room, provider = %from, "abuse was reported");
        metrics::counter!(metric::MIMI_REPORTS).increment(1);
        Ok(())
    }

    /// No provider's reports that wait for a decision may take all the room that there is, and no user's the whole of their provider's.
    async fn limit_undecided(&self, from: &ServerName, reporter: &IdentifierUri) -> Result<(), MimiError> {
        let (settings, store) = (self.state.settings.reports, self.service.store());
        let undecided = store.open_reports(from, b"").await?;
        if undecided.count >= settings.open || undecided.bytes >= settings.open_bytes {
            tracing::error!(provider = %from, count = undecided.count, "too many reports wait for a decision");
            return Err(MimiError::LimitExceeded { retry_after: LATER });
        }
        if reporter.is_empty() {
            return Ok(());
        }
        // A report begins with who reports, and has one encoding only.
        let of_reporter = store.open_reports(from, &reporter.to_bytes()).await?;
        if of_reporter.count >= u64::from(settings.of_user) {
            tracing::warn!(provider = %from, "too many reports of one user wait for a decision");
            return Err(MimiError::LimitExceeded { retry_after: LATER });
        }
        Ok(())
    }

    /// Hands a local user's report to the room's hub, wherever that is. It names them as the reporter, or nobody.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for a room that the user has nothing to do with, [`MimiError::Invalid`] for a body that is no report or names
    /// another reporter, [`MimiError::LimitExceeded`] for too many reports of this user; what the hub says, and [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] when it does not.
    pub async fn forward_report(&self, user: &MimiUri, room: &MimiUri, body: &Bytes) -> Result<(), MimiError> {
        let report = AbuseReport::from_bytes(body).map_err(|_| MimiError::Invalid {
            field: "body",
            rule: "the struct of its endpoint",
        })?;
        let reporter = report.reporting_user.as_str();
        if !reporter.is_empty() && reporter != user.to_string() {
            return Err(MimiError::Invalid {
                field: "reportingUser",
                rule: "the user who reports, or nobody",
            });
        }
        if self.service.store().readable_room(user, room).await?.is_none() {
            return Err(MimiError::Unknown("room"));
        }
        self.service.limit_reports(user, self.state.settings.reports.of_user)?;
        let Some(hub) = self.hub_elsewhere(room)? else {
            return self.report_abuse(self.domain(), room, body, &report).await;
        };
        if self.service.check_policy(&hub).is_err() {
            return Err(MimiError::Unknown("provider"));
        }
        let answer = self
            .ask(&hub, Endpoint::ReportAbuse, room, body.clone(), MAX_ANSWER)
            .await?;
        match answer.status {
            200..=299 => Ok(()),
            400 => Err(MimiError::Invalid {
                field: "body",
                rule: "a report that the hub takes",
            }),
            403 => Err(MimiError::Forbidden("the room's hub takes no such report")),
            404 => Err(MimiError::Unknown("room")),
            429 | 503 if answer.retry_after.is_some() => Err(MimiError::LimitExceeded {
                retry_after: answer.retry_after.unwrap_or(LATER),
            }),
            _ => Err(MimiError::BadAnswer {
                provider: hub,
                what: "its status does not say that the report was taken",
            }),
        }
    }

    /// Reports with numbers after `after`, ascending, perhaps only those in one state.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn reports(&self, after: i64, only: Option<ReportState>, limit: usize) -> Result<Vec<Report>, MimiError> {
        let reports = self.service.store().reports(after, only, limit.min(MAX_LISTED)).await?;
        reports.into_iter().map(read).collect()
    }

    /// One report.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] without such a report.
    pub async fn report(&self, number: i64) -> Result<Report, MimiError> {
        let report = self.service.store().report(number).await?;
        read(report.ok_or(MimiError::Unknown("report"))?)
    }

    /// The operator has decided about a report, or opens it again; `remark` says why.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] without such a report, [`MimiError::Invalid`] for too long a remark.
    pub async fn decide_report(&self, number: i64, state: ReportState, remark: String) -> Result<Report, MimiError> {
        if remark.len() > MAX_REMARK {
            let (field, rule) = ("remark", "should be at most 4096 bytes");
            return Err(MimiError::Invalid { field, rule });
        }
        self.report(number).await?;
        let now = self.service.now();
        self.write_report(ReportWrite::Decide {
            number,
            state,
            remark,
            now,
        })
        .await?;
        self.report(number).await
    }

    async fn write_report(&self, write: ReportWrite) -> Result<(), MimiError> {
        let write = Write::Mimi(MimiWrite::Report(write));
        Ok(self.service.commit(write.into()).await?)
    }
}

fn read(kept: KeptReport) -> Result<Report, MimiError> {
    // It was read before it was kept.
    let report = AbuseReport::from_bytes(&kept.report.body).map_err(|_| StoreError::Inconsistent {
        table: "mimi_reports",
        column: "body",
        row: kept.number.to_string(),
    })?;
    Ok(Report { kept, report })
}

fn refused(from: &ServerName, refusal: ReportRefusal) -> MimiError {
    let not_theirs = |what| MimiError::NotTheirs {
        provider: from.clone(),
        what,
    };
    match refusal {
        ReportRefusal::OtherProvider => not_theirs("the reporter"),
        ReportRefusal::NotInRoom => not_theirs("the room"),
        ReportRefusal::Policy { .. } => MimiError::Forbidden("the reporter may not report abuse in this room"),
        ReportRefusal::NoUser => MimiError::Invalid {
            field: "allegedAbuserUri",
            rule: "should be the URI of a user",
        },
        ReportRefusal::TooManyMessages { .. } => MimiError::Invalid {
            field: "messages",
            rule: "should be at most 32",
        },
    }
}

/// When there may be room for further reports.
const LATER: std::time::Duration = std::time::Duration::from_hours(1);

/// Bytes of an answer that has no body.
const MAX_ANSWER: usize = 4 * 1024;

/// The most reports that are listed at once.
const MAX_LISTED: usize = 100;

/// Bytes of what is said about a decision.
const MAX_REMARK: usize = 4 * 1024;
