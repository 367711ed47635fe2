//! A stand-in for a user's program, for images that have nothing else: prints, writes a parameter and a folder, then works for a while.
//!
//! `worker FOLDER SECONDS`: leaves `FOLDER/answer` and `FOLDER/results/`.

use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(seconds)) = (args.next().map(PathBuf::from), args.next().and_then(|text| text.parse().ok())) else {
        eprintln!("usage: worker FOLDER SECONDS");
        return ExitCode::from(2);
    };
    let written = std::fs::create_dir_all(folder.join("results/empty"))
        .and_then(|()| std::fs::write(folder.join("answer"), "42\n"))
        .and_then(|()| std::fs::write(folder.join("results/table.csv"), "n,square\n6,36\n7,49\n"));
    if let Err(error) = written {
        eprintln!("worker: cannot write below {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    println!("worker: the answer is in {}", folder.display());
    eprintln!("worker: working for {seconds} s");
    std::thread::sleep(Duration::from_secs(seconds));
    println!("worker: done");
    ExitCode::SUCCESS
}
