//! The demo's stage: the sandbox folder and what stands in it, and the running of verbs in it.

use crate::base::exec::Exec;
use crate::base::fsio::{self, FileError};
use crate::base::ids::{BadId, NodeName};
use crate::base::limits::{MANIFEST_BYTES_MAX, OBJECT_BYTES_MAX};
use crate::cli::Demo;
use crate::commands::Edge;
use crate::engine::Error;
use crate::engine::error::chain;
use crate::engine::survey::entries;
use crate::exit::Failure;
use crate::policy::VaultUrl;
use crate::sandbox::cluster::Cluster;
use crate::sandbox::node::{Moment, Wallet, wallet_content};
use crate::sandbox::shop::{Shop, Size};
use crate::seal::sign::SigningKey;
use crate::vault::layout::{ObjectKey, Prefix};
use crate::vault::{Trouble, Vault, VaultError};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The demo's node.
const NODE: &str = "demo-btc-01";
/// The demo's vault.
const VAULT: &str = "local";
/// How large the demo's shop is.
const INVOICES: u64 = 4000;
/// The shop's own secrets, made up.
const SHOP_ENV: &str = "DATABASE_URL=postgres:///medusa\nJWT_SECRET=demo-jwt-secret-0001\n\
    COOKIE_SECRET=demo-cookie-secret-0002\nBTCPAY_API_KEY=demo-api-key-0003\nBTCPAY_WEBHOOK_SECRET=demo-webhook-secret-0004\n";

/// Prints a line of the story.
pub(super) fn say(edge: &Edge<'_>, line: &str) {
    if !edge.global.quiet && !edge.global.json {
        // A reader that went away does not stop the story.
        drop(writeln!(std::io::stdout(), "{line}"));
    }
}

/// The sandbox folder: wiped in the end, or kept.
pub(super) enum Sandbox {
    Wiped(tempfile::TempDir),
    Kept(PathBuf),
}

impl Sandbox {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Wiped(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }

    pub(super) fn fate(&self) -> &'static str {
        match self {
            Self::Wiped(_) => "wiped at the end",
            Self::Kept(_) => "kept at the end",
        }
    }
}

/// Makes the sandbox folder.
pub(super) fn folder(edge: &Edge<'_>, args: &Demo) -> Result<Sandbox, Failure> {
    let Some(folder) = &args.keep else {
        let folder = tempfile::Builder::new()
            .prefix("relay-backup-demo-")
            .tempdir_in(&edge.scratch)
            .map_err(FileError::io("create a folder in", &edge.scratch))?;
        return Ok(Sandbox::Wiped(folder));
    };
    if folder.exists() {
        return Err(Failure::usage(format!("{} exists already: --keep makes a new folder", folder.display())));
    }
    fsio::create_folder(folder, 0o700)?;
    let folder = std::fs::canonicalize(folder).map_err(FileError::io("look at", folder))?;
    Ok(Sandbox::Kept(folder))
}

/// Starts the shop's PostgreSQL server.
pub(super) fn cluster(edge: &Edge<'_>) -> Result<Cluster, Failure> {
    Ok(Cluster::start_unless(&edge.scratch, edge.interrupt).map_err(Error::from)?)
}

/// What stands in the sandbox.
pub(super) struct Stage<'c> {
    edge: &'c Edge<'c>,
    sandbox: Sandbox,
    program: PathBuf,
    cluster: &'c Cluster,
    shop: Shop<'c>,
    wallet: Wallet,
    store: Store,
    sizes: BTreeMap<String, u64>,
    flipped: Option<(ObjectKey, Vec<u8>)>,
    /// The PostgreSQL server of the machine that the lost one is restored to.
    fresh: Option<Cluster>,
}

/// Where the demo's vault is.
pub(super) struct Store {
    /// As the policy says it.
    url: String,
    credentials_file: Option<PathBuf>,
    vault: Vault,
}

/// Finds out where the vault will be, and that nothing is there.
pub(super) fn store(args: &Demo, sandbox: &Sandbox) -> Result<Store, Failure> {
    let url = args.vault.clone().unwrap_or_else(|| format!("fs://{}/vault", sandbox.path().display()));
    let place = VaultUrl::parse(&url).map_err(|error| Failure::usage(format!("--vault: {error}")))?;
    let is_folder = matches!(place, VaultUrl::Fs(_));
    let credentials_file = match &args.credentials_file {
        None if is_folder => None,
        Some(_) if is_folder => return Err(Failure::usage("--credentials-file: a folder needs none")),
        Some(file) => Some(std::fs::canonicalize(file).map_err(FileError::io("look at", file))?),
        None => {
            return Err(Failure::usage(
                "--vault: name its credentials with --credentials-file FILE; the demo's verbs inherit no AWS variables",
            ));
        }
    };
    let vault = Vault::open_url(VAULT.parse().map_err(Error::from)?, &place, credentials_file.as_deref());
    let vault = vault.map_err(Error::from)?;
    if vault.identify().map_err(Error::from)?.is_some() {
        return Err(Failure::usage(format!("--vault: there is a vault at {url} already; the demo makes its own")));
    }
    Ok(Store { url, credentials_file, vault })
}

impl<'c> Stage<'c> {
    /// Sets the stage: databases, wallet, files.
    pub(super) fn set(
        edge: &'c Edge<'c>,
        store: Store,
        sandbox: Sandbox,
        cluster: &'c Cluster,
    ) -> Result<Self, Failure> {
        let shop = Shop::create(cluster, 7, Size::Invoices(INVOICES)).map_err(Error::from)?;
        let path = sandbox.path();
        for folder in ["owner", "host/medusa", "restored", "quarantine"] {
            fsio::create_folder(&path.join(folder), 0o700)?;
        }
        fsio::create_durably(&path.join("host/medusa/.env"), SHOP_ENV.as_bytes(), 0o600)?;
        let lightning = path.join("host/lightning");
        let mut wallet = Wallet::create(&lightning).map_err(FileError::io("make the wallet in", &lightning))?;
        wallet.live_until(Moment::ChannelsOpen).map_err(FileError::io("play the wallet's life into", &lightning))?;
        let program = edge.program.clone();
        Ok(Self {
            edge,
            sandbox,
            program,
            cluster,
            shop,
            wallet,
            store,
            sizes: BTreeMap::new(),
            flipped: None,
            fresh: None,
        })
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.sandbox.path().join(inside)
    }

    /// Whether something is at this place of the sandbox.
    pub(super) fn exists(&self, inside: &str) -> bool {
        self.path(inside).exists()
    }

    /// Writes the policy, with the recipient of the key that was made.
    pub(super) fn write_policy(&self) -> Result<(), String> {
        let key = self.path("owner/recovery.key");
        let text = std::fs::read_to_string(&key).map_err(|error| chain(&error))?;
        let recipient =
            text.lines().find_map(|line| line.strip_prefix("# public key: ")).ok_or("the key names no recipient")?;
        let path = self.sandbox.path().display();
        let mut vault = format!("[[vault]]\nname = \"{VAULT}\"\nurl = \"{}\"\n", self.store.url);
        if let Some(file) = &self.store.credentials_file {
            vault.push_str(&format!("credentials_file = {:?}\n", file.display().to_string()));
        }
        let databases = format!("[\"{}\", \"{}\"]", Shop::BTCPAY, Shop::NBXPLORER);
        let policy = format!(
            "node = \"{NODE}\"\nstate_dir = \"{path}/host/state\"\n\n[keys]\nrecipients = [\"{recipient}\"]\n\n\
             [objectives]\nrpo = \"26h\"\n\n{vault}\n\
             [[source]]\nname = \"cln\"\nkind = \"cln\"\nlightning_dir = \"{path}/host/lightning\"\nnetwork = \"regtest\"\n\n\
             [[source]]\nname = \"btcpay\"\nkind = \"postgres\"\nurl = \"{}\"\ndatabases = {databases}\n\n\
             [[source]]\nname = \"medusa\"\nkind = \"files\"\npaths = [\"{path}/host/medusa\"]\n",
            self.cluster.url("postgres")
        );
        fsio::create_durably(&self.path("policy.toml"), policy.as_bytes(), 0o600).map_err(|error| chain(&error))
    }

    /// A machine that the lost one is restored to: an empty root, an empty PostgreSQL server, and the policy with the
    /// address of that server and the old host's key.
    pub(super) fn new_machine(&mut self) -> Result<(), String> {
        let cluster = Cluster::start_unless(&self.edge.scratch, self.edge.interrupt).map_err(|error| chain(&error))?;
        let path = self.sandbox.path().display().to_string();
        let policy = std::fs::read_to_string(self.path("policy.toml")).map_err(|error| chain(&error))?;
        // What the printed kit would say.
        let key = SigningKey::read(&self.path("host/state/signing.key")).map_err(|error| chain(&error))?;
        let key = key.public().to_base64();
        let policy = policy
            .replace(&self.cluster.url("postgres"), &cluster.url("postgres"))
            .replace(&format!("{path}/host/state"), &format!("{path}/new-state"))
            .replace("[objectives]", &format!("[[keys.trusted]]\nrole = \"node\"\nkey = \"{key}\"\n\n[objectives]"));
        fsio::create_folder(&self.path("new"), 0o700).map_err(|error| chain(&error))?;
        fsio::create_durably(&self.path("new-policy.toml"), policy.as_bytes(), 0o600).map_err(|error| chain(&error))?;
        self.fresh = Some(cluster);
        Ok(())
    }

    /// Holds what was restored against what is on the host.
    pub(super) fn compare_machine(&self) -> Result<(), String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let secret = self.wallet.secret();
        for live in [secret.clone(), secret.with_file_name("emergency.recover"), self.path("host/medusa/.env")] {
            let restored = self.path("new").join(live.strip_prefix("/").unwrap_or(&live));
            if read(&live)? != read(&restored)? {
                return Err(format!("{} differs", restored.display()));
            }
        }
        let wallet = self.wallet.database();
        let restored = self.path("new").join(wallet.strip_prefix("/").unwrap_or(&wallet));
        if restored.exists() { Err("the old channel database lies where a node would start".into()) } else { Ok(()) }
    }

    /// Runs a verb as a user would and shows it; an error unless it ends with this exit code. Gives what it said.
    pub(super) fn verb(&self, arguments: &[&str], wanted: i32) -> Result<String, String> {
        self.verb_of("DEMO/policy.toml", arguments, wanted)
    }

    /// The same under another policy.
    pub(super) fn verb_of(&self, policy: &str, arguments: &[&str], wanted: i32) -> Result<String, String> {
        let demo = self.sandbox.path().display().to_string();
        say(self.edge, &format!("   $ relay-backup --policy {policy} {}", arguments.join(" ")));
        let output = Exec::new(&self.program)
            .arg("--policy")
            .arg(policy.replace("DEMO", &demo))
            .arg("--no-progress")
            .args(arguments.iter().map(|argument| argument.replace("DEMO", &demo)))
            .output()
            .map_err(|error| chain(&error))?;
        for line in output.stdout.lines().chain(output.stderr.lines().filter(|line| is_answer(line))) {
            say(self.edge, &format!("     {}", line.replace(&demo, "DEMO")));
        }
        if output.code == Some(wanted) {
            if wanted != 0 {
                say(self.edge, &format!("     (exit code {wanted}, as it should be)"));
            }
            return Ok(output.stdout + &output.stderr);
        }
        let code = output.code.map_or("a signal".into(), |code| format!("exit code {code}"));
        Err(format!("{} ended with {code}, not with {wanted}: {}", arguments.join(" "), output.stderr.trim()))
    }

    /// Lets invoices and payments happen.
    pub(super) fn live(&mut self, moment: Moment) -> Result<(), String> {
        self.shop.add_percent(1).map_err(|error| chain(&error))?;
        self.wallet.live_until(moment).map_err(|error| chain(&error))?;
        let env = format!("{SHOP_ENV}SENDGRID_API_KEY=demo-mail-key-0005\n");
        fsio::write_durably(&self.path("host/medusa/.env"), env.as_bytes(), 0o600).map_err(|error| chain(&error))
    }

    /// How many bytes lie in the vault.
    pub(super) fn vault_bytes(&self) -> Result<u64, String> {
        let mut bytes = 0;
        let all = self.store.vault.visit(&Prefix::all(), &mut |listed| bytes += listed.length);
        all.map(|_| bytes).map_err(|error| chain(&error))
    }

    /// Remembers a size.
    pub(super) fn remember(&mut self, name: &str, bytes: u64) {
        self.sizes.insert(name.to_owned(), bytes);
    }

    /// What was remembered.
    pub(super) fn remembered(&self, name: &str) -> Result<u64, String> {
        self.sizes.get(name).copied().ok_or_else(|| format!("the step that measures the {name} backup failed"))
    }

    /// Holds what was extracted against what is on the host.
    pub(super) fn compare_restored(&self) -> Result<(), String> {
        let pairs = [
            (self.wallet.secret(), self.path("restored/hsm_secret")),
            (self.wallet.secret().with_file_name("emergency.recover"), self.path("restored/emergency.recover")),
        ];
        for (live, restored) in pairs {
            let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
            if read(&live)? != read(&restored)? {
                return Err(format!("{} differs", restored.display()));
            }
        }
        let tar = std::fs::File::open(self.path("restored/files.tar")).map_err(|error| chain(&error))?;
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().map_err(|error| chain(&error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| chain(&error))?;
            if entry.path().is_ok_and(|path| path.ends_with("medusa/.env")) {
                let mut text = Vec::new();
                std::io::copy(&mut entry, &mut text).map_err(|error| chain(&error))?;
                let live = std::fs::read(self.path("host/medusa/.env")).map_err(|error| chain(&error))?;
                return if text == live { Ok(()) } else { Err("the shop's .env differs".into()) };
            }
        }
        Err("the shop's .env is not in the tar".into())
    }

    /// Holds the extracted wallet against the live one, row for row.
    pub(super) fn compare_wallet(&self) -> Result<(), String> {
        let content = |path: &Path| wallet_content(path).map_err(|error| chain(&error));
        let live = content(&self.wallet.database())?;
        let restored = content(&self.path("quarantine/lightningd.sqlite3.TOXIC"))?;
        if live == restored { Ok(()) } else { Err("the extracted wallet differs from the live one".into()) }
    }

    /// Flips one bit in the largest object of the newest snapshot; gives the object's name. `None` where the store does
    /// not let an object be replaced.
    pub(super) fn flip_bit(&mut self) -> Result<Option<String>, String> {
        let failed = |error: VaultError| chain(&error);
        let node: NodeName = NODE.parse().map_err(|error: BadId| chain(&error))?;
        let vault = &self.store.vault;
        let entries = entries(vault, &node).map_err(failed)?;
        let newest = entries.iter().rfind(|entry| entry.is_committed()).ok_or("the vault holds no snapshot")?;
        let manifest = vault.get(&ObjectKey::manifest(&node, &newest.id), MANIFEST_BYTES_MAX).map_err(failed)?;
        let manifest = crate::manifest::decode(&manifest).map_err(|error| chain(&error))?;
        let largest = manifest.segments().max_by_key(|segment| segment.length).ok_or("the snapshot is empty")?;
        let key = ObjectKey::segment(&node, &largest.object);
        let bytes = vault.get(&key, OBJECT_BYTES_MAX as u64).map_err(failed)?;
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        match vault.put(&key, &changed) {
            Err(error) if error.trouble() == Trouble::Denied => return Ok(None),
            done => done.map_err(failed)?,
        }
        if vault.get(&key, OBJECT_BYTES_MAX as u64).map_err(failed)? == bytes {
            return Ok(None);
        }
        say(self.edge, &format!("   one bit flipped in object {}", largest.object));
        self.flipped = Some((key, bytes));
        Ok(Some(largest.object.to_string()))
    }

    /// Puts the bit back.
    pub(super) fn flip_back(&mut self) -> Result<(), String> {
        let Some((key, bytes)) = self.flipped.take() else { return Ok(()) };
        self.store.vault.put(&key, &bytes).map_err(|error| chain(&error))
    }

    /// Where the vault is that outlives the sandbox, if it does.
    pub(super) fn elsewhere(&self) -> Option<&str> {
        (!self.store.url.contains(&self.sandbox.path().display().to_string())).then_some(self.store.url.as_str())
    }

    /// Ends the story; gives the folder when it was kept.
    pub(super) fn finish(self) -> Result<Option<String>, Failure> {
        match self.sandbox {
            Sandbox::Kept(folder) => Ok(Some(folder.display().to_string())),
            Sandbox::Wiped(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(FileError::io("wipe", &path))?;
                Ok(None)
            }
        }
    }
}

/// Whether a line of standard error is part of the answer and not progress.
fn is_answer(line: &str) -> bool {
    ["Error:", "Caused by:", "Hint:", "  Hint:", "Note:", "Not whole:", "Too old:", "Failed:", "DAMAGE:"]
        .iter()
        .any(|start| line.starts_with(start))
}
