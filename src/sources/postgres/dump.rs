//! One dump, from the exported snapshot to the facts. The transaction that exports the snapshot stays open until
//! `pg_dump` has ended, and the facts come from it, so that dump and facts are of one moment. Every table is locked
//! against being rewritten before the snapshot is taken (`still`). A dump counts only when the program ended well, its
//! stream was whole, and the tables in it are those of the server's catalogue.

use super::archive::{Archive, ArchiveError, Scanner};
use super::connect::{CONNECT_TIMEOUT, LOCK_WAIT_MS, SESSION_OPTIONS, Server, Session};
use super::programs::{self, Program};
use super::survey::{self, Recognised, Survey};
use super::{Postgres, PostgresError, marks, rights, still};
use crate::artifact::{ArtifactKind, ArtifactSpec, Toxicity};
use crate::base::exec::{Exec, Running};
use crate::base::ids::{ArtifactName, Sha256Hex, SourceName};
use crate::base::interrupt::Interrupt;
use crate::facts::Facts;
use crate::facts::postgres::{DatabaseFacts, GlobalsFacts, Marks, Passwords, SequenceFacts, ServerVersion, TableFacts};
use crate::report::{Finding, Level};
use crate::sources::{Sink, SourceError};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// The transaction everything about one dump happens in.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How much is read from a program at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// How often it is looked whether somebody asked to stop while no byte comes.
const INTERRUPT_LOOK: Duration = Duration::from_millis(50);
/// The line a whole dump of the roles ends with.
const GLOBALS_END: &[u8] = b"PostgreSQL database cluster dump complete";

/// The artifact of a database: `<source>/<database>.dump`. Bytes that may not stand in a name are written `_xHH`;
/// a name that would be too long is its SHA-256.
pub(super) fn artifact_name(source: &SourceName, database: &str) -> Result<String, PostgresError> {
    let name = format!("{source}/{}.dump", encode(database));
    let name = if name.len() > crate::base::limits::ARTIFACT_NAME_BYTES_MAX {
        format!("{source}/_h{}.dump", Sha256Hex::of(database.as_bytes()))
    } else {
        name
    };
    valid(database, &name).map(|valid| valid.as_str().to_owned())
}

/// The artifact of the roles: `<source>/globals.sql`.
pub(super) fn globals_name(source: &SourceName) -> Result<String, PostgresError> {
    valid("globals", &format!("{source}/globals.sql")).map(|valid| valid.as_str().to_owned())
}

fn valid(database: &str, name: &str) -> Result<ArtifactName, PostgresError> {
    name.parse().map_err(|source| PostgresError::Name { database: database.to_owned(), source })
}

fn encode(database: &str) -> String {
    let bytes = database.as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let follows = bytes.get(at + 1);
        // An underline that could be taken for an escape is escaped itself, so that no two names are one.
        let plain = match byte {
            b'.' | b'-' => at > 0,
            b'_' => !matches!(follows, Some(b'x' | b'h')),
            other => other.is_ascii_alphanumeric(),
        };
        if plain {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("_x{byte:02x}"));
        }
    }
    text
}

/// Dumps one database into the sink.
pub(super) fn database(
    source: &Postgres<'_>,
    server: &Server,
    version: &ServerVersion,
    sink: &mut dyn Sink,
) -> Result<(), SourceError> {
    let name = valid(server.database(), &artifact_name(source.name, server.database())?)?;
    let program = program("pg_dump", source.programs.pg_dump.as_deref(), version)?;
    let session = server.connect()?;
    let (snapshot, survey) = still::begin(&session)?;
    let toxic = survey.recognised.software.is_node() || !survey.recognised.channel_tables.is_empty();
    let toxicity = if toxic { Toxicity::Toxic } else { Toxicity::Harmless };
    let spec = ArtifactSpec { name: name.clone(), kind: ArtifactKind::PostgresDump, codec: source.codec, toxicity };
    let encoding = survey.database.encoding.clone();
    let mut told = Vec::new();
    let mut survey = Some(survey);
    sink.artifact(spec, &mut |out| {
        let exec = exec(&program.path, server, source.passfile)
            .args(["--format=custom", "--compress=0", "--no-password"])
            .arg(format!("--snapshot={snapshot}"))
            .arg(format!("--encoding={encoding}"))
            .arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"))
            .arg(format!("--dbname={}", server.conninfo()));
        let survey = survey.take().map_or_else(|| survey::survey(&session), Ok)?;
        let (streamed, marks) = beside(
            || stream(exec, server.database(), out, &source.interrupt),
            || read_marks(&session, &survey.recognised),
        );
        let (archive, said) = streamed?;
        let (marks, unread) = marks?;
        told = findings(&name, &said, unread.as_ref());
        check_tables(server.database(), &survey, &archive)?;
        let rights = rights::rights(&session)?;
        let mut facts = facts(&session, server.database(), survey, marks, archive)?;
        facts.rights = Some(rights);
        Ok(Facts::PostgresDump(Box::new(facts)))
    })?;
    session.execute("end the transaction", "COMMIT")?;
    told.extend(program.newer(&name, version));
    told.into_iter().for_each(|finding| sink.finding(finding));
    Ok(())
}

/// Reads the marks, on the connection that waits for the dump; where that fails, the dump counts all the same and the
/// failure is told.
fn read_marks(session: &Session, recognised: &Recognised) -> Result<(Marks, Option<PostgresError>), PostgresError> {
    session.execute("begin reading the marks", "SAVEPOINT marks")?;
    match marks::read(session, recognised) {
        Ok(marks) => Ok((marks, None)),
        Err(error) => {
            session.execute("go on without the marks", "ROLLBACK TO SAVEPOINT marks")?;
            Ok((Marks::default(), Some(error)))
        }
    }
}

/// Runs both at once, the second on a thread of its own.
fn beside<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What is to be told of a dump that counts.
fn findings(name: &ArtifactName, said: &str, unread: Option<&PostgresError>) -> Vec<Finding> {
    let unread = unread.map(|error| {
        let message = format!("the high-water marks could not be read: {}", super::chain(error));
        Finding::new(Level::Degraded, "marks-unread", name.as_str(), message)
    });
    let said = (!said.is_empty())
        .then(|| Finding::new(Level::Note, "dump-warned", name.as_str(), format!("pg_dump said: {said}")));
    unread.into_iter().chain(said).collect()
}

fn program(program: &'static str, given: Option<&Path>, version: &ServerVersion) -> Result<Program, PostgresError> {
    match given {
        Some(path) => programs::check(program, path, version.major()),
        None => programs::for_server(program, version.major()),
    }
}

impl Program {
    /// What is to be told of a dump whose program is newer than its server: its own companion alone reads it by hand.
    fn newer(&self, name: &ArtifactName, version: &ServerVersion) -> Option<Finding> {
        let (ours, servers) = (self.major, version.major());
        (ours != servers).then(|| {
            let message = format!(
                "made by pg_dump {ours} from a server {servers}, \
                as there is no pg_dump {servers} here"
            );
            let hint = format!(
                "`restore` takes it in all the same; \
                    by hand it needs pg_restore {ours}, and a server {servers} may refuse \
                 what that says first. Better install the programs of the server (Debian: postgresql-client-{servers})"
            );
            Finding::new(Level::Note, "newer-program", name.as_str(), message).with_hint(hint)
        })
    }
}

/// A program of PostgreSQL's with the environment that makes its output the same everywhere.
fn exec(program: &Path, server: &Server, passfile: Option<&Path>) -> Exec {
    let exec = Exec::new(program)
        .env("LC_ALL", "C")
        .env("PGTZ", "UTC")
        .env("PGOPTIONS", SESSION_OPTIONS)
        .env("PGAPPNAME", "relay-backup")
        .env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string());
    match passfile.or(server.passfile()) {
        Some(path) => exec.env("PGPASSFILE", path),
        None => exec,
    }
}

/// Runs `pg_dump`, hands its bytes on unchanged and looks at them on the way. Returns what was learned and what the
/// program said although it ended well.
fn stream(
    exec: Exec,
    database: &str,
    out: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<(Archive, String), SourceError> {
    let broken = |source: ArchiveError| PostgresError::Archive { database: database.to_owned(), source };
    let mut running = exec.stream(None).map_err(PostgresError::Program)?;
    let mut scanner = Scanner::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut passed: u64 = 0;
    while_ended_by(interrupt, running.id(), || {
        loop {
            interrupt.check().map_err(SourceError::Sink)?;
            let count = read_some(&mut running, &mut buffer, database)?;
            if count == 0 {
                return interrupt.check().map_err(SourceError::Sink);
            }
            let in_head = scanner.head_bytes().is_none();
            scanner.push(&buffer[..count]).map_err(broken)?;
            let mut rest = &buffer[..count];
            if let Some(head) = scanner.head_bytes().filter(|_| in_head) {
                // The head ends in this buffer; nothing of it may share a segment with the rows.
                let (end, rows) = rest.split_at(usize::try_from(head - passed).unwrap_or(count).min(count));
                out.write_all(end).and_then(|()| out.flush()).map_err(SourceError::Sink)?;
                rest = rows;
            }
            out.write_all(rest).map_err(SourceError::Sink)?;
            passed += count as u64;
        }
    })?;
    let subject = format!("database {database}");
    let said = running.finish_saying().map_err(|source| PostgresError::Dump { subject, source })?;
    Ok((scanner.finish().map_err(broken)?, said))
}

/// Runs `read`, and meanwhile ends the child it reads from as soon as somebody asks to stop: a dump that waits for the
/// server gives no byte after which that could be noticed. The child must not be reaped while `read` runs.
fn while_ended_by<R>(interrupt: &Interrupt, child: u32, read: impl FnOnce() -> R) -> R {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(INTERRUPT_LOOK) == Err(RecvTimeoutError::Timeout) {
                if interrupt.is_set() {
                    end(child);
                    return;
                }
            }
        });
        let result = read();
        drop(done);
        result
    })
}

/// Ends a child at once; one that has ended already is left alone.
fn end(child: u32) {
    let pid = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
    {
        tracing::debug!(%error, "the dump had ended by itself");
    }
}

fn read_some(running: &mut Running, buffer: &mut [u8], subject: &str) -> Result<usize, PostgresError> {
    loop {
        match running.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.map_err(|source| PostgresError::Read { subject: subject.to_owned(), source }),
        }
    }
}

/// Every table of the catalogue must be in the dump; an extension's own tables need not be.
fn check_tables(database: &str, survey: &Survey, archive: &Archive) -> Result<(), PostgresError> {
    let dumped: std::collections::HashSet<u32> = archive.tables.iter().map(|table| table.oid).collect();
    let is_missing = |table: &&survey::CatalogTable| table.extension.is_none() && !dumped.contains(&table.oid);
    let mut missing = survey.tables.iter().filter(is_missing);
    let Some(first) = missing.next() else { return Ok(()) };
    let first = format!("{}.{}", first.schema, first.name);
    Err(PostgresError::TablesMissing { database: database.to_owned(), first, count: 1 + missing.count() })
}

/// Puts together what the server said and what streamed past.
fn facts(
    session: &Session,
    database: &str,
    survey: Survey,
    marks: Marks,
    archive: Archive,
) -> Result<DatabaseFacts, PostgresError> {
    let Survey { database: own, roles, extensions, tables: catalog, materialized_views, recognised } = survey;
    let catalog: HashMap<u32, survey::CatalogTable> = catalog.into_iter().map(|table| (table.oid, table)).collect();
    let encoding = archive.encoding;
    let name = |bytes: &[u8]| decode(session, &encoding, bytes);
    let mut tables = Vec::with_capacity(archive.tables.len());
    for table in &archive.tables {
        let known = catalog.get(&table.oid);
        tables.push(TableFacts {
            schema: known.map_or_else(|| name(&table.schema), |known| Ok(known.schema.clone()))?,
            name: known.map_or_else(|| name(&table.name), |known| Ok(known.name.clone()))?,
            rows: table.rows,
            digest: table.digest,
            columns: table.columns.iter().map(|column| name(column)).collect::<Result<_, _>>()?,
            extension: known.and_then(|known| known.extension.clone()),
        });
    }
    let mut sequences = Vec::with_capacity(archive.sequences.len());
    for sequence in &archive.sequences {
        sequences.push(SequenceFacts {
            schema: name(&sequence.schema)?,
            name: name(&sequence.name)?,
            last_value: sequence.last_value,
            is_called: sequence.is_called,
        });
    }
    Ok(DatabaseFacts {
        name: database.to_owned(),
        server: own.server,
        pg_dump: archive.pg_dump,
        archive_version: archive.version,
        dump_bytes: archive.bytes,
        collation: own.collation,
        ctype: own.ctype,
        locale_provider: own.locale_provider,
        locale: own.locale,
        owner: own.owner,
        roles,
        extensions,
        software: recognised.software,
        channel_tables: recognised.channel_tables,
        size_bytes: own.size_bytes,
        tables,
        sequences,
        materialized_views,
        large_objects: archive.large_objects,
        marks,
        encoding,
        rights: None,
    })
}

/// A name in the archive's encoding as text. The server itself translates what is not plain.
pub(super) fn decode(session: &Session, encoding: &str, bytes: &[u8]) -> Result<String, PostgresError> {
    let utf8 = std::str::from_utf8(bytes).ok();
    match utf8 {
        Some(text) if text.is_ascii() || encoding == "UTF8" => Ok(text.to_owned()),
        _ if encoding == "SQL_ASCII" => Ok(String::from_utf8_lossy(bytes).into_owned()),
        _ => {
            let sql = "SELECT convert_from($1::bytea, $2::name)";
            Ok(session.query_one("translate a name", sql, &[&bytes, &encoding])?.get(0))
        }
    }
}

/// Dumps roles and grants into the sink.
pub(super) fn globals(
    source: &Postgres<'_>,
    server: &Server,
    version: &ServerVersion,
    sink: &mut dyn Sink,
) -> Result<(), SourceError> {
    let name = valid("globals", &globals_name(source.name)?)?;
    let program = program("pg_dumpall", source.programs.pg_dumpall.as_deref(), version)?;
    let (server, session) = any_database(source, server)?;
    let may = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let passwords = match session.query_one("ask for the right to read passwords", may, &[])?.get(0) {
        true => Passwords::Included,
        false => Passwords::Absent,
    };
    let roles = survey::all_roles(&session)?;
    let kind = ArtifactKind::PostgresGlobals;
    let spec = ArtifactSpec { name: name.clone(), kind, codec: source.codec, toxicity: Toxicity::Harmless };
    let mut said = String::new();
    sink.artifact(spec, &mut |out| {
        let mut exec = exec(&program.path, &server, source.passfile)
            .args(["--globals-only", "--no-password"])
            .arg(format!("--database={}", server.database()))
            .arg(format!("--dbname={}", server.conninfo()));
        if passwords == Passwords::Absent {
            exec = exec.arg("--no-role-passwords");
        }
        let (bytes, warned) = stream_globals(exec, out, &source.interrupt)?;
        said = warned;
        let (server, roles) = (version.clone(), roles.clone());
        Ok(Facts::PostgresGlobals(GlobalsFacts { server, roles, passwords, bytes }))
    })?;
    if !said.is_empty() {
        sink.finding(Finding::new(Level::Note, "dump-warned", name.as_str(), format!("pg_dumpall said: {said}")));
    }
    Ok(())
}

/// The URL's own database, or the first of the policy's that lets us in.
pub(super) fn any_database(source: &Postgres<'_>, server: &Server) -> Result<(Server, Session), PostgresError> {
    let own = server.connect();
    let error = match own {
        Ok(session) => return Ok((server.clone(), session)),
        Err(error) => error,
    };
    for database in source.databases {
        let other = server.with_database(database);
        if let Ok(session) = other.connect() {
            return Ok((other, session));
        }
    }
    Err(error)
}

fn stream_globals(exec: Exec, out: &mut dyn Write, interrupt: &Interrupt) -> Result<(u64, String), SourceError> {
    let mut running = exec.stream(None).map_err(PostgresError::Program)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut tail: Vec<u8> = Vec::new();
    let mut bytes = 0;
    while_ended_by(interrupt, running.id(), || {
        loop {
            interrupt.check().map_err(SourceError::Sink)?;
            let count = read_some(&mut running, &mut buffer, "the roles")?;
            if count == 0 {
                return interrupt.check().map_err(SourceError::Sink);
            }
            bytes += count as u64;
            tail.extend_from_slice(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(1024));
            out.write_all(&buffer[..count]).map_err(SourceError::Sink)?;
        }
    })?;
    let subject = "the roles".to_owned();
    let said = running.finish_saying().map_err(|source| PostgresError::Dump { subject, source })?;
    if bytes == 0 {
        return Err(PostgresError::Globals { what: "it is empty" }.into());
    }
    if memchr::memmem::find(&tail, GLOBALS_END).is_none() {
        return Err(PostgresError::Globals { what: "its last line is missing" }.into());
    }
    Ok((bytes, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_safely_and_uniquely() {
        let source: SourceName = "btcpay".parse().unwrap();
        let name = |database: &str| artifact_name(&source, database).unwrap();
        assert_eq!(name("btcpaydb"), "btcpay/btcpaydb.dump");
        assert_eq!(name("my shop/ä"), "btcpay/my_x20shop_x2f_xc3_xa4.dump");
        assert_eq!(name("-.hidden"), "btcpay/_x2d.hidden.dump");
        assert_ne!(name("a b"), name("a_x20b"));
        assert!(name(&"/".repeat(63)).starts_with("btcpay/_h"));
        assert_ne!(name(&"/".repeat(63)), name(&"?".repeat(63)));
    }
}
