//! In which order the entries of a dump are taken in, and which of them are not ours to run.

use super::super::super::archive::{Entry, Section};
use std::collections::{BTreeSet, HashSet};

/// Entries that are settings of the dump itself, or are given back from the notes or by whoever makes the database.
const PASSED_OVER: [&str; 5] = ["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"];
/// Rights: given back from the notes, by owner and name.
const RIGHTS: [&str; 2] = ["ACL", "DEFAULT ACL"];
/// What only a superuser may make, or what would begin to act on its own: a person runs it.
const BY_HAND: [&str; 2] = ["EVENT TRIGGER", "SUBSCRIPTION"];
/// What goes with these.
const WITH_BY_HAND: [&str; 1] = ["SUBSCRIPTION TABLE"];
/// What is built on one table alone once it is whole.
const ON_ONE_TABLE: [&str; 2] = ["INDEX", "CONSTRAINT"];

/// The entries of a dump by when they are run.
#[derive(Debug, Default)]
pub(super) struct Order<'e> {
    pub(super) schemas: Vec<&'e Entry>,
    pub(super) extensions: Vec<&'e Entry>,
    /// What rows are put into, and the functions, types and views that belong there.
    pub(super) containers: Vec<&'e Entry>,
    /// Large objects to be made.
    pub(super) objects: Vec<&'e Entry>,
    /// Rows.
    pub(super) rows: Vec<&'e Entry>,
    /// Values of sequences.
    pub(super) sequences: Vec<&'e Entry>,
    /// Indexes and constraints, each with the number of its table.
    pub(super) indexes: Vec<(i32, &'e Entry)>,
    /// Everything that needs the rows.
    pub(super) derived: Vec<&'e Entry>,
    /// What is left to a person.
    pub(super) by_hand: Vec<&'e Entry>,
    tablespaces: BTreeSet<String>,
}

impl<'e> Order<'e> {
    /// Sorts; the entries' own order stays within each group. Without rights in the notes those of the dump are run.
    pub(super) fn of(entries: &'e [Entry], are_rights_noted: bool) -> Self {
        let mut order = Self::default();
        let tables: HashSet<i32> =
            entries.iter().filter(|entry| entry.kind == "TABLE").map(|entry| entry.dump_id).collect();
        let (mut last, mut views) = (Vec::new(), Vec::new());
        for entry in entries {
            let kind = entry.kind.as_str();
            if PASSED_OVER.contains(&kind) || WITH_BY_HAND.contains(&kind) {
                continue;
            }
            if !entry.tablespace.is_empty() {
                order.tablespaces.insert(String::from_utf8_lossy(&entry.tablespace).into_owned());
            }
            if RIGHTS.contains(&kind) {
                if !are_rights_noted {
                    last.push(entry);
                }
                continue;
            }
            if BY_HAND.contains(&kind) {
                order.by_hand.push(entry);
                continue;
            }
            match (kind, entry.section) {
                ("SCHEMA", _) => order.schemas.push(entry),
                ("EXTENSION", _) => order.extensions.push(entry),
                // An extension brings its own comment, and belongs to whoever could make it.
                ("COMMENT", _) if entry.tag.starts_with(b"EXTENSION ") => {}
                ("BLOB" | "BLOB METADATA", _) => order.objects.push(entry),
                ("BLOBS", _) => {}
                ("TABLE DATA", _) => order.rows.push(entry),
                ("SEQUENCE SET", _) => order.sequences.push(entry),
                ("MATERIALIZED VIEW DATA", _) => views.push(entry),
                (_, Section::PreData) => order.containers.push(entry),
                (_, Section::PostData) => match entry.depends.iter().find(|number| tables.contains(number)) {
                    Some(table) if ON_ONE_TABLE.contains(&kind) => order.indexes.push((*table, entry)),
                    _ => order.derived.push(entry),
                },
                // Comments and labels of what comes at any time.
                (_, Section::Data | Section::None) => last.push(entry),
            }
        }
        order.derived.extend(last);
        // As `pg_restore` does: a view is filled when everything that its query may call is there.
        order.derived.extend(views);
        order
    }

    /// What is not as it was.
    pub(super) fn notes(&self) -> Option<String> {
        let names: Vec<&str> = self.tablespaces.iter().map(String::as_str).collect();
        (!names.is_empty())
            .then(|| format!("everything lies in the server's own tablespace; some of it was in {}", names.join(", ")))
    }
}
