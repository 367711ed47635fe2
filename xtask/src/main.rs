//! `cargo xtask COMMAND`: builds emissary and starts everything that shows or checks it. One file a command.

mod bench;
mod build;
mod demo;
mod deny;
mod dist;
mod docker;
mod fuzz;
mod image;
mod manual;
mod miri;
mod reproduce;
mod size;
mod smoke;
mod targets;
mod test;
mod tools;
mod trials;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Builds emissary, plays it, tests it, measures it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Build the static binary: dist/<target>/emissary
    ///
    /// Fails where the binary is not static, or is larger than its budget in xtask/size-budget.toml. Gets what is missing: the standard library, musl.
    Build {
        /// Build for this target; without it, for the musl target of this machine
        #[arg(long, value_name = "TARGET", conflicts_with = "all")]
        target: Option<String>,
        /// Build for all six targets, and try each binary, under qemu-user where this machine cannot run it
        #[arg(long)]
        all: bool,
    },
    /// Play a pod on this machine (init, main, wait) and show what it leaves
    Demo {
        /// Play it as three containers of an image FROM scratch
        #[arg(long)]
        docker: bool,
    },
    /// Run the tests: the fast set, or all of them
    ///
    /// The fast set is the proofs over core, the unit tests, the golden and differential tests, the black-box chapters and the fuzz seeds. It leaves out
    /// the tests that are marked #[ignore]: each of these says why, and how long it takes. The closing line says what passed and what failed; the exit
    /// status is 0 if nothing failed.
    Test {
        /// Run every test: the slow ones and, where Docker answers, the containers too
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Run the tests whose names contain one of these texts, slow ones too, and nothing else: `races::` is a chapter, `sparse_terabyte` a test
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Make every system call of a run fail, once and every time, shorten it once, kill the run at it once (bin/trials)
    Faults {
        /// Play only these scenarios; a wrong name prints the list
        #[arg(value_name = "SCENARIO")]
        scenarios: Vec<String>,
    },
    /// Play random pods and compare each with a model (bin/trials)
    Soak {
        /// Start new pods for this many minutes
        #[arg(long, value_name = "N", default_value_t = 5.0)]
        minutes: f64,
        /// Play the pods of this seed, which an earlier run has printed
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
    /// Run core's unit tests in miri, if this machine can get it
    Miri,
    /// Run the fuzz targets, each from its committed seeds
    Fuzz {
        /// Run each target for this many seconds
        #[arg(long, value_name = "N", default_value_t = 20)]
        seconds: u64,
        /// Run only this target
        target: Option<String>,
    },
    /// Show where the bytes of the binary are: by section, by crate, the largest functions
    Size {
        /// Look at this target; without it, at the musl target of this machine
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
    },
    /// Compare with other programs in the same run: start cost and memory, or archives
    Bench {
        /// What to compare; without it, start cost and memory
        #[arg(value_enum)]
        what: Option<Benchmark>,
    },
    /// Build an OCI image archive in dist/, load it and check it
    Image {
        /// Build for all six architectures; without it, for the one of this machine
        #[arg(long)]
        all: bool,
        /// Build another image, with Docker: a base image with users, /tmp and certificates
        #[arg(long, conflicts_with = "all")]
        base: bool,
    },
    /// Build what is published in dist/: archives (binary, man page, licences, bill of materials), the image, the sums
    Dist {
        /// Build for all six targets; without it, for the one of this machine
        #[arg(long)]
        all: bool,
    },
    /// Write the manual page, docs/emissary.1, from the table of flags
    Manual,
    /// Build once more, in another folder and as another user, and compare the bytes
    Reproduce,
    /// Check the licences, the sources, the duplicates and the advisories of every crate
    Deny,
}

#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// The speed, size and memory of archives
    Archive,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Option<Task>) -> Result<()> {
    match task {
        None => Ok(Cli::command().print_long_help()?),
        Some(Task::Build { all: true, .. }) => build::build_all(),
        Some(Task::Build { target, .. }) => build::build(target).map(|binary| println!("{}", binary.display())),
        Some(Task::Demo { docker }) => demo::demo(docker),
        Some(Task::Test { all, names }) => test::test(all, &names),
        Some(Task::Faults { scenarios }) => trials::faults(&scenarios),
        Some(Task::Soak { minutes, seed }) => trials::soak(minutes, seed),
        Some(Task::Miri) => miri::miri(),
        Some(Task::Fuzz { seconds, target }) => fuzz::fuzz(seconds, target.as_deref()),
        Some(Task::Size { target }) => size::size(target),
        Some(Task::Bench { what: None }) => bench::bench(),
        Some(Task::Bench { what: Some(Benchmark::Archive) }) => bench::archive(),
        Some(Task::Image { base: true, .. }) => image::base(&image::base_reference()),
        Some(Task::Image { all, .. }) => image::image(all).map(drop),
        Some(Task::Dist { all }) => dist::dist(all),
        Some(Task::Manual) => manual::write(),
        Some(Task::Reproduce) => reproduce::reproduce(),
        Some(Task::Deny) => deny::deny(),
    }
}
