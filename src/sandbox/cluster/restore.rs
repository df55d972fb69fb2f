//! Databases of a scratch cluster: made as they were where they came from, and filled from a dump by the very steps
//! that a restore takes, as the same roles with the same rights.

use super::{Cluster, ClusterError};
use crate::base::ids::SnapshotId;
use crate::base::interrupt::Interrupt;
use crate::facts::postgres::DatabaseFacts;
pub use crate::sources::postgres::restore::Made;
use crate::sources::postgres::restore::{self, Landing, Replayed, RestoreError};
use crate::sources::postgres::{MAINTENANCE, Proof, Server, quote_name};
use std::io::Read;

/// What came of a dump that was tried out.
#[derive(Debug)]
pub struct Tried {
    /// How its database was made.
    pub made: Made,
    /// How it was filled.
    pub replayed: Replayed,
    /// How it compares with what was noted.
    pub proof: Proof,
}

impl Cluster {
    /// Makes an empty database with the encoding and locale the facts name, and the roles they name, without
    /// passwords or rights. A locale that is not installed here is replaced, and a note says so: rows are the same,
    /// their order in an index may not be.
    pub fn create_database(&self, name: &str, like: &DatabaseFacts) -> Result<Made, ClusterError> {
        if like.server.major() > self.major {
            return Err(RestoreError::TooOld { dumped: like.server.major(), here: self.major }.into());
        }
        let session = self.session(MAINTENANCE)?;
        restore::create_roles(&session, like)?;
        Ok(restore::create_database(&session, name, like)?)
    }

    /// Restores a dump as a restore does, compares it, and drops it again.
    pub fn try_out(
        &self,
        facts: &DatabaseFacts,
        snapshot: &SnapshotId,
        interrupt: &Interrupt,
        dump: &mut dyn Read,
    ) -> Result<Tried, ClusterError> {
        let server = Server::parse(&self.url(MAINTENANCE), None)?.stopping_at(interrupt);
        restore::create_roles(&self.session(MAINTENANCE)?, facts)?;
        let landing =
            Landing { server: &server, database: &facts.name, owner: &facts.owner, snapshot, run: "verify", interrupt };
        let tried = landing.make(facts).and_then(|made| {
            let replayed = landing.fill(facts, dump)?;
            Ok(Tried { made, replayed, proof: landing.compare(facts)? })
        });
        self.drop_database(&landing.fresh_name())?;
        Ok(tried?)
    }

    /// Makes an empty database for tests and demonstrations: UTF-8, locale C.
    pub fn create_plain_database(&self, name: &str) -> Result<(), ClusterError> {
        let options = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'";
        self.execute("postgres", &format!("CREATE DATABASE {} {options}", quote_name(name)))
    }

    /// Drops a database, whoever is connected to it.
    pub fn drop_database(&self, name: &str) -> Result<(), ClusterError> {
        self.execute("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_name(name)))
    }

    /// Restores a dump into an empty database. Reads the dump as a stream.
    pub fn restore(
        &self,
        facts: &DatabaseFacts,
        dump: &mut dyn Read,
        database: &str,
    ) -> Result<Replayed, ClusterError> {
        let server = Server::parse(&self.url(MAINTENANCE), None)?;
        Ok(restore::fill_database(&server, database, &facts.owner, facts, dump)?)
    }
}
