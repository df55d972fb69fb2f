//! The scenarios' tests: what is built in loads and keeps the rules, every kind of mistake has its message, no input
//! makes the parser panic.

mod embedded;
mod rules;

use super::*;
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
