//! A program that tries the static binary for minutes. `faults` makes every system call of a run fail, once and every time. `soak` runs random pods and
//! compares them with a model.
//!
//! Enters: the path of the binary. Leaves: a summary on stdout, and exit status 0 if everything held. Refuses: an unknown trial or scenario. `cargo xtask
//! faults` and `cargo xtask soak` build the binary and start this program.

mod faults;
mod scenarios;
mod short;
mod soak;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::short::{Change, Share};

/// Trials of the static binary.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Subcommand)]
enum Trial {
    /// Make every system call of every scenario fail once and every time, shorten it once, and kill the run at it once.
    Faults {
        /// The binary under test.
        #[arg(long, value_name = "FILE")]
        binary: PathBuf,
        /// Play only these scenarios.
        #[arg(value_name = "SCENARIO")]
        only: Vec<String>,
    },
    /// Play random pods and compare each with a model.
    Soak {
        /// The binary under test.
        #[arg(long, value_name = "FILE")]
        binary: PathBuf,
        /// Start new pods for this many minutes.
        #[arg(long, value_name = "N", default_value_t = 5.0)]
        minutes: f64,
        /// Start from this seed; without it, the seed is the time of day.
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
    /// Run a program and let one of its system calls return an error although the kernel has carried it out (`faults` uses it).
    #[command(hide = true)]
    Late {
        /// The name of the call, as strace prints it.
        call: String,
        /// Which of these calls returns an error, counted from 1; 0 means each of them.
        nth: usize,
        /// The name of the error.
        error: String,
        /// The file that gets a line for each such call.
        mark: PathBuf,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// Run a program and shorten one of its system calls (`faults` uses it).
    #[command(hide = true)]
    Short {
        /// The name of the call, as strace prints it.
        call: String,
        /// Which of these calls is shortened, counted from 1.
        nth: usize,
        /// How many bytes remain.
        share: Share,
        /// The file that gets a line once the call was shortened.
        mark: PathBuf,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().trial) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trials: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(trial: Trial) -> Result<ExitCode> {
    match trial {
        Trial::Faults { binary, only } => faults::faults(&binary, &only)?,
        Trial::Soak { binary, minutes, seed } => soak::soak(&binary, minutes, seed)?,
        Trial::Short { call, nth, share, mark, program } => return short::change(&call, nth, &Change::Short(share), &mark, &program),
        Trial::Late { call, nth, error, mark, program } => {
            return short::change(&call, nth, &Change::Late(short::error(&error)?), &mark, &program);
        }
    }
    Ok(ExitCode::SUCCESS)
}
