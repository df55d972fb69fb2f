//! Content-defined cutting (FastCDC): an insertion moves only the boundaries near it, so that the rest of an artifact
//! keeps its segment ids. The gear table comes from the dedup key, so lengths betray nothing.

use crate::base::limits::{SEGMENT_BYTES_AVERAGE, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use std::collections::VecDeque;
use std::sync::Arc;

/// The keyed table and masks; shared by all artifacts of a run.
#[derive(Clone)]
pub struct Knife {
    table: Arc<Tables>,
}

struct Tables {
    gear: [u64; 256],
    gear_shifted: [u64; 256],
    mask_small: u64,
    mask_large: u64,
}

impl Knife {
    /// Sets up for this gear table.
    pub fn new(gear: [u64; 256]) -> Self {
        let (mask_small, mask_large) = select_masks(SEGMENT_BYTES_AVERAGE, Normalization::Level1);
        Self { table: Arc::new(Tables { gear, gear_shifted: gear.map(|word| word << 1), mask_small, mask_large }) }
    }

    /// Where the first segment of `content` ends. `content` must be at least [`SEGMENT_BYTES_MAX`] long unless
    /// the artifact ends with it.
    fn first_end(&self, content: &[u8]) -> usize {
        let t = &*self.table;
        let (_, end) = cut_gear(
            content,
            SEGMENT_BYTES_MIN,
            SEGMENT_BYTES_AVERAGE,
            SEGMENT_BYTES_MAX,
            t.mask_small,
            t.mask_large,
            t.mask_small << 1,
            t.mask_large << 1,
            &t.gear,
            &t.gear_shifted,
        );
        end
    }
}

/// Cuts one artifact's bytes, given in any portions, into segments.
pub struct Cutter {
    knife: Knife,
    buffer: Vec<u8>,
    start: usize,
    /// Places in the buffer where a segment ends whatever the content says, in order.
    marks: VecDeque<usize>,
}

/// How much the cutter gathers before it looks for boundaries.
const BUFFER_BYTES: usize = 2 * SEGMENT_BYTES_MAX;

impl Cutter {
    /// A cutter for one artifact.
    pub fn new(knife: Knife) -> Self {
        Self { knife, buffer: Vec::new(), start: 0, marks: VecDeque::new() }
    }

    /// Takes a portion; hands each finished segment to `take`.
    pub fn push<E>(&mut self, mut portion: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while !portion.is_empty() {
            let room = BUFFER_BYTES - (self.buffer.len() - self.start);
            if self.buffer.len() + portion.len().min(room) > BUFFER_BYTES && self.start > 0 {
                self.buffer.drain(..self.start);
                self.marks.iter_mut().for_each(|mark| *mark -= self.start);
                self.start = 0;
            }
            let count = portion.len().min(BUFFER_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&portion[..count]);
            portion = &portion[count..];
            while self.buffer.len() - self.start >= SEGMENT_BYTES_MAX {
                self.cut_one(&mut take)?;
            }
        }
        Ok(())
    }

    /// Ends a segment here, however short it is: what follows is cut as if the artifact began anew. For a part that
    /// differs in every run, so that it does not take its neighbours with it.
    pub fn mark(&mut self) {
        let here = self.buffer.len();
        if here > self.start && self.marks.back() != Some(&here) {
            self.marks.push_back(here);
        }
    }

    /// Forgets the marks of what was not cut yet.
    pub fn forget_marks(&mut self) {
        self.marks.clear();
    }

    /// Ends the artifact; hands the last segments to `take`.
    pub fn finish<E>(mut self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while self.start < self.buffer.len() {
            self.cut_one(&mut take)?;
        }
        Ok(())
    }

    fn cut_one<E>(&mut self, take: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let limit = self.marks.front().copied().unwrap_or(self.buffer.len());
        let content = &self.buffer[self.start..limit];
        let end = self.knife.first_end(content);
        assert!(end > 0 && end <= SEGMENT_BYTES_MAX.min(content.len()), "a segment keeps within its limits");
        take(&content[..end])?;
        self.start += end;
        if self.marks.front() == Some(&self.start) {
            self.marks.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn knife() -> Knife {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        Knife::new(std::array::from_fn(|_| {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            word ^ (word >> 29)
        }))
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    fn cut(content: &[u8], portion: usize) -> Vec<Vec<u8>> {
        let mut segments = Vec::new();
        let mut cutter = Cutter::new(knife());
        let mut take = |segment: &[u8]| {
            segments.push(segment.to_vec());
            Ok::<_, ()>(())
        };
        for part in content.chunks(portion) {
            cutter.push(part, &mut take).unwrap();
        }
        cutter.finish(&mut take).unwrap();
        segments
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn nothing_is_lost_and_limits_hold(
            length in 0usize..20_000_000,
            portion in 1000usize..9_000_000,
            seed in any::<u64>(),
        ) {
            let content = noise(length, seed);
            let segments = cut(&content, portion);
            prop_assert_eq!(segments.concat(), content);
            for (index, segment) in segments.iter().enumerate() {
                prop_assert!(!segment.is_empty() && segment.len() <= SEGMENT_BYTES_MAX);
                prop_assert!(segment.len() >= SEGMENT_BYTES_MIN || index + 1 == segments.len());
            }
        }
    }

    #[test]
    fn portions_do_not_matter() {
        let content = noise(13_000_000, 7);
        assert_eq!(cut(&content, 13_000_000), cut(&content, 4097));
    }

    #[test]
    fn an_insertion_changes_only_what_is_near() {
        let content = noise(30_000_000, 3);
        let mut changed = content.clone();
        changed.splice(15_000_000..15_000_000, [1, 2, 3]);
        let (before, after) = (cut(&content, 1 << 20), cut(&changed, 1 << 20));
        let kept = before.iter().filter(|segment| after.contains(segment)).count();
        assert!(kept + 3 >= before.len(), "{kept} of {} segments were kept", before.len());
        assert!(before.len() > 15, "the average is near one MiB: {}", before.len());
    }

    #[test]
    fn a_mark_keeps_a_changing_head_from_the_rest() {
        let body = noise(9_000_000, 5);
        let cut_with = |head: &[u8]| {
            let mut segments = Vec::new();
            let mut cutter = Cutter::new(knife());
            let mut take = |segment: &[u8]| {
                segments.push(segment.to_vec());
                Ok::<_, ()>(())
            };
            cutter.push(head, &mut take).unwrap();
            cutter.mark();
            cutter.push(&body, &mut take).unwrap();
            cutter.finish(&mut take).unwrap();
            segments
        };
        let (one, other) = (cut_with(b"head of Monday"), cut_with(b"head of Tuesday, longer"));
        assert_eq!(one[0], b"head of Monday");
        assert_eq!(one[1..], other[1..]);
    }

    #[test]
    fn content_without_boundaries_is_cut_at_the_largest_length() {
        let segments = cut(&vec![0u8; 2 * SEGMENT_BYTES_MAX + 5], 1 << 20);
        assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [SEGMENT_BYTES_MAX, SEGMENT_BYTES_MAX, 5]);
    }
}
