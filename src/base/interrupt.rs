//! The wish to stop: set by a signal handler at the edge, looked at by everything that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag shared by all threads of a run. Setting it never undoes anything: whoever sees it stops at
/// the next point where nothing half-done looks done.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shared flag itself, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Asks every holder to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error when somebody asked to stop; its kind is `Other`, because `Interrupted` is retried by
    /// the standard library's writers.
    pub fn check(&self) -> std::io::Result<()> {
        if self.is_set() {
            return Err(std::io::Error::other("interrupted"));
        }
        Ok(())
    }
}
