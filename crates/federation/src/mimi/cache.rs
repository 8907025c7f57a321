//! What providers publish, by provider: each fetched by one request while the others wait, kept as long as its headers say, an hour when
//! they say nothing; a failure is remembered for a moment, so that those who waited do not each try again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use nabe_service::ports::Clock;
use nabe_types::{ServerName, UnixMillis};

use crate::discovery::well_known::explicit_lifetime;

/// What was published and when it was fetched.
#[derive(Debug)]
pub(super) struct Known<T> {
    pub(super) value: Arc<T>,
    fetched: UnixMillis,
    expires: UnixMillis,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            ..*self
        }
    }
}

impl<T> Known<T> {
    fn is_fresh(&self, now: UnixMillis) -> bool {
        // The second condition catches a system clock that was set back.
        now < self.expires && self.expires.saturating_since(now) <= MAX_LIFETIME
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

/// A bounded cache by provider: of `T`, or of why there is none.
pub(super) struct Published<T, E> {
    slots: Mutex<Slots<T, E>>,
}

type Slots<T, E> = BTreeMap<ServerName, Arc<Slot<T, E>>>;
type Slot<T, E> = tokio::sync::Mutex<State<T, E>>;

struct State<T, E> {
    known: Option<Known<T>>,
    failed: Option<(UnixMillis, E)>,
}

impl<T, E> Default for Published<T, E> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }
}

impl<T, E> Default for State<T, E> {
    fn default() -> Self {
        Self {
            known: None,
            failed: None,
        }
    }
}

impl<T, E: Copy> Published<T, E> {
    /// What the provider publishes: what we know while it is fresh, otherwise what `fetch` brings. One that a request has `seen` to
    /// be wrong is no longer fresh, unless it was fetched only a moment ago.
    pub(super) async fn get(
        &self,
        provider: &ServerName,
        seen: Option<&Known<T>>,
        clock: &dyn Clock,
        fetch: impl Future<Output = Result<(T, HeaderMap), E>>,
    ) -> Result<Known<T>, E> {
        let slot = self.slot(provider, clock.now());
        let mut state = slot.lock().await;
        let now = clock.now();
        if let Some(known) = &state.known
            && known.is_fresh(now)
        {
            let is_wrong = seen.is_some_and(|seen| seen.is(known));
            if !is_wrong || now.saturating_since(known.fetched) < MIN_LIFETIME {
                return Ok(known.clone());
            }
        }
        if let Some((at, error)) = state.failed
            && now.saturating_since(at) < FAILURE_MEMORY
        {
            return Err(error);
        }
        match fetch.await {
            Ok((value, headers)) => {
                let now = clock.now();
                let known = Known {
                    value: Arc::new(value),
                    fetched: now,
                    expires: now.plus(lifetime(&headers, now)),
                };
                *state = State {
                    known: Some(known.clone()),
                    failed: None,
                };
                Ok(known)
            }
            Err(error) => {
                state.failed = Some((clock.now(), error));
                Err(error)
            }
        }
    }

    /// A request has found wrong what we know, so it is fetched again; not if that was only a moment ago.
    pub(super) async fn doubt(&self, provider: &ServerName, clock: &dyn Clock) {
        let slot = self.lock().get(provider).map(Arc::clone);
        if let Some(slot) = slot {
            let mut state = slot.lock().await;
            let now = clock.now();
            let is_old = |known: &Known<T>| now.saturating_since(known.fetched) >= MIN_LIFETIME;
            state.known.take_if(|known| is_old(known));
        }
    }

    fn slot(&self, provider: &ServerName, now: UnixMillis) -> Arc<Slot<T, E>> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(provider) {
            return Arc::clone(slot);
        }
        if slots.len() >= MAX_PROVIDERS {
            make_room(&mut slots, now);
        }
        let slot = Arc::new(Slot::default());
        slots.insert(provider.clone(), Arc::clone(&slot));
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Slots<T, E>> {
        // No code that holds the lock can leave the map half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what nobody uses and is not fresh, and the next to expire if that is not enough.
fn make_room<T, E>(slots: &mut Slots<T, E>, now: UnixMillis) {
    // What cannot be looked into is in use.
    let expires = |slot: &Slot<T, E>| {
        let state = slot.try_lock().ok()?;
        Some(state.known.as_ref().map_or(UnixMillis::ZERO, |known| known.expires))
    };
    slots.retain(|_, slot| expires(slot).is_none_or(|expires| now < expires));
    if slots.len() >= MAX_PROVIDERS {
        let next = slots
            .iter()
            .filter_map(|(provider, slot)| Some((expires(slot)?, provider.clone())))
            .min();
        next.and_then(|(_, provider)| slots.remove(&provider));
    }
}

/// How long an answer may be used: what its headers say, but a minute at least and a day at most.
fn lifetime(headers: &HeaderMap, now: UnixMillis) -> Duration {
    explicit_lifetime(headers, now)
        .unwrap_or(DEFAULT_LIFETIME)
        .clamp(MIN_LIFETIME, MAX_LIFETIME)
}

const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);
const MIN_LIFETIME: Duration = Duration::from_mins(1);
const MAX_LIFETIME: Duration = Duration::from_hours(24);
const FAILURE_MEMORY: Duration = Duration::from_secs(10);
const MAX_PROVIDERS: usize = 4096;

#[cfg(test)]
mod tests {
    use nabe_service::ports::ManualClock;
    use nabe_service::ports::mimi::DirectoryError;

    use super::super::directory::Directory;
    use super::*;
    use crate::testing::name;

    type Directories = Published<Directory, DirectoryError>;

    fn answer(host: &str, control: Option<&str>) -> Result<(Directory, HeaderMap), DirectoryError> {
        let directory = Directory::parse(format!(r#"{{"update":"https://{host}/{{roomId}}"}}"#).as_bytes())?;
        let mut headers = HeaderMap::new();
        if let Some(control) = control {
            headers.insert("cache-control", control.parse().unwrap());
        }
        Ok((directory, headers))
    }

    struct World {
        directories: Directories,
        clock: ManualClock,
    }

    impl World {
        fn new() -> Self {
            Self {
                directories: Directories::default(),
                clock: ManualClock::new(UnixMillis(1_700_000_000_000)),
            }
        }

        /// What is known, or is fetched from `host`; and whether it was fetched.
        async fn get(
            &self,
            host: &str,
            control: Option<&str>,
            seen: Option<&Known<Directory>>,
        ) -> (Known<Directory>, bool) {
            let mut was_fetched = false;
            let fetch = async {
                was_fetched = true;
                answer(host, control)
            };
            let known = self.directories.get(&name("p.example"), seen, &self.clock, fetch).await;
            (known.unwrap(), was_fetched)
        }
    }

    #[tokio::test]
    async fn a_directory_is_fetched_again_when_its_time_is_over() {
        for (control, seconds) in [
            (None, 3600),
            (Some("public"), 3600),
            (Some("max-age=600"), 600),
            (Some("no-store"), 60),
            (Some("max-age=1"), 60),
            (Some("max-age=31536000"), 24 * 3600),
        ] {
            let world = World::new();
            assert!(world.get("a.example", control, None).await.1);
            world.clock.advance(Duration::from_millis(seconds * 1000 - 1));
            assert!(!world.get("b.example", control, None).await.1, "{control:?}");
            world.clock.advance(Duration::from_millis(1));
            assert!(world.get("b.example", control, None).await.1, "{control:?}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_was_wrong_is_fetched_again_but_not_at_once() {
        let world = World::new();
        let (first, _) = world.get("a.example", None, None).await;
        world.clock.advance(Duration::from_secs(59));
        assert!(!world.get("b.example", None, Some(&first)).await.1);
        world.clock.advance(Duration::from_secs(1));
        let (second, was_fetched) = world.get("b.example", None, Some(&first)).await;
        assert!(was_fetched);
        assert_ne!(first.value, second.value);
        // Others who had seen the first are given the second.
        assert!(!world.get("c.example", None, Some(&first)).await.1);
    }

    #[tokio::test]
    async fn what_is_doubted_is_fetched_again_but_not_at_once() {
        let world = World::new();
        let doubt = async || world.directories.doubt(&name("p.example"), &world.clock).await;
        doubt().await;
        world.get("a.example", None, None).await;
        doubt().await;
        assert!(!world.get("b.example", None, None).await.1);
        world.clock.advance(MIN_LIFETIME);
        doubt().await;
        assert!(world.get("b.example", None, None).await.1);
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_moment_and_leaves_what_is_fresh() {
        let world = World::new();
        let provider = name("p.example");
        let fail = async || {
            let fetch = async { Err(DirectoryError::Status(500)) };
            world
                .directories
                .get(&provider, None, &world.clock, fetch)
                .await
                .map(drop)
        };
        assert_eq!(fail().await, Err(DirectoryError::Status(500)));
        let other = async { Err(DirectoryError::NotJson) };
        let remembered = world.directories.get(&provider, None, &world.clock, other).await;
        assert_eq!(remembered.map(drop), Err(DirectoryError::Status(500)));
        world.clock.advance(FAILURE_MEMORY);
        let (first, _) = world.get("a.example", None, None).await;
        world.clock.advance(MIN_LIFETIME);
        let fetch = async { Err(DirectoryError::NotJson) };
        let refetched = world
            .directories
            .get(&provider, Some(&first), &world.clock, fetch)
            .await;
        assert_eq!(refetched.map(drop), Err(DirectoryError::NotJson));
        assert!(!world.get("b.example", None, None).await.1);
    }

    #[tokio::test]
    async fn a_full_cache_drops_what_expires_first() {
        let world = World::new();
        let get = async |provider: String, control: &str| {
            let mut was_fetched = false;
            let fetch = async {
                was_fetched = true;
                answer("a.example", Some(control))
            };
            let known = world.directories.get(&name(&provider), None, &world.clock, fetch).await;
            known.unwrap();
            was_fetched
        };
        get("short.example".to_owned(), "max-age=100").await;
        for number in 1..MAX_PROVIDERS {
            get(format!("p{number}.example"), "max-age=200").await;
        }
        get("new.example".to_owned(), "max-age=200").await;
        assert_eq!(world.directories.lock().len(), MAX_PROVIDERS);
        assert!(!get("p1.example".to_owned(), "max-age=200").await);
        assert!(get("short.example".to_owned(), "max-age=200").await);
    }
}
