//! The copy itself: steps of the online backup API inside short holds of the read lock, with gaps for writers.
//!
//! In rollback-journal mode a reader keeps a writer from committing, so every hold has a limit and the clock is looked
//! at between small steps. A commit between two holds makes the API begin again; where that goes on, the whole copy is
//! tried once in a longer hold, and only when the speed seen so far says that it fits. In WAL mode readers hold nobody
//! up: one read transaction spans all steps.

use super::error::SqliteError;
use super::header::{self, Header};
use super::target::{Finished, Target};
use super::{CopyOptions, content};
use crate::base::exec::{self, Exec};
use crate::base::limits::{LOCK_GAP, SQLITE_BUSY_PATIENCE, SQLITE_RESTARTS_MAX};
use crate::facts::sqlite::{CopyStatistics, JournalMode};
use crate::sources::SourceError;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes copied between two looks at the clock.
const STEP_BYTES: u32 = 128 * 1024;
/// Bytes read at once from a database that no program has open.
const PART_BYTES: u64 = 1024 * 1024;
/// Pause before a locked database is tried again; nothing is held meanwhile.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How long the lock of a live database may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockBudget {
    /// Longest ordinary hold.
    pub hold: Duration,
    /// Longest single hold where writers keep restarting the copy.
    pub hold_max: Duration,
}

impl Default for LockBudget {
    fn default() -> Self {
        use crate::base::limits::{LOCK_BUDGET_DEFAULT, LOCK_BUDGET_MAX_DEFAULT};
        Self { hold: LOCK_BUDGET_DEFAULT, hold_max: LOCK_BUDGET_MAX_DEFAULT }
    }
}

/// A copy of a database, whole and checked.
#[derive(Debug)]
pub struct Copy {
    database: PathBuf,
    finished: Finished,
    statistics: CopyStatistics,
}

impl Copy {
    /// The copy, to be read.
    pub fn connection(&self) -> &Connection {
        self.finished.connection()
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.finished.length()
    }

    /// How the copy went.
    pub fn statistics(&self) -> &CopyStatistics {
        &self.statistics
    }

    /// Writes the copy's bytes in order.
    pub fn write_to(&mut self, out: &mut dyn Write) -> Result<(), SourceError> {
        self.finished.write_to(&self.database, out)
    }
}

/// Copies a live database and checks the copy with `PRAGMA integrity_check`. Nothing is written to the database or
/// beside it, except for a scratch file without a name where it is large.
pub fn copy(database: &Path, options: CopyOptions<'_>) -> Result<Copy, SqliteError> {
    let header = header::look(database)?;
    if header.is_closed {
        return copy_closed(database, &header, options);
    }
    let warmed = warm(database);
    let mut target = Target::create(database, &header, options.scratch_folder)?;
    let source = open_read_only(database)?;
    let mut transfer = Transfer::new(database, &source, &header, warmed, options);
    match header.mode {
        JournalMode::Rollback => transfer.in_holds(&mut target)?,
        JournalMode::Wal => transfer.in_one_transaction(&mut target)?,
    }
    let statistics = transfer.statistics;
    source.close().map_err(|(_, error)| SqliteError::read(database, error))?;
    if header::is_replaced(database, &header) {
        return Err(SqliteError::Replaced { path: database.to_owned() });
    }
    finish(database, &header, target, statistics)
}

fn finish(database: &Path, header: &Header, target: Target, statistics: CopyStatistics) -> Result<Copy, SqliteError> {
    let finished = target.finish(database, header)?;
    let complaints = content::integrity(finished.connection()).map_err(|error| SqliteError::read(database, error))?;
    if let Some(found) = complaints {
        return Err(SqliteError::Corrupt { path: database.to_owned(), found });
    }
    Ok(Copy { database: database.to_owned(), finished, statistics })
}

/// Copies a database in WAL mode that no program has open: through SQLite this would leave a log beside it. Its bytes
/// are all there is, and they stay as they are until a program opens it, which makes the log appear. No lock is held,
/// and SQLite has the file open nowhere in this process, so that closing it here drops nobody's lock.
fn copy_closed(database: &Path, header: &Header, options: CopyOptions<'_>) -> Result<Copy, SqliteError> {
    let look = |source| SqliteError::Look { path: database.to_owned(), source };
    let mut file = std::fs::File::open(database).map_err(look)?;
    let before = file.metadata().map_err(look)?;
    let target = Target::of_bytes(database, header, options.scratch_folder, &mut || {
        if options.interrupt.is_set() {
            return Err(SqliteError::Interrupted { path: database.to_owned() });
        }
        let mut part = Vec::new();
        (&mut file).take(PART_BYTES).read_to_end(&mut part).map_err(look)?;
        Ok(part)
    })?;
    let after = std::fs::metadata(database).map_err(look)?;
    let mark = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    if header::has_log(database) || header::is_replaced(database, header) || mark(&before) != mark(&after) {
        return Err(SqliteError::Replaced { path: database.to_owned() });
    }
    let mut statistics = no_statistics(header, false);
    statistics.pages = after.len() / u64::from(header.page_bytes);
    finish(database, header, target, statistics)
}

/// Reads the file into the page cache in a process of its own: a descriptor of ours, once closed, would drop SQLite's
/// locks. A cold file only makes the copy slower; the lock budget holds all the same.
fn warm(database: &Path) -> bool {
    let mut input = std::ffi::OsString::from("if=");
    input.push(database);
    let result = exec::find("dd", &[PathBuf::from("/run/current-system/sw/bin")])
        .and_then(|dd| Exec::new(dd).arg(input).args(["of=/dev/null", "bs=1M", "status=none"]).run(b""));
    if let Err(error) = &result {
        tracing::warn!(%error, database = %database.display(), "the database is copied without warming it first");
    }
    result.is_ok()
}

fn open_read_only(database: &Path) -> Result<Connection, SqliteError> {
    let open = |source| SqliteError::Open { path: database.to_owned(), source };
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(open)?;
    // Waiting is done here, in sight of the interrupt, and not inside SQLite.
    source.busy_timeout(Duration::ZERO).map_err(open)?;
    source.pragma_update(None, "temp_store", "MEMORY").map_err(open)?;
    Ok(source)
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldEnd {
    /// All pages are copied.
    Done,
    /// The hold's time is up.
    TimeUp,
    /// A writer had the database locked; nothing was held.
    Busy,
}

struct Transfer<'a> {
    database: &'a Path,
    source: &'a Connection,
    options: CopyOptions<'a>,
    pages_per_step: i32,
    /// `PRAGMA data_version` at the last hold: it changes when another connection commits.
    version: Option<i64>,
    /// Pages copied since the last restart.
    copied: u64,
    /// Most pages per second seen in one hold.
    speed: f64,
    longest_step: Duration,
    longest_hold: Duration,
    total_hold: Duration,
    statistics: CopyStatistics,
}

impl<'a> Transfer<'a> {
    fn new(
        database: &'a Path,
        source: &'a Connection,
        header: &Header,
        warmed: bool,
        options: CopyOptions<'a>,
    ) -> Self {
        Self {
            database,
            source,
            options,
            pages_per_step: i32::try_from((STEP_BYTES / header.page_bytes).max(1)).unwrap_or(1),
            version: None,
            copied: 0,
            speed: 0.0,
            longest_step: Duration::ZERO,
            longest_hold: Duration::ZERO,
            total_hold: Duration::ZERO,
            statistics: no_statistics(header, warmed),
        }
    }

    fn in_holds(&mut self, target: &mut Target) -> Result<(), SqliteError> {
        let backup = self.begin(target)?;
        let mut locked_since = None;
        loop {
            self.check_interrupt()?;
            let whole = self.statistics.restarts >= SQLITE_RESTARTS_MAX;
            if whole {
                self.check_that_one_hold_does()?;
            }
            let limit = if whole { self.longest() } else { self.options.budget.hold };
            match self.hold(&backup, limit)? {
                HoldEnd::Done => return Ok(()),
                HoldEnd::TimeUp if whole => return Err(self.over_budget()),
                HoldEnd::TimeUp => {
                    locked_since = None;
                    self.pause(LOCK_GAP)?;
                }
                HoldEnd::Busy => {
                    let since = *locked_since.get_or_insert_with(Instant::now);
                    let waited_ms = milliseconds(since.elapsed());
                    if since.elapsed() > SQLITE_BUSY_PATIENCE {
                        return Err(SqliteError::Busy { path: self.database.to_owned(), waited_ms });
                    }
                    self.pause(BUSY_PAUSE)?;
                }
            }
        }
    }

    fn in_one_transaction(&mut self, target: &mut Target) -> Result<(), SqliteError> {
        let backup = self.begin(target)?;
        let since = Instant::now();
        while since.elapsed() < SQLITE_BUSY_PATIENCE {
            self.check_interrupt()?;
            if self.hold(&backup, Duration::MAX)? == HoldEnd::Done {
                return Ok(());
            }
            self.pause(BUSY_PAUSE)?;
        }
        let waited_ms = milliseconds(since.elapsed());
        Err(SqliteError::Busy { path: self.database.to_owned(), waited_ms })
    }

    fn begin<'t>(&self, target: &'t mut Target) -> Result<Backup<'a, 't>, SqliteError> {
        Backup::new(self.source, target.writer())
            .map_err(|source| SqliteError::Write { path: self.database.to_owned(), source })
    }

    /// Holds the read lock for at most `limit` and copies meanwhile. The limit is kept by stopping when another step
    /// of the longest duration seen would go over it.
    fn hold(&mut self, backup: &Backup<'_, '_>, limit: Duration) -> Result<HoldEnd, SqliteError> {
        self.sql("BEGIN")?;
        let started = Instant::now();
        let version = self.source.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        let version = match version {
            Err(error) if is_busy(&error) => {
                self.sql("ROLLBACK")?;
                return Ok(HoldEnd::Busy);
            }
            version => version.map_err(|error| SqliteError::read(self.database, error))?,
        };
        self.notice_restart(version);
        let before = self.copied;
        let end = self.steps(backup, started, limit);
        self.sql("COMMIT")?;
        let held = started.elapsed();
        self.account(held, self.copied.saturating_sub(before));
        end
    }

    fn steps(&mut self, backup: &Backup<'_, '_>, started: Instant, limit: Duration) -> Result<HoldEnd, SqliteError> {
        loop {
            if self.options.interrupt.is_set() {
                return Err(SqliteError::Interrupted { path: self.database.to_owned() });
            }
            let step_started = Instant::now();
            let result = backup.step(self.pages_per_step).map_err(|error| SqliteError::read(self.database, error))?;
            let progress = backup.progress();
            self.statistics.pages = u64::try_from(progress.pagecount).unwrap_or(0);
            self.copied = u64::try_from(progress.pagecount - progress.remaining).unwrap_or(0);
            match result {
                StepResult::Done => return Ok(HoldEnd::Done),
                StepResult::More => {}
                _ => return Ok(HoldEnd::Busy),
            }
            self.longest_step = self.longest_step.max(step_started.elapsed());
            if started.elapsed().saturating_add(self.longest_step) >= limit {
                return Ok(HoldEnd::TimeUp);
            }
        }
    }

    fn notice_restart(&mut self, version: i64) {
        if self.copied > 0 && self.version.is_some_and(|before| before != version) {
            self.statistics.restarts += 1;
            self.copied = 0;
        }
        self.version = Some(version);
    }

    fn account(&mut self, held: Duration, pages: u64) {
        self.longest_hold = self.longest_hold.max(held);
        self.total_hold = self.total_hold.saturating_add(held);
        self.statistics.holds += 1;
        self.statistics.longest_hold_ms = milliseconds(self.longest_hold);
        self.statistics.total_hold_ms = milliseconds(self.total_hold);
        let seconds = held.as_secs_f64().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "an estimate of speed")]
        let speed = pages as f64 / seconds;
        self.speed = self.speed.max(speed);
    }

    /// One long hold is tried only where the best speed seen says that it fits: holding a live database for seconds
    /// and then giving up would help nobody.
    fn check_that_one_hold_does(&self) -> Result<(), SqliteError> {
        if self.needed() > self.longest() {
            return Err(self.over_budget());
        }
        Ok(())
    }

    /// A tenth less than allowed: a writer that waits exactly as long as the budget gets its turn before it gives up.
    fn longest(&self) -> Duration {
        self.options.budget.hold_max - self.options.budget.hold_max / 10
    }

    fn needed(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "an estimate of time")]
        let seconds = self.statistics.pages as f64 / self.speed.max(1e-6);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn over_budget(&self) -> SqliteError {
        let allowed_ms = milliseconds(self.options.budget.hold_max);
        SqliteError::Budget {
            path: self.database.to_owned(),
            restarts: self.statistics.restarts,
            pages: self.statistics.pages,
            needed_ms: milliseconds(self.needed()).max(allowed_ms + 1),
            allowed_ms,
        }
    }

    fn sql(&self, statement: &str) -> Result<(), SqliteError> {
        self.source.execute_batch(statement).map_err(|error| SqliteError::read(self.database, error))
    }

    fn check_interrupt(&self) -> Result<(), SqliteError> {
        if self.options.interrupt.is_set() {
            return Err(SqliteError::Interrupted { path: self.database.to_owned() });
        }
        Ok(())
    }

    fn pause(&self, pause: Duration) -> Result<(), SqliteError> {
        std::thread::sleep(pause);
        self.check_interrupt()
    }
}

fn no_statistics(header: &Header, warmed: bool) -> CopyStatistics {
    CopyStatistics {
        mode: header.mode,
        pages: 0,
        page_bytes: header.page_bytes,
        holds: 0,
        restarts: 0,
        longest_hold_ms: 0,
        total_hold_ms: 0,
        warmed,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

/// Milliseconds, rounded up.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
