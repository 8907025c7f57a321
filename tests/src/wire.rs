//! The network between the servers of a [`Cluster`](crate::Cluster): each request goes into the destination's real routes. Links
//! can be cut, single requests lost, repeated or held up, and some paths be closed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use nabe_federation::{Transport, TransportError};
use nabe_service::ports::{Clock as _, ManualClock};
use nabe_types::ServerName;
use tower::ServiceExt as _;

use crate::activity::{Activity, Life};

/// What happens to one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It never arrives.
    LoseRequest,
    /// It arrives and is worked on; the answer is lost.
    LoseAnswer,
    /// It arrives that many milliseconds later, whether its sender still waits or not.
    Delay(u32),
    /// Its answer arrives that many milliseconds later.
    DelayAnswer(u32),
    /// It arrives at once, and once more that many milliseconds later.
    Repeat(u32),
}

/// A request that was made, arrived or not.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who sent it.
    pub from: ServerName,
    /// To whom.
    pub to: ServerName,
    /// `PUT /path?query`.
    pub line: String,
    /// The body.
    pub body: Bytes,
    /// The answer's status; `None` while there is none.
    pub status: Option<u16>,
}

/// The network. Clones share it.
#[derive(Clone)]
pub struct Wire {
    state: Arc<Mutex<State>>,
    clock: ManualClock,
    activity: Activity,
}

#[derive(Default)]
struct State {
    ends: BTreeMap<ServerName, End>,
    cut: BTreeSet<(ServerName, ServerName)>,
    closed: Vec<(ServerName, ServerName, String)>,
    faults: BTreeMap<(ServerName, ServerName), VecDeque<Fault>>,
    seen: Vec<Seen>,
}

/// A running server's end.
#[derive(Clone)]
struct End {
    router: Router,
    life: Life,
}

impl Wire {
    /// A network without servers.
    #[must_use]
    pub fn new(clock: ManualClock, activity: Activity) -> Self {
        Self {
            state: Arc::default(),
            clock,
            activity,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests to `server` go here from now on.
    pub fn plug_in(&self, server: &ServerName, router: Router, life: Life) {
        self.state().ends.insert(server.clone(), End { router, life });
    }

    /// Nothing listens there any more.
    pub fn unplug(&self, server: &ServerName) {
        self.state().ends.remove(server);
    }

    /// Whether requests from the one to the other get through.
    pub fn set_cut(&self, from: &ServerName, to: &ServerName, is_cut: bool) {
        let link = (from.clone(), to.clone());
        let cut = &mut self.state().cut;
        if is_cut {
            cut.insert(link)
        } else {
            cut.remove(&link)
        };
    }

    /// Loses requests on a link whose path contains `part`.
    pub fn close(&self, from: &ServerName, to: &ServerName, part: &str) {
        self.state().closed.push((from.clone(), to.clone(), part.to_owned()));
    }

    /// Undoes every [`close`](Self::close) of a link.
    pub fn open(&self, from: &ServerName, to: &ServerName) {
        self.state().closed.retain(|(a, b, _)| (a, b) != (from, to));
    }

    /// The next request on the link that has no fault yet gets this one.
    pub fn add_fault(&self, from: &ServerName, to: &ServerName, fault: Fault) {
        let link = (from.clone(), to.clone());
        self.state().faults.entry(link).or_default().push_back(fault);
    }

    /// Everything gets through again, and single faults that did not strike yet never will.
    pub fn mend(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.closed.clear();
        state.faults.clear();
    }

    /// The requests made so far whose method and path contain `part`.
    #[must_use]
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|seen| seen.line.contains(part))
            .cloned()
            .collect()
    }

    /// Forgets the requests made so far.
    pub fn forget_seen(&self) {
        self.state().seen.clear();
    }

    /// Hands over one request, after `delay`.
    async fn deliver(
        self,
        to: ServerName,
        request: Request<Bytes>,
        delay: u32,
    ) -> Result<Response<Bytes>, TransportError> {
        self.wait(delay).await;
        let end = self.state().ends.get(&to).cloned().ok_or(TransportError::Unreachable)?;
        let _pending = self.activity.pending();
        tokio::select! {
            biased;
            () = end.life.over() => Err(TransportError::Unreachable),
            answer = answer(end.router, request) => answer,
        }
    }

    async fn wait(&self, millis: u32) {
        if millis > 0 {
            let _delayed = self.activity.delayed();
            self.clock.sleep(Duration::from_millis(u64::from(millis))).await;
        }
    }
}

async fn answer(router: Router, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
    let Ok(response) = router.oneshot(request.map(Body::from)).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| TransportError::Unreachable)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// One server's way out, for as long as it lives.
#[derive(Clone)]
pub struct SimTransport {
    /// Whose requests these are.
    pub from: ServerName,
    /// Once it is over nothing is sent any more.
    pub life: Life,
    /// The network.
    pub wire: Wire,
}

#[async_trait]
impl Transport for SimTransport {
    async fn send(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        _timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        self.life.survive().await;
        let line = format!("{} {}", request.method(), request.uri());
        let (index, passes, fault) = {
            let mut state = self.wire.state();
            let link = (self.from.clone(), destination.clone());
            let is_closed = |(from, to, part): &(ServerName, ServerName, String)| {
                (from, to) == (&link.0, &link.1) && line.contains(part.as_str())
            };
            let passes = !state.cut.contains(&link) && !state.closed.iter().any(is_closed);
            let fault = if passes {
                state.faults.get_mut(&link).and_then(VecDeque::pop_front)
            } else {
                None
            };
            state.seen.push(Seen {
                from: self.from.clone(),
                to: destination.clone(),
                line,
                body: request.body().clone(),
                status: None,
            });
            (state.seen.len() - 1, passes, fault)
        };
        if !passes {
            return Err(TransportError::Unreachable);
        }
        // In a task of its own: what is on its way arrives even if its sender gives up or dies.
        let deliver = |request, delay| tokio::spawn(self.wire.clone().deliver(destination.clone(), request, delay));
        let (delay, hold) = match fault {
            Some(Fault::LoseRequest) => return Err(TransportError::Timeout),
            Some(Fault::Delay(millis)) => (millis, 0),
            Some(Fault::DelayAnswer(millis)) => (0, millis),
            Some(Fault::Repeat(millis)) => {
                deliver(request.clone(), millis);
                (0, 0)
            }
            Some(Fault::LoseAnswer) | None => (0, 0),
        };
        let answer = deliver(request, delay).await;
        self.wire.wait(hold).await;
        self.life.survive().await;
        let answer = answer.map_err(|_| TransportError::Unreachable)?;
        if let (Ok(answer), Some(seen)) = (&answer, self.wire.state().seen.get_mut(index)) {
            seen.status = Some(answer.status().as_u16());
        }
        match fault {
            Some(Fault::LoseAnswer) => Err(TransportError::Timeout),
            _ => answer,
        }
    }
}
