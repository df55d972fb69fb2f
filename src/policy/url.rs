//! The URLs of a policy: where a vault is, and how PostgreSQL is reached. A password never belongs in one; none is
//! ever quoted back.

use super::shape::{nearest, shown};
use super::values::{BadValue, absolute, bad};
use super::{Service, ServiceUrl, VaultUrl};

const VAULT_REMEDY: &str = "write fs:///absolute/folder or s3://bucket/prefix?endpoint=https://…&region=…";
const CREDENTIALS_REMEDY: &str = "put them into a file of mode 0600 and name it by credentials_file; \
     treat the key as seen by everybody who could read the policy";
const PASSFILE_REMEDY: &str = "use the unix socket (postgresql:///postgres?host=/run/postgresql), or put the password into a \
     libpq passfile of mode 0600 and name it by passfile; treat the password as seen by everybody who could read the policy";

/// Where a vault is.
pub(super) fn vault(text: &str) -> Result<VaultUrl, BadValue> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad("holds a space or a control character", VAULT_REMEDY);
    }
    match text.split_once("://") {
        Some(("fs", rest)) => fs(rest),
        Some(("s3", rest)) => s3(rest),
        Some(("azblob", rest)) => built(service(Service::Azblob, rest)?),
        Some(("gcs", rest)) => built(service(Service::Gcs, rest)?),
        Some(("webdav", rest)) => built(service(Service::Webdav, rest)?),
        Some((scheme, _)) => {
            bad(format!("a vault cannot be reached by {:?}", format!("{}://", shown(scheme))), VAULT_REMEDY)
        }
        None => bad("is not a URL", VAULT_REMEDY),
    }
}

fn fs(rest: &str) -> Result<VaultUrl, BadValue> {
    if !rest.starts_with('/') {
        return bad("does not name an absolute folder", "write three slashes: fs:///var/lib/relay-backup/vault");
    }
    if rest.contains(['?', '#', '%']) {
        return bad("holds a '?', '#' or '%', which a folder's URL may not", "name a folder without these characters");
    }
    absolute(rest).map(VaultUrl::Fs)
}

fn s3(rest: &str) -> Result<VaultUrl, BadValue> {
    let (bucket, prefix, query) = in_store(rest)?;
    check_bucket(bucket)?;
    let [endpoint, region] = values_of(query, ["endpoint", "region"])?;
    if let Some(url) = &endpoint {
        check_endpoint(url)?;
    }
    if region.as_deref().is_some_and(|region| !is_plain(region)) {
        return bad("the region holds odd characters", "write the region's name as the store gives it");
    }
    Ok(VaultUrl::S3 { bucket: bucket.to_owned(), prefix, endpoint, region })
}

/// A URL of one of the further kinds of store, whether the program was built with it or not.
pub(super) fn service(service: Service, rest: &str) -> Result<ServiceUrl, BadValue> {
    let (place, prefix, query) = in_store(rest)?;
    let endpoint = match service {
        Service::Azblob | Service::Gcs => {
            check_bucket(place)?;
            let [endpoint] = values_of(query, ["endpoint"])?;
            endpoint
        }
        Service::Webdav => {
            check_host(place)?;
            let [] = values_of(query, [])?;
            None
        }
    };
    if let Some(url) = &endpoint {
        check_endpoint(url)?;
    } else if service == Service::Azblob {
        let remedy = "write azblob://container/prefix?endpoint=https://ACCOUNT.blob.core.windows.net";
        return bad("names no endpoint, and with it no account", remedy);
    }
    Ok(ServiceUrl { service, place: place.to_owned(), prefix, endpoint })
}

/// Refuses what this program was built without.
fn built(url: ServiceUrl) -> Result<VaultUrl, BadValue> {
    if url.service.is_built() {
        return Ok(VaultUrl::Service(url));
    }
    let name = url.service.as_str();
    let what = format!("needs a program that was built with the feature {name}; this one was not");
    bad(what, format!("build it with: cargo build --release --locked --features {name}"))
}

/// What follows a store's scheme, in parts: place, prefix without slashes at its ends, query.
fn in_store(rest: &str) -> Result<(&str, String, &str), BadValue> {
    if rest.contains('#') {
        return bad("holds a '#'", VAULT_REMEDY);
    }
    if rest.contains('@') {
        return bad("holds credentials, or an '@' that could end them", CREDENTIALS_REMEDY);
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|part| part.is_empty() || part.starts_with('.') || !is_plain(part)) {
        let remedy = "use letters, digits, '.', '-', '_' and single slashes, no part first a '.'";
        return bad(format!("{:?} is not a usable prefix", shown(prefix)), remedy);
    }
    Ok((place, prefix.to_owned(), query))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn check_bucket(bucket: &str) -> Result<(), BadValue> {
    if bucket.is_empty() {
        return bad("names no bucket", "write s3://bucket/prefix");
    }
    if bucket.len() > 63 || !is_plain(bucket) || bucket.starts_with(['.', '-']) {
        return bad(
            format!("{:?} is not a bucket's name", shown(bucket)),
            "use at most 63 letters, digits, '.', '-' or '_'",
        );
    }
    Ok(())
}

/// A host, perhaps with a port.
fn check_host(place: &str) -> Result<(), BadValue> {
    const REMEDY: &str = "write webdav://host/folder or webdav://host:port/folder; it is reached over https";
    let (host, port) = place.split_once(':').unwrap_or((place, "443"));
    if host.is_empty() || host.starts_with(['.', '-']) || !is_plain(host) || port.parse::<u16>().is_err() {
        return bad(format!("{:?} is not a host", shown(place)), REMEDY);
    }
    Ok(())
}

/// The values of these query keys, each of which may stand there once.
fn values_of<const N: usize>(query: &str, known: [&'static str; N]) -> Result<[Option<String>; N], BadValue> {
    let mut found = [const { None }; N];
    for (key, value) in pairs(query)? {
        let Some(number) = known.iter().position(|known| *known == key) else { return unknown_key(&key, &known) };
        if value.is_empty() || found[number].replace(value).is_some() {
            return bad(format!("the query key {key:?} is empty or stands twice"), VAULT_REMEDY);
        }
    }
    Ok(found)
}

fn unknown_key<T>(key: &str, known: &[&'static str]) -> Result<T, BadValue> {
    let lower = key.to_ascii_lowercase();
    if ["key", "secret", "token", "password", "credential", "sig"].iter().any(|word| lower.contains(word)) {
        return bad(format!("holds credentials (the query key {:?})", shown(key)), CREDENTIALS_REMEDY);
    }
    let remedy = match nearest(key, known.iter().copied()) {
        Some(known) => format!("did you mean {known:?}?"),
        None if known.is_empty() => "remove it; there are none".to_owned(),
        None => format!("remove it; known are {}", known.join(" and ")),
    };
    bad(format!("the query key {:?} is not known", shown(key)), remedy)
}

fn check_endpoint(url: &str) -> Result<(), BadValue> {
    let Some(host) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return bad("the endpoint is not an http or https URL", "write endpoint=https://s3.example.net");
    };
    if host.contains('@') {
        // Percent-encoded in the policy, or the whole URL would have been refused before.
        return bad("the endpoint holds credentials", CREDENTIALS_REMEDY);
    }
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['?', '#', '&']) {
        return bad("the endpoint names no host", "write endpoint=https://s3.example.net");
    }
    Ok(())
}

/// The pairs of a query, percent-decoded.
fn pairs(query: &str) -> Result<Vec<(String, String)>, BadValue> {
    let mut found = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(key), decode(value)) {
            (Some(key), Some(value)) => found.push((key, value)),
            _ => return bad("the query holds a broken %-sequence", "write '%' as %25"),
        }
    }
    Ok(found)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits =
                std::str::from_utf8(tail.get(..2)?).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Parameters of a connection URL that libpq knows and that carry no secret (PostgreSQL documentation, section
/// "Parameter Key Words").
const POSTGRES_KEYS: [&str; 26] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "options",
    "port",
    "requirepeer",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Checks a libpq connection URL: no password, no unknown parameter.
pub(super) fn postgres(text: &str) -> Result<String, BadValue> {
    const REMEDY: &str = "write postgresql:///postgres?host=/run/postgresql or postgresql://user@host:5432/postgres";
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad("holds a space or a control character", REMEDY);
    }
    let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) else {
        return bad("is not a PostgreSQL connection URL", REMEDY);
    };
    // The last '@' ends the user part: a password may hold '@', '/' and '?' itself, and must not be quoted as if it
    // were a parameter.
    if let Some((user, _)) = rest.rsplit_once('@')
        && user.contains(':')
    {
        return bad("holds a password", PASSFILE_REMEDY);
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('#') || query.contains('#') {
        return bad("holds a '#'", REMEDY);
    }
    for (key, _) in pairs(query)? {
        if key == "password" || key == "sslpassword" {
            return bad(format!("holds a password (the parameter {key:?})"), PASSFILE_REMEDY);
        }
        if key == "passfile" {
            return bad("names the passfile inside the URL", "write it as a key of its own: passfile = \"/path\"");
        }
        if !POSTGRES_KEYS.contains(&key.as_str()) {
            let remedy = match nearest(&key, POSTGRES_KEYS.into_iter()) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("remove it; known are {}", POSTGRES_KEYS.join(", ")),
            };
            return bad(format!("the parameter {:?} is not known", shown(&key)), remedy);
        }
    }
    Ok(text.to_owned())
}
