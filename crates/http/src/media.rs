//! Files as bodies: from the disk to the wire piece by piece, with their length said before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::body::{Frame, SizeHint};
use nabe_service::MediaContent;

/// A file between two texts.
pub(crate) fn body(head: Bytes, content: MediaContent, tail: Bytes) -> Body {
    let left = content.size() + head.len() as u64 + tail.len() as u64;
    let pieces = stream::iter([Ok(head)])
        .chain(content.into_stream())
        .chain(stream::iter([Ok(tail)]));
    Body::new(FileBody {
        pieces: Box::pin(pieces),
        left,
    })
}

struct FileBody {
    pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// Bytes still to come.
    left: u64,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(piece) = ready!(self.pieces.as_mut().poll_next(cx)).transpose()? else {
                let end = (self.left > 0).then(|| Err(io::ErrorKind::UnexpectedEof.into()));
                return Poll::Ready(end);
            };
            let left = self.left.checked_sub(piece.len() as u64);
            self.left = left.ok_or(io::ErrorKind::InvalidData)?;
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
