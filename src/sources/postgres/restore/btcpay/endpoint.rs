//! Where BTCPay Server delivers events to, with the secret it signs them with, and a test event as its own page makes
//! one. Facts: `WebhookSender`, `WebhookEvent`, `WebhookInvoiceEvent` and `InvoiceWebhookProvider.CreateTestEvent` of
//! its sources. Releases since the webhooks became a plugin have no page for tests any more; the event is the same.

use super::{READ, RestoreError, Server, Tables, WANTED, wanted, without_secrets};
use crate::base::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

/// The header that carries the signature.
pub const SIGNATURE: &str = "BTCPay-Sig";
/// Random bytes that a test event is made from: of its delivery and of two made-up ids.
pub const CHANCE_BYTES: usize = 48;

/// Events of an invoice, those first that a shop does least about. A shop ships when an invoice is settled, and cancels
/// when it expires or turns out invalid.
const EVENTS: [&str; 9] = [
    "InvoiceCreated",
    "InvoiceReceivedPayment",
    "InvoiceProcessing",
    "InvoiceExpiredPaidPartial",
    "InvoicePaidAfterExpiration",
    "InvoiceExpired",
    "InvoiceInvalid",
    "InvoicePaymentSettled",
    "InvoiceSettled",
];

/// A webhook with all that a delivery needs. Its `Debug` shows neither the whole address nor the secret.
#[derive(Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// A store it belongs to, the first by name; BTCPay sends to none that belongs to no store.
    pub store: Option<String>,
    /// Whether it is on.
    pub is_active: bool,
    /// The event to test with: the one that a shop does least about, of those that it wants; none where it wants no
    /// event of an invoice.
    pub event: Option<&'static str>,
    /// Where it points, without what may be secret in it.
    pub shown: String,
    /// Where it points; a query may hold a token.
    pub url: Secret,
    secret: Secret,
}

/// A test event, ready to be sent.
#[derive(Debug)]
pub struct TestEvent {
    /// The body, UTF-8.
    pub body: Vec<u8>,
    /// What [`SIGNATURE`] says.
    pub signature: String,
}

impl Endpoint {
    /// Makes a test event for it, of an invoice and a delivery that are marked as made up; none where it wants no event
    /// or belongs to no store.
    pub fn test_event(&self, at: Timestamp, chance: &[u8; CHANCE_BYTES]) -> Option<TestEvent> {
        let (delivery, ids) = chance.split_at(16);
        let (original, invoice) = ids.split_at(16);
        let made_up = |bytes: &[u8]| format!("__test__{}__test__", uuid(bytes));
        let event = json!({
            // As long as BTCPay's own, for columns that are no wider.
            "deliveryId": hex::encode(delivery.get(..11)?),
            "webhookId": self.id,
            "originalDeliveryId": made_up(original),
            "isRedelivery": false,
            "type": self.event?,
            "timestamp": at.as_second(),
            "storeId": self.store.as_ref()?,
            "invoiceId": made_up(invoice),
            "metadata": null,
        });
        let body = format!("{event:#}").into_bytes();
        let signature = format!("sha256={}", hex::encode(sign(&self.secret, &body)?));
        Some(TestEvent { body, signature })
    }
}

/// Every webhook as deliveries need it. The secrets are read for that alone.
pub fn endpoints(server: &Server) -> Result<Vec<Endpoint>, RestoreError> {
    let tables = Tables::open(server, READ)?;
    let sql = format!(
        "SELECT w.\"Id\"::text, coalesce(w.\"Blob2\" ->> 'url', ''), coalesce(w.\"Blob2\" -> 'active' = 'true'::jsonb, true), \
            coalesce(w.\"Blob2\" ->> 'secret', w.\"Blob2\" ->> 'Secret', ''), \
            (SELECT min(s.\"StoreId\"::text) FROM {} s WHERE s.\"WebhookId\" = w.\"Id\"), {WANTED}
        FROM {} w ORDER BY 1",
        tables.table("StoreWebhooks")?,
        tables.table("Webhooks")?
    );
    tables.rows(&sql, |row| {
        let url = row.get::<_, String>(1);
        let events = wanted(row, 5);
        let wants = |event: &str| events.as_ref().is_none_or(|events| events.iter().any(|one| one == event));
        Endpoint {
            id: row.get(0),
            store: row.get(4),
            is_active: row.get(2),
            event: EVENTS.into_iter().find(|event| wants(event)),
            shown: without_secrets(&url),
            url: Secret::from(url),
            secret: Secret::from(row.get::<_, String>(3)),
        }
    })
}

/// HMAC-SHA256; a key may have any length, so there is always one.
fn sign(secret: &Secret, body: &[u8]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
    mac.update(body);
    Some(mac.finalize().into_bytes().into())
}

/// A UUID of version 4 from 16 random bytes.
fn uuid(bytes: &[u8]) -> String {
    let mut hex = hex::encode(bytes);
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "8");
    for at in [20, 16, 12, 8] {
        hex.insert(at, '-');
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(event: Option<&'static str>) -> Endpoint {
        Endpoint {
            id: "hook1".into(),
            store: Some("store1".into()),
            is_active: true,
            event,
            shown: "https://shop.example/hook".into(),
            url: Secret::from("https://shop.example/hook?token=hush".to_owned()),
            secret: Secret::from("hush-too".to_owned()),
        }
    }

    #[test]
    fn the_signature_is_that_of_the_published_vectors() {
        // RFC 4231, test case 2; and the empty key of a webhook without a secret.
        let signed = |key: &str, text: &[u8]| hex::encode(sign(&Secret::from(key.to_owned()), text).unwrap());
        let jefe = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signed("Jefe", b"what do ya want for nothing?"), jefe);
        assert_eq!(signed("", b""), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    }

    #[test]
    fn a_test_event_is_as_btcpay_makes_it_and_says_that_it_is_one() {
        let endpoint = endpoint(Some("InvoiceCreated"));
        let at = Timestamp::from_second(1_763_600_000).unwrap();
        let event = endpoint.test_event(at, &[0xab; CHANCE_BYTES]).unwrap();
        let made_up = "__test__abababab-abab-4bab-8bab-abababababab__test__";
        let expected = format!(
            "{{\n  \"deliveryId\": \"{}\",\n  \"webhookId\": \"hook1\",\n  \"originalDeliveryId\": \"{made_up}\",\n  \
             \"isRedelivery\": false,\n  \"type\": \"InvoiceCreated\",\n  \"timestamp\": 1763600000,\n  \
             \"storeId\": \"store1\",\n  \"invoiceId\": \"{made_up}\",\n  \"metadata\": null\n}}",
            "ab".repeat(11)
        );
        assert_eq!(String::from_utf8(event.body.clone()).unwrap(), expected);
        let signature = hex::encode(sign(&Secret::from("hush-too".to_owned()), &event.body).unwrap());
        assert_eq!(event.signature, format!("sha256={signature}"));
        assert!(!format!("{endpoint:?}{event:?}").contains("hush"));
    }

    #[test]
    fn who_wants_nothing_or_belongs_to_nobody_gets_nothing() {
        let none = |endpoint: &Endpoint| endpoint.test_event(Timestamp::UNIX_EPOCH, &[0; CHANCE_BYTES]).is_none();
        assert!(none(&endpoint(None)));
        assert!(none(&Endpoint { store: None, ..endpoint(Some("InvoiceCreated")) }));
    }
}
