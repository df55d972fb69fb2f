//! The recovery kit as it comes out of a printer: rendered by a real browser without a screen, on A4. No name of any
//! host leads anywhere, and what the page asks for stands in the browser's log.

use crate::support::env::TestEnv;
use crate::support::host::Host;
use relay_backup::base::ids::Sha256Hex;
use serde_json::Value;
use std::fs;

/// What keeps a browser from doing anything but what it is asked for.
const BROWSER: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-pdf-header-footer",
];
/// A4, in points.
const WIDTH: f64 = 595.0;
const HEIGHT: f64 = 842.0;
/// No printer reaches closer to the edge, in points (5 mm).
const MARGIN: f64 = 14.0;

/// What became of a page.
struct Printed {
    /// Its text without any space: where lines end does not matter.
    text: String,
    /// What `pdfinfo` says.
    info: String,
    /// Words that stand closer to the edge than a printer reaches.
    cut: Vec<String>,
    /// What the page asked of the network.
    asked: Vec<String>,
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn print(page: &str) -> Printed {
    let env = TestEnv::new();
    let file = env.write("kit.html", page, 0o600);
    let (pdf, log) = (env.path("kit.pdf"), env.path("requests.json"));
    let started = env
        .program("chromium")
        .args(BROWSER)
        .arg(format!("--user-data-dir={}", env.path("browser").display()))
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("--print-to-pdf={}", pdf.display()))
        .arg(format!("file://{}", file.display()));
    let ended = started.ends().exits(0);
    assert!(pdf.is_file(), "{ended}");
    let read = |program: &str, arguments: &[&str]| {
        let ended = env.program(program).args(arguments).arg(&pdf).arg("-").ends().exits(0);
        ended.stdout
    };
    let info = env.program("pdfinfo").arg(&pdf).ends().exits(0).stdout;
    let cut = read("pdftotext", &["-bbox"]).lines().filter(|line| is_cut(line)).map(str::to_owned).collect();
    let asked = asked_by_the_page(&fs::read_to_string(log).unwrap());
    Printed { text: squeezed(&read("pdftotext", &["-raw"])), info, cut, asked }
}

/// Whether a line of `pdftotext -bbox` is a word beyond the margin.
fn is_cut(line: &str) -> bool {
    let Some(word) = line.trim().strip_prefix("<word ") else { return false };
    let edge = |name: &str| -> f64 {
        let (_, rest) = word.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    edge("xMin") < MARGIN || edge("yMin") < MARGIN || edge("xMax") > WIDTH - MARGIN || edge("yMax") > HEIGHT - MARGIN
}

/// What the page itself asked of the network, from the browser's log of it. The browser asks on its own account too, of
/// its maker; such requests have no page as their origin.
fn asked_by_the_page(log: &str) -> Vec<String> {
    let log: Value = serde_json::from_str(log).unwrap();
    let requests = log["events"].as_array().unwrap().iter().map(|event| &event["params"]);
    let from_pages =
        requests.filter(|params| params["initiator"].as_str().is_some_and(|origin| origin != "not an origin"));
    from_pages.filter_map(|params| params["url"].as_str()).map(str::to_owned).collect()
}

/// A host with as much to print as there ever is: three recipients, four vaults with long addresses.
fn host() -> Host {
    let mut host = Host::of_files();
    for name in ["operator.key", "lawyer.key"] {
        let identity = host.env.identity(name);
        host.recipients.push(identity.recipient);
    }
    host.write_policy();
    host.init();
    for region in ["eu-central-003", "us-west-004", "ap-southeast-001"] {
        host.more.push_str(&format!(
            "[[vault]]\nname = \"offsite-{region}\"\noffsite = true\nurl = \"s3://relay-backups-of-shops/btc/shops-btc-01\
             ?endpoint=https://s3.{region}.storage.example-of-a-long-name.com&region={region}\"\n\n"
        ));
    }
    host.write_policy();
    host
}

#[test]
fn the_kit_comes_out_readable_on_paper_and_asks_nobody() {
    let host = host();
    let page = host.run(&["kit"]).exits(0).stdout;
    let printed = print(&page);
    let key = host.signing_key();
    let script = Sha256Hex::of(&fs::read(host.vault().root.join("recover.sh")).unwrap()).to_string();
    let folder = format!("folder {}", host.vault().root.display());
    let mut parts = vec![
        "Recovery kit of shops-btc-01".to_owned(),
        "Never start lightningd or lnd on an old channel database.".to_owned(),
        "local".to_owned(),
        folder,
        "endpoint https://s3.ap-southeast-001.storage.example-of-a-long-name.com, region ap-southeast-001".to_owned(),
        "prefix btc/shops-btc-01".to_owned(),
        format!("sha256sum recover.sh must print {script}"),
        format!("minisign -V -P {key} \\ -m nodes/shops-btc-01/snapshots/ID/manifest.json"),
        format!("sh recover.sh --signing-key {key} \\ --identity FILE --node shops-btc-01 --to DIR"),
        "Read RECOVERY.md in the vault".to_owned(),
        "held by, where (fill in by hand)".to_owned(),
    ];
    parts.extend(host.recipients.iter().cloned());
    for part in parts {
        assert!(printed.text.contains(&squeezed(&part)), "{part} is not on the paper: {}", printed.text);
    }
    assert!(printed.info.contains("(A4)"), "{}", printed.info);
    let pages = printed.info.lines().find_map(|line| line.strip_prefix("Pages:")).unwrap().trim();
    assert!(["1", "2"].contains(&pages), "{pages} pages");
    assert_eq!(printed.cut, Vec::<String>::new(), "too close to the edge");
    assert_eq!(printed.asked, Vec::<String>::new(), "the page asked for something");
}

#[test]
fn a_page_that_asks_or_leaves_the_paper_is_noticed() {
    let printed = print(
        "<!DOCTYPE html><title>x</title><style>@page { size: A4; margin: 2mm } body { margin: 0 }</style><p>outside</p>\
         <img src=\"http://pictures.example.net/pixel.png\">",
    );
    assert_eq!(printed.asked, ["http://pictures.example.net/pixel.png"]);
    assert!(printed.cut.iter().any(|word| word.contains("outside")), "{:?}", printed.cut);
}
