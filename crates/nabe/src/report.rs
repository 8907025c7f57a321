//! `nabe report`: reports of abuse in this server's rooms of MIMI (MIMI #report-abuse), straight from the database. While the server runs, the
//! same is at `/_nabe/v1/mimi/reports` for whoever has the provider's credential.

use anyhow::Context as _;
use nabe_content::mimi::{MimiContent, franking::unframe};
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_store::{Batch, KeptReport, MimiWrite, ReportState, ReportWrite, Write};
use nabe_wire::{Message as _, report_abuse::AbuseReport};

use crate::{InputAtFault, config::Config, output::say, server};

/// Lists reports, one a line: those that nobody has decided about, or all.
pub(crate) async fn list(config: &Config, all: bool) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    let only = (!all).then_some(ReportState::Open);
    let mut after = 0;
    loop {
        let some = store.reports(after, only, PAGE).await?;
        let Some(last) = some.last() else {
            return Ok(());
        };
        after = last.number;
        for kept in &some {
            say!("{}", line(kept, &read(kept)?));
        }
    }
}

/// Prints a report with what its messages say and are worth.
pub(crate) async fn show(config: &Config, number: i64) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    let kept = store.report(number).await?;
    let kept = kept.with_context(|| no_such(number)).context(InputAtFault)?;
    print(&kept)
}

/// Decides about a report, or opens it again, and prints it.
pub(crate) async fn decide(config: &Config, number: i64, state: ReportState, remark: &str) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    let is_there = store.report(number).await?.is_some();
    if !is_there {
        return Err(anyhow::anyhow!(no_such(number)).context(InputAtFault));
    }
    let write = Write::Mimi(MimiWrite::Report(ReportWrite::Decide {
        number,
        state,
        remark: remark.to_owned(),
        now: SystemClock.now(),
    }));
    let done = store.commit(vec![Batch::from(write)]).await?;
    done.into_iter().collect::<Result<(), _>>()?;
    let kept = store.report(number).await?;
    print(&kept.with_context(|| no_such(number))?)
}

fn print(kept: &KeptReport) -> anyhow::Result<()> {
    let report = read(kept)?;
    say!("{}", line(kept, &report));
    say!("room      {}", kept.report.room);
    let reporter = report.reporting_user.as_str();
    let reporter = if reporter.is_empty() { "somebody" } else { reporter };
    say!("reporter  {reporter}, by way of {}", kept.report.provider);
    say!("received  {}", kept.report.received);
    if !report.note.0.is_empty() {
        say!("note      {:?}", report.note.0);
    }
    for (message, evidence) in report.messages.iter().zip(&kept.report.evidence) {
        say!("message   {} {evidence}", message.accepted_timestamp);
        match said(&message.message_content) {
            Some(text) => say!("          {text:?}"),
            None => say!(
                "          {} bytes that are no MIMI content",
                message.message_content.len()
            ),
        }
    }
    if let Some(decided) = kept.decided {
        say!("decided   {decided} {:?}", kept.remark);
    }
    Ok(())
}

fn line(kept: &KeptReport, report: &AbuseReport) -> String {
    let worth = match (kept.is_verified(), report.messages.is_empty()) {
        (true, _) => "verified",
        (false, true) => "no messages",
        (false, false) => "unverified",
    };
    let accused = &report.alleged_abuser_uri;
    format!(
        "{:>6}  {:<9}  {worth:<11}  {accused}",
        kept.number,
        kept.state.to_string()
    )
}

fn read(kept: &KeptReport) -> anyhow::Result<AbuseReport> {
    AbuseReport::from_bytes(&kept.report.body).with_context(|| format!("report {}", kept.number))
}

fn said(content: &[u8]) -> Option<String> {
    let content = MimiContent::decode(unframe(content).ok()?).ok()?;
    Some(content.to_plain())
}

fn no_such(number: i64) -> String {
    format!("no report {number} here")
}

/// A state as it is given on the command line.
pub(crate) fn state(text: &str) -> Result<ReportState, String> {
    text.parse()
        .map_err(|error: nabe_store::UnknownReportState| error.to_string())
}

/// What there is to say, as it is given on the command line.
pub(crate) fn remark(text: &str) -> Result<String, String> {
    match text.len() {
        0..=4096 => Ok(text.to_owned()),
        _ => Err("at most 4096 bytes".to_owned()),
    }
}

const PAGE: usize = 100;
