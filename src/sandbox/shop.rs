//! Databases shaped like a shop's: BTCPay Server's and NBXplorer's tables, filled by the server itself, the same for
//! the same seed. For demonstrations, tests and measurements. Holds nothing that could be taken for real keys.

use super::cluster::{Cluster, ClusterError};

/// Bytes of dump that one invoice and what belongs to it come to, about.
const BYTES_PER_INVOICE: u64 = 1_280;
/// Most invoices that are made by one statement, so that memory stays small.
const BATCH: u64 = 50_000;

/// A shop's two databases in a scratch cluster.
#[derive(Debug)]
pub struct Shop<'a> {
    cluster: &'a Cluster,
    seed: u64,
    invoices: u64,
}

/// How large a shop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many invoices; each has its addresses, deliveries, transactions.
    Invoices(u64),
    /// About so many megabytes (10^6 bytes) of BTCPay's dump.
    Megabytes(u64),
}

impl Size {
    fn invoices(self) -> u64 {
        match self {
            Self::Invoices(invoices) => invoices,
            Self::Megabytes(megabytes) => (megabytes * 1_000_000).div_ceil(BYTES_PER_INVOICE),
        }
    }
}

impl<'a> Shop<'a> {
    /// The name of BTCPay's database.
    pub const BTCPAY: &'static str = "btcpaydb";
    /// The name of NBXplorer's database.
    pub const NBXPLORER: &'static str = "nbxplorer";

    /// Makes both databases and fills them.
    pub fn create(cluster: &'a Cluster, seed: u64, size: Size) -> Result<Self, ClusterError> {
        let mut shop = Self { cluster, seed, invoices: 0 };
        for (name, schema) in
            [(Self::BTCPAY, include_str!("shop/btcpay.sql")), (Self::NBXPLORER, include_str!("shop/nbxplorer.sql"))]
        {
            cluster.create_plain_database(name)?;
            cluster.execute(name, schema)?;
        }
        shop.add(size)?;
        for name in [Self::BTCPAY, Self::NBXPLORER] {
            cluster.execute(name, "ANALYZE")?;
        }
        Ok(shop)
    }

    /// How many invoices there are.
    pub fn invoices(&self) -> u64 {
        self.invoices
    }

    /// New business: more invoices with all that belongs to them, appended.
    pub fn add(&mut self, size: Size) -> Result<(), ClusterError> {
        let end = self.invoices + size.invoices();
        while self.invoices < end {
            let (first, last) = (self.invoices + 1, end.min(self.invoices + BATCH));
            let fill = |text: &str| {
                // The longer name first: `:first` and `:last` are no part of each other.
                text.replace(":seed", &format!("'{}-'", self.seed))
                    .replace(":first", &first.to_string())
                    .replace(":last", &last.to_string())
            };
            self.cluster.execute(Self::BTCPAY, &fill(include_str!("shop/btcpay_rows.sql")))?;
            self.cluster.execute(Self::NBXPLORER, &fill(include_str!("shop/nbxplorer_rows.sql")))?;
            self.invoices = last;
        }
        Ok(())
    }

    /// New business of so many percent of what is there, at least one invoice.
    pub fn add_percent(&mut self, percent: u64) -> Result<(), ClusterError> {
        self.add(Size::Invoices((self.invoices * percent / 100).max(1)))
    }

    /// Changes so many of every thousand invoices, scattered over the whole table, as late payments do.
    pub fn update_scattered(&mut self, per_thousand: u64) -> Result<(), ClusterError> {
        let step = 1000u64.checked_div(per_thousand).unwrap_or(1000).max(1);
        let sql = format!(
            "UPDATE \"Invoices\" SET \"Status\" = 'Settled', \"ExceptionStatus\" = 'PaidLate',
                \"Blob2\" = \"Blob2\" || jsonb_build_object('changed', md5(\"Id\"))
            WHERE abs(hashtext(\"Id\")::bigint) % {step} = 0"
        );
        self.cluster.execute(Self::BTCPAY, &sql)
    }
}
