//! A faulty proxy on loopback, in front of a real store: it hands whole requests and answers on and can be told to
//! break some of them, in the ways in which networks and stores do. The program's own client is on one side and the
//! real store on the other. It changes no header, so that signatures stay good.

use super::closing::hang_up;
use super::faulty::On;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ports that are tried: below those that the system gives to outgoing connections, so that one that is closed for a
/// while is not taken by somebody else.
const PORTS: std::ops::Range<u16> = 21_000..31_000;
/// Longest head of a request or an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How a request is broken.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset, and the store never sees the request.
    ResetBefore,
    /// The store does what is asked; the connection is reset before the answer.
    ResetAfter,
    /// The store gets only so many bytes of the request's body, then both connections break.
    CutRequest(usize),
    /// The store does what is asked; so many bytes of its answer's body come, though its head says more.
    CutAnswer(usize),
    /// The same, and the head says that this is all.
    Shorten(usize),
    /// The store is not asked. This status comes, with this text and these lines in the head.
    Answer(u16, String, &'static str),
    /// The store is not asked, and no byte comes until the client goes away.
    Stall,
}

impl Fault {
    /// An answer as S3 gives it for this code.
    pub(crate) fn code(status: u16, code: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>made up by a test</Message>\
             <Resource>/</Resource><RequestId>1</RequestId></Error>"
        );
        Self::Answer(status, text, "Content-Type: application/xml\r\n")
    }

    /// The store asks to slow down.
    pub(crate) fn slow_down() -> Self {
        let Self::Answer(status, text, _) = Self::code(503, "SlowDown") else { unreachable!() };
        Self::Answer(status, text, "Content-Type: application/xml\r\nRetry-After: 1\r\n")
    }
}

/// Which of the requests that fit: counted from 1, from the moment the rule was set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Only this one.
    At(u64),
    /// This one and all after it.
    From(u64),
    /// Each with this chance in a hundred; the seed makes the choice repeatable.
    Chance(u64, u64),
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What it asked for.
    pub(crate) on: On,
    /// The path, with the bucket; without the query.
    pub(crate) path: String,
    /// Whether the store answered it with success, and the client got the whole answer.
    pub(crate) is_done: bool,
}

struct Rule {
    on: On,
    path: String,
    when: When,
    fault: Fault,
    count: u64,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<(SocketAddr, TcpStream)>>,
    asked: AtomicU64,
    broken: AtomicU64,
    is_closed: AtomicBool,
}

/// The proxy; ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    upstream: u16,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// A proxy before the store at this port of loopback, with no fault.
    pub(crate) fn before(upstream: u16) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let span = u64::from(PORTS.end - PORTS.start);
        for _ in 0..span {
            let offset = (u64::from(std::process::id()) * 61 + NEXT.fetch_add(1, Ordering::SeqCst)) % span;
            let port = PORTS.start + u16::try_from(offset).unwrap();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                let shared = Arc::new(Shared::default());
                let proxy = Self { port, upstream, shared, listening: Mutex::new(None) };
                proxy.listen(listener);
                return proxy;
            }
        }
        panic!("no port is free between {} and {}", PORTS.start, PORTS.end);
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Breaks requests of this kind whose path has this text in it, or at its end when the text ends in `$`.
    pub(crate) fn on(&self, on: On, path: &str, when: When, fault: Fault) {
        let rule = Rule { on, path: path.to_owned(), when, fault, count: 0 };
        lock(&self.shared.rules).push(rule);
    }

    /// Breaks nothing any more.
    pub(crate) fn heal(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Refuses connections, and ends those there are.
    pub(crate) fn close(&self) {
        let Some(listening) = lock(&self.listening).take() else { return };
        self.shared.is_closed.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        listening.join().unwrap();
        for (_, stream) in lock(&self.shared.open).drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Listens again, at the same port.
    pub(crate) fn open(&self) {
        self.listen(TcpListener::bind(("127.0.0.1", self.port)).unwrap());
    }

    /// How many requests began.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// How many requests were broken.
    pub(crate) fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// All requests that came, in order of their end.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests of this kind came whose path fits this text.
    pub(crate) fn count(&self, on: On, path: &str) -> usize {
        self.seen().iter().filter(|seen| (on == On::Any || seen.on == on) && fits(&seen.path, path)).count()
    }

    fn listen(&self, listener: TcpListener) {
        self.shared.is_closed.store(false, Ordering::SeqCst);
        let (shared, upstream) = (Arc::clone(&self.shared), self.upstream);
        let accept = move || {
            for client in listener.incoming() {
                if shared.is_closed.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                let peer = client.peer_addr().unwrap();
                lock(&shared.open).extend(client.try_clone().map(|client| (peer, client)));
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut client = client;
                    // A side that goes away ends the connection; what was asked then counts as not done.
                    while let Ok(true) = serve(&mut client, upstream, &shared) {}
                    lock(&shared.open).retain(|(other, _)| other != &peer);
                });
            }
            hang_up(listener);
        };
        *lock(&self.listening) = Some(std::thread::spawn(accept));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

/// The head of a message, and how many bytes follow it.
struct Head {
    bytes: Vec<u8>,
    text: String,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    fn length(&self) -> usize {
        self.header("content-length").map_or(0, |length| length.parse().unwrap())
    }

    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

/// Serves one request; false when the connection must end.
fn serve(client: &mut TcpStream, upstream: u16, shared: &Shared) -> io::Result<bool> {
    let Some(head) = peek_head(client)? else { return Ok(false) };
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let (on, path) = what(&head.text);
    let fault = choose(shared, on, &path);
    if fault.is_some() {
        shared.broken.fetch_add(1, Ordering::SeqCst);
    }
    let outcome = answer(client, upstream, &head, on, fault.as_ref());
    let is_done = matches!(&outcome, Ok((_, true)));
    lock(&shared.seen).push(Seen { on, path, is_done });
    outcome.map(|(goes_on, _)| goes_on)
}

/// Gives whether the connection goes on, and whether the client got a whole answer that says success.
fn answer(
    client: &mut TcpStream,
    upstream: u16,
    head: &Head,
    on: On,
    fault: Option<&Fault>,
) -> io::Result<(bool, bool)> {
    let total = head.bytes.len() + head.length();
    if let Some(goes_on) = without_store(client, total, on, fault)? {
        return Ok((goes_on, false));
    }
    let mut store = TcpStream::connect(("127.0.0.1", upstream))?;
    if let Some(Fault::CutRequest(bytes)) = fault {
        let request = read_exact(client, head.bytes.len() + head.length().min(*bytes))?;
        store.write_all(&request)?;
        store.shutdown(Shutdown::Write)?;
        // The store says what it thinks of that, and nobody listens.
        drop(store.read_to_end(&mut Vec::new()));
        return Ok((false, false));
    }
    let kept_back = usize::from(matches!(fault, Some(Fault::ResetAfter)));
    let mut request = read_exact(client, total - kept_back)?;
    if kept_back > 0 {
        // Read, but left where it was, so that closing resets the connection.
        let mut last = [0];
        if client.peek(&mut last)? == 0 {
            return Ok((false, false));
        }
        request.push(last[0]);
    }
    store.write_all(&request)?;
    let (answer_head, body) = read_answer(&mut store, on)?;
    let is_success = (200..300).contains(&answer_head.status());
    match fault {
        Some(Fault::ResetAfter) => return Ok((false, false)),
        Some(Fault::CutAnswer(bytes)) if body.len() > *bytes => {
            client.write_all(&answer_head.bytes)?;
            client.write_all(&body[..*bytes])?;
            return Ok((false, false));
        }
        Some(Fault::Shorten(bytes)) if body.len() > *bytes => {
            let lines =
                answer_head.text.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
            let kept: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
            client.write_all(format!("{}\r\nContent-Length: {bytes}\r\n\r\n", kept.join("\r\n")).as_bytes())?;
            client.write_all(&body[..*bytes])?;
            return Ok((true, false));
        }
        _ => {}
    }
    client.write_all(&answer_head.bytes)?;
    client.write_all(&body)?;
    Ok((true, is_success))
}

/// Answers in the store's stead where the fault says so. Gives whether the connection goes on; none where the store is
/// asked.
fn without_store(client: &mut TcpStream, total: usize, on: On, fault: Option<&Fault>) -> io::Result<Option<bool>> {
    match fault {
        // What was not read when a connection is closed makes the system reset it.
        Some(Fault::ResetBefore) => Ok(Some(false)),
        Some(Fault::Stall) => {
            read_exact(client, total)?;
            // Ends when the client gives up, or the proxy is closed.
            client.read_exact(&mut [0])?;
            Ok(Some(false))
        }
        Some(Fault::Answer(status, text, more)) => {
            read_exact(client, total)?;
            let body = if on == On::Look { "" } else { text };
            let length = text.len();
            let said = format!("HTTP/1.1 {status} Made Up\r\n{more}Content-Length: {length}\r\n\r\n{body}");
            client.write_all(said.as_bytes())?;
            Ok(Some(true))
        }
        _ => Ok(None),
    }
}

/// What a request asks for: S3 has one method for objects and listings, and another for one removal and many.
fn what(head: &str) -> (On, String) {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let on = match method {
        "PUT" => On::Put,
        "HEAD" => On::Look,
        "DELETE" | "POST" => On::Remove,
        _ if query.contains("list-type") => On::List,
        _ => On::Get,
    };
    // A listing says in its query what it lists.
    let path = if on == On::List { target } else { path };
    (on, path.replace("%2F", "/"))
}

fn choose(shared: &Shared, on: On, path: &str) -> Option<Fault> {
    let mut chosen = None;
    for rule in lock(&shared.rules).iter_mut() {
        if (rule.on != On::Any && rule.on != on) || !fits(path, &rule.path) {
            continue;
        }
        rule.count += 1;
        let is_hit = match rule.when {
            When::At(n) => rule.count == n,
            When::From(n) => rule.count >= n,
            When::Chance(seed, of_hundred) => scatter(seed, rule.count) % 100 < of_hundred,
        };
        if is_hit {
            chosen.get_or_insert_with(|| rule.fault.clone());
        }
    }
    chosen
}

/// Whether a path has this text in it; at its end, when the text ends in `$`.
pub(crate) fn fits(path: &str, text: &str) -> bool {
    text.strip_suffix('$').map_or_else(|| path.contains(text), |end| path.ends_with(end))
}

/// A number that follows from both and looks like chance.
pub(crate) fn scatter(seed: u64, count: u64) -> u64 {
    let mut value = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Waits for a whole head and leaves it unread; none when the connection ends instead.
fn peek_head(stream: &TcpStream) -> io::Result<Option<Head>> {
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    loop {
        let length = stream.peek(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        if let Some(end) = end_of_head(&buffer[..length]) {
            buffer.truncate(end);
            let text = String::from_utf8_lossy(&buffer).into_owned();
            return Ok(Some(Head { bytes: buffer, text }));
        }
        assert!(length < HEAD_BYTES_MAX, "a head of more than {HEAD_BYTES_MAX} bytes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn read_exact(stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads the store's whole answer; its body may come in chunks, which are kept as they are.
fn read_answer(store: &mut TcpStream, on: On) -> io::Result<(Head, Vec<u8>)> {
    let head = peek_head(store)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    store.read_exact(&mut vec![0; head.bytes.len()])?;
    if on == On::Look || matches!(head.status(), 204 | 304) {
        return Ok((head, Vec::new()));
    }
    if !head.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        let body = read_exact(store, head.length())?;
        return Ok((head, body));
    }
    let mut body = Vec::new();
    loop {
        let begin = body.len();
        while !body[begin..].ends_with(b"\r\n") {
            body.extend(read_exact(store, 1)?);
        }
        let size = String::from_utf8_lossy(&body[begin..]).trim().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap();
        body.extend(read_exact(store, size + 2)?);
        if size == 0 {
            return Ok((head, body));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
