//! `cargo xtask COMMAND`: builds, plays, tests and fuzzes emissary. One file a command.

mod bench;
mod build;
mod containers;
mod demo;
mod deny;
mod dist;
mod faults;
mod fuzz;
mod image;
mod miri;
mod reproduce;
mod short;
mod size;
mod smoke;
mod soak;
mod targets;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  build [--target T | --all]   the static binary, in dist/<target>/emissary; without --target, the host's musl target;
                               --all, every target, each tried under qemu-user where it is not the host's
  size [--target T]            where the binary's bytes are: by section, by crate, the largest functions
  bench [archive]              beside peers in the same run: start cost and memory; or the speed, size and memory of archives
  image [--all | --base]       an OCI image archive in dist/, of the host's architecture or of all, loaded and checked; --base, a Docker
                               image with users, /tmp and certificates
  dist [--all]                 what is published: archives with binary, man page, licences, bill of materials; the image; sums
  reproduce                    builds once more, elsewhere and as somebody else, and compares the bytes
  deny                         licences, sources, duplicates and advisories of every crate
  demo [--docker]              plays a pod on this machine: init, main, wait; with --docker as containers of a FROM scratch image
  test                         everything: unit, golden, black-box, scenario and container tests, core on bare metal
  faults                       every system call of a run fails once, is shortened once, and is the last once
  miri                         core's unit tests in miri, where that can be had
  soak [--minutes N] [--seed N]  random pods, checked against a model (5)
  fuzz [--seconds N] [TARGET]  the fuzz targets, each N seconds (20)
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ended = match words.split_first() {
        // What `faults` starts again and again; its words are a program's.
        Some((command, words)) if command == "short" => short::short(words),
        _ => run().map(|()| ExitCode::SUCCESS),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = pico_args::Arguments::from_env();
    let command = args.subcommand()?;
    if args.contains(["-h", "--help"]) {
        print!("{HELP}");
        return Ok(());
    }
    let task: Box<dyn FnOnce() -> Result<()>> = match command.as_deref() {
        Some("build") => {
            let all = args.contains("--all");
            let target = args.opt_value_from_str("--target")?;
            Box::new(move || if all { build::build_all() } else { build::build(target).map(|binary| println!("{}", binary.display())) })
        }
        Some("size") => {
            let target = args.opt_value_from_str("--target")?;
            Box::new(move || size::size(target))
        }
        Some("bench") => {
            let what: Option<String> = args.opt_free_from_str()?;
            match what.as_deref() {
                None => Box::new(bench::bench),
                Some("archive") => Box::new(bench::archive),
                Some(other) => bail!("no benchmark '{other}'\n\n{HELP}"),
            }
        }
        Some("image") => {
            let (all, base) = (args.contains("--all"), args.contains("--base"));
            Box::new(move || if base { image::base().map(drop) } else { image::image(all).map(drop) })
        }
        Some("dist") => {
            let all = args.contains("--all");
            Box::new(move || dist::dist(all))
        }
        Some("reproduce") => Box::new(reproduce::reproduce),
        Some("deny") => Box::new(deny::deny),
        Some("demo") => {
            let docker = args.contains("--docker");
            Box::new(move || demo::demo(docker))
        }
        Some("faults") => Box::new(faults::faults),
        Some("miri") => Box::new(miri::miri),
        Some("soak") => {
            let minutes = args.opt_value_from_str("--minutes")?.unwrap_or(5.0);
            let seed = args.opt_value_from_str("--seed")?;
            Box::new(move || soak::soak(minutes, seed))
        }
        Some("test") => Box::new(test::test),
        Some("fuzz") => {
            let seconds = args.opt_value_from_str("--seconds")?.unwrap_or(20);
            let target: Option<String> = args.opt_free_from_str()?;
            Box::new(move || fuzz::fuzz(seconds, target.as_deref()))
        }
        Some("help") | None => {
            print!("{HELP}");
            return Ok(());
        }
        Some(other) => bail!("unknown command '{other}'\n\n{HELP}"),
    };
    let rest = args.finish();
    if !rest.is_empty() {
        bail!("unexpected argument {rest:?}\n\n{HELP}");
    }
    task()
}
