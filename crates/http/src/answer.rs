//! What answers take while they wait for their readers, bounded over all and for each address.
//!
//! An answer is made in memory, whole, before its first byte is sent, and stays there until the peer has taken it. What makes
//! a peer take it in time is in [`stall`](crate::listener); here is what all that wait may take together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// What the answers that are not sent yet may take, in bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct AnswerBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes: usize,
    bytes_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl AnswerBudget {
    /// A budget of this many bytes, and what of it the answers to one address may take.
    #[must_use]
    pub fn new(bytes: usize, bytes_per_address: usize) -> Self {
        Self(Arc::new(Budget {
            bytes,
            bytes_per_address,
            taken: Mutex::default(),
        }))
    }

    /// The answer with its share of the budget, which it gives back once its last byte is sent or thrown away; `None` if the
    /// share is not to be had. Small answers and those without a known length need none. What comes from the disk piece by piece
    /// takes the same share however long it is: it holds a file open.
    pub(crate) fn hold(&self, answer: Response, to: Option<IpAddr>) -> Option<Response> {
        let bytes = answer.body().size_hint().exact().unwrap_or(0);
        let bytes = match answer.extensions().get::<FromDisk>() {
            Some(FromDisk) => bytes.min(FROM_DISK),
            None => bytes,
        };
        let bytes = usize::try_from(bytes).ok()?;
        if bytes <= SMALL {
            return Some(answer);
        }
        // A proxy on this machine speaks for everybody.
        let to = to.filter(|to| !to.is_loopback());
        let share = Arc::new(self.take(bytes, to)?);
        Some(answer.map(|body| Body::new(Held { body, share })))
    }

    fn take(&self, bytes: usize, to: Option<IpAddr>) -> Option<Share> {
        let budget = &*self.0;
        let mut taken = budget.taken();
        let all = taken.bytes.checked_add(bytes)?;
        if all > budget.bytes {
            return None;
        }
        if let Some(to) = to {
            let by_it = taken.by_address.get(&to).copied().unwrap_or(0).checked_add(bytes)?;
            if by_it > budget.bytes_per_address {
                return None;
            }
            taken.by_address.insert(to, by_it);
        }
        taken.bytes = all;
        Some(Share {
            budget: Arc::clone(&self.0),
            bytes,
            to,
        })
    }
}

/// Extension of an answer whose body is read from the disk as it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromDisk;

impl Budget {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What one answer takes; given back on drop.
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    to: Option<IpAddr>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.bytes -= self.bytes;
        let Some(to) = self.to else { return };
        if let Some(by_it) = taken.by_address.get_mut(&to) {
            *by_it -= self.bytes;
            if *by_it == 0 {
                taken.by_address.remove(&to);
            }
        }
    }
}

/// A body whose bytes hold the share wherever they are, the send buffers of HTTP included.
struct Held {
    body: Body,
    share: Arc<Share>,
}

struct HeldBytes {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let share = Arc::clone(&self.share);
        let hold = |bytes| Bytes::from_owner(HeldBytes { bytes, _share: share });
        Pin::new(&mut self.body)
            .poll_frame(cx)
            .map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an answer from the disk takes at most: some 250 of them at once, and 60 to one address.
const FROM_DISK: u64 = 1024 * 1024;
/// What an answer may take without being counted: refusals and receipts are heard even when the budget is used up.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const ALICE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const BOB: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));
    const PROXY: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn answer(bytes: usize) -> Response {
        Response::new(Body::from(vec![b'x'; bytes]))
    }

    fn budget() -> AnswerBudget {
        AnswerBudget::new(10_000, 6_000)
    }

    #[test]
    fn answers_that_wait_take_no_more_than_the_budget() {
        let budget = budget();
        let first = budget.hold(answer(6_000), ALICE).unwrap();
        assert!(budget.hold(answer(4_001), BOB).is_none());
        let second = budget.hold(answer(4_000), BOB).unwrap();
        assert!(budget.hold(answer(1_025), None).is_none());
        drop((first, second));
        assert!(budget.hold(answer(6_000), BOB).is_some());
        assert!(budget.0.taken().by_address.is_empty());
    }

    #[test]
    fn no_address_takes_more_than_its_part_of_the_budget() {
        let budget = budget();
        let _first = budget.hold(answer(4_000), ALICE).unwrap();
        assert!(budget.hold(answer(2_001), ALICE).is_none());
        assert!(budget.hold(answer(2_001), BOB).is_some());
        assert!(budget.hold(answer(2_000), ALICE).is_some());
        // Nor does a refused answer count.
        assert!(budget.hold(answer(2_000), ALICE).is_some());
    }

    #[test]
    fn a_file_takes_the_same_however_long_it_is() {
        let budget = AnswerBudget::new(3 << 20, 2 << 20);
        let file = |bytes| {
            let mut answer = answer(bytes);
            answer.extensions_mut().insert(FromDisk);
            answer
        };
        let _files = [4 << 20, 5 << 20].map(|bytes| budget.hold(file(bytes), ALICE).unwrap());
        assert!(budget.hold(file(2_000), ALICE).is_none());
        assert!(budget.hold(file(9 << 20), BOB).is_some());
    }

    #[test]
    fn a_proxy_on_this_machine_may_take_the_whole_budget() {
        assert!(budget().hold(answer(10_000), PROXY).is_some());
    }

    #[test]
    fn small_answers_are_given_also_when_the_budget_is_used_up() {
        let budget = budget();
        let _all = budget.hold(answer(10_000), None).unwrap();
        assert!(budget.hold(answer(1_024), ALICE).is_some());
        assert!(budget.hold(answer(1_025), ALICE).is_none());
    }

    #[tokio::test]
    async fn a_share_is_held_for_as_long_as_any_byte_of_the_answer() {
        let budget = budget();
        let mut held = budget.hold(answer(8_000), None).unwrap().into_body();
        let bytes = held.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(held);
        let last = bytes.slice(7_999..);
        drop(bytes);
        assert!(budget.hold(answer(8_000), None).is_none());
        drop(last);
        assert!(budget.hold(answer(8_000), None).is_some());
    }
}
