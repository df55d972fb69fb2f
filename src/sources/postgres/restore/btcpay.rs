//! BTCPay Server's database after a restore: what would act on its own (payouts, webhooks), who was not told of a
//! payment, which keys are there, by name and right and never by value; and the closed list of SQL that burns what was
//! stolen. Only [`burn`] writes.

mod endpoint;

pub use endpoint::{CHANCE_BYTES, Endpoint, SIGNATURE, TestEvent, endpoints};

use super::super::connect::{Server, quote_name};
use super::super::hand::Careful;
use super::super::survey;
use super::RestoreError;
use crate::base::visible;
use crate::scenario::Burn;
use tokio_postgres::Row;

/// How much was burnt; what was burnt before does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Burnt {
    /// API keys.
    pub api_keys: u64,
    /// Webhooks.
    pub webhooks: u64,
    /// Payout processors.
    pub payout_processors: u64,
}

/// What would pay by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payouts {
    /// Automated payout processors, which BTCPay runs once it is started.
    pub processors: Vec<Processor>,
    /// Payouts that are not completed and not cancelled, by state.
    pub pending: Vec<(String, u64)>,
}

/// One automated payout processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// The store.
    pub store: String,
    /// How it pays: `BTC-CHAIN`.
    pub method: String,
    /// Its kind.
    pub kind: String,
}

/// One webhook, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// The stores it belongs to.
    pub stores: Vec<String>,
    /// Where it points, without user, password, query and fragment.
    pub url: String,
    /// Whether it is on.
    pub is_active: bool,
    /// Whether a secret is stored for it.
    pub has_secret: bool,
    /// The events that it wants; `None` means every one.
    pub events: Option<Vec<String>>,
}

/// A paid invoice of which a webhook was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The invoice.
    pub invoice: String,
    /// Its store.
    pub store: String,
    /// The order it pays for, where it has one.
    pub order: Option<String>,
    /// Its status.
    pub status: String,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// The webhook.
    pub webhook: String,
    /// What came of the newest try; `None` where there was none.
    pub last: Option<String>,
}

/// Such invoices, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredList {
    /// Not more than were asked for.
    pub list: Vec<Undelivered>,
    /// Whether there are older ones that are not in the list.
    pub is_cut: bool,
}

/// One API key, by name and right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What its owner called it.
    pub label: String,
    /// Whose it is.
    pub user: Option<String>,
    /// The store it is limited to.
    pub store: Option<String>,
    /// What it may do.
    pub permissions: Vec<String>,
}

/// A session in one transaction, and where the tables are. The server plans the queries, and may run functions of
/// whoever owns the tables meanwhile: where we come with more rights, the session is one of a role with none.
struct Tables {
    careful: Careful,
    database: String,
    schema: String,
    names: Vec<String>,
}

impl Tables {
    fn open(server: &Server, begin: &str) -> Result<Self, RestoreError> {
        let careful = Careful::open(server)?;
        let session = &careful.session;
        session.execute("begin a transaction", begin)?;
        let tables = survey::tables(session)?;
        let schema = survey::recognise(&tables).schema;
        let names = tables.into_iter().filter(|table| table.schema == schema).map(|table| table.name).collect();
        Ok(Self { careful, database: server.database().to_owned(), schema, names })
    }

    /// The SQL name of a table that must be there.
    fn table(&self, table: &'static str) -> Result<String, RestoreError> {
        if !self.names.iter().any(|name| name == table) {
            return Err(RestoreError::NotBtcpay { database: self.database.clone(), table });
        }
        Ok(format!("{}.{}", quote_name(&self.schema), quote_name(table)))
    }

    fn rows<T>(&self, sql: &str, get: impl Fn(&Row) -> T) -> Result<Vec<T>, RestoreError> {
        Ok(self.careful.session.query("look into BTCPay's tables", sql, &[])?.iter().map(get).collect())
    }
}

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Burns what is named, in one transaction: all of it or nothing. Once more burns nothing more.
pub fn burn(server: &Server, what: &[Burn]) -> Result<Burnt, RestoreError> {
    let tables = Tables::open(server, "BEGIN")?;
    let mut burnt = Burnt::default();
    for burn in what {
        let (sql, count) = match burn {
            Burn::ApiKeys => (format!("DELETE FROM {}", tables.table("ApiKeys")?), &mut burnt.api_keys),
            Burn::Webhooks => {
                let blob = "coalesce(\"Blob2\", '{}'::jsonb)";
                let sql = format!(
                    "UPDATE {} SET \"Blob2\" = ({blob} - 'secret' - 'Secret' - 'Active') || '{{\"active\": false}}'::jsonb
                    WHERE {blob} ?| ARRAY['secret', 'Secret', 'Active']
                        OR {blob} -> 'active' IS DISTINCT FROM 'false'::jsonb",
                    tables.table("Webhooks")?
                );
                (sql, &mut burnt.webhooks)
            }
            Burn::PayoutProcessors => {
                (format!("DELETE FROM {}", tables.table("PayoutProcessors")?), &mut burnt.payout_processors)
            }
        };
        let sql = format!("WITH burnt AS ({sql} RETURNING 1) SELECT count(*) FROM burnt");
        let row = tables.careful.session.query_one("burn what was stolen", &sql, &[])?;
        *count += row.get::<_, i64>(0).unsigned_abs();
    }
    tables.careful.session.execute("burn what was stolen", "COMMIT")?;
    Ok(burnt)
}

/// What would pay by itself once BTCPay starts.
pub fn payouts(server: &Server) -> Result<Payouts, RestoreError> {
    let tables = Tables::open(server, READ)?;
    // The column was called PaymentMethod before 2.0.
    let processors = format!(
        "SELECT p.\"StoreId\"::text, coalesce(to_jsonb(p) ->> 'PayoutMethodId', to_jsonb(p) ->> 'PaymentMethod'), \
            p.\"Processor\"::text FROM {} p ORDER BY 1, 2, 3",
        tables.table("PayoutProcessors")?
    );
    let pending = format!(
        "SELECT \"State\"::text, count(*) FROM {} WHERE \"State\" NOT IN ('Completed', \
            'Cancelled') GROUP BY 1 ORDER BY 1",
        tables.table("Payouts")?
    );
    let text = |row: &Row, at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
    Ok(Payouts {
        processors: tables.rows(&processors, |row| Processor {
            store: text(row, 0),
            method: text(row, 1),
            kind: text(row, 2),
        })?,
        pending: tables.rows(&pending, |row| (row.get(0), row.get::<_, i64>(1).unsigned_abs()))?,
    })
}

/// Every webhook and where it points.
pub fn webhooks(server: &Server) -> Result<Vec<Webhook>, RestoreError> {
    let tables = Tables::open(server, READ)?;
    let sql = format!(
        "SELECT w.\"Id\"::text, coalesce(w.\"Blob2\" ->> 'url', ''), \
            coalesce(w.\"Blob2\" -> 'active' = 'true'::jsonb, true), \
            coalesce(w.\"Blob2\" ->> 'secret', '') <> '', \
            ARRAY(SELECT s.\"StoreId\"::text FROM {} s WHERE s.\"WebhookId\" = w.\"Id\" ORDER BY 1), {WANTED}
        FROM {} w ORDER BY 1",
        tables.table("StoreWebhooks")?,
        tables.table("Webhooks")?
    );
    tables.rows(&sql, |row| Webhook {
        id: row.get(0),
        url: without_secrets(&row.get::<_, String>(1)),
        is_active: row.get(2),
        has_secret: row.get(3),
        stores: row.get(4),
        events: wanted(row, 5),
    })
}

/// The events that the webhook `w` wants: whether every one, and which by name.
const WANTED: &str = r#"w."Blob2" -> 'authorizedEvents' IS NULL
        OR w."Blob2" #> '{authorizedEvents,everything}' IS NOT DISTINCT FROM 'true'::jsonb,
    ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(w."Blob2" #> '{authorizedEvents,specificEvents}')
        WHEN 'array' THEN w."Blob2" #> '{authorizedEvents,specificEvents}' ELSE '[]' END))"#;

/// The columns of [`WANTED`], from this one on.
fn wanted(row: &Row, from: usize) -> Option<Vec<String>> {
    let everything = row.get::<_, bool>(from);
    (!everything).then(|| row.get(from + 1))
}

/// Paid invoices of which an active webhook of their store was not told, the newest first. A webhook that wants other
/// events only is passed over. A delivery whose event cannot be read any more counts as the one that was wanted. At
/// most `most` are listed.
pub fn undelivered(server: &Server, most: usize) -> Result<UndeliveredList, RestoreError> {
    let tables = Tables::open(server, READ)?;
    // The request is kept as text of the event, encoded; a pruned one is an object with the event's type alone.
    let sql = format!(
        "WITH hooks AS (
            SELECT w.\"Id\", s.\"StoreId\", w.\"Blob2\" -> 'authorizedEvents' AS events FROM {webhooks} w
                JOIN {store_webhooks} s ON s.\"WebhookId\" = w.\"Id\"
            WHERE w.\"Blob2\" -> 'active' IS DISTINCT FROM 'false'::jsonb), \
        paid AS (
            SELECT i.*, CASE i.\"Status\" WHEN 'Settled' THEN 'InvoiceSettled' ELSE 'InvoiceProcessing' END AS event
            FROM {invoices} i WHERE i.\"Status\" IN ('Settled', 'Processing')), \
        tries AS (
            SELECT l.\"InvoiceId\", d.\"WebhookId\", d.\"Timestamp\", d.\"Blob\" ->> 'status' AS status, \
                d.\"Blob\" ->> 'httpCode' AS code, \
                CASE jsonb_typeof(d.\"Blob\" -> 'request')
                    WHEN 'object' THEN d.\"Blob\" -> 'request' ->> 'type'
                    WHEN 'string' THEN substring(convert_from(decode(d.\"Blob\" ->> 'request', 'base64'), 'UTF8')
                        FROM '\"type\" *: *\"([A-Za-z]+)\"')
                END AS event
            FROM {deliveries} d JOIN {links} l ON l.\"DeliveryId\" = d.\"Id\")
        SELECT p.\"Id\"::text, p.\"StoreDataId\"::text, p.\"Blob2\" #>> '{{metadata,orderId}}', p.\"Status\"::text, \
            to_char(p.\"Created\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), h.\"Id\"::text, \
            (SELECT concat_ws(' ', t.status, t.code) FROM tries t
                WHERE t.\"InvoiceId\" = p.\"Id\" AND t.\"WebhookId\" = h.\"Id\" ORDER BY t.\"Timestamp\" DESC LIMIT 1)
        FROM paid p JOIN hooks h ON h.\"StoreId\" = p.\"StoreDataId\"
        WHERE (h.events IS NULL OR coalesce((h.events ->> 'everything')::boolean, false)
                OR coalesce(h.events -> 'specificEvents' ? p.event, false))
            AND NOT EXISTS (SELECT FROM tries t WHERE t.\"InvoiceId\" = p.\"Id\" AND t.\"WebhookId\" = h.\"Id\"
                AND t.status = 'HttpSuccess' AND coalesce(t.event, p.event) = p.event)
        ORDER BY p.\"Created\" DESC, 1, 6 LIMIT {one_more}",
        one_more = most.saturating_add(1),
        webhooks = tables.table("Webhooks")?,
        store_webhooks = tables.table("StoreWebhooks")?,
        invoices = tables.table("Invoices")?,
        deliveries = tables.table("WebhookDeliveries")?,
        links = tables.table("InvoiceWebhookDeliveries")?,
    );
    let mut list = tables.rows(&sql, |row| Undelivered {
        invoice: row.get(0),
        store: row.get::<_, Option<String>>(1).unwrap_or_default(),
        order: row.get(2),
        status: row.get(3),
        created: row.get(4),
        webhook: row.get(5),
        last: row.get(6),
    })?;
    let is_cut = list.len() > most;
    list.truncate(most);
    Ok(UndeliveredList { list, is_cut })
}

/// Every API key by its name and rights; its value, which is its id, is not read.
pub fn api_keys(server: &Server) -> Result<Vec<ApiKey>, RestoreError> {
    let tables = Tables::open(server, READ)?;
    let sql = format!(
        "SELECT coalesce(\"Label\", ''), \"UserId\"::text, \"StoreId\"::text, \
            ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(\"Blob2\" -> 'permissions')
                WHEN 'array' THEN \"Blob2\" -> 'permissions' ELSE '[]' END))
        FROM {} ORDER BY 1, 2, 3",
        tables.table("ApiKeys")?
    );
    tables.rows(&sql, |row| ApiKey { label: row.get(0), user: row.get(1), store: row.get(2), permissions: row.get(3) })
}

/// A URL without what may be a secret in it: user, password, query, fragment; and without what a terminal obeys.
fn without_secrets(url: &str) -> String {
    let url: String = url.chars().filter(|letter| *letter != '\n' && !visible::hides(*letter)).collect();
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or_default();
    let without_user = |text: &str| text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
    let Some((scheme, rest)) = url.split_once("://") else { return without_user(url) };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    // Whoever delivers takes it for a slash: the host ends there, and what follows names another one.
    if host.contains('\\') {
        return format!("{scheme}://(a host with a backslash, which is read in two ways)");
    }
    let host = without_user(host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_cut_from_a_url() {
        for (url, shown) in [
            ("https://u:p@shop.example:8443/hook/1?token=x#y", "https://shop.example:8443/hook/1"),
            ("https://shop.example?token=x", "https://shop.example"),
            ("https://shop.example/@me", "https://shop.example/@me"),
            ("https://shop.example/\u{1b}[2Ja", "https://shop.example/[2Ja"),
            ("https:/u:p@shop.example/a", "shop.example/a"),
            ("odd", "odd"),
            (r"https://evil.example\@shop.example/a", "https://(a host with a backslash, which is read in two ways)"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
