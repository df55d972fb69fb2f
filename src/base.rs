//! The lowest layer: identifiers, limits, clock, processes, files, secrets. Imports nothing else of the crate.

pub mod clock;
pub mod confinement;
pub mod exec;
pub mod flock;
pub mod fsio;
pub mod ids;
pub mod interrupt;
pub mod limits;
pub mod lock;
pub mod memory;
pub mod secret;
pub mod visible;

#[cfg(test)]
pub(crate) mod tests;
