//! A scratch PostgreSQL cluster, made with the system's own `initdb` and `postgres`, in a private folder, on a unix
//! socket only, behind [`Walls`]: what is restored there may be hostile. It keeps nothing: no fsync, and stopped and
//! wiped when dropped, also after a panic. What a killed process left behind is stopped and wiped by the next one that
//! starts a cluster in the same folder. Never touches a cluster it did not make.

mod account;
mod error;
mod folder;
mod keeper;
mod libraries;
mod processes;
mod restore;
mod view;
mod walls;

pub use error::ClusterError;
pub use restore::{Made, Tried};
pub use walls::{Wall, Walls};

use crate::base::exec::{self, Exec, ExecError, Running};
use crate::base::interrupt::Interrupt;
use crate::sources::postgres::{PostgresError, Server, Session, programs};
use folder::Folder;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use walls::{Seat, Wanted};

/// How long a new server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The cluster's superuser.
const SUPERUSER: &str = "postgres";

/// A running scratch cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Both are there until it is dropped; they end before the folder goes.
    server: Option<(Running, Seat)>,
    folder: Folder,
    major: u32,
    walls: Walls,
    interrupt: Interrupt,
}

impl Cluster {
    /// Makes and starts a cluster in a new private folder below `parent`, which must be there. Takes some seconds. As
    /// root it runs as a user of its own.
    pub fn start(parent: &Path) -> Result<Self, ClusterError> {
        Self::start_unless(parent, &Interrupt::new())
    }

    /// The same, given up within a moment when somebody asks to stop; so are restores into it.
    pub fn start_unless(parent: &Path, interrupt: &Interrupt) -> Result<Self, ClusterError> {
        let initdb = find("initdb")?;
        // initdb is often a link on PATH; the server lies beside its target.
        let real = std::fs::canonicalize(&initdb).unwrap_or(initdb);
        let bin = real.parent().unwrap_or(Path::new("/")).to_owned();
        Self::make(parent, &bin, interrupt, Wanted::All)
    }

    /// The same with the programs of one folder.
    pub fn start_with(parent: &Path, bin: &Path) -> Result<Self, ClusterError> {
        Self::make(parent, bin, &Interrupt::new(), Wanted::All)
    }

    fn make(parent: &Path, bin: &Path, interrupt: &Interrupt, wanted: Wanted) -> Result<Self, ClusterError> {
        folder::sweep(parent);
        // The server may see the end of a link only.
        let bin = std::fs::canonicalize(bin).unwrap_or(bin.to_owned());
        let folder = Folder::create(parent)?;
        let seat = Seat::take(&folder, &bin, wanted)?;
        let initdb = Exec::new(bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pgdata")
            .arg(folder.data());
        seat.initialise(&folder, initdb, |running| until_ended(running, interrupt))?;
        let server = Exec::new(bin.join("postgres")).arg("-D").arg(folder.data()).args(settings(&folder));
        let server = seat.server(&folder, server).stream(None).map_err(|source| ClusterError::Start { source })?;
        let walls = seat.walls().clone();
        let interrupt = interrupt.clone();
        let mut cluster = Self { server: Some((server, seat)), folder, major: 0, walls, interrupt };
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
            if self.interrupt.is_set() {
                return Err(ClusterError::Interrupted);
            }
            let door = self.folder.open_door().map_err(ClusterError::Folder);
            let error = match door.and_then(|()| self.session("postgres")) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some((server, _)) = &mut self.server
                && server.has_ended()
                && let Some((server, _)) = self.server.take()
            {
                return Err(ClusterError::Start { source: ended(server) });
            }
            if begin.elapsed() > START_TIMEOUT {
                return Err(error);
            }
            std::thread::sleep(LOOK_AGAIN);
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

    /// The process that ends it when it ends; none when it has ended by itself.
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(|(server, _)| server.id())
    }

    /// Its major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What it is behind, and what it is not.
    pub fn walls(&self) -> &Walls {
        &self.walls
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
        self.server.take().map_or_else(String::new, |(server, seat)| seat.end_saying(server))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((server, seat)) = self.server.take() {
            seat.end(server);
        }
    }
}

/// Waits for `initdb`, and ends it when somebody asks to stop.
fn until_ended(mut running: Running, interrupt: &Interrupt) -> Result<(), ClusterError> {
    while !running.has_ended_within(LOOK_AGAIN) {
        if interrupt.is_set() {
            return Err(ClusterError::Interrupted);
        }
    }
    running.finish().map_err(|source| ClusterError::Initdb { source })
}

fn find(program: &str) -> Result<PathBuf, ClusterError> {
    exec::find(program, &programs::folders()).map_err(|source| ClusterError::NoServer { source })
}

/// What a server said that ended by itself.
fn ended(mut server: Running) -> ExecError {
    let mut rest = Vec::new();
    let read = server.read_to_end(&mut rest).map(drop);
    match (server.finish(), read) {
        (Err(error), _) => error,
        (Ok(()), Err(source)) => ExecError::Io { program: "postgres".to_owned(), source },
        (Ok(()), Ok(())) => ExecError::Failed {
            program: "postgres".to_owned(),
            status: "exit code 0".to_owned(),
            stderr: "it ended before it answered".to_owned(),
        },
    }
}

/// A server for one short life: private, small, fast, and careless with what is on disk.
fn settings(folder: &Folder) -> Vec<String> {
    let socket = folder.listening().to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
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
