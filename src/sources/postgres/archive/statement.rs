//! The few SQL texts of an archive that are understood: `COPY … (columns) FROM stdin`, `SELECT pg_catalog.setval(…)`
//! and `SET client_encoding = '…'`. All of them are written by `pg_dump`, in one form; anything else is refused.

/// The column names of a COPY statement, unquoted, in the archive's encoding. `None` when it is not understood.
/// A table without columns has no list.
pub(super) fn copy_columns(statement: &[u8]) -> Option<Vec<Vec<u8>>> {
    let rest = statement.strip_prefix(b"COPY ")?;
    let rest = skip_name(rest)?;
    let rest = rest.strip_prefix(b".").map_or(Some(rest), skip_name)?;
    let rest = rest.trim_ascii();
    if rest == b"FROM stdin;" {
        return Some(Vec::new());
    }
    let mut rest = rest.strip_prefix(b"(")?;
    let mut columns = Vec::new();
    loop {
        let (name, after) = name(rest)?;
        columns.push(name);
        if let Some(after) = after.strip_prefix(b", ") {
            rest = after;
        } else {
            let after = after.strip_prefix(b")")?;
            return (after.trim_ascii() == b"FROM stdin;").then_some(columns);
        }
    }
}

fn skip_name(text: &[u8]) -> Option<&[u8]> {
    name(text).map(|(_, rest)| rest)
}

/// One identifier, quoted or not, and what follows it.
fn name(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| b" .,()".contains(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                name.push(b'"');
                rest = after;
            }
            None => return Some((name, rest)),
        }
    }
}

/// A COPY statement of an archive as one that takes rows in this encoding. `None` when it is not understood.
pub(in crate::sources::postgres) fn copy_from(statement: &str, encoding: &str) -> Option<String> {
    copy_columns(statement.as_bytes())?;
    let target = statement.trim_end().strip_suffix("FROM stdin;")?;
    let plain = !encoding.is_empty() && encoding.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then(|| format!("{target}FROM STDIN WITH (ENCODING '{encoding}')"))
}

/// The name and the schema of `CREATE EXTENSION IF NOT EXISTS name WITH SCHEMA schema;`.
pub(in crate::sources::postgres) fn extension(statement: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let rest = statement.trim_ascii().strip_prefix(b"CREATE EXTENSION IF NOT EXISTS ")?.strip_suffix(b";")?;
    let (extension, rest) = name(rest)?;
    let schema = match rest.strip_prefix(b" WITH SCHEMA ") {
        Some(rest) => Some(name(rest)?.0),
        None => None,
    };
    Some((extension, schema))
}

/// The last value a sequence is set to, and whether it was handed out.
pub(super) fn setval(definition: &[u8]) -> Option<(i64, bool)> {
    let text = definition.trim_ascii().strip_prefix(b"SELECT pg_catalog.setval(")?.strip_suffix(b");")?;
    let (value, called) = text.rsplit_once_comma()?;
    let called = match called {
        b"true" => true,
        b"false" => false,
        _ => return None,
    };
    let (_, value) = value.rsplit_once_comma()?;
    Some((std::str::from_utf8(value).ok()?.parse().ok()?, called))
}

trait SplitComma {
    fn rsplit_once_comma(&self) -> Option<(&[u8], &[u8])>;
}

impl SplitComma for [u8] {
    fn rsplit_once_comma(&self) -> Option<(&[u8], &[u8])> {
        let at = memchr::memrchr(b',', self)?;
        Some((&self[..at], self[at + 1..].trim_ascii()))
    }
}

/// The encoding an archive's texts and rows are in.
pub(super) fn client_encoding(definition: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(definition).ok()?;
    let name = text.trim().strip_prefix("SET client_encoding = '")?.strip_suffix("';")?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_through_quotes() {
        let columns = |text: &str| copy_columns(text.as_bytes()).map(|list| list.join(&b'|'));
        assert_eq!(columns("COPY public.t (a, b) FROM stdin;\n").unwrap(), b"a|b");
        assert_eq!(columns("COPY public.\"T (x\" (\"a, (b\", c, \"q\"\"q\") FROM stdin;\n").unwrap(), b"a, (b|c|q\"q");
        assert_eq!(columns("COPY public.nothing  FROM stdin;\n").unwrap(), b"");
        assert!(columns("COPY public.t (a, b) TO PROGRAM 'x';").is_none());
        assert!(columns("COPY public.t (a FROM stdin;").is_none());
        assert!(columns("COPY \"t").is_none());
    }

    #[test]
    fn rows_and_extensions_are_taken_in_by_statements_of_ours() {
        let copy = copy_from("COPY public.t (a, \"ü\") FROM stdin;\n", "LATIN1").unwrap();
        assert_eq!(copy, "COPY public.t (a, \"ü\") FROM STDIN WITH (ENCODING 'LATIN1')");
        assert!(copy_from("COPY public.t (a) FROM PROGRAM 'x';", "UTF8").is_none());
        assert!(copy_from("COPY public.t (a) FROM stdin;\n", "UTF8') x").is_none());
        let read = |text: &str| extension(text.as_bytes());
        let named = (b"uuid-ossp".to_vec(), Some(b"a b".to_vec()));
        assert_eq!(read("CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA \"a b\";\n\n\n"), Some(named));
        assert_eq!(read("CREATE EXTENSION IF NOT EXISTS x;"), Some((b"x".to_vec(), None)));
        assert_eq!(read("CREATE FUNCTION x;"), None);
    }

    #[test]
    fn a_sequence_s_value_is_read() {
        assert_eq!(setval(b"SELECT pg_catalog.setval('public.\"a, b_seq\"', 12, true);\n"), Some((12, true)));
        assert_eq!(setval(b"SELECT pg_catalog.setval('s', -9223372036854775808, false);"), Some((i64::MIN, false)));
        assert_eq!(setval(b"SELECT 1;"), None);
        assert_eq!(client_encoding(b"SET client_encoding = 'UTF8';\n").unwrap(), "UTF8");
        assert_eq!(client_encoding(b"SET client_encoding = 'UTF8; x';"), None);
    }
}
