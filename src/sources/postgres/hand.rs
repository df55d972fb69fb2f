//! The role that touches what others wrote. Statements, rows and expressions of a dump are a stranger's: a constraint,
//! a default, an index or a view can call any function, in the session that happens to be there. So no session with
//! the rights of a superuser, real or to be had by becoming another role, runs any of them: they run in sessions of a
//! role that is made for the work, may do nothing beyond the one database, is a member of nothing that could, and has
//! a password that this process alone knows, for as long as the work lasts. What it raises stays out of the server's
//! log, where a server lets us say so. Only statements of our own, with names that the server quoted, run with more
//! rights.

use super::PostgresError;
use super::connect::{Server, Session, quote_name};
use super::restore::{RestoreError, literal};
use super::rights::{LEADS_FURTHER, MARK};
use crate::base::interrupt::Interrupt;
use crate::base::secret::Secret;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// The role's name. It is fixed, so that a line of pg_hba.conf can name it.
pub(super) const ROLE: &str = "relay_backup_restoring";
/// The advisory lock that whoever uses the role holds: the eight letters "relayrst".
const LOCK: i64 = 0x7265_6c61_7972_7374;
/// How long another restore on the same server is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(120);
/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Length of the password before it is written out, in bytes.
const PASSWORD_BYTES: usize = 32;
/// What keeps the role's errors, and with them rows, out of the server's log. Only a superuser may set these.
const QUIET: [&str; 8] = [
    "log_min_messages = panic",
    "log_min_error_statement = panic",
    "log_statement = none",
    "log_min_duration_statement = -1",
    "log_min_duration_sample = -1",
    "log_transaction_sample_rate = 0",
    "log_duration = off",
    "log_lock_waits = off",
];
/// What the role may do beyond what it makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// Nothing: it fills a database that it owns meanwhile.
    Fill,
    /// Read and change rows of a database that is somebody else's.
    Rows,
}

/// The role, for as long as this is held.
#[derive(Debug)]
pub(super) struct Hand {
    /// Holds the lock.
    keeper: Session,
    server: Server,
    role: String,
    /// Whether it was made, and is not the role that we came as.
    is_made: bool,
    is_super: bool,
    /// Databases it was let into.
    granted: Vec<String>,
    /// Roles that the one we came as was made a member of.
    joined: Vec<String>,
}

/// What the role that we came as may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// It is a superuser.
    pub(super) is_super: bool,
    /// It may make roles.
    pub(super) makes_roles: bool,
    /// It can come to a superuser's rights by becoming another role.
    pub(super) leads_further: bool,
}

impl Standing {
    pub(super) fn of(session: &Session) -> Result<Self, PostgresError> {
        let sql = format!(
            "SELECT u.rolsuper, u.rolcreaterole, \
                EXISTS (SELECT FROM pg_roles r WHERE ({LEADS_FURTHER}) AND pg_has_role(u.oid, r.oid, 'MEMBER'))
             FROM pg_roles u WHERE u.rolname = session_user"
        );
        let row = session.query_one("ask for the role's rights", &sql, &[])?;
        Ok(Self { is_super: row.get(0), makes_roles: row.get(1), leads_further: row.get(2) })
    }

    /// Whether its own sessions may run what a stranger wrote. Who may make roles of an older server can make itself a
    /// member of anything that is no superuser's.
    fn is_harmless(self, major: u32) -> bool {
        let can_join_anything = self.makes_roles && major < 16;
        !(self.is_super || self.leads_further || can_join_anything)
    }
}

impl Hand {
    /// Takes the role. `server` is a database that is not the one worked on.
    pub(super) fn take(server: &Server, power: Power) -> Result<Self, RestoreError> {
        // It also tidies up after somebody asked to stop.
        let keeper = server.clone().stopping_at(&Interrupt::new()).connect()?;
        let standing = Standing::of(&keeper)?;
        if !standing.is_super && !standing.makes_roles {
            if !standing.is_harmless(keeper.major()) {
                return Err(RestoreError::NoHand { role: server.user().to_owned() });
            }
            let role = server.user().to_owned();
            return Ok(Self::new(keeper, server.clone(), role, false, standing));
        }
        lock(&keeper, server)?;
        let password = password()?;
        let hand = Self::new(keeper, server.as_role(ROLE, password.0), ROLE.to_owned(), true, standing);
        hand.make(&password.1, standing)?;
        if power == Power::Rows {
            hand.may_change_rows();
        }
        Ok(hand)
    }

    fn new(keeper: Session, server: Server, role: String, is_made: bool, standing: Standing) -> Self {
        let is_super = standing.is_super;
        Self { keeper, server, role, is_made, is_super, granted: Vec::new(), joined: Vec::new() }
    }

    /// Makes the role that we came as a member of others for as long as the hand is held, so that it can hand things
    /// over to them. A superuser needs none of that; where it may not be done, what cannot be handed over is named.
    pub(super) fn keeper_joins<'o>(&mut self, owners: impl Iterator<Item = &'o str>) -> Result<(), PostgresError> {
        if self.is_super {
            return Ok(());
        }
        let owners: std::collections::BTreeSet<&str> = owners.collect();
        for owner in owners {
            let sql = "SELECT pg_has_role(session_user, o.oid, 'MEMBER') FROM pg_roles o WHERE o.rolname = $1";
            let found = self.keeper.query("look for a membership", sql, &[&owner])?;
            if found.first().is_some_and(|row| !row.get::<_, bool>(0)) {
                let owner = quote_name(owner);
                if self.attempt(&format!("GRANT {owner} TO CURRENT_USER")) {
                    self.joined.push(owner);
                }
            }
        }
        Ok(())
    }

    fn make(&self, verifier: &str, standing: Standing) -> Result<(), RestoreError> {
        let role = quote_name(&self.role);
        let sql = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1";
        let there = self.keeper.query("look for a role", sql, &[&self.role])?;
        let ours = |row: &tokio_postgres::Row| row.get::<_, Option<&str>>(0).is_some_and(|text| text.starts_with(MARK));
        match there.first() {
            None => self.keeper.execute("make the role that restores", &format!("CREATE ROLE {role} NOLOGIN"))?,
            Some(row) if ours(row) => self.end_sessions()?,
            Some(_) => return Err(RestoreError::RoleTaken { role: self.role.clone() }),
        }
        let mut sql = format!(
            "COMMENT ON ROLE {role} IS {}; ALTER ROLE {role} WITH NOCREATEDB NOCREATEROLE INHERIT LOGIN
             CONNECTION LIMIT 8 PASSWORD {}",
            literal(&format!("{MARK}runs what a dump brings, while a restore lasts")),
            literal(verifier)
        );
        if standing.is_super {
            // The log would keep the verifier.
            sql = format!(
                "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
                    {sql} NOSUPERUSER NOREPLICATION BYPASSRLS"
            );
        }
        self.keeper.execute("set up the role that restores", &sql)?;
        let memberships =
            "SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE pg_get_userbyid(member) = $1";
        for row in self.keeper.query("look what the role is a member of", memberships, &[&self.role])? {
            let revoke = format!("REVOKE {} FROM {role}", quote_name(row.get(0)));
            self.keeper.execute("take a membership from the role that restores", &revoke)?;
        }
        if standing.is_super {
            for setting in QUIET {
                // A server that does not know one of them does without.
                self.attempt(&format!("ALTER ROLE {role} SET {setting}"));
            }
        } else {
            // So that a database can be handed to it and back. As a superuser that needs nothing.
            self.attempt(&format!("GRANT {role} TO CURRENT_USER"));
        }
        Ok(())
    }

    /// Rows of others: by the roles that servers have for it since version 14, before that by being one of the owners.
    fn may_change_rows(&self) {
        let role = quote_name(&self.role);
        if self.keeper.major() >= 14 {
            self.attempt(&format!("GRANT pg_read_all_data, pg_write_all_data TO {role}"));
        }
    }

    /// Whether the role has the rights of [`Hand::may_change_rows`].
    fn reads_everything(&self) -> bool {
        self.is_super && self.keeper.major() >= 14
    }

    /// Makes the role a member of others, as far as these lead nowhere.
    pub(super) fn be_member_of<'o>(&self, owners: impl Iterator<Item = &'o str>) -> Result<(), PostgresError> {
        if !self.is_made {
            return Ok(());
        }
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_roles r WHERE ({LEADS_FURTHER} OR r.rolcreaterole OR r.rolname LIKE 'pg\\_%')
                AND pg_has_role(o.oid, r.oid, 'MEMBER')) FROM pg_roles o WHERE o.rolname = $1"
        );
        for owner in owners {
            let found = self.keeper.query("look where a role leads", &sql, &[&owner])?;
            if found.first().is_some_and(|row| !row.get::<_, bool>(0)) {
                self.attempt(&format!("GRANT {} TO {}", quote_name(owner), quote_name(&self.role)));
            }
        }
        Ok(())
    }

    /// What helps and may fail.
    fn attempt(&self, sql: &str) -> bool {
        let done = self.keeper.execute("set up the role that restores", sql);
        if let Err(error) = &done {
            tracing::debug!(%error, "the role that restores does without");
        }
        done.is_ok()
    }

    /// The role's name.
    pub(super) fn role(&self) -> &str {
        &self.role
    }

    /// A session of the role that we came as, for statements of our own.
    pub(super) fn keeper(&self) -> &Session {
        &self.keeper
    }

    /// Lets the role make things in an empty database, without giving it the database: its owner could write the mark
    /// that tells a proved one. `inside` is a session of the role that we came as, in that database.
    pub(super) fn open_for_filling(&self, inside: &Session, database: &str) -> Result<(), PostgresError> {
        if !self.is_made {
            return Ok(());
        }
        let (role, database) = (quote_name(&self.role), quote_name(database));
        let doing = "let the role that restores make things";
        inside.execute(doing, &format!("GRANT ALL ON DATABASE {database} TO {role}"))?;
        // Up to version 14 everybody may make things there, and it belongs to a superuser.
        if let Err(error) = inside.execute(doing, &format!("ALTER SCHEMA public OWNER TO {role}")) {
            tracing::debug!(%error, "the schema public stays whose it is");
        }
        Ok(())
    }

    /// Lets the role into a database that may be closed to everybody.
    pub(super) fn let_into(&mut self, database: &str) {
        if self.is_made {
            let database = quote_name(database);
            self.attempt(&format!("GRANT CONNECT ON DATABASE {database} TO {}", quote_name(&self.role)));
            self.granted.push(database);
        }
    }

    /// The server with this database, as the role, by a way on which the server lets it in.
    pub(super) fn server(&self, database: &str) -> Result<Server, RestoreError> {
        let server = self.server.with_database(database);
        let refused = |error: &PostgresError| {
            let codes = [SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INVALID_PASSWORD];
            matches!(error, PostgresError::Connect { source,
                .. } if source.code().is_some_and(|code| codes.contains(code)))
        };
        match server.connect() {
            Ok(_) => Ok(server),
            // The socket often asks for a user of the system's with the role's name; over loopback a password does.
            Err(error) if self.is_made && refused(&error) => match server.over_loopback() {
                Some(other) if other.connect().is_ok() => Ok(other),
                _ => Err(RestoreError::NotLetIn { role: self.role.clone(), source: error }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Ends every session of the role; an error where one does not end.
    pub(super) fn end_sessions(&self) -> Result<(), RestoreError> {
        if !self.is_made {
            return Ok(());
        }
        let role = quote_name(&self.role);
        self.keeper.execute("close the role that restores", &format!("ALTER ROLE {role} NOLOGIN"))?;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1";
        let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let begin = Instant::now();
        loop {
            self.keeper.query("end the sessions of the role that restores", end, &[&self.role])?;
            let row = self.keeper.query_one("count the sessions of the role that restores", left, &[&self.role])?;
            if row.get::<_, i64>(0) == 0 {
                return Ok(());
            }
            if begin.elapsed() > LOCK_WAIT {
                return Err(RestoreError::StillOpen { role: self.role.clone() });
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        for owner in &self.joined {
            self.attempt(&format!("REVOKE {owner} FROM CURRENT_USER"));
        }
        if !self.is_made {
            return;
        }
        let role = quote_name(&self.role);
        if let Err(error) = self.end_sessions() {
            tracing::warn!(%error, "the role that restores is still open");
        }
        for database in &self.granted {
            self.attempt(&format!("REVOKE CONNECT ON DATABASE {database} FROM {role}"));
        }
        // Where it owns something, in a database that was left half restored, it stays, without a password.
        self.attempt(&format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL"));
        self.attempt(&format!("DROP ROLE {role}"));
    }
}

/// A new password and what a server keeps of it.
fn password() -> Result<(Secret, String), RestoreError> {
    let mut bytes = zeroize::Zeroizing::new([0; PASSWORD_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| PostgresError::Runtime { source: std::io::Error::other(error) })?;
    let password = Secret::from(hex::encode(*bytes));
    let verifier = postgres_protocol::password::scram_sha_256(password.expose());
    Ok((password, verifier))
}

/// Waits for the lock; another restore on this server may hold it.
fn lock(session: &Session, server: &Server) -> Result<(), RestoreError> {
    let begin = Instant::now();
    loop {
        let row = session.query_one("wait for another restore", "SELECT pg_try_advisory_lock($1)", &[&LOCK])?;
        if row.get(0) {
            return Ok(());
        }
        if begin.elapsed() > LOCK_WAIT {
            return Err(RestoreError::Busy);
        }
        if server.interrupt().is_set() {
            return Err(RestoreError::Interrupted { database: server.database().to_owned() });
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

/// A session in a database that others wrote, for queries that the server plans: those look at expressions of its
/// tables and may run their functions. Where we came with more rights, it is one of the role.
#[derive(Debug)]
pub(super) struct Careful {
    pub(super) session: Session,
    /// Kept until the session is over.
    _hand: Option<Hand>,
}

impl Careful {
    /// Opens one. `server` names the database.
    pub(super) fn open(server: &Server) -> Result<Self, RestoreError> {
        let session = server.connect()?;
        if Standing::of(&session)?.is_harmless(session.major()) {
            return Ok(Self { session, _hand: None });
        }
        let owners =
            "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384";
        let owners: Vec<String> = session.query("list the owners", owners, &[])?.iter().map(|row| row.get(0)).collect();
        drop(session);
        let mut hand = Hand::take(&server.with_database(super::MAINTENANCE), Power::Rows)?;
        hand.let_into(server.database());
        if !hand.reads_everything() {
            hand.be_member_of(owners.iter().map(String::as_str))?;
        }
        let session = hand.server(server.database())?.connect()?;
        Ok(Self { session, _hand: Some(hand) })
    }
}
