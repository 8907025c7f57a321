//! The lab as a whole, with real workers: tiny groups, all the way to the files.

#![expect(clippy::unwrap_used, reason = "this is test code")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nabe_lab::cell::{Operation, Shape};
use nabe_lab::compare::{Verdict, compare};
use nabe_lab::machine::Machine;
use nabe_lab::plan::{Plan, Settings};
use nabe_lab::protocol::Hello;
use nabe_lab::record::{FORMAT, Run, Status, Tool};
use nabe_lab::run::{Event, WorkerCommand, hello, run};
use nabe_lab::scenario::record::Way;
use nabe_lab::scenario::{Phase, Scenario, ScenarioRecord, library};
use nabe_lab::{csv, report};
use serde_json::Value;

fn worker() -> WorkerCommand {
    WorkerCommand {
        implementation: "openmls".to_owned(),
        program: env!("CARGO_BIN_EXE_nabe-lab-worker").into(),
        arguments: Vec::new(),
    }
}

/// A worker that is a script.
fn script(text: &str) -> WorkerCommand {
    WorkerCommand {
        implementation: "script".to_owned(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), text.to_owned()],
    }
}

fn settings() -> Settings {
    Settings {
        sizes: vec![2, 5],
        shapes: Shape::ALL.to_vec(),
        thinned: false,
        samples: 3,
        sampling_ms: 60_000,
        budget_ms: 60_000,
        ..Settings::full(7)
    }
}

fn begin(settings: Settings, workers: Vec<Hello>) -> Run {
    Run {
        format: FORMAT,
        started: 1_795_391_999,
        tool: Tool {
            version: "0".to_owned(),
            commit: None,
        },
        machine: Machine::here(),
        settings,
        workers,
        cells: Vec::new(),
        scenarios: Vec::new(),
    }
}

/// Runs it all, or until so many cells are done.
fn measure(record: &mut Run, command: &WorkerCommand, until: usize) -> bool {
    let plan = Plan::new(&record.settings, &record.workers).unwrap();
    let stop = AtomicBool::new(false);
    let watch = &mut |event: Event<'_>| {
        if let Event::Done { done, .. } = event {
            stop.store(done >= until, Relaxed);
        }
    };
    run(&plan, std::slice::from_ref(command), record, &stop, watch).unwrap()
}

fn whole_run() -> Run {
    let mut record = begin(settings(), vec![hello(&worker()).unwrap()]);
    assert!(measure(&mut record, &worker(), usize::MAX));
    record
}

#[test]
fn every_operation_is_measured_in_every_shape_and_the_files_tell_of_it() {
    let record = whole_run();
    assert_eq!(record.cells.len(), 2 * Shape::ALL.len() * Operation::ALL.len());
    for cell in &record.cells {
        // Everybody is live only in groups that nobody has to be left to leave.
        let has_idle = matches!(cell.cell.group.shape, Shape::Churned | Shape::Sparse) && cell.cell.group.size > 2;
        let expected = match cell.cell.operation {
            Operation::UpdateEveryone if has_idle => Status::Unsupported,
            _ => Status::Measured,
        };
        assert_eq!(cell.status, expected, "{}: {:?}", cell.cell, cell.reason);
        if expected == Status::Measured {
            assert_eq!(cell.samples.len(), 3, "{}", cell.cell);
            assert!(
                cell.samples
                    .iter()
                    .all(|sample| sample.ns > 0 && sample.allocations.is_some())
            );
            assert_eq!(cell.tree["members"], u64::from(cell.cell.group.size), "{}", cell.cell);
        }
    }
    what_is_counted_is_what_mls_says(&record);
    let mut record = record;
    record.scenarios.push(played());
    record.workers[0].note = Some("driven by hand".to_owned());
    the_schema_describes(&record);

    let directory = tempfile::tempdir().unwrap();
    record.save(directory.path()).unwrap();
    csv::save(&record, directory.path()).unwrap();
    report::save(&record, directory.path()).unwrap();
    assert_eq!(Run::load(directory.path()).unwrap(), record);
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let cells = read("cells.csv");
    assert_eq!(cells.lines().count(), 1 + record.cells.len());
    let commas = |line: &str| line.matches(',').count();
    let measured = cells.lines().filter(|line| line.contains(",measured,"));
    assert!(measured.clone().count() > 100);
    measured.for_each(|line| assert_eq!(commas(line), commas(cells.lines().next().unwrap()), "{line}"));
    let samples: usize = record.cells.iter().map(|cell| cell.samples.len()).sum();
    assert_eq!(read("samples.csv").lines().count(), 1 + samples);
    assert_eq!(read("steps.csv").lines().count(), 1 + 5);
    let page = read("report.html");
    for operation in Operation::ALL {
        assert!(page.contains(&format!("id=\"{operation}\"")), "{operation}");
    }
    // The data at the end is in base64, which may read like anything.
    let (page, _) = page.split_once("<h2 id=\"data\">").unwrap();
    assert!(page.contains("<p>openmls: driven by hand.</p>"));
    assert!(page.contains("id=\"scenarios\"") && page.contains("<td>4 message</td>"));
    assert!(page.contains("id=\"share\"") && !page.contains("NaN") && !page.contains("http"));

    let same = compare(&record, &record);
    assert_eq!(
        same.changes.len(),
        record.cells.iter().filter(|cell| !cell.samples.is_empty()).count()
    );
    assert!(
        same.changes
            .iter()
            .all(|change| change.verdict == Verdict::Unsure && change.bytes.is_empty())
    );
}

/// A small scenario, played by the library alone.
fn played() -> ScenarioRecord {
    let scenario = Scenario {
        name: "small, \"very\"".to_owned(),
        about: "Few words.".to_owned(),
        seed: 1,
        members: 3,
        live: 2,
        phases: vec![Phase {
            name: "words".to_owned(),
            messages: 4,
            joins: 1,
            ..Phase::default()
        }],
    };
    ScenarioRecord {
        phases: library::play(&scenario).unwrap(),
        scenario,
        way: Way::Library,
        build: "debug".to_owned(),
        status: Status::Measured,
        reason: None,
        load_before: Some(1.5),
        load_after: None,
    }
}

/// Figures that follow from RFC 9420 alone.
fn what_is_counted_is_what_mls_says(record: &Run) {
    let find = |shape, size, operation| {
        let mut cells = record.cells.iter();
        let cell = cells.find(|cell| {
            cell.cell.operation == operation && cell.cell.group.shape == shape && cell.cell.group.size == size
        });
        cell.unwrap()
    };
    // Nobody but the committer has a path, so it is sealed to each of the others.
    assert_eq!(find(Shape::Fresh, 5, Operation::Update).work["seals"], 4);
    // Commit, leaf and GroupInfo are signed.
    assert_eq!(find(Shape::Fresh, 5, Operation::Update).work["signatures"], 3);
    // One sealed path secret is opened.
    assert_eq!(find(Shape::Full, 5, Operation::Process).work["opens"], 1);
    assert_eq!(find(Shape::Full, 5, Operation::Encrypt).work["signatures"], 1);
    assert_eq!(find(Shape::Full, 5, Operation::Decrypt).work["verifications"], 1);
    // Full: 5 leaves, 4 parents over two of them or more, no leaf unmerged.
    let tree = &find(Shape::Full, 5, Operation::Update).tree;
    assert_eq!((tree["parents"], tree["unmerged-leaves"]), (4, 0));
    // Sparse: two of seven have been removed.
    assert_eq!(find(Shape::Sparse, 5, Operation::Update).tree["blank-leaves"], 3);
}

/// `docs/lab-run.schema.json` has the keywords that this knows; another one fails.
fn the_schema_describes(record: &Run) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lab-run.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let run = serde_json::to_value(record).unwrap();
    assert_eq!(faults(&schema, &schema, &run, "run"), Vec::<String>::new());
    let mut wrong = run.clone();
    wrong["cells"][0]["samples"][0]["ns"] = "fast".into();
    wrong["machine"]["owner"] = "me".into();
    wrong.as_object_mut().unwrap().remove("settings");
    assert_eq!(faults(&schema, &schema, &wrong, "run").len(), 3);
}

fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                found.extend(faults(root, &root["$defs"][name], value, at));
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                if !kinds.iter().any(is) {
                    found.push(format!("{at} is no {rule}"));
                }
            }
            "const" if value != rule => found.push(format!("{at} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => found.push(format!("{at} is none of {rule}")),
            "const" | "enum" => {}
            "minimum" => {
                if value.as_f64().is_some_and(|value| value < rule.as_f64().unwrap()) {
                    found.push(format!("{at} is below {rule}"));
                }
            }
            "required" => {
                let missing = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|name| value.get(name.as_str().unwrap()).is_none());
                found.extend(missing.map(|name| format!("{at} lacks {name}")));
            }
            "properties" | "additionalProperties" | "items" => {}
            other => panic!("keyword {other}"),
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (
            schema.get("properties").and_then(|all| all.get(name)),
            schema.get("additionalProperties"),
        ) {
            (Some(rule), _) => found.extend(faults(root, rule, member, &at)),
            (None, Some(Value::Bool(false))) => found.push(format!("{at} is unknown")),
            (None, Some(rule @ Value::Object(_))) => found.extend(faults(root, rule, member, &at)),
            _ => {}
        }
    }
    if let (Some(rule), Some(items)) = (schema.get("items"), value.as_array()) {
        for (index, item) in items.iter().enumerate() {
            found.extend(faults(root, rule, item, &format!("{at}[{index}]")));
        }
    }
    found
}

#[test]
fn everyone_updates_in_a_group_of_which_few_are_live() {
    let command = worker();
    let settings = Settings {
        operations: vec![Operation::UpdateEveryone],
        sizes: vec![33],
        shapes: vec![Shape::Fresh, Shape::Full, Shape::Sparse],
        samples: 1,
        budget_ms: 600_000,
        ..settings()
    };
    let mut record = begin(settings, vec![hello(&command).unwrap()]);
    assert!(measure(&mut record, &command, usize::MAX));
    let find = |shape| {
        let mut cells = record.cells.iter();
        cells.find(|cell| cell.cell.group.shape == shape).unwrap()
    };
    assert_eq!(find(Shape::Sparse).status, Status::Unsupported);
    let seals = |shape| {
        let cell = find(shape);
        assert_eq!(cell.status, Status::Measured, "{}: {:?}", cell.cell, cell.reason);
        assert_eq!(cell.work["signatures"], 3 * 33, "{}", cell.cell);
        cell.work["seals"]
    };
    // Full: one for each node on the copath, of which a tree of 33 has six at most. Fresh: the first alone has 32.
    let (full, fresh) = (seals(Shape::Full), seals(Shape::Fresh));
    assert!(full <= 33 * 6 && fresh > full, "{full} and {fresh}");
}

#[test]
fn every_suite_of_openmls_is_measured_in_groups_of_its_own() {
    let command = worker();
    let settings = Settings {
        suites: hello(&command).unwrap().suites,
        sizes: vec![5],
        shapes: vec![Shape::Fresh, Shape::Full],
        samples: 1,
        ..settings()
    };
    assert_eq!(settings.suites, [1, 2, 3]);
    let mut record = begin(settings, vec![hello(&command).unwrap()]);
    assert!(measure(&mut record, &command, usize::MAX));
    assert_eq!(record.cells.len(), 3 * 2 * Operation::ALL.len());
    for cell in &record.cells {
        assert_eq!(cell.status, Status::Measured, "{}: {:?}", cell.cell, cell.reason);
    }
    // A key of P-256 has 65 bytes, one of X25519 32.
    let commit = |suite| {
        let mut cells = record.cells.iter().filter(|cell| cell.cell.group.suite == suite);
        let cell = cells.find(|cell| cell.cell.operation == Operation::Update && cell.cell.group.shape == Shape::Full);
        cell.unwrap().bytes["commit"]
    };
    assert_eq!(commit(1), commit(3));
    assert!(commit(2) > commit(1) + 5 * 33, "{} and {}", commit(2), commit(1));
}

#[test]
fn an_interrupted_run_keeps_what_is_finished_and_goes_on_with_the_rest() {
    let settings = Settings {
        operations: vec![Operation::Update, Operation::Encrypt, Operation::Hub],
        shapes: vec![Shape::Full],
        ..settings()
    };
    let mut record = begin(settings, vec![hello(&worker()).unwrap()]);
    assert!(!measure(&mut record, &worker(), 2), "it was interrupted");
    assert_eq!(record.cells.len(), 2);
    let directory = tempfile::tempdir().unwrap();
    record.save(directory.path()).unwrap();
    let mut resumed = Run::load(directory.path()).unwrap();
    assert!(measure(&mut resumed, &worker(), usize::MAX));
    assert_eq!(resumed.cells[..2], record.cells[..]);
    assert_eq!(resumed.cells.len(), 6);
    assert!(resumed.cells.iter().all(|cell| cell.status == Status::Measured));
}

const HELLO: &str = r#"{"type":"hello","protocol":1,"implementation":"script","versions":{},"suites":[0],"shapes":["full"],"operations":["encrypt","decrypt"],"threads":1,"build":"release"}"#;
const PREPARED: &str =
    r#"{"type":"prepared","tree":{},"check":[{"leaf":0,"epoch":0,"tree_hash":"","authenticator":"aa"}]}"#;

fn run_script(answers: &str) -> Run {
    let command = script(&format!("echo '{HELLO}'; read request; {answers}"));
    let settings = Settings {
        suites: vec![0],
        implementations: vec!["script".to_owned()],
        sizes: vec![2],
        shapes: vec![Shape::Full],
        budget_ms: 500,
        ..settings()
    };
    let mut record = begin(settings, vec![hello(&command).unwrap()]);
    assert!(measure(&mut record, &command, usize::MAX));
    assert_eq!(record.cells.len(), 2);
    record
}

#[test]
fn a_worker_that_takes_too_long_is_ended_and_its_samples_are_kept() {
    let record = run_script(&format!(
        r#"echo '{PREPARED}'; read request; echo '{{"type":"sample","ns":5,"waited_ns":null,"allocations":null,"peak_bytes":null}}'; exec sleep 60"#
    ));
    for cell in &record.cells {
        assert_eq!(cell.status, Status::Exceeded);
        assert_eq!(cell.samples.len(), 1);
        assert_eq!(cell.reason.as_deref(), Some("not done within 0.5 s"));
    }
}

#[test]
fn a_group_that_disagrees_with_itself_has_no_figures() {
    let sample = r#"{"type":"sample","ns":5,"waited_ns":null,"allocations":null,"peak_bytes":null}"#;
    let check = r#"[{"leaf":0,"epoch":1,"tree_hash":"","authenticator":"aa"},{"leaf":1,"epoch":1,"tree_hash":"","authenticator":"bb"}]"#;
    let record = run_script(&format!(
        r#"echo '{PREPARED}'; read request; echo '{sample}'; echo '{{"type":"measured","bytes":{{}},"work":{{}},"check":{check}}}'; read request"#
    ));
    for cell in &record.cells {
        assert_eq!((cell.status, cell.samples.len()), (Status::Failed, 0));
        let reason = "afterwards, the member at leaf 1 disagrees with the first member about the epoch authenticator";
        assert_eq!(cell.reason.as_deref(), Some(reason));
    }
}

#[test]
fn a_worker_that_dies_or_talks_nonsense_fails_its_cells_and_not_the_run() {
    let died = run_script("exit 3");
    assert_eq!(
        died.cells[0].reason.as_deref(),
        Some("the worker ended (exit status: 3)")
    );
    let nonsense = run_script("echo hello");
    assert!(
        nonsense.cells[0]
            .reason
            .as_deref()
            .unwrap()
            .starts_with("the worker answered nonsense")
    );
    assert!(nonsense.cells.iter().all(|cell| cell.status == Status::Failed));
}

#[test]
fn a_worker_that_is_none_is_refused_before_anything_is_measured() {
    let refused = |command: WorkerCommand| hello(&command).unwrap_err().to_string();
    let missing = WorkerCommand {
        program: "/nonexistent/worker".into(),
        ..script("")
    };
    assert!(refused(missing).starts_with("the worker for `script` (/nonexistent/worker): "));
    assert!(refused(script("true")).contains("the worker ended"));
    let newer = HELLO.replace("\"protocol\":1", "\"protocol\":2");
    assert!(refused(script(&format!("echo '{newer}'"))).contains("version 2 of the protocol, and the lab 1"));
    let other = HELLO.replace("\"script\"", "\"other\"");
    assert!(refused(script(&format!("echo '{other}'"))).contains("it says that it is `other`"));
}
