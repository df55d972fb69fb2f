//! A database brought back beside the one it replaces: roles first, then a fresh database filled by a role that may do
//! nothing else, owners and rights given back as they were noted, proved row for row, and only then swapped in by two
//! renames in one transaction. The old one is renamed, never dropped, and never read: it may be damaged. Each step can
//! be called again after a stop; [`Landing::stand`] says where it was. A database with a node's channel state is never
//! swapped in.

pub mod btcpay;
mod error;
mod make;
mod occupancy;
mod replay;
mod roles;
mod settle;

pub use error::RestoreError;
pub use make::{Made, create_database, create_roles};
pub use occupancy::{Occupancy, data_directory, is_there, occupancy};
pub use replay::{LeftOut, Replayed};
pub use roles::{Roles, restore_roles};
pub use settle::Unsettled;

use super::connect::{Server, Session, quote_name};
use super::hand::{Hand, Power, Standing};
use super::prove::{Proof, prove_at};
use super::{PostgresError, rights, survey};
use crate::base::ids::{Sha256Hex, SnapshotId};
use crate::base::interrupt::Interrupt;
use crate::facts::postgres::DatabaseFacts;
use occupancy::{exists, is_empty, sessions};
use std::io::Read;

/// Longest name of a database, in bytes (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;

/// One database that is restored beside its place.
#[derive(Clone, Debug)]
pub struct Landing<'a> {
    /// A database of the server that is not the one restored: `postgres`.
    pub server: &'a Server,
    /// The database.
    pub database: &'a str,
    /// The role that will own it, and all that is in it where the notes name no owners.
    pub owner: &'a str,
    /// The snapshot it comes from.
    pub snapshot: &'a SnapshotId,
    /// Which restore this is, interruptions included: another one's work is not ours, whatever the snapshot.
    pub run: &'a str,
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
}

/// How far one database has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// There is no fresh database.
    NotBegun,
    /// The fresh database is there and empty.
    Made,
    /// The fresh database is there, and a run was cut off while it filled it.
    Partial,
    /// The fresh database is filled, and owners and rights are given back.
    Filled,
    /// The database in the place is the restored one.
    Swapped,
}

/// A filled database that was proved; what [`Landing::swap`] asks for.
#[derive(Debug)]
pub struct Proved {
    fresh: String,
    /// The database's own comment.
    own: Option<String>,
    /// What was compared.
    pub proof: Proof,
}

/// What was swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The name that the database has now which was in the place, if there was one.
    pub replaced: Option<String>,
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
        format!("{}{what} from snapshot {} by run {}", rights::MARK, self.snapshot, self.run)
    }

    /// The server; what waits for it ends when somebody asks to stop.
    fn server(&self) -> Server {
        self.server.clone().stopping_at(self.interrupt)
    }

    fn session(&self) -> Result<Session, PostgresError> {
        self.server().connect()
    }

    /// While this is held, a role that is no superuser is a member of everybody that the restored things belong to:
    /// only then may it read, mark and rename them.
    fn joined(&self, facts: &DatabaseFacts) -> Result<Option<Hand>, RestoreError> {
        let owners = facts.rights.iter().flat_map(|rights| &rights.objects).map(|object| object.owner.as_str());
        self.joined_to(owners.chain([self.owner]))
    }

    fn joined_to<'o>(&self, owners: impl Iterator<Item = &'o str>) -> Result<Option<Hand>, RestoreError> {
        if Standing::of(&self.session()?)?.is_super {
            return Ok(None);
        }
        let mut hand = Hand::take(&self.server(), Power::Fill)?;
        hand.keeper_joins(owners)?;
        Ok(Some(hand))
    }

    /// Writes behind a database's own comment what it is to this restore.
    fn set_mark(&self, session: &Session, database: &str, own: Option<&str>, what: &str) -> Result<(), PostgresError> {
        session.execute("mark a database", &self.mark_sql(database, own, what))
    }

    fn mark_sql(&self, database: &str, own: Option<&str>, what: &str) -> String {
        let comment = rights::marked_comment(own, &self.mark(what));
        format!("COMMENT ON DATABASE {} IS {}", quote_name(database), literal(&comment))
    }

    /// How far an earlier run has come.
    pub fn stand(&self) -> Result<Stand, RestoreError> {
        let session = self.session()?;
        if mark(&session, self.database)?.as_deref() == Some(&self.mark("restored")) {
            return Ok(Stand::Swapped);
        }
        let fresh = self.fresh_name();
        if !exists(&session, &fresh)? {
            return Ok(Stand::NotBegun);
        }
        let mark = mark(&session, &fresh)?;
        if [self.mark("filled"), self.mark("proved")].iter().any(|known| mark.as_deref() == Some(known)) {
            return Ok(Stand::Filled);
        }
        let fresh = self.server().with_database(&fresh).connect()?;
        Ok(if is_empty(&fresh)? { Stand::Made } else { Stand::Partial })
    }

    /// Makes the fresh database as the facts say it was. One that is there and empty is taken; one that was left half
    /// filled is made anew.
    pub fn make(&self, like: &DatabaseFacts) -> Result<Made, RestoreError> {
        let session = self.session()?;
        check_owner_is_there(&session, self.owner)?;
        check_extensions(&session, like)?;
        let fresh = self.fresh_name();
        let mut stand = self.stand()?;
        if stand == Stand::Partial {
            self.discard()?;
            stand = Stand::NotBegun;
        }
        let made = match stand {
            Stand::NotBegun => create_database(&session, &fresh, like)?,
            Stand::Made => Made::default(),
            Stand::Partial | Stand::Filled | Stand::Swapped => return Ok(Made::default()),
        };
        self.set_mark(&session, &fresh, None, "being restored")?;
        Ok(made)
    }

    /// Fills the fresh database from a dump, and gives owners and rights back. Refuses one that is not empty. Where it
    /// fails, the database is half filled, and [`Landing::make`] makes it anew.
    pub fn fill(&self, facts: &DatabaseFacts, dump: &mut dyn Read) -> Result<Replayed, RestoreError> {
        let session = self.session()?;
        let fresh = self.fresh_name();
        if self.stand()? != Stand::Made {
            return Err(RestoreError::NotEmpty { database: fresh });
        }
        let replayed = fill_database(&self.server(), &fresh, self.owner, facts, dump)?;
        let _joined = self.joined(facts)?;
        let own = facts.rights.as_ref().and_then(|rights| rights.database.comment.as_deref());
        self.set_mark(&session, &fresh, own, "filled")?;
        // What our sessions left unwritten is on the disk before anybody relies on it.
        session.execute("write everything to the disk", "SELECT pg_catalog.txid_current()")?;
        Ok(replayed)
    }

    /// Gives back what belongs to the database itself, and compares the filled database with what was noted when it
    /// was dumped. Rows, sequences and large objects that differ are the proof's differences; views, owners, rights
    /// and parts that differ are unsettled.
    pub fn compare(&self, facts: &DatabaseFacts) -> Result<Proof, RestoreError> {
        let _joined = self.joined(facts)?;
        let fresh = self.fresh_name();
        let server = self.server().with_database(&fresh);
        let mut proof = prove_at(&server, facts)?;
        let session = server.connect()?;
        if let Some(noted) = &facts.rights {
            settle::database(&session, &fresh, self.owner, &noted.database)?;
            proof.unsettled.extend(settle::compare(&session, &fresh, facts)?);
        } else {
            let owner = self.owner;
            let why = format!("owners and rights: the notes do not have them, so everything should be {owner}'s");
            proof.not_compared.push(why);
        }
        check_owner(&session, self.owner, &mut proof)?;
        Ok(proof)
    }

    /// [`Landing::compare`], and the mark of a database that may be put into service. Rows, sequences or large objects
    /// that differ are an error, and so is a node's channel state, whatever the notes say.
    pub fn prove(&self, facts: &DatabaseFacts) -> Result<Proved, RestoreError> {
        let toxic = |tables: Vec<String>| match tables.is_empty() {
            true => Ok(()),
            false => Err(RestoreError::Toxic { database: self.database.to_owned(), tables }),
        };
        toxic(facts.channel_tables.clone())?;
        let fresh = self.fresh_name();
        // By what is in it, too: the notes are the word of whoever wrote the snapshot.
        let inside = self.server().with_database(&fresh).connect()?;
        toxic(survey::recognise(&survey::tables(&inside)?).channel_tables)?;
        drop(inside);
        let proof = self.compare(facts)?;
        if !proof.is_equal() {
            return Err(RestoreError::Differs { database: self.database.to_owned(), differences: proof.differences });
        }
        let own = facts.rights.as_ref().and_then(|rights| rights.database.comment.as_deref());
        let _joined = self.joined(facts)?;
        // What is burnt in it afterwards no longer equals the notes: a run that goes on reads that it once did.
        self.set_mark(&self.session()?, &fresh, own, "proved")?;
        Ok(Proved { fresh, own: own.map(str::to_owned), proof })
    }

    /// The proof of an earlier run, by the mark that only [`Landing::prove`] leaves; nothing of what was compared is
    /// known any more.
    pub fn proved_before(&self) -> Result<Option<Proved>, RestoreError> {
        let session = self.session()?;
        let fresh = self.fresh_name();
        let comment = comment(&session, &fresh)?.unwrap_or_default();
        let is_marked = rights::mark_of(&comment) == Some(&self.mark("proved"));
        let own = rights::own_comment(&comment);
        Ok(is_marked.then(|| Proved { fresh, own, proof: Proof::default() }))
    }

    /// Puts a proved database into the place. Both renames happen in one transaction; while anybody is connected to
    /// either database nothing happens.
    pub fn swap(&self, proved: Proved) -> Result<Swapped, RestoreError> {
        let session = self.session()?;
        let _joined = self.joined_to(std::iter::once(self.owner))?;
        if proved.fresh != self.fresh_name() {
            return Err(RestoreError::NotProved { database: self.database.to_owned() });
        }
        // Another restore may have dropped it since and be filling its own under the same name.
        if mark(&session, &proved.fresh)?.as_deref() != Some(&self.mark("proved")) {
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
        sql.push_str(&format!("{}; COMMIT", self.mark_sql(self.database, proved.own.as_deref(), "restored")));
        session.execute("swap the databases", &sql)?;
        Ok(Swapped { replaced: there.then_some(replaced) })
    }

    /// Whether the fresh database is what another restore of this snapshot left: nobody knows what became of it since.
    pub fn is_left_over(&self) -> Result<bool, RestoreError> {
        let mark = mark(&self.session()?, &self.fresh_name())?;
        let ours = ["being restored", "filled", "proved"].map(|what| self.mark(what));
        Ok(mark.is_some_and(|mark| !ours.contains(&mark)))
    }

    /// Drops the fresh database, which is ours alone: one without our mark stays and is an error.
    pub fn discard(&self) -> Result<(), RestoreError> {
        let session = self.session()?;
        let fresh = self.fresh_name();
        if !exists(&session, &fresh)? {
            return Ok(());
        }
        if mark(&session, &fresh)?.is_none() {
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

/// Fills an empty database, which is handed to the role that runs what the dump brings meanwhile, and gives owners and
/// rights back. `server` is another database.
pub fn fill_database(
    server: &Server,
    database: &str,
    owner: &str,
    facts: &DatabaseFacts,
    dump: &mut dyn Read,
) -> Result<Replayed, RestoreError> {
    let admin = server.with_database(database);
    let mut hand = Hand::take(server, Power::Fill)?;
    let belongs_to = |hand: &Hand, role: &str| {
        let sql = format!("ALTER DATABASE {} OWNER TO {}", quote_name(database), quote_name(role));
        hand.keeper().execute("hand a database over", &sql)
    };
    hand.open_for_filling(&admin.connect()?, database)?;
    let replayed = replay::replay(&hand, &admin, facts, dump)?;
    // From here on no session is left that runs what the dump brought.
    hand.end_sessions()?;
    let owners = facts.rights.iter().flat_map(|rights| &rights.objects).map(|object| object.owner.as_str());
    hand.keeper_joins(owners.chain([owner]))?;
    belongs_to(&hand, owner)?;
    let inside = admin.connect()?;
    match &facts.rights {
        Some(noted) => settle::settle(&inside, hand.role(), owner, noted)?,
        None => settle::all_to_owner(&inside, hand.role(), owner)?,
    }
    Ok(replayed)
}

/// Owners, rights and parts of a database that are not as they were noted.
pub fn compare_rights(server: &Server, facts: &DatabaseFacts) -> Result<Vec<Unsettled>, RestoreError> {
    Ok(settle::compare(&server.connect()?, server.database(), facts)?)
}

fn comment(session: &Session, database: &str) -> Result<Option<String>, PostgresError> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let rows = session.query("ask for a database's comment", sql, &[&database])?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// What a database is to a restore, ours or another.
fn mark(session: &Session, database: &str) -> Result<Option<String>, PostgresError> {
    Ok(comment(session, database)?.and_then(|comment| rights::mark_of(&comment).map(str::to_owned)))
}

fn check_owner_is_there(session: &Session, owner: &str) -> Result<(), RestoreError> {
    let rows = session.query("ask for a role", "SELECT FROM pg_roles WHERE rolname = $1", &[&owner])?;
    match rows.is_empty() {
        true => Err(RestoreError::NoOwner { role: owner.to_owned() }),
        false => Ok(()),
    }
}

/// Refuses before anything is made what would fail in the middle: extensions that are not installed here, or that only
/// a superuser may create, where we come as none.
fn check_extensions(session: &Session, like: &DatabaseFacts) -> Result<(), RestoreError> {
    let row = session.query_one(
        "ask for the role's rights",
        "SELECT rolsuper, rolname::text FROM pg_roles WHERE rolname = session_user",
        &[],
    )?;
    let (is_super, role): (bool, String) = (row.get(0), row.get(1));
    for extension in like.extensions.iter().filter(|extension| extension.name != "plpgsql") {
        let sql = "SELECT bool_or(trusted OR NOT superuser) FROM pg_available_extension_versions WHERE name = $1";
        let row = session.query_one("look for an extension", sql, &[&extension.name])?;
        let extension = extension.name.clone();
        match row.get::<_, Option<bool>>(0) {
            None => return Err(RestoreError::NoExtension { extension }),
            Some(false) if !is_super => return Err(RestoreError::Untrusted { extension, role }),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Nothing may still be the role's that filled the database, and the database is its owner's.
fn check_owner(session: &Session, owner: &str, proof: &mut Proof) -> Result<(), PostgresError> {
    let sql = "SELECT pg_get_userbyid(datdba)::text, \
            (SELECT count(*) FROM pg_class c WHERE pg_get_userbyid(c.relowner) = $1)
        FROM pg_database WHERE datname = current_database()";
    let row = session.query_one("ask whose everything is", sql, &[&super::hand::ROLE])?;
    let mut expect = |what: &str, expected: String, found: String, statement: Option<String>| {
        if expected != found {
            proof.unsettled.push(Unsettled { what: what.to_owned(), expected, found, statement });
        }
    };
    expect("the owner of the database", owner.to_owned(), row.get(0), None);
    let give = format!("REASSIGN OWNED BY {} TO the application's role", super::hand::ROLE);
    let what = "the number of relations that stay with the role that restores";
    expect(what, "0".to_owned(), row.get::<_, i64>(1).to_string(), Some(give));
    Ok(())
}

pub(super) fn literal(text: &str) -> String {
    // Backslashes have no meaning in such a text: standard_conforming_strings is on by default.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests;
