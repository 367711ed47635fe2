//! The signal role: a signal into a container's signal file.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::signal::Signal;
use rustix::fs::Mode;

use super::request::Common;
use crate::pod::shared::{self, Shared};
use crate::pod::signal_file;

/// Leaves a signal for a container.
#[inline(never)]
pub(crate) fn signal(common: &Common<'_>, signal: Signal, container: Option<&CStr>) -> u8 {
    rustix::process::umask(Mode::empty());
    let result = container.map_or(Ok(()), |name| shared::check_name(name.to_bytes())).and_then(|()| {
        let shared = Shared::open(&common.place)?;
        let folder = match container {
            Some(name) => shared.container(name.to_bytes())?,
            None => shared.own()?,
        };
        signal_file::leave(&folder, signal)
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            common.console.error(&error);
            exit::FAILURE
        }
    }
}
