//! The program as a user sees it: its verbs, what they say, how they exit.

mod extract;
mod identities;
mod json;
mod kit;
mod kit_on_paper;
mod policy;

use crate::support::env::TestEnv;

#[test]
fn the_program_starts_in_an_empty_environment() {
    let env = TestEnv::new();
    env.run(&["--version"]).exits(0).keeps_quiet_about("panicked");
}

#[test]
fn every_verb_explains_itself_with_an_example_and_its_exit_codes() {
    let env = TestEnv::new();
    let verbs: [&[&str]; 18] = [
        &["kit"],
        &["completions"],
        &["man"],
        &["demo"],
        &["keygen"],
        &["init"],
        &["attest"],
        &["rotate"],
        &["backup"],
        &["undo-final"],
        &["list"],
        &["show"],
        &["verify"],
        &["extract"],
        &["policy", "check"],
        &["policy", "show"],
        &["policy", "schema"],
        &["catalog", "rebuild"],
    ];
    for verb in verbs {
        let help = env.run(&[verb, &["--help"]].concat()).exits(0);
        assert!(help.stdout.contains("Exit codes: 0 ") && help.stderr.is_empty(), "{help}");
        if verb != ["rotate"] {
            assert!(help.stdout.contains("Example: relay-backup"), "{help}");
        }
    }
}

#[test]
fn a_mistyped_verb_or_option_is_told_from_the_right_one() {
    let env = TestEnv::new();
    env.run(&["verfiy"]).exits(2).complains("verify");
    env.run(&["verify", "--dept", "sealed"]).exits(2).complains("--depth");
    env.run(&["verify", "--depth", "deep"]).exits(2).complains("present, sealed, opened, meaning");
    env.run(&[]).exits(2).complains("Usage");
}

#[test]
fn quiet_says_nothing_when_all_is_well() {
    let host = crate::support::host::Host::of_files();
    host.init();
    let ended = host.run(&["backup", "--quiet"]).exits(0);
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended}");
    let ended = host.run(&["verify", "-q"]).exits(0);
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended}");
}

#[test]
fn the_policy_may_be_named_by_the_environment() {
    let host = crate::support::host::Host::of_files();
    let policy = host.env.path("policy.toml");
    host.env.relay_backup(&["policy", "check"]).env("RELAY_BACKUP_POLICY", &policy).ends().exits(0);
}
