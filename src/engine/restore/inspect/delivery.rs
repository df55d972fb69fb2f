//! A test event to each webhook: to where this host's resolver leads, and to where only the authoritative server does.
//! Nothing is sent before a person has said yes to the whole list.

use super::dns::{self, Named, There};
use super::{btcpay_databases, or_none};
use crate::base::secret::Secret;
use crate::engine::Error;
use crate::engine::progress::Event;
use crate::engine::restore::apply::Applier;
use crate::sources::postgres::restore::btcpay::{self, CHANCE_BYTES, Endpoint, SIGNATURE};
use crate::target::delivery::{Failure, Message, Outcome, WebAddress};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A webhook, and where a test would go; why none would.
pub(super) struct Webhook {
    endpoint: Endpoint,
    to: Result<(WebAddress, &'static str), String>,
}

/// Every webhook of BTCPay Server's databases.
pub(super) fn webhooks(applier: &Applier<'_>) -> Result<Vec<Webhook>, Error> {
    let mut found = Vec::new();
    for server in btcpay_databases(applier)? {
        found.extend(btcpay::endpoints(&server)?.into_iter().map(|endpoint| {
            let to = fit(&endpoint);
            Webhook { endpoint, to }
        }));
    }
    Ok(found)
}

/// Where a test goes and which event it is; why there is none, as the end of a sentence.
fn fit(endpoint: &Endpoint) -> Result<(WebAddress, &'static str), String> {
    if !endpoint.is_active {
        return Err("it is off".into());
    }
    if endpoint.store.is_none() {
        return Err("it belongs to no store, so BTCPay Server sends nothing either".into());
    }
    let event = endpoint.event.ok_or("it wants no event of an invoice, so no shop waits for a payment there")?;
    let address = WebAddress::parse(&endpoint.url).map_err(|why| format!("its address {why}"))?;
    // What a person is asked about and where it goes must be one.
    let shown = WebAddress::parse(&Secret::from(endpoint.shown.clone()));
    if !shown.is_ok_and(|shown| shown.host() == address.host()) {
        return Err("its address can be read in two ways: write it anew on the webhook's page".into());
    }
    if address.is_onion() {
        return Err("no test goes over Tor from here. Make a small invoice of your own in its store, and look at the \
                    deliveries on the webhook's page"
            .into());
    }
    Ok((address, event))
}

impl Webhook {
    fn foreseen(&self) -> String {
        let shown = &self.endpoint.shown;
        match &self.to {
            Ok((_, event)) => format!("{shown}: a test {event} would be sent, once you agree"),
            Err(why) => format!("{shown}: no test: {why}"),
        }
    }
}

/// What would be sent, and to where.
pub(super) fn foreseen(applier: &Applier<'_>) -> Result<Vec<String>, Error> {
    Ok(told(applier, &webhooks(applier)?))
}

fn told(applier: &Applier<'_>, webhooks: &[Webhook]) -> Vec<String> {
    let lines = or_none(webhooks.iter().map(Webhook::foreseen).collect());
    if applier.root.is_machine() {
        return lines;
    }
    let below = "nothing is sent below another root: a rehearsal reaches nobody. On the machine itself:".to_owned();
    [below].into_iter().chain(lines).collect()
}

/// Sends what `agrees` says yes to, and tells what came of it: two lines for each webhook.
pub(super) fn send(
    applier: &Applier<'_>,
    webhooks: &[Webhook],
    agrees: impl FnOnce(&str) -> Result<bool, Error>,
) -> Result<Vec<String>, Error> {
    if !applier.root.is_machine() || webhooks.iter().all(|webhook| webhook.to.is_err()) {
        return Ok(told(applier, webhooks));
    }
    if !agrees(&question(webhooks))? {
        let no = "nothing was sent: the question was not answered with yes".to_owned();
        return Ok([no].into_iter().chain(told(applier, webhooks)).collect());
    }
    let mut names = BTreeMap::new();
    let mut lines = Vec::new();
    for webhook in webhooks {
        let Ok((address, event)) = &webhook.to else {
            lines.push(webhook.foreseen());
            continue;
        };
        applier.context.check()?;
        applier.context.tell(Event::Step(format!("a test to {}", webhook.endpoint.shown)));
        let named = names.entry(address.host().to_owned()).or_insert_with(|| dns::look(address.host()));
        let tried = Tried {
            here: try_at(applier, webhook, address, &named.known())?,
            there: try_at(applier, webhook, address, &named.unknown_here())?,
        };
        let shown = &webhook.endpoint.shown;
        lines.push(format!("{shown}: {event} {}", tried.told(named)));
        lines.push(format!("{shown}: {}", tried.verdict(named)));
    }
    Ok(lines)
}

fn question(webhooks: &[Webhook]) -> String {
    let to = |webhook: &Webhook| match &webhook.to {
        Ok((_, event)) => Some(format!("  {event} to {}", webhook.endpoint.shown)),
        Err(_) => None,
    };
    let list: Vec<String> = webhooks.iter().filter_map(to).collect();
    format!(
        "A test event, marked as one, about an invoice that does not exist, can go to each of these, once or, where \
         the names differ, to two places:\n{}\nIt reaches the shops' own servers. Send it?",
        list.join("\n")
    )
}

/// Sends one test to these addresses; none where there are none.
fn try_at(
    applier: &Applier<'_>,
    webhook: &Webhook,
    address: &WebAddress,
    to: &[IpAddr],
) -> Result<Option<Outcome>, Error> {
    if to.is_empty() {
        return Ok(None);
    }
    let chance = crate::seal::random::<CHANCE_BYTES>()?;
    let event = webhook.endpoint.test_event(applier.context.now(), &chance);
    Ok(event.map(|event| address.post(&Message { header: (SIGNATURE, &event.signature), body: &event.body }, to)))
}

/// What came of a webhook's test.
#[derive(Debug)]
struct Tried {
    /// At the addresses of this host's resolver, where BTCPay Server would go; none where it gives none.
    here: Option<Outcome>,
    /// At the addresses that only the authoritative server names; none where there are none.
    there: Option<Outcome>,
}

impl Tried {
    /// What was done and what came of it, in one line.
    fn told(&self, named: &Named) -> String {
        let here = match &self.here {
            Some(outcome) => outcome.to_string(),
            None => "not sent to where this host's resolver leads: it leads nowhere".into(),
        };
        match (&self.there, &named.there) {
            (Some(outcome), There::Says(server, _)) => {
                format!("{here}; at {}, which {server} names: {outcome}", dns::shown(&named.unknown_here()))
            }
            _ => here,
        }
    }

    /// Whether resolver, authoritative answer and delivery agree, and what to do.
    fn verdict(&self, named: &Named) -> String {
        let arrived = |outcome: &Option<Outcome>| outcome.as_ref().is_some_and(Outcome::is_arrived);
        let agree = match &named.there {
            There::Says(_, there) => named.here.as_ref().is_ok_and(|here| here == there),
            There::NotNeeded | There::Unknown(_) => true,
        };
        if agree {
            return match (&self.here, &named.there) {
                (Some(outcome), _) if !outcome.is_arrived() => {
                    format!("DO NOT AGREE: the name is right, and the test did not arrive: {}", remedy(outcome))
                }
                (None, _) => format!("DO NOT AGREE: {named}; BTCPay Server cannot send there"),
                (_, There::Unknown(why)) => {
                    format!("resolver and delivery AGREE; what the authoritative server says is not known: {why}")
                }
                (_, There::NotNeeded) => "AGREE: it is an address, and the test arrived there".into(),
                (_, There::Says(server, _)) => {
                    format!("AGREE: this host's resolver and {server} say the same, and the test arrived")
                }
            };
        }
        let what = match (arrived(&self.here), arrived(&self.there), self.there.is_some()) {
            (true, true, _) => "both places take it. Ask the shop which of the two is its own",
            (true, false, true) => {
                "it arrives at the old place only, and will not once the resolver forgets it: mend the new place"
            }
            (false, true, _) => {
                "it arrives at the new place, and BTCPay Server goes to the old one: make this host's resolver forget it"
            }
            (true, false, false) => "it arrives, at one of the addresses: ask whoever keeps the zone which are right",
            (false, false, _) => "it arrives nowhere: mend the name first, then the way",
        };
        format!("DO NOT AGREE: {named}; {what}")
    }
}

/// What to do about a test that did not arrive where it should.
fn remedy(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { status: 401 | 403, .. } => {
            "the secret here and the shop's differ, or something before the shop asks who comes: set the same on both sides"
        }
        Outcome::Answered { status: 301..=303, .. } => {
            "BTCPay Server follows without the event: write the address that it points to into the webhook"
        }
        Outcome::Answered { status: 300..=399, .. } => "write the address that it points to into the webhook",
        Outcome::Answered { status: 500..=599, .. } => "the shop's server fails: its own log says why",
        Outcome::Answered { .. } => {
            "the shop's server is reached and does not take it: a wrong path, or it looks for the invoice; ask the shop"
        }
        Outcome::Failed { how: Failure::Certificate, .. } => {
            "renew the certificate, or give the webhook the name that it is for"
        }
        Outcome::Failed { how: Failure::Connection, .. } => "a firewall, or the shop's server is off",
        Outcome::Failed { how: Failure::Time | Failure::Answer, .. } => {
            "something listens there and does not answer: look at the shop's server and what stands before it"
        }
        Outcome::Failed { how: Failure::Sending, .. } => "this machine could not send: see the reason above",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Option<Outcome> {
        Some(Outcome::Answered { by: None, status, leads_to: None })
    }

    fn failed(how: Failure) -> Option<Outcome> {
        Some(Outcome::Failed { how, said: "why".into() })
    }

    fn named(here: &[&str], there: Option<&[&str]>) -> Named {
        let set = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Named {
            host: "shop.example".into(),
            here: if here.is_empty() { Err("no such name".into()) } else { Ok(set(here)) },
            there: there.map_or_else(
                || There::Unknown("dig is not there".into()),
                |there| There::Says("ns1.example".into(), set(there)),
            ),
        }
    }

    #[track_caller]
    fn verdict(named: &Named, here: Option<Outcome>, there: Option<Outcome>, begins: &str, part: &str) {
        let verdict = Tried { here, there }.verdict(named);
        assert!(verdict.starts_with(begins) && verdict.contains(part), "{verdict}");
    }

    #[test]
    fn all_three_must_agree() {
        let same = named(&["192.0.2.1"], Some(&["192.0.2.1"]));
        verdict(&same, answered(204), None, "AGREE", "ns1.example say the same");
        verdict(&named(&["192.0.2.1"], None), answered(200), None, "resolver and delivery AGREE", "dig is not there");
        for (outcome, part) in [
            (answered(401), "secret"),
            (answered(403), "secret"),
            (answered(302), "follows without the event"),
            (answered(308), "points to"),
            (answered(404), "wrong path"),
            (answered(500), "own log"),
            (failed(Failure::Connection), "firewall"),
            (failed(Failure::Certificate), "certificate"),
            (failed(Failure::Time), "does not answer"),
            (failed(Failure::Answer), "does not answer"),
        ] {
            verdict(&same, outcome, None, "DO NOT AGREE: the name is right", part);
        }
    }

    #[test]
    fn names_that_differ_never_agree_whatever_arrives() {
        let moved = named(&["192.0.2.1"], Some(&["192.0.2.7"]));
        assert_eq!(moved.unknown_here(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        let lost = || failed(Failure::Connection);
        let cases = [
            (answered(204), answered(204), "both places"),
            (answered(204), lost(), "old place only"),
            (lost(), answered(204), "make this host's resolver forget it"),
            (lost(), answered(500), "arrives nowhere"),
        ];
        for (here, there, part) in cases {
            verdict(&moved, here, there, "DO NOT AGREE", part);
        }
        let fewer = named(&["192.0.2.1", "192.0.2.2"], Some(&["192.0.2.1"]));
        assert!(fewer.unknown_here().is_empty());
        verdict(&fewer, answered(204), None, "DO NOT AGREE", "one of the addresses");
        let unknown = named(&[], Some(&["192.0.2.7"]));
        assert!(unknown.known().is_empty());
        verdict(&unknown, None, answered(204), "DO NOT AGREE", "no answer (no such name)");
        verdict(&named(&[], None), None, None, "DO NOT AGREE", "BTCPay Server cannot send there");
        verdict(&named(&[], Some(&[])), None, None, "DO NOT AGREE", "arrives nowhere");
    }

    #[test]
    fn what_was_tried_names_the_second_place() {
        let moved = named(&["192.0.2.1"], Some(&["192.0.2.7"]));
        let tried = Tried { here: failed(Failure::Connection), there: answered(204) };
        let expected = "no connection: why; at 192.0.2.7, which ns1.example names: arrived, the answer was 204";
        assert_eq!(tried.told(&moved), expected);
        let tried = Tried { here: None, there: None };
        assert!(tried.told(&named(&[], None)).contains("leads nowhere"));
    }
}
