//! What a real S3 store's client makes of answers that break, hang or come from elsewhere, one operation at a time: a
//! listing is whole or an error, a hang ends, and what asking again cannot mend is asked once.

use crate::support::env::TestEnv;
use crate::support::faulty::On;
use crate::support::garage::GARAGE;
use crate::support::proxy::{Fault, Proxy, When};
use relay_backup::base::ids::Sha256Hex;
use relay_backup::policy::VaultUrl;
use relay_backup::vault::{ObjectKey, Patience, Prefix, Trouble, Vault, VaultError};
use std::time::Duration;

/// Two tries, and no long pause between them.
const PATIENCE: Patience = Patience {
    tries: 2,
    pause: Duration::from_millis(1),
    control: Duration::from_secs(60),
    transfer: Duration::from_secs(60),
};

struct Bucket {
    vault: Vault,
    proxy: Proxy,
    _env: TestEnv,
}

impl Bucket {
    fn new(prefix: &str, objects: u32) -> Self {
        let env = TestEnv::new();
        let proxy = GARAGE.proxy();
        let credentials = env.path("credentials");
        GARAGE.credentials(&credentials);
        let url = VaultUrl::parse(&GARAGE.url_through(&proxy, prefix)).unwrap();
        let vault = Vault::open_url("offsite".parse().unwrap(), &url, Some(&credentials)).unwrap();
        std::thread::scope(|scope| {
            for first in 0..8 {
                let vault = &vault;
                scope.spawn(move || (first..objects).step_by(8).for_each(|n| vault.put(&key(n), &content(n)).unwrap()));
            }
        });
        Self { vault: vault.with_patience(PATIENCE), proxy, _env: env }
    }

    fn length(&self) -> Result<usize, VaultError> {
        self.vault.list(&Prefix::all()).map(|listing| listing.objects.len())
    }

    /// What each operation says while this fault meets every request.
    fn each(&self, fault: Fault) -> Vec<VaultError> {
        self.proxy.on(On::Any, "", When::From(1), fault);
        let errors = vec![
            self.vault.put(&key(0), &content(0)).unwrap_err(),
            self.vault.get(&key(0), 10_000).unwrap_err(),
            self.vault.look(&key(0)).unwrap_err(),
            self.vault.list(&Prefix::all()).unwrap_err(),
            self.vault.nodes().unwrap_err(),
        ];
        self.proxy.heal();
        errors
    }
}

fn key(n: u32) -> ObjectKey {
    ObjectKey::segment(&"shops-btc-01".parse().unwrap(), &Sha256Hex::of(&content(n)))
}

fn content(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(200)
}

/// How many requests something makes.
fn asked(bucket: &Bucket, each: impl FnOnce()) -> u64 {
    let before = bucket.proxy.asked();
    each();
    bucket.proxy.asked() - before
}

#[test]
fn a_listing_cut_at_any_byte_is_an_error_and_never_shorter() {
    let bucket = Bucket::new("cut-listing", 5);
    assert_eq!(bucket.length().unwrap(), 5);
    let once = bucket.vault.with_patience(Patience { tries: 1, ..PATIENCE });
    let mut cut = 0;
    for bytes in (0..6000).step_by(37) {
        for fault in [Fault::CutAnswer(bytes), Fault::Shorten(bytes)] {
            bucket.proxy.on(On::List, "", When::At(1), fault.clone());
            let broken = bucket.proxy.broken();
            match once.list(&Prefix::all()) {
                Err(error) => {
                    cut += 1;
                    assert!(error.is_temporary(), "{error:?}");
                    assert_eq!(error.trouble(), Trouble::Connection, "{error:?}");
                }
                // The whole answer was shorter than the cut.
                Ok(listing) => assert_eq!(listing.objects.len(), 5, "{fault:?}"),
            }
            assert_eq!(bucket.proxy.broken(), broken + 1);
            bucket.proxy.heal();
        }
    }
    assert!(cut > 40, "only {cut} listings were cut");
    bucket.proxy.on(On::List, "", When::At(1), Fault::Shorten(500));
    assert_eq!(bucket.length().unwrap(), 5, "tried again from its beginning");
}

#[test]
fn a_listing_that_fails_on_its_second_page_is_an_error_and_never_its_first_page() {
    // A page has at most 1,000 names.
    let bucket = Bucket::new("paged", 1100);
    let asked = asked(&bucket, || assert_eq!(bucket.length().unwrap(), 1100));
    assert_eq!(asked, 2, "it comes in two pages");
    let faults = [Fault::code(500, "InternalError"), Fault::ResetBefore, Fault::CutAnswer(3000), Fault::Shorten(3000)];
    for fault in faults {
        bucket.proxy.on(On::List, "", When::At(2), fault.clone());
        assert_eq!(bucket.length().unwrap(), 1100, "{fault:?}: begun anew, nothing twice");
        bucket.proxy.heal();
        bucket.proxy.on(On::List, "continuation-token", When::From(1), fault.clone());
        assert!(bucket.length().is_err(), "{fault:?}");
        let mut seen = 0;
        let visited = bucket.vault.visit(&Prefix::all(), &mut |_| seen += 1);
        assert!(visited.is_err() && seen == 1000, "{fault:?}: {seen} names were handed on");
        bucket.proxy.heal();
    }
}

#[test]
fn what_is_no_listing_is_not_an_empty_one() {
    let bucket = Bucket::new("no-listing", 3);
    let html = "Content-Type: text/html\r\n";
    let pages = [
        Fault::Answer(200, "<html><body>Please log in</body></html>".into(), html),
        Fault::Answer(200, "<?xml version=\"1.0\"?><maintenance/>".into(), html),
        Fault::Answer(200, String::new(), ""),
        Fault::code(200, "InternalError"),
    ];
    for page in pages {
        bucket.proxy.on(On::List, "", When::From(1), page.clone());
        let error = bucket.length().unwrap_err();
        assert!(error.is_temporary(), "{page:?}: {error:?}");
        assert!(bucket.vault.nodes().is_err(), "{page:?}");
        bucket.proxy.heal();
        bucket.proxy.on(On::List, "", When::At(1), page);
        assert_eq!(bucket.length().unwrap(), 3);
        bucket.proxy.heal();
    }
}

#[test]
fn an_answer_from_another_address_counts_for_nothing() {
    let bucket = Bucket::new("sent-on", 3);
    let other = Bucket::new("sent-on-to", 0);
    let page = Fault::Answer(200, "<html>another server</html>".into(), "");
    other.proxy.on(On::Any, "/elsewhere", When::From(1), page);
    let location = format!("Location: http://127.0.0.1:{}/elsewhere\r\n", other.proxy.port());
    for status in [301, 302, 307] {
        let sent_on = Fault::Answer(status, String::new(), String::leak(location.clone()));
        let tries = asked(&bucket, || {
            for error in bucket.each(sent_on) {
                assert_eq!(error.trouble(), Trouble::Elsewhere, "{status}: {error:?}");
                assert!(error.hint().unwrap().contains("endpoint"), "{error:?}");
            }
        });
        assert_eq!(tries, 5, "{status}: asking again leads to the same place");
    }
    assert_eq!(other.proxy.seen().iter().filter(|seen| seen.path == "/elsewhere" && seen.on == On::Put).count(), 0);
}

#[test]
fn a_store_that_hangs_is_given_up_on_in_every_operation() {
    let mut bucket = Bucket::new("stalls", 1);
    let patient = bucket.vault.with_patience(PATIENCE);
    let wait = |milliseconds| {
        let wait = Duration::from_millis(milliseconds);
        Patience { control: wait, transfer: wait, ..PATIENCE }
    };
    bucket.vault = patient.with_patience(wait(100));
    for error in bucket.each(Fault::Stall) {
        assert!(matches!(&error, VaultError::TimedOut { tries: 2, .. }), "{error:?}");
        assert!(error.is_temporary() && error.hint().is_some());
    }
    // One that hangs once is asked again. Many tries, because a busy machine may take longer than this as well.
    let vault = patient.with_patience(Patience { tries: 20, pause: Duration::ZERO, ..wait(500) });
    for on in [On::Put, On::Get, On::Look, On::List] {
        bucket.proxy.on(on, "", When::At(1), Fault::Stall);
    }
    vault.put(&key(0), &content(0)).unwrap();
    assert_eq!(vault.get(&key(0), 10_000).unwrap(), content(0));
    assert!(vault.look(&key(0)).unwrap().is_some());
    assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), 1);
}

#[test]
fn what_may_pass_is_tried_again_and_what_stays_is_asked_once() {
    let bucket = Bucket::new("classes", 1);
    let expect = |fault: Fault, trouble: Trouble, tries: u64, hint: &str| {
        let mut errors = Vec::new();
        let count = asked(&bucket, || errors = bucket.each(fault.clone()));
        assert_eq!(count, 5 * tries, "{fault:?}");
        for error in errors {
            // An answer to a look has no text, and so no code.
            let is_look = error.to_string().contains("cannot look at");
            assert!(error.trouble() == trouble || is_look, "{fault:?}: {error:?}");
            assert_eq!(error.is_temporary(), tries > 1, "{fault:?}: {error:?}");
            assert!(error.hint().is_some_and(|text| text.contains(hint)) || is_look, "{fault:?}: {:?}", error.hint());
            let said = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(!said.contains("Parts {") && said.len() < 150, "it can be read by a person: {said}");
        }
    };
    expect(Fault::ResetBefore, Trouble::Connection, 2, "reaches the endpoint");
    expect(Fault::ResetAfter, Trouble::Connection, 2, "reaches the endpoint");
    expect(Fault::code(500, "InternalError"), Trouble::Store, 2, "fails by itself");
    expect(Fault::Answer(502, "<html>Bad gateway</html>".into(), ""), Trouble::Store, 2, "fails by itself");
    expect(Fault::slow_down(), Trouble::Busy, 2, "bandwidth");
    expect(Fault::code(429, "TooManyRequests"), Trouble::Busy, 2, "bandwidth");
    expect(Fault::code(403, "AccessDenied"), Trouble::Denied, 1, "credentials");
    expect(Fault::code(403, "SignatureDoesNotMatch"), Trouble::Denied, 1, "credentials");
    expect(Fault::code(403, "RequestTimeTooSkewed"), Trouble::Clock, 1, "clock");
    expect(Fault::code(301, "PermanentRedirect"), Trouble::Elsewhere, 1, "region");
    expect(Fault::code(400, "AuthorizationHeaderMalformed"), Trouble::Elsewhere, 1, "region");
    expect(Fault::code(507, "InsufficientStorage"), Trouble::Full, 1, "free space");
}

#[test]
fn over_a_way_that_breaks_by_chance_everything_gets_through_whole() {
    const OBJECTS: u32 = 60;
    let bucket = Bucket::new("chance", 0);
    let seed = 0xc4a2_ce00;
    println!("seed {seed:#x}");
    let faults = [
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::CutRequest(300),
        Fault::CutAnswer(50),
        Fault::code(500, "InternalError"),
        Fault::slow_down(),
    ];
    for (fault, n) in faults.into_iter().zip(0..) {
        bucket.proxy.on(On::Any, "", When::Chance(seed + n, 8), fault);
    }
    let wait = Duration::from_secs(60);
    let vault =
        bucket.vault.with_patience(Patience { tries: 100, pause: Duration::ZERO, control: wait, transfer: wait });
    for n in 0..OBJECTS {
        vault.put(&key(n), &content(n)).unwrap();
        assert_eq!(vault.get(&key(n), 10_000).unwrap(), content(n));
        assert_eq!(vault.length(&key(n)).unwrap(), Some(content(n).len() as u64));
        assert_eq!(vault.list(&Prefix::all()).unwrap().objects.len(), n as usize + 1);
    }
    assert!(bucket.proxy.broken() > u64::from(OBJECTS), "only {} requests were broken", bucket.proxy.broken());
    bucket.proxy.heal();
    let all = bucket.vault.list(&Prefix::all()).unwrap();
    assert!(all.objects.iter().all(|listed| bucket.vault.get(&listed.key, 10_000).unwrap().len() == 800));
}
