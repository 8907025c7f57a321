//! How long a client that goes on and on leaves a server alone that does not answer.

use std::time::Duration;

use nabe_client::transport::TransportError;

/// The pauses between attempts: each is twice as long as the one before, until there is an answer.
pub(super) struct Patience {
    next: Duration,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The server has answered.
    pub(super) const fn answered(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait after it has not, or has asked for time.
    pub(super) fn pause(&mut self, error: &TransportError) -> Duration {
        let wanted = match error {
            TransportError::RateLimited { retry_after } => *retry_after,
            _ => Duration::ZERO,
        };
        let pause = self.next.max(wanted.min(LONGEST_WANTED));
        self.next = (self.next * 2).min(LAST);
        pause
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);
/// As long as a server can ask for.
const LONGEST_WANTED: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> TransportError {
        TransportError::Unreachable("nobody is there".into())
    }

    #[test]
    fn pauses_grow_up_to_half_a_minute_and_begin_anew_after_an_answer() {
        let mut patience = Patience::new();
        let pauses: Vec<_> = (0..8).map(|_| patience.pause(&silence()).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        patience.answered();
        assert_eq!(patience.pause(&silence()).as_secs(), 1);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_within_reason() {
        let pause = |seconds| {
            let retry_after = Duration::from_secs(seconds);
            Patience::new()
                .pause(&TransportError::RateLimited { retry_after })
                .as_secs()
        };
        assert_eq!([0, 90, 1_000_000].map(pause), [1, 90, 3_600]);
    }
}
