//! What a store answered when it did not do what it was asked, or how the way to it broke, told in one sentence that a
//! person can read. OpenDAL's own error repeats the address, the object and the head of the answer on one long line.

use super::error::{Trouble, trouble_of};
use super::transport::{NO_LISTING, SENT_ON};
use opendal::ErrorKind;
use std::error::Error;
use std::fmt;
use std::io;

/// Longest text of a store that is repeated in a message, in characters: it may be a whole page of a proxy.
const TEXT_CHARS_MAX: usize = 200;

/// Why a store did not do what it was asked. Shows the answer's status, code and text, and nothing of the request.
pub struct StoreError {
    dal: Box<opendal::Error>,
    answer: Option<Answer>,
}

/// What of an answer is worth telling.
struct Answer {
    status: u16,
    code: String,
    text: String,
}

impl StoreError {
    pub(super) fn new(dal: opendal::Error) -> Self {
        let answer = status(&dal.to_string()).map(|status| {
            // OpenDAL gives the members of S3's answer only as a text of its own, and any other answer as it came.
            let member = |name: &str| quoted(dal.message(), name);
            match member("code").filter(|_| dal.message().starts_with("S3Error {")) {
                Some(code) => Answer { status, code, text: member("message").unwrap_or_default() },
                None => Answer { status, code: String::new(), text: dal.message().to_owned() },
            }
        });
        Self { dal: Box::new(dal), answer }
    }

    /// What kind of trouble it is. The answer's code counts for more than its status: a wrong clock and a wrong key are
    /// both 403.
    pub(super) fn trouble(&self) -> Trouble {
        let Some(Answer { status, code, text }) = &self.answer else { return self.trouble_without_answer() };
        match (code.as_str(), status) {
            ("RequestTimeTooSkewed" | "RequestExpired", _) => Trouble::Clock,
            // Garage has no code of its own for this.
            ("InvalidRequest", 400) if text.contains("Date is too old") => Trouble::Clock,
            ("NoSuchBucket", _) => Trouble::Bucket,
            ("PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "AuthorizationHeaderMalformed", _)
            | (_, 300..=399) => Trouble::Elsewhere,
            ("InsufficientStorage" | "QuotaExceeded" | "XMinioStorageFull", _) | (_, 507) => Trouble::Full,
            // Garage and others refuse what goes over a quota as they refuse what is not allowed.
            (_, 403) if text.contains("quota") => Trouble::Full,
            (_, 401 | 403) => Trouble::Denied,
            ("RequestTimeout", _) => Trouble::Connection,
            // An answer to a look has no body and so no code: S3 gives this status when too much is asked of it.
            ("" | "SlowDown" | "TooManyRequests", 503) | (_, 429) => Trouble::Busy,
            (_, 500..=599) => Trouble::Store,
            _ if self.dal.kind() == ErrorKind::RateLimited => Trouble::Busy,
            _ => Trouble::Other,
        }
    }

    fn trouble_without_answer(&self) -> Trouble {
        match self.dal.kind() {
            ErrorKind::PermissionDenied => return Trouble::Denied,
            ErrorKind::RateLimited => return Trouble::Busy,
            _ if self.dal.message().starts_with(SENT_ON) => return Trouble::Elsewhere,
            _ if self.dal.message().starts_with(NO_LISTING) => return Trouble::Connection,
            _ => {}
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && trouble_of(io) != Trouble::Other
            {
                return trouble_of(io);
            }
            cause = error.source();
        }
        // The HTTP client tells a connection that ends too early by an error of its own.
        let is_broken = self.dal.is_temporary() && self.source().is_some();
        if is_broken { Trouble::Connection } else { Trouble::Other }
    }

    /// Whether the same request may succeed later with nothing changed.
    pub(super) fn is_temporary(&self) -> bool {
        match self.trouble() {
            Trouble::Connection | Trouble::Busy => true,
            Trouble::Store | Trouble::Other => self.dal.is_temporary(),
            Trouble::Full
            | Trouble::Denied
            | Trouble::ReadOnly
            | Trouble::Clock
            | Trouble::Bucket
            | Trouble::Elsewhere => false,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Answer { status, code, text }) = &self.answer else {
            return match (self.trouble(), self.dal.message()) {
                (Trouble::Connection, "send http request") => {
                    f.write_str("the connection could not be made or broke off before the answer")
                }
                (Trouble::Connection, message) if !message.starts_with(NO_LISTING) => {
                    f.write_str("the answer breaks off or cannot be read")
                }
                (_, message) => f.write_str(&printable(message)),
            };
        };
        write!(f, "the store answered {status}")?;
        if !code.is_empty() {
            write!(f, " {}", printable(code))?;
        }
        if !text.is_empty() {
            write!(f, ": {}", printable(text))?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.dal, f)
    }
}

// By hand: the cause is that of OpenDAL's error, which itself says nothing that is not said above.
impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.dal.source()
    }
}

/// The status of the answer that an error of OpenDAL was made from.
fn status(error: &str) -> Option<u16> {
    let (_, rest) = error.split_once("response: Parts { status: ")?;
    rest.get(..3)?.parse().ok()
}

/// A member of `S3Error { code: "…", message: "…", … }`, without its quotes and escapes.
fn quoted(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{name}: \""))?;
    let mut member = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(member),
            '\\' => member.extend(letters.next()),
            letter => member.push(letter),
        }
    }
}

/// A text of the store that does no harm on a terminal.
fn printable(text: &str) -> String {
    let cut = text.chars().take(TEXT_CHARS_MAX);
    cut.map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as OpenDAL makes it from an answer.
    fn answered(kind: ErrorKind, status: u16, message: &str) -> StoreError {
        let parts = format!("Parts {{ status: {status}, version: HTTP/1.1, headers: {{}} }}");
        StoreError::new(opendal::Error::new(kind, message).with_context("response", parts))
    }

    fn s3(status: u16, code: &str, message: &str) -> StoreError {
        let text = format!("S3Error {{ code: {code:?}, message: {message:?}, resource: \"/\", request_id: \"1\" }}");
        let kind = if status == 403 { ErrorKind::PermissionDenied } else { ErrorKind::Unexpected };
        answered(kind, status, &text)
    }

    #[test]
    fn an_answer_is_told_in_one_sentence_and_sorted_by_its_code() {
        let error = s3(403, "RequestTimeTooSkewed", "The \"difference\" is too large");
        assert_eq!(error.to_string(), "the store answered 403 RequestTimeTooSkewed: The \"difference\" is too large");
        assert_eq!(error.trouble(), Trouble::Clock);
        assert_eq!(s3(400, "InvalidRequest", "Bad request: Date is too old").trouble(), Trouble::Clock);
        assert_eq!(s3(403, "SignatureDoesNotMatch", "").trouble(), Trouble::Denied);
        assert_eq!(s3(403, "AccessDenied", "Forbidden: Bucket size quota is reached").trouble(), Trouble::Full);
        assert_eq!(s3(404, "NoSuchBucket", "").trouble(), Trouble::Bucket);
        assert_eq!(s3(301, "PermanentRedirect", "").trouble(), Trouble::Elsewhere);
        assert_eq!(s3(400, "AuthorizationHeaderMalformed", "").trouble(), Trouble::Elsewhere);
        assert_eq!(s3(507, "", "").trouble(), Trouble::Full);
        assert_eq!(s3(500, "InternalError", "").trouble(), Trouble::Store);
        assert_eq!(s3(503, "ServiceUnavailable", "").trouble(), Trouble::Store);
        assert_eq!(s3(400, "EntityTooLarge", "").trouble(), Trouble::Other);
    }

    #[test]
    fn an_answer_without_a_code_is_sorted_by_its_status() {
        let look = answered(ErrorKind::Unexpected, 503, "");
        assert_eq!((look.to_string().as_str(), look.trouble()), ("the store answered 503", Trouble::Busy));
        assert_eq!(answered(ErrorKind::PermissionDenied, 403, "").trouble(), Trouble::Denied);
        let page = answered(ErrorKind::Unexpected, 502, &format!("<html>\u{1b}[31m{}", "x".repeat(9999)));
        assert_eq!(page.trouble(), Trouble::Store);
        let said = page.to_string();
        assert!(said.starts_with("the store answered 502: <html>") && said.len() < 300, "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }

    #[test]
    fn what_may_pass_is_what_a_store_may_do_differently_next_time() {
        let temporary = |error: StoreError| {
            let StoreError { dal, .. } = error;
            StoreError::new(dal.set_temporary()).is_temporary()
        };
        for passing in [s3(500, "InternalError", ""), s3(503, "SlowDown", ""), answered(ErrorKind::Unexpected, 503, "")]
        {
            assert!(temporary(passing));
        }
        for staying in [
            s3(403, "RequestTimeTooSkewed", ""),
            s3(403, "AccessDenied", ""),
            s3(404, "NoSuchBucket", ""),
            s3(307, "TemporaryRedirect", ""),
            s3(507, "InsufficientStorage", ""),
        ] {
            assert!(!temporary(staying), "asking again changes nothing");
        }
    }
}
