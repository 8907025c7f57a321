//! So many things at once: over all who take part, and of each. Whoever has had their share is told so at once and never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is taken at the moment, and by whom. Nobody is remembered who has nothing.
pub struct Shares<K> {
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
}

/// One of the things; given back on drop.
pub struct Share<K: Ord> {
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
    of: K,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { taken: Arc::default() }
    }
}

impl<K: Clone + Ord> Shares<K> {
    /// Takes one, unless `of` has `each` already or all together have `all`.
    #[must_use]
    pub fn take(&self, of: &K, each: usize, all: usize) -> Option<Share<K>> {
        let mut taken = locked(&self.taken);
        let already = taken.get(of).copied().unwrap_or(0);
        if already >= each || taken.values().sum::<usize>() >= all {
            return None;
        }
        taken.insert(of.clone(), already + 1);
        Some(Share {
            taken: Arc::clone(&self.taken),
            of: of.clone(),
        })
    }
}

impl<K: Ord> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds the lock can leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_their_share_and_all_no_more_than_there_is() {
        let shares = Shares::default();
        let take = |of: &'static str| shares.take(&of, 2, 3);
        let (first, _second) = (take("a").unwrap(), take("a").unwrap());
        assert!(take("a").is_none());
        let third = take("b").unwrap();
        assert!(take("c").is_none(), "all three are taken");
        drop(third);
        let _third = take("c").unwrap();
        drop(first);
        take("a").unwrap();
    }

    #[test]
    fn those_who_have_nothing_are_forgotten() {
        let shares = Shares::default();
        for of in 0..1_000 {
            shares.take(&of, 1, 1).unwrap();
        }
        assert!(locked(&shares.taken).is_empty());
    }
}
