//! The scenarios that are built in, so that a bare machine needs no checkout. A test compares this table with
//! the folder `restore-drills/`.

use super::{Scenario, ScenarioError};
use crate::policy::shape::nearest;
use std::path::Path;

macro_rules! table {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every scenario that is built in, in the order in which documents list them.
        pub const EMBEDDED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../restore-drills/", $name, ".toml")))),*];
    };
}

table!(
    "server-loss",
    "cln-db-corruption",
    "postgres-corruption",
    "bitcoin-node-corruption",
    "wallet-compromise",
    "disk-full",
    "integration-outage",
    "planned-migration",
    "lnd-server-loss",
    "storage-loss",
    "tampered-storage",
    "key-loss",
    "hand-recovery",
);

/// The names of those that are built in.
pub fn names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// The scenario of this name that is built in.
pub fn embedded(name: &str) -> Result<Scenario, ScenarioError> {
    match EMBEDDED.iter().find(|(known, _)| *known == name) {
        Some((known, text)) => Scenario::parse(text, Path::new(&format!("restore-drills/{known}.toml"))),
        None => {
            let nearest = nearest(name, names()).and_then(|near| names().find(|known| *known == near));
            Err(ScenarioError::Unknown { name: name.chars().take(80).collect(), nearest })
        }
    }
}
