//! One file per verb: from arguments to a request, through the engine, to a report. Nothing is printed here.

pub mod attest;
pub mod backup;
pub mod catalog;
pub mod demo;
pub mod extract;
pub mod generate;
pub mod init;
pub mod keygen;
pub mod kit;
pub mod list;
pub mod policy;
pub mod restore;
pub mod show;
pub mod verify;

use crate::base::interrupt::Interrupt;
use crate::base::limits::{SMALL_OBJECT_BYTES_MAX, WITNESSES_BYTES_MAX};
use crate::base::secret::Secret;
use crate::base::{clock::Clock, fsio};
use crate::cli::{self, Global, Verb};
use crate::engine::Context;
use crate::engine::progress::Event;
use crate::engine::reading::{self, Wanted};
use crate::exit::Failure;
use crate::policy::{self as policies, Policy};
use crate::seal::identity::Identities;
use crate::seal::sign::VerifyingKey;
use crate::ui::Answer;
use crate::witness;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the policy lies unless something else is said.
pub const POLICY_DEFAULT: &str = "/etc/relay-backup/policy.toml";

/// What every verb gets from the edge.
pub struct Edge<'a> {
    /// The options that hold for every verb.
    pub global: &'a Global,
    /// The wish to stop.
    pub interrupt: &'a Interrupt,
    /// Whom to tell how far things are.
    pub progress: &'a (dyn Fn(Event) + Sync),
    /// This program's own file.
    pub program: PathBuf,
    /// Where sandboxes are made.
    pub scratch: PathBuf,
}

impl Edge<'_> {
    /// The engine's context.
    pub fn context(&self) -> Context<'_> {
        Context { clock: Clock::System, interrupt: self.interrupt, progress: self.progress }
    }

    /// The policy; an error when there is none.
    pub fn policy(&self) -> Result<Policy, Failure> {
        let file = self.global.policy.as_deref().unwrap_or(Path::new(POLICY_DEFAULT));
        Ok(policies::load(file)?)
    }

    /// The policy, or none where none was named, none lies at the usual place, and a vault's URL was given instead.
    pub fn policy_if_any(&self, from: &cli::From) -> Result<Option<Policy>, Failure> {
        let by_url = from.vault.as_ref().is_some_and(|vault| vault.contains("://"));
        if self.global.policy.is_none() && by_url && !Path::new(POLICY_DEFAULT).exists() {
            return Ok(None);
        }
        self.policy().map(Some).map_err(|failure| match &self.global.policy {
            None if !Path::new(POLICY_DEFAULT).exists() => Failure {
                hint: Some(
                    "on a machine that has no policy say where the vault is, --vault URL --signing-key KEY (both stand on \
                     the printed kit); elsewhere name the policy with --policy FILE"
                        .into(),
                ),
                ..failure
            },
            _ => failure,
        })
    }

    /// Where to read from, checked.
    pub fn from(&self, from: &cli::From) -> Result<reading::From, Failure> {
        let keys = from.signing_key.iter().map(|text| signing_key(text)).collect::<Result<_, _>>()?;
        Ok(reading::From {
            vault: from.vault.clone(),
            node: from.node.clone(),
            signing_keys: keys,
            witnesses: Vec::new(),
        })
    }

    /// Where to read from, with the witnesses that were given: each as a line, or as a file that holds some.
    pub fn from_and_witnesses(&self, from: &cli::From, given: &[String]) -> Result<reading::From, Failure> {
        let mut witnesses = Vec::new();
        for text in given {
            let is_line = text.trim_start().starts_with(witness::MARK);
            let found = if is_line {
                witness::find(text)
            } else {
                let bytes = fsio::read(Path::new(text), WITNESSES_BYTES_MAX)?;
                witness::find(&String::from_utf8_lossy(&bytes))
            };
            witnesses.extend(found.map_err(|error| Failure {
                hint: Some("it is the line after `Witness:` that `backup` prints, whole".into()),
                ..Failure::usage(format!("--witness: {error}"))
            })?);
        }
        Ok(reading::From { witnesses, ..self.from(from)? })
    }

    /// The identities given; none when none were.
    pub fn identities(&self, identity: &cli::Identity) -> Result<Option<Identities>, Failure> {
        let Some(file) = &identity.identity else { return Ok(None) };
        let content = if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = std::io::stdin().take(SMALL_OBJECT_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(|error| Failure::usage(format!("cannot read the identity from standard input: {error}")))?;
            Secret::new(bytes)
        } else {
            fsio::read_private(file, SMALL_OBJECT_BYTES_MAX)?
        };
        Ok(Some(Identities::parse(&content, &file.display().to_string())?))
    }

    /// The identities given; an error when none were.
    pub fn identities_needed(&self, identity: &cli::Identity, what: &'static str) -> Result<Identities, Failure> {
        self.identities(identity)?.ok_or_else(|| crate::engine::Error::NoIdentity { what }.into())
    }
}

fn signing_key(text: &str) -> Result<VerifyingKey, Failure> {
    if text.starts_with("RW") && !Path::new(text).exists() {
        return Ok(VerifyingKey::parse(text)?);
    }
    let bytes = fsio::read(Path::new(text), SMALL_OBJECT_BYTES_MAX)?;
    Ok(VerifyingKey::parse(&String::from_utf8_lossy(&bytes))?)
}

/// A snapshot named on the command line.
fn wanted(text: &str) -> Result<Wanted, Failure> {
    if text == "latest" {
        return Ok(Wanted::Latest);
    }
    text.parse().map(Wanted::One).map_err(|error| Failure::usage(format!("{error}, or `latest`")))
}

/// Does what the verb says.
pub fn run(edge: &Edge<'_>, verb: &Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Demo(args) => demo::run(edge, args),
        Verb::Keygen(args) => keygen::run(edge, args),
        Verb::Init(args) => init::run(edge, args),
        Verb::Kit(args) => kit::run(edge, args),
        Verb::Completions(args) => Ok(generate::completions(args)),
        Verb::Man(args) => generate::man(edge, args),
        Verb::Attest(args) => attest::run(edge, args),
        Verb::Rotate => init::rotate(edge),
        Verb::Backup(args) => backup::run(edge, args),
        Verb::UndoFinal(args) => backup::undo_final(edge, args),
        Verb::List(args) => list::run(edge, args),
        Verb::Show(args) => show::run(edge, args),
        Verb::Verify(args) => verify::run(edge, args),
        Verb::Extract(args) => extract::run(edge, args),
        Verb::Restore(args) => restore::run(edge, args),
        Verb::Policy(verb) => policy::run(edge, verb),
        Verb::Catalog(cli::CatalogVerb::Rebuild) => catalog::rebuild(edge),
    }
}
