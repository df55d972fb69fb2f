//! A scratch PostgreSQL cluster, made with the system's own `initdb` and `postgres`, in a private folder, on a unix
//! socket only. It keeps nothing: no fsync, and stopped and wiped when dropped, also after a panic. What a killed
//! process left behind is stopped and wiped by the next one that starts a cluster in the same folder. Never touches
//! a cluster it did not make.

mod error;
mod folder;
mod restore;

pub use error::ClusterError;
pub use restore::{Made, Tried};

use crate::base::exec::{self, Exec, Running};
use crate::sources::postgres::{PostgresError, Server, Session, programs};
use folder::{Account, Folder};
use rustix::process::{Pid, Signal};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a new server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The cluster's superuser.
const SUPERUSER: &str = "postgres";

/// A running scratch cluster.
#[derive(Debug)]
pub struct Cluster {
    // The order matters: the server ends before its folder goes.
    server: Option<Running>,
    folder: Folder,
    major: u32,
}

impl Cluster {
    /// Makes and starts a cluster in a new private folder below `parent`, which must be there. As root it runs as
    /// the user `postgres` or else `nobody`, who must be able to walk to `parent`. Takes some seconds.
    pub fn start(parent: &Path) -> Result<Self, ClusterError> {
        let initdb = find("initdb")?;
        // initdb is often a link on PATH; the server lies beside its target.
        let real = std::fs::canonicalize(&initdb).unwrap_or(initdb);
        let bin = real.parent().unwrap_or(Path::new("/")).to_owned();
        Self::start_with(parent, &bin)
    }

    /// The same with the programs of one folder.
    pub fn start_with(parent: &Path, bin: &Path) -> Result<Self, ClusterError> {
        folder::sweep(parent);
        let account = Account::choose()?;
        let folder = Folder::create(parent, account)?;
        let data = folder.data();
        as_account(Exec::new(bin.join("initdb")), account)
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pgdata")
            .arg(&data)
            .folder(folder.path())
            .run(b"")
            .map_err(|source| ClusterError::Initdb { source })?;
        let server = as_account(Exec::new(bin.join("postgres")), account)
            .arg("-D")
            .arg(&data)
            .args(settings(&folder))
            .folder(folder.path())
            .stream(None)
            .map_err(|source| ClusterError::Start { source })?;
        let mut cluster = Self { server: Some(server), folder, major: 0 };
        cluster.wait()?;
        let session = cluster.session("postgres")?;
        let sql = "SELECT current_setting('server_version_num')::int4 / 10000";
        let row = session.query_one("ask the version", sql, &[]).map_err(ClusterError::from)?;
        cluster.major = row.get::<_, i32>(0).unsigned_abs();
        Ok(cluster)
    }

    /// Waits until the server answers, or has ended.
    fn wait(&mut self) -> Result<(), ClusterError> {
        let begin = Instant::now();
        loop {
            let error = match self.session("postgres") {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(server) = &mut self.server
                && folder::has_ended(server.id())
                && let Some(server) = self.server.take()
            {
                return Err(ClusterError::Start { source: ended(server) });
            }
            if begin.elapsed() > START_TIMEOUT {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{SUPERUSER}@/{}?host={}",
            percent(database),
            percent(&self.folder.socket().to_string_lossy())
        )
    }

    /// The folder its socket is in.
    pub fn socket(&self) -> &Path {
        self.folder.socket()
    }

    /// Its folder; gone when the cluster is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A connection to one of its databases, with names looked up in `public`.
    pub fn session(&self, database: &str) -> Result<Session, ClusterError> {
        let session = Server::parse(&self.url(database), None)?.connect()?;
        session.execute("choose the schema", "SET search_path = public")?;
        Ok(session)
    }

    /// Runs statements in a database.
    pub fn execute(&self, database: &str, sql: &str) -> Result<(), ClusterError> {
        Ok(self.session(database)?.execute("run a statement of the sandbox", sql)?)
    }

    /// The rows of a query, each value as the text the server prints; NULL is `None`.
    pub fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, ClusterError> {
        Ok(self.session(database)?.texts("run a query of the sandbox", sql)?)
    }
}

impl Cluster {
    /// Stops it; the end of its log.
    pub fn stop(mut self) -> String {
        self.stop_saying()
    }

    fn stop_saying(&mut self) -> String {
        let Some(server) = self.server.take() else { return String::new() };
        // An immediate stop: nothing of it is wanted any more.
        let stopped = i32::try_from(server.id())
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| rustix::process::kill_process(pid, Signal::QUIT).is_ok());
        match stopped.then(|| server.finish_saying()) {
            Some(Ok(said)) => said,
            Some(Err(error)) => error.to_string(),
            None => String::new(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let said = self.stop_saying();
        tracing::debug!(said, "the scratch cluster ended");
    }
}

fn find(program: &str) -> Result<PathBuf, ClusterError> {
    exec::find(program, &programs::folders()).map_err(|source| ClusterError::NoServer { source })
}

/// What a server said that ended by itself.
fn ended(mut server: Running) -> exec::ExecError {
    let mut rest = Vec::new();
    let read = server.read_to_end(&mut rest).map(drop);
    match (server.finish(), read) {
        (Err(error), _) => error,
        (Ok(()), Err(source)) => exec::ExecError::Io { program: "postgres".to_owned(), source },
        (Ok(()), Ok(())) => exec::ExecError::Failed {
            program: "postgres".to_owned(),
            status: "exit code 0".to_owned(),
            stderr: "it ended before it answered".to_owned(),
        },
    }
}

fn as_account(exec: Exec, account: Option<Account>) -> Exec {
    let exec = exec.env("LC_ALL", "C").env("TZ", "UTC");
    match account {
        Some(account) => exec.user(account.uid, account.gid).env("HOME", "/"),
        None => exec,
    }
}

/// A server for one short life: private, small, fast, and careless with what is on disk.
fn settings(folder: &Folder) -> Vec<String> {
    let socket = folder.socket().to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let socket = format!("unix_socket_directories=\"{socket}\"");
    let fixed = [
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_wal_size=2GB",
        "max_connections=40",
        "shared_buffers=64MB",
        "maintenance_work_mem=64MB",
        "dynamic_shared_memory_type=mmap",
        "jit=off",
        "logging_collector=off",
        "log_checkpoints=off",
        "lc_messages=C",
    ];
    let all = std::iter::once(socket).chain(fixed.into_iter().map(str::to_owned));
    all.flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// Text for a URL, with everything escaped that is not plain.
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl From<PostgresError> for ClusterError {
    fn from(source: PostgresError) -> Self {
        Self::Talk { source }
    }
}

#[cfg(test)]
pub(crate) mod tests;
