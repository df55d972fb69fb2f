//! A private folder for plaintext that a person asked to see tried out: mode 0700, wiped when it is dropped. A process
//! that is killed wipes nothing, so the next one that makes such a folder in the same place wipes what was abandoned.
//! A lock on the folder, held for as long as its owner lives, tells the two apart; a folder in use is never touched.

use crate::base::flock::{Locked, Refused};
use crate::base::fsio::FileError;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A private folder, wiped when dropped.
#[derive(Debug)]
pub struct PrivateFolder {
    folder: tempfile::TempDir,
    _lock: Locked<File>,
}

impl PrivateFolder {
    /// Makes one in `parent`, its name beginning with `prefix`, and wipes those of that prefix that nobody uses. An
    /// abandoned one that cannot be wiped is told in the log: its owner may be somebody else.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self, FileError> {
        // Held until the new folder has its own lock, so that no other process takes it for an abandoned one.
        let making = lock(parent, Locked::alone_at_last)?;
        sweep(parent, prefix);
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(FileError::io("create a private folder in", parent))?;
        let lock = lock(folder.path(), Locked::alone)?;
        drop(making);
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn lock(
    folder: &Path,
    take: impl FnOnce(File) -> Result<Locked<File>, Refused<File>>,
) -> Result<Locked<File>, FileError> {
    let open = File::open(folder).map_err(FileError::io("open", folder))?;
    take(open).map_err(|(_, errno)| FileError::io("lock", folder)(errno.into()))
}

fn sweep(parent: &Path, prefix: &str) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let Ok(_abandoned) = lock(&path, Locked::alone) else { continue };
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "an abandoned sandbox could not be wiped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_abandoned_is_wiped_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = PrivateFolder::create(parent.path(), "proof-").unwrap();
        std::fs::write(used.path().join("plain"), "in use").unwrap();
        for folder in ["proof-abandoned", "other"] {
            std::fs::create_dir(parent.path().join(folder)).unwrap();
            std::fs::write(parent.path().join(folder).join("plain"), "left").unwrap();
        }
        let second = PrivateFolder::create(parent.path(), "proof-").unwrap();
        assert!(!parent.path().join("proof-abandoned").exists());
        assert!(parent.path().join("other/plain").exists() && used.path().join("plain").exists());
        assert_eq!(std::fs::metadata(second.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
