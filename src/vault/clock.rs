//! A store's own clock: the one by which it says when an object was stored. Whether a host still lives is told by how
//! old its newest object is, and two clocks would make that a guess. Puts no object into the vault.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use opendal::{Buffer, HttpBody, HttpTransport, HttpTransporter, Operator};
use std::sync::{Arc, Mutex, PoisonError};

/// Filesystems of this machine's own (`linux/magic.h`, and those kept outside of it): the clock by which they date a
/// file is the system's.
const LOCAL: [u32; 14] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlay
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x0000_4d44, // vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0x3153_464a, // jfs
    0x5265_4973, // reiserfs
    0x8584_58f6, // ramfs
];

/// Whether this machine's own clock dates the files of a filesystem of this type.
pub(super) fn is_local(filesystem_type: u64) -> bool {
    u32::try_from(filesystem_type).is_ok_and(|kind| LOCAL.contains(&kind))
}

/// What the newest answer of a store said the time is.
#[derive(Clone, Debug, Default)]
pub(super) struct Dates(Arc<Mutex<Option<Timestamp>>>);

impl Dates {
    /// The operator with every answer's date noted on the way.
    pub(super) fn watch(&self, operator: Operator) -> Operator {
        let context = operator.base_context().clone();
        let transport = Dated { inner: context.http_transport().clone(), dates: self.clone() };
        operator.with_context(context.with_http_transport(HttpTransporter::new(transport)))
    }

    /// Forgets what was noted.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the newest answer said; `None` where none came, or none with a date.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, date: &str) {
        if let Ok(date) = DateTimeParser::new().parse_timestamp(date) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(date);
        }
    }
}

struct Dated {
    inner: HttpTransporter,
    dates: Dates,
}

impl HttpTransport for Dated {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let response = self.inner.fetch(request).await?;
        if let Some(date) = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok()) {
            self.dates.note(date);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_understood() {
        let dates = Dates::default();
        dates.note("no date");
        assert_eq!(dates.newest(), None);
        dates.note("Fri, 20 Nov 2026 09:08:07 GMT");
        assert_eq!(dates.newest(), Some("2026-11-20T09:08:07Z".parse().unwrap()));
        dates.clear();
        assert_eq!(dates.newest(), None);
    }

    #[test]
    fn what_another_machine_serves_is_not_local() {
        assert!(is_local(0xef53));
        for served in [0x6969_u64, 0xff53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400] {
            assert!(!is_local(served), "{served:x}");
        }
    }
}
