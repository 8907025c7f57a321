//! What can happen in a simulation. Numbers are taken modulo what there is, so that every list of operations means something.

use nabe_tests::Fault;

/// One operation. Users 0 and 1 are at the first server, 2 and 3 at the second, 4 and 5 at the third.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// A new room; the user's server is its hub. Room 0 is there from the start: public, by user 0.
    Create {
        user: u8,
        rule: Rule,
    },
    Invite {
        user: u8,
        room: u8,
        target: u8,
    },
    Join {
        user: u8,
        room: u8,
    },
    Leave {
        user: u8,
        room: u8,
    },
    Knock {
        user: u8,
        room: u8,
    },
    Kick {
        user: u8,
        room: u8,
        target: u8,
    },
    Ban {
        user: u8,
        room: u8,
        target: u8,
    },
    Unban {
        user: u8,
        room: u8,
        target: u8,
    },
    Message {
        user: u8,
        room: u8,
    },
    Topic {
        user: u8,
        room: u8,
    },
    Power {
        user: u8,
        room: u8,
        target: u8,
        level: u8,
    },
    SetRule {
        user: u8,
        room: u8,
        rule: Rule,
    },
    ToDevice {
        user: u8,
        target: u8,
    },
    /// Pages back through the room's history.
    History {
        user: u8,
        room: u8,
        pages: u8,
    },
    /// Reads some items of the user's stream, which then breaks; the next one goes on from there.
    Read {
        user: u8,
        items: u8,
    },
    Crash {
        server: u8,
    },
    /// Dies at a commit; `written` says whether that one is still done.
    CrashAtCommit {
        server: u8,
        commits: u8,
        written: bool,
    },
    Stop {
        server: u8,
    },
    Boot {
        server: u8,
    },
    Cut {
        from: u8,
        to: u8,
    },
    Mend {
        from: u8,
        to: u8,
    },
    Strike {
        from: u8,
        to: u8,
        fault: Fault,
    },
    Advance {
        seconds: u16,
    },
    /// The next operation does not wait until this one is done.
    Hurry {
        yields: u8,
    },
}

/// Who may join.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    Public,
    Knock,
    Invite,
}

impl Rule {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Knock => "knock",
            Self::Invite => "invite",
        }
    }
}
