//! The copy itself: steps of the online backup API inside short holds of the read lock, with gaps for writers.
//!
//! In rollback-journal mode a reader keeps a writer from committing, so every hold has a limit and the clock is looked
//! at between small steps. A commit between two holds makes the API begin again, and what was held for was in vain. So
//! the first hold is a short one, which tells the speed and whether commits come; where they come faster than the copy
//! gets on, or come again and again, the whole copy is made in one longer hold, and only when the speed seen so far
//! says that it fits. In WAL mode readers hold nobody up: one read transaction spans all steps.

use super::error::SqliteError;
use super::header::{self, Header};
use super::target::{Finished, Target};
use super::{CopyOptions, Scratch, content};
use crate::base::exec::{self, Exec, Running};
use crate::base::limits::{LOCK_FEELER, LOCK_GAP, SQLITE_BUSY_PATIENCE, SQLITE_RESTARTS_MAX};
use crate::facts::sqlite::{CopyStatistics, JournalMode};
use crate::sources::SourceError;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
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

/// Copies a live database and checks the copy, in this thread.
pub(super) fn copy_here(database: &Path, options: CopyOptions<'_>) -> Result<Copy, SqliteError> {
    let header = header::look(database)?;
    if header.is_closed {
        return copy_closed(database, &header, options);
    }
    let warmed = warm(database);
    let mut target = Target::create(database, &header, options.scratch)?;
    let source = match (header.mode, options.scratch) {
        (JournalMode::Wal, Scratch::Memory) => open_with_index_as_it_is(database)?,
        _ => open_read_only(database, database, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
    };
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
    let mut file = header::open(database).map_err(look)?;
    let before = file.metadata().map_err(look)?;
    let target = Target::of_bytes(database, header, options.scratch, &mut || {
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
    // Opened here, before SQLite has it open, because `dd` would wait at a fifo that took its place.
    let Ok(file) = header::open(database) else { return false };
    let result = exec::find("dd", &[PathBuf::from("/run/current-system/sw/bin")])
        .and_then(|dd| Exec::new(dd).args(["of=/dev/null", "bs=1M", "status=none"]).stream(Some(file)))
        .and_then(Running::finish);
    if let Err(error) = &result {
        tracing::warn!(%error, database = %database.display(), "the database is copied without warming it first");
    }
    result.is_ok()
}

/// Opens a database in WAL mode without making or changing the index of its log (https://sqlite.org/wal.html,
/// "Read-Only Databases"). An error where there is no index.
fn open_with_index_as_it_is(database: &Path) -> Result<Connection, SqliteError> {
    if !header::has_index(database) {
        let source = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_CANTINIT);
        let source = rusqlite::Error::SqliteFailure(source, None);
        return Err(SqliteError::UnreadableWal { path: database.to_owned(), source });
    }
    let mut uri = String::from("file:");
    for byte in database.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?readonly_shm=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    open_read_only(database, Path::new(&uri), flags)
}

fn open_read_only(database: &Path, name: &Path, flags: OpenFlags) -> Result<Connection, SqliteError> {
    let open = |source| SqliteError::Open { path: database.to_owned(), source };
    let source = Connection::open_with_flags(name, flags).map_err(open)?;
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

/// How long a hold may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Readers hold nobody up.
    Free,
    /// The first one: it is over early unless it can finish.
    Feeler,
    /// An ordinary one; a gap for writers follows.
    Short,
    /// All pages at once.
    Whole,
    /// None: all pages at once would take too long, and anything less is in vain.
    Hopeless,
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
    /// Whether a commit came before half of the pages were copied: short holds lead nowhere.
    is_outpaced: bool,
    /// Most pages per second seen in one hold.
    speed: f64,
    /// Pages per second in the last hold.
    last_speed: f64,
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
            is_outpaced: false,
            speed: 0.0,
            last_speed: 0.0,
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
            match self.hold(&backup, Self::next_hold)? {
                (_, HoldEnd::Done) => return Ok(()),
                (Hold::Whole, HoldEnd::TimeUp) => {
                    // It was slower than the best one before, and that is what the error must tell.
                    self.speed = self.last_speed;
                    return Err(self.over_budget());
                }
                (Hold::Hopeless, HoldEnd::TimeUp) => return Err(self.over_budget()),
                (_, HoldEnd::TimeUp) => {
                    locked_since = None;
                    self.pause(LOCK_GAP)?;
                }
                (_, HoldEnd::Busy) => {
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
            if self.hold(&backup, |_| Hold::Free)?.1 == HoldEnd::Done {
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

    /// Holds the read lock and copies meanwhile. How long is decided when it is held, because only then is it known
    /// whether there was a commit.
    fn hold(
        &mut self,
        backup: &Backup<'_, '_>,
        decide: impl Fn(&Self) -> Hold,
    ) -> Result<(Hold, HoldEnd), SqliteError> {
        self.sql("BEGIN")?;
        let started = Instant::now();
        let version = self.source.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        let version = match version {
            Err(error) if is_busy(&error) => {
                self.sql("ROLLBACK")?;
                return Ok((Hold::Short, HoldEnd::Busy));
            }
            version => version.map_err(|error| SqliteError::read(self.database, error))?,
        };
        self.notice_restart(version);
        let hold = decide(self);
        let before = self.copied;
        let end = if hold == Hold::Hopeless { Ok(HoldEnd::TimeUp) } else { self.steps(backup, started, hold) };
        self.sql("COMMIT")?;
        let held = started.elapsed();
        self.account(held, self.copied.saturating_sub(before));
        end.map(|end| (hold, end))
    }

    /// The limit is kept by stopping when another step of the longest duration seen would go over it.
    fn steps(&mut self, backup: &Backup<'_, '_>, started: Instant, hold: Hold) -> Result<HoldEnd, SqliteError> {
        let limit = match hold {
            Hold::Free => Duration::MAX,
            Hold::Whole => self.longest(),
            Hold::Feeler | Hold::Short | Hold::Hopeless => self.options.budget.hold,
        };
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
            let held = started.elapsed();
            let is_felt = hold == Hold::Feeler && held >= LOCK_FEELER && self.whole_at_this_pace(held) >= limit;
            if is_felt || held.saturating_add(self.longest_step) >= limit {
                return Ok(HoldEnd::TimeUp);
            }
        }
    }

    /// How long a hold of all pages takes, when this one copied what is copied.
    fn whole_at_this_pace(&self, held: Duration) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "an estimate of time")]
        let factor = self.statistics.pages as f64 / self.copied.max(1) as f64;
        Duration::try_from_secs_f64(held.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }

    fn next_hold(&self) -> Hold {
        let CopyStatistics { restarts, holds, .. } = self.statistics;
        if holds == 0 {
            return Hold::Feeler;
        }
        // One long hold is tried only where the best speed seen says that it fits: holding a live database for seconds
        // and then giving up would help nobody.
        let fits = self.needed() <= self.longest();
        match (restarts >= SQLITE_RESTARTS_MAX, self.is_outpaced) {
            (true, _) | (_, true) if fits => Hold::Whole,
            (true, _) => Hold::Hopeless,
            (false, _) => Hold::Short,
        }
    }

    fn notice_restart(&mut self, version: i64) {
        if self.copied > 0 && self.version.is_some_and(|before| before != version) {
            self.statistics.restarts += 1;
            self.is_outpaced |= self.copied < self.statistics.pages / 2;
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
        (self.last_speed, self.speed) = (speed, self.speed.max(speed));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::interrupt::Interrupt;

    /// A copy that saw 1,000 pages a second, and then these versions of the database, each when so many pages were
    /// copied: how often it began again, and what its next hold is.
    fn after(pages: u64, versions: &[(i64, u64)]) -> (u32, Hold) {
        let (connection, interrupt) = (Connection::open_in_memory().unwrap(), Interrupt::new());
        let budget = LockBudget { hold: Duration::from_millis(250), hold_max: Duration::from_secs(5) };
        let options = CopyOptions { scratch: Scratch::Memory, budget, interrupt: &interrupt };
        let header =
            Header { mode: JournalMode::Rollback, page_bytes: 4096, length: 0, is_closed: false, identity: (0, 0) };
        let mut transfer = Transfer::new(Path::new("app.db"), &connection, &header, true, options);
        assert_eq!(transfer.next_hold(), Hold::Feeler);
        transfer.notice_restart(1);
        transfer.statistics.pages = pages;
        transfer.account(Duration::from_secs(1), 1000);
        for &(version, copied) in versions {
            transfer.copied = copied;
            transfer.notice_restart(version);
        }
        (transfer.statistics.restarts, transfer.next_hold())
    }

    #[test]
    fn short_holds_are_made_as_long_as_they_may_lead_somewhere() {
        assert_eq!(after(4000, &[(1, 1000), (1, 2000)]), (0, Hold::Short), "no commit");
        assert_eq!(after(4000, &[(2, 10)]), (1, Hold::Whole), "commits come faster than the copy gets on");
        assert_eq!(after(4000, &[(2, 3000)]), (1, Hold::Short), "a commit now and then");
        assert_eq!(after(4000, &[(2, 3000), (3, 3000), (4, 3000)]), (3, Hold::Whole));
        assert_eq!(after(9000, &[(2, 10)]), (1, Hold::Short), "nine seconds are never held");
        assert_eq!(after(9000, &[(2, 10), (3, 10), (4, 10)]), (3, Hold::Hopeless));
    }
}
