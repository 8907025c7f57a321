//! `cargo xtask instructions`: counts by valgrind how many instructions the hot paths of the pure core take
//! (`benches/src/bin/nabe-instructions.rs`), and compares with `benches/instructions.toml`. Unlike times, counts mean the same on a busy machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Whether the counts are compared with the baseline or become it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Check,
    Update,
}

/// Counts, compares and says what it saw; or says why it cannot count here.
pub(crate) fn run(root: &Path, mode: Mode) -> Result<()> {
    let path = root.join(BASELINE);
    let machine = machine();
    if !has_valgrind() {
        let hint = "valgrind is not installed (`apt-get install valgrind`)";
        ensure!(!is_required(), "{hint}, and NABE_REQUIRE_ALL asks for it");
        eprintln!("SKIPPED: {hint}");
        return Ok(());
    }
    let baseline = match mode {
        Mode::Check => Some(Baseline::read(&path)?),
        Mode::Update => None,
    };
    if let Some(baseline) = baseline.as_ref().filter(|baseline| baseline.machine != machine) {
        eprintln!("SKIPPED: {BASELINE} is of {}, and this is {machine}", baseline.machine);
        return Ok(());
    }
    let counts = count_all(&build(root)?)?;
    let Some(baseline) = baseline else {
        let text = Baseline { machine, counts }.to_toml()?;
        return fs::write(&path, text).with_context(|| format!("writing {}", path.display()));
    };
    let findings = compare(&baseline.counts, &counts);
    for finding in &findings {
        println!("{finding}");
    }
    let bad = findings.iter().filter(|finding| finding.verdict.is_failure()).count();
    ensure!(
        bad == 0,
        "{bad} of {} counts are not as {BASELINE} has them; if that is meant, `cargo xtask instructions --update`",
        findings.len()
    );
    Ok(())
}

/// What is kept in the repository.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// Cryptography takes other instructions on another processor.
    machine: String,
    /// Instructions of one round, by the name of the path.
    counts: Counts,
}

type Counts = BTreeMap<String, u64>;

impl Baseline {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
    }

    fn to_toml(&self) -> Result<String> {
        Ok(format!("{HEADER}{}", toml::to_string(self)?))
    }
}

/// One path in the baseline, in this run, or in both.
struct Finding<'a> {
    name: &'a str,
    before: Option<u64>,
    now: Option<u64>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    AsBefore,
    /// Less than before: worth writing down, so that it stays.
    Better,
    Worse,
    /// Only the baseline has it.
    Gone,
    /// The baseline has none.
    New,
}

impl Verdict {
    fn of(before: Option<u64>, now: Option<u64>) -> Self {
        let (Some(before), Some(now)) = (before, now) else {
            return if before.is_some() { Self::Gone } else { Self::New };
        };
        let (before, now) = (u128::from(before) * 100, u128::from(now) * 100);
        let tolerance = before / 100 * u128::from(TOLERANCE_PERCENT);
        match now {
            now if now > before + tolerance => Self::Worse,
            now if now + tolerance < before => Self::Better,
            _ => Self::AsBefore,
        }
    }

    const fn is_failure(self) -> bool {
        matches!(self, Self::Worse | Self::Gone | Self::New)
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<u64>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
        let change = match (self.before, self.now) {
            (Some(before), Some(now)) if before > 0 => format!("{:+.1} %", (now as f64 / before as f64 - 1.0) * 100.0),
            _ => String::new(),
        };
        let word = match self.verdict {
            Verdict::AsBefore => "",
            Verdict::Better => "better: `cargo xtask instructions --update` keeps it",
            Verdict::Worse => "WORSE",
            Verdict::Gone => "GONE",
            Verdict::New => "NOT IN THE BASELINE",
        };
        let line = format!(
            "{:<24}{:>12} → {:>12}  {change:>9}  {word}",
            self.name,
            number(self.before),
            number(self.now)
        );
        f.write_str(line.trim_end())
    }
}

fn compare<'a>(before: &'a Counts, now: &'a Counts) -> Vec<Finding<'a>> {
    let mut names: Vec<&str> = before.keys().chain(now.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let finding = |name| {
        let (before, now) = (before.get(name).copied(), now.get(name).copied());
        Finding {
            name,
            before,
            now,
            verdict: Verdict::of(before, now),
        }
    };
    names.into_iter().map(finding).collect()
}

/// Builds the program that does the work, as a release; returns where it is.
fn build(root: &Path) -> Result<PathBuf> {
    let arguments = [
        "build",
        "--release",
        "--locked",
        "--package",
        "nabe-benches",
        "--bin",
        PROGRAM,
    ];
    let output = Command::new("cargo")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(
        output.status.success(),
        "`cargo {}`: {}",
        arguments.join(" "),
        output.status
    );
    let messages = String::from_utf8(output.stdout).context("reading cargo's messages")?;
    executable(&messages).with_context(|| format!("cargo did not say where {PROGRAM} is"))
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == PROGRAM;
        message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
    })
}

/// Instructions of one round of each path.
fn count_all(program: &Path) -> Result<Counts> {
    let list = Command::new(program)
        .arg("list")
        .output()
        .context("asking for the paths")?;
    let list = String::from_utf8(list.stdout).context("reading the list of paths")?;
    let mut counts = Counts::new();
    for line in list.lines() {
        let (name, rounds) = line.split_once(' ').with_context(|| format!("`{line}` is no path"))?;
        let rounds: u64 = rounds
            .parse()
            .with_context(|| format!("`{line}` has no number of rounds"))?;
        let (prepared, done) = (count(program, name, 0)?, count(program, name, rounds)?);
        let all = done
            .checked_sub(prepared)
            .with_context(|| format!("`{name}` costs nothing"))?;
        counts.insert(name.to_owned(), all / rounds.max(1));
    }
    ensure!(!counts.is_empty(), "{PROGRAM} has no paths");
    Ok(counts)
}

/// Instructions of a whole process.
fn count(program: &Path, name: &str, rounds: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &rounds.to_string()])
        .output()
        .context("starting valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("`{name}` under valgrind: {}\n{said}", output.status);
    }
    instructions(&said).with_context(|| format!("valgrind did not say how many instructions `{name}` took:\n{said}"))
}

/// The sum that cachegrind ends with.
fn instructions(said: &str) -> Option<u64> {
    let line = said
        .lines()
        .find(|line| line.contains("I ") && line.contains("refs:"))?;
    let (_, number) = line.split_once("refs:")?;
    number.trim().replace(',', "").parse().ok()
}

/// What counts depend on beside the code. The toolchain is the repository's.
fn machine() -> String {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_avx2 = flags
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "avx2"));
    let vectors = if has_avx2 { "with" } else { "without" };
    format!("{} {} {vectors} AVX2", std::env::consts::OS, std::env::consts::ARCH)
}

fn has_valgrind() -> bool {
    let status = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn is_required() -> bool {
    std::env::var_os("NABE_REQUIRE_ALL").is_some_and(|value| value == "1")
}

const PROGRAM: &str = "nabe-instructions";
const BASELINE: &str = "benches/instructions.toml";
/// What a count may grow by before it fails.
const TOLERANCE_PERCENT: u8 = 15;
const HEADER: &str = "\
# Instructions that a hot path of the pure core takes once, counted by valgrind. `cargo xtask instructions` compares: 15 % more is a
# failure. `cargo xtask instructions --update` writes this file; say in the commit why.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn fifteen_percent_more_is_as_before_and_anything_beyond_is_a_failure() {
        let verdict = |before, now| Verdict::of(Some(before), Some(now));
        assert_eq!(verdict(1_000, 1_150), Verdict::AsBefore);
        assert_eq!(verdict(1_000, 1_151), Verdict::Worse);
        assert_eq!(verdict(1_000, 850), Verdict::AsBefore);
        assert_eq!(verdict(1_000, 849), Verdict::Better);
        assert_eq!(verdict(u64::MAX, u64::MAX), Verdict::AsBefore);
        assert!(Verdict::Worse.is_failure() && !Verdict::Better.is_failure());
    }

    #[test]
    fn a_path_without_a_baseline_and_a_baseline_without_a_path_are_failures() {
        let (before, now) = (counts(&[("a", 10), ("b", 10)]), counts(&[("b", 12), ("c", 5)]));
        let findings = compare(&before, &now);
        let said: Vec<_> = findings.iter().map(|finding| (finding.name, finding.verdict)).collect();
        assert_eq!(said, [("a", Verdict::Gone), ("b", Verdict::Worse), ("c", Verdict::New)]);
        assert!(findings.iter().all(|finding| finding.verdict.is_failure()));
        assert!(findings[1].to_string().ends_with("10 →           12    +20.0 %  WORSE"));
    }

    #[test]
    fn the_sum_is_read_as_old_and_new_valgrinds_write_it() {
        let old = "==7== Cachegrind\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(instructions(old), Some(1_234_567));
        assert_eq!(instructions("==7== I refs:        89\n"), Some(89));
        assert_eq!(instructions("==7== D   refs:      5\n"), None);
    }

    #[test]
    fn the_baseline_reads_back_and_knows_no_other_field() {
        let baseline = Baseline {
            machine: "linux x86_64 with AVX2".to_owned(),
            counts: counts(&[("wire/update-request", 7)]),
        };
        let text = baseline.to_toml().unwrap();
        assert_eq!(toml::from_str::<Baseline>(&text).unwrap(), baseline);
        assert!(toml::from_str::<Baseline>(&format!("speed = 1\n{text}")).is_err());
    }

    #[test]
    fn the_program_is_found_among_what_cargo_builds() {
        let other = r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":"/x"}"#;
        let ours = r#"{"reason":"compiler-artifact","target":{"name":"nabe-instructions"},"executable":"/y"}"#;
        assert_eq!(executable(&format!("{other}\nnoise\n{ours}")), Some("/y".into()));
        assert_eq!(executable(other), None);
    }
}
