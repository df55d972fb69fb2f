//! Reads a node's state from a copy of its wallet database: identity, channels with their counters, live HTLCs,
//! on-chain outputs, peers. Schema versions differ: a column that is not there makes a field `None`, never an
//! error. Works on a copy only; the live database is never read here.

use super::emergency::{outpoint, reversed_hex, revocations, stored_address};
use super::error::ClnError;
use crate::artifact::channels::CHAINS;
use crate::facts::cln::{HtlcDirection, KnownPeer, LiveHtlc, NodeState, Unspent, WalletChannel};
use crate::sources::sqlite::{NodeSoftware, SqliteError, owner_of};
use rusqlite::{Connection, OptionalExtension, Row};
use std::path::Path;

/// Output status `spent` of the table `outputs`.
const OUTPUT_SPENT: i64 = 2;

/// The hash of the first block of a chain, by lightningd's name of it, the way explorers print it.
pub fn first_block(network: &str) -> Option<String> {
    let (stored, _) = CHAINS.iter().find(|(_, name)| *name == network)?;
    Some(reversed_hex(&hex::decode(stored).ok()?))
}

/// Reads the state of the node; an error when the database is not Core Lightning's. `path` is for messages.
pub(super) fn node_state(connection: &Connection, path: &Path) -> Result<NodeState, ClnError> {
    let read = |source| ClnError::Sqlite(SqliteError::read(path, source));
    match owner_of(connection).map_err(read)? {
        Some(NodeSoftware::CoreLightning) => state(connection).map_err(read),
        other => Err(ClnError::NotCln { path: path.to_owned(), owner: other }),
    }
}

fn state(connection: &Connection) -> rusqlite::Result<NodeState> {
    let genesis: Option<Vec<u8>> = variable(connection, "genesis_hash", "blobval")?;
    let genesis_hex = genesis.as_ref().map(hex::encode);
    let network = genesis_hex.and_then(|hash| CHAINS.iter().find(|(known, _)| *known == hash));
    let node_id: Option<Vec<u8>> = variable(connection, "node_id", "blobval")?;
    Ok(NodeState {
        schema_version: connection.query_row("SELECT max(version) FROM version", [], |row| row.get(0))?,
        data_version: variable(connection, "data_version", "intval")?,
        node_id: node_id.map(hex::encode),
        genesis_hash: genesis.map(|hash| reversed_hex(&hash)),
        network: network.map(|(_, name)| (*name).to_owned()),
        block_height: single(connection, "blocks", "max(height)")?,
        last_processed_block: variable(connection, "last_processed_block", "intval")?,
        bip32_max_index: variable(connection, "bip32_max_index", "intval")?,
        bip86_max_index: variable(connection, "bip86_max_index", "intval")?,
        channels: channels(connection)?,
        htlcs: htlcs(connection)?,
        inflights: single(connection, "channel_funding_inflights", "count(*)")?,
        unspent: unspent(connection)?,
        invoices: single(connection, "invoices", "count(*)")?,
        payments: single(connection, "payments", "count(*)")?,
        peers: peers(connection)?,
    })
}

fn channels(connection: &Connection) -> rusqlite::Result<Vec<WalletChannel>> {
    let columns = Columns::of(connection, "channels")?;
    let shachains = Columns::of(connection, "shachains")?;
    let least_index = if shachains.has("min_index") && columns.has("shachain_remote_id") {
        "(SELECT s.min_index FROM shachains s WHERE s.id = t.shachain_remote_id)"
    } else {
        "NULL"
    };
    let select = columns.select(&[
        "full_channel_id",
        "id",
        "state",
        "next_index_local",
        "next_index_remote",
        "next_htlc_id",
        "funding_tx_id",
        "funding_tx_outnum",
        "funding_satoshi",
        "msatoshi_local",
        "scid",
        "short_channel_id",
    ]);
    let lost = columns.presence("future_per_commitment_point");
    let last_tx = columns.presence("last_tx");
    let sql = format!(
        "SELECT {select}, {lost}, {last_tx}, {least_index}, (SELECT p.node_id FROM peers p WHERE p.id = t.peer_id) \
         FROM channels t ORDER BY t.id"
    );
    connection.prepare(&sql)?.query_map([], channel)?.collect()
}

fn channel(row: &Row<'_>) -> rusqlite::Result<WalletChannel> {
    let txid: Option<Vec<u8>> = row.get(6)?;
    let output: Option<i64> = row.get(7)?;
    let short: Option<i64> = row.get(10)?;
    let old_short: Option<String> = row.get(11)?;
    let least_index: Option<i64> = row.get(14)?;
    Ok(WalletChannel {
        channel_id: row.get::<_, Option<Vec<u8>>>(0)?.map(hex::encode),
        dbid: row.get(1)?,
        peer_id: row.get::<_, Option<Vec<u8>>>(15)?.map(hex::encode),
        short_channel_id: short.map(short_channel_id).or(old_short),
        state: row.get(2)?,
        next_index_local: unsigned(row, 3)?,
        next_index_remote: unsigned(row, 4)?,
        next_htlc_id: unsigned(row, 5)?,
        revocations: least_index.and_then(revocations),
        funding: txid.zip(output).map(|(txid, output)| outpoint(&txid, output.unsigned_abs())),
        funding_sat: unsigned(row, 8)?,
        local_msat: unsigned(row, 9)?,
        lost_state: row.get(12)?,
        has_last_tx: row.get(13)?,
    })
}

/// 24 bits of block height, 24 of the transaction's place, 16 of the output's.
fn short_channel_id(number: i64) -> String {
    let number = number.cast_unsigned();
    format!("{}x{}x{}", number >> 40, (number >> 16) & 0xff_ffff, number & 0xffff)
}

fn htlcs(connection: &Connection) -> rusqlite::Result<Vec<LiveHtlc>> {
    let columns = Columns::of(connection, "channel_htlcs")?;
    let select = columns.select(&["channel_id", "direction", "msatoshi", "cltv_expiry"]);
    let preimage = columns.presence("payment_key");
    let sql = format!(
        "SELECT {select}, {preimage} FROM channel_htlcs t WHERE t.hstate NOT IN (9, 19) \
         ORDER BY t.channel_id, t.direction, t.channel_htlc_id"
    );
    let htlc = |row: &Row<'_>| {
        Ok(LiveHtlc {
            channel_dbid: row.get(0)?,
            direction: if row.get::<_, i64>(1)? == 0 { HtlcDirection::Incoming } else { HtlcDirection::Outgoing },
            msat: unsigned(row, 2)?.unwrap_or(0),
            cltv_expiry: unsigned(row, 3)?.unwrap_or(0),
            has_preimage: row.get::<_, Option<bool>>(4)?.unwrap_or(false),
        })
    };
    connection.prepare(&sql)?.query_map([], htlc)?.collect()
}

/// Counts what is unspent. `outputs` is the older table; where it is gone, `our_outputs` tells.
fn unspent(connection: &Connection) -> rusqlite::Result<Unspent> {
    let old = Columns::of(connection, "outputs")?;
    let new = Columns::of(connection, "our_outputs")?;
    let sql = if old.has("status") && old.has("value") {
        let height = if old.has("confirmation_height") { "min(confirmation_height)" } else { "NULL" };
        format!("SELECT count(*), total(value), {height} FROM outputs WHERE status <> {OUTPUT_SPENT}")
    } else if new.has("satoshis") && new.has("spendheight") {
        "SELECT count(*), total(satoshis), min(blockheight) FROM our_outputs WHERE spendheight IS NULL".to_owned()
    } else {
        return Ok(Unspent::default());
    };
    connection.query_row(&sql, [], |row| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 2.1e15 satoshi exist")]
        let sat = row.get::<_, f64>(1)? as u64;
        Ok(Unspent { outputs: unsigned(row, 0)?.unwrap_or(0), sat, oldest_height: unsigned(row, 2)? })
    })
}

fn peers(connection: &Connection) -> rusqlite::Result<Vec<KnownPeer>> {
    let columns = Columns::of(connection, "peers")?;
    let select = columns.select(&["node_id", "address", "last_known_address"]);
    let sql = format!("SELECT {select} FROM peers t WHERE t.node_id IS NOT NULL ORDER BY t.id");
    let peer = |row: &Row<'_>| {
        Ok(KnownPeer {
            node_id: hex::encode(row.get::<_, Vec<u8>>(0)?),
            address: row.get(1)?,
            last_known_address: row.get::<_, Option<Vec<u8>>>(2)?.and_then(|bytes| stored_address(&bytes)),
        })
    };
    connection.prepare(&sql)?.query_map([], peer)?.collect()
}

fn variable<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    if !Columns::of(connection, "vars")?.has(column) {
        return Ok(None);
    }
    let sql = format!("SELECT {column} FROM vars WHERE name = ?1");
    Ok(connection.query_row(&sql, [name], |row| row.get(0)).optional()?.flatten())
}

/// One number of one table; `None` when there is no such table or no row.
fn single(connection: &Connection, table: &str, expression: &str) -> rusqlite::Result<Option<u64>> {
    if Columns::of(connection, table)?.0.is_empty() {
        return Ok(None);
    }
    connection.query_row(&format!("SELECT {expression} FROM {table}"), [], |row| unsigned(row, 0))
}

/// A counter; a negative one, which cannot be, is `None`.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(|number| u64::try_from(number).ok()))
}

/// Which columns a table has in this schema version; none when there is no such table.
struct Columns(Vec<String>);

impl Columns {
    fn of(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let names = statement.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self(names))
    }

    fn has(&self, column: &str) -> bool {
        self.0.iter().any(|name| name == column)
    }

    /// The columns for a SELECT from a table called `t`, those that are missing as NULL.
    fn select(&self, columns: &[&str]) -> String {
        let one = |column: &&str| if self.has(column) { format!("t.{column}") } else { "NULL".to_owned() };
        columns.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Whether a column has a value, as an expression; NULL when there is no such column.
    fn presence(&self, column: &str) -> String {
        if self.has(column) { format!("t.{column} IS NOT NULL") } else { "NULL".to_owned() }
    }
}
