//! A Core Lightning node for demonstrations and tests: a real regtest node's life, recorded statement by statement,
//! played back into a SQLite file. The keys are a test network's and hold no money.

pub mod load;

use crate::base::interrupt::Interrupt;
use crate::facts::sqlite::SqliteContent;
use flate2::read::GzDecoder;
use rusqlite::Connection;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Error, Result};
use std::path::{Path, PathBuf};

const LIFE: &[u8] = include_bytes!("node/db_write.jsonl.gz");
const SECRET: &[u8] = include_bytes!("node/hsm_secret");
const RECOVER: [&[u8]; 2] = [include_bytes!("node/emergency.recover.1"), include_bytes!("node/emergency.recover.2")];

/// Two moments of the node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Two channels are open; nothing was paid yet.
    ChannelsOpen,
    /// After 25 payments.
    AfterPayments,
}

impl Moment {
    /// The wallet's `data_version` at that moment.
    fn version(self) -> u64 {
        match self {
            Self::ChannelsOpen => 160,
            Self::AfterPayments => 508,
        }
    }
}

/// One committed transaction of the node.
#[derive(Deserialize)]
struct Batch {
    data_version: u64,
    writes: Vec<String>,
}

/// The node's lightning directory.
pub struct Wallet {
    folder: PathBuf,
    lived: Option<Moment>,
}

impl Wallet {
    /// Makes the directory with its secret and no wallet yet.
    pub fn create(lightning_dir: &Path) -> Result<Self> {
        let folder = lightning_dir.join("regtest");
        std::fs::create_dir_all(&folder)?;
        write(&folder.join("hsm_secret"), SECRET, 0o400)?;
        write(&lightning_dir.join("config"), b"network=regtest\nalias=demo\n", 0o640)?;
        Ok(Self { folder, lived: None })
    }

    /// The wallet database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("lightningd.sqlite3")
    }

    /// The secret.
    pub fn secret(&self) -> PathBuf {
        self.folder.join("hsm_secret")
    }

    /// Lets the node live on until a moment.
    pub fn live_until(&mut self, moment: Moment) -> Result<()> {
        let from = self.lived.map_or(0, Moment::version);
        let connection = Connection::open(self.database()).map_err(Error::other)?;
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF").map_err(Error::other)?;
        for line in BufReader::new(GzDecoder::new(LIFE)).lines() {
            let batch: Batch = serde_json::from_str(&line?)?;
            if batch.data_version > moment.version() {
                break;
            }
            if batch.data_version > from {
                apply(&connection, &batch).map_err(Error::other)?;
            }
        }
        drop(connection);
        let recover = self.folder.join("emergency.recover");
        // lightningd replaces the file by renaming a new one over it.
        let fresh = self.folder.join("scb.tmp");
        write(&fresh, RECOVER[usize::from(moment == Moment::AfterPayments)], 0o400)?;
        std::fs::rename(fresh, recover)?;
        self.lived = Some(moment);
        Ok(())
    }
}

/// What a wallet database holds: tables, rows and their digests.
pub fn wallet_content(database: &Path) -> Result<SqliteContent> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(database, flags).map_err(Error::other)?;
    crate::sources::sqlite::content(&connection, &Interrupt::new()).map_err(Error::other)
}

/// Applies one transaction; a lone PRAGMA, which changes nothing inside one, by itself.
fn apply(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    if let [only] = &batch.writes[..]
        && only.starts_with("PRAGMA")
    {
        return connection.execute_batch(only);
    }
    connection.execute_batch("BEGIN")?;
    batch.writes.iter().try_for_each(|statement| connection.execute_batch(statement))?;
    connection.execute_batch("COMMIT")
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    crate::base::fsio::create_durably(path, bytes, mode).map_err(Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_played_back_wallet_is_the_recorded_nodes_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut wallet = Wallet::create(folder.path()).unwrap();
        for (moment, recorded) in
            [(Moment::ChannelsOpen, "02-two-channels-open"), (Moment::AfterPayments, "04-after-25-payments")]
        {
            wallet.live_until(moment).unwrap();
            let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cln/node").join(recorded);
            let real = wallet_content(&real.join("lightningd.sqlite3")).unwrap();
            assert_eq!(wallet_content(&wallet.database()).unwrap(), real);
        }
    }
}
