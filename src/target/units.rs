//! Units of systemd, asked and told through `systemctl`: its state, stop, start, and waiting until the job is done.
//! Only units that the caller names; never enables, disables, masks or changes one.

use crate::base::exec::{self, Exec, ExecError};
use crate::base::interrupt::Interrupt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Pause between two looks at a job.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longest name of a unit, in bytes (systemd's own limit).
const NAME_BYTES_MAX: usize = 255;
/// The kinds of units a restore may name.
const KINDS: [&str; 4] = [".service", ".target", ".timer", ".socket"];

/// The unit manager of this machine.
#[derive(Clone, Debug)]
pub struct Units {
    systemctl: PathBuf,
}

/// How a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no unit of this name.
    Absent,
    /// It does not run; it was stopped or never started.
    Stopped,
    /// It does not run; its last run failed.
    Failed,
    /// It runs.
    Running,
    /// It is being started or stopped, or will be started again in a moment.
    Changing,
}

/// Why a unit could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The name is none of a unit's.
    #[error("{name:?} is not the name of a unit")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is no unit of this name.
    #[error("this machine has no unit {unit}")]
    Absent {
        /// The unit.
        unit: String,
    },
    /// systemctl is not there or failed.
    #[error("cannot {action} {unit}")]
    Systemctl {
        /// `ask for`, `stop`, `start`.
        action: &'static str,
        /// The unit.
        unit: String,
        /// Why not.
        #[source]
        source: ExecError,
    },
    /// It answered something that is not understood.
    #[error("systemctl says nothing that is understood of {unit}: {said}")]
    Answer {
        /// The unit.
        unit: String,
        /// What it said.
        said: String,
    },
    /// The unit did not reach the state.
    #[error("{unit} was told to {action} and is now {state}")]
    NotReached {
        /// The unit.
        unit: String,
        /// `stop` or `start`.
        action: &'static str,
        /// What it is.
        state: &'static str,
    },
    /// It takes longer than was to be waited for.
    #[error("{unit} was told to {action} and is still {state} after {} s", waited.as_secs())]
    TooSlow {
        /// The unit.
        unit: String,
        /// `stop` or `start`.
        action: &'static str,
        /// What it is.
        state: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// Somebody asked to stop.
    #[error("interrupted while {unit} was waited for")]
    Interrupted {
        /// The unit.
        unit: String,
    },
}

impl UnitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { unit } => Some(format!(
                "deploy the system's configuration first, or name the unit that stands for {unit} in the scenario's file"
            )),
            Self::Systemctl { source: ExecError::NotFound { .. }, .. } => {
                Some("run this on the host itself, or restore below another root with --root".to_owned())
            }
            Self::Systemctl { unit, .. } => Some(format!("run as root, and see `systemctl status {unit}`")),
            Self::NotReached { unit, .. } | Self::TooSlow { unit, .. } => {
                Some(format!("see `journalctl -u {unit}`, then run the same command again"))
            }
            _ => None,
        }
    }
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Changing => "changing",
        }
    }
}

impl Units {
    /// The one that `systemctl` on `PATH` speaks to.
    pub fn find() -> Result<Self, UnitError> {
        let found = exec::find("systemctl", &[PathBuf::from("/run/current-system/sw/bin")]);
        let systemctl =
            found.map_err(|source| UnitError::Systemctl { action: "ask for", unit: "any unit".to_owned(), source })?;
        Ok(Self { systemctl })
    }

    /// The one that this program speaks to.
    pub fn through(systemctl: PathBuf) -> Self {
        Self { systemctl }
    }

    /// How a unit stands.
    pub fn state(&self, unit: &str) -> Result<State, UnitError> {
        self.look(unit).map(|(state, _)| state)
    }

    /// The command line that a unit starts; none where it has none.
    pub fn command(&self, unit: &str) -> Result<Option<Vec<String>>, UnitError> {
        check_name(unit)?;
        let asked = Exec::new(&self.systemctl)
            .args(["show", "--property=ExecStart", "--", unit])
            .run(b"")
            .map_err(|source| UnitError::Systemctl { action: "ask for", unit: unit.to_owned(), source })?;
        let said = String::from_utf8_lossy(&asked);
        let line = said.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_default();
        // `{ path=… ; argv[]=… ; ignore_errors=no ; … }`
        let words = line.split_once("argv[]=").map(|(_, rest)| rest.split(" ; ").next().unwrap_or_default());
        Ok(words.map(|words| words.split_whitespace().map(str::to_owned).collect()))
    }

    /// Stops a unit and waits until it is; one that does not run or is not there is stopped already.
    pub fn stop(&self, unit: &str, at_most: Duration, interrupt: &Interrupt) -> Result<State, UnitError> {
        if matches!(self.look(unit)?, (State::Absent | State::Stopped | State::Failed, Job::None)) {
            return self.state(unit);
        }
        self.tell("stop", unit)?;
        match self.settle("stop", unit, at_most, interrupt)? {
            state @ (State::Stopped | State::Failed | State::Absent) => Ok(state),
            state => Err(UnitError::NotReached { unit: unit.to_owned(), action: "stop", state: state.as_str() }),
        }
    }

    /// Starts a unit and waits until it runs; one that runs is left alone.
    pub fn start(&self, unit: &str, at_most: Duration, interrupt: &Interrupt) -> Result<(), UnitError> {
        match self.look(unit)? {
            (State::Absent, _) => return Err(UnitError::Absent { unit: unit.to_owned() }),
            (State::Running, Job::None) => return Ok(()),
            _ => self.tell("start", unit)?,
        }
        match self.settle("start", unit, at_most, interrupt)? {
            State::Running => Ok(()),
            state => Err(UnitError::NotReached { unit: unit.to_owned(), action: "start", state: state.as_str() }),
        }
    }

    /// Queues the job and does not wait: a wait of systemctl's own could not be interrupted.
    fn tell(&self, action: &'static str, unit: &str) -> Result<(), UnitError> {
        let told = Exec::new(&self.systemctl).args([action, "--no-block", "--no-ask-password", "--", unit]).run(b"");
        told.map(drop).map_err(|source| UnitError::Systemctl { action, unit: unit.to_owned(), source })
    }

    /// Waits until no job is left and the unit is neither coming nor going.
    fn settle(
        &self,
        action: &'static str,
        unit: &str,
        at_most: Duration,
        interrupt: &Interrupt,
    ) -> Result<State, UnitError> {
        let begin = Instant::now();
        loop {
            let (state, job) = self.look(unit)?;
            if job == Job::None && state != State::Changing {
                return Ok(state);
            }
            if interrupt.is_set() {
                return Err(UnitError::Interrupted { unit: unit.to_owned() });
            }
            if begin.elapsed() > at_most {
                let (unit, state) = (unit.to_owned(), state.as_str());
                return Err(UnitError::TooSlow { unit, action, state, waited: at_most });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn look(&self, unit: &str) -> Result<(State, Job), UnitError> {
        check_name(unit)?;
        let asked = Exec::new(&self.systemctl)
            .args(["show", "--property=LoadState,ActiveState,Job", "--", unit])
            .run(b"")
            .map_err(|source| UnitError::Systemctl { action: "ask for", unit: unit.to_owned(), source })?;
        let said = String::from_utf8_lossy(&asked);
        let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim);
        let job = match value("Job") {
            None | Some("" | "0") => Job::None,
            Some(_) => Job::Queued,
        };
        let state = match (value("LoadState"), value("ActiveState")) {
            (_, Some("active")) => State::Running,
            (_, Some("activating" | "deactivating" | "reloading" | "refreshing" | "maintenance")) => State::Changing,
            (Some("not-found"), Some("inactive")) => State::Absent,
            (Some(_), Some("inactive")) => State::Stopped,
            (Some(_), Some("failed")) => State::Failed,
            _ => {
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
                return Err(UnitError::Answer { unit: unit.to_owned(), said });
            }
        };
        Ok((state, job))
    }
}

/// Whether systemd is still to do something with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    None,
    Queued,
}

fn check_name(unit: &str) -> Result<(), UnitError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ":_.\\@-".contains(letter);
    let stem = KINDS.iter().find_map(|kind| unit.strip_suffix(kind)).unwrap_or_default();
    if stem.is_empty() || unit.len() > NAME_BYTES_MAX || unit.starts_with(['-', '.']) || !unit.chars().all(plain) {
        return Err(UnitError::BadName { name: unit.chars().take(NAME_BYTES_MAX).collect() });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::tests::write_program;

    /// A unit manager of one unit: a folder whose files say how it stands and keep what it was told.
    pub(in crate::target) struct Fake(tempfile::TempDir);

    impl Fake {
        pub(in crate::target) fn new(load: &str, active: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            // Like systemd it finishes a job some time after it was queued: at the second look.
            let script = "#!/bin/sh\nset -eu\ncd \"$(dirname \"$0\")\"\necho \"$*\" >>told\n\
                if [ -e refuse ]; then echo 'Access denied' >&2; exit 4; fi\n\
                case $1 in\n\
                show) echo \"LoadState=$(cat load)\"; echo \"ActiveState=$(cat active)\"\n\
                    if [ -e job ]; then echo Job=77\n\
                        if [ -e seen ] && [ ! -e stuck ]; then cat job >active; rm job seen; else touch seen; fi\n\
                    else echo Job=; fi;;\n\
                stop) cat stopped >job;;\n\
                start) cat started >job;;\n\
                esac\n";
            let fake = Self(folder);
            write_program(&fake.0.path().join("systemctl"), script);
            for (name, text) in [("stopped", "inactive"), ("started", "active")] {
                fake.set(name, text);
            }
            fake.set("load", load);
            fake.set("active", active);
            fake
        }

        pub(in crate::target) fn set(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        pub(in crate::target) fn units(&self) -> Units {
            Units::through(self.0.path().join("systemctl"))
        }

        fn told(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.path().join("told")).unwrap_or_default();
            text.lines().filter(|line| !line.starts_with("show")).map(str::to_owned).collect()
        }
    }

    const UNIT: &str = "clightning.service";
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_unit_is_stopped_and_started_and_waited_for() {
        let fake = Fake::new("loaded", "active");
        let (units, interrupt) = (fake.units(), Interrupt::new());
        assert_eq!(units.state(UNIT).unwrap(), State::Running);
        assert_eq!(units.stop(UNIT, LONG, &interrupt).unwrap(), State::Stopped);
        assert_eq!(units.stop(UNIT, LONG, &interrupt).unwrap(), State::Stopped, "once more changes nothing");
        units.start(UNIT, LONG, &interrupt).unwrap();
        units.start(UNIT, LONG, &interrupt).unwrap();
        let told = ["stop", "start"].map(|verb| format!("{verb} --no-block --no-ask-password -- {UNIT}"));
        assert_eq!(fake.told(), told);
    }

    #[test]
    fn what_does_not_come_about_is_an_error_with_the_way_to_see_why() {
        let fake = Fake::new("loaded", "failed");
        let (units, interrupt) = (fake.units(), Interrupt::new());
        assert_eq!(units.stop(UNIT, LONG, &interrupt).unwrap(), State::Failed);
        fake.set("started", "failed");
        let error = units.start(UNIT, LONG, &interrupt).unwrap_err();
        assert_eq!(error.to_string(), "clightning.service was told to start and is now failed");
        assert!(error.hint().unwrap().contains("journalctl -u clightning.service"));
        fake.set("active", "active");
        fake.set("stuck", "");
        let error = units.stop(UNIT, Duration::ZERO, &interrupt).unwrap_err();
        assert!(matches!(error, UnitError::TooSlow { state: "running", .. }), "{error}");
        interrupt.set();
        assert!(matches!(units.stop(UNIT, LONG, &interrupt), Err(UnitError::Interrupted { .. })));
        fake.set("refuse", "");
        let error = units.state(UNIT).unwrap_err();
        assert!(matches!(&error, UnitError::Systemctl { source, .. } if source.to_string().contains("Access denied")));
    }

    #[test]
    fn a_unit_that_is_not_there_is_stopped_and_cannot_be_started() {
        let fake = Fake::new("not-found", "inactive");
        let (units, interrupt) = (fake.units(), Interrupt::new());
        assert_eq!(units.stop(UNIT, LONG, &interrupt).unwrap(), State::Absent);
        assert!(matches!(units.start(UNIT, LONG, &interrupt), Err(UnitError::Absent { .. })));
        assert!(fake.told().is_empty());
        fake.set("active", "???");
        assert!(matches!(units.state(UNIT), Err(UnitError::Answer { .. })));
        for name in ["", ".service", "a", "--root=x.service", "a b.service", "a/b.service", "x.mount"] {
            assert!(matches!(units.state(name), Err(UnitError::BadName { .. })), "{name}");
        }
        let none = Units::through("/nonexistent/systemctl".into());
        assert!(matches!(none.state(UNIT), Err(UnitError::Systemctl { .. })));
    }
}
