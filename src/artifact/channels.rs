//! What tells a Lightning node's state: the tables, buckets and file names that it is known by. The one definition, for
//! sources, facts, guards, the target and `extract`; what none of them names, no part of the program calls toxic.

use std::fmt;

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSoftware {
    /// Core Lightning.
    CoreLightning,
    /// LND.
    Lnd,
    /// eclair, or phoenixd and others that are built on lightning-kmp: their tables have the same names.
    Eclair,
    /// A node that is built on LDK.
    Ldk,
    /// An Electrum wallet with channels.
    Electrum,
}

impl fmt::Display for NodeSoftware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoreLightning => "Core Lightning",
            Self::Lnd => "LND",
            Self::Eclair => "eclair or phoenixd",
            Self::Ldk => "an LDK node",
            Self::Electrum => "Electrum",
        })
    }
}

impl NodeSoftware {
    /// What its state is called in messages.
    pub fn state(self) -> &'static str {
        match self {
            Self::CoreLightning => "Core Lightning's channel database",
            Self::Lnd => "LND's channel database",
            Self::Eclair => "eclair's or phoenixd's channel database",
            Self::Ldk => "an LDK node's channel state",
            Self::Electrum => "an Electrum wallet's channels",
        }
    }
}

/// Tables of one schema that tell channel state.
struct Sign {
    software: NodeSoftware,
    /// The tables that tell it.
    tables: &'static [&'static str],
    /// How many of them must be there.
    enough: usize,
    /// Tables that belong to it and tell nothing alone.
    others: &'static [&'static str],
}

/// Core Lightning: `wallet/migrations.c`. LND: `kvdb` over SQL, one table a former bolt file (`lncfg/db.go`). eclair:
/// `db/sqlite/SqliteChannelsDb.scala`, `db/pg/PgChannelsDb.scala` (newer ones in a schema `local`); lightning-kmp has
/// `local_channels` too. LDK: `ldk-node`'s tables, of older versions as well, the VSS server's, and those of `kld`.
const SIGNS: [Sign; 6] = [
    Sign {
        software: NodeSoftware::CoreLightning,
        tables: &["channels", "shachains", "channel_htlcs"],
        enough: 2,
        others: &["channel_state_changes", "vars"],
    },
    Sign {
        software: NodeSoftware::Lnd,
        tables: &["channeldb_kv", "decayedlogdb_kv"],
        enough: 1,
        others: &["walletdb_kv"],
    },
    Sign { software: NodeSoftware::Eclair, tables: &["local_channels"], enough: 1, others: &["htlc_infos"] },
    Sign { software: NodeSoftware::Eclair, tables: &["channels", "htlc_infos"], enough: 2, others: &[] },
    Sign { software: NodeSoftware::Ldk, tables: &["ldk_node_data", "ldk_data", "vss_db"], enough: 1, others: &[] },
    Sign {
        software: NodeSoftware::Ldk,
        tables: &["channel_manager", "channel_monitors", "channel_monitor_updates"],
        enough: 2,
        others: &[],
    },
];

/// Tables of LND's that hold keys and invoices, and by themselves no channel state.
const LND_OTHERS: [&str; 3] = ["walletdb_kv", "macaroondb_kv", "amp_sub_invoices"];

/// A node that was told by its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose it is.
    pub software: NodeSoftware,
    /// The tables that belong to it.
    pub tables: Vec<&'static str>,
}

/// The channel state among the tables of one schema, or of one SQLite database.
pub fn by_tables<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Told> {
    let names: Vec<&str> = names.into_iter().collect();
    let is_there = |table: &&&'static str| names.iter().any(|name| name.eq_ignore_ascii_case(table));
    let is_told = |sign: &&Sign| sign.tables.iter().filter(is_there).count() >= sign.enough;
    let software = SIGNS.iter().find(is_told)?.software;
    let of_sign = |sign: &'static Sign| sign.tables.iter().chain(sign.others).filter(is_there).copied();
    Some(Told { software, tables: SIGNS.iter().filter(is_told).flat_map(of_sign).collect() })
}

/// The node whose database it is by its tables, with channel state or without.
pub fn owner_by_tables<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Told> {
    let names: Vec<&str> = names.into_iter().collect();
    let is_there = |table: &&'static str| names.iter().any(|name| name.eq_ignore_ascii_case(table));
    by_tables(names.iter().copied()).or_else(|| {
        let tables: Vec<&str> = LND_OTHERS.into_iter().filter(is_there).collect();
        (!tables.is_empty()).then_some(Told { software: NodeSoftware::Lnd, tables })
    })
}

/// Whose channel state these top-level buckets of a bolt file are (LND `channeldb/channel.go`,
/// `htlcswitch/decayedlog.go`).
pub fn by_buckets<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Option<&'static str> {
    let mut found = None;
    for name in names {
        match name {
            b"open-chan-bucket" | b"historical-chan-bucket" | b"closed-chan-bucket" => {
                return Some(NodeSoftware::Lnd.state());
            }
            b"shared-hash" | b"batch-replay" => found = Some("LND's record of packets seen (sphinxreplay.db)"),
            _ => {}
        }
    }
    found
}

/// The names of LND's databases of channels, below its graph folder (LND `lncfg/db.go`).
pub const LND_DATABASES: [&str; 2] = ["channel.db", "channel.sqlite"];

/// Those of [`FILE_NAMES`] that no tar may bring back: each version of this program has refused what lies under them.
pub const NAMES_REFUSED: [&str; 4] = ["lightningd.sqlite3", "channel.db", "channel.sqlite", "sphinxreplay.db"];

/// Names under which a node looks for its channel state: Core Lightning `wallet/db.c`, LND `lncfg/db.go`, eclair
/// `db/Databases.scala`, ldk-node `io/sqlite_store`.
pub const FILE_NAMES: [&str; 6] =
    ["lightningd.sqlite3", "channel.db", "channel.sqlite", "sphinxreplay.db", "eclair.sqlite", "ldk_node_data.sqlite"];

impl NodeSoftware {
    /// Whether every version of this program has refused to take its state among files. What an older one took of the
    /// others must not keep the rest of a snapshot from coming back.
    pub fn is_always_refused(self) -> bool {
        match self {
            Self::CoreLightning | Self::Lnd => true,
            Self::Eclair | Self::Ldk | Self::Electrum => false,
        }
    }
}

/// Hashes of first blocks, in the order of bytes in which nodes store them, and lightningd's names of the chains.
pub const CHAINS: [(&str, &str); 5] = [
    ("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000", "bitcoin"),
    ("43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000", "testnet"),
    ("43f08bdab050e35b567c864b91f47f50ae725ae2de53bcfbbaf284da00000000", "testnet4"),
    ("f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000", "signet"),
    ("06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f", "regtest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nodes_tables_are_its_own() {
        use NodeSoftware::{CoreLightning, Eclair, Ldk, Lnd};
        for (tables, software) in [
            (&["channels", "shachains", "vars"][..], CoreLightning),
            (&["CHANNELS", "Channel_HTLCs"], CoreLightning),
            (&["shachains", "channel_htlcs"], CoreLightning),
            (&["decayedlogdb_kv"], Lnd),
            (&["channeldb_kv", "walletdb_kv"], Lnd),
            (&["local_channels", "htlc_infos", "versions"], Eclair),
            (&["channels", "htlc_infos", "pending_settlement_commands"], Eclair),
            (&["ldk_node_data"], Ldk),
            (&["vss_db", "vss_db_version"], Ldk),
            (&["channel_manager", "channel_monitors"], Ldk),
        ] {
            assert_eq!(by_tables(tables.iter().copied()).map(|told| told.software), Some(software), "{tables:?}");
            assert_eq!(owner_by_tables(tables.iter().copied()).map(|told| told.software), Some(software));
        }
        for tables in [&["channels", "messages"][..], &["shachains"], &["walletdb_kv"], &["htlc_infos"], &[]] {
            assert_eq!(by_tables(tables.iter().copied()), None, "{tables:?}");
        }
        let keys = Told { software: Lnd, tables: vec!["walletdb_kv"] };
        assert_eq!((owner_by_tables(["walletdb_kv"]), owner_by_tables(["orders"])), (Some(keys), None));
        let both = by_tables(["channels", "shachains", "channeldb_kv"]).unwrap();
        assert_eq!((both.software, both.tables), (CoreLightning, vec!["channels", "shachains", "channeldb_kv"]));
    }
}
