//! What an input is, if nobody says. Whatever reads all of it may be meant; which is likeliest is told by how much of it makes
//! sense: known names of enumerations, URIs, keys and hashes of usual lengths, times of our days.

use nabe_content::mimi::{MimiContent, outline, status, status_outline};
use nabe_wire::{KINDS, Kind, Rule, codec::Value, mls::ComponentId};

use super::input::{self, Form, Input, InputError};
use super::read_as;
use super::subject::Subject;

/// What an input is taken for.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) input: Input,
    pub(super) subject: Subject,
    /// What else reads all of it, likeliest first.
    pub(super) also: Vec<Subject>,
    pub(super) reads: Reads,
}

/// How much of an input a guess reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reads {
    /// All of it.
    All,
    /// All of it, since nobody knows what must follow its beginning: the protocol or the code is unknown.
    Anything,
    /// Not all of it.
    Beginning,
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
        Self::certain(inputs.swap_remove(at), subject)
    }

    /// What is not guessed.
    const fn certain(input: Input, subject: Subject) -> Self {
        Self {
            input,
            subject,
            also: Vec::new(),
            reads: Reads::All,
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
    reads: Reads,
    /// How much sense it makes.
    sense: i64,
    /// How many bytes it got through.
    reached: usize,
}

/// The likeliest reading of the first form that something reads whole, what is in opaque fields included. If nothing does in any
/// form, one that reads all but that; then one of an unknown protocol, unless the beginning of something else makes much more sense.
pub(super) fn guess(inputs: Vec<Input>) -> Result<Guess, InputError> {
    let begins_object = |input: &Input| input.bytes.trim_ascii_start().first() == Some(&b'{');
    let is_hex = inputs.iter().any(|input| input.form == Form::Hex);
    let object = inputs
        .iter()
        .find(|input| input.form == Form::Raw && begins_object(input));
    if let Some(input) = object.filter(|_| !is_hex) {
        return Ok(Guess::certain(input.clone(), Subject::Json));
    }
    let (mut broken_inside, mut nearest) = (None, None);
    for input in inputs {
        let label = input.label.as_deref().and_then(Subject::named);
        // A label says what it is, if it says something we know, and if it is that.
        if let Some(subject) = label
            && (subject == Subject::Json || reads(subject, &input.bytes))
        {
            return Ok(Guess::certain(input, subject));
        }
        let fits = fits(&input.bytes);
        let holds = |fit: &&Fit| read_as(fit.subject, &input.bytes).holds();
        let (whole, broken): (Vec<&Fit>, Vec<&Fit>) =
            fits.iter().filter(|fit| fit.reads == Reads::All).partition(holds);
        let is_believed = |fit: &&Fit| label.is_none() || fit.sense >= SENSIBLE;
        if let Some((first, others)) = whole.split_first().filter(|(first, _)| is_believed(first)) {
            let others = others.iter().copied().chain(anything(&fits));
            return Ok(Guess {
                subject: first.subject,
                also: others.map(|fit| fit.subject).collect(),
                reads: Reads::All,
                input,
            });
        }
        if let Some(subject) = label {
            return Ok(Guess {
                reads: Reads::Beginning,
                ..Guess::certain(input, subject)
            });
        }
        if let Some((first, others)) = broken.split_first() {
            let others = others.iter().copied().chain(anything(&fits));
            broken_inside.get_or_insert_with(|| Guess {
                subject: first.subject,
                also: others.map(|fit| fit.subject).collect(),
                reads: Reads::All,
                input: input.clone(),
            });
        }
        nearest.get_or_insert((input, fits));
    }
    if let Some(guess) = broken_inside {
        return Ok(guess);
    }
    let (input, fits) = nearest.ok_or(InputError::Empty)?;
    // Words that mean nothing are a slip in how bytes were written down, not malformed bytes.
    if input.form == Form::Raw
        && let Ok(text) = std::str::from_utf8(&input.bytes)
        && !text.contains(|c: char| c.is_control() && !c.is_whitespace())
    {
        return Err(input::complaint(text));
    }
    let mut anything: Vec<&Fit> = anything(&fits).collect();
    let beginning = fits.iter().find(|fit| fit.reads == Reads::Beginning);
    let is_anything = |fit: &&Fit| beginning.is_none_or(|beginning| beginning.sense < fit.sense + CONVINCING);
    let first = match anything.first().copied().filter(is_anything) {
        Some(_) => anything.remove(0),
        None => beginning.ok_or(InputError::Empty)?,
    };
    Ok(Guess {
        subject: first.subject,
        also: anything.iter().map(|fit| fit.subject).collect(),
        reads: first.reads,
        input,
    })
}

/// The readings of an unknown protocol or with an unknown code.
fn anything(fits: &[Fit]) -> impl Iterator<Item = &Fit> {
    fits.iter().filter(|fit| fit.reads == Reads::Anything)
}

/// How every type fits, the likeliest first.
fn fits(bytes: &[u8]) -> Vec<Fit> {
    let all = [Subject::Content, Subject::Status]
        .into_iter()
        .chain(KINDS.iter().map(Subject::Struct));
    let mut fits: Vec<Fit> = all.map(|subject| fit(subject, bytes)).collect();
    // What is cut off makes as much sense as the larger structs that begin with it.
    let is_common = |fit: &Fit| ["MLSMessage", "GroupInfo", "KeyPackage"].contains(&fit.subject.name());
    fits.sort_by_key(|fit| std::cmp::Reverse((fit.sense, fit.reached, is_common(fit))));
    fits
}

fn fit(subject: Subject, bytes: &[u8]) -> Fit {
    let (reads, sense, reached) = match subject {
        Subject::Json => (Reads::Beginning, 0, 0),
        Subject::Content => match MimiContent::decode(bytes) {
            Ok(_) => (Reads::All, CERTAIN, bytes.len()),
            Err(error) => (Reads::Beginning, 4 * count(outline(bytes).0.len()), error.offset),
        },
        Subject::Status => match status::StatusReport::decode(bytes) {
            Ok(report) if report.entries.is_empty() => (Reads::All, 0, bytes.len()),
            Ok(_) => (Reads::All, CERTAIN, bytes.len()),
            Err(error) => (Reads::Beginning, 8 * count(status_outline(bytes).0.len()), error.offset),
        },
        Subject::Struct(kind) => struct_fit(kind, bytes),
    };
    Fit {
        subject,
        reads,
        sense,
        reached,
    }
}

fn struct_fit(kind: &'static Kind, bytes: &[u8]) -> (Reads, i64, usize) {
    let read = kind.check(bytes);
    let reached = match &read {
        Ok(()) => bytes.len(),
        // What is longer than the struct may be was not looked at.
        Err(error) if matches!(error.rule(), Rule::TooLong { .. }) => return (Reads::Beginning, i64::MIN, 0),
        Err(error) => error.offset(),
    };
    // A large input is judged by its beginning: all there is to know is there, and a trace takes many times its memory.
    let beginning = bytes.get(..reached.min(JUDGED_BYTES)).unwrap_or(bytes);
    let leaves = if bytes.len() <= JUDGED_BYTES {
        kind.read(bytes).trace.leaves()
    } else {
        kind.read(beginning).trace.leaves()
    };
    let mut sense: i64 = leaves.iter().map(|leaf| sense(&leaf.field, &leaf.value)).sum();
    if kind.name == "AppEphemeral" && !leaves.first().is_some_and(|leaf| says_in_passing(&leaf.value)) {
        sense -= 2;
    }
    let reads = match &read {
        Err(_) => Reads::Beginning,
        Ok(()) if leaves.iter().any(|leaf| is_rest(&leaf.field, &leaf.value)) => Reads::Anything,
        Ok(()) => Reads::All,
    };
    // An input that goes on is another thing's beginning.
    let tail = match &read {
        Err(error) if matches!(error.rule(), Rule::TrailingBytes { .. }) => 12,
        _ => 0,
    };
    (reads, sense - tail, reached)
}

/// What follows to the end, whose grammar nobody knows.
fn is_rest(field: &str, value: &Value) -> bool {
    let name = field.rsplit('.').next();
    name == Some("rest") && matches!(value, Value::Bytes(bytes) if !bytes.is_empty())
}

/// More than any struct gets: strictly read CBOR is nothing else.
const CERTAIN: i64 = 1 << 40;

const JUDGED_BYTES: usize = 64 << 10;

/// By how much more sense a beginning is taken to be cut off, and no body of an unknown protocol.
const CONVINCING: i64 = 24;

/// How much sense something makes that is believed against its label.
const SENSIBLE: i64 = 9;

/// A component of which it is known that it says things in passing.
fn says_in_passing(component: &Value) -> bool {
    let Value::Named(number, _) = component else {
        return false;
    };
    u16::try_from(*number).is_ok_and(|number| Kind::of_component_ephemeral(ComponentId(number)).is_some())
}

/// How much sense a field makes: positive if chance would hardly make it so, negative if it looks like chance.
fn sense(field: &str, value: &Value) -> i64 {
    let name = field.rsplit('.').next().unwrap_or_default();
    let name = name.split('[').next().unwrap_or_default();
    match value {
        // Reserved; what begins so begins with a version or a number.
        Value::Named(0, _) if name == "protocol" => -16,
        // Goes along with messages, and nowhere else.
        Value::Named(FRANK_AAD, _) if field.starts_with("component_data[") => -4,
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
        Value::Text(_) if is_uri(name) => -8,
        Value::Text(text) if name == "media_type" => {
            if text.contains('/') {
                12
            } else {
                -8
            }
        }
        Value::Text(text) => 2 + count(text.len().min(40)) / 8,
        rest if is_rest(field, rest) => -8,
        Value::Bytes(bytes) if bytes.starts_with(b"mimi://") && !is_data(name) => 11,
        // Keys and hashes are as short, signatures are not.
        Value::Bytes(bytes) if name.ends_with("signature") && bytes.len() < 64 => 0,
        Value::Bytes(bytes) if matches!(bytes.len(), 16 | 32 | 48 | 64 | 65) => 3,
        Value::Bytes(_) => 0,
    }
}

/// Fields that hold a URI, which need not be one of MIMI's.
fn is_uri(name: &str) -> bool {
    ["uri", "user", "pseudonym"].iter().any(|end| name.ends_with(end))
        || ["", "room_id", "parent_room", "room_avatar"].contains(&name)
}

/// Fields that hold whatever a component says.
fn is_data(name: &str) -> bool {
    ["data", "update", "aad_item_data"].contains(&name)
}

const FRANK_AAD: u64 = ComponentId::FRANK_AAD.0 as u64;

/// Milliseconds since 1970, from 2001 to 2065; seconds are smaller.
const TIMES_MIN: u64 = 1_000_000_000_000;
const TIMES_MAX: u64 = 3_000_000_000_000;
const SMALL_NUMBER: u64 = 1 << 32;

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX >> 8)
}
