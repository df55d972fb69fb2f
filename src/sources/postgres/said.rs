//! What a server said when it refused, as far as it may be shown. A server quotes rows in its messages: DETAIL holds
//! the row that failed, CONTEXT the line of a COPY, and what a function raises can hold anything. Of all that only the
//! message and its code are kept, and of a message that quotes a value only its beginning. Never a statement's text.

use std::fmt;
use tokio_postgres::error::SqlState;

/// The class of errors of a server that lacks room, memory or connections.
const NO_RESOURCES: &str = "53";
/// Classes of codes whose messages quote the value that was wrong, behind a colon: data exceptions.
const QUOTES_VALUES: &str = "22";
/// Classes of codes of errors that a function raises in words of its own.
const OWN_WORDS: [&str; 3] = ["P0", "38", "39"];

/// What a server, or the way to it, said.
#[derive(Debug)]
pub struct Said {
    code: Option<SqlState>,
    text: String,
    hint: Option<String>,
    /// Whether the connection is gone.
    is_closed: bool,
    is_no_room: bool,
}

impl Said {
    #[cfg(test)]
    pub(super) fn for_test(text: &str) -> Self {
        Self { code: None, text: text.to_owned(), hint: None, is_closed: false, is_no_room: false }
    }

    /// The code, where a server spoke.
    pub fn code(&self) -> Option<&SqlState> {
        self.code.as_ref()
    }

    /// The server's own hint.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether the server lacks room, memory or connections, so that what failed is not at fault.
    pub fn is_no_room(&self) -> bool {
        self.is_no_room
    }
}

impl From<tokio_postgres::Error> for Said {
    fn from(error: tokio_postgres::Error) -> Self {
        let is_closed = error.is_closed();
        let Some(said) = error.as_db_error() else {
            return Self { code: None, text: super::chain(&error), hint: None, is_closed, is_no_room: false };
        };
        let (text, hint) = shown(said.code().code(), said.message(), said.hint());
        // A function can raise any code; the server says where that came from.
        let is_own = said.where_().is_some_and(|place| place.contains("RAISE"));
        let is_no_room = said.code().code().starts_with(NO_RESOURCES) && !is_own;
        Self { code: Some(said.code().clone()), text, hint, is_closed, is_no_room }
    }
}

/// Message and hint as they may be shown.
fn shown(code: &str, message: &str, hint: Option<&str>) -> (String, Option<String>) {
    if OWN_WORDS.iter().any(|class| code.starts_with(class)) {
        return (format!("a function raised an error of its own (code {code}); its words are not shown"), None);
    }
    let message = message.lines().next().unwrap_or_default();
    if code.starts_with(QUOTES_VALUES) {
        let end = message.find(": ").or_else(|| message.find('"')).unwrap_or(message.len());
        return (format!("ERROR: {} (code {code})", message.get(..end).unwrap_or_default().trim_end()), None);
    }
    (format!("ERROR: {message}"), hint.map(|hint| hint.lines().next().unwrap_or_default().to_owned()))
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Said {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_shown() {
        let told = |code: &str, message: &str| shown(code, message, Some("a hint")).0;
        let invalid = told("22P02", "invalid input syntax for type integer: \"abandon ability\"");
        assert_eq!(invalid, "ERROR: invalid input syntax for type integer (code 22P02)");
        assert!(!told("22P02", "invalid \"abandon\"").contains("abandon"));
        assert!(!told("P0001", "abandon ability").contains("abandon"));
        assert_eq!(told("42883", "function f(text) does not exist\nabandon"), "ERROR: function f(text) does not exist");
        assert_eq!(shown("42883", "x", Some("a hint")).1.unwrap(), "a hint");
        assert_eq!(shown("P0001", "x", Some("abandon")).1, None);
    }
}
