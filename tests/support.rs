//! What the tests share. Helpers fail with everything a reader needs to see; they decide nothing about the program.

pub(crate) mod closing;
pub(crate) mod env;
pub(crate) mod faulty;
pub(crate) mod garage;
pub(crate) mod host;
pub(crate) mod janitor;
pub(crate) mod json;
pub(crate) mod machine;
pub(crate) mod proxy;
pub(crate) mod servers;
pub(crate) mod shop;
pub(crate) mod vault;
