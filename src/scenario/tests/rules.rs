//! What must hold between steps, whoever wrote them and whatever was left out.

use super::*;
use proptest::prelude::*;

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
        (choose, format!("{choose}depth = \"meaning\"\n"), "step choose: no scratch server is made before a restore"),
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

#[test]
fn a_drill_sends_nothing_to_anybody() {
    let text = include_str!("../../../restore-drills/integration-outage.toml");
    assert!(read(text).is_ok());
    let error = read(&text.replacen("for = \"restore\"", "for = \"drill\"", 1)).unwrap_err().to_string();
    assert!(error.contains("step test: a test delivery reaches the shops' own servers"), "{error}");
}
