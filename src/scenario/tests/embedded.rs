//! The scenarios that are built in: what each must do, and in which order.

use super::*;

#[test]
fn the_folder_and_the_table_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("restore-drills");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    assert_eq!(files, names().map(str::to_owned).collect());
    assert_eq!(files.len(), 13);
    for scenario in all_embedded() {
        assert_eq!(scenario.place, Path::new(&format!("restore-drills/{}.toml", scenario.name)));
        assert!(names().any(|name| name == scenario.name.as_str()), "{} is named otherwise", scenario.name);
    }
    let drills: Vec<String> = all_embedded()
        .into_iter()
        .filter(|scenario| scenario.purpose == Purpose::Drill)
        .map(|scenario| scenario.name.to_string())
        .collect();
    assert_eq!(drills, ["storage-loss", "tampered-storage", "key-loss", "hand-recovery"]);
}

#[test]
fn what_is_built_in_fits_the_published_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, text) in EMBEDDED {
        let value: toml::Value = toml::from_str(text).unwrap();
        let value = serde_json::to_value(value).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0], "{name}");
    }
    assert!(!validator.is_valid(&serde_json::json!({ "format": 2 })));
}

fn place_of(scenario: &Scenario, wanted: impl Fn(&Do) -> bool) -> Option<usize> {
    scenario.steps.iter().position(|step| wanted(&step.action))
}

#[test]
fn only_the_planned_migration_places_a_channel_database() {
    for scenario in all_embedded() {
        let places = place_of(&scenario, |action| *action == Do::Place { what: Placed::ChannelDatabase });
        let asserts = scenario.must_hold.iter().any(|held| held.what == Assertion::ChannelDatabasePlaced);
        let is_it = scenario.name.as_str() == "planned-migration";
        assert_eq!((places.is_some(), asserts), (is_it, is_it), "{}", scenario.name);
        let restores =
            place_of(&scenario, |action| matches!(action, Do::Place { .. } | Do::MoveAside { .. })).is_some();
        if restores && !is_it {
            let denied = scenario.must_hold.iter().any(|held| held.what == Assertion::NoChannelDatabasePlaced);
            assert!(denied, "{} does not say that no channel database was placed", scenario.name);
        }
    }
}

#[test]
fn what_the_design_of_each_scenario_asks_for_is_there() {
    let has = |name: &str, wanted: &dyn Fn(&Do) -> bool| place_of(&embedded(name).unwrap(), wanted);
    let before = |name: &str, first: &dyn Fn(&Do) -> bool, second: &dyn Fn(&Do) -> bool| {
        let (first, second) = (has(name, first).expect("the first step"), has(name, second).expect("the second step"));
        assert!(first < second, "{name}");
    };
    let place = |what: Placed| move |action: &Do| *action == Do::Place { what };
    for what in [Placed::HsmSecret, Placed::EmergencyRecover, Placed::EmergencyRecoverCopy, Placed::Files] {
        assert!(has("server-loss", &place(what)).is_some(), "{what}");
    }
    assert!(has("server-loss", &|action| *action == Do::Quarantine).is_some());
    before("server-loss", &place(Placed::HsmSecret), &place(Placed::EmergencyRecover));
    before("cln-db-corruption", &|action| *action == Do::Fence, &|action| matches!(action, Do::MoveAside { .. }));
    before("postgres-corruption", &|action| *action == Do::RestoreDatabases, &|action| {
        *action == Do::SwapDatabases { which: Swap::Asked }
    });
    before("wallet-compromise", &|action| *action == Do::RestoreDatabases, &|action| matches!(action, Do::Burn { .. }));
    before("wallet-compromise", &|action| matches!(action, Do::Burn { .. }), &|action| {
        matches!(action, Do::SwapDatabases { .. })
    });
    before("planned-migration", &|action| *action == Do::Claim, &place(Placed::ChannelDatabase));
    assert!(has("lnd-server-loss", &place(Placed::ChannelBackup)).is_some());
    for name in ["bitcoin-node-corruption", "disk-full", "integration-outage"] {
        assert_eq!(has(name, &Do::changes_host), None, "{name} changes the host");
    }
    let compromise = embedded("wallet-compromise").unwrap();
    let order: Vec<&str> = compromise.steps.iter().take(4).map(|step| step.id.as_str()).collect();
    assert_eq!(order, ["sweep", "close-channels", "take-down", "evidence"], "the money comes first");
}

/// Positions of these entries of a follow-up list, all there and in this order.
#[track_caller]
fn follow_in_order(name: &str, ids: &[&str]) {
    let scenario = embedded(name).unwrap();
    let places: Vec<usize> = ids
        .iter()
        .map(|id| {
            let found = scenario.followups.iter().position(|entry| entry.id.as_str() == *id);
            found.unwrap_or_else(|| panic!("{name} has no follow-up {id}"))
        })
        .collect();
    assert!(places.is_sorted(), "{name}: {places:?}");
}

#[test]
fn follow_up_lists_have_the_order_that_loses_nothing() {
    let shop = ["start-nbxplorer-alone", "burn-addresses", "reconcile", "start-btcpay", "open-the-proxy"];
    follow_in_order("server-loss", &[&["tell-customers", "start-bitcoind"], &shop[..]].concat());
    follow_in_order("server-loss", &["clboss-off", "emergencyrecover", "contact-peers"]);
    follow_in_order("server-loss", &["start-bitcoind", "emergencyrecover", "rescan"]);
    follow_in_order("server-loss", &["review-payouts", "start-btcpay", "sign-off-webhooks"]);
    follow_in_order("cln-db-corruption", &["clboss-off", "emergencyrecover", "contact-peers"]);
    follow_in_order("postgres-corruption", &shop);
    follow_in_order("lnd-server-loss", &[&["start-bitcoind", "restore-channels"], &shop[..]].concat());
    follow_in_order("wallet-compromise", &["rotate", "new-node", "start-btcpay", "webhooks-anew", "open-the-proxy"]);
    // Its databases are as old as elsewhere; and nothing is attested before this machine is set up.
    follow_in_order("wallet-compromise", &[&["start-bitcoind"], &shop[..]].concat());
    follow_in_order("wallet-compromise", &["new-keys", "new-node"]);
    follow_in_order("planned-migration", &["start-lightningd", "start-nbxplorer-alone", "start-btcpay", "names"]);
    for scenario in all_embedded().iter().filter(|scenario| scenario.purpose == Purpose::Restore) {
        let first = &scenario.followups[0];
        let last = scenario.followups.last().unwrap();
        // A planned move is announced before it begins.
        let first_minutes = if scenario.name.as_str() == "planned-migration" { None } else { Some(30) };
        assert_eq!(first.within.map(|time| time.as_secs() / 60), first_minutes, "{}: {}", scenario.name, first.id);
        assert_eq!(last.within.map(|time| time.as_secs() / 3600), Some(48), "{}: {}", scenario.name, last.id);
    }
}

/// Every line that a scenario gives to copy.
fn lines(scenario: &Scenario) -> Vec<String> {
    let of_steps = scenario.steps.iter().filter_map(|step| match &step.action {
        Do::Tell { command, .. } => Some(command),
        _ => None,
    });
    let all = of_steps.chain(scenario.followups.iter().map(|entry| &entry.command)).flatten();
    all.map(|line| line.fill(|placeholder| placeholder.to_string())).collect()
}

#[test]
fn units_are_stopped_by_a_line_that_works_where_masking_fails() {
    // On NixOS units lie in /etc/systemd/system: `systemctl mask` is refused, and with `--now` nothing is stopped.
    let mut masking = 0;
    for scenario in all_embedded() {
        let lines = lines(&scenario);
        assert!(lines.iter().all(|line| !line.contains("--now")), "{}: {lines:?}", scenario.name);
        if lines.iter().any(|line| line.contains("systemctl mask") || line.contains("systemctl unmask")) {
            masking += 1;
            assert!(runbook(&scenario).contains("(../RUNBOOKS.md#on-nixos)"), "{}", scenario.name);
        }
    }
    assert!(masking > 5, "{masking}");
}

#[test]
fn a_page_gives_the_snapshot_where_it_must_be_named_and_says_what_comes_before_the_program() {
    let page = runbook(&embedded("wallet-compromise").unwrap());
    assert!(page.contains("--scenario wallet-compromise --snapshot ID --identity"), "{page}");
    assert!(page.contains("chooses the snapshot (step 6)"), "{page}");
    assert!(!runbook(&embedded("disk-full").unwrap()).contains("Do first, by hand"));
}

#[test]
fn no_text_asks_for_heights_that_nobody_knows() {
    for scenario in all_embedded() {
        let is_chosen = place_of(&scenario, |action| matches!(action, Do::ChooseSnapshot { .. })).is_some();
        let of_steps = scenario.steps.iter().filter_map(|step| match &step.action {
            Do::Tell { text, .. } => Some(text),
            _ => None,
        });
        let mut texts = of_steps.chain(scenario.followups.iter().map(|entry| &entry.text));
        let asks = texts.any(|text| text.placeholders().any(|used| used == Placeholder::Heights));
        assert!(is_chosen || !asks, "{}", scenario.name);
    }
}

#[test]
fn what_is_refused_without_bitcoind_says_that_it_needs_bitcoind() {
    // On the machine itself the guard freshness asks bitcoind for the blocks that it still has.
    for scenario in all_embedded().iter().filter(|scenario| scenario.purpose == Purpose::Restore) {
        if scenario.guards().contains(&GuardName::Freshness) {
            assert!(scenario.needs.contains(&Need::BitcoindRunning), "{}", scenario.name);
        }
    }
}
