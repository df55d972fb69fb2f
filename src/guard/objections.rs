//! What one guard finds against a plan, gathered until all of it is known: a person at night mends five things better
//! after one refusal than after five.

use super::facts::Known;
use super::{Detail, Guard, Refusal, Verdict};

/// The objections of one guard.
pub(super) struct Objections {
    guard: Guard,
    details: Vec<Detail>,
    can_be_accepted: bool,
}

impl Objections {
    pub(super) fn of(guard: Guard) -> Self {
        Self { guard, details: Vec::new(), can_be_accepted: guard.can_be_accepted() }
    }

    /// Adds one.
    pub(super) fn add(&mut self, subject: impl ToString, message: impl Into<String>, hint: impl Into<String>) {
        self.details.push(Detail {
            subject: subject.to_string(),
            message: message.into(),
            hint: hint.into(),
            at_stake_sat: None,
        });
    }

    /// Adds one on which money hangs.
    pub(super) fn add_detail(&mut self, detail: Detail) {
        self.details.push(detail);
    }

    /// Adds one that nobody may accept.
    pub(super) fn forbid(&mut self, subject: impl ToString, message: impl Into<String>, hint: impl Into<String>) {
        self.add(subject, message, hint);
        self.can_be_accepted = false;
    }

    /// The fact, or an objection that it is unknown.
    pub(super) fn need<'a, T: ?Sized>(
        &mut self,
        subject: impl ToString,
        what: &str,
        fact: Known<&'a T>,
    ) -> Option<&'a T> {
        match fact {
            Known::Is(fact) => Some(fact),
            Known::Unknown(why) => {
                let message = format!("{what} is not known ({why}), and what is not known counts against the plan");
                self.add(subject, message, "see to it that this can be learned, then run it again");
                None
            }
        }
    }

    /// Refused if anything was objected, otherwise cleared for this reason.
    pub(super) fn verdict(self, because: impl Into<String>) -> Verdict {
        let Some(first) = self.details.first() else { return Verdict::Cleared { because: because.into() } };
        let more = match self.details.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Verdict::Refused(Refusal {
            guard: self.guard,
            reason: format!("{}: {}{more}", first.subject, first.message),
            hint: first.hint.clone(),
            can_be_accepted: self.can_be_accepted,
            details: self.details,
        })
    }
}
