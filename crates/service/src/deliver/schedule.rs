//! Who is being delivered to, and who sleeps until when. Pure bookkeeping: no task, no store, no clock.
//!
//! A destination with nothing to do is not here at all; one that is down is one entry, however much it is owed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nabe_types::UnixMillis;

/// Active workers and sleeping destinations, by whatever names a destination.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    active: BTreeMap<K, Active>,
    sleeping: BTreeMap<K, Sleeper>,
    due: BTreeSet<(UnixMillis, K)>,
    denied: BTreeSet<K>,
    stopped: bool,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            active: BTreeMap::new(),
            sleeping: BTreeMap::new(),
            due: BTreeSet::new(),
            denied: BTreeSet::new(),
            stopped: false,
        }
    }
}

/// A destination with a running worker.
#[derive(Clone, Copy, Debug, Default)]
struct Active {
    /// Work arrived after the worker last looked.
    again: bool,
}

/// A destination that waits for its next attempt.
#[derive(Clone, Copy, Debug)]
struct Sleeper {
    until: UnixMillis,
    since: UnixMillis,
    /// The peer itself named the time (`Retry-After`): its own requests do not cut it short.
    insisted: bool,
}

impl<K: Clone + Ord> Schedule<K> {
    /// There is work for `destination`; whether a worker must be started.
    pub(crate) fn wake(&mut self, destination: &K) -> bool {
        if let Some(active) = self.active.get_mut(destination) {
            active.again = true;
            return false;
        }
        if self.stopped || self.sleeping.contains_key(destination) {
            return false;
        }
        self.active.insert(destination.clone(), Active::default());
        true
    }

    /// `origin` was heard from, so it is up; whether a worker must be started. A destination that only just fell asleep
    /// stays asleep for `least`, so that a peer which sends but does not receive is not tried once per request of its own.
    pub(crate) fn heard_from(&mut self, origin: &K, now: UnixMillis, least: Duration) -> bool {
        let Some(sleeper) = self.sleeping.get(origin) else {
            return false;
        };
        if self.stopped || sleeper.insisted || now < sleeper.since.plus(least) {
            return false;
        }
        self.due.remove(&(sleeper.until, origin.clone()));
        self.sleeping.remove(origin);
        self.active.insert(origin.clone(), Active::default());
        true
    }

    /// The worker found nothing left to do; whether it must look again instead of ending.
    pub(crate) fn finish(&mut self, destination: &K) -> bool {
        match self.active.get_mut(destination) {
            Some(active) if active.again && !self.stopped => {
                active.again = false;
                true
            }
            _ => {
                self.active.remove(destination);
                false
            }
        }
    }

    /// The worker ends without looking again.
    pub(crate) fn end(&mut self, destination: &K) {
        self.active.remove(destination);
    }

    /// The worker ends; the destination sleeps until `until`.
    pub(crate) fn sleep(&mut self, destination: &K, until: UnixMillis, now: UnixMillis, insisted: bool) {
        self.active.remove(destination);
        let sleeper = Sleeper {
            until,
            since: now,
            insisted,
        };
        if let Some(old) = self.sleeping.insert(destination.clone(), sleeper) {
            self.due.remove(&(old.until, destination.clone()));
        }
        self.due.insert((until, destination.clone()));
    }

    /// Takes everyone whose time has come; each needs a worker.
    pub(crate) fn take_due(&mut self, now: UnixMillis) -> Vec<K> {
        let mut woken = Vec::new();
        while !self.stopped && self.due.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, destination)) = self.due.pop_first() else {
                break;
            };
            self.sleeping.remove(&destination);
            self.active.insert(destination.clone(), Active::default());
            woken.push(destination);
        }
        woken
    }

    /// When the next sleeper is due.
    pub(crate) fn next_due(&self) -> Option<UnixMillis> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Notes that policy excludes `destination`; whether that is news. Bounded: past the bound nothing is news.
    pub(crate) fn deny(&mut self, destination: &K) -> bool {
        self.denied.len() < MAX_DENIED && self.denied.insert(destination.clone())
    }

    /// No worker is started from now on.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.sleeping.clear();
        self.due.clear();
    }

    /// Whether no worker runs.
    pub(crate) fn is_quiet(&self) -> bool {
        self.active.is_empty()
    }

    /// How many destinations have a worker, and how many sleep.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.active.len(), self.sleeping.len())
    }
}

const MAX_DENIED: usize = 1_000;

#[cfg(test)]
mod tests {
    use nabe_types::ServerName;

    use super::*;

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).unwrap()
    }

    #[test]
    fn work_that_arrives_while_the_worker_runs_makes_it_look_again_once() {
        let (mut schedule, b) = (Schedule::default(), server("b.example"));
        assert!(schedule.wake(&b));
        assert!(!schedule.wake(&b));
        assert!(schedule.finish(&b));
        assert!(!schedule.finish(&b));
        assert!(schedule.is_quiet());
        assert!(schedule.wake(&b));
    }

    #[test]
    fn new_work_does_not_wake_a_destination_that_backs_off() {
        let (mut schedule, b) = (Schedule::default(), server("b.example"));
        schedule.wake(&b);
        schedule.sleep(&b, UnixMillis(100), UnixMillis(0), false);
        assert!(!schedule.wake(&b));
        assert!(schedule.take_due(UnixMillis(99)).is_empty());
        assert_eq!(schedule.take_due(UnixMillis(100)), vec![b]);
        assert_eq!(schedule.counts(), (1, 0));
    }

    #[test]
    fn a_request_of_the_peer_wakes_it_unless_the_peer_named_the_time() {
        let (mut schedule, b) = (Schedule::default(), server("b.example"));
        let least = Duration::from_millis(10);
        schedule.sleep(&b, UnixMillis(100), UnixMillis(0), false);
        assert!(!schedule.heard_from(&b, UnixMillis(9), least));
        assert!(schedule.heard_from(&b, UnixMillis(10), least));
        assert_eq!(schedule.next_due(), None);
        schedule.sleep(&b, UnixMillis(100), UnixMillis(10), true);
        assert!(!schedule.heard_from(&b, UnixMillis(50), least));
    }

    #[test]
    fn nothing_starts_after_the_stop() {
        let (mut schedule, b) = (Schedule::default(), server("b.example"));
        schedule.wake(&b);
        schedule.wake(&b);
        schedule.stop();
        assert!(!schedule.finish(&b), "not even to look again");
        assert!(!schedule.wake(&b));
    }
}
