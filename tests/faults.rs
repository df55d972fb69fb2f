//! What goes wrong around the program: stores that fail, refuse, hang or lie, processes that are killed, disks that are
//! full, and secrets that must stand nowhere. After every fault the same must hold: what is committed opens completely.

mod answers;
mod bench;
mod puts;
mod slow;
mod steps;
mod vaults;

pub(crate) use bench::noise;
