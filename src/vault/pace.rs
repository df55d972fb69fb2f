//! A limit on how fast a vault is sent what is put: one for all its threads, counted per object and per try.
//!
//! It is a token bucket that holds no more than the object that goes next: an object begins when everything before it
//! would have been through at the limit, so after a pause one object goes at once and never two. What was not used
//! is not saved up. Inside an object nothing is held back: one is a few MiB, and a pause in the middle of a request
//! is what stores end connections for.

use crate::base::interrupt::Interrupt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a wish to stop may go unseen while an object waits.
const GLANCE: Duration = Duration::from_millis(100);

/// The limit of one vault.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    schedule: Mutex<Schedule>,
    interrupt: OnceLock<Interrupt>,
}

/// When the next object may begin; times count from the vault's opening.
#[derive(Debug)]
struct Schedule {
    bytes_per_second: u64,
    next: Duration,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        let schedule = Schedule { bytes_per_second: bytes_per_second.max(1), next: Duration::ZERO };
        Self { began: Instant::now(), schedule: Mutex::new(schedule), interrupt: OnceLock::new() }
    }

    /// From now on a wish to stop ends the waiting. Only the first one counts.
    pub(super) fn stop_with(&self, interrupt: &Interrupt) {
        self.interrupt.get_or_init(|| interrupt.clone());
    }

    /// Waits until an object of this length may begin; whether it may, or somebody asked to stop.
    #[must_use]
    pub(super) fn wait(&self, length: u64) -> bool {
        let now = self.began.elapsed();
        let turn = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).turn(now, length);
        loop {
            if self.interrupt.get().is_some_and(Interrupt::is_set) {
                return false;
            }
            let left = turn.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}

impl Schedule {
    /// When an object of this length that comes now may begin, never before now; those that come later wait for it.
    fn turn(&mut self, now: Duration, length: u64) -> Duration {
        let turn = self.next.max(now);
        // Rounded up: the limit is never exceeded by a rounding, however many objects there are.
        let nanos = (u128::from(length) * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next = turn.saturating_add(takes);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn schedule(bytes_per_second: u64) -> Schedule {
        Schedule { bytes_per_second, next: Duration::ZERO }
    }

    #[test]
    fn an_object_begins_when_those_before_it_would_be_through() {
        let mut schedule = schedule(1000);
        assert_eq!(schedule.turn(MS(5), 500), MS(5), "the first one goes at once");
        assert_eq!(schedule.turn(MS(5), 250), MS(505));
        assert_eq!(schedule.turn(MS(600), 100), MS(755));
        assert_eq!(schedule.turn(MS(600), 0), MS(855), "an empty one has its turn too");
        assert_eq!(schedule.turn(MS(600), 1), MS(855), "and takes none away");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut schedule = schedule(1000);
        schedule.turn(MS(0), 100);
        assert_eq!(schedule.turn(MS(60_000), 4000), MS(60_000));
        assert_eq!(schedule.turn(MS(60_000), 1), MS(64_000), "one object after a pause, never two");
    }

    #[test]
    fn no_rounding_and_no_rate_lets_more_through() {
        let mut thirds = schedule(3);
        for n in 0..3000_u64 {
            let turn = thirds.turn(Duration::ZERO, 1);
            assert!(turn.as_nanos() * 3 >= u128::from(n) * 1_000_000_000, "byte {n} begins at {turn:?}");
        }
        let mut slowest = schedule(1);
        slowest.turn(Duration::ZERO, u64::MAX);
        assert!(slowest.turn(Duration::ZERO, u64::MAX) >= Duration::from_nanos(u64::MAX));
        slowest.turn(Duration::MAX, u64::MAX);
    }

    proptest::proptest! {
        /// In any stretch of time no more begins than the rate allows, and one object.
        #[test]
        fn in_any_stretch_of_time_the_burst_is_one_object(
            rate in 1_u64..10_000_000,
            objects in proptest::collection::vec((0_u64..5_000_000, 0_u64..3_000), 1..40),
        ) {
            let mut schedule = schedule(rate);
            let mut now = Duration::ZERO;
            let mut begun = Vec::new();
            for (length, pause) in objects {
                now += MS(pause);
                begun.push((schedule.turn(now, length), length));
            }
            for first in 0..begun.len() {
                for last in first..begun.len() {
                    let stretch = begun[last].0 - begun[first].0;
                    let before_last: u64 = begun[first..last].iter().map(|(_, length)| length).sum();
                    proptest::prop_assert!(u128::from(before_last) * 1_000_000_000
                        <= stretch.as_nanos() * u128::from(rate));
                }
            }
        }
    }
}
