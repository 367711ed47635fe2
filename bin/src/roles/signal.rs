//! The signal role writes a signal into a container's signal file (docs/protocol.md, "Kill and signal").
//!
//! Enters: a signal and a container's name. Leaves: the signal file in that container's folder. Refuses: a name that is not valid, and a container
//! that has no folder, unless `--create` is given.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::layout::Kind;
use emissary_core::signal::Signal;
use rustix::fs::Mode;

use super::request::Common;
use crate::os::signals;
use crate::pod::shared::{self, Shared};
use crate::pod::signal_file;
use crate::report::error::Error;

/// Writes a signal for a container. Returns the status to exit with.
#[inline(never)]
pub(crate) fn signal(common: &Common<'_>, signal: Signal, container: Option<&CStr>, create: bool) -> u8 {
    signals::end_at_requests_as_first_process();
    rustix::process::umask(Mode::empty());
    match write_signal(common, signal, container.map(CStr::to_bytes), create) {
        Ok(()) => 0,
        Err(error) => {
            common.console.error(&error);
            exit::FAILURE
        }
    }
}

fn write_signal(common: &Common<'_>, signal: Signal, container: Option<&[u8]>, create: bool) -> Result<(), Error> {
    if let Some(name) = container {
        shared::check_name(name)?;
    }
    let shared = Shared::open(&common.place)?;
    let own = shared.layout.container;
    let name = container.unwrap_or(own);
    match shared.layout.kind {
        Kind::Flat if name != own && name != b"main" => {
            return Err(Error::text(&[b"no container '", name, b"': the flat layout of ", shared.layout.dir, b" has one, without a name"]));
        }
        Kind::Pod if name.is_empty() => {
            return Err(Error::text(&[b"the pod layout needs a container name: NAME, --name, or ARGO_CONTAINER_NAME"]));
        }
        _ => {}
    }
    let folder = if create || container.is_none() || shared.layout.kind == Kind::Flat {
        shared.container(name)?
    } else {
        shared.existing(name).ok_or_else(|| {
            Error::text(&[
                b"no container '",
                name,
                b"' in ",
                shared.layout.dir,
                b"/ctr; `--create` leaves a signal for one that is still to come",
            ])
        })?
    };
    signal_file::write(&folder, signal)
}
