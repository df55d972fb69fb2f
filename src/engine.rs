//! The flows: what each verb does, on checked input, ending in a typed report. Knows no command line, no environment,
//! no terminal; prints nothing.

pub mod attest;
pub mod backup;
pub mod claim;
pub mod commit;
pub mod departure;
pub mod error;
pub mod extract;
pub mod given;
pub mod init;
pub mod list;
pub mod opening;
pub mod pipeline;
pub mod progress;
pub mod reading;
pub mod rebuild;
pub mod recovery;
pub mod restore;
pub mod state;
pub mod stores;
pub mod survey;
mod told;
pub mod verify;

pub use error::Error;

use crate::base::clock::Clock;
use crate::base::interrupt::Interrupt;
use progress::Event;

/// What every flow needs from outside.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub clock: Clock,
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
    /// Whom to tell how far things are.
    pub progress: &'a (dyn Fn(Event) + Sync),
}

impl Context<'_> {
    /// The present moment, whole seconds, UTC.
    pub fn now(&self) -> jiff::Timestamp {
        let now = self.clock.now();
        jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Tells how far things are.
    pub fn tell(&self, event: Event) {
        (self.progress)(event);
    }

    /// An error when somebody asked to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.interrupt.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
