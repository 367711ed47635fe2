//! Writes the signal file of a container (docs/protocol.md, "Kill and signal").
//!
//! Enters: a signal. Leaves: a file with the signal's number in decimal. Refuses nothing but what the file system refuses.

use emissary_core::exit;
use emissary_core::layout::{self, File};
use emissary_core::signal::Signal;

use super::folder::Folder;
use crate::report::error::Error;

/// Writes a signal file.
///
/// # Errors
/// The file cannot be written. The message has its path.
pub(crate) fn write(folder: &Folder, signal: Signal) -> Result<(), Error> {
    let mut room = [0; 3];
    folder.write(layout::base_name(File::Signal), exit::digits(signal.number(), &mut room), 0o666)
}
