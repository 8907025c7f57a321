//! Wakes event streams: which room or inbox changed, never what. Streams read from the store, so a slow reader costs one set
//! entry per changed room and nothing grows with the number of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nabe_types::{RoomId, UserId};
use tokio::sync::Notify;

/// Something a stream can be told about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Changed {
    /// The room's log grew.
    Room(RoomId),
    /// The user's inbox or memberships changed.
    User(UserId),
}

/// Who wants to be told about what.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    listeners: Mutex<BTreeMap<Changed, Vec<Weak<Ear>>>>,
}

/// One stream's side: what changed since it last looked.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    changed: Mutex<BTreeSet<Changed>>,
    notify: Notify,
}

impl Signals {
    /// Makes `ear` hear about `subject` until it is dropped.
    pub(crate) fn listen(&self, subject: Changed, ear: &Arc<Ear>) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let ears = listeners.entry(subject).or_default();
        ears.retain(|other| other.strong_count() > 0);
        if !ears.iter().any(|other| other.as_ptr() == Arc::as_ptr(ear)) {
            ears.push(Arc::downgrade(ear));
        }
    }

    /// Tells everyone who listens to `subject`.
    pub(crate) fn tell(&self, subject: &Changed) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ears) = listeners.get_mut(subject) else {
            return;
        };
        ears.retain(|ear| ear.upgrade().map(|ear| ear.hear(subject)).is_some());
        if ears.is_empty() {
            listeners.remove(subject);
        }
    }

    /// Wakes every stream, so that each notices a shutdown.
    pub(crate) fn tell_all(&self) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, ears) in listeners.iter() {
            for ear in ears.iter().filter_map(Weak::upgrade) {
                ear.hear(subject);
            }
        }
    }
}

impl Ear {
    /// Waits until something changed and takes the set of what did.
    pub(crate) async fn changed(&self) -> BTreeSet<Changed> {
        loop {
            let changed = self.take();
            if !changed.is_empty() {
                return changed;
            }
            // `Notify` keeps one permit, so a change between `take` and here is not missed.
            self.notify.notified().await;
        }
    }

    /// Takes the set of what changed, which may be empty.
    pub(crate) fn take(&self) -> BTreeSet<Changed> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hear(&self, subject: &Changed) {
        self.changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(subject.clone());
        self.notify.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Changed {
        Changed::Room(RoomId::parse(name).unwrap())
    }

    #[tokio::test]
    async fn a_change_before_waiting_is_not_missed_and_repeats_collapse() {
        let (signals, ear) = (Signals::default(), Arc::new(Ear::default()));
        signals.listen(room("!r:a.example"), &ear);
        signals.listen(room("!r:a.example"), &ear);
        signals.tell(&room("!r:a.example"));
        signals.tell(&room("!r:a.example"));
        signals.tell(&room("!other:a.example"));
        assert_eq!(ear.changed().await, BTreeSet::from([room("!r:a.example")]));
        assert!(ear.take().is_empty());
    }

    #[test]
    fn a_dropped_stream_leaves_nothing_behind() {
        let (signals, ear) = (Signals::default(), Arc::new(Ear::default()));
        signals.listen(room("!r:a.example"), &ear);
        drop(ear);
        signals.tell(&room("!r:a.example"));
        assert!(signals.listeners.lock().unwrap().is_empty());
    }
}
