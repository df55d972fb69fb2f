//! An empty database as it was where it came from: encoding, locale, its provider. A locale that is not
//! installed here is replaced, and said.

use super::super::connect::{Session, quote_name};
use super::super::survey;
use super::{RestoreError, literal};
use crate::facts::postgres::DatabaseFacts;
use std::collections::BTreeSet;

/// A database that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// What is not as it was where the database came from, one sentence each.
    pub notes: Vec<String>,
}

/// Makes an empty database with the encoding and locale the facts name. A locale that is not installed here is
/// replaced, and a note says so: rows are the same, their order in an index may not be. It is whose the session is.
pub fn create_database(session: &Session, name: &str, like: &DatabaseFacts) -> Result<Made, RestoreError> {
    let major = survey::server_version(session)?.major();
    if like.server.major() > major {
        return Err(RestoreError::TooOld { dumped: like.server.major(), here: major });
    }
    let mut made = Made::default();
    let mut first = None;
    for (locale, replaced) in locales(like, major) {
        let sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} {locale}",
            quote_name(name),
            literal(&like.encoding)
        );
        match session.execute("make a database", &sql) {
            Ok(()) => {
                if replaced {
                    let (collation, ctype) = (&like.collation, &like.ctype);
                    let icu = like.locale.as_deref().unwrap_or("none");
                    made.notes.push(format!(
                        "the locale of {} (collation {collation}, ctype {ctype}, {} {icu}) is not to be had here; \
                         the database was made with {locale}",
                        like.name, like.locale_provider
                    ));
                }
                return Ok(made);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error.into()),
        None => Ok(made),
    }
}

/// Makes every role that the notes name and that is not there, without passwords or rights; for a scratch server.
pub fn create_roles(session: &Session, facts: &DatabaseFacts) -> Result<(), RestoreError> {
    let rows = session.query("list the roles", "SELECT rolname::text FROM pg_roles", &[])?;
    let here: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut wanted: BTreeSet<&str> = facts.roles.iter().map(String::as_str).collect();
    wanted.insert(&facts.owner);
    if let Some(rights) = &facts.rights {
        for object in &rights.objects {
            wanted.insert(&object.owner);
            for grant in object.granted.iter().chain(&object.taken) {
                wanted.extend([grant.to.as_str(), grant.by.as_str()]);
            }
        }
        for default in &rights.defaults {
            wanted.insert(&default.role);
            for grant in default.granted.iter().chain(&default.taken) {
                wanted.extend([grant.to.as_str(), grant.by.as_str()]);
            }
        }
        for grant in rights.database.granted.iter().chain(&rights.database.taken) {
            wanted.extend([grant.to.as_str(), grant.by.as_str()]);
        }
        wanted.extend(rights.database.settings.iter().filter_map(|setting| setting.role.as_deref()));
    }
    for role in wanted.into_iter().filter(|role| !role.is_empty() && !here.contains(*role)) {
        session.execute("make a role", &format!("CREATE ROLE {} NOLOGIN", quote_name(role)))?;
    }
    Ok(())
}

/// The ways to say the locale, the best first; whether it is another than it was.
fn locales(like: &DatabaseFacts, major: u32) -> Vec<(String, bool)> {
    let libc = |collation: &str, ctype: &str| {
        let provider = if major >= 15 { "LOCALE_PROVIDER libc " } else { "" };
        format!("{provider}LC_COLLATE {} LC_CTYPE {}", literal(collation), literal(ctype))
    };
    let mut ways = Vec::new();
    let own = libc(&like.collation, &like.ctype);
    match (like.locale_provider.as_str(), &like.locale) {
        ("icu", Some(locale)) if major >= 15 => {
            let icu = format!("LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale));
            let named = format!("LC_COLLATE {} LC_CTYPE {}", literal(&like.collation), literal(&like.ctype));
            ways.push((format!("{icu} {named}"), false));
            ways.push((format!("{icu} LC_COLLATE 'C' LC_CTYPE 'C'"), true));
            ways.push((own, true));
        }
        ("builtin", Some(locale)) if major >= 17 => {
            let builtin = format!("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale));
            ways.push((format!("{builtin} LC_COLLATE 'C' LC_CTYPE 'C'"), false));
            ways.push((own, true));
        }
        _ => ways.push((own, false)),
    }
    if like.encoding == "UTF8" {
        ways.push((libc("C.UTF-8", "C.UTF-8"), true));
    }
    ways.push((libc("C", "C"), true));
    ways
}
