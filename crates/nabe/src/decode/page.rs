//! What was read, field by field, for people and for programs.

use std::fmt::Write as _;

use nabe_content::clean_line;
use nabe_signing::{Json, Object, object};
use nabe_wire::codec::Trace;

use super::guess::Reads;

/// Where something stands inside what was given.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its first byte.
    pub(super) offset: usize,
    /// How many fields it is inside of.
    pub(super) depth: usize,
    /// The way to it; empty at the outermost.
    pub(super) field: String,
    /// In how many structs that stand in opaque fields it is.
    pub(super) nesting: usize,
}

impl Place {
    /// The whole of what was given.
    pub(super) const ROOT: Self = Self {
        offset: 0,
        depth: 0,
        field: String::new(),
        nesting: 0,
    };

    /// The full name of a field in here.
    pub(super) fn name(&self, field: &str) -> String {
        let dot = if self.field.is_empty() || field.is_empty() || field.starts_with('[') {
            ""
        } else {
            "."
        };
        format!("{}{dot}{field}", self.field)
    }
}

/// A field.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) depth: usize,
    /// The last step of its name, for those who see the rows above it.
    pub(super) label: String,
    /// The way to it.
    pub(super) field: String,
    pub(super) offset: usize,
    pub(super) length: usize,
    pub(super) holds: Holds,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Holds {
    /// Fields of its own.
    Fields,
    /// A struct of this name, in an opaque field.
    Struct(&'static str),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A text among what is none, where it stands between quotation marks.
    Text(String),
    /// Anything else, in words, not yet fit to be printed.
    Words(String),
}

/// Where something breaks, and by which rule.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) offset: usize,
    /// The way to the field; empty for the whole.
    pub(super) field: String,
    /// The rule by name.
    pub(super) rule: String,
    /// The rule in words.
    pub(super) words: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Page {
    what: &'static str,
    pub(super) rows: Vec<Row>,
    /// How many fields there are that are no rows, at least.
    pub(super) left_out: usize,
    /// What follows from the fields: name and value.
    pub(super) facts: Vec<(String, String)>,
    pub(super) problems: Vec<Problem>,
}

/// What is said before the fields.
pub(super) struct Heading<'a> {
    /// Nobody said what it is.
    pub(super) guessed: bool,
    /// How much of the input is what it is guessed to be.
    pub(super) reads: Reads,
    pub(super) form: &'static str,
    /// How long it is.
    pub(super) bytes: usize,
    /// What else it reads as.
    pub(super) also: Vec<&'a str>,
}

impl Page {
    pub(super) const fn new(what: &'static str) -> Self {
        Self {
            what,
            rows: Vec::new(),
            left_out: 0,
            facts: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// There is no room for more rows: each takes hundreds of bytes, and what has so many fields repeats itself.
    pub(super) const fn is_full(&self) -> bool {
        self.rows.len() >= Trace::MAX_ENTRIES
    }

    /// Nothing breaks a rule.
    pub(super) const fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn to_text(&self, heading: &Heading<'_>, full: bool) -> String {
        let mut out = String::new();
        self.write_heading(heading, &mut out);
        let label = |row: &Row| row.depth.min(MAX_INDENT) * 2 + row.label.chars().count();
        let width = self.rows.iter().map(label).max().unwrap_or(0).clamp(5, MAX_LABEL);
        if !self.rows.is_empty() {
            let _ = writeln!(out, "{:>7} {:>7}  {:width$}  value", "offset", "length", "field");
        }
        for row in &self.rows {
            let indent = row.depth.min(MAX_INDENT) * 2;
            let label = format!("{:indent$}{}", "", row.label);
            let value = row.holds.shown(full);
            let line = format!("{:>7} {:>7}  {label:width$}  {value}", row.offset, row.length);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if self.left_out > 0 {
            let _ = writeln!(out, "({} more fields are not shown)", self.left_out);
        }
        let names = self.facts.iter().map(|(name, _)| name.chars().count());
        let width = names.max().unwrap_or(0);
        if !self.facts.is_empty() {
            out.push('\n');
        }
        for (name, value) in &self.facts {
            let _ = writeln!(out, "{name:width$}  {}", printable(value, full));
        }
        if !self.problems.is_empty() {
            out.push('\n');
        }
        for problem in &self.problems {
            let field = match problem.field.as_str() {
                "" => "the whole",
                field => field,
            };
            let (offset, words) = (problem.offset, printable(&problem.words, true));
            let _ = writeln!(out, "FALSE  byte {offset}, {}: {words}", printable(field, true));
        }
        out
    }

    fn write_heading(&self, heading: &Heading<'_>, out: &mut String) {
        let Heading {
            guessed,
            reads,
            form,
            bytes,
            also,
        } = heading;
        let guessed = match (guessed, reads) {
            (false, _) => "",
            (true, Reads::All) => ", guessed",
            (true, Reads::Anything) => ", guessed: its protocol or code is unknown, and what follows may be anything",
            (true, Reads::Beginning) => ", the nearest guess: nothing known reads all of it",
        };
        let _ = writeln!(out, "{}, {bytes} bytes from {form}{guessed}", self.what);
        if !also.is_empty() {
            let more = also.len().saturating_sub(MAX_ALSO);
            let also = also.get(..also.len().min(MAX_ALSO)).unwrap_or_default().join(", ");
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let _ = writeln!(out, "also reads as {also}{more}; choose with --as");
        }
        out.push('\n');
    }

    pub(super) fn to_json(&self, heading: &Heading<'_>) -> Object {
        let row = |row: &Row| -> Json {
            let mut field = object! {
                "field" => row.field.as_str(),
                "offset" => number(row.offset),
                "length" => number(row.length),
            };
            match &row.holds {
                Holds::Fields => {}
                Holds::Struct(name) => {
                    field.insert("struct", *name);
                }
                Holds::Bytes(bytes) => {
                    field.insert("value", hex(bytes));
                }
                Holds::Words(words) | Holds::Text(words) => {
                    field.insert("value", words.as_str());
                }
            }
            field.into()
        };
        let problem = |problem: &Problem| -> Json {
            object! {
                "offset" => number(problem.offset),
                "field" => problem.field.as_str(),
                "rule" => problem.rule.as_str(),
                "message" => problem.words.as_str(),
            }
            .into()
        };
        let facts: Object = self
            .facts
            .iter()
            .map(|(name, value)| (name.clone(), Json::from(value.as_str())))
            .collect();
        object! {
            "type" => self.what,
            "guessed" => heading.guessed,
            "also" => heading.also.iter().map(|name| Json::from(*name)).collect::<Vec<_>>(),
            "form" => heading.form,
            "bytes" => number(heading.bytes),
            "fields" => self.rows.iter().map(row).collect::<Vec<_>>(),
            "fields_left_out" => number(self.left_out),
            "facts" => facts,
            "problems" => self.problems.iter().map(problem).collect::<Vec<_>>(),
            "holds" => self.holds(),
        }
    }
}

impl Holds {
    fn shown(&self, full: bool) -> String {
        match self {
            Self::Fields => String::new(),
            Self::Struct(name) => format!("({name})"),
            Self::Words(words) => printable(words, full),
            Self::Text(text) => printable(&format!("{text:?}"), full),
            Self::Bytes(bytes) => {
                let shown = if full {
                    bytes.len()
                } else {
                    bytes.len().min(SHOWN_BYTES)
                };
                let digits = hex(bytes.get(..shown).unwrap_or(bytes));
                let cut = if shown < bytes.len() {
                    format!("… ({} bytes)", bytes.len())
                } else {
                    String::new()
                };
                // Names of groups and identities are often texts.
                let is_text = bytes.len() >= 4 && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
                let text = match std::str::from_utf8(bytes) {
                    Ok(text) if is_text => format!("  {:?}", printable(text, full)),
                    _ => String::new(),
                };
                format!("{digits}{cut}{text}")
            }
        }
    }
}

/// A text fit to be printed on one line.
fn printable(text: &str, full: bool) -> String {
    if full {
        return clean_line(text, text.len().saturating_mul(3).max(16));
    }
    let shown = clean_line(text, SHOWN_TEXT);
    if text.len() > SHOWN_TEXT {
        format!("{shown} ({} bytes)", text.len())
    } else {
        shown
    }
}

fn number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

const MAX_INDENT: usize = 16;
const MAX_LABEL: usize = 56;
const MAX_ALSO: usize = 8;
const SHOWN_BYTES: usize = 32;
const SHOWN_TEXT: usize = 200;
