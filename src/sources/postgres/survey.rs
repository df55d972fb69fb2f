//! What a database says of itself: version, encoding, owner, roles, extensions, tables, materialised views. Every
//! query runs in the caller's transaction, so that all answers belong to the dump's snapshot. Never reads rows of
//! the software's tables.

use super::PostgresError;
use super::connect::Session;
use crate::artifact::channels::{self, NodeSoftware};
use crate::facts::postgres::{
    ContentDigest, ExtensionFacts, MaterializedViewFacts, RoleFacts, ServerVersion, Software,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::error::SqlState;
use xxhash_rust::xxh3::xxh3_128;

/// What a database says of itself.
pub(super) struct Survey {
    pub(super) database: Description,
    pub(super) roles: Vec<String>,
    pub(super) extensions: Vec<ExtensionFacts>,
    pub(super) tables: Vec<CatalogTable>,
    pub(super) materialized_views: Vec<MaterializedViewFacts>,
    pub(super) recognised: Recognised,
}

/// The database's own row of the catalogue.
pub(super) struct Description {
    pub(super) server: ServerVersion,
    pub(super) encoding: String,
    pub(super) collation: String,
    pub(super) ctype: String,
    pub(super) locale_provider: String,
    pub(super) locale: Option<String>,
    pub(super) owner: String,
    pub(super) size_bytes: u64,
}

/// An ordinary table of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogTable {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) extension: Option<String>,
}

/// Whose tables they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) software: Software,
    /// The schema its tables are in.
    pub(super) schema: String,
    /// Tables of a node's channel state.
    pub(super) channel_tables: Vec<String>,
}

/// Asks everything.
pub(super) fn survey(session: &Session) -> Result<Survey, PostgresError> {
    let tables = tables(session)?;
    Ok(Survey {
        database: describe(session)?,
        roles: roles_here(session)?,
        extensions: extensions(session)?,
        materialized_views: materialized_views(session)?,
        recognised: recognise(&tables),
        tables,
    })
}

/// The server's version.
pub(super) fn server_version(session: &Session) -> Result<ServerVersion, PostgresError> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_version')";
    let row = session.query_one("ask the server's version", sql, &[])?;
    Ok(ServerVersion { number: row.get::<_, i32>(0).unsigned_abs(), text: row.get(1) })
}

fn describe(session: &Session) -> Result<Description, PostgresError> {
    // Columns that came with PostgreSQL 15 and 17 are asked for through JSON, so that their absence is no error.
    let sql = "SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text, \
            pg_get_userbyid(d.datdba)::text, pg_database_size(d.oid), \
            to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
        FROM pg_database d WHERE d.datname = current_database()";
    let row = session.query_one("ask how the database was made", sql, &[])?;
    let provider: Option<String> = row.get(5);
    let provider = match provider.as_deref() {
        Some("i") => "icu",
        Some("b") => "builtin",
        _ => "libc",
    };
    Ok(Description {
        server: server_version(session)?,
        encoding: row.get(0),
        collation: row.get(1),
        ctype: row.get(2),
        locale_provider: provider.to_owned(),
        locale: row.get(6),
        owner: row.get(3),
        size_bytes: row.get::<_, i64>(4).unsigned_abs(),
    })
}

/// Roles that own something here or hold a right, and the one that made the cluster, whom no dependency names.
fn roles_here(session: &Session) -> Result<Vec<String>, PostgresError> {
    let sql = "SELECT r.rolname::text FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
            JOIN pg_database d ON d.datname = current_database()
        WHERE s.refclassid = 'pg_authid'::regclass
            AND (s.dbid = d.oid OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = d.oid))
        UNION SELECT rolname::text FROM pg_roles WHERE oid = 10 ORDER BY 1";
    Ok(session.query("ask which roles hold rights", sql, &[])?.iter().map(|row| row.get(0)).collect())
}

fn extensions(session: &Session) -> Result<Vec<ExtensionFacts>, PostgresError> {
    let sql = "SELECT extname::text, extversion FROM pg_extension ORDER BY extname";
    let rows = session.query("ask for extensions", sql, &[])?;
    Ok(rows.iter().map(|row| ExtensionFacts { name: row.get(0), version: row.get(1) }).collect())
}

/// Every ordinary table that is not the system's own or temporary.
pub(super) fn tables(session: &Session) -> Result<Vec<CatalogTable>, PostgresError> {
    let sql = r"SELECT c.oid, n.nspname::text, c.relname::text, e.extname::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
            LEFT JOIN pg_extension e ON e.oid = d.refobjid
        WHERE c.relkind = 'r' AND c.relpersistence <> 't'
            AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
        ORDER BY 2, 3";
    let rows = session.query("list the tables", sql, &[])?;
    let table = |row: &tokio_postgres::Row| CatalogTable {
        oid: row.get(0),
        schema: row.get(1),
        name: row.get(2),
        extension: row.get(3),
    };
    Ok(rows.iter().map(table).collect())
}

/// Every materialised view that is no extension's.
pub(super) fn materialized_views(session: &Session) -> Result<Vec<MaterializedViewFacts>, PostgresError> {
    let sql = "SELECT n.nspname::text, c.relname::text, c.relispopulated, pg_get_viewdef(c.oid), \
            ARRAY(SELECT a.attname::text || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1, 2";
    let rows = session.query("list the materialised views", sql, &[])?;
    let view = |row: &tokio_postgres::Row| MaterializedViewFacts {
        schema: row.get(0),
        name: row.get(1),
        populated: row.get(2),
        definition: ContentDigest::new(xxh3_128(row.get::<_, String>(3).as_bytes())),
        columns: row.get(4),
    };
    Ok(rows.iter().map(view).collect())
}

/// Whether a code says that something is not there any more.
pub(super) fn is_gone(code: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::WRONG_OBJECT_TYPE].contains(code)
}

/// All roles but the predefined ones.
pub(super) fn all_roles(session: &Session) -> Result<Vec<RoleFacts>, PostgresError> {
    let sql = r"SELECT rolname::text, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls
        FROM pg_roles WHERE rolname NOT LIKE 'pg\_%' ORDER BY rolname";
    let names = ["superuser", "createrole", "createdb", "login", "replication", "bypassrls"];
    let rows = session.query("list the roles", sql, &[])?;
    let role = |row: &tokio_postgres::Row| {
        let has = |(at, name): (usize, &&str)| row.get::<_, bool>(at + 1).then(|| (*name).to_owned());
        RoleFacts { name: row.get(0), attributes: names.iter().enumerate().filter_map(has).collect() }
    };
    Ok(rows.iter().map(role).collect())
}

/// Recognises software by its tables, never by a database's name. Channel state is looked for whatever else is there.
pub(super) fn recognise(tables: &[CatalogTable]) -> Recognised {
    let mut schemas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for table in tables {
        schemas.entry(&table.schema).or_default().insert(&table.name);
    }
    let mut channel_tables = Vec::new();
    let mut found: Option<(Software, &str)> = None;
    for (schema, names) in &schemas {
        let told = channels::owner_by_tables(names.iter().copied());
        let toxic = told.as_ref().map_or(&[][..], |told| &told.tables);
        let software = software_of(names);
        if software != Software::None && found.is_none() {
            found = Some((software, schema));
        }
        channel_tables.extend(toxic.iter().map(|name| format!("{schema}.{name}")));
    }
    let (software, schema) = found.unwrap_or((Software::None, "public"));
    Recognised { software, schema: schema.to_owned(), channel_tables }
}

fn software_of(names: &BTreeSet<&str>) -> Software {
    let all = |wanted: &[&str]| wanted.iter().all(|name| names.contains(name));
    let owner = channels::owner_by_tables(names.iter().copied()).map(|told| told.software);
    if all(&["Invoices", "Stores", "AddressInvoices"]) {
        Software::Btcpay
    } else if all(&["descriptors", "nbxv1_settings"]) {
        Software::Nbxplorer
    } else if owner == Some(NodeSoftware::CoreLightning) {
        Software::Cln
    } else if owner == Some(NodeSoftware::Lnd) {
        Software::Lnd
    } else if all(&["cart", "region", "product_variant"]) {
        Software::Medusa
    } else {
        Software::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(names: &[(&str, &str)]) -> Recognised {
        let table = |(schema, name): &(&str, &str)| {
            let (schema, name) = ((*schema).to_owned(), (*name).to_owned());
            CatalogTable { oid: 1, schema, name, extension: None }
        };
        recognise(&names.iter().map(table).collect::<Vec<_>>())
    }

    #[test]
    fn channel_state_is_found_whatever_else_is_there() {
        let mixed = recognised(&[
            ("public", "Invoices"),
            ("public", "Stores"),
            ("public", "AddressInvoices"),
            ("cln", "channels"),
            ("cln", "shachains"),
            ("cln", "vars"),
        ]);
        assert_eq!(mixed.channel_tables, ["cln.channels", "cln.shachains", "cln.vars"]);
        let lnd = recognised(&[("public", "channeldb_kv")]);
        assert_eq!((lnd.software, lnd.channel_tables.len()), (Software::Lnd, 1));
        // A table named channels alone, or the parts in different schemas, are not a node.
        assert!(recognised(&[("a", "channels"), ("b", "shachains")]).channel_tables.is_empty());
    }

    #[test]
    fn software_is_recognised_by_tables() {
        let nbx = recognised(&[("public", "descriptors"), ("public", "nbxv1_settings")]);
        assert_eq!(nbx.software, Software::Nbxplorer);
        assert_eq!(recognised(&[("public", "btcpay")]).software, Software::None);
    }
}
