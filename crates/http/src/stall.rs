//! Peers that do not take what they asked for.
//!
//! | A peer that | is noticed by | and loses |
//! |---|---|---|
//! | does not read from its socket | [`Stalling`]: a write makes no progress | the connection |
//! | speaks HTTP/2 and keeps a window closed | [`Streams`]: a piece of an answer is not taken | the stream |
//! | takes an answer, but too slowly | [`Paced`]: the answer is not sent when it should be | stream or connection |
//!
//! Streams of events have no length, so only the first two apply to them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tracing::debug;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// For anything at all to be taken.
    pub(crate) stall: Duration,
    /// For an answer of known length this many bytes must be taken each second, beyond [`Self::stall`]; at least 1.
    pub(crate) bytes_per_second: u32,
}

/// A transport on which a write that makes no progress for some time fails. Flushing and shutting down must not wait for the
/// peer, as with TCP.
pub(crate) struct Stalling<S> {
    stream: S,
    time: Duration,
    /// When the write that waits fails.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    pub(crate) fn new(stream: S, time: Duration) -> Self {
        Self {
            stream,
            time,
            deadline: None,
        }
    }

    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.deadline = None;
            return polled;
        }
        let time = self.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(deadline.as_mut().poll(cx));
        metrics::counter!(STALLED, "what" => "connection").increment(1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Runs what HTTP/2 starts for each request, and ends it, which resets the stream, once a piece of its answer is overdue.
///
/// HTTP/2 takes a piece from the body and then waits for the peer to make room, for as long as it takes; nothing that the body
/// itself could do is asked for meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(supervised(stream));
    }
}

async fn supervised(stream: impl Future) {
    let overdue = Overdue::default();
    let ended = async {
        let mut stream = pin!(stream);
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let Some(at) = *overdue.at() else {
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(false)
        })
        .await
    };
    if !STREAM.scope(overdue.clone(), ended).await {
        metrics::counter!(STALLED, "what" => "stream").increment(1);
        debug!("an answer was not taken in time");
    }
}

/// When the piece of an answer that waits for the peer is overdue; `None` while none waits. Clones share it.
#[derive(Clone, Debug, Default)]
struct Overdue(Arc<Mutex<Option<Instant>>>);

impl Overdue {
    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

tokio::task_local! {
    /// Of the HTTP/2 stream whose task this is.
    static STREAM: Overdue;
}

/// A body in small pieces, so that what the peer does not take stays here, and with a time by which all of it must be taken.
pub(crate) struct Paced {
    body: Body,
    /// What is left of the frame that is being cut up.
    rest: Bytes,
    pace: Pace,
    /// By when a body of known length must be sent.
    end: Option<Instant>,
    overdue: Option<Overdue>,
}

impl Paced {
    /// To be called where the answer is made: there it is known which stream it goes to.
    pub(crate) fn new(body: Body, pace: Pace) -> Self {
        let end = body.size_hint().exact().map(|bytes| {
            let sending = bytes.div_ceil(u64::from(pace.bytes_per_second.max(1)));
            Instant::now() + pace.stall + Duration::from_secs(sending)
        });
        Self {
            body,
            rest: Bytes::new(),
            pace,
            end,
            overdue: STREAM.try_with(Clone::clone).ok(),
        }
    }

    /// The next piece. The last byte of a longer answer goes alone: what comes before it must be on its way by then, for HTTP/2
    /// takes a piece as soon as there is room for one byte of it, and forgets the stream once it has the last piece.
    fn piece(&mut self) -> Frame<Bytes> {
        let is_last = self.rest.len() <= PIECE && self.body.is_end_stream();
        let len = match is_last && self.rest.len() > SMALL {
            true => self.rest.len() - 1,
            false => self.rest.len().min(PIECE),
        };
        if let Some(overdue) = &self.overdue {
            *overdue.at() = Some(Instant::now() + self.pace.stall);
        }
        Frame::data(self.rest.split_to(len))
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Whoever asks for more has got rid of what they had.
        if let Some(overdue) = &self.overdue {
            *overdue.at() = None;
        }
        if self.end.is_some_and(|end| end <= Instant::now()) && !self.is_end_stream() {
            metrics::counter!(STALLED, "what" => "answer").increment(1);
            return Poll::Ready(Some(Err(axum::Error::new(TooSlow))));
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer was not taken in time")]
struct TooSlow;

/// One record of TLS.
const PIECE: usize = 16 * 1024;
/// An answer up to which the last byte is not sent alone: less than what an open stream takes anyway.
const SMALL: usize = 1024;
/// Counts what was cut off, by `what`: `connection`, `stream` or, because too slow as a whole, `answer`.
const STALLED: &str = "nabe_http_stalled_total";

#[cfg(test)]
mod tests;
