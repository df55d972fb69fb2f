//! Owners and rights of a filled database given back as the notes have them, by statements of our own that name what
//! the server itself named. Meanwhile everything belonged to the role that filled it. What cannot be given back is
//! named with the statement that would. Runs nothing of the dump: changing an owner or a right calls no function of
//! anybody's, and there are no event triggers yet.
//!
//! What ran while the database was filled ran as the role that owned all of it, and may have changed any of it. So
//! where somebody without a superuser's rights has functions in a database, nothing that could hold code is given to
//! a role with such rights: the role would run it one day. It stays with the role that restores, and is named.

use super::super::PostgresError;
use super::super::connect::{Session, quote_name};
use super::super::hand::ROLE;
use super::super::rights::{self, ALL, LARGE_OBJECT, Large};
use super::literal;
use crate::facts::postgres::{DatabaseFacts, DatabaseRights, DefaultRights, Grant, ObjectRights, Rights, Setting};
use std::collections::{BTreeMap, BTreeSet};

/// One thing that is not as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// What: `the owner of table public.t`.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
    /// The statement that would mend it.
    pub statement: Option<String>,
}

impl std::fmt::Display for Unsettled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was not given back: it was {} and is {}", self.what, self.expected, self.found)
    }
}

/// Kinds of objects that hold no code which their owner would run.
const WITHOUT_CODE: [&str; 8] = [
    "schema",
    "sequence",
    LARGE_OBJECT,
    "collation",
    "text search configuration",
    "text search dictionary",
    "publication",
    "language",
];

/// Who must not be given what a stranger may have changed.
struct Privileged {
    /// Roles with a superuser's rights, where the database was and where it is.
    roles: BTreeSet<String>,
    /// Whether anybody else has functions in the database.
    are_strangers_here: bool,
}

impl Privileged {
    fn of(session: &Session, noted: &Rights) -> Result<Self, PostgresError> {
        let mut roles: BTreeSet<String> = noted.privileged.iter().cloned().collect();
        roles.extend(rights::privileged(session)?);
        let is_strange = |object: &ObjectRights| {
            let is_code = in_alter(&object.kind) == "ROUTINE" || object.kind == "language";
            is_code && !roles.contains(&object.owner)
        };
        let are_strangers_here = noted.objects.iter().any(is_strange);
        Ok(Self { roles, are_strangers_here })
    }

    /// Whether a role may get everything that is there.
    fn may_have_all(&self, role: &str) -> bool {
        !(self.are_strangers_here && self.roles.contains(role))
    }

    /// Whether an object may go back to its owner.
    fn may_have(&self, object: &ObjectRights) -> bool {
        self.may_have_all(&object.owner) || WITHOUT_CODE.contains(&object.kind.as_str())
    }
}

/// Gives everything back in a database that `role` filled. `session` is in that database.
pub(super) fn settle(session: &Session, role: &str, owner: &str, noted: &Rights) -> Result<(), PostgresError> {
    let wanted = one_by_one(session, noted)?;
    let noted_objects = wanted.as_ref().unwrap_or(&noted.objects);
    let privileged = Privileged::of(session, noted)?;
    let to_be_given: Vec<ObjectRights> =
        noted_objects.iter().filter(|object| privileged.may_have(object)).cloned().collect();
    owners(session, &to_be_given)?;
    // What the notes do not name, such as what an older version did not look for, goes to the database's owner.
    if privileged.may_have_all(owner) {
        hand_over(session, role, owner);
    }
    // Sequences that belong to a column went with their table, and some could not go before it.
    owners(session, &to_be_given)?;
    let here = by_name(rights::objects(session, Large::Each)?);
    let mut statements = Vec::new();
    for object in &to_be_given {
        let Some(found) = here.get(&key(object)) else { continue };
        statements.extend(changes(object, found).into_iter().map(|change| change.sql(&on(object), &object.owner)));
    }
    statements.extend(defaults(&noted.defaults, &rights::defaults(session)?));
    attempt_all(session, &statements)
}

/// Gives everything to the database's owner, where the notes do not say whose it was: unless the owner has a
/// superuser's rights. Then it stays with the role that filled it, and that is told.
pub(super) fn all_to_owner(session: &Session, role: &str, owner: &str) -> Result<(), PostgresError> {
    if !rights::privileged(session)?.iter().any(|one| one == owner) {
        hand_over(session, role, owner);
    }
    Ok(())
}

/// Everything that is left of a role's goes to another, and so do its rights.
fn hand_over(session: &Session, role: &str, owner: &str) {
    let (role, owner) = (quote_name(role), quote_name(owner));
    let sql = [format!("REASSIGN OWNED BY {role} TO {owner}"), format!("DROP OWNED BY {role}")];
    if let Err(error) = attempt_all(session, &sql) {
        tracing::debug!(%error, "not everything could be handed over");
    }
}

/// What belongs to the database itself, given back; `name` is what it is called now.
pub(super) fn database(
    session: &Session,
    name: &str,
    owner: &str,
    noted: &DatabaseRights,
) -> Result<(), PostgresError> {
    let quoted = quote_name(name);
    let here = rights::database(session)?;
    let mut statements = Vec::new();
    let as_object = |granted: &[Grant], taken: &[Grant]| ObjectRights {
        kind: "database".to_owned(),
        identity: quoted.clone(),
        owner: owner.to_owned(),
        granted: granted.to_vec(),
        taken: taken.to_vec(),
    };
    let (wanted, found) = (as_object(&noted.granted, &noted.taken), as_object(&here.granted, &here.taken));
    statements.extend(changes(&wanted, &found).into_iter().map(|change| change.sql(&on(&wanted), owner)));
    if noted.connection_limit != here.connection_limit {
        statements.push(format!("ALTER DATABASE {quoted} CONNECTION LIMIT {}", noted.connection_limit));
    }
    let may = settings_that_load_nothing(session)?;
    for setting in noted.settings.iter().filter(|setting| may.contains(&setting.name.to_lowercase())) {
        // A list of names is one value for the server that reads it, and several for the statement that sets it.
        let whose = match &setting.role {
            Some(role) => format!("ALTER ROLE {} IN DATABASE {quoted}", quote_name(role)),
            None => format!("ALTER DATABASE {quoted}"),
        };
        statements.push(format!(
            "BEGIN; SELECT pg_catalog.set_config({}, {}, true); {whose} SET {} FROM CURRENT; COMMIT",
            literal(&setting.name),
            literal(&setting.value),
            setting.name.split('.').map(quote_name).collect::<Vec<_>>().join(".")
        ));
    }
    attempt_all(session, &statements)
}

/// Settings that every user may change: none of them makes a server load a program or tell a log something.
fn settings_that_load_nothing(session: &Session) -> Result<BTreeSet<String>, PostgresError> {
    let sql = "SELECT lower(name) FROM pg_settings WHERE context = 'user' AND name <> 'local_preload_libraries'";
    Ok(session.query("ask which settings are everybody's", sql, &[])?.iter().map(|row| row.get(0)).collect())
}

/// What is not as noted, now that everything was tried. Parts that are missing are told by name.
pub(super) fn compare(session: &Session, name: &str, facts: &DatabaseFacts) -> Result<Vec<Unsettled>, PostgresError> {
    let Some(noted) = &facts.rights else { return Ok(Vec::new()) };
    let is_one = noted.objects.iter().any(|object| object.kind == LARGE_OBJECT && object.identity == ALL);
    let here = by_name(rights::objects(session, if is_one { Large::Alike } else { Large::Each })?);
    let mut unsettled = surplus(&here, noted);
    for object in &noted.objects {
        let called = format!("{} {}", object.kind, object.identity);
        let Some(found) = here.get(&key(object)) else {
            // Whether there are any is told with the rows.
            if object.kind != LARGE_OBJECT {
                unsettled.push(missing(&called));
            }
            continue;
        };
        let owner = (&object.owner, &found.owner);
        if owner.0 != owner.1 {
            unsettled.push(Unsettled {
                what: format!("the owner of {called}"),
                expected: object.owner.clone(),
                found: found.owner.clone(),
                statement: Some(alter_owner(object)),
            });
        }
        unsettled
            .extend(changes(object, found).into_iter().map(|change| change.told(&called, &on(object), &object.owner)));
    }
    let parts: BTreeSet<String> = rights::parts(session)?.into_iter().collect();
    unsettled.extend(noted.parts.iter().filter(|part| !parts.contains(*part)).map(|part| missing(part)));
    let added = parts.iter().filter(|part| runs_code(part) && !noted.parts.contains(*part));
    unsettled.extend(added.map(|part| not_noted(part, None)));
    unsettled.extend(defaults(&noted.defaults, &rights::defaults(session)?).into_iter().map(|statement| Unsettled {
        what: "a default right".to_owned(),
        expected: "given".to_owned(),
        found: "not".to_owned(),
        statement: Some(statement).filter(|statement| !statement.is_empty()),
    }));
    unsettled.extend(compare_database(name, &facts.owner, &noted.database, &rights::database(session)?));
    Ok(unsettled)
}

fn compare_database(name: &str, owner: &str, noted: &DatabaseRights, here: &DatabaseRights) -> Vec<Unsettled> {
    let of = |rights: &DatabaseRights| ObjectRights {
        kind: "database".to_owned(),
        identity: quote_name(name),
        owner: owner.to_owned(),
        granted: rights.granted.clone(),
        taken: rights.taken.clone(),
    };
    let (wanted, found) = (of(noted), of(here));
    let mut unsettled: Vec<Unsettled> =
        changes(&wanted, &found).into_iter().map(|change| change.told("the database", &on(&wanted), owner)).collect();
    let quoted = quote_name(name);
    if noted.connection_limit != here.connection_limit {
        unsettled.push(Unsettled {
            what: "the database's limit of connections".to_owned(),
            expected: noted.connection_limit.to_string(),
            found: here.connection_limit.to_string(),
            statement: Some(format!("ALTER DATABASE {quoted} CONNECTION LIMIT {}", noted.connection_limit)),
        });
    }
    for Setting { role, name: setting, .. } in noted.settings.iter().filter(|one| !here.settings.contains(one)) {
        let whose = role.as_ref().map(|role| format!(" of role {role} in it")).unwrap_or_default();
        unsettled.push(Unsettled {
            what: format!("the database's setting {setting}{whose}"),
            // A value can be a secret of an extension's.
            expected: "set".to_owned(),
            found: "not as it was".to_owned(),
            statement: None,
        });
    }
    unsettled
}

/// Objects that the notes do not name and that stay with the role that restores: what ran while the database was filled
/// made them.
fn surplus(here: &BTreeMap<Key, ObjectRights>, noted: &Rights) -> Vec<Unsettled> {
    let known: BTreeSet<Key> = noted.objects.iter().map(key).collect();
    let of_ours = here.iter().filter(|(key, object)| object.owner == ROLE && !known.contains(*key));
    of_ours
        .filter(|(_, object)| object.kind != LARGE_OBJECT)
        .map(|(_, object)| {
            let drop = format!("DROP {} {}", in_alter(&object.kind), object.identity);
            not_noted(&format!("{} {}", object.kind, object.identity), Some(drop))
        })
        .collect()
}

/// Whether a part of a table, by its name, is one that runs code for whoever changes the table.
fn runs_code(part: &str) -> bool {
    ["trigger ", "rule ", "policy "].iter().any(|kind| part.starts_with(kind))
}

fn not_noted(called: &str, statement: Option<String>) -> Unsettled {
    let (expected, found) = ("not there".to_owned(), "there".to_owned());
    Unsettled { what: called.to_owned(), expected, found, statement }
}

fn missing(called: &str) -> Unsettled {
    Unsettled { what: called.to_owned(), expected: "there".to_owned(), found: "missing".to_owned(), statement: None }
}

type Key = (String, String);

fn key(object: &ObjectRights) -> Key {
    (object.kind.clone(), object.identity.clone())
}

fn by_name(objects: Vec<ObjectRights>) -> BTreeMap<Key, ObjectRights> {
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

/// Changes every owner that is another than noted.
fn owners(session: &Session, noted: &[ObjectRights]) -> Result<(), PostgresError> {
    let here = by_name(rights::objects(session, Large::Each)?);
    let differs = |object: &&ObjectRights| here.get(&key(object)).is_some_and(|found| found.owner != object.owner);
    let statements: Vec<String> = noted.iter().filter(differs).map(alter_owner).collect();
    attempt_all(session, &statements)
}

/// The noted objects with every large object by itself, where one entry stands for all of them.
fn one_by_one(session: &Session, noted: &Rights) -> Result<Option<Vec<ObjectRights>>, PostgresError> {
    let stands_for_all = |object: &&ObjectRights| object.kind == LARGE_OBJECT && object.identity == ALL;
    let Some(all) = noted.objects.iter().find(stands_for_all) else { return Ok(None) };
    let rows = session.query("list the large objects", "SELECT oid FROM pg_largeobject_metadata", &[])?;
    let each = rows.iter().map(|row| ObjectRights { identity: row.get::<_, u32>(0).to_string(), ..all.clone() });
    Ok(Some(noted.objects.iter().filter(|object| !stands_for_all(object)).cloned().chain(each).collect()))
}

/// How a kind is called in ALTER.
fn in_alter(kind: &str) -> String {
    match kind {
        "function" | "procedure" | "aggregate" | "window function" => "ROUTINE".to_owned(),
        "statistics object" => "STATISTICS".to_owned(),
        "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
        other => other.to_uppercase(),
    }
}

fn alter_owner(object: &ObjectRights) -> String {
    format!("ALTER {} {} OWNER TO {}", in_alter(&object.kind), object.identity, quote_name(&object.owner))
}

/// What a right is of, in GRANT.
fn on(object: &ObjectRights) -> String {
    let kind = match object.kind.as_str() {
        "table" | "view" | "materialized view" | "foreign table" | "partitioned table" => "TABLE".to_owned(),
        "server" => "FOREIGN SERVER".to_owned(),
        other => in_alter(other),
    };
    format!("{kind} {}", object.identity)
}

/// One right to be given or taken.
struct Change {
    is_grant: bool,
    right: Grant,
}

/// What makes the found rights the wanted ones.
fn changes(wanted: &ObjectRights, found: &ObjectRights) -> Vec<Change> {
    let mut changes = Vec::new();
    let missing = |from: &[Grant], of: &[Grant]| -> Vec<Grant> {
        of.iter().filter(|grant| !from.contains(grant)).cloned().collect()
    };
    // Given and not wanted; wanted away and still there.
    let revoke = missing(&wanted.granted, &found.granted).into_iter().chain(missing(&found.taken, &wanted.taken));
    changes.extend(revoke.map(|right| Change { is_grant: false, right }));
    // Wanted and not given; away and wanted.
    let grant = missing(&found.granted, &wanted.granted).into_iter().chain(missing(&wanted.taken, &found.taken));
    changes.extend(grant.map(|right| Change { is_grant: true, right }));
    // The owner's own grants first: others give on what they were given.
    changes.sort_by_key(|change| change.right.by != wanted.owner);
    changes
}

impl Change {
    /// The statement; nothing where the notes have what is no right, which no server wrote.
    fn sql(&self, on: &str, owner: &str) -> String {
        let Grant { to, right, column, by, grantable } = &self.right;
        if !is_words(right) || on.is_empty() {
            return String::new();
        }
        let who = if to.is_empty() { "PUBLIC".to_owned() } else { quote_name(to) };
        let column = column.as_ref().map(|column| format!(" ({})", quote_name(column))).unwrap_or_default();
        let statement = if self.is_grant {
            let option = if *grantable { " WITH GRANT OPTION" } else { "" };
            format!("GRANT {right}{column} ON {on} TO {who}{option}")
        } else {
            format!("REVOKE {right}{column} ON {on} FROM {who}")
        };
        // A superuser's own grant counts as the owner's; another giver must be the one who gives.
        match by == owner {
            true => statement,
            false => format!("BEGIN; SET LOCAL ROLE {}; {statement}; COMMIT", quote_name(by)),
        }
    }

    fn told(&self, called: &str, on: &str, owner: &str) -> Unsettled {
        let who = if self.right.to.is_empty() { "everybody" } else { &self.right.to };
        let column = self.right.column.as_ref().map(|column| format!(" of column {column}")).unwrap_or_default();
        let (expected, found) = if self.is_grant { ("given", "not") } else { ("not given", "given") };
        Unsettled {
            what: format!("the right {}{column} on {called} for {who}", self.right.right),
            expected: expected.to_owned(),
            found: found.to_owned(),
            statement: Some(self.sql(on, owner)).filter(|statement| !statement.is_empty()),
        }
    }
}

/// Whether a text of the notes is made of SQL's own words, and so may stand in a statement as it is. Whoever signed the
/// notes is not whoever runs the statement.
fn is_words(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ')
}

/// Statements that make the found default rights the noted ones.
fn defaults(noted: &[DefaultRights], here: &[DefaultRights]) -> Vec<String> {
    let same = |left: &DefaultRights, right: &DefaultRights| {
        (&left.role, &left.schema, &left.of) == (&right.role, &right.schema, &right.of)
    };
    let mut statements = Vec::new();
    for wanted in noted {
        let found = here.iter().find(|one| same(one, wanted));
        let as_object = |rights: Option<&DefaultRights>| ObjectRights {
            kind: String::new(),
            identity: String::new(),
            owner: wanted.role.clone(),
            granted: rights.map(|rights| rights.granted.clone()).unwrap_or_default(),
            taken: rights.map(|rights| rights.taken.clone()).unwrap_or_default(),
        };
        let schema = wanted.schema.as_ref().map(|schema| format!(" IN SCHEMA {}", quote_name(schema)));
        let alter =
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{}", quote_name(&wanted.role), schema.unwrap_or_default());
        for change in changes(&as_object(Some(wanted)), &as_object(found)) {
            let of = if is_words(&wanted.of) { wanted.of.as_str() } else { "" };
            let grant = change.sql(of, &change.right.by);
            statements.push(if grant.is_empty() { grant } else { format!("{alter} {grant}") });
        }
    }
    statements
}

/// Runs what it can. A refusal is seen afterwards, by what is not as it should be.
fn attempt_all(session: &Session, statements: &[String]) -> Result<(), PostgresError> {
    let doing = "give back an owner or a right";
    if statements.iter().all(|statement| !statement.starts_with("BEGIN; "))
        && session.execute(doing, &statements.join("; ")).is_ok()
    {
        return Ok(());
    }
    for statement in statements {
        match session.execute(doing, statement) {
            Ok(()) => {}
            Err(error @ PostgresError::Interrupted { .. }) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, statement, "a right was not given back");
                if statement.starts_with("BEGIN; ") {
                    session.execute(doing, "ROLLBACK")?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(to: &str, right: &str, by: &str) -> Grant {
        Grant { to: to.to_owned(), right: right.to_owned(), column: None, by: by.to_owned(), grantable: false }
    }

    #[test]
    fn nothing_of_the_notes_becomes_a_statement_of_its_own() {
        let evil = "SELECT ON t TO x; DROP DATABASE y";
        let change = Change { is_grant: true, right: grant("a", evil, "shop") };
        assert_eq!(change.sql("TABLE t", "shop"), "");
        assert_eq!(change.told("table t", "TABLE t", "shop").statement, None);
        let quoted = Change { is_grant: true, right: grant("a\"; DROP DATABASE y", "SELECT", "shop") };
        assert_eq!(quoted.sql("TABLE t", "shop"), "GRANT SELECT ON TABLE t TO \"a\"\"; DROP DATABASE y\"");
        let noted = DefaultRights {
            role: "shop".to_owned(),
            schema: None,
            of: "TABLES TO x; DROP DATABASE y".to_owned(),
            granted: vec![grant("a", "SELECT", "shop")],
            taken: vec![],
        };
        assert_eq!(defaults(&[noted], &[]), [""]);
    }

    #[test]
    fn what_differs_becomes_statements_the_owners_first() {
        let object = |granted: Vec<Grant>, taken: Vec<Grant>| ObjectRights {
            kind: "materialized view".to_owned(),
            identity: "public.\"V\"".to_owned(),
            owner: "shop".to_owned(),
            granted,
            taken,
        };
        let on_option = Grant { grantable: true, ..grant("b", "SELECT", "shop") };
        let wanted = object(vec![grant("c", "SELECT", "b"), on_option], vec![grant("", "EXECUTE", "shop")]);
        let found = object(vec![grant("x", "UPDATE", "shop")], vec![]);
        let sql: Vec<String> = changes(&wanted, &found).iter().map(|one| one.sql(&on(&wanted), "shop")).collect();
        assert_eq!(
            sql,
            [
                "REVOKE UPDATE ON TABLE public.\"V\" FROM \"x\"",
                "REVOKE EXECUTE ON TABLE public.\"V\" FROM PUBLIC",
                "GRANT SELECT ON TABLE public.\"V\" TO \"b\" WITH GRANT OPTION",
                "BEGIN; SET LOCAL ROLE \"b\"; GRANT SELECT ON TABLE public.\"V\" TO \"c\"; COMMIT",
            ]
        );
    }
}
