//! Scenarios, as tables: what each step took, and what each phase used.

use std::fmt::Write as _;

use super::text::{escape, number, size, time};
use crate::record::Run;
use crate::scenario::record::{USED, Way, percentile};
use crate::scenario::{Kind, PhaseRecord, ScenarioRecord};

/// The section; nothing if no scenario was played.
pub(super) fn write(page: &mut String, run: &Run) {
    if run.scenarios.is_empty() {
        return;
    }
    page.push_str(
        "<h2 id=\"scenarios\">Scenarios</h2><p>Steps are done one after the other. <em>Accepted</em>: from the wish until the author knows that \
         the hub has it. <em>Followed</em>: until the last live member has read the message or merged the commit. Bytes are all that TCP carried, TLS and HTTP \
         included; by the library alone, MLS messages. Bytes of a phase with steps of several kinds are their mean; those of an idle phase are for an hour. Per member: \
         clients' bytes by live members.</p>",
    );
    let mut names: Vec<&str> = run
        .scenarios
        .iter()
        .map(|record| record.scenario.name.as_str())
        .collect();
    names.dedup();
    for name in names {
        let records: Vec<_> = run
            .scenarios
            .iter()
            .filter(|record| record.scenario.name == name)
            .collect();
        scenario(page, &records);
    }
}

fn scenario(page: &mut String, records: &[&ScenarioRecord]) {
    let Some(first) = records.first() else { return };
    let scenario = &first.scenario;
    let _ = write!(
        page,
        "<h3>{}</h3><p>{} {} members, {} of them live; seed {}.</p>",
        escape(&scenario.name),
        escape(&scenario.about),
        number(scenario.members.into()),
        scenario.live,
        scenario.seed
    );
    for record in records {
        if let Some(reason) = &record.reason {
            let _ = write!(
                page,
                "<p class=\"warn\">By {}: {}</p>",
                record.way.title(),
                escape(reason)
            );
        }
        if record.build != "release" {
            let _ = write!(
                page,
                "<p class=\"warn\">By {}: a {} build, whose times say nothing about a release build's.</p>",
                record.way.title(),
                record.build
            );
        }
    }
    page.push_str(
        "<table><thead><tr><th>Phase</th><th>By</th><th>Steps</th><th>Accepted p50, p90, p99</th><th>Followed p50, p90, p99</th></tr></thead><tbody>",
    );
    each_phase(records, |phase, way| {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Idle) {
            let (accepted, followed) = phase.times(kind);
            if !accepted.is_empty() {
                let _ = write!(
                    page,
                    "<tr><td>{}</td><td>{}</td><td>{} {}</td><td>{}</td><td>{}</td></tr>",
                    escape(&phase.name),
                    way.name(),
                    accepted.len(),
                    kind.name(),
                    percentiles(&accepted),
                    percentiles(&followed)
                );
            }
        }
    });
    page.push_str("</tbody></table><table><thead><tr><th>Phase</th><th>By</th><th>Members</th><th>Each step, or an idle hour</th>");
    for (what, _) in USED {
        let _ = write!(page, "<th>{}</th>", title(what));
    }
    page.push_str("<th>Per member</th></tr></thead><tbody>");
    each_phase(records, |phase, way| {
        let is_idle = phase.steps.iter().all(|step| step.kind == Kind::Idle);
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            escape(&phase.name),
            way.name(),
            number(phase.members as f64),
            if is_idle { "hour" } else { "step" }
        );
        for (what, _) in USED {
            let each = phase.each(what).map(|each| match what.ends_with("-ns") {
                true => time(each),
                false => size(each),
            });
            let _ = write!(page, "<td>{}</td>", each.unwrap_or_else(|| "–".to_owned()));
        }
        let _ = write!(page, "<td>{}</td></tr>", size(per_member(phase, scenario.live)));
    });
    page.push_str("</tbody></table><dl>");
    for (what, meaning) in USED {
        let _ = write!(page, "<dt>{}</dt><dd>{meaning}</dd>", title(what));
    }
    page.push_str("</dl>");
}

fn each_phase(records: &[&ScenarioRecord], mut write: impl FnMut(&PhaseRecord, Way)) {
    let most = records.iter().map(|record| record.phases.len()).max().unwrap_or(0);
    for index in 0..most {
        for record in records {
            if let Some(phase) = record.phases.get(index) {
                write(phase, record.way);
            }
        }
    }
}

/// What a step costs one live member.
fn per_member(phase: &PhaseRecord, live: u32) -> f64 {
    let clients = ["client-up-bytes", "client-down-bytes"];
    let both: f64 = clients.iter().filter_map(|what| phase.each(what)).sum();
    both / f64::from(live.max(1))
}

fn percentiles(sorted: &[u64]) -> String {
    let at = |percent| percentile(sorted, percent).map_or_else(String::new, |ns| time(ns as f64));
    format!("{}, {}, {}", at(50), at(90), at(99))
}

fn title(what: &str) -> String {
    what.trim_end_matches("-ns")
        .trim_end_matches("-bytes")
        .replace('-', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::StepRecord;

    #[test]
    fn a_member_pays_its_share_of_what_clients_send_and_are_sent() {
        let step = StepRecord {
            kind: Kind::Message,
            accepted_ns: 1,
            followed_ns: 2,
        };
        let used = [
            ("client-up-bytes", 100),
            ("client-down-bytes", 300),
            ("to-hub-bytes", 5_000),
        ];
        let phase = PhaseRecord {
            used: used.map(|(what, amount)| (what.to_owned(), amount)).into(),
            steps: vec![step; 2],
            ..PhaseRecord::default()
        };
        assert_eq!(per_member(&phase, 4), 50.0);
        assert_eq!(title("client-down-bytes"), "client down");
    }
}
