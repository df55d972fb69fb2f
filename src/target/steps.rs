//! The points between two changes of the disk at which a run may be cut off. In the program they are nothing. In a
//! test one of them ends the run as a power cut would: what was written stays, and nothing is tidied up.

#[cfg(not(test))]
pub(super) fn reached(_point: &'static str) -> Result<(), super::TargetError> {
    Ok(())
}

/// Whether this run was cut off: then nothing cleans up after itself.
#[cfg(not(test))]
pub(super) fn is_cut() -> bool {
    false
}

#[cfg(test)]
pub(super) use in_tests::{is_cut, reached, survive};

#[cfg(test)]
mod in_tests {
    use crate::base::fsio::FileError;
    use crate::target::TargetError;
    use std::cell::Cell;
    use std::path::Path;

    thread_local! {
        /// How many points may still be passed; none when nothing is to be cut off.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static CUT: Cell<bool> = const { Cell::new(false) };
    }

    pub(in crate::target) fn reached(point: &'static str) -> Result<(), TargetError> {
        match LEFT.get() {
            Some(0) => {
                CUT.set(true);
                let source = std::io::Error::other(point);
                Err(TargetError::File(FileError::io("go on at", Path::new("the test's cut"))(source)))
            }
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    pub(in crate::target) fn is_cut() -> bool {
        CUT.get()
    }

    /// Runs `again` from `prepared()` on, cut off at its first point, then at its second and so on, each time followed
    /// by a run that is not; `end` looks at what came of it. Tells how many points there were.
    pub(in crate::target) fn survive<T>(
        prepared: impl Fn() -> T,
        again: impl Fn(&T) -> Result<(), TargetError>,
        end: impl Fn(&T, u32),
    ) -> u32 {
        for point in 0.. {
            let ground = prepared();
            LEFT.set(Some(point));
            let first = again(&ground);
            LEFT.set(None);
            let was_cut = CUT.replace(false);
            assert_eq!(first.is_err(), was_cut, "point {point}: {first:?}");
            again(&ground).unwrap_or_else(|error| panic!("after a cut at point {point}: {error:?}"));
            end(&ground, point);
            if !was_cut {
                return point;
            }
        }
        unreachable!("a run has an end")
    }
}
