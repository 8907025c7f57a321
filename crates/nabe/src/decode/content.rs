//! What people say: MIMI content and message status reports, in CBOR.

use nabe_content::mimi::franking::{FrankingTag, application_framing};
use nabe_content::mimi::{
    self, Field, Formula, Intent, Kind, Malformed, MessageId, MimiContent, Origin, cbor::CborValue, outline,
    status_outline,
};

use super::page::{Holds, Page, Place, Problem, Row, hex};

/// Adds the fields of a message, and what follows from them: its ID, what it does, its franking tag.
pub(super) fn message(page: &mut Page, bytes: &[u8], place: &Place) {
    let (fields, problem) = outline(bytes);
    let mut media_type = String::new();
    for field in &fields {
        row(page, field, bytes, place);
        if field.name.ends_with(".contentType") {
            media_type = field.value.trim_matches('"').to_ascii_lowercase();
        }
        if field.name.ends_with(".content") && media_type == mimi::status::MEDIA_TYPE {
            part_with_status(page, field, bytes, place);
        }
    }
    if let Some(problem) = &problem {
        page.problems.push(problem_at(problem, place));
    }
    if let Ok(content) = MimiContent::decode(bytes) {
        facts(page, &content, bytes, place);
    }
}

/// Adds the fields of a message status report.
pub(super) fn status(page: &mut Page, bytes: &[u8], place: &Place) {
    let (fields, problem) = status_outline(bytes);
    for field in &fields {
        row(page, field, bytes, place);
    }
    if let Some(problem) = &problem {
        page.problems.push(problem_at(problem, place));
    }
}

fn part_with_status(page: &mut Page, field: &Field, bytes: &[u8], place: &Place) {
    let item = bytes.get(field.offset..field.offset + field.length);
    let Some(Ok(value)) = item.map(CborValue::parse) else {
        return;
    };
    let Some(report) = value.as_bytes() else { return };
    if let Some(row) = page.rows.last_mut() {
        row.holds = Holds::Struct("MessageStatusReport");
    }
    let place = Place {
        offset: place.offset + field.offset + field.length - report.len(),
        depth: place.depth + 1,
        field: place.name(&field.name),
        nesting: place.nesting + 1,
    };
    status(page, report, &place);
}

fn row(page: &mut Page, field: &Field, bytes: &[u8], place: &Place) {
    let item = bytes.get(field.offset..field.offset + field.length).unwrap_or_default();
    // An outline cuts what is long, which is for whoever prints it to decide.
    let holds = match CborValue::parse(item) {
        Ok(value) => match (value.kind(), value.as_bytes(), value.as_text()) {
            (_, Some(bytes), _) => Holds::Bytes(bytes.to_vec()),
            (_, _, Some(text)) => Holds::Text(text.to_owned()),
            (Kind::Null | Kind::Bool | Kind::Unsigned, ..) => Holds::Words(field.value.clone()),
            (kind, ..) => Holds::Words(format!("{kind}: h'{}'", hex(item))),
        },
        Err(_) => Holds::Words(field.value.clone()),
    };
    page.rows.push(Row {
        depth: place.depth,
        label: field.name.clone(),
        field: place.name(&field.name),
        offset: place.offset + field.offset,
        length: field.length,
        holds,
    });
}

fn problem_at(problem: &Malformed, place: &Place) -> Problem {
    Problem {
        offset: place.offset + problem.offset,
        field: place.name(&problem.field),
        rule: problem.rule.name().to_owned(),
        words: problem.rule.to_string(),
    }
}

fn facts(page: &mut Page, content: &MimiContent, bytes: &[u8], place: &Place) {
    let mut fact = |name: &str, value: String| page.facts.push((place.name(name), value));
    let intent = match content.intent() {
        Intent::Post => "says something new".to_owned(),
        Intent::Reply { to } => format!("replies to {to}"),
        Intent::Reaction { to } => format!("reacts to {to}"),
        Intent::Edit { of } => format!("edits {of}"),
        Intent::Delete { of } => format!("deletes {of}"),
        Intent::Nothing => "says nothing".to_owned(),
    };
    fact("what it does", intent);
    fact("what it says", content.to_plain());
    match Origin::claimed(content) {
        Some(origin) => {
            for formula in [Formula::Draft08, Formula::Draft07] {
                let id = MessageId::compute_by(formula, &origin, bytes, &content.salt);
                let name = match formula {
                    Formula::Draft08 => "message ID",
                    Formula::Draft07 => "message ID by -07",
                };
                fact(name, id.to_string());
            }
        }
        None => fact(
            "message ID",
            "depends on sender and room, which the message does not name".to_owned(),
        ),
    }
    let tag = |data: &[u8]| hex(&FrankingTag::compute(&content.salt, data).0);
    fact("franking tag", tag(bytes));
    fact("franking tag if framed", tag(&application_framing(bytes)));
}
