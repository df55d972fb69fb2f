//! How far a channel's life has come. State codes are no order by themselves: a channel goes from NORMAL to
//! AWAITING_SPLICE and back, and codes 11 to 14 were added later.

use crate::facts::cln::{STATE_CLOSED, WalletChannel, state_name};

/// How far a channel has come; greater is later. Two states between which a channel goes to and fro have one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    rank: u8,
    code: i64,
}

/// The short channel id of a channel that `recoverchannel` made.
const STUB_SHORT_ID: &str = "1x1x1";

impl Standing {
    /// It exists, and no more is known. `emergency.recover` tells no state, and the state of a stub is invented.
    pub const EXISTS: Self = Self { rank: 0, code: 0 };

    /// Of a channel in a wallet database.
    pub fn of(channel: &WalletChannel) -> Self {
        // A stub is NORMAL by its code although nobody may use it. What it says is never news: a freshly recovered
        // database is full of them.
        if is_invented(channel) { Self::EXISTS } else { Self::of_code(channel.state) }
    }

    fn of_code(code: i64) -> Self {
        let rank = match code {
            1 | 11 | 14 => 1,
            2 | 12 => 2,
            3 | 13 => 3,
            4..=9 => u8::try_from(code).unwrap_or(u8::MAX),
            STATE_CLOSED => 11,
            // Added after this was written: later than all that is known, and not closed.
            _ => 10,
        };
        Self { rank, code }
    }

    /// Whether nothing can be lost any more, whatever copy is started.
    pub fn is_closed(self) -> bool {
        self.code == STATE_CLOSED
    }

    /// Whether it is one that this program knows.
    pub fn is_known(self) -> bool {
        self.rank != 10
    }

    /// Whether a channel can only have come from the other standing to this one, and not the other way.
    pub fn is_later_than(self, other: Self) -> bool {
        self.rank > other.rank
    }

    /// lightningd's name of it.
    pub fn name(self) -> &'static str {
        if self.rank == 0 { "exists" } else { state_name(self.code) }
    }
}

/// Whether the row may have been invented by `recoverchannel`: in doubt it was, for what it says then counts for less.
pub(super) fn is_invented(channel: &WalletChannel) -> bool {
    channel.short_channel_id.as_deref() == Some(STUB_SHORT_ID) || channel.has_last_tx == Some(false)
}

/// Whether lightningd surely has nothing to broadcast for this row: in doubt it has.
pub(crate) fn cannot_broadcast(channel: &WalletChannel) -> bool {
    channel.short_channel_id.as_deref() == Some(STUB_SHORT_ID) && channel.has_last_tx == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_life_goes_one_way() {
        let life: [&[i64]; 11] =
            [&[0], &[1, 11, 14], &[2, 12], &[3, 13], &[4], &[5], &[6], &[7], &[8], &[9], &[15, 99, -1, 0]];
        let mut ranks: Vec<Vec<Standing>> =
            life.iter().map(|codes| codes.iter().map(|code| Standing::of_code(*code)).collect()).collect();
        ranks[0] = vec![Standing::EXISTS];
        ranks.push(vec![Standing::of_code(STATE_CLOSED)]);
        for (age, standings) in ranks.iter().enumerate() {
            for standing in standings {
                assert_eq!(standing.is_closed(), age == 11, "{standing:?}");
                assert_eq!(standing.is_known(), age != 10, "{standing:?}");
                for (other_age, others) in ranks.iter().enumerate() {
                    assert!(
                        others.iter().all(|other| standing.is_later_than(*other) == (age > other_age)),
                        "{standing:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn standings_have_lightningds_names() {
        assert_eq!(Standing::EXISTS.name(), "exists");
        assert_eq!(Standing::of_code(3).name(), "CHANNELD_NORMAL");
        assert_eq!(Standing::of_code(77).name(), "unknown");
    }
}
