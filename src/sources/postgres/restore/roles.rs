//! Roles brought back from the script of `pg_dumpall --globals-only`, in one transaction. A role that is there already
//! is left as it is, with its password, its attributes and its memberships. The script is read statement by statement,
//! because run as it is it would end at the first role that exists, or change all of them.

use super::super::connect::{Server, quote_name};
use super::RestoreError;
use std::collections::BTreeSet;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Roles that were made.
    pub made: Vec<String>,
    /// Roles that were there and were left as they are.
    pub kept: Vec<String>,
    /// What of the script was not run: its first words, never the rest.
    pub left_out: Vec<String>,
    /// Attributes that only a superuser may give, one statement each.
    pub lacking: Vec<String>,
}

/// Makes the roles of a script that are not there.
pub fn restore_roles(server: &Server, script: &[u8]) -> Result<Roles, RestoreError> {
    let script = std::str::from_utf8(script).map_err(|_| RestoreError::BadRoles { what: "it is not UTF-8" })?;
    let session = server.connect()?;
    let rows = session.query("list the roles", "SELECT rolname::text FROM pg_roles", &[])?;
    let here: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut plan = plan(script, &here)?;
    // The server's own log would keep what stands in a failing statement; only a superuser may turn that off.
    let row = session.query_one(
        "ask for the role's rights",
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user",
        &[],
    )?;
    let is_super: bool = row.get(0);
    if !is_super {
        plan.without_attributes_of_superusers();
    }
    let quiet = if is_super {
        "SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic'; \
            SET LOCAL log_min_duration_statement = -1; "
    } else {
        ""
    };
    let sql = format!("BEGIN; {quiet}{} COMMIT", plan.run.join(" "));
    session.execute("make the roles", &sql)?;
    Ok(plan.roles)
}

struct Plan<'s> {
    run: Vec<std::borrow::Cow<'s, str>>,
    roles: Roles,
}

/// Attributes that nobody but a superuser may so much as name, in either direction.
const OF_SUPERUSERS: [&str; 3] = ["SUPERUSER", "REPLICATION", "BYPASSRLS"];

impl Plan<'_> {
    /// Takes out what only a superuser may say. A role that was just made has none of these attributes; one that had
    /// one is named.
    fn without_attributes_of_superusers(&mut self) {
        for statement in &mut self.run {
            let Some(rest) = statement.strip_prefix("ALTER ROLE ") else { continue };
            let Some((role, attributes)) = name(rest) else { continue };
            let Some(attributes) = attributes.strip_prefix(" WITH ") else { continue };
            // Behind it stands a text, which can hold any word.
            let end = attributes.find(" PASSWORD ").unwrap_or(attributes.trim_end_matches(';').len());
            let (words, tail) = attributes.split_at(end);
            let mut kept = Vec::new();
            for word in words.split(' ') {
                if OF_SUPERUSERS.contains(&word) {
                    self.roles.lacking.push(format!("ALTER ROLE {} {word}", quote_name(&role)));
                } else if !word.strip_prefix("NO").is_some_and(|bare| OF_SUPERUSERS.contains(&bare)) {
                    kept.push(word);
                }
            }
            *statement = format!("ALTER ROLE {} WITH {}{tail}", quote_name(&role), kept.join(" ")).into();
        }
    }
}

fn plan<'s>(script: &'s str, here: &BTreeSet<String>) -> Result<Plan<'s>, RestoreError> {
    let mut plan = Plan { run: Vec::new(), roles: Roles::default() };
    for statement in statements(script)? {
        if statement.starts_with("SET ") {
            continue;
        }
        if let Some(rest) = statement.strip_prefix("CREATE ROLE ") {
            let (role, _) = name(rest).ok_or(RestoreError::BadRoles { what: "a role has no name" })?;
            if here.contains(&role) {
                plan.roles.kept.push(role);
            } else {
                plan.roles.made.push(role);
                plan.run.push(statement.into());
            }
            continue;
        }
        match subject(statement) {
            Some(role) if plan.roles.made.contains(&role) => {
                plan.run.push(without_unknown_grantor(statement, here, &plan.roles.made));
            }
            Some(_) => {}
            None => {
                let words: Vec<&str> = statement.split_whitespace().take(3).collect();
                plan.roles.left_out.push(words.join(" "));
            }
        }
    }
    Ok(plan)
}

/// The role that a statement would change.
fn subject(statement: &str) -> Option<String> {
    for prefix in ["ALTER ROLE ", "COMMENT ON ROLE "] {
        if let Some(rest) = statement.strip_prefix(prefix) {
            return name(rest).map(|(role, _)| role);
        }
    }
    if let Some(rest) = statement.strip_prefix("GRANT ") {
        if statement.contains(" ON TABLESPACE ") {
            return None;
        }
        // Either `GRANT role TO role …` or `GRANT … ON PARAMETER name TO role …`.
        let rest = match rest.split_once(" ON PARAMETER ") {
            Some((_, parameter)) => parameter.split_once(" TO ")?.1,
            None => name(rest)?.1.strip_prefix(" TO ")?,
        };
        return name(rest).map(|(role, _)| role);
    }
    let label = statement.strip_prefix("SECURITY LABEL ")?.split_once(" ON ROLE ")?.1;
    name(label).map(|(role, _)| role)
}

/// A grant without its grantor, where that role is not there: then the grant is ours.
fn without_unknown_grantor<'s>(
    statement: &'s str,
    here: &BTreeSet<String>,
    made: &[String],
) -> std::borrow::Cow<'s, str> {
    const BY: &str = " GRANTED BY ";
    if statement.starts_with("GRANT ")
        && let Some((grant, by)) = statement.rsplit_once(BY)
        && let Some((grantor, _)) = name(by)
        && !here.contains(&grantor)
        && !made.contains(&grantor)
    {
        return format!("{grant};").into();
    }
    statement.into()
}

/// One identifier, quoted or not, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|letter: char| " ;,()".contains(letter)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// The statements of a script as `pg_dumpall` writes it, each with its semicolon; comments and the commands of psql are
/// passed over.
fn statements(script: &str) -> Result<Vec<&str>, RestoreError> {
    let mut found = Vec::new();
    let mut rest = script.trim_start();
    while !rest.is_empty() {
        if rest.starts_with("--") || rest.starts_with('\\') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        }
        let end = end_of(rest).ok_or(RestoreError::BadRoles { what: "its last statement breaks off" })?;
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Ok(found)
}

/// Where a statement ends: behind the first semicolon that stands in no text and no name.
fn end_of(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut escapes = false;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (quote, byte) {
            (None, b';') => return Some(at + 1),
            (None, b'\'' | b'"') => {
                quote = Some(*byte);
                escapes = *byte == b'\'' && at > 0 && matches!(bytes.get(at - 1), Some(b'E' | b'e'));
            }
            (Some(_), b'\\') if escapes => at += 1,
            // A doubled quote ends the text and begins it anew.
            (Some(open), byte) if *byte == open => quote = None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_they_end() {
        let script = "--\n-- a; \
            comment\n\\restrict x;y\nSET a = on;\nCREATE ROLE \"a;\"\"b\";\nCOMMENT ON ROLE x IS 'it''s; ok';\n\
                      COMMENT ON ROLE y IS E'a\\'; b';\n";
        let found = statements(script).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], "CREATE ROLE \"a;\"\"b\";");
        assert_eq!(found[3], "COMMENT ON ROLE y IS E'a\\'; b';");
        assert!(statements("CREATE ROLE x").is_err());
    }

    #[test]
    fn who_is_no_superuser_says_nothing_that_only_one_may() {
        let script = "CREATE ROLE \"a b\";\nALTER ROLE \"a b\" WITH NOSUPERUSER INHERIT NOCREATEROLE LOGIN NOREPLICATION BYPASSRLS \
            PASSWORD 'SUPERUSER x' VALID UNTIL 'y';\nCREATE ROLE c;\nALTER ROLE c WITH NOSUPERUSER NOLOGIN;\n";
        let mut plan = plan(script, &BTreeSet::new()).unwrap();
        plan.without_attributes_of_superusers();
        assert_eq!(
            plan.run,
            [
                "CREATE ROLE \"a b\";",
                "ALTER ROLE \"a b\" WITH INHERIT NOCREATEROLE LOGIN PASSWORD 'SUPERUSER x' VALID UNTIL 'y';",
                "CREATE ROLE c;",
                "ALTER ROLE \"c\" WITH NOLOGIN;",
            ]
        );
        assert_eq!(plan.roles.lacking, ["ALTER ROLE \"a b\" BYPASSRLS"]);
    }

    #[test]
    fn a_role_that_is_there_is_left_as_it_is() {
        let script = "CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN PASSWORD 'SCRAM-1';\nCREATE ROLE old;\n\
            ALTER ROLE old WITH SUPERUSER PASSWORD 'SCRAM-2';\nGRANT old TO shop GRANTED BY gone;\n\
            GRANT shop TO old GRANTED BY old;\nGRANT SET ON PARAMETER work_mem TO shop;\nCREATE TABLESPACE fast OWNER old LOCATION '/x';\n";
        let here = BTreeSet::from(["old".to_owned()]);
        let plan = plan(script, &here).unwrap();
        assert_eq!((plan.roles.made, plan.roles.kept), (vec!["shop".to_owned()], vec!["old".to_owned()]));
        assert_eq!(plan.roles.left_out, ["CREATE TABLESPACE fast"]);
        let run = plan.run.join("\n");
        assert_eq!(
            run,
            "CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN PASSWORD 'SCRAM-1';\nGRANT old TO shop;\nGRANT SET ON PARAMETER work_mem TO shop;"
        );
    }
}
