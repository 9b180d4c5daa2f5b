//! The progress bar on stderr; nothing where stderr is not a terminal.

use std::{cell::Cell, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kanade_model::api;

use super::follow::{counts, finished};
use crate::cli::{output::Output, waves};

const REDRAW: Duration = Duration::from_millis(120);

/// A bar or a spinner that is gone when it is dropped.
pub(in super::super) struct Progress {
    bar: ProgressBar,
    /// Whether it moves by itself.
    moving: Cell<bool>,
}

impl Progress {
    /// How many targets are final.
    pub(in super::super) fn targets(out: &Output) -> Self {
        let bar = if out.has_colors_stderr() {
            "{bar:30.cyan/blue}"
        } else {
            "{bar:30}"
        };
        Self::new(&format!(
            "{{spinner}} {bar} {{pos}}/{{len}}  {{wide_msg}}  {{elapsed}}"
        ))
    }

    /// Only that something goes on.
    pub(in super::super) fn spinner() -> Self {
        Self::new("{spinner} {wide_msg}  {elapsed}")
    }

    fn new(template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the template is one of ours");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(style.progress_chars("=> "));
        Self {
            bar,
            moving: Cell::new(false),
        }
    }

    pub(in super::super) fn show(&self, execution: &api::Execution) {
        self.bar.set_length(u64::from(execution.target_count));
        self.bar.set_position(finished(execution));
        let counts = counts(execution);
        self.message(match waves::stage(execution) {
            Some(stage) => format!("{counts}; {stage}"),
            None => counts,
        });
    }

    pub(in super::super) fn message(&self, message: String) {
        self.bar.set_message(message);
        // Moves from the first thing there is to show, not before.
        if !self.bar.is_hidden() && !self.moving.replace(true) {
            self.bar.enable_steady_tick(REDRAW);
        }
    }

    /// Writes something above the bar.
    pub(in super::super) fn tell(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    pub(in super::super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
