//! Proves a restored database against what was learned while it was dumped: tables row for row, sequences,
//! materialised views, large objects. Reads in one transaction; never writes. What differs is named; what cannot be
//! compared is said.

use super::archive::{PlainObjects, PlainRows};
use super::connect::{Server, Session, quote_name};
use super::restore::Unsettled;
use super::{PostgresError, dump, survey};
use crate::facts::postgres::{
    ContentDigest, DatabaseFacts, LargeObjectFacts, MaterializedViewFacts, SequenceFacts, TableFacts,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of a large object is read at once, in bytes.
const OBJECT_PIECE_BYTES: i32 = 1024 * 1024;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Tables whose rows were compared.
    pub tables: usize,
    /// Rows that were compared.
    pub rows: u64,
    /// Sequences that were compared.
    pub sequences: usize,
    /// Materialised views that were compared.
    pub materialized_views: usize,
    /// Large objects that were compared.
    pub large_objects: u64,
    /// Rows, sequences and large objects that are not as they were; empty when the copy is proved.
    pub differences: Vec<Difference>,
    /// What derives from rows or belongs to them and is not as it was: views, owners, rights, parts.
    pub unsettled: Vec<Unsettled>,
    /// What could not be compared and why, one sentence each.
    pub not_compared: Vec<String>,
}

/// One thing that is not as it was when the dump was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The thing: `table public.Invoices`.
    pub subject: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.subject, self.expected, self.found)
    }
}

/// Compares the database that `url` names with the facts of a dump. An error means that the comparison could not be
/// made; differences are no error.
pub fn prove(url: &str, passfile: Option<&Path>, facts: &DatabaseFacts) -> Result<Proof, PostgresError> {
    prove_at(&Server::parse(url, passfile)?, facts)
}

/// The same for a server's database. Two sessions of one snapshot read the tables, the largest first.
pub(super) fn prove_at(server: &Server, facts: &DatabaseFacts) -> Result<Proof, PostgresError> {
    let session = server.connect()?;
    session.execute("begin a transaction", dump::BEGIN)?;
    let snapshot = session.query_one("export a snapshot", "SELECT pg_export_snapshot()", &[])?;
    let snapshot: String = snapshot.get(0);
    let mut proof = Proof::default();
    tables(server, &session, &snapshot, facts, &mut proof)?;
    sequences(&session, facts, &mut proof)?;
    views(&session, facts, &mut proof)?;
    let objects = large_objects(&session)?;
    proof.large_objects = objects.count;
    let tell = |objects: &LargeObjectFacts| format!("{} with digest {}", objects.count, objects.digest);
    proof.expect("large objects", tell(&facts.large_objects), tell(&objects));
    session.execute("end the transaction", "COMMIT")?;
    Ok(proof)
}

impl Proof {
    /// Whether everything is as it was.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn expect(&mut self, subject: impl Into<String>, expected: String, found: String) {
        if expected != found {
            self.differences.push(Difference { subject: subject.into(), expected, found });
        }
    }
}

fn tables(
    server: &Server,
    session: &Session,
    snapshot: &str,
    facts: &DatabaseFacts,
    proof: &mut Proof,
) -> Result<(), PostgresError> {
    let mut here: BTreeMap<(String, String), Option<String>> =
        survey::tables(session)?.into_iter().map(|table| ((table.schema, table.name), table.extension)).collect();
    let mut to_read = Vec::new();
    for table in &facts.tables {
        let subject = format!("table {}.{}", table.schema, table.name);
        let found = here.remove(&(table.schema.clone(), table.name.clone()));
        if let Some(extension) = &table.extension {
            let why = format!("{subject} belongs to extension {extension}, which fills it with rows of its own");
            proof.not_compared.push(why);
            continue;
        }
        let expected = tell_rows(table.rows, table.digest);
        match found {
            None => proof.expect(subject, expected, "no such table".to_owned()),
            Some(_) => match missing_column(session, table)? {
                Some(column) => proof.expect(subject, expected, format!("no column {column}")),
                None => to_read.push(table),
            },
        }
    }
    to_read.sort_by_key(|table| std::cmp::Reverse(table.rows));
    for (table, (rows, digest)) in read_tables(server, session, snapshot, &to_read, &facts.encoding)? {
        proof.tables += 1;
        proof.rows += rows;
        let subject = format!("table {}.{}", table.schema, table.name);
        proof.expect(subject, tell_rows(table.rows, table.digest), tell_rows(rows, digest));
    }
    for ((schema, name), extension) in here {
        if extension.is_none() {
            proof.expect(format!("table {schema}.{name}"), "no such table".to_owned(), "a table".to_owned());
        }
    }
    Ok(())
}

type TableRows<'f> = (&'f TableFacts, (u64, ContentDigest));

/// Reads tables with two sessions, each taking the next that nobody has.
fn read_tables<'f>(
    server: &Server,
    session: &Session,
    snapshot: &str,
    tables: &[&'f TableFacts],
    encoding: &str,
) -> Result<Vec<TableRows<'f>>, PostgresError> {
    let next = AtomicUsize::new(0);
    let read = |session: &Session| {
        let mut found = Vec::new();
        while let Some(table) = tables.get(next.fetch_add(1, Ordering::SeqCst)) {
            found.push((*table, table_rows(session, table, encoding)?));
        }
        Ok::<_, PostgresError>(found)
    };
    std::thread::scope(|scope| {
        let helper = scope.spawn(|| {
            let helper = server.connect()?;
            helper.execute("begin a transaction", dump::BEGIN)?;
            helper.execute("see what the other sees", &format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))?;
            read(&helper)
        });
        let own = read(session);
        let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut found = own?;
        found.extend(helped?);
        Ok(found)
    })
}

fn tell_rows(rows: u64, digest: ContentDigest) -> String {
    format!("{rows} rows with digest {digest}")
}

fn missing_column(session: &Session, table: &TableFacts) -> Result<Option<String>, PostgresError> {
    let sql = "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = session.query("list a table's columns", sql, &[&table.schema, &table.name])?;
    let here: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(table.columns.iter().find(|column| !here.contains(column)).cloned())
}

fn table_rows(session: &Session, table: &TableFacts, encoding: &str) -> Result<(u64, ContentDigest), PostgresError> {
    let columns: Vec<String> = table.columns.iter().map(|column| quote_name(column)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!("({})", columns.join(", ")) };
    let (schema, name) = (quote_name(&table.schema), quote_name(&table.name));
    let encoding = encoding.replace('\'', "''");
    let sql = format!("COPY {schema}.{name} {columns} TO STDOUT WITH (ENCODING '{encoding}')");
    let broken = |source| PostgresError::Archive { database: table.name.clone(), source };
    let mut rows = PlainRows::default();
    session.copy_out("read the rows of a table", &sql, &mut |bytes| rows.push(bytes).map_err(broken))?;
    rows.finish().map_err(broken)
}

fn sequences(session: &Session, facts: &DatabaseFacts, proof: &mut Proof) -> Result<(), PostgresError> {
    let sql = r"SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\_%'
            AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1, 2";
    let rows = session.query("list the sequences", sql, &[])?;
    let mut here: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let tell = |value: i64, called: bool| format!("{value}{}", if called { "" } else { ", not handed out yet" });
    for SequenceFacts { schema, name, last_value, is_called } in &facts.sequences {
        let subject = format!("sequence {schema}.{name}");
        let expected = tell(*last_value, *is_called);
        let Some(at) = here.iter().position(|other| (&other.0, &other.1) == (schema, name)) else {
            proof.expect(subject, expected, "no such sequence".to_owned());
            continue;
        };
        here.remove(at);
        let sql = format!("SELECT last_value, is_called FROM {}.{}", quote_name(schema), quote_name(name));
        let row = session.query_one("read a sequence", &sql, &[])?;
        proof.sequences += 1;
        proof.expect(subject, expected, tell(row.get(0), row.get(1)));
    }
    for (schema, name) in here {
        proof.expect(format!("sequence {schema}.{name}"), "no such sequence".to_owned(), "a sequence".to_owned());
    }
    Ok(())
}

/// Materialised views: there, filled, with the columns they had. Their queries are not compared: a server prints one
/// differently after a dump and a restore, and under other settings.
fn views(session: &Session, facts: &DatabaseFacts, proof: &mut Proof) -> Result<(), PostgresError> {
    let found = survey::materialized_views(session)?;
    let mut here: HashMap<(&str, &str), &MaterializedViewFacts> =
        found.iter().map(|view| ((view.schema.as_str(), view.name.as_str()), view)).collect();
    let tell = |view: &MaterializedViewFacts| {
        let filled = if view.populated { "filled" } else { "not filled" };
        format!("{filled}, with columns ({})", view.columns.join(", "))
    };
    let mut expect = |view: &MaterializedViewFacts, expected: String, found: String| {
        if expected != found {
            let name = format!("{}.{}", quote_name(&view.schema), quote_name(&view.name));
            let statement = Some(format!("REFRESH MATERIALIZED VIEW {name}")).filter(|_| view.populated);
            let what = format!("materialised view {}.{}", view.schema, view.name);
            proof.unsettled.push(Unsettled { what, expected, found, statement });
        }
    };
    for view in &facts.materialized_views {
        let found = here.remove(&(view.schema.as_str(), view.name.as_str()));
        expect(view, tell(view), found.map_or_else(|| "missing".to_owned(), tell));
    }
    for view in here.values() {
        expect(view, "not there".to_owned(), tell(view));
    }
    proof.materialized_views = facts.materialized_views.len();
    if proof.materialized_views > 0 {
        let what = "their rows and queries, which a restore makes anew";
        proof.not_compared.push(format!("of materialised views ({}): {what}", proof.materialized_views));
    }
    Ok(())
}

/// Number and digest of all large objects, read in pieces.
fn large_objects(session: &Session) -> Result<LargeObjectFacts, PostgresError> {
    let doing = "read the large objects";
    let rows = session.query(doing, "SELECT oid FROM pg_largeobject_metadata ORDER BY oid", &[])?;
    let mut sum = PlainObjects::default();
    for row in rows {
        let oid: u32 = row.get(0);
        sum.begin(oid);
        let mut at: i64 = 0;
        loop {
            let row = session.query_one(doing, "SELECT lo_get($1, $2, $3)", &[&oid, &at, &OBJECT_PIECE_BYTES])?;
            let bytes: &[u8] = row.get(0);
            sum.push(bytes);
            at += bytes.len() as i64;
            if bytes.len() < OBJECT_PIECE_BYTES as usize {
                break;
            }
        }
        sum.end();
    }
    Ok(sum.facts())
}
