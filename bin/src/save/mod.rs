//! Everything that moves between a step and the shared volume: input artifacts, output parameters and output artifacts (docs/protocol.md,
//! "Artifacts").

pub(crate) mod artifact;
pub(crate) mod compressor;
pub(crate) mod cpus;
pub(crate) mod deflate;
pub(crate) mod input_links;
pub(crate) mod outputs;
pub(crate) mod parameter;
pub(crate) mod walk;

use crate::report::error::Error;

/// The reason why an output was not saved.
pub(crate) enum Failure {
    /// Nothing exists at the path.
    Missing,
    /// Any other error.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
