//! Secrets stand nowhere but where they belong. Every verb runs, loudly and as JSON, on a host whose every secret is
//! known; then all that was said, all that was written and all that other processes could see of argument lists and
//! environments is searched for each of them, plain and in the forms in which such things slip out.

use super::host::{Host, cluster, files, processes, shop_sources};
use crate::support::env::{Ended, Run, TestEnv};
use memchr::memmem;
use relay_backup::base::secret::Secret;
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use relay_backup::seal::identity::Identities;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SHOP_ENV: &str =
    "JWT_SECRET=jwt-7f3a91c2d4\nBTCPAY_API_KEY=btcpay-key-5c0ffee1\nSENDGRID_API_KEY=SG.mail-91827364\n";
const PHRASE: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";
const ROLE_PASSWORD: &str = "role-password-c4f1e20b";
const PASSFILE_PASSWORD: &str = "passfile-password-77aa31";
const API_KEY: &str = "apikey-d81f0a3377bc";
const RUNE: &str = "rune-kXb2f0a77c1_admin_of_everything=";
const TLS_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFakeFakeFakeFake\n-----END PRIVATE KEY-----\n";

/// Whole groups of three bytes in base64; what is over is left out.
fn base64(bytes: &[u8]) -> Vec<u8> {
    let digits = |three: &[u8]| {
        let number = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| ALPHABET[(number >> shift) as usize & 63])
    };
    bytes.chunks_exact(3).flat_map(digits).collect()
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    let values = text.iter().filter_map(|digit| ALPHABET.iter().position(|known| known == digit));
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for value in values {
        (bits, held) = (bits << 6 | value as u32, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The 32 bytes behind `AGE-SECRET-KEY-1…`.
fn age_scalar(text: &str) -> Vec<u8> {
    let data = text.to_ascii_lowercase();
    let (_, data) = data.rsplit_once('1').unwrap();
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for letter in data[..data.len() - 6].bytes() {
        let value = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l".iter().position(|known| *known == letter).unwrap();
        (bits, held) = (bits << 5 | value as u32, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    assert_eq!(bytes.len(), 32);
    bytes
}

/// What must be found nowhere: the name of each secret and the forms it may take.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{name} is too short to be told from chance");
        let decimals = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let mut forms = vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
        forms.extend((0..3).map(|offset| base64(&secret[offset..])));
        forms.push(decimals.into_bytes());
        self.0.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
    }

    /// The whole and every row of four words of it.
    fn add_words(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        for four in text.split_whitespace().collect::<Vec<_>>().windows(4) {
            self.add(name, four.join(" ").as_bytes());
        }
    }

    /// An age identity: its text, also in small letters, and its number.
    fn add_identity(&mut self, name: &str, file: &[u8]) {
        let text = String::from_utf8_lossy(file);
        let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
        self.add(name, line.as_bytes());
        self.add(name, line.to_ascii_lowercase().as_bytes());
        self.add(name, &age_scalar(line));
    }

    fn found_in(&self, text: &[u8]) -> BTreeSet<&str> {
        let found = self.0.iter().filter(|(_, form)| memmem::find(text, form).is_some());
        found.map(|(name, _)| name.as_str()).collect()
    }
}

/// Everything that others could see of a run.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<u8>>);

impl Seen {
    /// Runs a program and keeps what it said, and what the kernel told of it and its children meanwhile.
    fn watch(&mut self, label: &str, run: Run) -> Ended {
        let running = run.start();
        let first = running.id();
        let over = AtomicBool::new(false);
        let (ended, told) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut told = BTreeSet::new();
                while !over.load(Ordering::SeqCst) {
                    told.extend(tell(first));
                    std::thread::sleep(Duration::from_millis(10));
                }
                told
            });
            let ended = running.ends();
            over.store(true, Ordering::SeqCst);
            (ended, watcher.join().unwrap())
        });
        let count = self.0.len();
        self.0.insert(format!("{count} {label}: standard output"), ended.stdout.clone().into_bytes());
        self.0.insert(format!("{count} {label}: standard error"), ended.stderr.clone().into_bytes());
        self.0.insert(format!("{count} {label}: processes"), told.into_iter().flatten().collect());
        ended
    }

    fn add_files(&mut self, folder: &Path, exempt: &[&str]) {
        for path in files(folder) {
            if !exempt.iter().any(|name| path.ends_with(name)) {
                self.0.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }

    #[track_caller]
    fn assert_free_of(&self, secrets: &Secrets) {
        let found: Vec<String> = self
            .0
            .iter()
            .map(|(place, bytes)| (place, secrets.found_in(bytes)))
            .filter(|(_, found)| !found.is_empty())
            .map(|(place, found)| format!("{place}: {found:?}"))
            .collect();
        assert!(found.is_empty(), "secrets were found:\n{}", found.join("\n"));
    }
}

/// Argument lists and environments of a process and all below it.
fn tell(first: u32) -> Vec<Vec<u8>> {
    let all = processes();
    let mut family = vec![first];
    let mut told = Vec::new();
    while let Some(id) = family.pop() {
        family.extend(all.iter().filter(|process| process.parent == id).map(|process| process.id));
        for file in ["cmdline", "environ"] {
            told.push(fs::read(format!("/proc/{id}/{file}")).unwrap_or_default());
        }
    }
    told
}

/// Every secret that is known before the program runs, each put where it belongs.
fn plant(env: &TestEnv, cluster: &Cluster, secrets: &mut Secrets) {
    Shop::create(cluster, 7, Size::Invoices(100)).unwrap();
    let role = format!("CREATE ROLE shopper LOGIN PASSWORD '{ROLE_PASSWORD}'");
    cluster.execute("postgres", &role).unwrap();
    let key = format!("INSERT INTO \"ApiKeys\" (\"Id\", \"Type\", \"Label\") VALUES ('{API_KEY}', 0, 'x')");
    cluster.execute("btcpaydb", &key).unwrap();
    let phrase = format!("UPDATE nbxv1_metadata SET data = to_jsonb('{PHRASE}'::text) WHERE key = 'Mnemonic'");
    cluster.execute("nbxplorer", &phrase).unwrap();
    let verifier = cluster.query("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'shopper'").unwrap();
    secrets.add("the role's verifier", verifier[0][0].clone().unwrap().as_bytes());
    env.write("medusa/.env", SHOP_ENV, 0o600);
    env.write("medusa/seed.txt", format!("{PHRASE}\n"), 0o600);
    env.write("owner/passfile", format!("*:*:*:*:{PASSFILE_PASSWORD}\n"), 0o600);
    env.write("lightning/regtest/client-key.pem", TLS_KEY, 0o600);
    env.write("lightning/regtest/admin-rune", RUNE, 0o600);
    for line in SHOP_ENV.lines() {
        secrets.add(".env", line.split_once('=').unwrap().1.as_bytes());
    }
    let known = [
        ("role password", ROLE_PASSWORD),
        ("passfile", PASSFILE_PASSWORD),
        ("API key", API_KEY),
        ("rune", RUNE),
        ("TLS key", TLS_KEY.lines().nth(1).unwrap()),
    ];
    known.iter().for_each(|(name, secret)| secrets.add(name, secret.as_bytes()));
    secrets.add_words("hot wallet phrase", PHRASE);
    let secret = fs::read(env.path("lightning/regtest/hsm_secret")).unwrap();
    secrets.add_words("hsm_secret", std::str::from_utf8(&secret[32..]).unwrap().trim_end_matches('\0'));
}

/// The keys that the program itself made: of the state folder, and every epoch's identity.
fn add_made(host: &Host, secrets: &mut Secrets) {
    let state = host.env.path("state");
    let dedup = fs::read_to_string(state.join("dedup.key")).unwrap();
    secrets.add("dedup key", dedup.trim().as_bytes());
    secrets.add("dedup key", &hex::decode(dedup.trim()).unwrap());
    let signing = fs::read_to_string(state.join("signing.key")).unwrap();
    let line = signing.lines().last().unwrap();
    secrets.add("signing key", line.as_bytes());
    // Two bytes each of algorithms, 32 of salt, 16 of limits, 8 of the key's id; then 32 that are secret.
    secrets.add("signing key", &from_base64(line.as_bytes())[62..94]);
    let content = fs::read(&host.identity.file).unwrap();
    secrets.add_identity("owner's identity", &content);
    let identities = Identities::parse(&Secret::new(content), "owner.key").unwrap();
    let epochs = files(&state).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "age"));
    for epoch in epochs {
        let opened = identities.open(&fs::read(&epoch).unwrap(), "an epoch").unwrap();
        secrets.add_identity("epoch identity", opened.expose());
    }
}

/// Every verb, as loud as it can be.
fn verbs(host: &Host, seen: &mut Seen) {
    let owner = host.identity.file.display().to_string();
    let out = |name: &str| host.env.path(name).display().to_string();
    let with = |arguments: &[&str]| [arguments, &["--identity", &owner]].concat().join(" ");
    for (round, loud) in ["-vvv", "-vvv --json", "--json"].into_iter().enumerate() {
        let mut say = |line: &str| {
            let arguments: Vec<&str> = loud.split(' ').chain(line.split(' ')).collect();
            seen.watch(line, host.verb(&arguments))
        };
        let extract = |artifact: &str, file: &str| {
            format!(
                "{} --to {}",
                with(&["extract", "--artifact", artifact]),
                out(&file.replace("ROUND", &round.to_string()))
            )
        };
        for folder in ["out", "quarantine"] {
            fs::create_dir(host.env.path(&format!("{folder}-{round}"))).unwrap();
        }
        say(&format!("keygen --out {}", out(&format!("owner/stranger-{round}.key")))).exits(0);
        say("policy check").exits(0);
        say("policy show").exits(0);
        say("policy schema").exits(0);
        say("init").exits(0);
        say("backup").exits(0);
        say("attest cln");
        say("list").exits(0);
        say("show latest").exits(0);
        say(&with(&["show", "latest"])).exits(0);
        say("verify --depth present").exits(0);
        say("verify --depth sealed").exits(0);
        say(&with(&["verify", "--depth", "opened"])).exits(0);
        if round < 2 {
            say(&with(&["verify", "--depth", "meaning"])).exits(0);
        }
        say(&extract("cln/hsm_secret", "out-ROUND/hsm_secret")).exits(0);
        say(&extract("medusa/files.tar", "out-ROUND/files.tar")).exits(0);
        say(&extract("cln/lightningd.sqlite3", "quarantine-ROUND/wallet")).exits(21);
        say(&extract("cln/lightningd.sqlite3", "quarantine-ROUND/wallet.TOXIC")).exits(0);
        let stranger = out(&format!("owner/stranger-{round}.key"));
        say(&format!("show latest --identity {stranger}")).exits(12);
        say("catalog rebuild").exits(0);
        say("rotate").exits(0);
    }
}

#[test]
fn no_verb_lets_a_secret_out() {
    let env = TestEnv::new();
    let cluster = cluster(&env);
    let mut secrets = Secrets::default();
    let sources = shop_sources(&env, &cluster);
    let passfile = format!("passfile = \"{}\"\ndatabases", env.path("owner/passfile").display());
    plant(&env, &cluster, &mut secrets);
    let host = Host::new(env, &["vault", "second"], &sources.replace("databases", &passfile));
    let mut seen = Seen::default();
    verbs(&host, &mut seen);

    // What fails says more than what works: another secret in its place, a policy that is wrong, a key in the policy.
    let raw = fs::read(Path::new("tests/fixtures/cln/hsm_secret/raw32.hsm_secret")).unwrap();
    secrets.add("the other hsm_secret", &raw);
    host.env.write("lightning/regtest/hsm_secret", &raw, 0o400);
    for verb in ["backup", "verify"] {
        seen.watch("a changed secret", host.verb(&["-vvv", verb])).exits(1);
        seen.watch("a changed secret", host.verb(&["--json", verb])).exits(1);
    }
    seen.watch("a changed secret", host.verb(&["-vvv", "attest"]));
    let identity = fs::read_to_string(&host.identity.file).unwrap();
    let key = identity.lines().last().unwrap();
    let text = fs::read_to_string(host.env.path("policy.toml")).unwrap();
    host.env.policy(&text.replace(&host.identity.recipient, key));
    for verb in ["backup", "init"] {
        seen.watch("an identity in the policy", host.verb(&["-vvv", verb])).exits(2);
        seen.watch("an identity in the policy", host.verb(&["--json", verb])).exits(2);
    }

    add_made(&host, &mut secrets);
    for round in 0..3 {
        let file = fs::read(host.env.path(&format!("owner/stranger-{round}.key"))).unwrap();
        secrets.add_identity("a new identity", &file);
    }
    let made: [(PathBuf, &[&str]); 4] = [
        (host.env.path("state"), &["signing.key", "dedup.key"]),
        (host.env.path("vault"), &[]),
        (host.env.path("second"), &[]),
        (host.env.path("tmp"), &[]),
    ];
    made.iter().for_each(|(folder, exempt)| seen.add_files(folder, exempt));
    let told = |program: &[u8]| {
        seen.0.iter().any(|(place, bytes)| place.ends_with("processes") && memmem::find(bytes, program).is_some())
    };
    assert!(told(b"pg_dump") && told(b"relay-backup"), "the processes were not watched");
    seen.assert_free_of(&secrets);
}

#[test]
fn a_secret_that_is_let_out_is_found() {
    let env = TestEnv::new();
    let mut secrets = Secrets::default();
    secrets.add("planted", b"correct-horse-battery");
    let plain = "correct-horse-battery";
    let forms = [
        plain.to_owned(),
        hex::encode(plain),
        format!("{:?}", plain.as_bytes()),
        String::from_utf8(base64(format!("x{plain}yz").as_bytes())).unwrap(),
        String::from_utf8(base64(format!("{plain}xy").as_bytes())).unwrap(),
    ];
    for form in forms {
        let mut seen = Seen::default();
        seen.watch("echo", env.program("sh").args(["-c", "cat; cat >&2"]).stdin(format!("so: {form}.\n")));
        assert_eq!(secrets.found_in(&seen.0["0 echo: standard output"]).len(), 1, "{form}");
        env.write("out/file", format!("\0\0{form}"), 0o600);
        let mut seen = Seen::default();
        seen.add_files(&env.path("out"), &[]);
        assert_eq!(seen.0.values().flat_map(|bytes| secrets.found_in(bytes)).count(), 1, "{form}");
    }
    for run in [
        env.program("sh").args(["-c", "sleep 0.5; :", plain]),
        env.program("sh").args(["-c", "sh -c 'sleep 0.5; :'; :"]).env("HIDDEN", plain),
    ] {
        let mut seen = Seen::default();
        seen.watch("sleep", run);
        assert_eq!(secrets.found_in(&seen.0["0 sleep: processes"]).len(), 1);
    }
}
