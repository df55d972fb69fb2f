//! How far things are: a bar on a terminal, plain lines for a journal, nothing when asked.

use super::text::size;
use crate::base::visible::visible;
use crate::cli::Global;
use crate::engine::progress::Event;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Shows progress on standard error.
pub enum Progress {
    /// A bar.
    Bar(ProgressBar),
    /// One line a step.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// What fits the options and the place standard error goes to.
    pub fn new(global: &Global) -> Self {
        if global.quiet || global.json {
            return Self::Silent;
        }
        if global.no_progress || !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {bytes} {bytes_per_sec}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar)
    }

    /// Shows one event.
    pub fn tell(&self, event: Event) {
        match (self, event) {
            (Self::Bar(bar), Event::Step(step)) => bar.set_message(visible(&step).into_owned()),
            (Self::Bar(bar), Event::Bytes(bytes)) => bar.inc(bytes),
            (Self::Bar(bar), Event::ArtifactDone { name, length }) => {
                bar.suspend(|| line(&format!("{name}: {}", size(length))));
            }
            (Self::Lines, Event::Step(step)) => line(&step),
            (Self::Lines, Event::ArtifactDone { name, length }) => line(&format!("{name}: {}", size(length))),
            (Self::Bar(_), Event::Total(_)) | (Self::Lines, Event::Bytes(_) | Event::Total(_)) | (Self::Silent, _) => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn line(text: &str) {
    // A journal that is gone must not stop a backup.
    drop(writeln!(std::io::stderr(), "{}", visible(text)));
}
