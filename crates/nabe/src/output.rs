//! What subcommands print: the one door to standard output and standard error.
//!
//! Who reads may stop reading (`nabe … | head`): what follows is then not printed, the work goes on, and its exit status is
//! true. Any other failure, such as a full disk, is remembered for [`finish`], since what was to be printed is lost.

use std::{
    fmt::Arguments,
    io::{self, IsTerminal as _, Write as _},
    sync::Mutex,
};

/// Prints a line on standard output; to be used like `println!`.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($words)*))) };
}

/// Prints a line on standard error, if anybody listens; to be used like `eprintln!`.
macro_rules! note {
    ($($words:tt)*) => { $crate::output::remark(format_args!($($words)*)) };
}

pub(crate) use {note, say};

/// What became of standard output. Nothing is written after a failure.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes to standard output, unless that failed before.
pub(crate) fn write(words: Arguments<'_>) {
    attempt(|| io::stdout().write_fmt(words));
}

/// Writes a line to standard error; that nobody can read it is no failure.
pub(crate) fn remark(words: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// Writes over the last line of standard error, if that is a terminal; otherwise nothing. To be ended with an empty [`remark`].
pub(crate) fn progress(words: Arguments<'_>) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K{words}").and_then(|()| terminal.flush());
    }
}

/// Whether all that was printed went out, as far as somebody wanted to read it. To be called once, at the end.
///
/// # Errors
/// Why standard output failed.
pub(crate) fn finish() -> io::Result<()> {
    attempt(|| io::stdout().flush());
    match FAILURE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn attempt(write: impl FnOnce() -> io::Result<()>) {
    let mut failure = FAILURE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if failure.is_none() {
        *failure = write().err();
    }
}
