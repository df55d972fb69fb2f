//! Owners, rights and parts of a database, asked for in the catalogues alone: nothing here calls what a table's owner
//! could have defined. Names are those the server itself prints, qualified and quoted, so that they can be compared
//! between two databases and put into a statement.

use super::PostgresError;
use super::connect::Session;
use crate::facts::postgres::{DatabaseRights, DefaultRights, Grant, ObjectRights, Rights, Setting};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// How the mark of a restore begins that stands behind a database's own comment.
pub(super) const MARK: &str = "relay-backup: ";
/// What stands between a database's own comment and a mark.
const MARK_BEHIND: &str = " [relay-backup: ";

/// Asks for everything.
pub(super) fn rights(session: &Session) -> Result<Rights, PostgresError> {
    Ok(Rights {
        objects: objects(session, Large::Alike)?,
        parts: parts(session)?,
        defaults: defaults(session)?,
        database: database(session)?,
        privileged: privileged(session)?,
    })
}

/// The condition on a role `r` of the server's own that leads to a superuser's rights.
pub(super) const LEADS_FURTHER: &str =
    "r.rolsuper OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')";

/// Roles that have a superuser's rights or can come to them: by becoming another role, or by making roles.
pub(super) fn privileged(session: &Session) -> Result<Vec<String>, PostgresError> {
    let sql = format!(
        r"SELECT o.rolname::text FROM pg_roles o WHERE o.rolname NOT LIKE 'pg\_%' AND (o.rolsuper OR o.rolcreaterole
            OR EXISTS (SELECT FROM pg_roles r WHERE ({LEADS_FURTHER} OR r.rolcreaterole)
                AND pg_has_role(o.oid, r.oid, 'MEMBER')))
        ORDER BY 1"
    );
    Ok(session.query("ask which roles lead further", &sql, &[])?.iter().map(|row| row.get(0)).collect())
}

/// A comment of a database without what a restore wrote behind it; none where nothing is left.
pub(super) fn own_comment(comment: &str) -> Option<String> {
    if comment.starts_with(MARK) {
        return None;
    }
    let end = comment.rfind(MARK_BEHIND).filter(|_| comment.ends_with(']')).unwrap_or(comment.len());
    let own = comment.get(..end).unwrap_or_default();
    (!own.is_empty()).then(|| own.to_owned())
}

/// A comment with a mark behind it.
pub(super) fn marked_comment(own: Option<&str>, mark: &str) -> String {
    match own {
        Some(own) => format!("{own} [{mark}]"),
        None => mark.to_owned(),
    }
}

/// The mark in a comment.
pub(super) fn mark_of(comment: &str) -> Option<&str> {
    if comment.starts_with(MARK) {
        return Some(comment);
    }
    let at = comment.rfind(MARK_BEHIND)?;
    comment.get(at + 2..)?.strip_suffix(']')
}

/// Rows `right, to, by, grantable, granted` of an access list against the default one. `{acl}` may be null.
fn against_default(acl: &str, default: &str) -> String {
    let exploded = |list: &str| {
        format!(
            "SELECT x.privilege_type AS p, x.grantee AS g, x.grantor AS b, \
                x.is_grantable AS o FROM aclexplode({list}) x"
        )
    };
    let (all, default) = (exploded(acl), exploded(default));
    let json = "coalesce(jsonb_agg(jsonb_build_array(y.p, CASE WHEN y.g = 0 THEN '' ELSE pg_get_userbyid(y.g) END, \
        pg_get_userbyid(y.b), y.o) ORDER BY y.g, y.p, y.b), '[]')::text";
    format!(
        "CASE WHEN {acl} IS NULL THEN '[]' ELSE (SELECT {json} FROM ({all} EXCEPT {default}) y) END, \
         CASE WHEN {acl} IS NULL THEN '[]' ELSE (SELECT {json} FROM ({default} EXCEPT {all}) y) END"
    )
}

/// What [`against_default`] printed.
fn grants(json: &str, column: Option<&str>) -> Vec<Grant> {
    let rows: Vec<(String, String, String, bool)> = serde_json::from_str(json).unwrap_or_default();
    let grant = |(right, to, by, grantable)| Grant { to, right, column: column.map(str::to_owned), by, grantable };
    rows.into_iter().map(grant).collect()
}

/// What counts as a schema of the database's own.
const OWN: &str = r"(SELECT oid FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema')";

/// Every object with an owner that is no extension's: class, number, owner, letter of its default rights, access list.
fn owned() -> String {
    let of = |table: &str, owner: &str, letter: &str, acl: &str, condition: &str| {
        format!(
            "SELECT 'pg_catalog.{table}'::regclass::oid AS c, t.oid AS i, t.{owner} AS w, {letter}::\"char\" AS l, \
                {acl} AS a
             FROM pg_catalog.{table} t WHERE {condition}"
        )
    };
    let none = "NULL::aclitem[]";
    let in_own = |column: &str| format!("t.{column} IN {OWN}");
    // Numbers below this are the system's own.
    let later = "t.oid >= 16384";
    [
        of("pg_namespace", "nspowner", "'n'", "t.nspacl", &format!("t.oid IN {OWN}")),
        of(
            "pg_class",
            "relowner",
            "CASE t.relkind WHEN 'S' THEN 's' ELSE 'r' END",
            "t.relacl",
            &format!(
                "t.relkind IN ('r', 'p', 'v', 'm', 'S', \
                'f') AND t.relpersistence <> 't' AND t.relnamespace IN {OWN}"
            ),
        ),
        of("pg_proc", "proowner", "'f'", "t.proacl", &in_own("pronamespace")),
        // Row types of tables, arrays and multiranges come with what they belong to.
        of(
            "pg_type",
            "typowner",
            "'T'",
            "t.typacl",
            &format!(
                "t.typnamespace IN {OWN} AND (t.typtype IN ('d', 'e', 'r') OR (t.typtype = 'b' AND t.typelem = 0)
                 OR (t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class k WHERE k.oid = t.typrelid AND
        k.relkind = 'c')))"
            ),
        ),
        of("pg_language", "lanowner", "'l'", "t.lanacl", later),
        of("pg_foreign_data_wrapper", "fdwowner", "'F'", "t.fdwacl", later),
        of("pg_foreign_server", "srvowner", "'S'", "t.srvacl", later),
        of("pg_operator", "oprowner", "' '", none, &in_own("oprnamespace")),
        of("pg_opclass", "opcowner", "' '", none, &in_own("opcnamespace")),
        of("pg_opfamily", "opfowner", "' '", none, &in_own("opfnamespace")),
        of("pg_collation", "collowner", "' '", none, &in_own("collnamespace")),
        of("pg_conversion", "conowner", "' '", none, &in_own("connamespace")),
        of("pg_ts_config", "cfgowner", "' '", none, &in_own("cfgnamespace")),
        of("pg_ts_dict", "dictowner", "' '", none, &in_own("dictnamespace")),
        of("pg_statistic_ext", "stxowner", "' '", none, &in_own("stxnamespace")),
        of("pg_publication", "pubowner", "' '", none, later),
        of("pg_event_trigger", "evtowner", "' '", none, later),
    ]
    .join(" UNION ALL ")
}

/// Whether an object is an extension's.
const OF_EXTENSION: &str = "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.c AND d.objid = o.i AND
        d.objsubid = 0 AND d.deptype = 'e')";

/// How large objects are listed: there can be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Large {
    /// One by one.
    Each,
    /// As one entry where all are alike.
    Alike,
}

/// Every object with an owner, and the columns' rights with their tables.
pub(super) fn objects(session: &Session, large: Large) -> Result<Vec<ObjectRights>, PostgresError> {
    let sql = format!(
        "SELECT n.type, n.identity, pg_get_userbyid(o.w)::text, {}
         FROM ({}) o CROSS JOIN LATERAL pg_identify_object(o.c, o.i, 0) n WHERE NOT {OF_EXTENSION}",
        against_default("o.a", "acldefault(o.l, o.w)"),
        owned()
    );
    let rows = session.query("list the owners", &sql, &[])?;
    let mut found: BTreeMap<(String, String), ObjectRights> = rows
        .iter()
        .map(|row| {
            let object = ObjectRights {
                kind: row.get(0),
                identity: row.get(1),
                owner: row.get(2),
                granted: grants(row.get(3), None),
                taken: grants(row.get(4), None),
            };
            ((object.kind.clone(), object.identity.clone()), object)
        })
        .collect();
    let sql = format!(
        "SELECT n.type, n.identity, t.attname::text, {}
         FROM (SELECT a.attrelid, a.attname, a.attacl, k.relowner, 'pg_class'::regclass::oid AS c, k.oid AS i
             FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid
             WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND k.relnamespace IN {OWN}) t
         CROSS JOIN LATERAL pg_identify_object(t.c, t.i, 0) n",
        against_default("t.attacl", "acldefault('c', t.relowner)")
    );
    for row in session.query("list the rights on columns", &sql, &[])? {
        let column: String = row.get(2);
        if let Some(object) = found.get_mut(&(row.get(0), row.get(1))) {
            object.granted.extend(grants(row.get(3), Some(&column)));
            object.taken.extend(grants(row.get(4), Some(&column)));
        }
    }
    let mut objects: Vec<ObjectRights> = found.into_values().collect();
    objects.extend(large_objects(session, large)?);
    Ok(objects)
}

fn large_objects(session: &Session, large: Large) -> Result<Vec<ObjectRights>, PostgresError> {
    let object = |identity: String, row: &Row| ObjectRights {
        kind: LARGE_OBJECT.to_owned(),
        identity,
        owner: row.get(1),
        granted: grants(row.get(2), None),
        taken: grants(row.get(3), None),
    };
    let columns = format!(
        "o.oid, pg_get_userbyid(o.lomowner)::text, {}",
        against_default("o.lomacl", "acldefault('L', o.lomowner)")
    );
    let alike = "SELECT count(DISTINCT (lomowner, lomacl::text)) FROM pg_largeobject_metadata";
    let kinds: i64 = session.query_one("count the large objects' owners", alike, &[])?.get(0);
    let is_one = kinds == 1 && large == Large::Alike;
    let limit = if is_one { " LIMIT 1" } else { "" };
    let sql = format!("SELECT {columns} FROM pg_largeobject_metadata o ORDER BY o.oid{limit}");
    let rows = session.query("list the large objects' owners", &sql, &[])?;
    let identity = |row: &Row| if is_one { ALL.to_owned() } else { row.get::<_, u32>(0).to_string() };
    Ok(rows.iter().map(|row| object(identity(row), row)).collect())
}

/// The kind of large objects.
pub(super) const LARGE_OBJECT: &str = "large object";
/// The identity that stands for all large objects.
pub(super) const ALL: &str = "*";

/// What hangs on tables and has no owner, and the extensions.
pub(super) fn parts(session: &Session) -> Result<Vec<String>, PostgresError> {
    let sql = format!(
        "SELECT n.type || ' ' || n.identity FROM (
            SELECT 'pg_class'::regclass::oid AS c, k.oid AS i FROM pg_class k JOIN pg_index x ON x.indexrelid = k.oid
                JOIN pg_class t ON t.oid = x.indrelid
                WHERE k.relnamespace IN {OWN} AND NOT k.relispartition AND (x.indisvalid OR t.relkind = 'p')
                    AND t.relpersistence <> 't'
            UNION ALL SELECT 'pg_constraint'::regclass::oid, k.oid FROM pg_constraint k
                WHERE k.connamespace IN {OWN} AND k.contype IN ('p', 'u', 'f', 'c', 'x') AND k.conparentid = 0
                    AND (k.contypid <> 0 OR (k.conislocal AND NOT EXISTS (SELECT FROM pg_class t
                        WHERE t.oid = k.conrelid AND (t.relpersistence = 't' OR (t.relispartition AND k.contype <>
        'c')))))
            UNION ALL SELECT 'pg_trigger'::regclass::oid, g.oid FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
                WHERE NOT g.tgisinternal AND NOT t.relispartition AND t.relnamespace IN {OWN}
            UNION ALL SELECT 'pg_policy'::regclass::oid, p.oid FROM pg_policy p
            UNION ALL SELECT 'pg_rewrite'::regclass::oid, w.oid FROM pg_rewrite w JOIN pg_class t ON t.oid = w.ev_class
                WHERE w.rulename <> '_RETURN' AND t.relnamespace IN {OWN}
            UNION ALL SELECT 'pg_cast'::regclass::oid, k.oid FROM pg_cast k WHERE k.oid >= 16384
            UNION ALL SELECT 'pg_extension'::regclass::oid, e.oid FROM pg_extension e
        ) o CROSS JOIN LATERAL pg_identify_object(o.c, o.i, 0) n WHERE NOT {OF_EXTENSION} ORDER BY 1"
    );
    Ok(session.query("list the parts of the tables", &sql, &[])?.iter().map(|row| row.get(0)).collect())
}

/// What roles give away in advance.
pub(super) fn defaults(session: &Session) -> Result<Vec<DefaultRights>, PostgresError> {
    // Of one schema, everything listed is beyond the default.
    let sql = format!(
        "SELECT pg_get_userbyid(o.defaclrole)::text, n.nspname::text, \
            CASE o.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END, {}
         FROM pg_default_acl o LEFT JOIN pg_namespace n ON n.oid = o.defaclnamespace ORDER BY 1, 2, 3",
        against_default(
            "o.defaclacl",
            "CASE WHEN o.defaclnamespace = 0 THEN acldefault(CASE o.defaclobjtype WHEN 'S' THEN 's' ELSE
        o.defaclobjtype END::\"char\", o.defaclrole)
             ELSE NULL::aclitem[] END"
        )
    );
    let rows = session.query("list the default rights", &sql, &[])?;
    let default = |row: &Row| DefaultRights {
        role: row.get(0),
        schema: row.get(1),
        of: row.get(2),
        granted: grants(row.get(3), None),
        taken: grants(row.get(4), None),
    };
    Ok(rows.iter().map(default).collect())
}

/// What belongs to the database itself.
pub(super) fn database(session: &Session) -> Result<DatabaseRights, PostgresError> {
    let sql = format!(
        "SELECT o.datconnlimit, shobj_description(o.oid, 'pg_database'), {} FROM pg_database o
         WHERE o.datname = current_database()",
        against_default("o.datacl", "acldefault('d', o.datdba)")
    );
    let row = session.query_one("ask for the database's own rights", &sql, &[])?;
    let settings = "SELECT r.rolname::text, s.value FROM pg_db_role_setting o
            JOIN pg_database d ON d.oid = o.setdatabase LEFT JOIN pg_roles r ON r.oid = o.setrole
            CROSS JOIN LATERAL unnest(o.setconfig) s(value)
        WHERE d.datname = current_database() AND (o.setrole = 0 OR r.oid IS NOT NULL) ORDER BY 1, 2";
    let setting = |row: &Row| {
        let (name, value) = row.get::<_, &str>(1).split_once('=')?;
        Some(Setting { role: row.get(0), name: name.to_owned(), value: value.to_owned() })
    };
    Ok(DatabaseRights {
        granted: grants(row.get(2), None),
        taken: grants(row.get(3), None),
        connection_limit: row.get(0),
        comment: row.get::<_, Option<&str>>(1).and_then(own_comment),
        settings: session.query("ask for the database's settings", settings, &[])?.iter().filter_map(setting).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_behind_a_comment_and_is_taken_off_again() {
        let mark = "relay-backup: restored from snapshot x by run y";
        for own in [None, Some("the shop [main]"), Some("it's ]")] {
            let comment = marked_comment(own, mark);
            assert_eq!(mark_of(&comment), Some(mark));
            assert_eq!(own_comment(&comment).as_deref(), own);
        }
        assert_eq!((mark_of("plain"), own_comment("plain").as_deref()), (None, Some("plain")));
    }
}
