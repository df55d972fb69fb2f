//! A connection to a PostgreSQL server, blocking from outside: tokio-postgres over a private runtime of one thread.
//! Unix socket or loopback only, because nothing here encrypts. No password in argv, environment, log or error.
//! Every session of ours begins here, so the limits and settings of all of them stand here: a wait for a lock ends by
//! itself, every wait ends when somebody asks to stop, and what a role or a database sets for its sessions is lifted.

use super::PostgresError;
use super::passfile::{self, Wanted};
use crate::base::interrupt::Interrupt;
use crate::base::secret::Secret;
use futures_util::{SinkExt, StreamExt, pin_mut};
use std::future::Future;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage};

/// What our sessions call themselves on the server.
pub(super) const PROGRAM: &str = "relay-backup";
/// How long a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Where PostgreSQL's packages put the socket; the first is libpq's own default on Debian and NixOS.
const SOCKET_FOLDERS: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];
/// How often it is looked whether somebody asked to stop while a server has not answered.
const INTERRUPT_LOOK: Duration = Duration::from_millis(50);
/// How long the server gets to be told that a query is no longer wanted.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// What every session, ours and `pg_dump`'s, is set to, so that rows and names print the same everywhere, and so that
/// what a role or a database sets for its sessions ends none of ours. `pg_dump` sets date style, interval style and
/// float digits itself; a database's own defaults could change the rest. No query of ours takes more than one of the
/// server's cores, waits longer for a lock than a dump does ([`LOCK_WAIT_MS`]), or runs a policy or a constraint's
/// expression that a table's owner wrote.
pub(super) const SESSION_OPTIONS: &str = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c bytea_output=hex \
     -c xmloption=content -c search_path= -c statement_timeout=0 -c lock_timeout=120000 \
     -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off \
     -c standard_conforming_strings=on \
     -c default_transaction_deferrable=off -c quote_all_identifiers=off -c row_security=off \
     -c constraint_exclusion=off -c max_parallel_workers_per_gather=0";
/// How long a session waits for a table that somebody holds exclusively, in milliseconds. Whoever comes later waits
/// behind it, so it does not wait for ever.
pub(super) const LOCK_WAIT_MS: u32 = 120_000;
const _: () = assert!(LOCK_WAIT_MS == 120_000, "SESSION_OPTIONS says the same");

/// Where a server is and as whom to go there: a libpq URL, checked. Holds no password.
#[derive(Clone, Debug)]
pub struct Server {
    host: HostPlace,
    port: u16,
    user: String,
    database: String,
    passfile: Option<PathBuf>,
    /// A password that stands in no file: of a role that was made for one piece of work.
    password: Option<Secret>,
    interrupt: Interrupt,
}

#[derive(Clone, Debug)]
enum HostPlace {
    Socket(PathBuf),
    Loopback(String),
}

impl Server {
    /// Reads a libpq URL such as `postgresql:///postgres?host=/run/postgresql`. The user defaults to the one this
    /// program runs as. A password in it, a host that is not this machine, or several hosts are refused.
    pub fn parse(url: &str, passfile: Option<&Path>) -> Result<Self, PostgresError> {
        let config: Config = url.parse().map_err(|source| PostgresError::Url { source })?;
        if config.get_password().is_some() {
            return Err(PostgresError::PasswordInUrl);
        }
        if config.get_hosts().len() > 1 || config.get_ports().len() > 1 {
            return Err(PostgresError::SeveralHosts);
        }
        if let Some(address) = config.get_hostaddrs().iter().find(|address| !address.is_loopback()) {
            return Err(PostgresError::RemoteHost { host: address.to_string() });
        }
        let host = match config.get_hosts().first() {
            Some(Host::Unix(folder)) => HostPlace::Socket(folder.clone()),
            Some(Host::Tcp(name)) => HostPlace::Loopback(loopback(name)?),
            None => HostPlace::Socket(default_socket()),
        };
        let user = match config.get_user() {
            Some(user) => user.to_owned(),
            None => {
                uzers::get_effective_username().and_then(|name| name.into_string().ok()).ok_or(PostgresError::NoUser)?
            }
        };
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            passfile: passfile.map(Path::to_owned),
            password: None,
            interrupt: Interrupt::new(),
        })
    }

    /// The same server; whatever waits for it stops when somebody asks to.
    #[must_use]
    pub fn stopping_at(self, interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), ..self }
    }

    /// The wish to stop.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The same server as another role, which has this password.
    pub(super) fn as_role(&self, role: &str, password: Secret) -> Self {
        Self { user: role.to_owned(), password: Some(password), passfile: None, ..self.clone() }
    }

    /// The same server over loopback, where it is reached by its socket.
    pub(super) fn over_loopback(&self) -> Option<Self> {
        match self.host {
            HostPlace::Socket(_) => Some(Self { host: HostPlace::Loopback("127.0.0.1".to_owned()), ..self.clone() }),
            HostPlace::Loopback(_) => None,
        }
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The role to connect as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password file of the policy.
    pub(super) fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }

    /// The file beside the server's socket that its owner and root can read.
    pub(super) fn lock_file(&self) -> Option<PathBuf> {
        match &self.host {
            HostPlace::Socket(folder) => Some(folder.join(format!(".s.PGSQL.{}.lock", self.port))),
            HostPlace::Loopback(_) => None,
        }
    }

    /// libpq's `key='value'` form for PostgreSQL's own programs; without a password.
    pub fn conninfo(&self) -> String {
        let host = match &self.host {
            HostPlace::Socket(folder) => folder.to_string_lossy().into_owned(),
            HostPlace::Loopback(name) => name.clone(),
        };
        let quote = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let (host, user, database) = (quote(&host), quote(&self.user), quote(&self.database));
        format!("host='{host}' port='{}' user='{user}' dbname='{database}'", self.port)
    }

    /// For messages: `/run/postgresql port 5432 as role backup`.
    fn place(&self) -> String {
        let host = match &self.host {
            HostPlace::Socket(folder) => folder.display().to_string(),
            HostPlace::Loopback(name) => name.clone(),
        };
        format!("{host} port {} as role {}", self.port, self.user)
    }

    fn password(&self) -> Result<Option<Secret>, PostgresError> {
        if let Some(password) = &self.password {
            return Ok(Some(password.clone()));
        }
        let host = match &self.host {
            HostPlace::Socket(folder) if SOCKET_FOLDERS.iter().any(|known| Path::new(known) == folder) => "localhost",
            HostPlace::Socket(folder) => folder.to_str().unwrap_or_default(),
            HostPlace::Loopback(name) => name,
        };
        let wanted = Wanted { host, port: self.port, database: &self.database, user: &self.user };
        match &self.passfile {
            Some(path) => passfile::password(path, wanted),
            None => {
                use uzers::os::unix::UserExt;
                let home =
                    uzers::get_user_by_uid(uzers::get_effective_uid()).map(|user| user.home_dir().join(".pgpass"));
                // libpq ignores a file there that is missing or open to others; so does this.
                Ok(home.and_then(|path| passfile::password(&path, wanted).ok().flatten()))
            }
        }
    }

    /// Connects.
    pub fn connect(&self) -> Result<Session, PostgresError> {
        let mut config = Config::new();
        match &self.host {
            HostPlace::Socket(folder) => config.host_path(folder),
            HostPlace::Loopback(name) => config.host(name),
        };
        config.port(self.port).user(&self.user).dbname(&self.database).connect_timeout(CONNECT_TIMEOUT);
        config.application_name(PROGRAM).options(SESSION_OPTIONS);
        if let Some(password) = self.password()? {
            config.password(password.expose());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| PostgresError::Runtime { source })?;
        let failed = |source| PostgresError::Connect { database: self.database.clone(), place: self.place(), source };
        let connecting = unless(&self.interrupt, config.connect(NoTls));
        let (client, connection) = match runtime.block_on(connecting) {
            None => return Err(PostgresError::Interrupted { database: self.database.clone() }),
            Some(connected) => connected.map_err(|error| failed(error.into()))?,
        };
        let major = connection.parameter("server_version").and_then(major_of).unwrap_or(0);
        runtime.spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the connection gets an error of its own.
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let session =
            Session { database: self.database.clone(), major, client, runtime, interrupt: self.interrupt.clone() };
        // Settings that older servers do not know cannot stand in the options.
        if major >= 14 {
            session.execute("lift the limit on idle sessions", "SET idle_session_timeout = 0")?;
        }
        if major >= 17 {
            session.execute("lift the limit on long transactions", "SET transaction_timeout = 0")?;
        }
        Ok(session)
    }
}

/// The major version in `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)` or `19devel`.
fn major_of(version: &str) -> Option<u32> {
    let end = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

/// What the work comes to, or nothing when somebody asked to stop meanwhile.
async fn unless<T>(interrupt: &Interrupt, work: impl Future<Output = T>) -> Option<T> {
    pin_mut!(work);
    loop {
        match tokio::time::timeout(INTERRUPT_LOOK, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if interrupt.is_set() => return None,
            Err(_) => {}
        }
    }
}

fn default_socket() -> PathBuf {
    let found = SOCKET_FOLDERS.iter().map(Path::new).find(|folder| folder.join(".s.PGSQL.5432").exists());
    found.unwrap_or(Path::new(SOCKET_FOLDERS[0])).to_owned()
}

fn loopback(name: &str) -> Result<String, PostgresError> {
    let address = name.parse::<std::net::IpAddr>();
    if name == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        Ok(name.to_owned())
    } else {
        Err(PostgresError::RemoteHost { host: name.to_owned() })
    }
}

/// An open connection to one database. Everything waits until the server has answered, or somebody asks to stop.
pub struct Session {
    database: String,
    major: u32,
    client: Client,
    runtime: tokio::runtime::Runtime,
    interrupt: Interrupt,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Session {
    /// The database.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The server's major version, such as 15.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// Waits for one answer. A query that is no longer wanted is cancelled at the server.
    async fn answer<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        let database = || self.database.clone();
        match unless(&self.interrupt, work).await {
            Some(done) => {
                done.map_err(|error| PostgresError::Query { database: database(), doing, source: error.into() })
            }
            None => {
                let cancel = self.client.cancel_token();
                let told = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(NoTls)).await;
                tracing::debug!(told = told.is_ok(), "a query was given up");
                Err(PostgresError::Interrupted { database: database() })
            }
        }
    }

    /// Rows of a query; `doing` says what for, after "cannot".
    pub(crate) fn query(
        &self,
        doing: &'static str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PostgresError> {
        self.runtime.block_on(self.answer(doing, self.client.query(sql, values)))
    }

    /// The one row of a query.
    pub(crate) fn query_one(
        &self,
        doing: &'static str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, PostgresError> {
        self.runtime.block_on(self.answer(doing, self.client.query_one(sql, values)))
    }

    /// Runs statements that return nothing.
    pub(crate) fn execute(&self, doing: &'static str, sql: &str) -> Result<(), PostgresError> {
        self.runtime.block_on(self.answer(doing, self.client.batch_execute(sql)))
    }

    /// Rows of a query, each value as the text the server prints; NULL is `None`.
    pub(crate) fn texts(&self, doing: &'static str, sql: &str) -> Result<Vec<Vec<Option<String>>>, PostgresError> {
        let messages = self.runtime.block_on(self.answer(doing, self.client.simple_query(sql)))?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    /// Runs a `COPY … TO STDOUT` and hands on its bytes as they come.
    pub(super) fn copy_out(
        &self,
        doing: &'static str,
        sql: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), PostgresError>,
    ) -> Result<(), PostgresError> {
        self.runtime.block_on(async {
            let stream = self.answer(doing, self.client.copy_out(sql)).await?;
            pin_mut!(stream);
            // Rows come one by one, by the million: the whole of it is one wait, not each of them.
            let mut refused = None;
            let rows = async {
                while let Some(bytes) = stream.next().await {
                    if let Err(error) = take(&bytes?) {
                        refused = Some(error);
                        break;
                    }
                }
                Ok(())
            };
            self.answer(doing, rows).await?;
            refused.map_or(Ok(()), Err)
        })
    }

    /// Runs a `COPY … FROM STDIN` with the bytes that `give` hands over, piece after piece, until it gives none. Where
    /// `give` fails, nothing of it stays.
    pub(super) fn copy_in<E: From<PostgresError>>(
        &self,
        doing: &'static str,
        sql: &str,
        give: &mut dyn FnMut() -> Result<Option<Vec<u8>>, E>,
    ) -> Result<u64, E> {
        self.runtime.block_on(async {
            let sink = self.answer(doing, self.client.copy_in::<_, Cursor<Vec<u8>>>(sql)).await?;
            pin_mut!(sink);
            while let Some(bytes) = give()? {
                self.answer(doing, sink.as_mut().send(Cursor::new(bytes))).await?;
            }
            Ok(self.answer(doing, sink.finish()).await?)
        })
    }
}

/// A name as SQL text, whatever it holds.
pub(crate) fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_url_becomes_a_conninfo_without_surprises() {
        let server = Server::parse("postgresql://backup@/postgres?host=/run/my%20sql", None).unwrap();
        let conninfo = server.with_database("it's \\ odd").conninfo();
        assert_eq!(conninfo, "host='/run/my sql' port='5432' user='backup' dbname='it\\'s \\\\ odd'");
    }

    #[test]
    fn what_would_leak_is_refused() {
        let refused = |url: &str| Server::parse(url, None).unwrap_err().to_string();
        let error = refused("postgresql://u:hunter2@localhost/db");
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
        assert!(refused("postgresql://u@db.example.net/db").contains("db.example.net"));
        assert!(refused("postgresql://u@localhost/db?hostaddr=10.0.0.1").contains("10.0.0.1"));
        assert!(refused("postgresql://u@localhost,127.0.0.1/db").contains("one"));
        assert!(Server::parse("postgresql://u@127.0.0.1:5433/db", None).is_ok());
        assert!(Server::parse("postgresql://u@[::1]/db", None).is_ok());
    }
}
