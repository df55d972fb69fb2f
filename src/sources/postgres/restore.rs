//! A database brought back beside the one it replaces: roles first, then a fresh database filled in one transaction,
//! proved row for row, and only then swapped in by two renames in one transaction. The old one is renamed, never
//! dropped. Each step can be called again after a stop; [`Landing::stand`] says where it was. A database with a node's
//! channel state is never swapped in.

pub mod btcpay;
mod error;
mod feed;
mod make;
mod roles;

pub use error::RestoreError;
pub use feed::feed;
pub use make::{Made, create_database, create_roles};
pub use roles::{Roles, restore_roles};

use super::connect::{PROGRAM, Server, Session, quote_name};
use super::prove::{Proof, prove_at};
use super::{PostgresError, programs, survey};
use crate::base::ids::{Sha256Hex, SnapshotId};
use crate::base::interrupt::Interrupt;
use crate::facts::postgres::DatabaseFacts;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How the comments begin that say what a database is to a restore.
const MARK: &str = "relay-backup: ";
/// Longest name of a database, in bytes (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;
/// How long a server may take to notice that a session was closed: a busy machine gives it no time at once.
const ENDING_MAX: Duration = Duration::from_secs(3);
/// Pause between two looks at who is connected.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One database that is restored beside its place.
#[derive(Clone, Debug)]
pub struct Landing<'a> {
    /// A database of the server that is not the one restored: `postgres`.
    pub server: &'a Server,
    /// The database.
    pub database: &'a str,
    /// The role that will own it and all that is in it.
    pub owner: &'a str,
    /// The snapshot it comes from.
    pub snapshot: &'a SnapshotId,
    /// Which restore this is, interruptions included: another one's work is not ours, whatever the snapshot.
    pub run: &'a str,
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
    /// `pg_restore`, where it is not to be looked for.
    pub pg_restore: Option<&'a Path>,
}

/// How far one database has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// There is no fresh database.
    NotBegun,
    /// The fresh database is there and empty.
    Made,
    /// The fresh database is filled: whole, because it is filled in one transaction.
    Filled,
    /// The database in the place is the restored one.
    Swapped,
}

/// A filled database that was proved; what [`Landing::swap`] asks for.
#[derive(Debug)]
pub struct Proved {
    fresh: String,
    /// What was compared.
    pub proof: Proof,
}

/// What was swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The name that the database has now which was in the place, if there was one.
    pub replaced: Option<String>,
}

/// What is in the place of a database that is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Its size on the server's disk in bytes.
    pub size_bytes: u64,
    /// Its tables.
    pub tables: u64,
    /// Those that hold at least one row.
    pub tables_with_rows: u64,
    /// Tables of a node's channel state.
    pub channel_tables: Vec<String>,
    /// Who is connected to it: role, program and process.
    pub sessions: Vec<String>,
}

impl Landing<'_> {
    /// The name of the fresh database.
    pub fn fresh_name(&self) -> String {
        named(self.database, self.snapshot, "restoring")
    }

    /// The name that the database in the place gets.
    pub fn replaced_name(&self) -> String {
        Self::replaced_name_of(self.database, self.snapshot)
    }

    /// The name that a database in the place gets when this snapshot's takes it.
    pub fn replaced_name_of(database: &str, snapshot: &SnapshotId) -> String {
        named(database, snapshot, "replaced")
    }

    fn mark(&self, what: &str) -> String {
        format!("{MARK}{what} from snapshot {} by run {}", self.snapshot, self.run)
    }

    /// How far an earlier run has come.
    pub fn stand(&self) -> Result<Stand, RestoreError> {
        let session = self.server.connect()?;
        if comment(&session, self.database)?.as_deref() == Some(&self.mark("restored")) {
            return Ok(Stand::Swapped);
        }
        if !exists(&session, &self.fresh_name())? {
            return Ok(Stand::NotBegun);
        }
        let fresh = self.server.with_database(&self.fresh_name()).connect()?;
        Ok(if is_empty(&fresh)? { Stand::Made } else { Stand::Filled })
    }

    /// Makes the fresh database as the facts say it was, owned by the owner. One that is there and empty is taken.
    pub fn make(&self, like: &DatabaseFacts) -> Result<Made, RestoreError> {
        let session = self.server.connect()?;
        check_extensions(&session, like, self.owner)?;
        let fresh = self.fresh_name();
        let made = match self.stand()? {
            Stand::NotBegun => create_database(&session, &fresh, Some(self.owner), like)?,
            Stand::Made => Made::default(),
            Stand::Filled | Stand::Swapped => return Ok(Made::default()),
        };
        let mark = format!("COMMENT ON DATABASE {} IS {}", quote_name(&fresh), literal(&self.mark("being restored")));
        session.execute("mark the fresh database", &mark)?;
        Ok(made)
    }

    /// Fills the fresh database from a dump: all of it or nothing. Refuses one that is not empty.
    pub fn fill(&self, dump: &mut dyn Read) -> Result<(), RestoreError> {
        let session = self.server.connect()?;
        if self.stand()? != Stand::Made {
            return Err(RestoreError::NotEmpty { database: self.fresh_name() });
        }
        let program = match self.pg_restore {
            Some(program) => PathBuf::from(program),
            None => programs::for_server("pg_restore", survey::server_version(&session)?.major())?,
        };
        drop(session);
        feed(&program, &self.server.with_database(&self.fresh_name()), Some(self.owner), dump, self.interrupt)
    }

    /// Compares the filled database with what was noted when it was dumped: rows, sequences, views, large objects,
    /// extensions, owner. Anything that differs is an error.
    pub fn prove(&self, facts: &DatabaseFacts) -> Result<Proved, RestoreError> {
        if !facts.channel_tables.is_empty() {
            let database = self.database.to_owned();
            return Err(RestoreError::Toxic { database, tables: facts.channel_tables.clone() });
        }
        let fresh = self.fresh_name();
        let server = self.server.with_database(&fresh);
        let mut proof = prove_at(&server, facts)?;
        let session = server.connect()?;
        // By what is in it, too: the notes are the word of whoever wrote the snapshot.
        let tables = survey::recognise(&survey::tables(&session)?).channel_tables;
        if !tables.is_empty() {
            return Err(RestoreError::Toxic { database: self.database.to_owned(), tables });
        }
        for extension in &facts.extensions {
            let sql = "SELECT extversion FROM pg_extension WHERE extname = $1";
            let found = session.query("ask for an extension", sql, &[&extension.name])?;
            match found.first().map(|row| row.get::<_, String>(0)) {
                None => proof.expect(
                    format!("extension {}", extension.name),
                    extension.version.clone(),
                    "no such extension".into(),
                ),
                Some(version) if version != extension.version => proof
                    .not_compared
                    .push(format!("extension {} is {version} here and was {}", extension.name, extension.version)),
                Some(_) => {}
            }
        }
        check_owner(&session, self.owner, &mut proof)?;
        if !proof.is_equal() {
            return Err(RestoreError::Differs { database: self.database.to_owned(), differences: proof.differences });
        }
        // What is burnt in it afterwards no longer equals the notes: a run that goes on reads that it once did.
        let mark = format!("COMMENT ON DATABASE {} IS {}", quote_name(&fresh), literal(&self.mark("proved")));
        session.execute("mark the proved database", &mark)?;
        Ok(Proved { fresh, proof })
    }

    /// The proof of an earlier run, by the mark that only [`Landing::prove`] leaves; nothing of what was compared is
    /// known any more.
    pub fn proved_before(&self) -> Result<Option<Proved>, RestoreError> {
        let session = self.server.connect()?;
        let fresh = self.fresh_name();
        let is_marked = comment(&session, &fresh)?.as_deref() == Some(&self.mark("proved"));
        Ok(is_marked.then(|| Proved { fresh, proof: Proof::default() }))
    }

    /// Puts a proved database into the place. Both renames happen in one transaction; while anybody is connected to
    /// either database nothing happens.
    pub fn swap(&self, proved: Proved) -> Result<Swapped, RestoreError> {
        let session = self.server.connect()?;
        if proved.fresh != self.fresh_name() {
            return Err(RestoreError::NotProved { database: self.database.to_owned() });
        }
        // Another restore may have dropped it since and be filling its own under the same name.
        if comment(&session, &proved.fresh)?.as_deref() != Some(&self.mark("proved")) {
            return Err(RestoreError::NotProved { database: self.database.to_owned() });
        }
        for database in [self.database, &proved.fresh] {
            let sessions = sessions(&session, database)?;
            if !sessions.is_empty() {
                return Err(RestoreError::InUse { database: database.to_owned(), sessions });
            }
        }
        let replaced = self.replaced_name();
        let there = exists(&session, self.database)?;
        if there && exists(&session, &replaced)? {
            return Err(RestoreError::Taken { database: replaced });
        }
        let (place, fresh) = (quote_name(self.database), quote_name(&proved.fresh));
        let mut sql = "BEGIN; ".to_owned();
        if there {
            sql.push_str(&format!("ALTER DATABASE {place} RENAME TO {}; ", quote_name(&replaced)));
        }
        sql.push_str(&format!("ALTER DATABASE {fresh} RENAME TO {place}; "));
        sql.push_str(&format!("COMMENT ON DATABASE {place} IS {}; COMMIT", literal(&self.mark("restored"))));
        session.execute("swap the databases", &sql)?;
        Ok(Swapped { replaced: there.then_some(replaced) })
    }

    /// Whether the fresh database is what another restore of this snapshot left: nobody knows what became of it since.
    pub fn is_left_over(&self) -> Result<bool, RestoreError> {
        let mark = comment(&self.server.connect()?, &self.fresh_name())?;
        let ours = [self.mark("being restored"), self.mark("proved")];
        Ok(mark.is_some_and(|mark| mark.starts_with(MARK) && !ours.contains(&mark)))
    }

    /// Drops the fresh database, which is ours alone: one without our mark stays and is an error.
    pub fn discard(&self) -> Result<(), RestoreError> {
        let session = self.server.connect()?;
        let fresh = self.fresh_name();
        if !exists(&session, &fresh)? {
            return Ok(());
        }
        if !comment(&session, &fresh)?.is_some_and(|mark| mark.starts_with(MARK)) {
            return Err(RestoreError::NotEmpty { database: fresh });
        }
        Ok(session.execute("drop the fresh database", &format!("DROP DATABASE {}", quote_name(&fresh)))?)
    }
}

/// A name beside a database's own, short enough for PostgreSQL.
fn named(database: &str, snapshot: &SnapshotId, what: &str) -> String {
    let label = snapshot.as_str().to_ascii_lowercase().replace('-', "_");
    let ending = format!("_{what}_{label}");
    if database.len() + ending.len() <= NAME_BYTES_MAX {
        return format!("{database}{ending}");
    }
    // Two long names that begin alike must not become one.
    let digest = Sha256Hex::of(database.as_bytes());
    let digest = digest.as_str().get(..8).unwrap_or_default();
    let room = NAME_BYTES_MAX - ending.len() - digest.len() - 1;
    let end = (0..=room).rev().find(|at| database.is_char_boundary(*at)).unwrap_or(0);
    format!("{}_{digest}{ending}", database.get(..end).unwrap_or_default())
}

/// What is in the place of a database; `None` where there is none.
pub fn occupancy(server: &Server, database: &str) -> Result<Option<Occupancy>, RestoreError> {
    let session = server.connect()?;
    if !exists(&session, database)? {
        return Ok(None);
    }
    // Before our own connection to it, which would be counted.
    let sessions = sessions(&session, database)?;
    let session = server.with_database(database).connect()?;
    let tables = survey::tables(&session)?;
    let mut with_rows = 0;
    for table in &tables {
        let sql = format!("SELECT EXISTS (SELECT FROM {}.{})", quote_name(&table.schema), quote_name(&table.name));
        with_rows += u64::from(session.query_one("look for rows", &sql, &[])?.get::<_, bool>(0));
    }
    let size = session.query_one("ask for the size", "SELECT pg_database_size(current_database())", &[])?;
    Ok(Some(Occupancy {
        size_bytes: size.get::<_, i64>(0).unsigned_abs(),
        tables: tables.len() as u64,
        tables_with_rows: with_rows,
        channel_tables: survey::recognise(&tables).channel_tables,
        sessions,
    }))
}

/// Where the server keeps its data, for a look at the room there; `None` where the role may not ask.
pub fn data_directory(server: &Server) -> Result<Option<PathBuf>, RestoreError> {
    let sql = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
    let rows = server.connect()?.query("ask for the data directory", sql, &[])?;
    Ok(rows.first().and_then(|row| row.get::<_, Option<String>>(0)).map(PathBuf::from))
}

fn exists(session: &Session, database: &str) -> Result<bool, PostgresError> {
    let sql = "SELECT FROM pg_database WHERE datname = $1";
    Ok(!session.query("look for a database", sql, &[&database])?.is_empty())
}

fn comment(session: &Session, database: &str) -> Result<Option<String>, PostgresError> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let rows = session.query("ask for a database's comment", sql, &[&database])?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Who is connected to a database. Sessions that this program has closed are gone from the server's list a moment
/// later: as long as there are only such, they get that moment.
fn sessions(session: &Session, database: &str) -> Result<Vec<String>, PostgresError> {
    let sql = "SELECT coalesce(usename::text, 'a role'), application_name, pid FROM pg_stat_activity
        WHERE datname = $1 AND pid <> pg_backend_pid() ORDER BY pid";
    let begin = Instant::now();
    let rows = loop {
        let rows = session.query("ask who is connected", sql, &[&database])?;
        let is_ours = |row: &tokio_postgres::Row| row.get::<_, Option<&str>>(1) == Some(PROGRAM);
        if rows.is_empty() || !rows.iter().all(is_ours) || begin.elapsed() > ENDING_MAX {
            break rows;
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let tell = |row: &tokio_postgres::Row| {
        let (role, program, pid): (String, Option<String>, i32) = (row.get(0), row.get(1), row.get(2));
        let program = program.filter(|name| !name.is_empty()).unwrap_or_else(|| "a program".to_owned());
        format!("{role} by {program} (process {pid})")
    };
    Ok(rows.iter().map(tell).collect())
}

/// Whether nothing was put into a database since it was made.
fn is_empty(session: &Session) -> Result<bool, PostgresError> {
    let sql = r"WITH own AS (SELECT oid FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema')
        SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_type WHERE typnamespace IN (SELECT oid FROM own))
            AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
            AND (SELECT count(*) FROM own) <= 1";
    Ok(session.query_one("look whether the database is empty", sql, &[])?.get(0))
}

/// Refuses before anything is made what would fail in the middle: extensions that are not installed here, or that only
/// a superuser may create, who is not the owner.
fn check_extensions(session: &Session, like: &DatabaseFacts, owner: &str) -> Result<(), RestoreError> {
    let owner_rows = session.query("ask for a role", "SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&owner])?;
    let Some(row) = owner_rows.first() else { return Err(RestoreError::NoOwner { role: owner.to_owned() }) };
    let is_super: bool = row.get(0);
    for extension in like.extensions.iter().filter(|extension| extension.name != "plpgsql") {
        let sql = "SELECT bool_or(trusted OR NOT superuser) FROM pg_available_extension_versions WHERE name = $1";
        let row = session.query_one("look for an extension", sql, &[&extension.name])?;
        let extension = extension.name.clone();
        match row.get::<_, Option<bool>>(0) {
            None => return Err(RestoreError::NoExtension { extension }),
            Some(false) if !is_super => {
                return Err(RestoreError::Untrusted { extension, owner: owner.to_owned() });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Everything in the database must be its owner's; what an extension brought may be another's.
fn check_owner(session: &Session, owner: &str, proof: &mut Proof) -> Result<(), PostgresError> {
    let sql = r"SELECT pg_get_userbyid(datdba)::text,
            (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
                    AND pg_get_userbyid(c.relowner) <> $1
                    AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
        FROM pg_database WHERE datname = current_database()";
    let row = session.query_one("ask whose everything is", sql, &[&owner])?;
    proof.expect("the database's owner", owner.to_owned(), row.get(0));
    proof.expect("relations of another owner", "0".to_owned(), row.get::<_, i64>(1).to_string());
    Ok(())
}

fn literal(text: &str) -> String {
    // Backslashes have no meaning in such a text: standard_conforming_strings is on by default.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests;
