//! A vault in an object store, through OpenDAL. Timeouts and retries are set here and nowhere else, around whole
//! operations: an object whose put broke off is put again from its first byte, never continued (OpenDAL loses what it
//! had buffered when a write fails), and each try has its own time limit. A listing that breaks off begins anew or
//! is an error, never a shorter list.

use super::answer::StoreError;
use super::clock::Dates;
use super::error::{Trouble, VaultError};
use super::layout::{ObjectKey, Prefix};
use super::{Listed, Listing, Look, Patience};
use crate::base::ids::VaultName;
use crate::base::limits;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use opendal::options::WriteOptions;
use opendal::{Buffer, ErrorKind, Metadata, Operator};
use std::cell::Cell;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The one runtime of the process for storage; made when the first object store is opened.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("vault").enable_all().build()
});

/// The longest object that stores take in one request, in bytes (Amazon S3 User Guide, "Uploading objects").
const ONE_REQUEST_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
const _: () = assert!(limits::MANIFEST_BYTES_MAX <= ONE_REQUEST_BYTES_MAX);
const _: () = assert!(limits::NOTES_BYTES_MAX <= ONE_REQUEST_BYTES_MAX);
const _: () = assert!(limits::OBJECT_BYTES_MAX as u64 <= ONE_REQUEST_BYTES_MAX);

/// A vault in an object store.
#[derive(Debug)]
pub(super) struct ObjectStore {
    vault: VaultName,
    operator: Operator,
    dates: Dates,
    runtime: &'static Runtime,
    patience: Patience,
}

/// Why one try failed.
enum Failure {
    Final(VaultError),
    Dal(opendal::Error),
    Late(Duration),
}

impl From<opendal::Error> for Failure {
    fn from(error: opendal::Error) -> Self {
        Self::Dal(error)
    }
}

/// What a store did with a put that asked it to refuse where there is one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It took the object.
    Taken,
    /// There is one already.
    Refused,
    /// It cannot be asked that.
    Unsupported,
}

impl ObjectStore {
    pub(super) fn new(vault: VaultName, operator: Operator, patience: Patience) -> Result<Self, VaultError> {
        let runtime = RUNTIME
            .as_ref()
            .map_err(|error| VaultError::Runtime { source: io::Error::new(error.kind(), format!("{error}")) })?;
        let dates = Dates::default();
        Ok(Self { vault, operator: dates.watch(operator), dates, runtime, patience })
    }

    pub(super) fn with_patience(&self, patience: Patience) -> Self {
        let (vault, operator, dates) = (self.vault.clone(), self.operator.clone(), self.dates.clone());
        Self { vault, operator, dates, runtime: self.runtime, patience }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Puts an object in one request, whatever its length: an upload in parts that breaks off would leave parts behind,
    /// invisible and paid for. `turn` is called before each try and returns when it may begin.
    pub(super) fn put(
        &self,
        key: &ObjectKey,
        bytes: &[u8],
        turn: &dyn Fn() -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let buffer = Buffer::from(bytes.to_vec());
        let wait = self.transfer_wait(bytes.len() as u64);
        self.tried("put", key.as_str(), || {
            let buffer = buffer.clone();
            turn().map_err(Failure::Final)?;
            self.wait(wait, async { Ok(self.operator.write(key.as_str(), buffer).await.map(drop)?) })
        })
    }

    /// Asks the store to refuse where there is an object of that name. Its answer is not to be relied upon. Tried once:
    /// after a try whose answer got lost, the next would be refused because of our own object.
    pub(super) fn put_new(&self, key: &ObjectKey, bytes: &[u8]) -> Result<Created, VaultError> {
        if !self.operator.info().capability().write_with_if_not_exists {
            return Ok(Created::Unsupported);
        }
        let buffer = Buffer::from(bytes.to_vec());
        let options = WriteOptions { if_not_exists: true, ..WriteOptions::default() };
        let put = async { Ok(self.operator.write_options(key.as_str(), buffer, options).await.map(drop)?) };
        match self.wait(self.transfer_wait(bytes.len() as u64), put) {
            Ok(()) => Ok(Created::Taken),
            Err(Failure::Dal(error)) => match error.kind() {
                ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => Ok(Created::Refused),
                ErrorKind::Unsupported => Ok(Created::Unsupported),
                _ => Err(self.failed("put", key.as_str(), 1, Failure::Dal(error))),
            },
            Err(failure) => Err(self.failed("put", key.as_str(), 1, failure)),
        }
    }

    pub(super) fn get(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, VaultError> {
        self.tried("get", key.as_str(), || self.wait(self.transfer_wait(limit), self.get_once(key, limit)))
    }

    pub(super) fn look(&self, key: &ObjectKey) -> Result<Option<Look>, VaultError> {
        self.tried("look at", key.as_str(), || {
            let answer = self.wait(self.patience.control, async { Ok(self.operator.stat(key.as_str()).await?) });
            match answer {
                Ok(metadata) if metadata.is_file() => Ok(Some(look_of(&metadata))),
                Ok(_) => Ok(None),
                Err(Failure::Dal(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(failure) => Err(failure),
            }
        })
    }

    /// The store's clock, as the answer to a look says it.
    pub(super) fn now(&self) -> Result<Timestamp, VaultError> {
        self.dates.clear();
        self.look(&ObjectKey::vault_json())?;
        self.dates.newest().ok_or_else(|| VaultError::NoClock { vault: self.vault.clone() })
    }

    /// Calls `each` for every object below the prefix, in no order. Once the first one was handed on, a listing that
    /// breaks off is not begun anew but an error.
    pub(super) fn visit(&self, prefix: &Prefix, each: &mut dyn FnMut(Listed)) -> Result<Listing, VaultError> {
        let handed_on = Cell::new(false);
        let mut each = |listed: Listed| {
            handed_on.set(true);
            each(listed);
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.visit_once(prefix, &mut each) {
                Ok(rest) => return Ok(rest),
                Err(failure) => {
                    let error = self.failed("list", prefix.as_str(), tries, failure);
                    if handed_on.get() || !self.is_worth_another_try(&error, tries) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The whole listing, begun anew when it breaks off.
    pub(super) fn list(&self, prefix: &Prefix) -> Result<Listing, VaultError> {
        self.tried("list", prefix.as_str(), || {
            let mut objects = Vec::new();
            let mut listing = self.visit_once(prefix, &mut |listed| objects.push(listed))?;
            listing.objects = objects;
            Ok(listing)
        })
    }

    /// The names of the folders directly below the prefix.
    pub(super) fn folders(&self, prefix: &Prefix) -> Result<Vec<String>, VaultError> {
        self.tried("list", prefix.as_str(), || {
            let mut names = Vec::new();
            let mut lister = self.wait(self.patience.control, async {
                Ok(self.operator.lister_with(as_folder(prefix)).recursive(false).await?)
            })?;
            while let Some(entry) = self.wait(self.patience.control, async { Ok(lister.try_next().await?) })? {
                let below = entry.path().strip_prefix(prefix.as_str()).and_then(|path| path.strip_suffix('/'));
                if let Some(name) = below.filter(|name| super::layout::is_part(name)) {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        })
    }

    /// Removes an object; fine when there is none.
    pub(super) fn remove(&self, key: &ObjectKey) -> Result<(), VaultError> {
        self.tried("remove", key.as_str(), || {
            self.wait(self.patience.control, async { Ok(self.operator.delete(key.as_str()).await?) })
        })
    }

    async fn get_once(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>, Failure> {
        let not_found = |error: opendal::Error| match error.kind() {
            ErrorKind::NotFound => {
                Failure::Final(VaultError::NotFound { vault: self.vault.clone(), key: key.to_string() })
            }
            _ => Failure::Dal(error),
        };
        let reader = self.operator.reader(key.as_str()).await.map_err(not_found)?;
        let mut stream = reader.clone().into_stream(..).await.map_err(not_found)?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.try_next().await.map_err(not_found)? {
            let said = reader.metadata().map_or(0, Metadata::content_length);
            let length = said.max(bytes.len() as u64 + piece.len() as u64);
            if length > limit {
                let vault = self.vault.clone();
                return Err(Failure::Final(VaultError::TooLarge { vault, key: key.to_string(), length, limit }));
            }
            for slice in piece {
                bytes.extend_from_slice(&slice);
            }
        }
        let expected = match reader.metadata() {
            Some(metadata) => metadata.content_length(),
            None => self.operator.stat(key.as_str()).await.map_err(not_found)?.content_length(),
        };
        let got = bytes.len() as u64;
        if got == expected {
            return Ok(bytes);
        }
        let vault = self.vault.clone();
        Err(Failure::Final(VaultError::ShortRead { vault, key: key.to_string(), expected, got }))
    }

    fn visit_once(&self, prefix: &Prefix, each: &mut dyn FnMut(Listed)) -> Result<Listing, Failure> {
        let wait = self.patience.control;
        let mut rest = Listing::default();
        let mut lister =
            self.wait(wait, async { Ok(self.operator.lister_with(as_folder(prefix)).recursive(true).await?) })?;
        while let Some(entry) = self.wait(wait, async { Ok(lister.try_next().await?) })? {
            let name = entry.path();
            if name.ends_with('/') {
                continue;
            }
            match name.parse::<ObjectKey>() {
                Ok(key) if name.starts_with(prefix.as_str()) => {
                    let Look { length, stored } = look_of(entry.metadata());
                    each(Listed { key, length, stored });
                }
                _ => rest.add_stranger(name),
            }
        }
        Ok(rest)
    }

    fn wait<T>(&self, limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Late(limit)),
            }
        })
    }

    fn tried<T>(
        &self,
        action: &'static str,
        key: &str,
        mut once: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, VaultError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match once() {
                Ok(value) => return Ok(value),
                Err(failure) => self.failed(action, key, tries, failure),
            };
            if !self.is_worth_another_try(&error, tries) {
                return Err(error);
            }
        }
    }

    /// Whether to try again; waits before it says yes.
    fn is_worth_another_try(&self, error: &VaultError, tries: u32) -> bool {
        if !error.is_temporary() || tries >= self.patience.tries {
            return false;
        }
        tracing::warn!(vault = %self.vault, %error, "tries again");
        std::thread::sleep(pause_after(self.patience, error.trouble(), tries));
        true
    }

    fn failed(&self, action: &'static str, key: &str, tries: u32, failure: Failure) -> VaultError {
        let vault = self.vault.clone();
        let key = if key.is_empty() { "/" } else { key }.to_owned();
        match failure {
            Failure::Final(error) => error,
            Failure::Dal(source) => VaultError::Store { vault, action, key, tries, source: StoreError::new(source) },
            Failure::Late(waited) => VaultError::TimedOut { vault, action, key, tries, waited },
        }
    }

    fn transfer_wait(&self, length: u64) -> Duration {
        self.patience.transfer + limits::vault_transfer_time(length)
    }
}

/// How long to wait after so many failed tries: each time four times as long, and four times that where the store asks
/// to slow down.
fn pause_after(patience: Patience, trouble: Trouble, tries: u32) -> Duration {
    let steps = if trouble == Trouble::Busy { tries } else { tries.saturating_sub(1) };
    patience.pause.saturating_mul(4_u32.saturating_pow(steps))
}

fn look_of(metadata: &Metadata) -> Look {
    Look { length: metadata.content_length(), stored: metadata.last_modified().map(Timestamp::from) }
}

fn as_folder(prefix: &Prefix) -> &str {
    if prefix.as_str().is_empty() { "/" } else { prefix.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_longer_for_a_store_that_asks_to_slow_down() {
        let patience = Patience { pause: Duration::from_millis(250), ..Patience::default() };
        let pauses =
            |trouble| (1..4).map(|tries| pause_after(patience, trouble, tries).as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(Trouble::Connection), [250, 1000, 4000]);
        assert_eq!(pauses(Trouble::Store), [250, 1000, 4000]);
        assert_eq!(pauses(Trouble::Busy), [1000, 4000, 16_000]);
        // However often somebody may want to try: no overflow.
        let long = Patience { pause: Duration::MAX, ..patience };
        assert_eq!(pause_after(long, Trouble::Busy, u32::MAX), Duration::MAX);
    }
}
