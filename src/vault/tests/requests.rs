//! What goes over the wire to a bucket, seen by a server on loopback that takes everything and writes down what it was
//! asked. It is no store: nothing can be read back.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

/// A request: its first line without the version, and how many bytes its body had.
type Request = (String, u64);

/// Serves until the process ends; gives the endpoint and what was asked so far.
fn server() -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let noted = noted.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &noted));
        }
    });
    (endpoint, seen)
}

/// Answers every request of one connection with an empty yes.
fn serve(stream: TcpStream, noted: &Mutex<Vec<Request>>) {
    let mut out = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                _ if first.is_empty() => line.trim_end().trim_end_matches(" HTTP/1.1").clone_into(&mut first),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let read = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
        noted.lock().unwrap().push((first, read));
        out.write_all(b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

fn bucket(endpoint: String) -> (tempfile::TempDir, Vault) {
    let url = VaultUrl::S3 {
        bucket: "bucket".to_owned(),
        prefix: "prefix".to_owned(),
        endpoint: Some(endpoint),
        region: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    let text = b"access_key_id = \"GK1\"\nsecret_access_key = \"hush\"\n";
    crate::base::fsio::create_durably(&credentials, text, 0o600).unwrap();
    let vault = Vault::open_url(name(), &url, Some(&credentials)).unwrap();
    (folder, vault)
}

#[test]
fn every_object_is_one_request_however_long_it_is() {
    let (endpoint, seen) = server();
    let (_folder, vault) = bucket(endpoint);
    // The last is longer than any part that S3 clients cut uploads into by default.
    let lengths = [0, 1, limits::SEGMENT_BYTES_MAX, limits::OBJECT_BYTES_MAX, 96 << 20];
    for length in lengths {
        vault.put(&segment(b"content"), &vec![7; length]).unwrap();
    }
    let line = format!("PUT /bucket/prefix/{}", segment(b"content"));
    let expected: Vec<Request> = lengths.iter().map(|length| (line.clone(), *length as u64)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}
