//! A worker of Nabe's lab: Megolm and Olm by vodozemac, as a baseline that people know.
//!
//! What compares with MLS, and what does not, is in README.md.

mod room;

use std::collections::BTreeMap;
use std::io;

use nabe_allocations::Counting;
use nabe_lab::cell::{Operation, Shape};
use nabe_lab::measure::Stopwatch;
use nabe_lab::protocol::{Hello, PROTOCOL, Witness};
use nabe_lab::worker::{self, BUILD, Failure, Implementation, Outcome, Wanted};

use crate::room::{Room, sizes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    worker::serve(&mut Megolm::default(), io::stdin().lock(), io::stdout().lock())
}

#[derive(Default)]
struct Megolm {
    room: Option<Room>,
}

impl Implementation for Megolm {
    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            implementation: "megolm".to_owned(),
            versions: [("vodozemac".to_owned(), "0.11.1".to_owned())].into(),
            suites: vec![0],
            shapes: vec![Shape::Fresh, Shape::Full],
            operations: vec![
                Operation::Create,
                Operation::AddOne,
                Operation::AddMany,
                Operation::Remove,
                Operation::Update,
                Operation::JoinWelcome,
                Operation::Process,
                Operation::Encrypt,
                Operation::Decrypt,
                Operation::DecryptUnordered,
                Operation::DecryptGap,
            ],
            threads: 1,
            build: BUILD.to_owned(),
            note: Some(NOTE.to_owned()),
        }
    }

    fn prepare(&mut self, wanted: &Wanted) -> Result<BTreeMap<String, u64>, Failure> {
        self.room = None;
        let has_sessions = match wanted.shape {
            Shape::Fresh => false,
            Shape::Full => true,
            other => return Err(Failure::Unsupported(format!("the shape {other}: there is no tree"))),
        };
        self.room = Some(Room::new(wanted.size as usize, has_sessions)?);
        Ok(sizes([("members", u64::from(wanted.size))]))
    }

    fn sample(&mut self, operation: Operation, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let room = self.room.as_mut().ok_or_else(nothing_prepared)?;
        let others = room.others();
        match operation {
            Operation::Create => room.share_anew(others, true, watch),
            Operation::Update => room.share_anew(others, false, watch),
            Operation::Remove => room.share_anew(others - 1, false, watch),
            Operation::AddOne => room.share_with_newcomers(1, watch),
            Operation::AddMany => room.share_with_newcomers(50, watch),
            Operation::JoinWelcome => room.join(watch),
            Operation::Process => room.follow(watch),
            Operation::Encrypt => room.encrypt(watch),
            Operation::Decrypt => room.decrypt(0, watch),
            Operation::DecryptGap => room.decrypt(100, watch),
            Operation::DecryptUnordered => room.decrypt_unordered(watch),
            other => Err(Failure::Unsupported(format!("Megolm has no {other}"))),
        }
    }

    fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        self.room.as_mut().ok_or_else(nothing_prepared)?.check()
    }
}

fn nothing_prepared() -> Failure {
    Failure::Unsupported("no group has been prepared".to_owned())
}

const NOTE: &str = "what one sender does; each has a session of its own, so what a removal costs is to be multiplied by those who write, and nobody agrees on who is there";
