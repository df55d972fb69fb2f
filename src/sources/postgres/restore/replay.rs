//! A dump taken into an empty database, entry for entry, by a session of the role that runs what others wrote. Rows
//! come first: what they are put into, they themselves, values of sequences, large objects; any of these that cannot
//! be given back ends the restore. What derives from them comes after: where one index, view, trigger or comment
//! fails, it is left out and named, and everything else stays. Indexes of a table that is whole are built while the
//! next one comes. Nothing here has more rights than the role; statements that only a superuser may run are left to a
//! person.

mod left_out;
mod order;
mod worker;

pub use left_out::LeftOut;

use super::super::archive::{Block, Entry, Reader};
use super::super::connect::{Server, Session};
use super::super::hand::Hand;
use super::{RestoreError, quote_name};
use crate::facts::postgres::DatabaseFacts;
use crossbeam_channel::unbounded;
use left_out::Failures;
use order::Order;
use std::collections::HashMap;
use std::io::Read;
use worker::Worker;

/// What came of a dump.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// What is not there and which statement would make it.
    pub left_out: Vec<LeftOut>,
    /// What is not as it was and need not be, one sentence each.
    pub notes: Vec<String>,
}

/// Fills a database that the hand's role owns. The dump need not end where reading stops.
pub(super) fn replay(
    hand: &Hand,
    admin: &Server,
    facts: &DatabaseFacts,
    dump: &mut dyn Read,
) -> Result<Replayed, RestoreError> {
    let database = admin.database();
    let server = hand.server(database)?;
    let broken = |source| RestoreError::Dump { database: database.to_owned(), source };
    let mut reader = Reader::new(dump);
    let contents = reader.contents().map_err(broken)?;
    let order = Order::of(&contents.entries, facts.rights.is_some());
    let failures = Failures::new(database);
    let worker = || Worker::begin(&server, &contents.encoding, facts, &failures);
    let main = worker()?;
    order.schemas.iter().for_each(|entry| main.try_entry(entry));
    for entry in &order.extensions {
        main.extension(entry, admin)?;
    }
    order.containers.iter().for_each(|entry| main.try_entry(entry));
    failures.check()?;
    let (ready, indexes) = unbounded::<&Entry>();
    let notes = std::thread::scope(|scope| {
        let helper = scope.spawn(|| {
            let helper = worker()?;
            indexes.iter().for_each(|entry| helper.try_entry(entry));
            Ok::<_, RestoreError>(helper.into_notes())
        });
        let filled = fill(&main, &mut reader, &order, facts, &mut |entry| {
            ready.send(entry).expect("the receiving end lives in this very scope");
        });
        drop(ready);
        if filled.is_ok() {
            // Both take what is left.
            indexes.iter().for_each(|entry| main.try_entry(entry));
        } else {
            indexes.try_iter().for_each(drop);
        }
        let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        filled.and(helped)
    })?;
    failures.check()?;
    order.by_hand.iter().for_each(|entry| failures.not_ours(entry));
    order.derived.iter().for_each(|entry| main.try_entry(entry));
    server.interrupt().check().map_err(|_| RestoreError::Interrupted { database: database.to_owned() })?;
    failures.check()?;
    let mut all = main.into_notes();
    all.extend(notes);
    all.extend(order.notes());
    Ok(Replayed { left_out: failures.into_left_out(), notes: all })
}

/// Takes in rows, large objects and the values of sequences. `ready` gets what can be built once a table is whole.
fn fill<'e>(
    main: &Worker<'_>,
    reader: &mut Reader<'_>,
    order: &Order<'e>,
    facts: &DatabaseFacts,
    ready: &mut dyn FnMut(&'e Entry),
) -> Result<(), RestoreError> {
    let database = || facts.name.clone();
    let broken = |source| RestoreError::Dump { database: database(), source };
    for entry in &order.objects {
        main.make_objects(entry)?;
    }
    let rows: HashMap<i32, &Entry> = order.rows.iter().map(|entry| (entry.dump_id, *entry)).collect();
    // Of extensions' own tables a dump holds what was added to them.
    let optional: Vec<(&str, &str)> = facts
        .tables
        .iter()
        .filter(|table| table.extension.is_some())
        .map(|table| (table.schema.as_str(), table.name.as_str()))
        .collect();
    let mut built = order.indexes.clone();
    while let Some(block) = reader.block().map_err(broken)? {
        match block {
            Block::Objects => {
                while let Some(oid) = reader.object().map_err(broken)? {
                    main.object(oid, reader)?;
                }
            }
            Block::Rows(number) => {
                let entry = *rows.get(&number).ok_or_else(|| {
                    broken(super::super::ArchiveError::Malformed { what: "the number of a data block" }.into())
                })?;
                let is_optional = optional
                    .iter()
                    .any(|(schema, name)| schema.as_bytes() == entry.schema && name.as_bytes() == entry.tag);
                main.rows(entry, reader, is_optional)?;
                built.retain(|(table, index)| {
                    let is_ready = entry.depends.contains(table);
                    if is_ready {
                        ready(index);
                    }
                    !is_ready
                });
            }
        }
    }
    built.iter().for_each(|(_, index)| ready(index));
    for entry in &order.sequences {
        main.run(entry).map_err(|error| main.essential(entry, error))?;
    }
    Ok(())
}

/// Makes an extension that only a superuser may make, by a statement of our own, while nothing of the dump but empty
/// schemas is there. Its script is the server's, and finds nothing of a stranger's that it could call.
fn by_superuser(admin: &Server, extension: &str, schema: Option<&str>) -> Result<(), RestoreError> {
    let session: Session = admin.connect()?;
    let schema = schema.map(|schema| format!(" WITH SCHEMA {}", quote_name(schema))).unwrap_or_default();
    let sql = format!("CREATE EXTENSION IF NOT EXISTS {}{schema}", quote_name(extension));
    Ok(session.execute("make an extension", &sql)?)
}
