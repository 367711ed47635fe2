//! What `help`, `--help` and `version` print. Each page fits a screen.

use super::request::Topic;
use crate::os::fs;

const ALL: &str = "\
emissary runs a container's command as its child and leaves exit code, logs, output
parameters and artifacts as plain files on a shared volume.

  emissary [run] [flags] -- COMMAND ARG...   run the command (the main container)
  emissary init [--template FILE]            put binary and template on the volume
  emissary wait [flags]                      wait for the main containers, then report
  emissary signal SIGNAL [NAME]              leave a signal for a container
  emissary kill SIGNAL PID                   send a signal to a process
  emissary version | help [SUBCOMMAND]

Flags of all of them:
  --name NAME          the container's name; selects the pod layout (ARGO_CONTAINER_NAME)
  --layout flat|pod    the layout                                   (EMISSARY_LAYOUT)
  --dir DIR            the shared folder                            (EMISSARY_DIR)
                       /var/argo when flat, /var/run/argo in a pod
  --loglevel LEVEL     debug, info, warn, error; warn unless called as argoexec
  --log-format FORM    plain, text, json; plain unless called as argoexec

Exit status: the command's own, 128+N when signal N ended it, 64 for bad input or an
output that could not be saved, 65 when an init-less pod is not ready.
";

const RUN: &str = "\
emissary [run] [flags] -- COMMAND ARG...

Runs COMMAND in a process group of its own, passes signals on to it, reaps orphans and,
when it has ended, saves the outputs that the template names and writes `exitcode`.

Read:    template (or ARGO_TEMPLATE), signal, before, after, status
Written: exitcode, stdout, stderr or combined, outputs/parameters, outputs/artifacts

  ARGO_INCLUDE_SCRIPT_OUTPUT=true          capture stdout (pod layout)
  ARGO_CONTAINER_ARGS_FILE=FILE            a JSON array of further arguments
  ARGO_WAIT_FOR_READY=true                 wait for the marker `status` first
  ARGO_DEBUG_PAUSE_BEFORE, _AFTER=true     wait for the file `before`, `after`
  ARGO_TERMINATION_GRACE_PERIOD_SECONDS=N  between a sidecar's SIGTERM and SIGKILL; 30
  EMISSARY_TERMINATION_LOG=FILE            where last words go; /dev/termination-log

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const INIT: &str = "\
emissary init [--template FILE] [flags]

Copies this binary (mode 0555) and the template (mode 0444) into the shared folder. The
template is checked first: what the main container would refuse is refused here.

  --template FILE      the template; `-` is stdin; ARGO_TEMPLATE where it is not given

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const WAIT: &str = "\
emissary wait [flags]

Waits until every main container has an exit code, then reports exit codes, parameters,
artifacts and log sizes. Its status is the first code that is not 0.

  --follow, -f         copy their captured logs to stdout and stderr as they grow
  --json               report as one JSON object
  --timeout DURATION   then leave signal 15, and 9 after the grace period
  --grace DURATION     the grace period; ARGO_TERMINATION_GRACE_PERIOD_SECONDS, or 30s
  ARGO_DEADLINE=TIME   the same as --timeout at a point in time (RFC 3339)

SIGTERM and SIGINT do what the timeout does. Durations: 1h2m3.5s, 300ms.

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const SIGNAL: &str = "\
emissary signal SIGNAL [NAME] [--create] [flags]

Leaves SIGNAL (15, TERM, SIGTERM) for the container NAME, or for the one that --name or
ARGO_CONTAINER_NAME names, in its signal file. Its emissary delivers it to the command.

  --create             also for a container that is still to come

Flags: --name, --layout, --dir, --loglevel, --log-format (see `emissary help`)
";

const KILL: &str = "\
emissary kill SIGNAL PID

Sends SIGNAL (15, TERM, SIGTERM) to the process PID, in a container that has no shell.
Where PID is 1 and the kernel protects it, the signal goes to the command through this
container's signal file.

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
