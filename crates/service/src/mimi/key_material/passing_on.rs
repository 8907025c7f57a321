//! What is being asked of other hubs at this moment, who ask back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nabe_signing::sha256;

/// Requests of local users that other hubs are being asked right now. A hub asks us back for our own users' key packages, and we
/// know its question by the bytes.
#[derive(Default)]
pub(crate) struct PassingOn(Mutex<BTreeMap<[u8; 32], Underway>>);

/// The same request, as often as it is being passed on at this moment.
#[derive(Default)]
struct Underway {
    times: usize,
    /// How often it may still be asked back.
    left: usize,
}

/// One of them, until its answer is there.
pub(super) struct Passing<'a> {
    all: &'a PassingOn,
    request: [u8; 32],
}

impl PassingOn {
    pub(super) fn begin(&self, body: &[u8]) -> Passing<'_> {
        let request = sha256(body);
        let mut all = self.lock();
        let underway = all.entry(request).or_default();
        underway.times += 1;
        underway.left += 1;
        drop(all);
        Passing { all: self, request }
    }

    /// Whether this request is being passed on; it is asked back once.
    pub(super) fn take(&self, body: &[u8]) -> bool {
        let mut all = self.lock();
        match all.get_mut(&sha256(body)) {
            Some(underway) if underway.left > 0 => {
                underway.left -= 1;
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Underway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        let Some(underway) = all.get_mut(&self.request) else {
            return;
        };
        underway.times -= 1;
        underway.left = underway.left.min(underway.times);
        if underway.times == 0 {
            all.remove(&self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_one_of_two_equal_requests_leaves_the_other_what_it_may() {
        let all = PassingOn::default();
        let (first, second) = (all.begin(b"request"), all.begin(b"request"));
        drop(first);
        assert!(all.take(b"request"));
        assert!(!all.take(b"request"), "each is asked back once");
        drop(second);
        assert!(!all.take(b"request"));
        assert!(all.lock().is_empty());
        let (first, second) = (all.begin(b"request"), all.begin(b"request"));
        assert!(all.take(b"request"));
        drop(first);
        assert!(all.take(b"request"), "which of them it was nobody knows");
        drop(second);
    }
}
