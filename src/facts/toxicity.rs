//! Whether an artifact is toxic: what its kind says, what its manifest says, and what was seen in it when it was read.
//! One yes is a yes. Plan, guards, restore, `extract` and checks ask here and nowhere else.

use super::Facts;
use super::postgres::{DatabaseFacts, Software};
use crate::artifact::channels;
use crate::artifact::{ArtifactKind, Toxicity};
use std::collections::{BTreeMap, BTreeSet};

/// Judges an artifact of this kind that its manifest marks toxic or does not. `None` when the notes say nothing of it,
/// so that nobody can tell.
pub fn toxicity(kind: ArtifactKind, is_marked: bool, facts: Option<&Facts>) -> Option<Toxicity> {
    if is_marked || kind == ArtifactKind::ClnWallet {
        return Some(Toxicity::Toxic);
    }
    let is_seen = match facts? {
        Facts::ClnWallet(_) => true,
        Facts::PostgresDump(facts) => !facts.node_tables().is_empty(),
        Facts::Sqlite(facts) => channels::by_tables(facts.content.tables.keys().map(String::as_str)).is_some(),
        Facts::HsmSecret(_)
        | Facts::EmergencyRecover(_)
        | Facts::ClnExtras(_)
        | Facts::LndChannelBackup(_)
        | Facts::Tar(_)
        | Facts::PostgresGlobals(_) => false,
    };
    Some(if is_seen { Toxicity::Toxic } else { Toxicity::Harmless })
}

/// The tables that tell a node, qualified, among these with their schemas.
pub fn node_tables(tables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut schemas: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (schema, name) in tables {
        schemas.entry(schema).or_default().push(name);
    }
    let told = |(schema, names): (String, Vec<String>)| {
        let told = channels::owner_by_tables(names.iter().map(String::as_str));
        told.into_iter().flat_map(|told| told.tables).map(move |name| format!("{schema}.{name}"))
    };
    schemas.into_iter().flat_map(told).collect()
}

impl DatabaseFacts {
    /// The tables for which a dump is toxic, qualified: those that its reader recognised, and those that tell a node by
    /// their names, because an older reader knew fewer. Where the software alone was told, every one.
    pub fn node_tables(&self) -> Vec<String> {
        let tables = self.tables.iter().map(|table| (table.schema.clone(), table.name.clone()));
        let mut found: BTreeSet<String> = self.channel_tables.iter().cloned().chain(node_tables(tables)).collect();
        if found.is_empty() && self.software.is_node() {
            found.extend(self.tables.iter().map(|table| format!("{}.{}", table.schema, table.name)));
            found.insert("every table".to_owned());
        }
        found.into_iter().collect()
    }
}

impl Software {
    /// Whether it is a Lightning node, whose every table belongs to its channel state.
    pub fn is_node(self) -> bool {
        match self {
            Self::Cln | Self::Lnd => true,
            Self::Btcpay | Self::Nbxplorer | Self::Medusa | Self::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(software: &str, channel_tables: &[&str], tables: &[(&str, &str)]) -> Facts {
        let digest = "0".repeat(32);
        let table = |(schema, name): &(&str, &str)| serde_json::json!({"schema": schema, "name": name, "rows": 0, "digest": digest, "columns": []});
        let facts = serde_json::json!({
            "of": "postgres-dump", "name": "db", "server": {"number": 150_018, "text": "15.18"}, "pg_dump": "15.18",
            "archive_version": "1.14", "dump_bytes": 1, "encoding": "UTF8", "collation": "C", "ctype": "C",
            "locale_provider": "libc", "owner": "o", "roles": [], "extensions": [], "software": software,
            "channel_tables": channel_tables, "size_bytes": 1, "tables": tables.iter().map(table).collect::<Vec<_>>(),
            "sequences": [], "materialized_views": [], "large_objects": {"count": 0, "digest": digest}, "marks": {},
        });
        serde_json::from_value(facts).unwrap()
    }

    #[test]
    fn one_yes_is_a_yes_and_nobody_asked_is_no_answer() {
        use ArtifactKind::{ClnWallet, PostgresDump, Tar};
        let dump_is = |facts: &Facts| toxicity(PostgresDump, false, Some(facts)).unwrap();
        let shop = dump("btcpay", &[], &[("public", "Invoices"), ("a", "channels"), ("b", "shachains")]);
        assert_eq!(dump_is(&shop), Toxicity::Harmless);
        assert_eq!(toxicity(PostgresDump, true, Some(&shop)), Some(Toxicity::Toxic));
        for toxic in [
            // Recognised as a node's, without a word of which tables.
            dump("cln", &[], &[("public", "peers")]),
            dump("lnd", &[], &[]),
            dump("none", &["public.channels"], &[]),
            // An older version did not know whose these are.
            dump("none", &[], &[("local", "channels"), ("local", "htlc_infos")]),
            dump("none", &[], &[("public", "vss_db")]),
        ] {
            assert_eq!(dump_is(&toxic), Toxicity::Toxic, "{toxic:?}");
        }
        assert_eq!(toxicity(ClnWallet, false, None), Some(Toxicity::Toxic));
        assert_eq!((toxicity(PostgresDump, false, None), toxicity(Tar, false, None)), (None, None));
    }
}
