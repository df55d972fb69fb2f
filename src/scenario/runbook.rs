//! A scenario as a page to read: the runbook. Made from the same data that `restore` follows, so that prose and steps
//! cannot drift apart. Knows no host: what only the day itself can tell stands there as `<snapshot>`.

use super::text::Template;
use super::verbs::Do;
use super::words::{Answer, Condition, GuardName, Inspection, Which};
use super::{Followup, Scenario, Step};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// The page in Markdown.
pub fn runbook(scenario: &Scenario) -> String {
    let mut out = String::new();
    head(&mut out, scenario);
    needs(&mut out, scenario);
    start(&mut out, scenario);
    out.push_str("\n## Steps\n");
    for (index, step) in scenario.steps.iter().enumerate() {
        step_text(&mut out, index + 1, step);
    }
    out.push_str("\n## What must hold afterwards\n\n");
    for assertion in &scenario.must_hold {
        line(
            &mut out,
            format_args!("- **`{}`**: {}. {}", assertion.what, assertion.what.meaning(), assertion.because.markdown()),
        );
    }
    follow_up(&mut out, &scenario.followups);
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if out.write_fmt(text).is_ok() {
        out.push('\n');
    }
}

fn head(out: &mut String, scenario: &Scenario) {
    line(out, format_args!("# {}\n", scenario.title));
    line(
        out,
        format_args!(
            "Runbook of the scenario `{0}`, made from `restore-drills/{0}.toml`: do not edit it here.\n\
             All stand in [RUNBOOKS.md](../RUNBOOKS.md), what each verb does in [SCENARIOS.md](../SCENARIOS.md).\n\
             Words in angle brackets, such as `<snapshot>`, are filled in by `relay-backup restore` on the day.\n",
            scenario.name
        ),
    );
    line(out, format_args!("{}", scenario.what_happened.markdown()));
    let objectives = scenario.objectives;
    if let Some(time) = objectives.rto_data {
        line(out, format_args!("\nSecrets, databases and files should be back within {}.", spelled(time)));
    }
    if let Some(time) = objectives.rto_service {
        line(out, format_args!("\nPayments flow again within {}: an estimate, not a promise.", spelled(time)));
    }
}

fn needs(out: &mut String, scenario: &Scenario) {
    out.push_str("\n## Before you begin\n\n");
    if scenario.needs.is_empty() {
        out.push_str("Nothing is needed but the program itself.\n");
    }
    for need in &scenario.needs {
        line(out, format_args!("- {}", need.meaning()));
    }
    let of_steps = scenario.steps.iter().filter_map(|step| match &step.action {
        Do::Tell { command, .. } => Some(command),
        _ => None,
    });
    let mut commands = of_steps.chain(scenario.followups.iter().map(|entry| &entry.command)).flatten();
    if commands.any(|line| line.command().contains("mask ")) {
        out.push_str(
            "\nOn NixOS `systemctl mask` and `unmask` do not work: what does stands in [RUNBOOKS.md](../RUNBOOKS.md#on-nixos).\n",
        );
    }
}

fn start(out: &mut String, scenario: &Scenario) {
    let name = &scenario.name;
    out.push_str("\n## Start\n");
    if let Some(by_hand) = scenario
        .steps
        .iter()
        .position(|step| matches!(step.action, Do::ChooseSnapshot { .. }))
        .filter(|before| *before > 0)
    {
        line(
            out,
            format_args!(
                "\nDo first, by hand, what is told before the step that chooses the snapshot (step {}): the program looks at vaults\n\
                 and machine before its first step, and ends there where a guard refuses. In its turn it asks whether each is done.",
                by_hand + 1
            ),
        );
    }
    out.push_str("\nFirst look, which changes nothing, then do it:\n\n");
    let mut given = String::new();
    if scenario.steps.iter().any(|step| matches!(step.action, Do::ChooseSnapshot { which: Which::Asked, .. })) {
        given.push_str(" --snapshot ID");
    }
    if scenario.needs.contains(&super::Need::Identity) {
        given.push_str(" --identity recovery.key");
    }
    if scenario.steps.iter().any(|step| matches!(step.action, Do::ChooseSnapshot { which: Which::Final, .. })) {
        given.push_str(" --witness LINE");
    }
    line(
        out,
        format_args!(
            "```text\nrelay-backup restore --scenario {name}{given} --dry-run\nrelay-backup restore --scenario {name}{given}\n```"
        ),
    );
    if scenario.steps.iter().any(|step| step.action.reads_snapshot()) {
        line(
            out,
            format_args!(
                "\nOn a machine that has no policy, say where the vault is; the signing key stands on the printed kit:\n\n\
                 ```text\nrelay-backup restore --scenario {name}{given} --vault URL --node NODE --signing-key RW... --dry-run\n```"
            ),
        );
    }
    out.push_str("\nA run that was interrupted goes on where it was when the same command is given again.\n");
}

fn step_text(out: &mut String, number: usize, step: &Step) {
    line(out, format_args!("\n### {number}. {}\n", step.title));
    line(out, format_args!("Step `{}`, `{}`. {}", step.id, step.action.verb(), sentence(&step.action)));
    if let Do::Guard { names } = &step.action {
        out.push('\n');
        for name in names {
            line(out, format_args!("- `{name}`: {}{}", name.meaning(), accepted(*name)));
        }
    }
    if let Some(why) = &step.why {
        line(out, format_args!("\n{}", why.markdown()));
    }
    if let Do::Tell { text, command, .. } = &step.action {
        line(out, format_args!("\n{}", text.markdown()));
        commands(out, command);
    }
}

fn accepted(guard: GuardName) -> &'static str {
    match guard {
        GuardName::Twin | GuardName::Freshness | GuardName::Space | GuardName::Payout => {
            " (a person who knows better can say so with `--accept`)"
        }
        _ => "",
    }
}

/// What a step does, in one sentence.
fn sentence(action: &Do) -> String {
    match action {
        Do::ChooseSnapshot { which, depth } => {
            format!("The snapshot is {}. It is verified first: {}.", which.meaning(), depth.meaning())
        }
        Do::Guard { .. } => "Judged before the first step already: no run begins unless all of these hold:".to_owned(),
        Do::Fence => {
            "Until the fence is taken away, lightningd cannot start: the program holds the lock on its pid file, \
                      and a text file stands in the place of its database, also after a crash or a reboot."
                .to_owned()
        }
        Do::Unfence => "The fence is taken away: from now on lightningd can start.".to_owned(),
        Do::Place { what } => {
            format!("Places {}. What lies there already is never overwritten.", what.meaning())
        }
        Do::Quarantine => {
            "Every artifact that is toxic goes into `<quarantine>`: with `TOXIC` in its name, mode 0400, \
                           outside any lightning directory, and with a text beside it that says why."
                .to_owned()
        }
        Do::MoveAside { what } => format!("Moves aside {}. Nothing is deleted.", what.meaning()),
        Do::RestoreRoles => "Makes the roles that the databases need; those that exist stay as they are.".to_owned(),
        Do::RestoreDatabases => "Restores each database into a fresh one beside the live one, in one transaction, and \
                                 compares every table with what the snapshot's notes say."
            .to_owned(),
        Do::SwapDatabases { which } => {
            format!("By renaming, these go into service: {}. The old ones stay under another name.", which.meaning())
        }
        Do::Burn { what } => {
            let what: Vec<&str> = what.iter().map(|what| what.meaning()).collect();
            format!("In the restored databases, before they go into service: {}.", what.join("; "))
        }
        Do::Inspect { what: what @ Inspection::TestDelivery } => format!(
            "Shows {}; a dry run sends nothing, and nothing is sent below another root. Changes nothing on this host.",
            what.meaning()
        ),
        Do::Inspect { what } => format!("Shows {}. Changes nothing.", what.meaning()),
        Do::StopUnit { unit, .. } => format!("Stops `{unit}` and waits until it has stopped."),
        Do::StartUnit { unit, .. } => format!("Starts `{unit}`."),
        Do::Run { program, arguments } => runs(program, arguments),
        Do::Wait { condition, unit, at_most } => waits(*condition, unit.as_deref(), *at_most),
        Do::Tell { answer: Answer::Done, .. } => "You do this, and answer `done`; the answer is recorded.".to_owned(),
        Do::Tell { answer: Answer::None, .. } => "You read this; it is recorded.".to_owned(),
        Do::Assert { what } => {
            let what: Vec<&str> = what.iter().map(|what| what.meaning()).collect();
            format!("The run ends here unless this holds: {}.", what.join("; "))
        }
        Do::Claim => "Writes a claim on the final snapshot into every vault and reads it back: where another host has \
                      claimed it, the run ends."
            .to_owned(),
        Do::Damage { what } => format!("Breaks the sandbox's vault: {}.", what.meaning()),
        Do::LoseVault => "Takes one of the sandbox's vaults away.".to_owned(),
        Do::SyncVault => "Makes the lost vault again from the other one, without any key.".to_owned(),
        Do::VerifyVault { depth, expect } => {
            format!("Verifies every vault: {}. What must come of it: {}.", depth.meaning(), expect.meaning())
        }
        Do::LoseIdentity => "Throws one identity away.".to_owned(),
        Do::ChangeRecipients => "Gives new snapshots a new recipient in the place of the lost one's.".to_owned(),
        Do::RecoverByHand => "Runs `recover.sh` from the vault with stock tools.".to_owned(),
        Do::Play { scenario } => format!("Plays the steps of `{scenario}`."),
    }
}

fn runs(program: &Path, arguments: &[Template]) -> String {
    let arguments: Vec<String> = arguments.iter().map(Template::command).collect();
    format!("Runs `{} {}`, without a shell.", program.display(), arguments.join(" "))
}

fn waits(condition: Condition, unit: Option<&str>, at_most: Duration) -> String {
    // The meaning names the key of the file; a reader wants the unit itself.
    let until = match unit {
        Some(unit) => condition.meaning().replace("the systemd unit `unit`", &format!("`{unit}`")),
        None => condition.meaning().to_owned(),
    };
    format!("Waits, at most {}, until {until}.", spelled(at_most))
}

fn follow_up(out: &mut String, entries: &[Followup]) {
    if entries.is_empty() {
        return;
    }
    out.push_str(
        "\n## Follow-up\n\nIn this order. `relay-backup restore` prints the entries that apply, filled in, and writes them \
         to\n`<followup_file>`.\n",
    );
    for (index, entry) in entries.iter().enumerate() {
        line(out, format_args!("\n### {}. {}\n", index + 1, entry.title));
        if !entry.when.is_empty() {
            let when: Vec<&str> = entry.when.iter().map(|when| when.meaning()).collect();
            line(out, format_args!("When {}.\n", when.join(", and ")));
        }
        if let Some(within) = entry.within {
            line(out, format_args!("Within {}.\n", spelled(within)));
        }
        line(out, format_args!("{}", entry.text.markdown()));
        commands(out, &entry.command);
    }
}

fn commands(out: &mut String, lines: &[Template]) {
    if lines.is_empty() {
        return;
    }
    out.push_str("\n```text\n");
    for command in lines {
        line(out, format_args!("{}", command.command()));
    }
    out.push_str("```\n");
}

/// A length of time in words. Up to two days in hours: "within 48 hours" is how people say it.
fn spelled(time: Duration) -> String {
    const UNITS: [(u64, u64, &str); 3] = [(3 * 86_400, 86_400, "day"), (2 * 3600, 3600, "hour"), (120, 60, "minute")];
    let seconds = time.as_secs();
    let fits = |(least, unit, _): &&(u64, u64, &str)| seconds >= *least && seconds.is_multiple_of(*unit);
    let (count, unit) = UNITS.iter().find(fits).map_or((seconds, "second"), |(_, unit, name)| (seconds / unit, *name));
    format!("{count} {unit}s")
}
