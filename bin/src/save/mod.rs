//! What a step takes in and leaves: input artifacts, output parameters, output artifacts.

pub(crate) mod artifact;
pub(crate) mod compressor;
pub(crate) mod cpus;
pub(crate) mod input_links;
pub(crate) mod outputs;
