//! High-water marks: how far BTCPay Server and NBXplorer had come. Every query is asked only where the tables and
//! columns it needs are there, so that older and newer versions of the software are no error. Key material is
//! counted, never read.

use super::PostgresError;
use super::connect::{Session, quote_name};
use super::survey::Recognised;
use crate::facts::postgres::{BtcpayMarks, DescriptorMark, InvoiceCount, Marks, NbxplorerMarks, Software, StateCount};
use std::collections::HashMap;
use tokio_postgres::Row;

/// Most descriptors whose marks are kept.
const DESCRIPTORS_MAX: u32 = 10_000;

/// Reads the marks of the software whose tables these are.
pub(super) fn read(session: &Session, recognised: &Recognised) -> Result<Marks, PostgresError> {
    let reader = match recognised.software {
        Software::Btcpay | Software::Nbxplorer => Reader::new(session, &recognised.schema)?,
        _ => return Ok(Marks::default()),
    };
    Ok(match recognised.software {
        Software::Btcpay => Marks { btcpay: Some(btcpay(&reader)?), nbxplorer: None },
        _ => Marks { btcpay: None, nbxplorer: Some(nbxplorer(&reader)?) },
    })
}

struct Reader<'a> {
    session: &'a Session,
    schema: &'a str,
    /// The type of each column of each table.
    columns: HashMap<(String, String), String>,
}

/// One table and the columns a query needs.
type Needs<'n> = (&'n str, &'n [&'n str]);

impl<'a> Reader<'a> {
    fn new(session: &'a Session, schema: &'a str) -> Result<Self, PostgresError> {
        let sql = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";
        let rows = session.query("list the columns", sql, &[&schema])?;
        let columns = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        Ok(Self { session, schema, columns })
    }

    fn kind_of(&self, table: &str, column: &str) -> Option<&str> {
        self.columns.get(&(table.to_owned(), column.to_owned())).map(String::as_str)
    }

    fn has(&self, needs: &[Needs<'_>]) -> bool {
        needs.iter().all(|(table, columns)| columns.iter().all(|column| self.kind_of(table, column).is_some()))
    }

    /// Rows of a query over tables written as `{Table}`, or nothing where one of its needs is not there.
    fn rows(&self, needs: &[Needs<'_>], sql: &str) -> Result<Option<Vec<Row>>, PostgresError> {
        if !self.has(needs) {
            return Ok(None);
        }
        let mut text = sql.to_owned();
        for (table, _) in needs {
            let qualified = format!("{}.{}", quote_name(self.schema), quote_name(table));
            text = text.replace(&format!("{{{table}}}"), &qualified);
        }
        self.session.query("read the high-water marks", &text, &[]).map(Some)
    }

    fn one<T>(
        &self,
        needs: &[Needs<'_>],
        sql: &str,
        get: impl Fn(&Row) -> Option<T>,
    ) -> Result<Option<T>, PostgresError> {
        Ok(self.rows(needs, sql)?.and_then(|rows| rows.first().and_then(get)))
    }

    fn count(&self, needs: &[Needs<'_>], sql: &str) -> Result<Option<u64>, PostgresError> {
        self.one(needs, sql, |row| Some(count(row, 0)))
    }

    fn text(&self, needs: &[Needs<'_>], sql: &str) -> Result<Option<String>, PostgresError> {
        self.one(needs, sql, |row| row.get(0))
    }

    fn list<T>(
        &self,
        needs: &[Needs<'_>],
        sql: &str,
        get: impl Fn(&Row) -> T,
    ) -> Result<Option<Vec<T>>, PostgresError> {
        Ok(self.rows(needs, sql)?.map(|rows| rows.iter().map(get).collect()))
    }

    /// The newest time in a column, RFC 3339 in UTC.
    fn newest(&self, table: &str, column: &str) -> Result<Option<String>, PostgresError> {
        let sql = format!("SELECT {} FROM {{{table}}}", newest_of(column));
        self.text(&[(table, &[column])], &sql)
    }
}

fn newest_of(column: &str) -> String {
    let column = quote_name(column);
    format!("to_char(max({column})::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
}

#[derive(Default)]
struct PaymentMarks {
    all: Option<u64>,
    unsettled: Option<u64>,
    newest: Option<String>,
}

/// Number of payments, of those not settled, and the newest one's time: one pass over a table that may be large.
fn payments(reader: &Reader<'_>) -> Result<PaymentMarks, PostgresError> {
    let unsettled = match reader.kind_of("Payments", "Status") {
        Some(_) => "count(*) FILTER (WHERE \"Status\" IN ('New', 'Processing'))",
        None => "NULL::int8",
    };
    let newest = match reader.kind_of("Payments", "Created") {
        Some(_) => newest_of("Created"),
        None => "NULL::text".to_owned(),
    };
    let sql = format!("SELECT count(*), {unsettled}, {newest} FROM {{Payments}}");
    let rows = reader.rows(&[("Payments", &["Id"])], &sql)?.unwrap_or_default();
    Ok(rows.first().map_or_else(PaymentMarks::default, |row| PaymentMarks {
        all: Some(count(row, 0)),
        unsettled: row.get::<_, Option<i64>>(1).map(i64::unsigned_abs),
        newest: row.get(2),
    }))
}

fn count(row: &Row, at: usize) -> u64 {
    row.get::<_, i64>(at).unsigned_abs()
}

fn btcpay(reader: &Reader<'_>) -> Result<BtcpayMarks, PostgresError> {
    let invoices: Needs<'_> = ("Invoices", &["Status", "ExceptionStatus"]);
    let by_status = "SELECT coalesce(\"Status\", ''), coalesce(\"ExceptionStatus\", ''), count(*) FROM {Invoices} \
                     GROUP BY 1, 2 ORDER BY 1, 2";
    let by_status: Option<Vec<InvoiceCount>> = reader.list(&[invoices], by_status, |row| InvoiceCount {
        status: row.get(0),
        exception: row.get(1),
        count: count(row, 2),
    })?;
    // The words of today's versions and of those before 2.0.
    let waits = ["new", "processing", "paid", "confirmed"];
    let sum = |list: &Vec<InvoiceCount>, wanted: &dyn Fn(&InvoiceCount) -> bool| {
        list.iter().filter(|entry| wanted(entry)).map(|entry| entry.count).sum()
    };
    let waiting = |entry: &InvoiceCount| waits.contains(&entry.status.to_ascii_lowercase().as_str());
    let payments = payments(reader)?;
    Ok(BtcpayMarks {
        invoices: by_status.as_ref().map(|list| sum(list, &|_| true)),
        invoices_unsettled: by_status.as_ref().map(|list| sum(list, &waiting)),
        newest_invoice: reader.newest("Invoices", "Created")?,
        invoices_by_status: by_status,
        payments: payments.all,
        newest_payment: payments.newest,
        payments_unsettled: payments.unsettled,
        newest_migration: reader.text(
            &[("__EFMigrationsHistory", &["MigrationId"])],
            "SELECT max(\"MigrationId\")::text FROM {__EFMigrationsHistory}",
        )?,
        payouts_by_state: reader.list(
            &[("Payouts", &["State"])],
            "SELECT \"State\"::text, count(*) FROM {Payouts} GROUP BY 1 ORDER BY 1",
            |row| StateCount { state: row.get::<_, Option<String>>(0).unwrap_or_default(), count: count(row, 1) },
        )?,
        payout_processors: reader.count(&[("PayoutProcessors", &["Id"])], "SELECT count(*) FROM {PayoutProcessors}")?,
        webhooks_undelivered: undelivered(reader)?,
        newest_webhook_delivery: reader.newest("WebhookDeliveries", "Timestamp")?,
    })
}

/// Webhooks and invoices whose newest delivery did not succeed. Only a week is looked at: the table is usually the
/// largest of all, and retries end within two hours.
fn undelivered(reader: &Reader<'_>) -> Result<Option<u64>, PostgresError> {
    if reader.kind_of("WebhookDeliveries", "Blob") != Some("jsonb") {
        return Ok(None);
    }
    let needs: [Needs<'_>; 2] = [
        ("WebhookDeliveries", &["Id", "WebhookId", "Timestamp", "Blob"]),
        ("InvoiceWebhookDeliveries", &["InvoiceId", "DeliveryId"]),
    ];
    let sql = "SELECT count(*) FROM (
            SELECT DISTINCT ON (d.\"WebhookId\", i.\"InvoiceId\") d.\"Blob\" ->> 'status' AS status
            FROM {WebhookDeliveries} d JOIN {InvoiceWebhookDeliveries} i ON i.\"DeliveryId\" = d.\"Id\"
            WHERE d.\"Timestamp\" >= (SELECT max(\"Timestamp\") FROM {WebhookDeliveries}) - interval '7 days'
            ORDER BY d.\"WebhookId\", i.\"InvoiceId\", d.\"Timestamp\" DESC
        ) newest WHERE status IS DISTINCT FROM 'HttpSuccess'";
    reader.count(&needs, sql)
}

fn nbxplorer(reader: &Reader<'_>) -> Result<NbxplorerMarks, PostgresError> {
    let descriptors = format!(
        "SELECT d.code, d.descriptor, d.next_idx::int8,
            (SELECT max(s.idx)::int8 FROM {{descriptors_scripts}} s
                WHERE s.code = d.code AND s.descriptor = d.descriptor AND s.used)
        FROM {{descriptors}} d ORDER BY 1, 2 LIMIT {DESCRIPTORS_MAX}"
    );
    Ok(NbxplorerMarks {
        hot_wallet_keys: reader.count(
            &[("nbxv1_metadata", &["key"])],
            "SELECT count(*) FROM {nbxv1_metadata} WHERE key IN ('Mnemonic', 'MasterHDKey')",
        )?,
        descriptors: reader.list(
            &[
                ("descriptors", &["code", "descriptor", "next_idx"]),
                ("descriptors_scripts", &["code", "descriptor", "idx", "used"]),
            ],
            &descriptors,
            |row| DescriptorMark {
                code: row.get(0),
                descriptor: row.get(1),
                next_index: row.get::<_, Option<i64>>(2).unwrap_or(0),
                max_used_index: row.get(3),
            },
        )?,
        height: reader.one(
            &[("blks", &["code", "height", "confirmed"])],
            "SELECT max(height)::int8 FROM {blks} WHERE code = 'BTC' AND confirmed",
            |row| row.get::<_, Option<i64>>(0).and_then(|height| u64::try_from(height).ok()),
        )?,
        has_block_locator: reader.one(
            &[("nbxv1_settings", &["key"])],
            "SELECT EXISTS (SELECT FROM {nbxv1_settings} WHERE key LIKE 'BlockLocator%')",
            |row| Some(row.get(0)),
        )?,
        newest_migration: reader
            .text(&[("nbxv1_migrations", &["script_name"])], "SELECT max(script_name)::text FROM {nbxv1_migrations}")?,
    })
}
