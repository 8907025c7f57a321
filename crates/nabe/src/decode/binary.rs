//! Structs in TLS's presentation language, with what is known to be inside their opaque fields.

use std::collections::BTreeMap;

use nabe_content::mimi;
use nabe_wire::Kind;
use nabe_wire::codec::{DecodeError, Entry, Step, Trace, Value};
use nabe_wire::mls::{ComponentId, CredentialType, ExtensionType};

use super::content;
use super::page::{Holds, Page, Place, Problem, Row};

/// Adds every field of a struct, up to its end or to where it breaks.
pub(super) fn read(page: &mut Page, kind: &'static Kind, bytes: &[u8], place: &Place) {
    let reading = kind.read(bytes);
    rows(page, kind, &reading.trace, bytes, place);
    page.left_out += reading.trace.left_out();
    if let Err(error) = reading.encoded {
        page.problems.push(problem(&error, place));
    }
}

fn problem(error: &DecodeError, place: &Place) -> Problem {
    Problem {
        offset: place.offset + error.offset(),
        field: place.name(&error.field()),
        rule: error.rule().name().to_owned(),
        words: error.rule().to_string(),
    }
}

fn rows(page: &mut Page, kind: &'static Kind, trace: &Trace, bytes: &[u8], place: &Place) {
    let mut way: Vec<Step> = Vec::new();
    let mut seen = Seen::default();
    for (at, entry) in trace.entries().iter().enumerate() {
        if page.is_full() {
            page.left_out += trace.entries().len() - at;
            return;
        }
        way.truncate(entry.depth);
        way.push(entry.step);
        let field = place.name(&way_name(&way));
        let name = field_name(&way);
        let inner = inner(kind, name, entry, &seen, bytes);
        let inner = inner.filter(|inner| place.nesting < MAX_NESTING && (inner.is_certain || inner.holds()));
        let label = match entry.step.to_string() {
            whole if whole.is_empty() => kind.name.to_owned(),
            step => step,
        };
        let holds = match (&inner, &entry.value) {
            (Some(inner), _) => Holds::Struct(inner.what.name()),
            (None, None) => Holds::Fields,
            (None, Some(Value::Bytes(bytes))) => Holds::Bytes(bytes.clone()),
            (None, Some(value)) => Holds::Words(value.to_string()),
        };
        page.rows.push(Row {
            depth: place.depth + entry.depth,
            label,
            field: field.clone(),
            offset: place.offset + entry.offset,
            length: entry.length,
            holds,
        });
        if let Some(inner) = inner {
            let place = Place {
                offset: place.offset + entry.offset + entry.length - inner.bytes.len(),
                depth: place.depth + entry.depth + 1,
                field,
                nesting: place.nesting + 1,
            };
            inner.read(page, &place);
        }
        if let Some(value) = &entry.value {
            seen.note(name, value);
        }
    }
}

/// As in `clients[2].client_uri`.
fn way_name(way: &[Step]) -> String {
    let mut name = String::new();
    for step in way {
        if matches!(step, Step::Field(_)) && !name.is_empty() {
            name.push('.');
        }
        name.push_str(&step.to_string());
    }
    name
}

/// The innermost name; items have none of their own.
fn field_name(way: &[Step]) -> &'static str {
    let name = way.iter().rev().find_map(|step| match step {
        Step::Field(name) => Some(*name),
        Step::Item(_) => None,
    });
    name.unwrap_or_default()
}

/// The values that say what follows them.
#[derive(Default)]
struct Seen {
    numbers: BTreeMap<&'static str, u64>,
    /// The name of the value before.
    last: &'static str,
    media_type: String,
}

impl Seen {
    fn note(&mut self, name: &'static str, value: &Value) {
        match value {
            Value::Named(number, _) | Value::Number(number) => {
                self.numbers.insert(name, *number);
            }
            Value::Text(text) if name == "media_type" => self.media_type.clone_from(text),
            _ => {}
        }
        self.last = name;
    }

    fn number(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).and_then(|number| u16::try_from(*number).ok())
    }
}

/// Something known in an opaque field.
struct Inner<'a> {
    what: What,
    bytes: &'a [u8],
    /// It must be this, or the input is malformed.
    is_certain: bool,
}

#[derive(Clone, Copy)]
enum What {
    Struct(&'static Kind),
    Content,
    Status,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Struct(kind) => kind.name,
            Self::Content => "MimiContent",
            Self::Status => "MessageStatusReport",
        }
    }
}

impl Inner<'_> {
    fn holds(&self) -> bool {
        match self.what {
            What::Struct(kind) => kind.check(self.bytes).is_ok(),
            What::Content => mimi::MimiContent::decode(self.bytes).is_ok(),
            What::Status => mimi::status::StatusReport::decode(self.bytes).is_ok(),
        }
    }

    fn read(&self, page: &mut Page, place: &Place) {
        match self.what {
            What::Struct(kind) => read(page, kind, self.bytes, place),
            What::Content => content::message(page, self.bytes, place),
            What::Status => content::status(page, self.bytes, place),
        }
    }
}

/// What is in an opaque field, by its name and by what came before it.
fn inner<'a>(kind: &'static Kind, name: &str, entry: &Entry, seen: &Seen, bytes: &'a [u8]) -> Option<Inner<'a>> {
    let Some(Value::Bytes(value)) = &entry.value else {
        return None;
    };
    let whole = bytes.get(entry.offset..entry.offset + entry.length)?;
    // Without the length prefix.
    let content = whole.get(whole.len().checked_sub(value.len())?..)?;
    let certain = |kind: Option<&'static Kind>| kind.map(|kind| (What::Struct(kind), content, true));
    let component = || seen.number("component_id").map(ComponentId);
    let found = match name {
        "extension_data" => {
            let extension = seen.number("extension_type").map(ExtensionType)?;
            certain(Kind::of_extension(extension))
        }
        "data" if seen.last == "component_id" && kind.name == "AppEphemeral" => {
            certain(Kind::of_component_ephemeral(component()?))
        }
        // What a proposal says in passing does not look like what a dictionary has, and is found by trying.
        "data" if seen.last == "component_id" => {
            let is_ephemeral = seen.number("proposal_type") == Some(nabe_wire::mls::ProposalType::APP_EPHEMERAL.0);
            let kind = Kind::of_component_data(component()?)?;
            Some((What::Struct(kind), content, !is_ephemeral))
        }
        "update" if seen.last == "op" => certain(Kind::of_component_update(component()?)),
        "aad_item_data" => certain(Kind::of_component_aad(component()?)),
        // Whether a group has SafeAADs is known to the group alone.
        "authenticated_data" if !content.is_empty() => {
            Kind::named("SafeAAD").map(|kind| (What::Struct(kind), content, false))
        }
        "content" if seen.last == "credential_type" => {
            match seen.number("credential_type").map(CredentialType)? {
                CredentialType::PSEUDONYMOUS => certain(Kind::named("PseudonymousCredential")),
                // The length before it is that of the list inside.
                CredentialType::MULTI | CredentialType::WEAK_MULTI => {
                    Kind::named("MultiCredential").map(|kind| (What::Struct(kind), whole, true))
                }
                _ => None,
            }
        }
        "message_content" => Some(framed_or_not(content)),
        "inner_application_content" => {
            let media_type = seen.media_type.as_str();
            if media_type.eq_ignore_ascii_case(mimi::MEDIA_TYPE) {
                Some((What::Content, content, true))
            } else if media_type.eq_ignore_ascii_case(mimi::status::MEDIA_TYPE) {
                Some((What::Status, content, true))
            } else {
                // Of the group's first media type, which is known to the group alone.
                media_type.is_empty().then_some((What::Content, content, false))
            }
        }
        _ => None,
    };
    let (what, bytes, is_certain) = found?;
    Some(Inner {
        what,
        bytes,
        is_certain,
    })
}

/// What was franked: a message, or the framing of one.
fn framed_or_not(content: &[u8]) -> (What, &[u8], bool) {
    let framing = Kind::named("ApplicationFraming").filter(|_| content.first() != Some(&ARRAY_OF_SEVEN));
    (framing.map_or(What::Content, What::Struct), content, true)
}

/// What every MIMI message begins with.
const ARRAY_OF_SEVEN: u8 = 0x87;

/// Opaque fields inside opaque fields: credentials may hold credentials without end.
const MAX_NESTING: usize = 8;
