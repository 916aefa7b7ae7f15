//! Where output goes and how it looks: lines, objects, tables, sizes, times.

use crate::args::{Global, ProgressForm, When};
use console::{measure_text_width, style};
use journal::Lsn;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use wire::convert::duration_from_wire;
use wire::units::format_duration;
use wire::v1;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Bars.
    Bars,
    /// Objects on stderr.
    Json,
    /// Nothing.
    None,
}

/// How a command talks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON on stdout.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    verbose: bool,
    /// Of jobs.
    pub progress: ProgressStyle,
}

impl Output {
    /// From the global options; sets the colours of the process.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        match global.color {
            When::Auto => {}
            When::Always => set_colors(true),
            When::Never => set_colors(false),
        }
        let progress = match global.progress {
            ProgressForm::Json => ProgressStyle::Json,
            ProgressForm::Auto if std::io::stderr().is_terminal() && !global.quiet => ProgressStyle::Bars,
            ProgressForm::Auto | ProgressForm::None => ProgressStyle::None,
        };
        Output { json: global.json, quiet: global.quiet, verbose: global.verbose > 0, progress }
    }

    /// Data for people. False when nobody reads any more.
    pub fn data(&self, text: &str) -> bool {
        self.quiet || self.json || write_stdout(text)
    }

    /// Data for programs. False when nobody reads any more.
    pub fn object(&self, value: &Value) -> bool {
        !self.json || write_stdout(&value.to_string())
    }

    /// Talk.
    pub fn talk(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// How long an application was held, if it was.
    pub fn talk_of_hold(&self, held: Option<&prost_types::Duration>) {
        if let Some(held) = held.and_then(wire::convert::duration_from_wire) {
            self.talk(&format!("the application was held for {:.3} s", held.as_secs_f64()));
        }
    }

    /// Talk for those who want to know more.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            eprintln!("{}", style(text).for_stderr().dim());
        }
    }

    /// Something a person must not miss.
    pub fn warn(&self, text: &str) {
        eprintln!("{}: {text}", style("warning").for_stderr().yellow().bold());
    }
}

fn set_colors(enabled: bool) {
    console::set_colors_enabled(enabled);
    console::set_colors_enabled_stderr(enabled);
}

/// Writes a line; false if nobody reads any more, such as `head`, which is no error.
pub fn write_stdout(line: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, set in columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell a column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text without an end of line; empty without rows.
    #[must_use]
    pub fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (heading, _))| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(at)).map(|cell| measure_text_width(cell));
                cells.chain([heading.len()]).max().unwrap_or(0)
            })
            .collect();
        let headings: Vec<String> =
            self.columns.iter().map(|(heading, _)| style(*heading).bold().to_string()).collect();
        let lines: Vec<String> =
            [&headings].into_iter().chain(&self.rows).map(|row| self.line(row, &widths)).collect();
        lines.join("\n")
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(widths) {
            let padding = " ".repeat(width.saturating_sub(measure_text_width(cell)));
            match align {
                Align::Left => line.push_str(&format!("{cell}{padding}  ")),
                Align::Right => line.push_str(&format!("{padding}{cell}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Names and values below one another.
#[must_use]
pub fn properties(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let line = |(name, value): &(&str, String)| {
        let padding = " ".repeat(width - name.len());
        format!("{}{padding}{value}", style(*name).bold())
    };
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn to_jiff(time: Option<&prost_types::Timestamp>) -> Option<jiff::Timestamp> {
    let time = time?;
    jiff::Timestamp::new(time.seconds, time.nanos).ok()
}

/// Local time for people, `-` for none.
#[must_use]
pub fn local_time(time: Option<&prost_types::Timestamp>) -> String {
    to_jiff(time).map_or_else(
        || "-".to_owned(),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// RFC 3339 UTC with nanoseconds where there are any.
#[must_use]
pub fn utc_time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    to_jiff(time).map(|time| time.to_string())
}

/// `N` or `N.k`, `-` for none.
#[must_use]
pub fn lsn_text(lsn: Option<&v1::Lsn>) -> String {
    lsn.map_or_else(|| "-".to_owned(), |lsn| Lsn { captured: lsn.captured, local: lsn.local }.to_string())
}

/// How much of the promised history is held.
#[must_use]
pub fn window_text(window: &v1::HeldWindow) -> String {
    let time = |time: Option<&prost_types::Duration>| {
        let time = time.and_then(duration_from_wire).unwrap_or_default();
        format_duration(Duration::from_secs(time.as_secs()))
    };
    let (held, promised) = (time(window.held.as_ref()), time(window.promised.as_ref()));
    let mut text = format!("{held} of {promised} held ({} %)", window.percent);
    match window.level() {
        v1::HeldLevel::Warning => text.push_str(", WARNING: less than 85 % of the promise"),
        v1::HeldLevel::Error => text.push_str(", ERROR: less than 75 % of the promise"),
        _ => {}
    }
    if window.over_budget {
        text.push_str(", over journal-max");
    }
    text
}

/// A path for people: what a terminal could take for a command is replaced.
#[must_use]
pub fn path_text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1 file`, `2 files`.
#[must_use]
pub fn count(number: u64, what: &str) -> String {
    let plural = match (number, what.strip_suffix('y')) {
        (1, _) => what.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        _ => format!("{what}s"),
    };
    format!("{number} {plural}")
}

#[cfg(test)]
mod tests;
