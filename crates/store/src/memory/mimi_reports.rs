//! Reports of abuse in memory.

use async_trait::async_trait;
use nabe_types::ServerName;

use super::MemoryStore;
use super::tables::Journal;
use crate::error::StoreError;
use crate::mimi_reports::{KeptReport, OpenReports, ReportState, ReportStore, ReportWrite};

impl Journal<'_> {
    pub(super) fn apply_report(&mut self, write: ReportWrite) {
        match write {
            ReportWrite::Put { report } => {
                let kept = self.tables.reports.values();
                let mut same = kept.filter(|kept| {
                    let known = &kept.report;
                    known.room == report.room
                        && known.provider == report.provider
                        && known.body_sha256 == report.body_sha256
                });
                if same.next().is_some() {
                    return;
                }
                let number = self.tables.report_numbers.get(&()).copied().unwrap_or(0) + 1;
                self.set(|tables| &mut tables.report_numbers, (), Some(number));
                let kept = KeptReport {
                    number,
                    report,
                    state: ReportState::Open,
                    decided: None,
                    remark: String::new(),
                };
                self.set(|tables| &mut tables.reports, number, Some(kept));
            }
            ReportWrite::Decide {
                number,
                state,
                remark,
                now,
            } => {
                if let Some(mut kept) = self.tables.reports.get(&number).cloned() {
                    kept.state = state;
                    kept.decided = (state != ReportState::Open).then_some(now);
                    kept.remark = remark;
                    self.set(|tables| &mut tables.reports, number, Some(kept));
                }
            }
            ReportWrite::Forget { decided_before } => {
                let old = self.tables.reports.values();
                let old = old.filter(|kept| kept.decided.is_some_and(|decided| decided < decided_before));
                for number in old.map(|kept| kept.number).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.reports, number, None);
                }
            }
        }
    }
}

#[async_trait]
impl ReportStore for MemoryStore {
    async fn reports(
        &self,
        after: i64,
        only: Option<ReportState>,
        limit: usize,
    ) -> Result<Vec<KeptReport>, StoreError> {
        let tables = self.tables();
        let found = tables.reports.values().filter(|kept| kept.number > after);
        let found = found.filter(|kept| only.is_none_or(|only| kept.state == only));
        Ok(found.take(limit).cloned().collect())
    }

    async fn report(&self, number: i64) -> Result<Option<KeptReport>, StoreError> {
        Ok(self.tables().reports.get(&number).cloned())
    }

    async fn open_reports(&self, provider: &ServerName, prefix: &[u8]) -> Result<OpenReports, StoreError> {
        let tables = self.tables();
        let open = tables.reports.values().filter(|kept| kept.state == ReportState::Open);
        let open = open.filter(|kept| kept.report.provider == *provider && kept.report.body.starts_with(prefix));
        Ok(open.fold(OpenReports::default(), |sum, kept| OpenReports {
            count: sum.count + 1,
            bytes: sum.bytes + kept.report.body.len() as u64,
        }))
    }
}
