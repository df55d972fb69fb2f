//! Databases of a scratch cluster: made as they were where they came from, and filled from a dump in one
//! transaction. A restore that fails leaves an empty database.

use super::{Cluster, ClusterError};
use crate::base::exec::Exec;
use crate::facts::postgres::DatabaseFacts;
use crate::sources::postgres::{Server, Session, quote_name};
use std::io::{Read, Write};

/// How much of a dump is handed on at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// A database that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// What is not as it was where the database came from, one sentence each.
    pub notes: Vec<String>,
}

impl Cluster {
    /// Makes an empty database with the encoding and locale the facts name, and the roles they name, without
    /// passwords or rights. A locale that is not installed here is replaced, and a note says so: rows are the same,
    /// their order in an index may not be.
    pub fn create_database(&self, name: &str, like: &DatabaseFacts) -> Result<Made, ClusterError> {
        if like.server.major() > self.major {
            return Err(ClusterError::TooOld { dumped: like.server.major(), here: self.major });
        }
        let session = self.session("postgres")?;
        create_roles(&session, &like.roles)?;
        let mut made = Made::default();
        let mut first = None;
        for (locale, replaced) in locales(like, self.major) {
            let sql = format!(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING {} {locale}",
                quote_name(name),
                literal(&like.encoding)
            );
            match session.execute("make a database", &sql) {
                Ok(()) => {
                    if replaced {
                        let (collation, ctype) = (&like.collation, &like.ctype);
                        let icu = like.locale.as_deref().unwrap_or("none");
                        made.notes.push(format!(
                            "the locale of {} (collation {collation}, ctype {ctype}, {} {icu}) is not to be had here; \
                             the database was made with {locale}",
                            like.name, like.locale_provider
                        ));
                    }
                    return Ok(made);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) => Err(error.into()),
            None => Ok(made),
        }
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
        let conninfo = Server::parse(&self.url(database), None)?.conninfo();
        let failed = |source| ClusterError::Restore { database: database.to_owned(), source };
        let mut child = Exec::new(self.program("pg_restore"))
            .args(["--no-owner", "--exit-on-error", "--single-transaction", "--no-password", "--format=custom"])
            .arg(format!("--dbname={conninfo}"))
            .env("LC_ALL", "C")
            .env("PGTZ", "UTC")
            .feed()
            .map_err(failed)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match dump.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // The child is killed before its transaction ends, so nothing of it stays.
                Err(source) => return Err(ClusterError::Read { database: database.to_owned(), source }),
            };
            match child.write_all(&buffer[..count]) {
                Ok(()) => {}
                // A child that ends before it read everything says why by its exit status.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(source) => return Err(ClusterError::Read { database: database.to_owned(), source }),
            }
        }
        child.finish().map(drop).map_err(failed)
    }
}

/// The ways to say the locale, the best first; whether it is another than it was.
fn locales(like: &DatabaseFacts, major: u32) -> Vec<(String, bool)> {
    let libc = |collation: &str, ctype: &str| {
        let provider = if major >= 15 { "LOCALE_PROVIDER libc " } else { "" };
        format!("{provider}LC_COLLATE {} LC_CTYPE {}", literal(collation), literal(ctype))
    };
    let mut ways = Vec::new();
    let own = libc(&like.collation, &like.ctype);
    match (like.locale_provider.as_str(), &like.locale) {
        ("icu", Some(locale)) if major >= 15 => {
            let icu = format!("LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale));
            let named = format!("LC_COLLATE {} LC_CTYPE {}", literal(&like.collation), literal(&like.ctype));
            ways.push((format!("{icu} {named}"), false));
            ways.push((format!("{icu} LC_COLLATE 'C' LC_CTYPE 'C'"), true));
            ways.push((own, true));
        }
        ("builtin", Some(locale)) if major >= 17 => {
            let builtin = format!("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale));
            ways.push((format!("{builtin} LC_COLLATE 'C' LC_CTYPE 'C'"), false));
            ways.push((own, true));
        }
        _ => ways.push((own, false)),
    }
    if like.encoding == "UTF8" {
        ways.push((libc("C.UTF-8", "C.UTF-8"), true));
    }
    ways.push((libc("C", "C"), true));
    ways
}

fn create_roles(session: &Session, roles: &[String]) -> Result<(), ClusterError> {
    let rows = session.query("list the roles", "SELECT rolname::text FROM pg_roles", &[])?;
    let here: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for role in roles.iter().filter(|role| !here.contains(role)) {
        session.execute("make a role", &format!("CREATE ROLE {} NOLOGIN", quote_name(role)))?;
    }
    Ok(())
}

fn literal(text: &str) -> String {
    // Backslashes have no meaning in such a text: standard_conforming_strings is on by default.
    format!("'{}'", text.replace('\'', "''"))
}
