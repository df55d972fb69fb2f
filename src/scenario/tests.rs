//! The scenarios' tests: what is built in loads and keeps the rules, every kind of mistake has its message, no input
//! makes the parser panic.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A good scenario; tests break one piece of it.
const GOOD: &str = r#"format = 1
name = "good"
title = "A good one"
for = "restore"
needs = ["identity", "vault"]
what_happened = "Something of {node}."

[[step]]
id = "choose"
title = "Choose"
do = "choose-snapshot"

[[step]]
id = "guards"
title = "Judge"
do = "guard"
names = ["identity", "running", "rollback", "twin", "space", "freshness"]

[[step]]
id = "fence"
title = "Fence"
do = "fence"

[[step]]
id = "secret"
title = "Place"
do = "place"
what = "hsm-secret"

[[step]]
id = "unfence"
title = "Unfence"
do = "unfence"

[[step]]
id = "wait"
title = "Wait"
do = "wait"
for = "unit-active"
unit = "nbxplorer.service"
at_most = "5m"

[[step]]
id = "look"
title = "Look"
do = "run"
argv = ["/usr/bin/stat", "{network_dir}/hsm_secret"]

[[step]]
id = "say"
title = "Say"
do = "tell"
text = "Do it: {{braces}} stay."
answer = "done"

[[must_hold]]
what = "secret-derives-node-id"
because = "It must."

[[followup]]
id = "after"
title = "Afterwards"
text = "See {quarantine}."
when = ["has-cln"]
within = "30m"
command = ["ls {quarantine}"]
"#;

fn read(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, Path::new("s.toml"))
}

/// What comes of replacing one piece of the good scenario: message and hint.
#[track_caller]
fn broken(from: &str, to: &str) -> (String, String) {
    assert!(GOOD.contains(from), "{from} is not in the good scenario");
    let error = read(&GOOD.replacen(from, to, 1)).expect_err("this scenario should be refused");
    (error.to_string(), error.hint().unwrap_or_default())
}

#[track_caller]
fn refuses(from: &str, to: &str, message: &str, hint: &str) {
    let (found, found_hint) = broken(from, to);
    assert_eq!(found, message);
    assert!(found_hint.contains(hint), "hint {found_hint:?} does not hold {hint:?}");
}

#[track_caller]
fn all_embedded() -> Vec<Scenario> {
    names()
        .map(|name| embedded(name).unwrap_or_else(|error| panic!("{error}\n{}", error.hint().unwrap_or_default())))
        .collect()
}

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

#[test]
fn mistakes_say_line_place_and_remedy() {
    refuses(
        "title = \"A good",
        "titel = \"A good",
        &[
            "s.toml, line 1: the top of the file: the key `title` is missing",
            "s.toml, line 3: titel: is not a key that is known here",
        ]
        .join("\n"),
        "did you mean `title`?",
    );
    refuses(
        "do = \"unfence\"",
        "do = \"unfense\"",
        "s.toml, line 33: [[step]] do: there is no verb \"unfense\"",
        "did you mean \"unfence\"?",
    );
    refuses(
        "do = \"fence\"",
        "do = \"fence\"\nwhat = \"x\"",
        "s.toml, line 23: [[step]] what: belongs to the verb place or move-aside or burn or inspect or assert or damage, not to fence",
        "remove it, or change the verb; fence knows: do, id, title, why",
    );
    refuses(
        "\"rollback\", ",
        "\"rolback\", ",
        "s.toml, line 17: [[step]] names: there is no guard \"rolback\"",
        "did you mean \"rollback\"? There are: identity, running, stale",
    );
    refuses(
        "format = 1",
        "format = 2",
        "s.toml, line 1: format: 2 is not a format that this program reads",
        "format = 1",
    );
    refuses(
        "{quarantine}.",
        "{quarantin}.",
        "s.toml, line 63: [[followup]] text: there is no placeholder \"quarantin\"",
        "did you mean \"quarantine\"?",
    );
    refuses("{{braces}}", "{{braces}", "s.toml, line 53: [[step]] text: holds a } without a {", "{{ or }}");
    refuses("{{braces}}", "{braces", "s.toml, line 53: [[step]] text: holds a { without a }", "{{ or }}");
    refuses(
        "id = \"wait\"",
        "id = \"say\"",
        "s.toml, line 50: [[step]] id: this id stands there twice",
        "a name of its own",
    );
    refuses(
        "id = \"wait\"",
        "id = \"Wait\"",
        "s.toml, line 36: [[step]] id: \"Wait\" is not a valid step id",
        "lower-case",
    );
    refuses(
        "unit = \"nbxplorer.service\"\n",
        "",
        "s.toml, line 39: [[step]] unit: unit-active needs to know of which unit",
        "add unit",
    );
    refuses(
        "nbxplorer.service",
        "nbxplorer",
        "s.toml, line 40: [[step]] unit: \"nbxplorer\" is not the name of a systemd unit",
        ".service",
    );
    refuses(
        "nbxplorer.service",
        "-h.service",
        "s.toml, line 40: [[step]] unit: \"-h.service\" is not the name of a systemd unit",
        ".service",
    );
    refuses("\"5m\"", "\"5 min\"", "s.toml, line 41: [[step]] at_most: \"5 min\" is not a length of time", "\"30m\"");
    refuses("\"5m\"", "\"3w\"", "s.toml, line 41: [[step]] at_most: is longer than two weeks", "tell");
}

#[test]
fn a_unit_is_the_named_one_or_its_role_s_own() {
    let with = |keys: &str| {
        let text = GOOD.replacen(
            "do = \"unfence\"",
            &format!("do = \"unfence\"\n[[step]]\nid = \"more\"\ntitle = \"More\"\ndo = \"start-unit\"\n{keys}"),
            1,
        );
        match read(&text) {
            Ok(scenario) => Ok(scenario.steps[5].action.clone()),
            Err(error) => Err(error.to_string()),
        }
    };
    let start = |unit: &str, role| Ok(Do::StartUnit { unit: unit.to_owned(), role });
    assert_eq!(with("runs = \"nbxplorer\""), start("nbxplorer.service", UnitRole::Nbxplorer));
    assert_eq!(with("runs = \"proxy\"\nunit = \"caddy.service\""), start("caddy.service", UnitRole::Proxy));
    assert!(with("runs = \"other\"").unwrap_err().ends_with("a unit that runs other has no name of its own"));
}

#[test]
fn no_shell_and_no_secret_gets_in() {
    for (program, part) in [
        ("stat", "is not an absolute path"),
        ("/usr/bin/../bin/stat", "holds a \"..\""),
        ("/bin/sh", "sh would run something else"),
        ("/usr/bin/env", "env would run something else"),
        ("/run/wrappers/bin/sudo", "sudo would run something else"),
    ] {
        let (message, _) = broken("/usr/bin/stat", program);
        assert!(message.contains(part), "{program}: {message}");
    }
    let (message, _) = broken("[\"/usr/bin/stat\", \"{network_dir}/hsm_secret\"]", "[]");
    assert!(message.contains("there is nothing to run"), "{message}");
    let secret = format!("{}{}", "AGE-SECRET-", "KEY-1QQQQQQQQ");
    let (message, hint) = broken("Do it:", &secret);
    assert!(message.ends_with("line 53: a SECRET key stands here; no scenario may hold one"), "{message}");
    assert!(!message.contains("QQQ") && hint.contains("stolen"));
    for hidden in ["\\u001b[2J", "\\u202e", "\\u200b"] {
        let (message, _) = broken("Do it:", hidden);
        assert!(message.contains("could hide words on a terminal"), "{message}");
        let (message, _) = broken("title = \"Say\"", &format!("title = \"Say{hidden}\""));
        assert!(message.contains("could hide words on a terminal"), "{message}");
    }
}

#[test]
fn rules_between_steps_hold() {
    let guards = "[[step]]\nid = \"guards\"\ntitle = \"Judge\"\ndo = \"guard\"\nnames = [\"identity\", \"running\", \
                  \"rollback\", \"twin\", \"space\", \"freshness\"]\n";
    let fence = "[[step]]\nid = \"fence\"\ntitle = \"Fence\"\ndo = \"fence\"\n";
    let unfence = "[[step]]\nid = \"unfence\"\ntitle = \"Unfence\"\ndo = \"unfence\"\n";
    let choose = "[[step]]\nid = \"choose\"\ntitle = \"Choose\"\ndo = \"choose-snapshot\"\n";
    let place = "what = \"hsm-secret\"";
    let step = |verb: &str| format!("[[step]]\nid = \"more\"\ntitle = \"More\"\ndo = \"{verb}\"\n");
    for (from, to, part) in [
        (
            guards,
            String::new(),
            "step secret: place comes before the guard identity, running, rollback, twin has judged",
        ),
        ("\"twin\", ", String::new(), "step secret: place comes before the guard twin has judged"),
        (fence, String::new(), "step secret: place touches the lightning directory without a fence"),
        (unfence, String::new(), "the fence is never taken away"),
        (choose, String::new(), "step secret: place comes before any choose-snapshot"),
        ("\"identity\", \"vault\"", "\"vault\"".to_owned(), "place opens a snapshot, which needs an identity"),
        (fence, format!("{fence}{}", step("fence")), "step more: the fence stands already"),
        (unfence, format!("{unfence}{}", step("unfence")), "step more: there is no fence to take away"),
        (
            unfence,
            format!("{}runs = \"core-lightning\"\n{unfence}", step("start-unit")),
            "is started while the restore still works",
        ),
        (choose, format!("{choose}{}", step("choose-snapshot")), "step more: a snapshot was chosen already"),
        (unfence, format!("{}{place}\n{unfence}", step("place")), "step more: does what an earlier step does already"),
        (place, "what = \"channel-database\"".to_owned(), "placing a channel database needs a final snapshot"),
        (place, "what = \"channel-database\"".to_owned(), "placing a channel database comes before any claim"),
        (place, "what = \"channel-database\"".to_owned(), "place comes before the guard stale has judged"),
        (unfence, format!("{}{unfence}", step("claim")), "claim needs a final snapshot"),
        (
            unfence,
            format!("{}{unfence}", step("restore-databases")),
            "restore-databases comes before any restore-roles",
        ),
        (unfence, format!("{}{unfence}", step("swap-databases")), "swap-databases comes before any restore-databases"),
        (
            unfence,
            format!("{}what = [\"webhooks\"]\n{unfence}", step("burn")),
            "burn comes before any restore-databases",
        ),
        (unfence, format!("{}what = \"cln-wallet\"\n", step("move-aside")), "the fence is never taken away"),
        (
            unfence,
            format!("{unfence}{}what = \"cln-wallet\"\n", step("move-aside")),
            "step more: move-aside touches the lightning directory",
        ),
        (unfence, format!("{unfence}{}", step("lose-vault")), "lose-vault breaks things on purpose"),
        ("\"space\", ", "\"compromise\", \"space\", ".to_owned(), "hsm-secret would bring stolen secrets back"),
    ] {
        let (message, hint) = broken(from, &to);
        assert!(message.contains(part), "{message}\ndoes not hold: {part}");
        assert!(!hint.is_empty(), "{message}");
    }
}

#[test]
fn databases_go_into_service_only_behind_their_guards() {
    let databases = |names: &str, steps: &[&str]| {
        let mut text = GOOD.replacen("\"space\", \"freshness\"]", &format!("\"space\", {names}]"), 1);
        let steps: String = steps
            .iter()
            .enumerate()
            .map(|(index, step)| format!("[[step]]\nid = \"more-{index}\"\ntitle = \"More\"\ndo = {step}\n"))
            .collect();
        text = text.replacen("[[must_hold]]", &format!("{steps}[[must_hold]]"), 1);
        text = text.replacen(
            "[[step]]\nid = \"secret\"\ntitle = \"Place\"\ndo = \"place\"\nwhat = \"hsm-secret\"\n",
            "",
            1,
        );
        match read(&text) {
            Ok(scenario) => Ok(scenario),
            Err(error) => Err(error.to_string()),
        }
    };
    let start = "\"start-unit\"\nruns = \"btcpay\"";
    let plain = ["\"restore-roles\"", "\"restore-databases\"", "\"swap-databases\"", start];
    assert!(databases("\"freshness\", \"payout\"", &plain).is_ok());
    let error = databases("\"freshness\"", &plain).unwrap_err();
    assert!(error.contains("step more-3: start-unit comes before the guard payout has judged"), "{error}");
    let error = databases("\"payout\"", &plain).unwrap_err();
    assert!(error.contains("step more-1: restore-databases comes before the guard freshness"), "{error}");
    let stolen = "\"freshness\", \"payout\", \"compromise\"";
    let error = databases(stolen, &plain).unwrap_err();
    assert!(error.contains("step more-2: the databases would go into service with stolen keys in them"), "{error}");
    let burnt = ["\"restore-roles\"", "\"restore-databases\"", "\"burn\"\nwhat = [\"api-keys\"]", "\"swap-databases\""];
    assert!(databases(stolen, &burnt).is_ok());
    let late = ["\"restore-roles\"", "\"restore-databases\"", "\"swap-databases\"", "\"burn\"\nwhat = [\"api-keys\"]"];
    let error = databases("\"freshness\"", &late).unwrap_err();
    assert!(error.contains("step more-3: the databases went into service before what was stolen is burnt"), "{error}");
}

#[test]
fn what_must_not_be_empty_is_not() {
    let follow = GOOD.split("[[followup]]").next().unwrap();
    assert!(read(follow).unwrap_err().to_string().contains("the follow-up list is empty"));
    assert!(read(&follow.replacen("for = \"restore\"", "for = \"drill\"", 1)).is_ok(), "a drill needs none");
    let (held, rest) = GOOD.split_once("[[must_hold]]").unwrap();
    let text = format!("{}{}", held, &rest[rest.find("[[followup]]").unwrap()..]);
    assert!(read(&text).unwrap_err().to_string().contains("the key `must_hold` is missing"));
    assert!(read(&format!("must_hold = []\n{text}")).unwrap_err().to_string().contains("there is no assertion"));
    let top = GOOD.split("[[step]]").next().unwrap();
    let tail = &GOOD[GOOD.find("[[must_hold]]").unwrap()..];
    assert!(read(&format!("step = []\n{top}{tail}")).unwrap_err().to_string().contains("there is no step"));
}

#[test]
fn limits_hold() {
    use crate::base::limits;
    let long = "x".repeat(usize::try_from(limits::SCENARIO_BYTES_MAX).unwrap() + 1);
    assert!(matches!(read(&long), Err(ScenarioError::TooLong { .. })));
    let step = |index: usize| format!("[[step]]\nid = \"n{index}\"\ntitle = \"N\"\ndo = \"tell\"\ntext = \"x\"\n");
    let steps = |count: usize| (0..count).map(step).collect::<String>();
    let with = |count: usize| GOOD.replacen("[[must_hold]]", &format!("{}[[must_hold]]", steps(count)), 1);
    assert!(read(&with(limits::SCENARIO_STEPS_MAX - 8)).is_ok());
    let error = read(&with(limits::SCENARIO_STEPS_MAX - 7)).unwrap_err().to_string();
    assert!(error.contains("there are more than 200 steps"), "{error}");
    let entry = |index: usize| format!("[[followup]]\nid = \"n{index}\"\ntitle = \"N\"\ntext = \"x\"\n");
    let entries = (0..limits::SCENARIO_ENTRIES_MAX).map(entry).collect::<String>();
    let error = read(&format!("{GOOD}{entries}")).unwrap_err().to_string();
    assert!(error.contains("[[followup]]: there are more than 200"), "{error}");
    let (message, _) = broken("Do it:", &"x".repeat(limits::SCENARIO_TEXT_BYTES_MAX + 1));
    assert!(message.contains("is longer than 4096 bytes"), "{message}");
    let (message, _) = broken("A good one", &"x".repeat(limits::SCENARIO_TITLE_BYTES_MAX + 1));
    assert!(message.contains("is longer than 120 bytes"), "{message}");
    let lines = "\"x\", ".repeat(limits::SCENARIO_COMMAND_LINES_MAX);
    let (message, _) = broken("[\"ls ", &format!("[{lines}\"ls "));
    assert!(message.contains("[[followup]] command: has more than 40 lines"), "{message}");
    let nested = format!("{}{}", "x = [".repeat(10_000), "]".repeat(10_000));
    assert!(read(&format!("{nested}\n{GOOD}")).is_err());
}

#[test]
fn unknown_names_get_the_nearest() {
    let error = embedded("server-los").unwrap_err();
    assert_eq!(error.to_string(), "there is no scenario \"server-los\"");
    assert_eq!(error.hint().unwrap(), "did you mean server-loss?");
    assert!(embedded("/etc/passwd").unwrap_err().hint().unwrap().contains("wallet-compromise"));
}

#[test]
fn texts_are_filled_in_and_come_back_as_they_were() {
    let text = Template::parse("a {node} {{b}} {snapshot}").unwrap();
    assert_eq!(text.fill(|placeholder| format!("<{placeholder}>")), "a <node> {b} <snapshot>");
    assert_eq!(text.source(), "a {node} {{b}} {snapshot}");
    assert_eq!(text.placeholders().collect::<Vec<_>>(), [Placeholder::Node, Placeholder::Snapshot]);
    // What is filled in is not looked at again.
    assert_eq!(text.fill(|_| "{node}".to_owned()), "a {node} {b} {node}");
    let inside = Template::parse("`ls {quarantine}` and {node}").unwrap();
    assert_eq!(inside.markdown(), "`ls <quarantine>` and `<node>`");
}

#[test]
fn every_verb_has_its_word_and_its_place() {
    let schema = schema();
    let variants = schema["properties"]["step"]["items"]["oneOf"].as_array().unwrap();
    let in_schema: Vec<&str> =
        variants.iter().map(|variant| variant["properties"]["do"]["const"].as_str().unwrap()).collect();
    assert_eq!(in_schema, VERBS.map(|verb| verb.word));
    let used: BTreeSet<&str> =
        all_embedded().iter().flat_map(|scenario| scenario.steps.iter().map(|step| step.action.verb())).collect();
    // `run` is for operators: what is built in knows no program of a host.
    let unused: Vec<&str> = in_schema.into_iter().filter(|word| !used.contains(word)).collect();
    assert_eq!(unused, ["run"]);
    let good = read(GOOD).unwrap();
    assert!(good.steps.iter().any(|step| step.action.verb() == "run"));
    assert_eq!(good.guards().len(), 6);
}

fn hostile() -> impl Strategy<Value = String> {
    let pieces: Vec<String> = EMBEDDED
        .iter()
        .flat_map(|(_, text)| text.lines())
        .chain(GOOD.lines())
        .map(str::to_owned)
        .chain(
            ["[[step]]", "step = 1", "do = 3", "[step]", "names = [[]]", "{{{", "}", "\"\"\"", "\u{0}", "a.b.c = 1"]
                .map(str::to_owned),
        )
        .collect();
    prop_oneof![
        3 => proptest::collection::vec(proptest::sample::select(pieces), 0..60).prop_map(|lines| lines.join("\n")),
        2 => (0..EMBEDDED.len(), any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), "\\PC{0,12}").prop_map(
            |(which, from, to, put)| {
                let text: Vec<char> = EMBEDDED[which].1.chars().collect();
                let (from, to) = (from.index(text.len()), to.index(text.len()));
                let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 40));
                text[..from].iter().copied().chain(put.chars()).chain(text[to..].iter().copied()).collect()
            }
        ),
        1 => "\\PC{0,400}",
    ]
}

/// What every accepted scenario keeps, whoever wrote it.
fn keeps_the_rules(scenario: &Scenario) -> Result<(), TestCaseError> {
    use crate::base::limits;
    prop_assert!(scenario.steps.len() <= limits::SCENARIO_STEPS_MAX && !scenario.steps.is_empty());
    let ids: BTreeSet<&str> = scenario.steps.iter().map(|step| step.id.as_str()).collect();
    prop_assert_eq!(ids.len(), scenario.steps.len());
    let mut guards = Vec::new();
    let mut fenced = false;
    for step in &scenario.steps {
        match &step.action {
            Do::Guard { names } => guards.extend(names.iter().copied()),
            Do::Fence => fenced = true,
            Do::Unfence => fenced = false,
            Do::Place { what: Placed::HsmSecret | Placed::EmergencyRecover } => {
                prop_assert!(fenced && guards.contains(&GuardName::Rollback) && guards.contains(&GuardName::Identity));
            }
            Do::Place { what: Placed::ChannelDatabase } => {
                prop_assert!(fenced && guards.contains(&GuardName::Stale) && guards.contains(&GuardName::Twin));
            }
            Do::SwapDatabases { .. } => prop_assert!(guards.contains(&GuardName::Rollback)),
            action => prop_assert!(scenario.purpose == Purpose::Drill || !action.is_for_drills_only()),
        }
    }
    prop_assert!(!fenced);
    let page = runbook(scenario);
    let hides = page.contains(|letter: char| letter.is_control() && letter != '\n');
    prop_assert!(!hides);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_input_makes_the_parser_panic(text in hostile()) {
        match read(&text) {
            Ok(scenario) => keeps_the_rules(&scenario)?,
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(error.problems().iter().all(|problem| problem.line >= 1));
            }
        }
    }
}

/// Leaving any two steps out gives a scenario that keeps the rules, or none.
#[test]
fn no_two_steps_can_be_left_out_to_get_around_the_rules() {
    let mut kept = 0;
    for (name, text) in EMBEDDED {
        let (top, rest) = text.split_once("[[step]]").unwrap();
        let (steps, tail) = rest.split_once("[[must_hold]]").unwrap();
        let steps: Vec<&str> = steps.split("[[step]]").collect();
        for first in 0..steps.len() {
            for second in first..steps.len() {
                let left = steps.iter().enumerate().filter(|(index, _)| *index != first && *index != second);
                let chosen: String = left.map(|(_, step)| format!("[[step]]{step}")).collect();
                if let Ok(scenario) = read(&format!("{top}{chosen}[[must_hold]]{tail}")) {
                    keeps_the_rules(&scenario).unwrap_or_else(|error| panic!("{name}, {first}, {second}: {error}"));
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > 100, "only {kept} were accepted: nothing was tried");
}
