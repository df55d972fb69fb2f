//! A policy as it takes effect: every key, defaults filled in, as TOML that `parse` accepts and that shows the same
//! again. Holds no secret, because a policy holds none.

use super::{Policy, ServiceUrl, SourceKind, SourcePolicy, VaultPolicy, VaultUrl, Via};
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

/// The policy with every value that is in effect, as TOML. The recipients of a
/// `recipients_file` stand in the list, and the file in a remark.
pub fn show(policy: &Policy) -> String {
    let mut out = Out(String::new());
    out.text("node", policy.node.as_str());
    out.path("state_dir", &policy.state_dir);
    keys(&mut out, policy);
    let goals = &policy.objectives;
    out.table("objectives");
    out.text("rpo", &duration(goals.rpo));
    out.text("rto_data", &duration(goals.rto_data));
    out.text("rto_service", &duration(goals.rto_service));
    out.text("drill_every", &duration(goals.drill_every));
    for entry in &policy.vaults {
        vault(&mut out, entry);
    }
    out.table("backup");
    out.line("copies_required", policy.backup.copies_required);
    out.text("memory", &size(policy.backup.memory));
    out.text("lock_budget", &duration(policy.backup.lock_budget));
    out.text("lock_budget_max", &duration(policy.backup.lock_budget_max));
    for entry in &policy.sources {
        source(&mut out, entry);
    }
    let keep = &policy.retention;
    out.table("retention");
    out.line("keep_last", keep.keep_last);
    out.line("keep_daily", keep.keep_daily);
    out.line("keep_weekly", keep.keep_weekly);
    out.line("keep_monthly", keep.keep_monthly);
    out.line("keep_yearly", keep.keep_yearly);
    out.list("keep_triggers", &keep.keep_triggers);
    out.text("grace", &duration(keep.grace));
    out.0
}

fn keys(out: &mut Out, policy: &Policy) {
    out.table("keys");
    out.list("recipients", &policy.keys.recipients);
    if let Some(file) = &policy.keys.recipients_file {
        // A remark, because its recipients stand in the list above, and none may stand twice.
        out.0.push_str("# ");
        out.path("recipients_file", file);
    }
    for trusted in &policy.keys.trusted {
        out.entry("keys.trusted");
        out.text("role", trusted.role.as_str());
        out.text("key", &trusted.key);
    }
}

fn vault(out: &mut Out, vault: &VaultPolicy) {
    out.entry("vault");
    out.text("name", vault.name.as_str());
    out.text("url", &vault.url.to_string());
    if let Some(file) = &vault.credentials_file {
        out.path("credentials_file", file);
    }
    out.line("offsite", vault.offsite);
    out.text("via", if vault.via == Via::Sync { "sync" } else { "backup" });
    if let Some(bytes) = vault.bandwidth {
        out.text("bandwidth", &format!("{}/s", size(bytes)));
    }
}

impl fmt::Display for VaultUrl {
    /// As it stands in a policy. No URL of a vault holds a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Fs(folder) => format!("fs://{}", folder.display()),
            Self::S3 { bucket, prefix, endpoint, region } => {
                in_store("s3", bucket, prefix, &[("endpoint", endpoint), ("region", region)])
            }
            Self::Service(ServiceUrl { service, place, prefix, endpoint }) => {
                in_store(service.as_str(), place, prefix, &[("endpoint", endpoint)])
            }
        })
    }
}

fn in_store(scheme: &str, place: &str, prefix: &str, pairs: &[(&str, &Option<String>)]) -> String {
    let mut text = format!("{scheme}://{place}");
    if !prefix.is_empty() {
        text = format!("{text}/{prefix}");
    }
    let given = pairs.iter().filter_map(|(key, value)| value.as_ref().map(|value| (key, value)));
    for (number, (key, value)) in given.enumerate() {
        let value = value.replace('%', "%25").replace('&', "%26");
        let mark = if number == 0 { '?' } else { '&' };
        text = format!("{text}{mark}{key}={value}");
    }
    text
}

fn source(out: &mut Out, source: &SourcePolicy) {
    out.entry("source");
    out.text("name", source.name.as_str());
    out.text("kind", source.kind.as_str());
    match &source.kind {
        SourceKind::Cln { lightning_dir, network, wallet } => {
            out.path("lightning_dir", lightning_dir);
            out.text("network", network);
            if let Some(wallet) = wallet {
                out.path("wallet", wallet);
            }
        }
        SourceKind::Postgres { url, passfile, databases } => {
            out.text("url", url);
            if let Some(passfile) = passfile {
                out.path("passfile", passfile);
            }
            out.list("databases", databases);
        }
        SourceKind::Lnd { lnd_dir, network, paths } => {
            out.path("lnd_dir", lnd_dir);
            out.text("network", network);
            out.list("paths", paths);
        }
        SourceKind::Sqlite { path } => out.path("path", path),
        SourceKind::Files { paths, exclude } => {
            out.list("paths", paths);
            out.list("exclude", exclude);
        }
    }
    if let Some(codec) = source.codec {
        out.text("codec", codec.as_str());
    }
}

/// A length of time in the policy's words, in the fewest units: `26h` stays `1d2h`.
pub(super) fn duration(value: Duration) -> String {
    const UNITS: [(&str, u128); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = value.as_millis();
    // One unit is easier to read than two, if the number stays small.
    for (unit, length) in UNITS {
        if rest.is_multiple_of(length) && (1..=200).contains(&(rest / length)) {
            return format!("{}{unit}", rest / length);
        }
    }
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text = format!("{text}{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

/// A number of bytes in the policy's words.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let (unit, length) = UNITS.into_iter().find(|(_, length)| bytes.is_multiple_of(*length)).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / length)
}

struct Out(String);

impl Out {
    fn table(&mut self, name: &str) {
        self.put(format_args!("\n[{name}]\n"));
    }

    fn entry(&mut self, name: &str) {
        self.put(format_args!("\n[[{name}]]\n"));
    }

    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        self.put(format_args!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(key, toml::Value::String(value.to_owned()));
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.text(key, &value.to_string_lossy());
    }

    fn list(&mut self, key: &str, values: &[String]) {
        self.line(key, toml::Value::Array(values.iter().cloned().map(toml::Value::String).collect()));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.0.write_fmt(text).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_and_sizes_are_shown_in_few_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(shown(26 * 3600), "26h");
        assert_eq!(shown(100 * 86_400), "100d");
        assert_eq!(shown(7 * 86_400), "1w");
        assert_eq!(shown(90), "90s");
        assert_eq!(shown(100_000), "1d3h46m40s");
        assert_eq!(duration(Duration::from_millis(250)), "250ms");
        assert_eq!(size(96 << 20), "96MiB");
        assert_eq!(size(1500), "1500B");
    }
}
