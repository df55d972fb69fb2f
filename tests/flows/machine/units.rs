//! Steps that stop, start, run and wait, in a `server-loss` of the operator's own.

use super::scene::{GONE, NewHost, UNPAID, WALLET, Wallet, everything, told_by, until};
use crate::support::env::Running;
use relay_backup::scenario::{self, Scenario};
use rustix::process::Signal;
use std::fs;
use std::path::Path;

/// All units of a host, as they stand while it is being restored to.
const UNITS: [(&str, &str); 7] = [
    ("nginx.service", "active"),
    ("btcpayserver.service", "active"),
    ("nbxplorer.service", "active"),
    ("clightning.service", "active"),
    ("watcher.service", "active"),
    ("bitcoind.service", "inactive"),
    ("chain-synced.service", "active"),
];
const STOPS: &str = r#"
[[step]]
id = "stop-proxy"
title = "Stop the web server"
do = "stop-unit"
runs = "proxy"

[[step]]
id = "stop-btcpay"
title = "Stop BTCPay Server"
do = "stop-unit"
runs = "btcpay"

[[step]]
id = "stop-nbxplorer"
title = "Stop NBXplorer"
do = "stop-unit"
runs = "nbxplorer"

[[step]]
id = "stop-node"
title = "Stop lightningd"
do = "stop-unit"
runs = "core-lightning"

[[step]]
id = "node-stopped"
title = "Wait until it has stopped"
do = "wait"
for = "unit-inactive"
unit = "clightning.service"
at_most = "1h"

[[step]]
id = "server-answers"
title = "Wait for PostgreSQL"
do = "wait"
for = "postgresql-answers"
at_most = "1h"
"#;
const BEHIND_THE_FENCE: &str = r#"
[[step]]
id = "stop-watcher"
title = "Stop what watches the node's folder"
do = "stop-unit"
runs = "other"
unit = "watcher.service"
"#;
const STARTS: &str = r#"
[[step]]
id = "note"
title = "Note that the files are back"
do = "run"
argv = ["/usr/bin/touch", "/run/files-are-back"]

[[step]]
id = "start-bitcoind"
title = "Start bitcoind"
do = "start-unit"
runs = "bitcoind"

[[step]]
id = "chain"
title = "Wait for the chain"
do = "wait"
for = "unit-active"
unit = "chain-synced.service"
at_most = "1h"

[[step]]
id = "start-nbxplorer"
title = "Start NBXplorer"
do = "start-unit"
runs = "nbxplorer"

[[step]]
id = "start-btcpay"
title = "Start BTCPay Server"
do = "start-unit"
runs = "btcpay"

[[step]]
id = "start-proxy"
title = "Start the web server"
do = "start-unit"
runs = "proxy"
"#;

/// `server-loss` with units: what runs is stopped before the guards, and started in the order in which it depends on
/// each other when all is back.
fn text() -> String {
    let (_, text) = scenario::EMBEDDED.iter().find(|(name, _)| *name == "server-loss").unwrap();
    let mut text = (*text).to_owned();
    for (steps, before) in [
        (STOPS, "[[step]]\nid = \"guards\""),
        (BEHIND_THE_FENCE, "[[step]]\nid = \"place-secret\""),
        (STARTS, "[[must_hold]]"),
    ] {
        assert!(text.contains(before));
        text = text.replacen(before, &format!("{}\n\n{before}", steps.trim()), 1);
    }
    text.replacen("\"freshness\"]", "\"freshness\", \"payout\"]", 1)
}

fn machine() -> NewHost {
    let new = NewHost::new();
    for (unit, state) in UNITS {
        new.machine.unit(unit, state);
    }
    new
}

/// A run of it, begun.
fn begin(new: &NewHost, text: &str) -> Running {
    new.own("server-loss", text, &[GONE, UNPAID].concat()).start()
}

/// What the unit manager is told, without what the witness saw.
fn orders(told: Vec<String>) -> Vec<String> {
    told.into_iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn steps_of(text: &str) -> Vec<String> {
    told_by(&Scenario::parse(text, Path::new("own")).unwrap())
}

#[track_caller]
fn is_done(new: &NewHost) {
    new.is_whole(Wallet::Nowhere);
    assert!(new.machine.at("/run/files-are-back").exists());
    for unit in ["bitcoind.service", "nbxplorer.service", "btcpayserver.service", "nginx.service"] {
        assert_eq!(new.machine.state(unit), "active", "{unit}");
    }
    for unit in ["clightning.service", "watcher.service"] {
        assert_eq!(new.machine.state(unit), "inactive", "{unit}: nothing starts it");
    }
    assert!(new.journal("server-loss").1);
}

/// Whether the fence's text is what lightningd would find.
fn is_fenced(new: &NewHost) -> bool {
    fs::read(new.machine.at(WALLET)).is_ok_and(|text| text.starts_with(b"relay-backup fence"))
}

#[test]
fn units_are_stopped_and_started_in_the_order_of_the_steps() {
    let new = machine();
    begin(&new, &text()).ends().exits(0);
    is_done(&new);
    let steps = steps_of(&text());
    assert_eq!(new.machine.told(), steps);
    assert_eq!(steps[4], "stop watcher.service after fence behind the fence and its lock");
    let starts: Vec<String> = orders(steps).into_iter().filter(|order| order.starts_with("start")).collect();
    let services = ["bitcoind", "nbxplorer", "btcpayserver", "nginx"];
    assert_eq!(starts, services.map(|name| format!("start {name}.service")));
}

#[test]
fn a_unit_that_does_not_obey_ends_the_run_and_the_next_one_goes_on() {
    let new = machine();
    new.machine.unit_file("btcpayserver.service", "refuses-stop", "");
    let ended =
        begin(&new, &text()).ends().exits(1).complains("stop-btcpay").complains("cannot stop btcpayserver.service");
    ended.complains("Access denied").complains("systemctl status btcpayserver.service");
    assert_eq!(new.journal("server-loss").0.last().unwrap(), "stop-proxy");
    assert_eq!(new.machine.state("nbxplorer.service"), "active", "what comes after it is left as it was");
    new.machine.forget("btcpayserver.service", "refuses-stop");

    new.machine.unit_file("nbxplorer.service", "after-start", "failed");
    let ended = begin(&new, &text()).ends().exits(1).complains("start-nbxplorer");
    ended
        .complains("nbxplorer.service was told to start and is now failed")
        .complains("journalctl -u nbxplorer.service`, then run the same command again: it goes on");
    assert_eq!(new.journal("server-loss").0.last().unwrap(), "chain");
    new.machine.unit_file("nbxplorer.service", "after-start", "active");

    let proxy = new.machine.at("/fake/units/nginx.service");
    fs::rename(&proxy, proxy.with_extension("gone")).unwrap();
    let ended = begin(&new, &text()).ends().exits(1).complains("start-proxy");
    ended.complains("this machine has no unit nginx.service").complains("deploy the system's configuration");
    fs::rename(proxy.with_extension("gone"), &proxy).unwrap();

    begin(&new, &text()).ends().exits(0).prints("before");
    is_done(&new);
    let mut told = orders(new.machine.told());
    told.dedup();
    assert_eq!(told, orders(steps_of(&text())), "nothing is told twice but what was not obeyed");
}

#[test]
fn a_run_that_is_killed_while_it_waits_for_a_unit_goes_on() {
    let new = machine();
    for unit in ["btcpayserver.service", "watcher.service", "bitcoind.service", "nginx.service"] {
        // The proxy is stopped first and started last: it is its start that hangs.
        let is_last = unit == "nginx.service";
        if !is_last {
            new.machine.unit_file(unit, "stuck", "");
        }
        let running = begin(&new, &text());
        if is_last {
            until(&running, || new.journal("server-loss").0.iter().any(|step| step == "note"));
            new.machine.unit_file(unit, "stuck", "");
        }
        until(&running, || new.machine.is_waited_for(unit));
        assert_eq!(is_fenced(&new), unit == "watcher.service");
        running.signal(Signal::KILL);
        assert_eq!(running.ends().code, None);
        assert_eq!(is_fenced(&new), unit == "watcher.service", "a machine that starts again finds it");
        new.machine.forget(unit, "stuck");
    }
    begin(&new, &text()).ends().exits(0);
    is_done(&new);
    let mut told = orders(new.machine.told());
    told.dedup();
    // The journal does not know that the proxy came up after all: it is down while the rest is looked at.
    let mut expected = orders(steps_of(&text()));
    expected.extend(["stop nginx.service", "start nginx.service"].map(str::to_owned));
    assert_eq!(told, expected);
}

#[test]
fn a_condition_that_does_not_come_about_can_be_given_up_and_waited_for_again() {
    let new = machine();
    new.machine.unit("chain-synced.service", "inactive");
    new.machine.unit_file("watcher.service", "stuck", "");
    let running = begin(&new, &text());
    until(&running, || new.machine.is_waited_for("watcher.service"));
    running.signal(Signal::TERM);
    let ended = running.ends().exits(130).complains("interrupted while watcher.service was waited for");
    ended.complains("Hint: run the same command again: it goes on");
    assert!(is_fenced(&new));
    new.machine.forget("watcher.service", "stuck");

    let running = begin(&new, &text());
    let asked = || new.machine.asked().iter().filter(|line| line.ends_with(" chain-synced.service")).count();
    until(&running, || asked() > 1);
    running.signal(Signal::TERM);
    running.ends().exits(130);
    assert_eq!(new.journal("server-loss").0.last().unwrap(), "start-bitcoind");
    assert_eq!(new.machine.state("nbxplorer.service"), "inactive");

    let hasty = text().replacen(
        "unit = \"chain-synced.service\"\nat_most = \"1h\"",
        "unit = \"chain-synced.service\"\nat_most = \"1s\"",
        1,
    );
    assert_ne!(hasty, text());
    begin(&new, &hasty).ends().exits(1).complains("chain-synced.service").complains("not after 1 s");
    new.machine.unit("chain-synced.service", "active");
    begin(&new, &hasty).ends().exits(0);
    is_done(&new);
    let mut told = orders(new.machine.told());
    told.dedup();
    assert_eq!(told, orders(steps_of(&text())));
}

#[test]
fn a_node_whose_unit_runs_is_left_alone() {
    let new = NewHost::new();
    new.machine.unit("bitcoind.service", "active");
    for (unit, state) in [("clightning.service", "active"), ("lightningd.service", "activating")] {
        new.machine.unit(unit, state);
        let before = everything(&new);
        let ended = new.restore("server-loss", &GONE).exits(21).complains("the guard running refused");
        ended.complains(&format!("{unit}: it runs")).complains(&format!("systemctl stop {unit}"));
        assert_eq!(everything(&new), before, "{unit}");
        new.machine.unit(unit, "inactive");
    }
    assert_eq!(new.machine.told(), [""; 0]);
    assert_eq!(new.machine.state("bitcoind.service"), "active");
}
