//! How long to wait before the next attempt to connect.

use std::time::Duration;

use super::{LinkTiming, broken::Broken};

/// After a server that stops, its agents come back spread over this time.
const AFTER_A_STOP: Duration = Duration::from_secs(1);

/// Doubles from attempt to attempt up to a limit. A random part keeps a fleet from coming back in step.
#[derive(Debug)]
pub(super) struct Pauses {
    timing: LinkTiming,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(timing: LinkTiming) -> Self {
        Self {
            timing,
            next: timing.first_pause,
        }
    }

    /// The pause after a connection that lasted so long, or after an attempt that came to none.
    pub(super) fn after(&mut self, broken: &Broken, lasted: Duration) -> Duration {
        // A mere handshake proves nothing: a server that takes connections and drops them must not be hammered.
        let is_anew = lasted > self.timing.idle_timeout;
        if is_anew {
            self.next = self.timing.first_pause;
        }
        match broken {
            Broken::Replaced => self
                .timing
                .pause_when_replaced
                .mul_f64(1.0 + fastrand::f64() / 2.0),
            Broken::Stopping if is_anew => AFTER_A_STOP.mul_f64(fastrand::f64()),
            broken if broken.is_lasting() => upper_half(self.timing.longest_pause),
            _ => {
                let whole = self.next;
                self.next = (whole * 2).min(self.timing.longest_pause);
                upper_half(whole)
            }
        }
    }
}

fn upper_half(whole: Duration) -> Duration {
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    const SHORT: Duration = Duration::from_secs(44);
    const LONG: Duration = Duration::from_secs(46);

    fn lost() -> Broken {
        Broken::Lost("reset".into())
    }

    fn refused(status: StatusCode) -> Broken {
        Broken::Refused {
            status,
            text: "no".into(),
        }
    }

    #[test]
    fn pauses_grow_to_the_limit_and_begin_anew_after_a_connection_that_lasted() {
        let timing = LinkTiming::default();
        let mut pauses = Pauses::new(timing);
        let mut whole = timing.first_pause;
        for _ in 0..20 {
            let pause = pauses.after(&lost(), SHORT);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(timing.longest_pause);
        }
        assert_eq!(whole, timing.longest_pause);
        assert!(pauses.after(&lost(), LONG) <= timing.first_pause);
    }

    #[test]
    fn a_lasting_refusal_is_not_tried_again_soon() {
        let timing = LinkTiming::default();
        let mut pauses = Pauses::new(timing);
        assert!(pauses.after(&refused(StatusCode::UNAUTHORIZED), Duration::ZERO) >= timing.longest_pause / 2);
        assert!(
            pauses.after(&refused(StatusCode::SERVICE_UNAVAILABLE), Duration::ZERO) <= timing.first_pause
        );
    }

    #[test]
    fn who_was_replaced_does_not_fight_back() {
        let timing = LinkTiming::default();
        for lasted in [SHORT, LONG] {
            let pause = Pauses::new(timing).after(&Broken::Replaced, lasted);
            assert!(pause >= timing.pause_when_replaced, "{pause:?}");
        }
    }

    #[test]
    fn agents_of_a_server_that_stops_come_back_soon_but_not_all_at_once() {
        let timing = LinkTiming::default();
        let pauses: Vec<_> = (0..100)
            .map(|_| Pauses::new(timing).after(&Broken::Stopping, LONG))
            .collect();
        assert!(pauses.iter().all(|pause| *pause <= AFTER_A_STOP));
        assert!(pauses.iter().any(|pause| *pause < AFTER_A_STOP / 4));
        assert!(pauses.iter().any(|pause| *pause > AFTER_A_STOP * 3 / 4));
        let mut again = Pauses::new(timing);
        for _ in 0..20 {
            again.after(&Broken::Stopping, SHORT);
        }
        assert!(
            again.after(&Broken::Stopping, SHORT) > AFTER_A_STOP,
            "one that only ever stops is not hammered"
        );
    }
}
