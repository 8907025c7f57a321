//! A worker process: asked on its standard input, heard on its standard output, ended when dropped.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::WorkerCommand;
use crate::protocol::{MAX_LINE_BYTES, Reply, Request, Sample};

pub(super) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    replies: Receiver<Result<Reply, String>>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("it took too long")]
    Exceeded,
    #[error("interrupted")]
    Interrupted,
    #[error("the worker ended ({0})")]
    Died(String),
    #[error("the worker answered nonsense: {0}")]
    Nonsense(String),
}

impl Process {
    pub(super) fn start(command: &WorkerCommand) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            // One thread, so that a time is work; what uses several of its own accord says so in its hello.
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let (send, replies) = channel();
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                while let Some(reply) = read_reply(&mut output) {
                    let is_last = reply.is_err();
                    if send.send(reply).is_err() || is_last {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, input, replies })
    }

    /// Asks, and waits for the answer. Samples are handed on as they come.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        within: Duration,
        stop: &AtomicBool,
        sample: &mut dyn FnMut(Sample),
    ) -> Result<Reply, Ended> {
        let mut line = serde_json::to_vec(request).map_err(|error| Ended::Nonsense(error.to_string()))?;
        line.push(b'\n');
        let written = match &mut self.input {
            Some(input) => input.write_all(&line).and_then(|()| input.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match written {
            Ok(()) => self.listen(within, stop, sample),
            Err(_) => Err(self.died()),
        }
    }

    /// Waits for something that is no sample.
    #[expect(clippy::disallowed_methods, reason = "a worker's budget is real time")]
    pub(super) fn listen(
        &mut self,
        within: Duration,
        stop: &AtomicBool,
        sample: &mut dyn FnMut(Sample),
    ) -> Result<Reply, Ended> {
        let begun = Instant::now();
        loop {
            if stop.load(Relaxed) {
                return Err(Ended::Interrupted);
            }
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Ended::Exceeded);
            }
            match self.replies.recv_timeout(left.min(LOOK_UP)) {
                Ok(Ok(Reply::Sample(seen))) => sample(seen),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(nonsense)) => return Err(Ended::Nonsense(nonsense)),
                Err(RecvTimeoutError::Timeout) => {}
                // An interrupt from the terminal reaches the worker too, and it may be the first to go.
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(LOOK_UP);
                    return Err(match stop.load(Relaxed) {
                        true => Ended::Interrupted,
                        false => self.died(),
                    });
                }
            }
        }
    }

    fn died(&mut self) -> Ended {
        let _ = self.child.kill();
        Ended::Died(match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` at the end.
fn read_reply(output: &mut impl BufRead) -> Option<Result<Reply, String>> {
    let mut line = Vec::new();
    match output.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(_) if line.last() != Some(&b'\n') => Some(Err("a line that is cut off or too long".to_owned())),
        Ok(_) => Some(serde_json::from_slice(&line).map_err(|error| error.to_string())),
        Err(error) => Some(Err(error.to_string())),
    }
}

/// How often a request to stop is noticed.
const LOOK_UP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_reply_and_a_cut_or_endless_one_is_none() {
        let read = |bytes: &[u8]| read_reply(&mut { bytes });
        assert_eq!(read(b""), None);
        let failed = Reply::Failed {
            reason: "no".to_owned(),
        };
        assert_eq!(read(b"{\"type\":\"failed\",\"reason\":\"no\"}\n"), Some(Ok(failed)));
        assert!(read(b"{\"type\":\"failed\"").unwrap().unwrap_err().contains("cut off"));
        assert!(
            read(&vec![b'x'; MAX_LINE_BYTES + 1])
                .unwrap()
                .unwrap_err()
                .contains("too long")
        );
        assert!(read(b"hello\n").unwrap().is_err());
    }
}
