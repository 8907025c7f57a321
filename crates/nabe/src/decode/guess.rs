//! What an input is, if nobody says. Whatever reads all of it may be meant; which is likeliest is told by how much of it makes
//! sense: known names of enumerations, URIs, keys and hashes of usual lengths, times of our days.

use nabe_content::mimi::{MimiContent, outline, status, status_outline};
use nabe_wire::{KINDS, Kind, Rule, codec::Value};

use super::input::{self, Form, Input, InputError};
use super::subject::Subject;

/// What an input is taken for.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) input: Input,
    pub(super) subject: Subject,
    /// What else reads all of it, likeliest first.
    pub(super) also: Vec<Subject>,
}

impl Guess {
    /// What somebody says it is, in the first form that is that; in the first of all if none is.
    pub(super) fn asked(subject: Subject, mut inputs: Vec<Input>) -> Self {
        let at = if subject == Subject::Json {
            inputs.len() - 1
        } else {
            let reads = |input: &Input| reads(subject, &input.bytes);
            inputs.iter().position(reads).unwrap_or(0)
        };
        Self {
            input: inputs.swap_remove(at),
            subject,
            also: Vec::new(),
        }
    }
}

fn reads(subject: Subject, bytes: &[u8]) -> bool {
    match subject {
        Subject::Json => false,
        Subject::Content => MimiContent::decode(bytes).is_ok(),
        Subject::Status => status::StatusReport::decode(bytes).is_ok(),
        Subject::Struct(kind) => kind.check(bytes).is_ok(),
    }
}

/// How well a reading fits.
struct Fit {
    subject: Subject,
    is_whole: bool,
    /// How much sense it makes.
    sense: i64,
    /// How many bytes it got through.
    reached: usize,
}

/// The likeliest reading of the first form that something reads whole; if nothing does in any form, the reading that makes most
/// sense before it breaks.
pub(super) fn guess(inputs: Vec<Input>) -> Result<Guess, InputError> {
    let begins_object = |input: &Input| input.bytes.trim_ascii_start().first() == Some(&b'{');
    if let Some(input) = inputs
        .iter()
        .find(|input| input.form == Form::Raw && begins_object(input))
    {
        return Ok(Guess {
            input: input.clone(),
            subject: Subject::Json,
            also: Vec::new(),
        });
    }
    let mut nearest = None;
    for input in inputs {
        // A label says what it is, if it says something we know.
        if let Some(subject) = input.label.as_deref().and_then(Subject::named) {
            return Ok(Guess {
                input,
                subject,
                also: Vec::new(),
            });
        }
        let fits = fits(&input.bytes);
        let mut whole = fits.iter().filter(|fit| fit.is_whole).map(|fit| fit.subject);
        if let Some(subject) = whole.next() {
            let also = whole.collect();
            return Ok(Guess { input, subject, also });
        }
        if nearest.is_none()
            && let Some(fit) = fits.first()
        {
            nearest = Some((input, fit.subject));
        }
    }
    let (input, subject) = nearest.ok_or(InputError::Empty)?;
    // Words that mean nothing are a slip in how bytes were written down, not malformed bytes.
    if input.form == Form::Raw
        && let Ok(text) = std::str::from_utf8(&input.bytes)
        && !text.contains(|c: char| c.is_control() && !c.is_whitespace())
    {
        return Err(input::complaint(text));
    }
    Ok(Guess {
        input,
        subject,
        also: Vec::new(),
    })
}

/// How every type fits, those that read all of it first, the likeliest among them first.
fn fits(bytes: &[u8]) -> Vec<Fit> {
    let all = [Subject::Content, Subject::Status]
        .into_iter()
        .chain(KINDS.iter().map(Subject::Struct));
    let mut fits: Vec<Fit> = all.map(|subject| fit(subject, bytes)).collect();
    // What is cut off makes as much sense as the larger structs that begin with it.
    let is_common = |fit: &Fit| ["MLSMessage", "GroupInfo", "KeyPackage"].contains(&fit.subject.name());
    fits.sort_by_key(|fit| std::cmp::Reverse((fit.is_whole, fit.sense, fit.reached, is_common(fit))));
    fits
}

fn fit(subject: Subject, bytes: &[u8]) -> Fit {
    let (is_whole, sense, reached) = match subject {
        Subject::Json => (false, 0, 0),
        Subject::Content => match MimiContent::decode(bytes) {
            Ok(_) => (true, CERTAIN, bytes.len()),
            Err(error) => (false, 4 * count(outline(bytes).0.len()), error.offset),
        },
        Subject::Status => match status::StatusReport::decode(bytes) {
            Ok(report) if report.entries.is_empty() => (true, 0, bytes.len()),
            Ok(_) => (true, CERTAIN, bytes.len()),
            Err(error) => (false, 8 * count(status_outline(bytes).0.len()), error.offset),
        },
        Subject::Struct(kind) => struct_fit(kind, bytes),
    };
    Fit {
        subject,
        is_whole,
        sense,
        reached,
    }
}

fn struct_fit(kind: &'static Kind, bytes: &[u8]) -> (bool, i64, usize) {
    let read = kind.check(bytes);
    let reached = match &read {
        Ok(()) => bytes.len(),
        // What is longer than the struct may be was not looked at.
        Err(error) if matches!(error.rule(), Rule::TooLong { .. }) => return (false, i64::MIN, 0),
        Err(error) => error.offset(),
    };
    // A large input is judged by its beginning: all there is to know is there, and a trace takes many times its memory.
    let beginning = bytes.get(..reached.min(JUDGED_BYTES)).unwrap_or(bytes);
    let leaves = if bytes.len() <= JUDGED_BYTES {
        kind.read(bytes).trace.leaves()
    } else {
        kind.read(beginning).trace.leaves()
    };
    // A body of an unknown protocol, or with an unknown code, is anything at all.
    let is_anything = leaves.iter().any(|leaf| is_rest(&leaf.field, &leaf.value));
    let sense: i64 = leaves.iter().map(|leaf| sense(&leaf.field, &leaf.value)).sum();
    // An input that goes on is another thing's beginning.
    let tail = match &read {
        Err(error) if matches!(error.rule(), Rule::TrailingBytes { .. }) => 12,
        _ => 0,
    };
    (read.is_ok() && !is_anything, sense - tail, reached)
}

/// What follows to the end, whose grammar nobody knows.
fn is_rest(field: &str, value: &Value) -> bool {
    let name = field.rsplit('.').next();
    name == Some("rest") && matches!(value, Value::Bytes(bytes) if !bytes.is_empty())
}

/// More than any struct gets: strictly read CBOR is nothing else.
const CERTAIN: i64 = 1 << 40;

const JUDGED_BYTES: usize = 64 << 10;

/// How much sense a field makes: positive if chance would hardly make it so, negative if it looks like chance.
fn sense(field: &str, value: &Value) -> i64 {
    match value {
        Value::Named(_, Some(_)) => 3,
        Value::Named(_, None) => -4,
        Value::Number(TIMES_MIN..=TIMES_MAX) => 8,
        Value::Number(0..=SMALL_NUMBER) => 0,
        Value::Number(_) => -3,
        Value::Boolean(_) => 1,
        Value::Absent => 0,
        Value::Text(text) if text.is_empty() => 0,
        Value::Text(text) if text.chars().any(char::is_control) => -8,
        Value::Text(text) if text.contains("://") => 12,
        Value::Text(text) => 2 + count(text.len().min(40)) / 8,
        rest if is_rest(field, rest) => -8,
        Value::Bytes(bytes) if matches!(bytes.len(), 16 | 32 | 48 | 64 | 65) => 3,
        Value::Bytes(bytes) if bytes.starts_with(b"mimi://") => 8,
        Value::Bytes(_) => 0,
    }
}

/// Milliseconds since 1970, from 2001 to 2065; seconds are smaller.
const TIMES_MIN: u64 = 1_000_000_000_000;
const TIMES_MAX: u64 = 3_000_000_000_000;
const SMALL_NUMBER: u64 = 1 << 32;

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX >> 8)
}
