//! Deliveries to real sockets on loopback, with and without TLS.

use super::*;
use crate::base::tests::hang_up;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WAITS: Waits = Waits { connect: DELIVERY_CONNECT_WAIT, total: DELIVERY_WAIT };

/// Reads one request: its head and its body.
fn request(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Answers every request on a port of loopback with these bytes; gives what was asked.
fn serve(answer: &'static str) -> (u16, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            sender.send(request(&mut stream)).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (port, receiver)
}

/// A server that speaks TLS as `shop.invalid`, by a certificate that nobody here trusts, and takes everything.
fn serve_tls() -> u16 {
    let read = |name: &str| std::fs::read(format!("tests/fixtures/tls/{name}")).unwrap();
    let certificate = CertificateDer::from(read("shop.der"));
    let key = PrivateKeyDer::try_from(read("shop.key.der")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // Whoever does not believe the certificate hangs up.
            if stream.read(&mut [0; 4096]).is_ok() {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            }
        }
    });
    port
}

fn address(text: &str) -> WebAddress {
    WebAddress::parse(&Secret::from(text.to_owned())).unwrap()
}

fn post(text: &str) -> Outcome {
    address(text).post(&Message { header: ("BTCPay-Sig", "sha256=00"), body: b"{\"a\": 1}" }, &[HERE])
}

fn answered(status: u16, leads_to: Option<&str>) -> Outcome {
    Outcome::Answered { by: Some(HERE), status, leads_to: leads_to.map(str::to_owned) }
}

#[test]
fn the_message_arrives_at_the_address_that_was_chosen_with_the_name_in_it() {
    let (port, asked) = serve("HTTP/1.1 204 No Content\r\n\r\n");
    let outcome = post(&format!("http://user:hunter2@shop.invalid:{port}/hook/1?token=hush#part"));
    assert_eq!(outcome, answered(204, None));
    assert!(outcome.is_arrived());
    assert_eq!(outcome.to_string(), "arrived, 127.0.0.1 answered 204");
    let (head, body) = asked.recv().unwrap();
    assert!(head.starts_with("POST /hook/1?token=hush HTTP/1.1\r\n"), "{head}");
    let lower = head.to_lowercase();
    for line in [&format!("host: shop.invalid:{port}"), "content-type: application/json", "btcpay-sig: sha256=00"] {
        assert!(lower.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert!(lower.contains("user-agent: relay-backup/") && !lower.contains("authorization"), "{head}");
    assert_eq!(body, b"{\"a\": 1}");
}

#[test]
fn what_is_sent_on_is_not_followed_and_told_without_what_may_be_secret() {
    let (port, asked) = serve("HTTP/1.1 302 Found\r\nLocation: //u:p@other.invalid/there?session=hush#x\r\n\r\n");
    let outcome = post(&format!("http://shop.invalid:{port}/hook"));
    assert_eq!(outcome, answered(302, Some("http://other.invalid/there")));
    assert!(!outcome.is_arrived() && outcome.to_string().contains("sent on elsewhere, 127.0.0.1 answered 302"));
    assert_eq!(asked.try_iter().count(), 1);
    let (port, _asked) = serve("HTTP/1.1 307 Temporary Redirect\r\nLocation: /b\u{1}\r\n\r\n");
    let outcome = post(&format!("http://shop.invalid:{port}/a"));
    assert!(!outcome.to_string().contains('\u{1}'), "{outcome}");
}

#[test]
fn what_the_shop_says_is_told_by_its_status_alone() {
    let (port, _asked) = serve("HTTP/1.1 401 Unauthorized\r\nContent-Length: 999999999\r\n\r\nLEAK");
    let outcome = post(&format!("http://shop.invalid:{port}/"));
    assert_eq!(outcome.to_string(), "refused, 127.0.0.1 answered 401");
    let (port, _asked) = serve("HTTP/1.1 500 LEAK\r\nContent-Length: 4\r\n\r\nLEAK");
    let outcome = post(&format!("http://shop.invalid:{port}/"));
    assert_eq!(outcome.to_string(), "not taken, 127.0.0.1 answered 500");
}

#[test]
fn without_an_answer_it_is_told_how_far_it_came_and_nothing_of_the_address() {
    let (port, _asked) = serve("");
    let hung_up = post(&format!("http://shop.invalid:{port}/?token=hush"));
    assert!(matches!(hung_up, Outcome::Failed { how: Failure::Answer, .. }), "{hung_up:?}");
    let gone = TcpListener::bind((HERE, 0)).unwrap();
    let free = gone.local_addr().unwrap().port();
    hang_up(gone);
    let refused = post(&format!("http://shop.invalid:{free}/?token=hush"));
    assert!(matches!(refused, Outcome::Failed { how: Failure::Connection, .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("no connection: Connection refused"), "{refused}");
    // It takes the connection and says nothing: the system does that for a listener that nobody serves.
    let silent = TcpListener::bind((HERE, 0)).unwrap();
    let late = address(&format!("http://shop.invalid:{}/?token=hush", silent.local_addr().unwrap().port()));
    let waits = Waits { total: Duration::from_millis(200), ..WAITS };
    let late = late.post_within(&Message { header: ("x", "y"), body: b"" }, &[HERE], waits);
    assert!(matches!(late, Outcome::Failed { how: Failure::Time, .. }), "{late:?}");
    for outcome in [&hung_up, &refused, &late] {
        assert!(!format!("{outcome} {outcome:?}").contains("hush"), "{outcome:?}");
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_ends_it_but_on_this_machine_itself() {
    let port = serve_tls();
    let outcome = post(&format!("https://shop.invalid:{port}/?token=hush"));
    assert!(matches!(outcome, Outcome::Failed { how: Failure::Certificate, .. }), "{outcome:?}");
    assert!(!format!("{outcome}").contains("hush"), "{outcome}");
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(post(&format!("https://{host}:{port}/")), answered(204, None), "as BTCPay Server does");
    }
    let (port, _asked) = serve("HTTP/1.1 204 No Content\r\n\r\n");
    let elsewhere = address(&format!("https://localhost:{port}/"));
    assert!(!elsewhere.is_loopback(&[HERE, "192.0.2.1".parse().unwrap()]), "the name alone is not enough");
}

#[test]
fn only_web_addresses_are_taken_and_shown_without_secrets() {
    for (text, why) in [
        ("ftp://shop.example/", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("hush", "not one that can be read"),
        ("http://", "not one that can be read"),
        ("", "not one that can be read"),
    ] {
        let error = WebAddress::parse(&Secret::from(text.to_owned())).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    for (text, shown, host) in [
        ("https://u:p@shop.example:8443/hook/1?token=x#y", "https://shop.example:8443/hook/1", "shop.example"),
        ("https://[2001:db8::1]:99/?x", "https://[2001:db8::1]:99/", "2001:db8::1"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ] {
        let address = address(text);
        assert_eq!((address.shown().as_str(), address.host()), (shown, host));
        assert_eq!(format!("{address:?}"), format!("WebAddress({shown:?})"));
    }
    assert!(address("http://abc.onion/x").is_onion() && !address("http://onion.example/x").is_onion());
}
