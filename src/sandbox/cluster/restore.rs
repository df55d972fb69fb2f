//! Databases of a scratch cluster: made as they were where they came from, and filled from a dump in one
//! transaction. A restore that fails leaves an empty database.

use super::{Cluster, ClusterError};
use crate::base::interrupt::Interrupt;
use crate::facts::postgres::DatabaseFacts;
pub use crate::sources::postgres::restore::Made;
use crate::sources::postgres::restore::{self, RestoreError};
use crate::sources::postgres::{Server, quote_name};
use std::io::Read;

impl Cluster {
    /// Makes an empty database with the encoding and locale the facts name, and the roles they name, without
    /// passwords or rights. A locale that is not installed here is replaced, and a note says so: rows are the same,
    /// their order in an index may not be.
    pub fn create_database(&self, name: &str, like: &DatabaseFacts) -> Result<Made, ClusterError> {
        if like.server.major() > self.major {
            return Err(RestoreError::TooOld { dumped: like.server.major(), here: self.major }.into());
        }
        let session = self.session("postgres")?;
        restore::create_roles(&session, &like.roles)?;
        Ok(restore::create_database(&session, name, None, like)?)
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

    /// Restores a dump into an empty database: everything or nothing. Reads the dump as a stream.
    pub fn restore(&self, dump: &mut dyn Read, database: &str) -> Result<(), ClusterError> {
        let server = Server::parse(&self.url(database), None)?;
        Ok(restore::feed(&self.program("pg_restore"), &server, None, dump, &Interrupt::new())?)
    }
}
