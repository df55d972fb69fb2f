//! The program as a user sees it: its verbs, what they say, how they exit.

use crate::support::env::TestEnv;

#[test]
fn the_program_starts_in_an_empty_environment() {
    let env = TestEnv::new();
    env.run(&["--version"]).exits(0).keeps_quiet_about("panicked");
}
