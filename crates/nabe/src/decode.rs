//! `nabe decode`: takes bytes or JSON apart and says what is where, what holds and what does not. A file for each step: how
//! the input is written down ([`input`]), what it is ([`guess`]), and the readers for each kind ([`event`], [`binary`],
//! [`content`]).

mod binary;
mod content;
mod event;
mod findings;
mod guess;
mod input;
mod page;
mod subject;

use std::{fs, io, io::Read as _, path::Path};

use anyhow::Context as _;
use nabe_event::RoomVersionRules;
use nabe_types::RoomVersionId;

pub(crate) use findings::Findings;
pub(crate) use input::Form;
pub(crate) use input::bytes_of as input_bytes;
pub(crate) use page::hex;
pub(crate) use subject::Asked;

use crate::{cli::Decode, output::say};
use guess::Guess;
use input::Input;
use page::{Page, Place};
use subject::Subject;

/// Prints what the input is; `true` when it is well-formed and nothing in it was found false.
pub(crate) fn run(arguments: &Decode) -> anyhow::Result<bool> {
    let asked = match arguments.as_type {
        Some(Asked::Help) => {
            say!("{}", subject::list().trim_end());
            return Ok(true);
        }
        Some(Asked::Subject(subject)) => Some(subject),
        None => None,
    };
    let inputs = input::forms(read(&arguments.file)?, arguments.from)?;
    let guess = match asked {
        Some(subject) => Guess::asked(subject, inputs),
        None => guess::guess(inputs)?,
    };
    if guess.subject == Subject::Json {
        return examine(&guess.input, arguments);
    }
    let page = read_as(guess.subject, &guess.input.bytes);
    let heading = page::Heading {
        guessed: asked.is_none(),
        reads: guess.reads,
        form: guess.input.form.name(),
        bytes: guess.input.bytes.len(),
        also: guess.also.iter().map(|subject| subject.name()).collect(),
    };
    if arguments.json {
        say!("{}", page.to_json(&heading));
    } else {
        say!("{}", page.to_text(&heading, arguments.full).trim_end());
    }
    Ok(page.holds())
}

/// Reads bytes as what they are said to be, however far that goes.
fn read_as(subject: Subject, bytes: &[u8]) -> Page {
    let mut page = Page::new(subject.name());
    match subject {
        Subject::Content => content::message(&mut page, bytes, &Place::ROOT),
        Subject::Status => content::status(&mut page, bytes, &Place::ROOT),
        Subject::Struct(kind) => binary::read(&mut page, kind, bytes, &Place::ROOT),
        Subject::Json => {}
    }
    page
}

fn examine(input: &Input, arguments: &Decode) -> anyhow::Result<bool> {
    let keys = event::Keys::read(arguments)?;
    let version = RoomVersionId::parse(&arguments.room_version)?;
    let rules = RoomVersionRules::for_id(&version).with_context(|| format!("unknown room version {version}"))?;
    let findings = event::examine(&input.bytes, rules, &keys)?;
    if arguments.json {
        say!("{}", findings.to_json());
    } else {
        say!("{}", findings.to_text().trim_end());
    }
    Ok(findings.holds())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("standard input")?;
        return Ok(bytes);
    }
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
