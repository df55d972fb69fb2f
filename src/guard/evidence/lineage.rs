//! `data_version`: it grows by one with each transaction, within one lineage. A database that is made anew begins at 1
//! again, so a smaller number is not older and a greater one not newer unless both are of one lineage.

use jiff::Timestamp;
use std::cmp::Ordering;

/// What one database's `data_version` says of another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The other holds transactions that this one lacks, or is of a lineage that began after it.
    Newer,
    /// It holds none, or it is of an earlier lineage.
    NotNewer,
    /// Nobody can tell.
    Unknown,
}

/// A `data_version` as it lies in a database, and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number.
    pub number: Option<i64>,
    /// When, by the clock of the host; `None` where nobody knows.
    pub taken: Option<Timestamp>,
    /// The number of the snapshot it is in; `None` where it is in none. Where it and the clock do not agree, nobody
    /// knows which was read before the other.
    pub sequence: Option<u64>,
}

impl Version {
    /// Whether this one was read before, or after, another; `None` where nobody can tell.
    fn order(self, other: Self) -> Option<Ordering> {
        let by_clock = self.taken?.cmp(&other.taken?);
        match (self.sequence, other.sequence) {
            (Some(own), Some(others)) => Some(own.cmp(&others)).filter(|by_number| *by_number == by_clock),
            _ => Some(by_clock),
        }
    }
}

/// Whether `other` is newer than `ours`.
pub fn relation(ours: Version, other: Version) -> Relation {
    let order = other.order(ours);
    if order == Some(Ordering::Less) {
        // Greater and yet earlier: of a lineage that ended before ours began.
        return Relation::NotNewer;
    }
    let (Some(own), Some(number)) = (ours.number, other.number) else { return Relation::Unknown };
    match step(own, number) {
        0 => Relation::NotNewer,
        1.. => Relation::Newer,
        // Smaller and yet later: a new lineage, so somebody ran the node on another database.
        _ if order == Some(Ordering::Greater) => Relation::Newer,
        _ => Relation::NotNewer,
    }
}

/// How far it is from one to the other. lightningd counts in 32 bits, lets the number wrap around, and stores it
/// through a signed one.
fn step(from: i64, to: i64) -> i32 {
    to.wrapping_sub(from) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: i64, second: i64) -> Version {
        Version { number: Some(number), taken: Some(Timestamp::from_second(second).unwrap()), sequence: None }
    }

    fn undated(number: i64) -> Version {
        Version { number: Some(number), taken: None, sequence: None }
    }

    #[test]
    fn within_one_lineage_the_greater_number_is_newer() {
        assert_eq!(relation(at(10, 5), at(11, 6)), Relation::Newer);
        assert_eq!(relation(at(10, 5), at(10, 6)), Relation::NotNewer);
        assert_eq!(relation(at(10, 5), at(9, 4)), Relation::NotNewer);
        assert_eq!(relation(at(10, 5), at(11, 5)), Relation::Newer, "read in the same second");
        assert_eq!(relation(at(10, 5), at(9, 5)), Relation::NotNewer);
    }

    #[test]
    fn a_decrease_begins_a_new_lineage() {
        assert_eq!(relation(at(774, 5), at(2, 6)), Relation::Newer, "somebody began anew after ours");
        assert_eq!(relation(at(2, 6), at(774, 5)), Relation::NotNewer, "ours began anew after theirs");
    }

    #[test]
    fn a_blank_database_whose_time_nobody_knows_is_no_news() {
        assert_eq!(relation(at(774, 5), undated(2)), Relation::NotNewer);
        assert_eq!(relation(at(774, 5), undated(775)), Relation::Newer);
    }

    #[test]
    fn one_wrong_clock_says_nothing_against_the_numbers_of_the_snapshots() {
        let of = |number, second, sequence| Version { sequence: Some(sequence), ..at(number, second) };
        assert_eq!(relation(of(10, 5, 8), of(9, 900, 7)), Relation::NotNewer, "a clock was ahead once");
        assert_eq!(relation(of(10, 5, 8), of(11, 900, 7)), Relation::Newer, "numbers still count");
        assert_eq!(relation(of(774, 5, 8), of(2, 6, 9)), Relation::Newer);
        assert_eq!(relation(of(774, 5, 8), of(775, 4, 7)), Relation::NotNewer);
    }

    #[test]
    fn the_number_wraps_around_at_32_bits() {
        let most = i64::from(u32::MAX);
        assert_eq!(relation(at(most, 5), at(0, 6)), Relation::Newer);
        assert_eq!(relation(at(most, 5), undated(3)), Relation::Newer);
        assert_eq!(relation(at(3, 5), undated(most)), Relation::NotNewer);
        // Stored through a signed number: 2^31 lies in the file as -2^31.
        let half = i64::from(i32::MAX);
        assert_eq!(relation(at(half, 5), undated(i64::from(i32::MIN))), Relation::Newer);
        assert_eq!(relation(at(i64::from(i32::MIN), 5), undated(1 << 31)), Relation::NotNewer, "the same number");
    }

    #[test]
    fn a_missing_number_is_unknown_unless_it_is_surely_older() {
        let none = |second| Version { number: None, ..at(0, second) };
        assert_eq!(relation(at(10, 5), none(6)), Relation::Unknown);
        assert_eq!(relation(none(5), at(10, 6)), Relation::Unknown);
        assert_eq!(relation(at(10, 5), none(4)), Relation::NotNewer);
        assert_eq!(relation(at(10, 5), Version { number: None, taken: None, sequence: None }), Relation::Unknown);
    }
}
