//! A host outside this process: the program itself, run as a user runs it, with folder vaults and a policy.

use crate::support::env::{Ended, Identity, Run, TestEnv};
use relay_backup::sandbox::cluster::Cluster;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A host with its policy.
pub(crate) struct Host {
    pub(crate) env: TestEnv,
    pub(crate) identity: Identity,
    policy: PathBuf,
}

impl Host {
    /// Folder vaults of these names and sources as TOML. Nothing is set up yet.
    pub(crate) fn new(env: TestEnv, vaults: &[&str], sources: &str) -> Self {
        let identity = env.identity("owner/owner.key");
        let path = |name: &str| env.path(name).display().to_string();
        let mut text = format!(
            "node = \"shop-1\"\nstate_dir = \"{}\"\n\n[keys]\nrecipients = [\"{}\"]\n\n",
            path("state"),
            identity.recipient
        );
        for vault in vaults {
            text += &format!("[[vault]]\nname = \"{vault}\"\nurl = \"fs://{}\"\n\n", path(vault));
        }
        let policy = env.policy(&(text + sources));
        Self { env, identity, policy }
    }

    /// The program with the policy.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Run {
        self.env.relay_backup(&["--no-progress", "--policy", &self.policy.display().to_string()]).args(arguments)
    }

    /// Runs a verb that must end with this code.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Ended {
        self.verb(arguments).ends().exits(code)
    }

    /// Demands that every committed snapshot opens, whatever else is said of the vaults.
    #[track_caller]
    pub(crate) fn assert_opens(&self, snapshot: &str, code: i32) {
        let identity = self.identity.file.display().to_string();
        self.run(&["verify", "--depth", "opened", "--snapshot", snapshot, "--identity", &identity], code);
    }

    /// How many snapshots are committed in a folder vault.
    pub(crate) fn snapshots(&self, vault: &str) -> usize {
        let all = files(&self.env.path(vault));
        all.iter().filter(|path| path.ends_with("manifest.json")).count()
    }
}

/// A source of kind `files` over one folder or file.
pub(crate) fn files_source(name: &str, path: &Path) -> String {
    format!("[[source]]\nname = \"{name}\"\nkind = \"files\"\npaths = [\"{}\"]\n\n", path.display())
}

/// The sources of a whole shop: node, databases, files.
pub(crate) fn shop_sources(env: &TestEnv, cluster: &Cluster) -> String {
    format!(
        "[[source]]\nname = \"cln\"\nkind = \"cln\"\nlightning_dir = \"{}\"\nnetwork = \"regtest\"\n\n\
         [[source]]\nname = \"btcpay\"\nkind = \"postgres\"\nurl = \"{}\"\ndatabases = [\"btcpaydb\", \"nbxplorer\"]\n\n{}",
        env.lightning_dir("04-after-25-payments").display(),
        cluster.url("postgres"),
        files_source("medusa", &env.path("medusa"))
    )
}

/// A cluster of its own, in a folder that the server's user can walk to.
pub(crate) fn cluster(env: &TestEnv) -> Cluster {
    fs::DirBuilder::new().mode(0o711).create(env.path("pg")).unwrap();
    Cluster::start(&env.path("pg")).unwrap()
}

/// Every file below a folder; links are not followed. What vanishes meanwhile is left out.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// One process, as the kernel tells of it.
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) state: char,
    pub(crate) command: Vec<u8>,
}

/// All processes there are.
pub(crate) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The state follows the name, which stands in parentheses and may hold any.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        Some(Process { id, parent, group, state, command })
    })
    .collect()
}
