//! One message to a web address, and what came of it: to addresses that the caller chose, with the address's own name
//! for `Host` and TLS. Nothing is followed, no proxy is asked, and of the answer only its head is looked at. What may
//! be secret in a web address (user, password, query, fragment) is in no message, no `Debug` and no error.
//!
//! A proxy of the environment is passed over on purpose. It would be the operator's, not that of BTCPay Server's unit,
//! it would choose the address itself, and it would see the query of an address that is not encrypted.

use crate::base::limits::{DELIVERY_CONNECT_WAIT, DELIVERY_WAIT};
use crate::base::secret::Secret;
use reqwest::blocking::Client;
use reqwest::{StatusCode, Url, redirect};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Longest part of what an error or another machine says that is shown, in characters.
const SAID_CHARS_MAX: usize = 200;

/// Where something is delivered: an address of http or https.
#[derive(Clone)]
pub struct WebAddress(Url);

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebAddress").field(&self.shown()).finish()
    }
}

/// What is sent, beside `Content-Type: application/json`.
#[derive(Debug)]
pub struct Message<'a> {
    /// A header of its own, by name and value.
    pub header: (&'static str, &'a str),
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered.
    Answered {
        /// Who did.
        by: Option<IpAddr>,
        /// The status code.
        status: u16,
        /// Where the answer points to, without what may be secret in it.
        leads_to: Option<String>,
    },
    /// Nobody did.
    Failed {
        /// How far it came.
        how: Failure,
        /// What the system or the library says, without the address.
        said: String,
    },
}

/// How far a delivery came that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection.
    Connection,
    /// There was one, and its certificate is not right.
    Certificate,
    /// The message was sent, and the time ended before an answer came.
    Time,
    /// The connection was ended instead of an answer.
    Answer,
    /// Nothing left this machine.
    Sending,
}

/// How long a delivery may take.
#[derive(Clone, Copy, Debug)]
struct Waits {
    connect: Duration,
    total: Duration,
}

impl WebAddress {
    /// Reads an address. User and password in it are dropped, as BTCPay Server's client does: it sends neither. The
    /// error is the end of a sentence, and shows nothing of the text.
    pub fn parse(text: &Secret) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| "is not text")?;
        let mut url = Url::parse(text).map_err(|_| "is not one that can be read")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is neither http nor https");
        }
        let is_bare = url.set_username("").and_then(|()| url.set_password(None)).is_ok();
        url.set_fragment(None);
        if !is_bare || url.host_str().is_none_or(str::is_empty) {
            return Err("names no host");
        }
        Ok(Self(url))
    }

    /// The host: a name in ASCII, or an IP address without brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it can be reached through Tor only.
    pub fn is_onion(&self) -> bool {
        self.host().trim_end_matches('.').ends_with(".onion")
    }

    /// The address without its query.
    pub fn shown(&self) -> String {
        let mut url = self.0.clone();
        url.set_query(None);
        url.into()
    }

    /// Sends the message by POST to the first of these IP addresses that takes a connection; a host that is itself an
    /// IP address is taken instead. At most [`DELIVERY_CONNECT_WAIT`] for the connection and [`DELIVERY_WAIT`] in all.
    pub fn post(&self, message: &Message<'_>, to: &[IpAddr]) -> Outcome {
        self.post_within(message, to, Waits { connect: DELIVERY_CONNECT_WAIT, total: DELIVERY_WAIT })
    }

    fn post_within(&self, message: &Message<'_>, to: &[IpAddr], waits: Waits) -> Outcome {
        let port = self.0.port_or_known_default().unwrap_or_default();
        let places: Vec<SocketAddr> = to.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(waits.connect)
            .timeout(waits.total)
            .user_agent(concat!("relay-backup/", env!("CARGO_PKG_VERSION")))
            .resolve_to_addrs(self.0.host_str().unwrap_or_default(), &places)
            .tls_danger_accept_invalid_certs(self.is_loopback(to))
            .build();
        let request = client.map(|client| {
            let request = client.post(self.0.clone()).header("Content-Type", "application/json");
            let (name, value) = message.header;
            request.header(name, value).body(message.body.to_vec())
        });
        match request.map(|request| request.send()) {
            Err(error) => Outcome::Failed { how: Failure::Sending, said: innermost(&error) },
            Ok(Err(error)) => failed(&error, waits),
            // The body is not read: it is not ours, and could be without end.
            Ok(Ok(answer)) => Outcome::Answered {
                by: answer.remote_addr().map(|by| by.ip()),
                status: answer.status().as_u16(),
                leads_to: self
                    .leads_to(answer.status(), answer.headers().get("location").map(|place| place.as_bytes())),
            },
        }
    }

    /// Whether it is this machine itself: there BTCPay Server believes any certificate, and so does a test.
    fn is_loopback(&self, to: &[IpAddr]) -> bool {
        let host = self.host().parse::<IpAddr>();
        host.is_ok_and(|host| host.is_loopback())
            || (self.host() == "localhost" && to.iter().all(|address| address.is_loopback()))
    }

    fn leads_to(&self, status: StatusCode, place: Option<&[u8]>) -> Option<String> {
        let place = std::str::from_utf8(place.filter(|_| status.is_redirection())?).ok()?;
        let mut url = self.0.join(place).ok()?;
        // An address without a host cannot hold a user.
        _ = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        Some(printable(&Self(url).shown()))
    }
}

impl Outcome {
    /// Whether the receiver said that it took the message.
    pub fn is_arrived(&self) -> bool {
        matches!(self, Self::Answered { status: 200..=299, .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, status, leads_to) = match self {
            Self::Answered { by, status, leads_to } => (by, status, leads_to),
            Self::Failed { how, said } => return write!(f, "{how}: {said}"),
        };
        f.write_str(match status {
            200..=299 => "arrived",
            401 | 403 => "refused",
            300..=399 => "sent on elsewhere",
            _ => "not taken",
        })?;
        match by {
            Some(by) => write!(f, ", {by} answered {status}")?,
            None => write!(f, ", the answer was {status}")?,
        }
        match leads_to {
            Some(place) => write!(f, " and points to {place}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "no connection",
            Self::Certificate => "the certificate is not right",
            Self::Time => "no answer",
            Self::Answer => "hung up on without an answer",
            Self::Sending => "could not be sent from here",
        })
    }
}

fn failed(error: &reqwest::Error, waits: Waits) -> Outcome {
    let said = innermost(error);
    let (how, said) = match (error.is_connect(), error.is_timeout()) {
        (true, true) => (Failure::Connection, format!("not within {} s", waits.connect.as_secs())),
        (false, true) => (Failure::Time, format!("not within {} s", waits.total.as_secs())),
        // Only the text tells: the type of the error is that of a crate two layers below.
        (true, false) if said.contains("certificate") => (Failure::Certificate, said),
        (true, false) => (Failure::Connection, said),
        (false, false) => (Failure::Answer, said),
    };
    Outcome::Failed { how, said }
}

/// The cause of causes: those above it may name the whole address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut said = None;
    while let Some(inner) = cause {
        // reqwest's own errors name the address, whatever their place in the chain.
        if !inner.is::<reqwest::Error>() {
            said = Some(inner.to_string());
        }
        cause = inner.source();
    }
    said.map_or_else(|| "the client does not say why".to_owned(), |said| printable(&said))
}

fn printable(text: &str) -> String {
    text.chars()
        .take(SAID_CHARS_MAX)
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}

#[cfg(test)]
mod tests;
