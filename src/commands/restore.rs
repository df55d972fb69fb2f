//! `restore`: the way back out of a disaster.

use super::{Edge, wanted};
use crate::base::fsio::{self, FileError};
use crate::base::limits::SMALL_OBJECT_BYTES_MAX;
use crate::base::visible::visible;
use crate::cli::{Global, Restore};
use crate::engine::Error;
use crate::engine::reading::{self, Reader};
use crate::engine::restore::apply::Person;
use crate::engine::restore::{self, Mode, Request};
use crate::exit::Failure;
use crate::guard::Acceptances;
use crate::scenario::{self, Scenario};
use crate::seal::sign::VerifyingKey;
use crate::target::{Owners, Root};
use crate::ui::Answer;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many letters of a signing key a person compares with the kit.
const KEY_LETTERS: usize = 12;

/// Restores, or says what it would do.
pub fn run(edge: &Edge<'_>, args: &Restore) -> Result<Answer, Failure> {
    let Some(name) = &args.scenario else { return overview(edge, args) };
    let scenario = load(name, args.scenarios.as_deref())?;
    let acceptances = args.accept.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let acceptances = acceptances
        .and_then(Acceptances::new)
        .map_err(|error| Failure { hint: Some(error.hint()), ..Failure::usage(format!("--accept: {error}")) })?;
    let wanted = args.snapshot.as_deref().map(wanted).transpose()?;
    let identities = edge.identities(&args.identity)?;
    let root = root(args.root.as_deref())?;
    let reader = reader(edge, args)?;
    let policy = edge.policy_if_any(&args.from)?;
    let context = edge.context();
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    let is_yes = args.yes;
    let tell = |text: &str| say(text);
    let ask = |question: &str| confirm(question, is_yes);
    let command = command(edge.global, args, name);
    let request = Request {
        scenario: &scenario,
        wanted,
        root: &root,
        mode,
        acceptances: &acceptances,
        identities: identities.as_ref(),
        person: Person { tell: &tell, ask: &ask },
        command: &command,
    };
    let report = restore::restore(&context, policy.as_ref(), &reader, &request)?;
    Ok(Answer::Restore(Box::new(report)))
}

/// Without a scenario: which there are, and which snapshots.
fn overview(edge: &Edge<'_>, args: &Restore) -> Result<Answer, Failure> {
    use std::fmt::Write as _;
    let reader = reader(edge, args)?;
    let mut text = String::from("Scenarios:\n");
    for name in scenario::names() {
        let scenario = scenario::embedded(name).map_err(Error::from)?;
        if scenario.purpose == scenario::Purpose::Restore {
            // Writing to a String cannot fail.
            _ = writeln!(text, "  {name:<26} {}", scenario.title);
        }
    }
    _ = writeln!(text, "\nSnapshots of node {}:", reader.node);
    for (id, places) in reader.snapshots()? {
        let vaults: Vec<&str> = places.iter().map(|(place, _)| place.vault.name().as_str()).collect();
        _ = writeln!(text, "  {id}  {}", vaults.join(", "));
    }
    text.push_str(
        "\nSay what happened: relay-backup restore --scenario NAME … --dry-run shows the plan and changes nothing.\n",
    );
    Ok(Answer::Text(text))
}

/// A scenario of the program's own, or a file in the folder given.
fn load(name: &str, folder: Option<&Path>) -> Result<Scenario, Failure> {
    let Some(folder) = folder else { return Ok(scenario::embedded(name).map_err(Error::from)?) };
    let file = folder.join(format!("{name}.toml"));
    // Its steps run with our rights: nobody else may have written it, or may put another in its place.
    for path in [folder, &file] {
        fsio::check_unchangeable(path)?;
        let owner = std::fs::metadata(path).map_err(FileError::io("look at", path))?.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Failure::usage(format!("{} belongs to somebody else, who could change it", path.display())));
        }
    }
    let bytes = fsio::read(&file, crate::base::limits::SCENARIO_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Scenario::parse(&text, &file).map_err(Error::from)?)
}

fn root(below: Option<&Path>) -> Result<Root, Failure> {
    let root = match below {
        None => Root::machine(),
        Some(folder) if folder != Path::new("/") && folder.canonicalize().is_ok_and(|real| real == Path::new("/")) => {
            return Err(Failure::usage(format!(
                "--root {} is this machine's own /, where units are stopped and services replaced; if that is meant, leave \
                 --root out",
                folder.display()
            )));
        }
        // Without root's rights owners cannot be set; a try-out below a folder says so and goes on.
        Some(folder) if rustix::process::geteuid().is_root() => Root::below(folder, Owners::Required),
        Some(folder) => Root::below(folder, Owners::WherePossible),
    };
    Ok(root.map_err(Error::from)?)
}

/// Opens the vaults; where no signing key is trusted yet, the vault's own is shown and must be confirmed from the kit.
fn reader(edge: &Edge<'_>, args: &Restore) -> Result<Reader, Failure> {
    let context = edge.context();
    let policy = edge.policy_if_any(&args.from)?;
    let mut from = edge.from_and_witnesses(&args.from, &args.witness)?;
    if from.signing_keys.is_empty() && policy.is_none() && std::io::stdin().is_terminal() {
        from.signing_keys.push(confirmed_key(edge, &from)?);
    }
    Ok(Reader::open(&context, policy.as_ref(), &from)?)
}

/// Asks for the first letters of the key on the printed kit: `--yes` does not answer this.
fn confirmed_key(edge: &Edge<'_>, from: &reading::From) -> Result<VerifyingKey, Failure> {
    let offered = reading::offered(&edge.context(), from)?;
    say("No signing key is trusted here yet. The vault offers:");
    for key in &offered {
        say(&format!("  {}", key.to_base64()));
    }
    say(&format!(
        "Whoever can write to the vault could have put a key there. Take the printed recovery kit and type the first\n\
         {KEY_LETTERS} letters of the signing key on it:"
    ));
    let typed = line()?;
    let is_it = |key: &&VerifyingKey| typed.len() >= KEY_LETTERS && key.to_base64().starts_with(&typed);
    offered.iter().find(is_it).cloned().ok_or_else(|| Failure {
        hint: Some("compare again with the kit; without the kit, nothing in this vault can be believed".into()),
        ..Failure::usage("no key in this vault begins like the one on your kit")
    })
}

fn line() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = SMALL_OBJECT_BYTES_MAX;
    let mut input = std::io::Read::take(std::io::stdin().lock(), limit);
    input.read_line(&mut text).map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    Ok(text.trim().to_owned())
}

/// Shows a text to the person at the terminal: on standard error, so that standard output stays the report's.
fn say(text: &str) {
    // Nobody to read it is no reason to stop.
    drop(writeln!(std::io::stderr().lock(), "{}", visible(text)));
}

fn confirm(question: &str, is_yes: bool) -> Result<bool, Error> {
    say(question);
    if is_yes {
        say("yes (--yes)");
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::NotConfirmed {
            question: format!("{} (nobody is at a terminal; --yes answers)", last_line(question)),
        });
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text);
    read.map_err(|source| Error::Output { to: "the terminal".into(), source })?;
    Ok(matches!(text.trim(), "yes" | "y" | "done"))
}

/// The question itself, which comes behind what it is about.
fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default()
}

/// The command that goes on, from whatever folder: without the identity's place, and without reasons.
fn command(global: &Global, args: &Restore, scenario: &str) -> String {
    let mut text = format!("relay-backup restore --scenario {}", word(scenario));
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {flag} {}", word(&value)));
        }
    };
    let place = |path: &Option<PathBuf>| {
        let path = path.as_ref()?;
        Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string())
    };
    add("--scenarios", place(&args.scenarios));
    add("--snapshot", args.snapshot.clone());
    add("--root", place(&args.root));
    add("--policy", place(&global.policy));
    add("--vault", args.from.vault.clone());
    add("--node", args.from.node.clone());
    args.witness.iter().for_each(|witness| {
        let is_line = witness.trim_start().starts_with(crate::witness::MARK);
        add("--witness", if is_line { Some(witness.trim().to_owned()) } else { place(&Some(PathBuf::from(witness))) });
    });
    args.from.signing_key.iter().for_each(|key| add("--signing-key", Some(key.clone())));
    text
}

/// One word of a shell's line.
fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn told(arguments: &[&str]) -> String {
        let first = ["relay-backup", "restore", "--scenario", "server-loss"];
        let cli = Cli::try_parse_from(first.iter().chain(arguments)).unwrap();
        let Verb::Restore(args) = &cli.verb else { panic!("another verb") };
        command(&cli.global, args, "server-loss")
    }

    #[test]
    fn the_command_that_goes_on_leads_to_the_same_places_from_any_folder() {
        assert_eq!(told(&["--policy", "/p.toml"]), "relay-backup restore --scenario server-loss --policy /p.toml");
        let told = told(&[
            "--policy",
            "p q.toml",
            "--scenarios",
            "mine",
            "--root",
            "new",
            "--vault",
            "s3://b/x?region=a&b=c",
            "--signing-key",
            "RWabc",
            "--identity",
            "/k/identity",
            "--accept",
            "twin=it is off",
            "--yes",
        ]);
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        assert!(
            told.contains(&format!(" --scenarios {here}/mine --root {here}/new --policy '{here}/p q.toml'")),
            "{told}"
        );
        assert!(told.ends_with(" --vault 's3://b/x?region=a&b=c' --signing-key RWabc"), "{told}");
        assert_eq!(word("it's"), "'it'\\''s'");
    }
}
