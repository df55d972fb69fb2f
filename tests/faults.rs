//! What goes wrong around the program: stores that fail, refuse, hang or lie, processes that are killed, disks that are
//! full, and secrets that must stand nowhere. After every fault the same must hold: what is committed opens completely.

mod answers;
mod attacks;
mod bench;
mod departure;
mod fifos;
mod host;
mod kills;
mod listings;
mod memory;
mod puts;
mod sandbox;
mod secrets;
mod signals;
mod slow;
mod space;
mod steps;
mod store;
mod stores;
mod tables;
mod vaults;
mod wallet;

pub(crate) use bench::noise;
