//! High-water marks: how far BTCPay Server and NBXplorer had come. Each table is asked for only where it and the
//! columns needed are there, so that older and newer versions of the software are no error. Key material is counted,
//! never read.
//!
//! Rows come by `COPY table (columns)` and are counted here, not by a query: whoever owns a table can give it casts,
//! operators, indexes on expressions and policies, and a query that the server plans may run their functions with the
//! rights of the role that asks. COPY of a table's columns runs none of them.

use super::PostgresError;
use super::connect::{Session, quote_name};
use super::survey::Recognised;
use crate::facts::postgres::{BtcpayMarks, DescriptorMark, InvoiceCount, Marks, NbxplorerMarks, Software, StateCount};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most descriptors whose marks are kept.
const DESCRIPTORS_MAX: usize = 10_000;
/// Longest row whose columns are looked at, in bytes; none of these columns is long.
const ROW_BYTES_MAX: usize = 1024 * 1024;

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
    /// The columns of each table.
    columns: HashSet<(String, String)>,
}

/// The values of one row, in the order in which the columns were named; NULL is `None`.
type Values<'v> = &'v [Option<String>];

impl<'a> Reader<'a> {
    fn new(session: &'a Session, schema: &'a str) -> Result<Self, PostgresError> {
        // What is computed from other columns is no column of COPY.
        let sql = "SELECT c.relname::text, a.attname::text
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";
        let rows = session.query("list the columns", sql, &[&schema])?;
        Ok(Self { session, schema, columns: rows.iter().map(|row| (row.get(0), row.get(1))).collect() })
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.contains(&(table.to_owned(), column.to_owned()))
    }

    /// Hands on every row of a table; false where the table or one of the columns is not there.
    fn each(&self, table: &str, columns: &[&str], take: &mut dyn FnMut(Values<'_>)) -> Result<bool, PostgresError> {
        if !columns.iter().all(|column| self.has(table, column)) {
            return Ok(false);
        }
        let names: Vec<String> = columns.iter().map(|column| quote_name(column)).collect();
        let (schema, table) = (quote_name(self.schema), quote_name(table));
        let sql = format!("COPY {schema}.{table} ({}) TO STDOUT", names.join(", "));
        let mut lines = Lines::default();
        self.session.copy_out("read the high-water marks", &sql, &mut |bytes| {
            lines.push(bytes, take);
            Ok(())
        })?;
        Ok(true)
    }

    /// How many rows a table has that pass.
    fn count(
        &self,
        table: &str,
        column: &str,
        passes: &dyn Fn(Option<&str>) -> bool,
    ) -> Result<Option<u64>, PostgresError> {
        let mut count = 0;
        let is_there = self.each(table, &[column], &mut |values| count += u64::from(passes(at(values, 0))))?;
        Ok(is_there.then_some(count))
    }

    /// The largest text in a column.
    fn largest(&self, table: &str, column: &str) -> Result<Option<String>, PostgresError> {
        let mut largest: Option<String> = None;
        self.each(table, &[column], &mut |values| {
            if let Some(text) = at(values, 0).filter(|text| largest.as_deref().is_none_or(|largest| *text > largest)) {
                largest = Some(text.to_owned());
            }
        })?;
        Ok(largest)
    }

    /// The newest time in a column, RFC 3339 in UTC.
    fn newest(&self, table: &str, column: &str) -> Result<Option<String>, PostgresError> {
        let mut newest = None;
        self.each(table, &[column], &mut |values| newest = newest.take().max(at(values, 0).and_then(moment)))?;
        Ok(newest)
    }
}

fn at<'v>(values: Values<'v>, index: usize) -> Option<&'v str> {
    values.get(index).and_then(Option::as_deref)
}

/// A time as our sessions print it, `2025-01-01 16:10:00.5+00`, as RFC 3339 with six digits; as text such times sort by
/// age. One that is no time of our age is none.
fn moment(text: &str) -> Option<String> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    let (date, time) = text.split_once(' ')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let is_plain = |text: &str, length: usize| text.len() == length && text.is_ascii();
    (is_plain(date, 10) && is_plain(time, 8) && fraction.len() <= 6).then(|| format!("{date}T{time}.{fraction:0<6}Z"))
}

/// Lines of COPY text, split into values.
#[derive(Default)]
struct Lines {
    part: Vec<u8>,
    /// Whether the line is too long to be looked at.
    is_over: bool,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(Values<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            if !self.is_over {
                let values: Vec<Option<String>> = self.part.split(|byte| *byte == b'\t').map(value).collect();
                take(&values);
            }
            self.part.clear();
            self.is_over = false;
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.is_over |= self.part.len() + bytes.len() > ROW_BYTES_MAX;
        if !self.is_over {
            self.part.extend_from_slice(bytes);
        }
    }
}

/// One value of COPY text.
fn value(text: &[u8]) -> Option<String> {
    if text == b"\\N" {
        return None;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    Some(String::from_utf8_lossy(&plain).into_owned())
}

#[derive(Default)]
struct PaymentMarks {
    all: Option<u64>,
    unsettled: Option<u64>,
    newest: Option<String>,
}

/// Number of payments, of those not settled, and the newest one's time.
fn payments(reader: &Reader<'_>) -> Result<PaymentMarks, PostgresError> {
    let has = |column: &str| reader.has("Payments", column);
    let (has_status, has_created) = (has("Status"), has("Created"));
    let columns: Vec<&str> = ["Status", "Created"].into_iter().filter(|column| has(column)).chain(["Id"]).collect();
    let (mut all, mut unsettled, mut newest) = (0, 0, None);
    let is_there = reader.each("Payments", &columns, &mut |values| {
        all += 1;
        unsettled += u64::from(has_status && matches!(at(values, 0), Some("New" | "Processing")));
        if has_created {
            newest = newest.take().max(at(values, usize::from(has_status)).and_then(moment));
        }
    })?;
    Ok(PaymentMarks { all: is_there.then_some(all), unsettled: (is_there && has_status).then_some(unsettled), newest })
}

fn btcpay(reader: &Reader<'_>) -> Result<BtcpayMarks, PostgresError> {
    let mut by_status: BTreeMap<(String, String), u64> = BTreeMap::new();
    let is_there = reader.each("Invoices", &["Status", "ExceptionStatus"], &mut |values| {
        let text = |index| at(values, index).unwrap_or_default().to_owned();
        *by_status.entry((text(0), text(1))).or_default() += 1;
    })?;
    let by_status = is_there.then(|| {
        let count = |((status, exception), count)| InvoiceCount { status, exception, count };
        by_status.into_iter().map(count).collect::<Vec<_>>()
    });
    // The words of today's versions and of those before 2.0.
    let waits = ["new", "processing", "paid", "confirmed"];
    let sum = |list: &Vec<InvoiceCount>, wanted: &dyn Fn(&InvoiceCount) -> bool| {
        list.iter().filter(|entry| wanted(entry)).map(|entry| entry.count).sum()
    };
    let waiting = |entry: &InvoiceCount| waits.contains(&entry.status.to_ascii_lowercase().as_str());
    let mut payouts: BTreeMap<String, u64> = BTreeMap::new();
    let has_payouts = reader.each("Payouts", &["State"], &mut |values| {
        *payouts.entry(at(values, 0).unwrap_or_default().to_owned()).or_default() += 1;
    })?;
    let payments = payments(reader)?;
    Ok(BtcpayMarks {
        invoices: by_status.as_ref().map(|list| sum(list, &|_| true)),
        invoices_unsettled: by_status.as_ref().map(|list| sum(list, &waiting)),
        newest_invoice: reader.newest("Invoices", "Created")?,
        invoices_by_status: by_status,
        payments: payments.all,
        newest_payment: payments.newest,
        payments_unsettled: payments.unsettled,
        newest_migration: reader.largest("__EFMigrationsHistory", "MigrationId")?,
        payouts_by_state: has_payouts
            .then(|| payouts.into_iter().map(|(state, count)| StateCount { state, count }).collect()),
        payout_processors: reader.count("PayoutProcessors", "Id", &|_| true)?,
        // Their status stands inside a document, in the largest table of all: a restore looks, in the restored
        // database.
        webhooks_undelivered: None,
        newest_webhook_delivery: reader.newest("WebhookDeliveries", "Timestamp")?,
    })
}

fn nbxplorer(reader: &Reader<'_>) -> Result<NbxplorerMarks, PostgresError> {
    let mut used: HashMap<(String, String), i64> = HashMap::new();
    let text = |values: Values<'_>, index| at(values, index).unwrap_or_default().to_owned();
    let scripts = ["code", "descriptor", "idx", "used"];
    let has_scripts = reader.each("descriptors_scripts", &scripts, &mut |values| {
        if let (Some("t"), Some(index)) = (at(values, 3), at(values, 2).and_then(|text| text.parse::<i64>().ok())) {
            let most = used.entry((text(values, 0), text(values, 1))).or_insert(index);
            *most = index.max(*most);
        }
    })?;
    let mut descriptors = Vec::new();
    let has_descriptors = has_scripts
        && reader.each("descriptors", &["code", "descriptor", "next_idx"], &mut |values| {
            let (code, descriptor) = (text(values, 0), text(values, 1));
            let next_index = at(values, 2).and_then(|text| text.parse().ok()).unwrap_or(0);
            let max_used_index = used.get(&(code.clone(), descriptor.clone())).copied();
            descriptors.push(DescriptorMark { code, descriptor, next_index, max_used_index });
        })?;
    descriptors.sort_by(|one, other| (&one.code, &one.descriptor).cmp(&(&other.code, &other.descriptor)));
    descriptors.truncate(DESCRIPTORS_MAX);
    let mut height: Option<u64> = None;
    reader.each("blks", &["code", "height", "confirmed"], &mut |values| {
        if let (Some("BTC"), Some("t")) = (at(values, 0), at(values, 2)) {
            height = height.max(at(values, 1).and_then(|text| text.parse().ok()));
        }
    })?;
    let locators =
        reader.count("nbxv1_settings", "key", &|key| key.is_some_and(|key| key.starts_with("BlockLocator")))?;
    Ok(NbxplorerMarks {
        hot_wallet_keys: reader
            .count("nbxv1_metadata", "key", &|key| matches!(key, Some("Mnemonic" | "MasterHDKey")))?,
        descriptors: has_descriptors.then_some(descriptors),
        height,
        has_block_locator: locators.map(|count| count > 0),
        newest_migration: reader.largest("nbxv1_migrations", "script_name")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_copy_writes_them() {
        let mut rows = Vec::new();
        let mut lines = Lines::default();
        for piece in [&b"a\\tb\t\\N\n"[..], b"\tc\\", b"\\d\n", b"\\.x\n"] {
            lines.push(piece, &mut |values| rows.push(values.to_vec()));
        }
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rows, [vec![some("a\tb"), None], vec![some(""), some("c\\d")], vec![some(".x")]]);
    }

    #[test]
    fn times_sort_as_text() {
        assert_eq!(moment("2025-01-01 16:10:00+00").unwrap(), "2025-01-01T16:10:00.000000Z");
        assert_eq!(moment("2025-01-01 16:10:00.25").unwrap(), "2025-01-01T16:10:00.250000Z");
        for odd in ["infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00"] {
            assert_eq!(moment(odd), None, "{odd}");
        }
    }
}
