//! Load at a rate: when each request is to be sent is fixed before the first one is, and its time counts from then. Whoever sends the next
//! request only once the last one is answered asks less while the other side is slow, and so leaves out the very times that matter
//! (coordinated omission). Here a request that has to wait, for its turn or for a free connection, waits on the clock.

use std::{future::Future, time::Duration};

use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::latency::Latency;
use crate::output::say;

/// When requests are to be sent: one after another, evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    begin: Instant,
    per_second: f64,
}

impl Timetable {
    /// From now on.
    pub(super) fn begin(per_second: f64) -> Self {
        let begin = Instant::now();
        Self { begin, per_second }
    }

    fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// Sends each request when it is due, whatever has become of the others. Returns how long each took from when it was due.
    pub(super) async fn send_each<R, F>(self, requests: Vec<R>, send: impl Fn(R) -> F) -> anyhow::Result<Vec<Duration>>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut sent = JoinSet::new();
        for (number, request) in (0..).zip(requests) {
            let due = self.due(number);
            sleep_until(due).await;
            let answer = send(request);
            sent.spawn(async move {
                answer.await?;
                anyhow::Ok(due.elapsed())
            });
        }
        let mut times = Vec::with_capacity(sent.len());
        while let Some(time) = sent.join_next().await {
            times.push(time??);
        }
        Ok(times)
    }

    /// Sends the requests of one of `lanes` senders, whose turn is every so many requests, from the `lane`th on. A sender sends one at a
    /// time; what is due while another one is on its way has to wait, and that counts.
    pub(super) async fn send_in_turn<R, F>(
        self,
        (lane, lanes): (u64, u64),
        requests: Vec<R>,
        mut send: impl FnMut(R) -> F,
    ) -> anyhow::Result<Vec<Duration>>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let mut times = Vec::with_capacity(requests.len());
        for (turn, request) in (0..).zip(requests) {
            let due = self.due(lane + turn * lanes);
            sleep_until(due).await;
            send(request).await?;
            times.push(due.elapsed());
        }
        Ok(times)
    }
}

/// What was measured at a rate.
#[derive(Debug, Serialize)]
pub(super) struct AtRate {
    /// So many were to be sent.
    pub(super) wanted_per_s: f64,
    /// So many were accepted, until the last one was.
    pub(super) accepted_per_s: f64,
    pub(super) events: u64,
    pub(super) hub_cpu_us_per_event: f64,
    /// From when a request was due to its answer.
    #[serde(flatten)]
    pub(super) latency: Latency,
}

impl AtRate {
    pub(super) fn print(&self) {
        say!(
            "at {:.0} a second, sent when due whatever becomes of those before",
            self.wanted_per_s
        );
        say!("  accepted per second       {:.0}", self.accepted_per_s);
        say!("  hub CPU time for each     {:.0} µs", self.hub_cpu_us_per_event);
        self.latency.print("from due to answered");
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Answers after a millisecond, but the third request after a hundred.
    async fn stall_once(number: u32) -> anyhow::Result<()> {
        sleep(if number == 2 { 100 * MS } else { MS }).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_while_a_sender_waits_for_an_answer_waits_on_the_clock() {
        let timetable = Timetable::begin(100.0);
        let times = timetable
            .send_in_turn((0, 1), (0..6).collect(), stall_once)
            .await
            .unwrap();
        // Due at 0, 10, 20 and so on; from the third on the line is busy until 120.
        assert_eq!(times, [1, 1, 100, 91, 82, 73].map(|ms| ms * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_sent_by_themselves_do_not_wait_for_a_slow_one_and_the_slow_one_counts() {
        let timetable = Timetable::begin(100.0);
        let begin = Instant::now();
        let mut times = timetable.send_each((0..6).collect(), stall_once).await.unwrap();
        times.sort_unstable();
        assert_eq!(times, [1, 1, 1, 1, 1, 100].map(|ms| ms * MS));
        assert_eq!(begin.elapsed(), 120 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn senders_take_turns_in_one_timetable() {
        let timetable = Timetable::begin(1000.0);
        let begin = Instant::now();
        let lane = async |lane| {
            let mut sent = Vec::new();
            let send = |number: u64| {
                sent.push((number, begin.elapsed()));
                std::future::ready(Ok(()))
            };
            timetable
                .send_in_turn((lane, 2), vec![lane, lane + 2], send)
                .await
                .unwrap();
            sent
        };
        let (first, second) = tokio::join!(lane(0), lane(1));
        assert_eq!(first, [(0, Duration::ZERO), (2, 2 * MS)]);
        assert_eq!(second, [(1, MS), (3, 3 * MS)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_fails_ends_the_run() {
        let fail = |_| async { anyhow::bail!("refused") };
        let failed = Timetable::begin(100.0).send_each(vec![1, 2], fail).await;
        assert_eq!(failed.unwrap_err().to_string(), "refused");
    }
}
