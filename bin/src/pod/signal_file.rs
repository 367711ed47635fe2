//! Leaving a signal for a container.

use emissary_core::exit;
use emissary_core::layout::{self, File};
use emissary_core::signal::Signal;

use super::folder::Folder;
use crate::report::error::Error;

/// Writes a signal file.
///
/// # Errors
/// A file that cannot be written, by its path.
pub(crate) fn write(folder: &Folder, signal: Signal) -> Result<(), Error> {
    let mut room = [0; 3];
    folder.write(layout::base_name(File::Signal), exit::digits(signal.number(), &mut room), 0o666)
}
