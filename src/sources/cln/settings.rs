//! lightningd's settings, read as lightningd reads them (`common/configdir.c`): the base configuration, then the
//! network's, or only the file that `conf` names; each with what it includes, in its place; then the command line. What
//! comes later counts. What cannot be read is an error, since it may say the very thing that is asked for.

use super::error::ClnError;
use crate::base::fsio::{self, folder_of};
use crate::base::limits::NODE_FILE_BYTES_MAX;
use std::path::{Path, PathBuf};

/// How deep lightningd lets files include files.
const DEPTH_MAX: u32 = 100;
/// Files read for one node: a few that include each other must not keep this program busy.
const FILES_MAX: u32 = 1000;

/// One setting and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    name: String,
    /// What it is set to.
    pub(super) value: String,
    /// The file, or `the command line`.
    pub(super) from: PathBuf,
}

/// The settings of one node, in the order in which lightningd takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    /// Reads what is set for a network, with the command lines that are known of the node.
    pub(super) fn read(lightning_dir: &Path, network: &str, commands: &[Vec<String>]) -> Result<Self, ClnError> {
        let mut said = Self::default();
        for command in commands {
            said.0.extend(on_command_line(command));
        }
        let (mut settings, mut files) = (Self::default(), 0);
        if let Some(conf) = said.last("conf") {
            let path = Path::new(&conf.value);
            if !path.is_absolute() {
                // It is relative to where lightningd was started, and it works elsewhere since.
                return Err(untold(path, "it is named on lightningd's command line by a relative path"));
            }
            settings.gather(path, Needed::Yes, 0, &mut files)?;
        } else {
            settings.gather(&lightning_dir.join("config"), Needed::No, 0, &mut files)?;
            settings.gather(&lightning_dir.join(network).join("config"), Needed::No, 0, &mut files)?;
        }
        settings.0.extend(said.0);
        Ok(settings)
    }

    /// The setting that counts.
    pub(super) fn last(&self, name: &str) -> Option<&Setting> {
        self.0.iter().rev().find(|setting| setting.name == name)
    }

    fn gather(&mut self, path: &Path, needed: Needed, depth: u32, files: &mut u32) -> Result<(), ClnError> {
        *files += 1;
        if depth > DEPTH_MAX || *files > FILES_MAX {
            return Err(untold(path, "too many files include each other"));
        }
        let bytes = match fsio::read_regular(path, NODE_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() && needed == Needed::No => return Ok(()),
            Err(source) => return Err(ClnError::Config { path: path.to_owned(), source }),
        };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.split(['\r', '\n']).filter(|line| !line.starts_with('#')) {
            if let Some(included) = line.strip_prefix("include ") {
                self.gather(&folder_of(path).join(included.trim()), Needed::Yes, depth + 1, files)?;
            } else if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                self.0.push(Setting { name, value, from: path.to_owned() });
            }
        }
        Ok(())
    }
}

/// Whether a file must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Yes,
    No,
}

fn untold(path: &Path, why: &str) -> ClnError {
    ClnError::Untold { path: path.to_owned(), why: why.to_owned() }
}

/// The settings on a command line: `--name=value`, or `--name value`.
fn on_command_line(words: &[String]) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut words = words.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--") else { continue };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match words.peek() {
                Some(next) if !next.starts_with('-') => (option, words.next().cloned().unwrap_or_default()),
                _ => continue,
            },
        };
        found.push(Setting { name: name.to_owned(), value, from: PathBuf::from("lightningd's command line") });
    }
    found
}

/// What the kernel tells of a lightningd that runs on a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its id.
    pub(super) id: u32,
    /// Its command line.
    pub(super) words: Vec<String>,
}

impl Process {
    /// The lightningd that a pid file names, where one runs on this folder and this user may ask for it.
    pub(super) fn of(pid_file: &Path, lightning_dir: &Path) -> Option<Self> {
        let text = fsio::read_regular(pid_file, 64).ok()?;
        let id: u32 = String::from_utf8(text).ok()?.trim().parse().ok()?;
        let bytes = fsio::read_regular(&PathBuf::from(format!("/proc/{id}/cmdline")), NODE_FILE_BYTES_MAX).ok()?;
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let process = Self { id, words: words.filter(|word| !word.is_empty()).collect() };
        let name = Path::new(process.words.first()?).file_name()?.to_string_lossy().into_owned();
        (name.contains("lightningd") && process.is_of(lightning_dir)).then_some(process)
    }

    /// A pid file of an earlier start may name another node's lightningd by now.
    fn is_of(&self, lightning_dir: &Path) -> bool {
        let said = on_command_line(&self.words);
        let Some(folder) = said.iter().rev().find(|setting| setting.name == "lightning-dir") else { return true };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let folder = Path::new(&folder.value);
        !folder.is_absolute() || real(folder) == real(lightning_dir)
    }

    /// Whether it has this file open; `None` where this user may not know.
    pub(super) fn has_open(&self, file: &Path) -> Option<bool> {
        use std::os::unix::fs::MetadataExt;
        let wanted = std::fs::metadata(file).ok()?;
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.id)).ok()? {
            let Ok(meta) = std::fs::metadata(entry.ok()?.path()) else { continue };
            if (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()) {
                return Some(true);
            }
        }
        Some(false)
    }
}
