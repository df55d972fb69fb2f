//! The `[[source]]` tables of a policy, each read by its kind.

use super::check::{Checker, name, one_of, places};
use super::url;
use super::values::{self, BadValue};
use super::wire::{ClnWire, FilesWire, LndWire, PostgresWire, SqliteWire};
use super::{SourceKind, SourcePolicy};
use crate::artifact::Codec;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeValue, Error};

/// Longest name of a PostgreSQL database, in bytes (NAMEDATALEN - 1).
const DATABASE_NAME_BYTES_MAX: usize = 63;

/// Reads all sources. The text's shape was checked before: an error here is one of TOML itself.
pub(super) fn read_all(
    checker: &mut Checker<'_>,
    sources: Option<&Spanned<DeValue<'_>>>,
) -> Result<Vec<SourcePolicy>, Error> {
    let mut read = Vec::new();
    let mut names = Vec::new();
    for entry in sources.and_then(|list| list.get_ref().as_array()).into_iter().flatten() {
        let Some(table) = entry.get_ref().as_table() else { continue };
        let kind = table.get("kind").and_then(|kind| kind.get_ref().as_str()).unwrap_or_default().to_owned();
        let mut table = table.clone();
        table.remove("kind");
        let value = Spanned::new(entry.span(), DeValue::Table(table));
        let (name, source) = match kind.as_str() {
            "cln" => cln(checker, from(value)?),
            "postgres" => postgres(checker, from(value)?),
            "lnd" => lnd(checker, from(value)?),
            "sqlite" => sqlite(checker, from(value)?),
            _ => files(checker, from(value)?),
        };
        names.push(name);
        read.extend(source);
    }
    if names.is_empty() {
        checker.add(&(0..0), "[[source]]", "there is no source", "add at least one [[source]] with name and kind");
    }
    checker.unique("[[source]] name", "this name", places(&names), "give every source a name of its own");
    Ok(read)
}

fn from<'de, T: Deserialize<'de>>(value: Spanned<DeValue<'de>>) -> Result<T, Error> {
    T::deserialize(value.into_deserializer())
}

type Read = (Spanned<String>, Option<SourcePolicy>);

fn finish(
    checker: &mut Checker<'_>,
    text: Spanned<String>,
    codec: Option<&Spanned<String>>,
    kind: Option<SourceKind>,
) -> Read {
    let name = checker.value("[[source]] name", &text, name);
    let codec = codec.and_then(|codec| checker.value("[[source]] codec", codec, parse_codec));
    let source = name.zip(kind).map(|(name, kind)| SourcePolicy { name, kind, codec });
    (text, source)
}

fn parse_codec(text: &str) -> Result<Codec, BadValue> {
    match text {
        "none" => Ok(Codec::None),
        "gzip" => Ok(Codec::Gzip),
        "zstd" => Ok(Codec::Zstd),
        other => one_of(other, "codec", &["none", "gzip", "zstd"]),
    }
}

fn optional_path(checker: &mut Checker<'_>, place: &str, text: Option<&Spanned<String>>) -> Option<PathBuf> {
    text.and_then(|text| checker.value(place, text, values::absolute))
}

fn network(
    checker: &mut Checker<'_>,
    text: Option<&Spanned<String>>,
    main: &'static str,
    others_main: &str,
) -> Option<String> {
    let Some(text) = text else { return Some(main.to_owned()) };
    checker.value("[[source]] network", text, |text| {
        let known = [main, "testnet", "testnet4", "signet", "regtest"];
        if text == others_main {
            let what = format!("there is no network {text:?} for this kind of node");
            return values::bad(what, format!("this kind of node calls it {main:?}"));
        }
        if known.contains(&text) { Ok(text.to_owned()) } else { one_of(text, "network", &known) }
    })
}

fn cln(checker: &mut Checker<'_>, wire: ClnWire) -> Read {
    let lightning_dir = checker.value("[[source]] lightning_dir", &wire.lightning_dir, values::absolute);
    let network = network(checker, wire.network.as_ref(), "bitcoin", "mainnet");
    let wallet = optional_path(checker, "[[source]] wallet", wire.wallet.as_ref());
    let kind =
        lightning_dir.zip(network).map(|(lightning_dir, network)| SourceKind::Cln { lightning_dir, network, wallet });
    finish(checker, wire.name, wire.codec.as_ref(), kind)
}

fn postgres(checker: &mut Checker<'_>, wire: PostgresWire) -> Read {
    const PLACE: &str = "[[source]] databases";
    let url = checker.value("[[source]] url", &wire.url, url::postgres);
    let passfile = optional_path(checker, "[[source]] passfile", wire.passfile.as_ref());
    let listed = wire.databases.get_ref();
    let databases: Vec<String> = listed.iter().filter_map(|text| checker.value(PLACE, text, database)).collect();
    if listed.is_empty() {
        let remedy = "name at least one, such as databases = [\"btcpaydb\", \"nbxplorer\"]";
        checker.add(&wire.databases.span(), PLACE, "the list is empty", remedy);
    }
    checker.unique(PLACE, "this database", places(listed), "remove one of the two");
    let kind = url.map(|url| SourceKind::Postgres { url, passfile, databases });
    finish(checker, wire.name, wire.codec.as_ref(), kind)
}

fn database(text: &str) -> Result<String, BadValue> {
    if text.is_empty() || text.len() > DATABASE_NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let what = format!("{:?} is not the name of a database", super::shape::shown(text));
        return values::bad(what, "use 1 to 63 bytes without control characters");
    }
    Ok(text.to_owned())
}

fn lnd(checker: &mut Checker<'_>, wire: LndWire) -> Read {
    let lnd_dir = checker.value("[[source]] lnd_dir", &wire.lnd_dir, values::absolute);
    let network = network(checker, wire.network.as_ref(), "mainnet", "bitcoin");
    let paths = wire.paths.as_ref().map(|list| globs(checker, "[[source]] paths", list)).unwrap_or_default();
    let kind = lnd_dir.zip(network).map(|(lnd_dir, network)| SourceKind::Lnd { lnd_dir, network, paths });
    finish(checker, wire.name, wire.codec.as_ref(), kind)
}

fn sqlite(checker: &mut Checker<'_>, wire: SqliteWire) -> Read {
    let path = checker.value("[[source]] path", &wire.path, values::absolute);
    finish(checker, wire.name, wire.codec.as_ref(), path.map(|path| SourceKind::Sqlite { path }))
}

fn files(checker: &mut Checker<'_>, wire: FilesWire) -> Read {
    const PLACE: &str = "[[source]] paths";
    let paths = globs(checker, PLACE, &wire.paths);
    if wire.paths.get_ref().is_empty() {
        checker.add(&wire.paths.span(), PLACE, "the list is empty", "name at least one absolute path");
    }
    let exclude = wire.exclude.as_ref().map(|list| globs(checker, "[[source]] exclude", list)).unwrap_or_default();
    for text in wire.exclude.iter().flat_map(|list| list.get_ref()) {
        if values::path_or_glob(text.get_ref()).is_ok_and(|plain| paths.contains(&plain)) {
            let what = "leaves out the very path that is to be taken";
            checker.add(&text.span(), "[[source]] exclude", what, "remove it here or from paths");
        }
    }
    finish(checker, wire.name, wire.codec.as_ref(), Some(SourceKind::Files { paths, exclude }))
}

fn globs(checker: &mut Checker<'_>, place: &str, list: &Spanned<Vec<Spanned<String>>>) -> Vec<String> {
    checker.unique(place, "this path", places(list.get_ref()), "remove one of the two");
    list.get_ref().iter().filter_map(|text| checker.value(place, text, values::path_or_glob)).collect()
}
