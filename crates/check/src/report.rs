//! What a run found, as text and as JSON.

use std::fmt;

use serde::Serialize;

use crate::basis::Basis;

/// The outcome of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One entry for each case, in the order of the table.
    pub results: Vec<CaseResult>,
}

/// The outcome of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The case, `lm-14`.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// The requirements it is about, by their IDs.
    pub requirements: &'static [&'static str],
    /// Where these stand and how binding they are.
    pub basis: Vec<Basis>,
    /// What the subject was sent.
    pub sent: String,
    /// What it should have done.
    pub expected: String,
    /// What it did.
    pub got: String,
    /// The judgment.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long the case took, in milliseconds.
    pub ms: u64,
}

/// The judgment about one case.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The subject did as it should.
    Pass,
    /// It did not.
    Fail,
    /// Nothing can be said.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// How many cases passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(|verdict| *verdict == Verdict::Pass)
    }

    /// How many cases failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|verdict| *verdict == Verdict::Fail)
    }

    /// How many cases were skipped.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Skipped { .. }))
    }

    /// The report as one JSON document: `{"results":[…],"passed":n,"failed":n,"skipped":n}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "results": self.results,
            "passed": self.passed(),
            "failed": self.failed(),
            "skipped": self.skipped(),
        })
    }

    fn count(&self, is_counted: impl Fn(&Verdict) -> bool) -> usize {
        self.results.iter().filter(|result| is_counted(&result.verdict)).count()
    }
}

/// One line for each case, more for those that failed, and a closing line `N passed, N failed, N skipped`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            writeln!(f, "{result}")?;
        }
        let (passed, failed, skipped) = (self.passed(), self.failed(), self.skipped());
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, title, ms, .. } = self;
        match &self.verdict {
            Verdict::Pass => write!(f, "pass  {id:<8} {title} ({ms} ms)"),
            Verdict::Skipped { reason } => write!(f, "skip  {id:<8} {title}: {reason}"),
            Verdict::Fail => {
                let requirements = self.requirements.join(" ");
                writeln!(f, "FAIL  {id:<8} {title} ({ms} ms)")?;
                writeln!(f, "      sent      {}", self.sent)?;
                writeln!(f, "      expected  {}", self.expected)?;
                writeln!(f, "      got       {}", self.got)?;
                write!(f, "      see       {requirements}")?;
                match self.basis.iter().max_by_key(|basis| basis.level) {
                    Some(basis) => write!(f, " ({basis})"),
                    None => Ok(()),
                }
            }
        }
    }
}
