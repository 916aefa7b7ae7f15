//! Medians and how they are printed.

use std::time::Duration;

/// Runs of everything that is measured.
pub const ROUNDS: usize = 5;

/// The middle one; of an even number the upper.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the share `at` (0 to 1) of all values lies; 0 if there are none.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let index = ((sorted.len() as f64 * at) as usize).min(last);
    sorted.get(index).copied().unwrap_or(0.0)
}

/// Durations in seconds.
pub fn seconds(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(Duration::as_secs_f64).collect()
}

/// Seconds in the unit that suits them.
pub fn show_seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.1} ms", value * 1e3) } else { format!("{value:.2} s") }
}

fn show_all(values: &[f64]) -> String {
    values.iter().map(|value| show_seconds(*value)).collect::<Vec<_>>().join(", ")
}

/// Prints one line of what was measured: the median of seconds, and all of them.
pub fn line(what: &str, values: &[f64]) {
    println!("  {what:<44} {:>10}   of {}", show_seconds(median(values)), show_all(values));
}

/// Prints a ratio with its bound.
pub fn ratio(what: &str, value: f64, bound: &str) {
    println!("  {what:<44} {value:>10.2}   (bound: {bound})");
}
