//! A test event to the shops' webhooks, on real sockets: what is sent, what is told of it, and when nothing is sent.
//! These run on this machine itself: below another root nothing is sent. The scenario places nothing.

use crate::support::closing::free_port;
use crate::support::env::{Ended, Run};
use crate::support::host::{Bare, whole};
use crate::support::json;
use hmac::{Hmac, KeyInit, Mac};
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECRET: &str = "made-up-webhook-secret-7";
const TOKEN: &str = "made-up-token-7";

/// A request that came.
#[derive(Clone, Debug)]
struct Came {
    head: String,
    body: Vec<u8>,
}

impl Came {
    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap().split('?').next().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The shops' server, on loopback: each path has its own answer.
struct Shops {
    port: u16,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Shops {
    fn open() -> Self {
        Self::serve(|stream, came| {
            let request = read_request(stream);
            let path = request.path().to_owned();
            came.lock().unwrap().push(request);
            answer(stream, &path);
        })
    }

    /// The same behind TLS, as `shop.invalid`.
    fn open_with_tls() -> Self {
        let read = |name: &str| fs::read(format!("tests/fixtures/tls/{name}")).unwrap();
        let certificate = CertificateDer::from(read("shop.der"));
        let key = PrivateKeyDer::try_from(read("shop.key.der")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        Self::serve(move |stream, came| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // Whoever does not believe the certificate hangs up.
            if stream.conn.complete_io(&mut stream.sock).is_ok() {
                let request = read_request(&mut stream);
                let path = request.path().to_owned();
                came.lock().unwrap().push(request);
                answer(&mut stream, &path);
            }
        })
    }

    fn serve(each: impl Fn(&mut std::net::TcpStream, &Mutex<Vec<Came>>) + Send + 'static) -> Self {
        let listener = TcpListener::bind((HERE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                each(&mut stream.unwrap(), &shared);
            }
        });
        Self { port, came }
    }

    fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut impl Read) -> Came {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let mut came = Came { head: String::from_utf8(bytes).unwrap(), body: Vec::new() };
    came.body.resize(came.header("content-length").unwrap().parse().unwrap(), 0);
    stream.read_exact(&mut came.body).unwrap();
    came
}

fn answer(stream: &mut impl Write, path: &str) {
    let text = match path {
        "/takes" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/refuses" => format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: 15\r\n\r\n{TOKEN}"),
        "/moved" => format!("HTTP/1.1 302 Found\r\nLocation: https://u:{TOKEN}@new.invalid/x?s={TOKEN}\r\n\r\n"),
        "/fails" => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => return,
    };
    stream.write_all(text.as_bytes()).unwrap();
}

/// This machine with a shop's database in service whose webhooks are these.
struct Machine {
    bare: Bare,
    cluster: Cluster,
}

impl Machine {
    fn new() -> Self {
        let bare = Bare::new();
        let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
        Shop::create(&cluster, 7, Size::Invoices(40)).unwrap();
        let policy = whole().host.policy_text();
        let policy = policy
            .replace(&crate::support::shop::cluster().url("postgres"), &cluster.url("postgres"))
            .replace(&whole().host.vault().url(), &bare.vault.url())
            .replace(whole().host.state().to_str().unwrap(), bare.env.path("state").to_str().unwrap());
        bare.env.policy(&policy);
        let off = "UPDATE \"Webhooks\" SET \"Blob2\" = \"Blob2\" || '{\"active\": false}'";
        cluster.execute(Shop::BTCPAY, off).unwrap();
        Self { bare, cluster }
    }

    /// Adds a webhook; `more` is more of its JSON.
    fn add(&self, id: &str, url: &str, more: &str) {
        let sql = format!(
            "INSERT INTO \"Webhooks\" VALUES ('{id}', '{{\"url\": \"{url}\", \"active\": true {more}}}');
             INSERT INTO \"StoreWebhooks\" VALUES ('store1', '{id}')"
        );
        self.cluster.execute(Shop::BTCPAY, &sql).unwrap();
    }

    fn command(&self, first: &[&str], more: &[&str]) -> Run {
        let key = whole().host.signing_key();
        let policy = self.bare.env.path("policy.toml");
        let fixed = ["--policy", policy.to_str().unwrap(), "restore", "--scenario", "integration-outage"];
        self.bare.env.relay_backup(&[first, &fixed, &["--signing-key", &key], more].concat())
    }

    fn run(&self, more: &[&str]) -> Ended {
        self.command(&[], more).ends()
    }

    /// Lets `dig` say where names are: the zone's server is `ns1`, and each of these names has these answers to A.
    fn dig(&self, names: &[(&str, &str)]) {
        let mut script = String::from("case \"$*\" in *CNAME*) ;; *' NS') echo ns1.example. ;;");
        for (name, answer) in names {
            script.push_str(&format!(" *' @ns1.example {name} A') printf '{answer}\\n' ;;"));
        }
        self.bare.env.fake("dig", &(script + " esac"));
    }
}

/// What a run on this machine could have left behind: the folder of restores, by every path in it.
fn left_behind() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from("/var/lib/relay-backup")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        found.insert(folder);
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => _ = found.insert(path),
            }
        }
    }
    found
}

/// What the name of this machine means here, as `dig` would print it.
fn localhost() -> String {
    let addresses = ("localhost", 80).to_socket_addrs().unwrap();
    let addresses: BTreeSet<IpAddr> = addresses.map(|address| address.ip()).collect();
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("\\n")
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[test]
fn every_shop_gets_one_signed_test_and_what_came_of_it_is_told() {
    let (machine, shops) = (Machine::new(), Shops::open());
    let (port, free) = (shops.port, free_port());
    let wants = "\"authorizedEvents\": {\"everything\": false, \"specificEvents\": [\"InvoiceSettled\", \"InvoiceProcessing\"]}";
    let local = format!("http://localhost:{port}");
    machine.add(
        "a",
        &format!("http://u:{TOKEN}@localhost:{port}/takes?t={TOKEN}"),
        &format!(", \"secret\": \"{SECRET}\", {wants}"),
    );
    machine.add("b", &format!("{local}/refuses"), "");
    machine.add("c", &format!("{local}/moved"), ", \"secret\": null");
    machine.add("d", &format!("{local}/hangs-up"), "");
    machine.add("e", &format!("{local}/fails"), "");
    machine.add("f", &format!("http://127.0.0.1:{free}/nobody?t={TOKEN}"), "");
    machine.add("g", "http://abcdefghij.onion/hook", "");
    machine.add("h", &format!("ftp://localhost/x?t={TOKEN}"), "");
    machine.add("i", &format!("{local}/payouts"), ", \"authorizedEvents\": {\"specificEvents\": [\"PayoutCreated\"]}");
    machine.add("j", &format!("{local}/off"), ", \"active\": false");
    machine.dig(&[("localhost", &localhost())]);
    let proxy = format!("http://127.0.0.1:{free}");
    let before = left_behind();
    let run = |first: &[&str]| {
        let run = machine.command(first, &["--yes"]).env("http_proxy", &proxy).env("HTTP_PROXY", &proxy);
        let ended = run.env("all_proxy", &proxy).env("RUST_LOG", "trace").ends().exits(0);
        ended.keeps_quiet_about(SECRET).keeps_quiet_about(TOKEN)
    };
    let ended = run(&["-vvv"]);
    let agree = "AGREE: this host's resolver and ns1.example say the same, and the test arrived";
    for line in [
        format!("{local}/takes: InvoiceProcessing arrived, 127.0.0.1 answered 204"),
        format!("{local}/takes: {agree}"),
        format!("{local}/refuses: InvoiceCreated refused, 127.0.0.1 answered 401"),
        format!("{local}/refuses: DO NOT AGREE: the name is right, and the test did not arrive: the secret here"),
        format!(
            "{local}/moved: InvoiceCreated sent on elsewhere, 127.0.0.1 answered 302 and points to https://new.invalid/x\n"
        ),
        format!("{local}/hangs-up: InvoiceCreated hung up on without an answer"),
        format!("{local}/fails: InvoiceCreated not taken, 127.0.0.1 answered 500"),
        format!("http://127.0.0.1:{free}/nobody: InvoiceCreated no connection: Connection refused"),
        "http://abcdefghij.onion/hook: no test: no test goes over Tor".to_owned(),
        "ftp://localhost/x: no test: its address is neither http nor https".to_owned(),
        format!("{local}/payouts: no test: it wants no event of an invoice"),
        format!("{local}/off: no test: it is off"),
        "holds          nothing-touched".to_owned(),
    ] {
        assert!(ended.stdout.contains(&line), "{line}\n{ended}");
    }
    // The scenario tests twice: before the way is mended and after.
    let came = shops.came();
    let of = |path: &str| came.iter().filter(|came| came.path() == path).collect::<Vec<_>>();
    for (path, count) in [("/takes", 2), ("/refuses", 2), ("/moved", 2), ("/fails", 2), ("/payouts", 0), ("/off", 0)] {
        assert_eq!(of(path).len(), count, "{path}: {came:#?}");
    }
    let took = of("/takes")[0];
    assert!(took.head.starts_with(&format!("POST /takes?t={TOKEN} HTTP/1.1\r\n")), "{}", took.head);
    assert_eq!(took.header("btcpay-sig"), Some(signature(SECRET, &took.body).as_str()));
    assert_eq!((took.header("content-type"), took.header("authorization")), (Some("application/json"), None));
    let refused = of("/refuses")[0];
    assert_eq!(refused.header("btcpay-sig"), Some(signature("", &refused.body).as_str()), "no secret is an empty key");
    let event: serde_json::Value = serde_json::from_slice(&took.body).unwrap();
    assert_eq!(
        (&event["type"], &event["webhookId"], &event["storeId"]),
        (&"InvoiceProcessing".into(), &"a".into(), &"store1".into())
    );
    assert!(event["invoiceId"].as_str().unwrap().starts_with("__test__"), "{event}");
    let other: serde_json::Value = serde_json::from_slice(&of("/takes")[1].body).unwrap();
    assert_ne!((&event["invoiceId"], &event["deliveryId"]), (&other["invoiceId"], &other["deliveryId"]));
    // The same as a document.
    let ended = run(&["--json"]);
    let document = json::document(&ended);
    let inspected = document["report"]["inspected"].as_array().unwrap();
    let tests: Vec<_> = inspected.iter().filter(|one| one["what"] == "test-delivery").collect();
    assert!(tests.len() == 2 && tests[0]["lines"][1].as_str().unwrap().ends_with(agree), "{document:#}");
    // Nothing was written, and BTCPay's own list of deliveries is as it was.
    assert_eq!(left_behind(), before);
    assert!(!machine.bare.env.path("state").exists());
    let deliveries = "SELECT count(*)::text FROM \"WebhookDeliveries\" WHERE \"WebhookId\" = 'a'";
    assert_eq!(machine.cluster.query(Shop::BTCPAY, deliveries).unwrap()[0][0].as_deref(), Some("0"));
}

#[test]
fn a_shop_that_moved_is_tried_at_both_places_with_its_own_name() {
    let (machine, shops) = (Machine::new(), Shops::open_with_tls());
    let url = |name: &str| format!("https://{name}:{}/takes", shops.port);
    machine.add("a", &url("shop.invalid"), "");
    machine.add("b", &url("other.invalid"), "");
    machine.add("c", &url("alias.invalid"), "");
    machine.dig(&[("shop.invalid", "127.0.0.1"), ("other.invalid", "127.0.0.1"), ("alias.invalid", "shop.invalid.")]);
    let authority = fs::canonicalize(Path::new("tests/fixtures/tls/ca.pem")).unwrap();
    let ended = machine.command(&[], &["--yes"]).env("SSL_CERT_FILE", authority).ends().exits(0);
    let leads_nowhere = "InvoiceCreated not sent to where this host's resolver leads: it leads nowhere";
    let there = "at 127.0.0.1, which ns1.example names:";
    for line in [
        format!("{}: {leads_nowhere}; {there} arrived, 127.0.0.1 answered 204", url("shop.invalid")),
        format!("{}: DO NOT AGREE: shop.invalid: this host's resolver has no answer", url("shop.invalid")),
        format!("{}: {leads_nowhere}; {there} the certificate is not right: ", url("other.invalid")),
        format!("{}: {leads_nowhere}; {there} the certificate is not right: ", url("alias.invalid")),
        "alias.invalid: this host's resolver has no answer".to_owned(),
    ] {
        assert!(ended.stdout.contains(&line), "{line}\n{ended}");
    }
    assert_eq!(shops.came().len(), 2, "only the name of the certificate gets it, once a test: {ended}");
}

#[test]
fn what_customers_and_shops_wrote_moves_no_cursor_and_hides_no_host() {
    let (machine, shops) = (Machine::new(), Shops::open());
    // A client takes the backslash for a slash: this goes to localhost, and reads as if it went to the shop.
    machine.add("a", &format!(r"http://localhost:{}\\@shop.invalid/takes", shops.port), "");
    let order =
        r#"UPDATE "Invoices" SET "Blob2" = jsonb_set("Blob2", '{metadata,orderId}', '"7\u001b[2K\nSend it?\u202e"')"#;
    machine.cluster.execute(Shop::BTCPAY, order).unwrap();
    let ended = machine.run(&["--yes"]).exits(0).prints(r"7\u{1b}[2K\nSend it?\u{202e}");
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("http://shop.invalid"), "{ended}");
    }
    assert!(ended.stdout.contains("can be read in two ways"), "{ended}");
    assert_eq!(shops.came().len(), 0, "{ended}");
}

#[test]
fn nothing_is_sent_before_a_yes() {
    let (machine, shops) = (Machine::new(), Shops::open());
    machine.add("a", &format!("http://localhost:{}/takes?t={TOKEN}", shops.port), "");
    let shown = format!("http://localhost:{}/takes", shops.port);
    let would = format!("{shown}: a test InvoiceCreated would be sent, once you agree");
    machine.run(&["--dry-run"]).exits(0).prints(&would).keeps_quiet_about(TOKEN);
    machine.run(&["--dry-run", "--yes"]).exits(0).prints(&would);
    let root = machine.bare.env.path("new-root");
    fs::create_dir(&root).unwrap();
    for more in [&["--yes"][..], &["--dry-run"]] {
        let below = [&["--root", root.to_str().unwrap()], more].concat();
        machine.run(&below).exits(0).prints("nothing is sent below another root").prints(&would);
    }
    let ended = machine.run(&[]).exits(21).complains("--yes");
    assert!(ended.stderr.contains("Send it?"), "{ended}");
    // `script` gives the program a terminal to ask at: no to the tests, done to what is told.
    let key = whole().host.signing_key();
    let policy = machine.bare.env.path("policy.toml");
    let line = format!(
        "{} --policy {} restore --scenario integration-outage --signing-key {key}",
        env!("CARGO_BIN_EXE_relay-backup"),
        policy.display()
    );
    let script = machine.bare.env.program("script").args(["-qec", &line, "/dev/null"]);
    let ended = script.stdin("no\ndone\nno\ndone\n").ends().exits(0);
    assert!(ended.stdout.contains(&format!("InvoiceCreated to {shown}")), "{ended}");
    assert!(ended.stdout.contains("nothing was sent: the question was not answered with yes"), "{ended}");
    assert_eq!(shops.came().len(), 0, "{ended}");
}
