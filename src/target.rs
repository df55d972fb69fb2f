//! The machine that is restored to: probes that say how it stands, and the primitives that change it. Each primitive
//! can be called again after a stop at any point and ends in the same state, or says where it stands. Nothing that was
//! there is ever removed, only moved aside; what this program itself left half-made goes. It knows no snapshot, asks
//! nobody and decides nothing: what may be done is for the guards to say, before.

pub mod accounts;
pub mod aside;
pub mod delivery;
mod durable;
mod error;
pub mod fence;
pub mod holders;
pub mod look;
pub mod ours;
pub mod place;
mod record_lock;
pub mod root;
pub mod running;
pub mod space;
mod steps;
pub mod tree;
pub mod units;

pub use accounts::Owner;
pub use error::TargetError;
pub use root::{Owners, Root};
