//! `compare-trees A B`: says what differs between two directory trees, and everything that can.
//!
//! Exit status 0: equal; 8: they differ; 1: they could not be compared; 2: wrong usage. Holes that differ are listed
//! and do not count.

use std::path::Path;
use std::process::ExitCode;
use tests::compare::{Options, compare};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [a, b] = arguments.as_slice() else {
        eprintln!("usage: compare-trees A B");
        return ExitCode::from(2);
    };
    match compare(Path::new(a), Path::new(b), &Options::default()) {
        Ok(report) => {
            println!("{report}");
            if report.is_equal() { ExitCode::SUCCESS } else { ExitCode::from(8) }
        }
        Err(e) => {
            eprintln!("compare-trees: {e}");
            ExitCode::FAILURE
        }
    }
}
