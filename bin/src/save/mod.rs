//! What a step takes in and leaves: input artifacts, output parameters, output artifacts.

pub(crate) mod artifact;
pub(crate) mod compressor;
pub(crate) mod cpus;
pub(crate) mod deflate;
pub(crate) mod input_links;
pub(crate) mod outputs;
pub(crate) mod parameter;
pub(crate) mod walk;

use crate::report::error::Error;

/// Why an output was not saved.
pub(crate) enum Failure {
    /// There is nothing at the path.
    Missing,
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
