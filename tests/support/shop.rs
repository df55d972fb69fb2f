//! One PostgreSQL server with a shop's databases for all tests. They only read those two; a test that writes makes a
//! database of its own.

use super::janitor;
use relay_backup::sandbox::cluster::Cluster;
use relay_backup::sandbox::shop::{Shop, Size};
use std::sync::LazyLock;

/// Enough for several segments, few enough to be quick.
const INVOICES: u64 = 400;

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let cluster = Cluster::start(&std::env::temp_dir()).unwrap();
    janitor::stops(cluster.id().unwrap());
    janitor::wipes(cluster.folder());
    if !cluster.socket().starts_with(cluster.folder()) {
        janitor::wipes(cluster.socket().parent().unwrap());
    }
    Shop::create(&cluster, 7, Size::Invoices(INVOICES)).unwrap();
    cluster
});

/// The server, started by the first test that asks.
pub(crate) fn cluster() -> &'static Cluster {
    &CLUSTER
}
