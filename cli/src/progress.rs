//! Shows how far a job is.

use crate::json;
use crate::output::{Output, ProgressStyle};
use indicatif::{ProgressBar, ProgressStyle as BarStyle};
use std::time::Duration;
use wire::v1;

/// Shows the progress of one job.
pub struct Display {
    style: ProgressStyle,
    bar: Option<ProgressBar>,
    phase: String,
    shown: Option<String>,
}

impl Display {
    /// Shows nothing yet.
    #[must_use]
    pub fn new(out: &Output) -> Self {
        Display { style: out.progress, bar: None, phase: String::new(), shown: None }
    }

    /// Shows the job as it stands.
    pub fn update(&mut self, job: &v1::Job) {
        match self.style {
            ProgressStyle::None => {}
            ProgressStyle::Json => {
                // Repeated only to show that the daemon lives: that is not progress.
                let line = json::progress(job).to_string();
                if self.shown.as_ref() != Some(&line) {
                    eprintln!("{line}");
                    self.shown = Some(line);
                }
            }
            ProgressStyle::Bars => self.update_bar(job),
        }
    }

    fn update_bar(&mut self, job: &v1::Job) {
        if job.state() == v1::JobState::Done {
            return self.clear();
        }
        let progress = job.progress.clone().unwrap_or_default();
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::no_length();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let phase = if job.cancelling {
            "cancelling".to_owned()
        } else if progress.phase.is_empty() {
            job.state().word().to_owned()
        } else {
            progress.phase.clone()
        };
        let looks = format!("{phase} {} {}", progress.unit, progress.total.is_some());
        if looks != self.phase {
            self.phase = looks;
            bar.set_style(bar_style(&progress));
            bar.set_message(phase);
            bar.reset_eta();
        }
        match progress.total {
            Some(total) => bar.set_length(total.max(progress.done)),
            None => bar.unset_length(),
        }
        bar.set_position(progress.done);
    }

    /// Takes everything away that was shown, so that other output stands alone.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.phase.clear();
    }
}

fn bar_style(progress: &v1::Progress) -> BarStyle {
    let bytes = progress.unit == "bytes";
    let template = match (bytes, progress.total.is_some()) {
        (true, true) => {
            "{msg:24} {wide_bar:.cyan/dim} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
        }
        (true, false) => "{msg:24} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        (false, true) => "{msg:24} {wide_bar:.cyan/dim} {human_pos}/{human_len} {per_sec} {eta}",
        (false, false) => "{msg:24} {spinner} {human_pos} {per_sec}",
    };
    BarStyle::with_template(template).unwrap_or_else(|_| BarStyle::default_bar())
}

impl Drop for Display {
    fn drop(&mut self) {
        self.clear();
    }
}
