//! `demo`: the whole story in a sandbox on this machine, told by the program's own verbs, run as a user would run them.
//! Real parts: a PostgreSQL server, a Core Lightning wallet, keys, a vault. Touches nothing outside the sandbox.

mod stage;

use super::Edge;
use crate::cli::Demo;
use crate::exit::Failure;
use crate::sandbox::node::Moment;
use crate::ui::{Answer, text::size};
use schemars::JsonSchema;
use serde::Serialize;
use stage::Stage;

/// What the demo showed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DemoReport {
    /// Whether every step did what it should.
    pub passed: bool,
    /// Where everything lies, when it was kept.
    pub kept: Option<String>,
    /// The steps.
    pub steps: Vec<DemoStep>,
}

/// One step of the demo.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DemoStep {
    /// What it showed.
    pub title: String,
    /// Whether it did what it should.
    pub passed: bool,
    /// What it came to, in a sentence.
    pub outcome: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How a step came out: a sentence.
type Step = Result<String, String>;

/// A step of the story: its title and what it does.
type Chapter<'s> = (&'static str, fn(&mut Stage<'s>) -> Step);

/// Shows the whole story. Every step is run even when one before it failed, except those that need what it made.
pub fn run(edge: &Edge<'_>, args: &Demo) -> Result<Answer, Failure> {
    let context = edge.context();
    let began = std::time::Instant::now();
    let folder = stage::folder(edge, args)?;
    stage::say(edge, &format!("The sandbox DEMO is {}: private, and {}.", folder.path().display(), folder.fate()));
    let store = stage::store(args, &folder)?;
    stage::say(edge, "Making a PostgreSQL server with shop databases, a Core Lightning wallet and a shop's files …");
    let cluster = stage::cluster(edge)?;
    let mut stage = Stage::set(edge, store, folder, &cluster)?;
    let chapters: [Chapter<'_>; 10] = [
        ("Keys and set-up: the host gets public keys only", set_up),
        ("The first backup", first_backup),
        ("The same backup again: nothing changed, so almost nothing is shipped", same_again),
        ("Life goes on: invoices, payments, Lightning commitments; then the next backup", life_goes_on),
        ("Proof that it can be read back: databases restored and compared row for row", verify),
        ("Single things come back: secret, recovery file, the shop's secrets", extract),
        ("The old channel database stays out of reach of a node", toxic),
        ("One bit of one object flips: it is found and named", damage),
        ("The wrong key opens nothing", wrong_key),
        ("The server is lost: everything comes back on a new one, in the right order", server_loss),
    ];
    let mut steps = Vec::new();
    for (index, (title, chapter)) in chapters.into_iter().enumerate() {
        context.check()?;
        let started = std::time::Instant::now();
        stage::say(edge, &format!("\n{}. {title}", index + 1));
        let outcome = chapter(&mut stage);
        context.check()?;
        let passed = outcome.is_ok();
        let sentence = outcome.unwrap_or_else(|reason| reason);
        stage::say(edge, &format!("   {} {sentence}", if passed { "✓" } else { "✗ FAILED:" }));
        let seconds = started.elapsed().as_secs_f64();
        steps.push(DemoStep { title: title.to_owned(), passed, outcome: sentence, seconds });
    }
    let passed = steps.iter().all(|step| step.passed);
    let elsewhere = stage.elsewhere().map(str::to_owned);
    let kept = stage.finish()?;
    let failed = steps.iter().filter(|step| !step.passed).count();
    let verdict = if passed {
        format!(
            "Verdict: PASSED. All {} steps did what they should, in {:.0} s.",
            steps.len(),
            began.elapsed().as_secs_f64()
        )
    } else {
        format!("Verdict: FAILED. {failed} of {} steps did not do what they should; see ✗ above.", steps.len())
    };
    stage::say(edge, &format!("\n{verdict}"));
    match &kept {
        Some(folder) => stage::say(edge, &format!("Everything is kept in {folder}; look around, then remove it.")),
        None => stage::say(edge, "The sandbox was wiped. `relay-backup demo --keep DIR` keeps it to look around."),
    }
    if let Some(url) = elsewhere {
        stage::say(edge, &format!("The demo's vault stays at {url}; remove it when you have looked at it."));
    }
    Ok(Answer::Demo(DemoReport { passed, kept, steps }))
}

fn set_up(stage: &mut Stage<'_>) -> Step {
    stage.verb(&["keygen", "--out", "DEMO/owner/recovery.key"], 0)?;
    stage.write_policy()?;
    stage.verb(&["policy", "check"], 0)?;
    stage.verb(&["init"], 0)?;
    Ok("the key that opens backups lies where you keep it; the host holds none".into())
}

fn first_backup(stage: &mut Stage<'_>) -> Step {
    stage.verb(&["backup"], 0)?;
    let before = stage.vault_bytes()?;
    stage.remember("first", before);
    Ok("one snapshot, committed and signed".into())
}

fn same_again(stage: &mut Stage<'_>) -> Step {
    stage.verb(&["backup"], 0)?;
    shipped(stage, "first", 20)
}

/// Compares what the vault grew by with what it held after the first backup; at most one part in `part` is right.
fn shipped(stage: &mut Stage<'_>, since: &str, part: u64) -> Step {
    let (before, now) = (stage.remembered(since)?, stage.vault_bytes()?);
    let shipped = now.saturating_sub(before);
    let sentence = format!("it shipped {}; the {since} one shipped {}", size(shipped), size(before));
    if shipped * part <= before { Ok(sentence) } else { Err(sentence) }
}

fn life_goes_on(stage: &mut Stage<'_>) -> Step {
    stage.live(Moment::AfterPayments)?;
    stage.verb(&["backup", "--trigger", "timer"], 0)?;
    stage.verb(&["list"], 0)?;
    Ok("the changed parts were shipped, the rest was known".into())
}

fn verify(stage: &mut Stage<'_>) -> Step {
    stage.verb(&["verify", "--depth", "meaning", "--identity", "DEMO/owner/recovery.key"], 0)?;
    Ok("dumps restored and equal row for row, wallet sound, secret derives the node id".into())
}

fn extract(stage: &mut Stage<'_>) -> Step {
    for (artifact, file) in [
        ("cln/hsm_secret", "hsm_secret"),
        ("cln/emergency.recover", "emergency.recover"),
        ("medusa/files.tar", "files.tar"),
    ] {
        let to = format!("DEMO/restored/{file}");
        stage.verb(&["extract", "--artifact", artifact, "--to", &to, "--identity", "DEMO/owner/recovery.key"], 0)?;
    }
    stage.compare_restored()?;
    Ok("byte for byte what was on the host".into())
}

fn toxic(stage: &mut Stage<'_>) -> Step {
    let verb =
        |to| ["extract", "--artifact", "cln/lightningd.sqlite3", "--to", to, "--identity", "DEMO/owner/recovery.key"];
    stage.verb(&verb("DEMO/quarantine/lightningd.sqlite3"), 21)?;
    stage.verb(&verb("DEMO/quarantine/lightningd.sqlite3.TOXIC"), 0)?;
    stage.compare_wallet()?;
    Ok("refused where a node could start on it; given, read-only and marked, to look at".into())
}

fn damage(stage: &mut Stage<'_>) -> Step {
    let Some(object) = stage.flip_bit()? else {
        return Ok("left out: the store does not let an object be replaced".into());
    };
    let found = stage.verb(&["verify", "--depth", "sealed"], 20);
    stage.flip_back()?;
    let said = found?;
    if !said.contains(&object) {
        return Err(format!("the message does not name the damaged object {object}"));
    }
    stage.verb(&["verify", "--depth", "sealed"], 0)?;
    Ok("found, named, and whole again when the bit was put back".into())
}

fn wrong_key(stage: &mut Stage<'_>) -> Step {
    stage.verb(&["keygen", "--out", "DEMO/owner/stranger.key"], 0)?;
    let stranger = [
        "extract",
        "--artifact",
        "cln/hsm_secret",
        "--to",
        "DEMO/restored/stolen",
        "--identity",
        "DEMO/owner/stranger.key",
    ];
    stage.verb(&stranger, 12)?;
    if stage.exists("restored/stolen") {
        return Err("something was written all the same".into());
    }
    Ok("and nothing was written".into())
}

fn server_loss(stage: &mut Stage<'_>) -> Step {
    stage.new_machine()?;
    let restore = |more: &[&'static str]| {
        let fixed =
            ["restore", "--scenario", "server-loss", "--root", "DEMO/new", "--identity", "DEMO/owner/recovery.key"];
        [&fixed[..], more].concat()
    };
    // The old host backed up a moment ago, so it may live: that guard is for a person to answer.
    stage.verb_of("DEMO/new-policy.toml", &restore(&["--yes"]), 21)?;
    let accept = "twin=this is a demo and its host burnt down";
    stage.verb_of("DEMO/new-policy.toml", &restore(&["--yes", "--accept", accept]), 0)?;
    stage.compare_machine()?;
    Ok("secret, recovery file, databases and files are back and proved; the channel database is in quarantine".into())
}
