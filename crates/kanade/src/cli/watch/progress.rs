//! The progress bar on stderr; nothing where stderr is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kanade_model::api;

use super::follow::{counts, finished};
use crate::cli::output::Output;

const REDRAW: Duration = Duration::from_millis(120);

/// A bar or a spinner that is gone when it is dropped.
pub(in super::super) struct Progress(ProgressBar);

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
        if !bar.is_hidden() {
            bar.enable_steady_tick(REDRAW);
        }
        Self(bar)
    }

    pub(in super::super) fn show(&self, execution: &api::Execution) {
        self.0.set_length(u64::from(execution.target_count));
        self.0.set_position(finished(execution));
        self.0.set_message(counts(execution));
    }

    pub(in super::super) fn message(&self, message: String) {
        self.0.set_message(message);
    }

    /// Writes something above the bar.
    pub(in super::super) fn tell(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    pub(in super::super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
