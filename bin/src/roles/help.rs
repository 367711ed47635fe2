//! The pages that `help` and `--help` print, and the line of `version`. Each page fits a screen.

use super::request::Topic;
use crate::os::fs;

const ALL: &str = "\
emissary runs a container's command as its child. It leaves exit code, logs, output
parameters and artifacts as plain files on a shared volume.

  emissary [run] [flags] -- COMMAND ARG...   run the command (the main container)
  emissary init [--template FILE]            copy binary and template to the volume
  emissary wait [flags]                      wait for the main containers, then report
  emissary signal SIGNAL [NAME]              leave a signal for a container
  emissary kill SIGNAL PID                   send a signal to a process
  emissary version | help [SUBCOMMAND]

Flags of every subcommand:
  --name NAME          the container's name; selects the pod layout (ARGO_CONTAINER_NAME)
  --layout flat|pod    the layout                                   (EMISSARY_LAYOUT)
  --dir DIR            the shared folder                            (EMISSARY_DIR)
                       default: /var/argo (flat), /var/run/argo (pod)
  --loglevel LEVEL     debug, info, warn, error; default: warn (info as argoexec)
  --log-format FORM    plain, text, json; default: plain (text as argoexec)

Exit status: the command's own; 128+N if signal N ended it; 64 for bad input or an output
that could not be saved; 65 if a pod without an init container is not ready.
";

const RUN: &str = "\
emissary [run] [flags] -- COMMAND ARG...

Runs COMMAND in a process group of its own, passes signals on to it, and reaps orphans.
When COMMAND has ended, saves the outputs that the template names, and writes `exitcode`.

Reads:   template (or ARGO_TEMPLATE), signal, before, after, status
Writes:  exitcode, stdout, stderr or combined, outputs/parameters, outputs/artifacts

  ARGO_INCLUDE_SCRIPT_OUTPUT=true          capture stdout (pod layout)
  ARGO_CONTAINER_ARGS_FILE=FILE            append the strings of a JSON array
  ARGO_WAIT_FOR_READY=true                 first wait for the marker `status`
  ARGO_DEBUG_PAUSE_BEFORE, _AFTER=true     wait for the file `before`, `after`
  ARGO_TERMINATION_GRACE_PERIOD_SECONDS=N  from a sidecar's SIGTERM to its SIGKILL; 30
  EMISSARY_TERMINATION_LOG=FILE            for a fatal error; /dev/termination-log

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const INIT: &str = "\
emissary init [--template FILE] [flags]

Checks the template and refuses one that the main container would refuse. Then copies
this binary (mode 0555) and the template (mode 0444) into the shared folder.

  --template FILE      the template; `-` is stdin; default: ARGO_TEMPLATE

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const WAIT: &str = "\
emissary wait [flags]

Waits until every main container has an exit code. Then prints a report: exit codes,
parameters, artifacts, log sizes. Its status is the first code that is not 0; 64 if a
container left no code, or if an output cannot be read.

  --follow, -f         copy the captured logs to stdout and stderr as they grow
  --json               print the report as one JSON object
  --timeout DURATION   after this time leave signal 15, and 9 after the grace period
  --grace DURATION     default: ARGO_TERMINATION_GRACE_PERIOD_SECONDS, or 30s
  ARGO_DEADLINE=TIME   the same as --timeout, as a point in time (RFC 3339)

SIGTERM, SIGINT, SIGHUP and SIGQUIT act like the timeout. Durations: 1h2m3.5s, 300ms.

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const SIGNAL: &str = "\
emissary signal SIGNAL [NAME] [--create] [flags]

Leaves SIGNAL (15, TERM, SIGTERM) in the signal file of the container NAME (default:
--name, or ARGO_CONTAINER_NAME). That container's emissary delivers it to the command.

  --create             make the folder of a container that is still to come

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const KILL: &str = "\
emissary kill SIGNAL PID

Sends SIGNAL (15, TERM, SIGTERM) to the process PID, for containers that have no shell.
If PID is 1 and does not take the signal from here, the signal goes to the command,
through this container's signal file.

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

/// Prints a page.
pub(crate) fn help(topic: Topic) -> u8 {
    print(match topic {
        Topic::All => ALL,
        Topic::Run => RUN,
        Topic::Init => INIT,
        Topic::Wait => WAIT,
        Topic::Signal => SIGNAL,
        Topic::Kill => KILL,
    })
}

/// Prints name and version.
pub(crate) fn version() -> u8 {
    print(concat!("emissary ", env!("CARGO_PKG_VERSION"), "\n"))
}

fn print(text: &str) -> u8 {
    match fs::write_all(rustix::stdio::stdout(), text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => emissary_core::exit::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_fits_a_screen() {
        for page in [ALL, RUN, INIT, WAIT, SIGNAL, KILL] {
            assert!(page.lines().count() <= 24 && page.lines().all(|line| line.len() <= 90), "{page}");
        }
    }
}
