//! What is in an artifact by its own bytes, looked at while they pass: the manifest is the word of whoever wrote the
//! snapshot. A file is judged before it gets its name; for a pipe what could be a database is held back until it was.

use crate::base::memory::available_bytes;
use crate::sources::files::{Content, content};
use crate::sources::postgres::Scanner;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// How the archives of `pg_dump` begin.
const DUMP: &[u8] = b"PGDMP";
/// Where a tar says that it is one, and how (POSIX ustar).
const TAR: (usize, &[u8]) = (257, b"ustar");
/// How much of the beginning is needed to tell the above.
const HEAD_BYTES: usize = 512;
/// Most bytes of a dump that are held back until its table of contents has passed.
const CONTENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What the bytes are.
pub(super) fn judge(file: &File, dump: &Dump) -> Option<String> {
    match content(file) {
        Content::Toxic(what) | Content::TakenBefore(what) => Some(what.to_owned()),
        Content::Unclear(what) => Some(format!("{what} that cannot be read, and may be a node's")),
        Content::Harmless => dump.verdict(),
    }
}

/// Looks at the table of contents of a dump as it passes; other bytes are none of its business.
pub(super) struct Dump {
    head: Vec<u8>,
    scanner: Option<Scanner>,
    verdict: Option<String>,
    is_over: bool,
}

impl Dump {
    pub(super) fn new() -> Self {
        Self { head: Vec::new(), scanner: None, verdict: None, is_over: false }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        let scanner = match &mut self.scanner {
            Some(scanner) => scanner,
            None => {
                self.head.extend_from_slice(bytes.get(..DUMP.len()).unwrap_or(bytes));
                if self.head.len() >= DUMP.len() && !self.head.starts_with(DUMP) {
                    self.is_over = true;
                    return;
                }
                self.scanner.get_or_insert_default()
            }
        };
        let result = scanner.push(bytes);
        if let Err(error) = result {
            self.verdict =
                Some(format!("a dump whose table of contents cannot be read ({error}), and may be a node's"));
            self.is_over = true;
        } else if scanner.head_bytes().is_some() {
            let tables = scanner.node_tables();
            let told = format!("a dump of a node's channel state ({})", tables.join(", "));
            self.verdict = (!tables.is_empty()).then_some(told);
            self.is_over = true;
        }
    }

    fn verdict(&self) -> Option<String> {
        let is_cut = !self.is_over && self.head.starts_with(DUMP);
        let cut = is_cut.then(|| "a dump whose table of contents breaks off, and may be a node's".to_owned());
        self.verdict.clone().or(cut)
    }
}

/// Stands before a pipe.
pub(super) struct Gate<'a> {
    pipe: &'a mut dyn Write,
    state: State,
}

enum State {
    /// Too little has come to tell anything.
    Head(Vec<u8>),
    /// A dump, of which this much is held back.
    Dump(Vec<u8>, Box<Dump>),
    /// Something that is looked at as a whole.
    Held(File, u64),
    /// Nothing that a node starts on.
    Open,
}

/// Why nothing goes through.
pub(super) enum Shut {
    /// It is this.
    Toxic(String),
    /// It has this many bytes and must be looked at as a whole.
    TooLarge,
    /// The pipe broke, or there is no memory.
    Io(io::Error),
}

impl From<io::Error> for Shut {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'a> Gate<'a> {
    pub(super) fn new(pipe: &'a mut dyn Write) -> Self {
        Self { pipe, state: State::Head(Vec::new()) }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Shut> {
        match &mut self.state {
            State::Open => self.pipe.write_all(bytes)?,
            State::Held(file, held) => {
                *held += bytes.len() as u64;
                // What is held must fit beside everything else.
                if *held > available_bytes() / 2 {
                    return Err(Shut::TooLarge);
                }
                file.write_all(bytes)?;
            }
            State::Dump(held, dump) => {
                held.extend_from_slice(bytes);
                dump.push(bytes);
                if held.len() > CONTENTS_BYTES_MAX && !dump.is_over {
                    return Err(Shut::TooLarge);
                }
                self.open_for_a_dump()?;
            }
            State::Head(head) => {
                head.extend_from_slice(bytes);
                if head.len() >= HEAD_BYTES {
                    self.choose()?;
                }
            }
        }
        Ok(())
    }

    /// Gives what is still held back, if it may go.
    pub(super) fn finish(mut self) -> Result<(), Shut> {
        if matches!(self.state, State::Head(_)) {
            self.choose()?;
        }
        match std::mem::replace(&mut self.state, State::Open) {
            State::Held(mut file, _) => {
                if let Some(what) = judge(&file, &Dump::new()) {
                    return Err(Shut::Toxic(what));
                }
                file.seek(SeekFrom::Start(0))?;
                io::copy(&mut file, self.pipe)?;
            }
            State::Dump(held, dump) => match dump.verdict() {
                Some(what) => return Err(Shut::Toxic(what)),
                None => self.pipe.write_all(&held)?,
            },
            State::Head(_) | State::Open => {}
        }
        self.pipe.flush()?;
        Ok(())
    }

    fn choose(&mut self) -> Result<(), Shut> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Open) else { return Ok(()) };
        let (at, sign) = TAR;
        if head.starts_with(DUMP) {
            self.state = State::Dump(Vec::new(), Box::new(Dump::new()));
        } else if head.get(at..).is_none_or(|rest| !rest.starts_with(sign)) || head.starts_with(b"SQLite format 3") {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let memory = rustix::fs::memfd_create("relay-backup", flags).map_err(io::Error::from)?;
            self.state = State::Held(File::from(memory), 0);
        }
        self.push(&head)
    }

    fn open_for_a_dump(&mut self) -> Result<(), Shut> {
        let State::Dump(held, dump) = &mut self.state else { return Ok(()) };
        if !dump.is_over {
            return Ok(());
        }
        if let Some(what) = dump.verdict() {
            return Err(Shut::Toxic(what));
        }
        let held = std::mem::take(held);
        self.state = State::Open;
        Ok(self.pipe.write_all(&held)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out, or what it was.
    fn through(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut gate = Gate::new(&mut out);
        let passed = bytes.chunks(1000).try_for_each(|part| gate.push(part)).and_then(|()| gate.finish());
        match passed {
            Ok(()) => Ok(out),
            Err(Shut::Toxic(what)) => {
                assert!(out.is_empty());
                Err(what)
            }
            Err(_) => panic!("neither open nor toxic"),
        }
    }

    #[test]
    fn only_what_no_node_starts_on_goes_into_a_pipe() {
        let wallet = "tests/fixtures/cln/node/04-after-25-payments/lightningd.sqlite3";
        let wallet = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(wallet)).unwrap();
        assert_eq!(through(&wallet).unwrap_err(), "Core Lightning's channel database");
        assert!(through(&wallet[..5000]).unwrap_err().contains("cannot be read"));
        let mut tar = vec![0; 4096];
        tar[257..262].copy_from_slice(b"ustar");
        for harmless in [&b""[..], b"secret", &tar, &vec![7; 100_000]] {
            assert_eq!(through(harmless).unwrap(), harmless);
        }
        assert!(through(b"PGDMP and nothing that follows").unwrap_err().contains("may be a node's"));
    }
}
