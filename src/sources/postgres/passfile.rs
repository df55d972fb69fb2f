//! libpq's password file: `host:port:database:user:password`, one entry a line, the first that fits counts. Read here
//! because our own connection needs the password too; the programs of PostgreSQL read the file themselves. The
//! password never leaves the returned [`Secret`].

use super::PostgresError;
use crate::base::fsio;
use crate::base::secret::Secret;
use std::path::Path;
use zeroize::Zeroizing;

/// Largest password file, in bytes.
const PASSFILE_BYTES_MAX: u64 = 256 * 1024;

/// Whom a password is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Host name, or `localhost` for the default socket folder.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password for this connection, if the file has one. The file must be private.
pub(super) fn password(path: &Path, wanted: Wanted<'_>) -> Result<Option<Secret>, PostgresError> {
    let file = fsio::read_private(path, PASSFILE_BYTES_MAX).map_err(PostgresError::Passfile)?;
    Ok(file.expose().split(|byte| *byte == b'\n').find_map(|line| match_line(line, wanted)))
}

fn match_line(line: &[u8], wanted: Wanted<'_>) -> Option<Secret> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let port = wanted.port.to_string();
    let mut rest = line;
    for value in [wanted.host, &port, wanted.database, wanted.user] {
        let (field, after) = field(rest, true)?;
        if *field != b"*"[..] && *field != *value.as_bytes() {
            return None;
        }
        rest = after;
    }
    let (password, _) = field(rest, false)?;
    Some(Secret::new(password.to_vec()))
}

/// One field with its escapes undone, and what follows its colon. The last field needs no colon.
fn field(text: &[u8], colon_needed: bool) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let mut field = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some((_, escaped)) => field.push(*escaped),
                None => field.push(b'\\'),
            },
            b':' => return Some((field, &text[at + 1..])),
            other => field.push(*other),
        }
    }
    (!colon_needed).then_some((field, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_line_that_fits_counts_and_escapes_are_undone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        let text = "# comment\nother:5432:*:backup:wrong\nlocalhost:5432:a\\:b:backup:p\\:w\\\\d\r\n*:*:*:*:last\n";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let wanted = Wanted { host: "localhost", port: 5432, database: "a:b", user: "backup" };
        assert!(password(&path, wanted).unwrap().unwrap().is_same(b"p:w\\d"));
        let other = Wanted { database: "c", ..wanted };
        assert!(password(&path, other).unwrap().unwrap().is_same(b"last"));
        std::fs::write(&path, "localhost:5432:x:backup:p\nbroken\n").unwrap();
        assert!(password(&path, other).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        std::fs::write(&path, "*:*:*:*:x\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let wanted = Wanted { host: "localhost", port: 5432, database: "d", user: "u" };
        let error = password(&path, wanted).unwrap_err();
        assert_eq!(error.hint().unwrap(), format!("chmod 0600 {}", path.display()));
    }
}
