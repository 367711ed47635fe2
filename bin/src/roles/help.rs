//! The pages that `help` and `--help` print, and the line of `version`. Lists of flags come from the table of flags.

use super::request::Topic;
use crate::flags;
use crate::os::fs;
use crate::report::output;

const ALL: &str = "\
emissary runs a container's command as its child: it passes signals on and reaps orphans.
On a shared volume it leaves exit code, logs, output parameters and artifacts as files.

  emissary [run] [flags] [--] COMMAND ARG... run the command (the main container)
  emissary init [--template FILE]            copy binary and template to the volume
  emissary wait [flags]                      wait for the main containers, then report
  emissary signal SIGNAL [NAME]              leave a signal for a container
  emissary kill SIGNAL PID                   send a signal to a process
  emissary check                             tell what image and volume lack
  emissary completions bash|zsh|fish         print a script for a shell
  emissary version [--json] | help [SUBCOMMAND]

Without a shared folder it is a plain init. Called as tini, docker-init, dumb-init or
catatonit, it takes their flags.

Exit status: the command's own; 128+N if signal N ended it; 124 after --timeout; 64 for bad
input or an output that could not be saved; 65 if a pod without an init container is not
ready.
";

const RUN: &str = "\
emissary [run] [flags] [--] COMMAND ARG...

Runs COMMAND in a process group of its own, passes signals on to it, and reaps orphans.
With a shared folder, it then saves the outputs that the template names.

Reads:   template (or ARGO_TEMPLATE), signal, before, after, status
Writes:  exitcode, stdout, stderr or combined, outputs/parameters, outputs/artifacts

  ARGO_INCLUDE_SCRIPT_OUTPUT=true          capture stdout (pod layout)
  ARGO_CONTAINER_ARGS_FILE=FILE            append the strings of a JSON array
  ARGO_WAIT_FOR_READY=true                 first wait for the marker `status`
  ARGO_DEBUG_PAUSE_BEFORE, _AFTER=true     wait for the file `before`, `after`
  ARGO_TERMINATION_GRACE_PERIOD_SECONDS=N  from SIGTERM to SIGKILL; 30
  EMISSARY_TERMINATION_LOG=FILE            for a fatal error; /dev/termination-log

A flag --some-name also has the variable EMISSARY_SOME_NAME; for a flag without a value it
is true or false.
";

const CHECK: &str = "\
emissary check [flags]

Tells what this image and volume lack, a line for each: `ok`; `without`, if a run does
without it; `lacks`, if a run fails or may lose something. Its status is 1 if a line says
`lacks`, else 0.
";

const INIT: &str = "\
emissary init [--template FILE] [flags]

Checks the template and refuses one that the main container would refuse. Then copies
this binary (mode 0555) and the template (mode 0444) into the shared folder.
";

const WAIT: &str = "\
emissary wait [flags]

Waits until every main container has an exit code. Then prints a report: exit codes,
parameters, artifacts, log sizes. Its status is the first code that is not 0; 64 if a
container left no code, or if an output cannot be read.

After the timeout it leaves signal 15, and 9 after the grace period.

  ARGO_DEADLINE=TIME   the same as --timeout, as a point in time (RFC 3339)

SIGTERM, SIGINT, SIGHUP and SIGQUIT act like the timeout. Durations: 1h2m3.5s, 300ms.
";

const SIGNAL: &str = "\
emissary signal SIGNAL [NAME] [--create] [flags]

Leaves SIGNAL (15, TERM, SIGTERM) in the signal file of the container NAME (default:
--name, or ARGO_CONTAINER_NAME). That container's emissary delivers it to the command.
";

const KILL: &str = "\
emissary kill SIGNAL PID

Sends SIGNAL (15, TERM, SIGTERM) to the process PID, for containers that have no shell.
If PID is 1 and does not take the signal from here, the signal goes to the command,
through this container's signal file.
";

/// Prints a page.
pub(crate) fn help(topic: Topic) -> u8 {
    let (text, roles) = match topic {
        Topic::All => (ALL, 0),
        Topic::Run => (RUN, flags::RUN),
        Topic::Init => (INIT, flags::INIT),
        Topic::Wait => (WAIT, flags::WAIT),
        Topic::Signal => (SIGNAL, flags::SIGNAL),
        Topic::Kill => (KILL, flags::KILL),
        Topic::Check => (CHECK, flags::CHECK),
    };
    let mut page = text.as_bytes().to_vec();
    list(&mut page, b"\nFlags:\n", flags::each(roles, false));
    page.push(b'\n');
    list(&mut page, b"Flags of every subcommand:\n", flags::each(flags::ALL, true));
    output::print(&page, 0)
}

/// Appends a list of flags. Appends nothing if there are none.
fn list(page: &mut Vec<u8>, heading: &[u8], flags: impl Iterator<Item = [&'static [u8]; 3]>) {
    for (at, [name, value, help]) in flags.enumerate() {
        if at == 0 {
            page.extend_from_slice(heading);
        }
        let start = page.len();
        page.extend([b"  ", name, b" ", value].concat());
        // A long name leaves one space before its help.
        page.resize(page.len().max(start + 23) + 1, b' ');
        page.extend([help, b"\n"].concat());
    }
}

/// Prints name and version; as JSON, also the target and what this build can do.
pub(crate) fn version(json: bool) -> u8 {
    if json {
        output::print(version_json().as_bytes(), 0)
    } else {
        output::print(concat!("emissary ", env!("CARGO_PKG_VERSION"), "\n").as_bytes(), 0)
    }
}

/// The target that xtask built for, or the processor's architecture.
const TARGET: &str = match option_env!("EMISSARY_TARGET") {
    Some(target) => target,
    None => std::env::consts::ARCH,
};

/// The features are the chapters of docs/protocol.md and the inits whose names the binary takes.
fn version_json() -> String {
    const START: &str = concat!("{\"name\":\"emissary\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\",\"target\":\"");
    const END: &str = "\",\"features\":[\"init\",\"flat\",\"pod\",\"steps\",\"report\",\"argoexec\",\"tini\",\"dumb-init\",\"catatonit\"],\"schema\":1}\n";
    [START, TARGET, END].concat()
}

/// Prints a text of another init. A failure to print it changes nothing, as there.
pub(crate) fn page(text: &[u8], is_error: bool, status: u8) -> u8 {
    let _ = fs::write_all(if is_error { rustix::stdio::stderr() } else { rustix::stdio::stdout() }, text);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_fits_a_screen() {
        for page in [ALL, RUN, INIT, WAIT, SIGNAL, KILL, CHECK] {
            assert!(page.lines().count() <= 24 && page.lines().all(|line| line.len() <= 92), "{page}");
        }
        for [name, _, help] in flags::each(u16::MAX, true).chain(flags::each(u16::MAX, false)) {
            assert!(!help.is_empty() && help.len() <= 84, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn the_version_as_json() {
        let value: serde_json::Value = serde_json::from_str(&version_json()).unwrap();
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    }
}
