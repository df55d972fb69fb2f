//! Why a vault did not give something: because it is damaged there, or because the vault could not be read. The one
//! calls for another copy, the other for another try; what could not be read is never called damaged.

use super::Error;
use super::error::chain;
use crate::base::ids::VaultName;
use crate::vault::VaultError;

/// Why one vault did not give something.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// It is missing or is not what it should be: asking again gives the same.
    #[error("{reason}")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The vault did not give it, and nothing is known of it.
    #[error("{}", chain(source))]
    Unread {
        /// Why not.
        source: VaultError,
    },
}

impl From<VaultError> for NotGiven {
    fn from(error: VaultError) -> Self {
        if error.is_of_object() { Self::Damaged { reason: chain(&error) } } else { Self::Unread { source: error } }
    }
}

impl NotGiven {
    /// It is there and wrong.
    pub fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }
}

/// The error for a thing that no vault gave: damage where one vault said so, otherwise only that it was not read.
pub fn nobody_gave(thing: String, reasons: &[(VaultName, NotGiven)]) -> Error {
    let said: Vec<String> = reasons.iter().map(|(vault, reason)| format!("vault {vault}: {reason}")).collect();
    let reason = said.join("; ");
    let unread = |(_, reason): &(VaultName, NotGiven)| match reason {
        NotGiven::Damaged { .. } => None,
        NotGiven::Unread { source } => Some(source.hint()),
    };
    let hints: Vec<Option<String>> = reasons.iter().filter_map(unread).collect();
    if !hints.is_empty() && hints.len() == reasons.len() {
        Error::Unread { thing, reason, hint: hints.into_iter().flatten().next() }
    } else {
        Error::Damaged { thing, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn late() -> NotGiven {
        let key = "nodes/n/segments/00/00.age".to_owned();
        let vault = "offsite".parse().unwrap();
        VaultError::TimedOut { vault, action: "get", key, tries: 4, waited: Duration::from_secs(60) }.into()
    }

    #[test]
    fn what_was_not_read_is_not_damaged_and_one_damaged_copy_is_enough_to_say_so() {
        let (a, b): (VaultName, VaultName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let error = nobody_gave("the notes".into(), &[(a.clone(), late()), (b.clone(), late())]);
        assert!(matches!(&error, Error::Unread { .. }) && error.hint().is_some(), "{error:?}");
        let error = nobody_gave("the notes".into(), &[(a, late()), (b, NotGiven::damaged("other content"))]);
        assert!(matches!(&error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("no answer within 60 s") && error.to_string().contains("other content"));
        assert!(matches!(nobody_gave("the notes".into(), &[]), Error::Damaged { .. }), "no vault has it");
    }

    #[test]
    fn an_object_that_is_missing_is_damage() {
        let error = VaultError::NotFound { vault: "a".parse().unwrap(), key: "x".into() };
        assert!(matches!(NotGiven::from(error), NotGiven::Damaged { .. }));
    }
}
