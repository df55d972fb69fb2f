//! The command line, as types. The doc comments are the help texts. No logic.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Backup and disaster recovery for hosts that run BTCPay Server, Core Lightning and PostgreSQL.
///
/// Takes encrypted snapshots, ships them to vaults, proves that they can be read back, and gives them back.
#[derive(Debug, Parser)]
#[command(name = "relay-backup", version, propagate_version = true, max_term_width = 110)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 usage or policy, 3 done but not whole, 10 no vault there, \
    11 locked by another run, 12 no identity fits, 20 damage found, 21 a guard refused, 22 a drill failed, \
    23 older than the objective allows, 130 interrupted. Any other code means failure.")]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The policy file; /etc/relay-backup/policy.toml unless something else is said.
    #[arg(long, global = true, env = "RELAY_BACKUP_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to standard error; twice and thrice for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print nothing but failures and what was asked for.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No progress bar, even on a terminal.
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the whole story in a sandbox on this machine.
    ///
    /// Makes a scratch PostgreSQL server with shop databases, a Core Lightning wallet, keys and a vault; backs up,
    /// changes things, backs up again, verifies, extracts, damages an object and finds it. Touches nothing else.
    #[command(
        after_help = "Example: relay-backup demo --keep /tmp/story\n\nExit codes: 0 every step did what it should, 1 one did not."
    )]
    Demo(Demo),
    /// Make an age identity, where it will be kept: not on the protected host.
    #[command(
        after_help = "Example: relay-backup keygen --out recovery.key\n\nExit codes: 0 ok, 1 failed (the file exists already)."
    )]
    Keygen(Keygen),
    /// Set this host up: state folder, signing key, epoch, vaults.
    ///
    /// Run again it completes what is missing and overwrites nothing.
    #[command(
        after_help = "Example: relay-backup init\n\nExit codes: 0 ok, 1 a vault could not be set up, 2 usage or policy, 11 locked."
    )]
    Init(Init),
    /// Write the printable recovery kit: one HTML page with public keys, addresses and steps.
    #[command(
        after_help = "Example: relay-backup kit --out kit.html\n\nExit codes: 0 ok, 1 failed, 2 usage or policy."
    )]
    Kit(Kit),
    /// Accept a changed hsm_secret as the right one.
    #[command(
        after_help = "Example: relay-backup attest cln\n\nExit codes: 0 ok, 1 failed, 2 usage or policy, 11 locked."
    )]
    Attest(Attest),
    /// Begin a new epoch, sealed to the policy's present recipients.
    #[command(
        after_help = "Example: relay-backup rotate\n\nExit codes: 0 ok, 1 failed, 3 a vault has not got the new key yet, 11 locked."
    )]
    Rotate,
    /// Take one snapshot.
    #[command(
        after_help = "Example: relay-backup backup --trigger timer\n\nExit codes: 0 ok, 1 a source failed, too few copies \
        were written or a fence stands here, 3 a vault is behind or a source degraded, 10 no vault there, 11 locked, \
        21 refused: `--final` and lightningd runs, 130 interrupted."
    )]
    Backup(Backup),
    /// Take a final snapshot back: the node stays here after all.
    ///
    /// Refuses when somebody has claimed the snapshot, or a vault does not answer: then the node may be running on
    /// another machine.
    #[command(
        after_help = "Example: relay-backup undo-final\n\nExit codes: 0 ok, 1 failed, 2 not confirmed, 3 a vault that sync \
        writes does not answer, 11 locked, 21 refused: claimed, or a vault does not answer."
    )]
    UndoFinal(UndoFinal),
    /// List the snapshots.
    #[command(
        after_help = "Example: relay-backup list\n\nExit codes: 0 ok, 3 a vault does not answer, 10 no vault there, 20 a manifest cannot be believed."
    )]
    List(List),
    /// Show one snapshot; with an identity also what its notes say.
    #[command(
        after_help = "Example: relay-backup show latest\n\nExit codes: 0 ok, 1 no such snapshot, 10 no vault there, 12 no identity fits, 20 damage."
    )]
    Show(Show),
    /// Prove that snapshots can be read back, in four depths.
    #[command(
        after_help = "Depths: `present` looks at signatures, chain, age and that every object is there; `sealed` \
        also hashes every object; `opened` also decrypts every segment (needs an identity); `meaning` also restores \
        databases into a scratch PostgreSQL server and checks wallet and secret.\n\n\
        Example: relay-backup verify --depth meaning --identity recovery.key\n\n\
        Exit codes: 0 ok, 3 a vault is behind or does not answer, 10 no vault there, 12 no identity fits, 20 damage, 23 too old."
    )]
    Verify(Verify),
    /// Give back one artifact.
    ///
    /// A toxic one (an old channel database) only into a file with TOXIC in its name, outside any lightning directory.
    #[command(
        after_help = "Example: relay-backup extract --snapshot latest --artifact cln/emergency.recover --to ./emergency.recover --identity recovery.key\n\n\
        Exit codes: 0 ok, 1 no such snapshot or artifact, 12 no identity fits, 20 damage, 21 refused."
    )]
    Extract(Extract),
    /// The way back: one scenario's steps, against this machine.
    ///
    /// Guards judge every plan first: an old channel database never comes where a node starts on it, and nothing is
    /// overwritten. Interrupted, the same command goes on. Without --scenario it lists scenarios and snapshots.
    #[command(
        after_help = "Example: relay-backup restore --scenario server-loss --identity recovery.key --dry-run\n\n\
        On a machine that has never seen the policy: relay-backup restore --scenario server-loss \
        --vault s3://bucket/prefix --identity recovery.key --signing-key RW…\n\n\
        Exit codes: 0 ok, 1 a step failed or something does not hold, 2 usage, 3 restored, but the snapshot lacked \
        something or a vault did not answer, 10 no vault there, 11 another run of it is at work, 12 no identity fits, \
        20 damage, 21 a guard refused or a question was not answered with yes, 130 interrupted."
    )]
    Restore(Restore),
    /// Print a shell's completions.
    #[command(
        after_help = "Example: relay-backup completions bash > /usr/share/bash-completion/completions/relay-backup\n\nExit codes: 0 ok."
    )]
    Completions(Completions),
    /// Print the manual page, or write one for every verb into a folder.
    #[command(after_help = "Example: relay-backup man --out /usr/share/man/man1\n\nExit codes: 0 ok, 1 failed.")]
    Man(Man),
    /// Check or show the policy.
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// The local index of what is where.
    #[command(subcommand)]
    Catalog(CatalogVerb),
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep everything in this new folder instead of wiping it.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Make the vault at this URL instead of in the sandbox. Nothing may be there yet; what was put there stays.
    #[arg(long, value_name = "URL")]
    pub vault: Option<String>,
    /// The credentials of that vault: the demo's verbs inherit no AWS variables.
    #[arg(long, value_name = "FILE", requires = "vault")]
    pub credentials_file: Option<PathBuf>,
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// Write the identity to this new file (mode 0600) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// An epoch key that was made on another machine, sealed to the policy's recipients.
    #[arg(long, value_name = "FILE", requires = "epoch_recipient")]
    pub sealed_epoch: Option<PathBuf>,
    /// The recipient that belongs to it.
    #[arg(long, value_name = "AGE1", requires = "sealed_epoch")]
    pub epoch_recipient: Option<String>,
}

/// `kit`.
#[derive(Debug, Args)]
pub struct Kit {
    /// A new file; standard output if left out.
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// A folder; standard output, and the main page only, if left out.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `attest`.
#[derive(Debug, Args)]
pub struct Attest {
    /// The cln source whose live hsm_secret is meant; may be left out where there is only one.
    pub source: Option<String>,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Only these sources; the snapshot is then not complete.
    #[arg(long, value_name = "SOURCE", num_args = 1..)]
    pub only: Vec<String>,
    /// Take the last snapshot of a node that moves to another machine: lightningd must be stopped and cannot start here
    /// afterwards. Only such a snapshot's channel database can be started elsewhere.
    #[arg(long = "final", conflicts_with_all = ["only", "trigger"])]
    pub last: bool,
    /// Do not ask whether the node is really to leave this host.
    #[arg(long, requires = "last")]
    pub yes: bool,
    /// Why it runs: timer, manual, pre-update, or a word of your own.
    #[arg(long, value_name = "NAME", default_value = "manual")]
    pub trigger: String,
}

/// `undo-final`.
#[derive(Debug, Args)]
pub struct UndoFinal {
    /// Do not ask whether the node is really to stay here.
    #[arg(long)]
    pub yes: bool,
}

/// Where to read from.
#[derive(Clone, Debug, Args)]
pub struct From {
    /// A vault of the policy by name, or any vault by URL (then no policy is needed).
    #[arg(long, value_name = "NAME|URL")]
    pub vault: Option<String>,
    /// The node whose snapshots are meant.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// A signing key to trust: base64 (RW…) or a .pub file; from the recovery kit.
    #[arg(long, value_name = "KEY|FILE")]
    pub signing_key: Vec<String>,
}

/// Whose key opens.
#[derive(Clone, Debug, Args)]
pub struct Identity {
    /// An identity file: age, age plugin or OpenSSH, plain or under a passphrase; `-` for standard input.
    #[arg(long, value_name = "FILE", env = "RELAY_BACKUP_IDENTITY_FILE")]
    pub identity: Option<PathBuf>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// The snapshots of every node in the vaults.
    #[arg(long, conflicts_with = "node")]
    pub all_nodes: bool,
    /// Where to read from.
    #[command(flatten)]
    pub from: From,
}

/// `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A snapshot id, or `latest` for the newest complete one.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    /// Where to read from.
    #[command(flatten)]
    pub from: From,
    /// Whose key opens.
    #[command(flatten)]
    pub identity: Identity,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Whose contents: a snapshot id, `latest` (of each vault) or `all`.
    #[arg(long, value_name = "ID|latest|all", default_value = "latest")]
    pub snapshot: String,
    /// How deep to look.
    #[arg(long, value_enum, default_value = "present")]
    pub depth: Depth,
    /// A witness that `backup` printed, or a file with some: vaults that were set back to an earlier state are told.
    #[arg(long, value_name = "LINE|FILE")]
    pub witness: Vec<String>,
    /// Where to read from.
    #[command(flatten)]
    pub from: From,
    /// Whose key opens.
    #[command(flatten)]
    pub identity: Identity,
}

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Signatures, chain, age, every object there.
    Present,
    /// And every object hashes to its name.
    Sealed,
    /// And every segment opens to its content.
    Opened,
    /// And databases restore, wallet and secret check out.
    Meaning,
}

/// `extract`.
#[derive(Debug, Args)]
pub struct Extract {
    /// A snapshot id, or `latest` for the newest complete one.
    #[arg(long, value_name = "ID|latest", default_value = "latest")]
    pub snapshot: String,
    /// The artifact, as `show` names it.
    #[arg(long, value_name = "NAME")]
    pub artifact: String,
    /// A new file, or `-` for standard output.
    #[arg(long, value_name = "FILE|-")]
    pub to: PathBuf,
    /// Where to read from.
    #[command(flatten)]
    pub from: From,
    /// Whose key opens.
    #[command(flatten)]
    pub identity: Identity,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// What happened: server-loss, cln-db-corruption, postgres-corruption, …
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
    /// A snapshot id, or `latest`; the scenario's own choice if left out.
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Place everything below this folder instead of `/`; units of this machine are then left alone.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Show the plan, what each step would touch, and every guard's verdict; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Answer every question with yes. Does not confirm a signing key.
    #[arg(long)]
    pub yes: bool,
    /// Take a guard's refusal upon yourself, in your own words: twin, freshness, space, payout.
    #[arg(long, value_name = "GUARD=\"WHY\"")]
    pub accept: Vec<String>,
    /// A witness that `backup` printed, or a file with some. A final snapshot's channel database moves only with the
    /// one of its own taking.
    #[arg(long, value_name = "LINE|FILE")]
    pub witness: Vec<String>,
    /// A folder with scenario files of your own, NAME.toml.
    #[arg(long, value_name = "DIR")]
    pub scenarios: Option<PathBuf>,
    /// Where to read from.
    #[command(flatten)]
    pub from: From,
    /// Whose key opens.
    #[command(flatten)]
    pub identity: Identity,
}

/// `policy`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum PolicyVerb {
    /// Check the policy and say what is wrong with it.
    #[command(
        after_help = "Example: relay-backup --policy ./policy.toml policy check\n\nExit codes: 0 ok, 2 something is wrong."
    )]
    Check,
    /// Show the policy with every default filled in.
    #[command(after_help = "Example: relay-backup policy show\n\nExit codes: 0 ok, 2 something is wrong.")]
    Show,
    /// Print the policy's JSON Schema.
    #[command(after_help = "Example: relay-backup policy schema\n\nExit codes: 0 ok.")]
    Schema,
}

/// `catalog`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum CatalogVerb {
    /// Rebuild the catalog from the vaults.
    #[command(
        after_help = "Example: relay-backup catalog rebuild\n\nExit codes: 0 ok, 3 a vault does not answer, 10 no vault there, 11 locked."
    )]
    Rebuild,
}

impl Verb {
    /// Its name, for the JSON document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Keygen(_) => "keygen",
            Self::Init(_) => "init",
            Self::Kit(_) => "kit",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
            Self::Attest(_) => "attest",
            Self::Rotate => "rotate",
            Self::Backup(_) => "backup",
            Self::UndoFinal(_) => "undo-final",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Verify(_) => "verify",
            Self::Extract(_) => "extract",
            Self::Restore(_) => "restore",
            Self::Policy(PolicyVerb::Check) => "policy check",
            Self::Policy(PolicyVerb::Show) => "policy show",
            Self::Policy(PolicyVerb::Schema) => "policy schema",
            Self::Catalog(CatalogVerb::Rebuild) => "catalog rebuild",
        }
    }
}
