//! What a name means: to this host's resolver, and to the servers of the name's own zone.

use super::or_none;
use crate::base::exec::{self, Exec};
use crate::engine::error::chain;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};

/// How many aliases are followed, one to the next; resolvers follow about as many.
const ALIASES_MAX: usize = 8;

/// A host and where it is said to be.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// The host.
    pub(super) host: String,
    /// What this host's resolver says; why it has no answer.
    pub(super) here: Result<BTreeSet<IpAddr>, String>,
    /// What the zone's own server says.
    pub(super) there: There,
}

/// What those say that have the authority over a name.
#[derive(Clone, Debug)]
pub(super) enum There {
    /// An address needs nobody who says where it is.
    NotNeeded,
    /// A server of the zone, and its addresses.
    Says(String, BTreeSet<IpAddr>),
    /// Nobody was asked; why.
    Unknown(String),
}

/// Asks both.
pub(super) fn look(host: &str) -> Named {
    let host = host.to_owned();
    if host.trim_end_matches('.').ends_with(".onion") {
        // To ask for it would tell everybody on the way which one is meant.
        let why = "a name of Tor, which no resolver is asked for".to_owned();
        return Named { host, here: Err(why.clone()), there: There::Unknown(why) };
    }
    let here = (host.as_str(), 443).to_socket_addrs();
    let here = here.map(|found| found.map(|address| address.ip()).collect()).map_err(|error| chain(&error));
    let there = match host.parse::<IpAddr>() {
        Ok(_) => There::NotNeeded,
        Err(_) => match authoritative(&host) {
            Ok((server, addresses)) => There::Says(server, addresses),
            Err(why) => There::Unknown(why),
        },
    };
    Named { host, here, there }
}

impl Named {
    /// Addresses that this host's resolver knows.
    pub(super) fn known(&self) -> Vec<IpAddr> {
        self.here.iter().flatten().copied().collect()
    }

    /// Addresses that only the authoritative server names.
    pub(super) fn unknown_here(&self) -> Vec<IpAddr> {
        let known = self.known();
        match &self.there {
            There::Says(_, addresses) => addresses.iter().filter(|one| !known.contains(one)).copied().collect(),
            There::NotNeeded | There::Unknown(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.here {
            Ok(here) => write!(f, "{}: this host's resolver says {}", self.host, shown(here))?,
            Err(error) => write!(f, "{}: this host's resolver has no answer ({error})", self.host)?,
        }
        match &self.there {
            There::NotNeeded => f.write_str("; it is an address and needs no name server"),
            There::Says(server, there) if self.here.as_ref().is_ok_and(|here| here == there) => {
                write!(f, "; so does {server}, which has the authority")
            }
            There::Says(server, there) => {
                write!(f, "; {server}, which has the authority, DIFFERS: {}", shown(there))
            }
            There::Unknown(why) => write!(f, "; nobody with authority was asked: {why}"),
        }
    }
}

/// Addresses, as a list in one line.
pub(super) fn shown<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    or_none(addresses.into_iter().map(ToString::to_string).collect()).join(", ")
}

/// What a name server of the name's own zone says: the server and the addresses. An alias is followed to its zone. The
/// error is a sentence.
fn authoritative(host: &str) -> Result<(String, BTreeSet<IpAddr>), String> {
    let dig = exec::find("dig", &["/run/current-system/sw/bin".into()]).map_err(|error| chain(&error))?;
    let ask = |arguments: &[&str]| {
        let said = Exec::new(&dig).args(["+short", "+time=3", "+tries=1"]).args(arguments).run(b"");
        let said = said.map_err(|error| chain(&error))?;
        let lines = String::from_utf8_lossy(&said);
        // Remarks begin with a semicolon.
        Ok::<Vec<String>, String>(lines.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect())
    };
    let mut name = host.to_owned();
    for _ in 0..ALIASES_MAX {
        // The name comes out of a database or from somebody's server: nothing but a name may become an argument.
        let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
        if !is_plain || name.starts_with('-') {
            return Err("it is no name".to_owned());
        }
        let server = server_of(&name, &ask)?;
        let at = format!("@{server}");
        let mut said = ask(&["+norecurse", &at, &name, "A"])?;
        said.extend(ask(&["+norecurse", &at, &name, "AAAA"])?);
        let addresses: BTreeSet<IpAddr> = said.iter().filter_map(|line| line.parse().ok()).collect();
        match said.last() {
            Some(alias) if addresses.is_empty() => name = alias.trim_end_matches('.').to_owned(),
            _ => return Ok((server, addresses)),
        }
    }
    Err("its aliases do not end".to_owned())
}

/// The first name server of the zone that a name lies in.
fn server_of(name: &str, ask: &impl Fn(&[&str]) -> Result<Vec<String>, String>) -> Result<String, String> {
    let mut zone = name;
    loop {
        // Of a name below its zone the answer is empty; the zone itself names its servers. An alias would be answered
        // with what it stands for, and is never a zone.
        if ask(&[zone, "CNAME"])?.is_empty()
            && let Some(server) = ask(&[zone, "NS"])?.first()
        {
            return Ok(server.trim_end_matches('.').to_owned());
        }
        zone = zone
            .split_once('.')
            .map(|(_, rest)| rest)
            .filter(|rest| rest.contains('.'))
            .ok_or("no name server was found")?;
    }
}
