//! Docker: whether it is there, and what building and running an image have in common.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::tools::{command, is_on_path, output};

/// Whether Docker is installed and its daemon answers.
pub(crate) fn is_available() -> bool {
    is_on_path("docker") && output(command("docker").args(["info", "--format", "{{.ServerVersion}}"])).is_ok()
}

/// Builds an image from a Dockerfile and a folder with what it copies. Each of `args` is `NAME=VALUE`.
pub(crate) fn build(tag: &str, dockerfile: &Path, context: &Path, args: &[&str]) -> Result<()> {
    let mut docker = command("docker");
    // The classic builder needs no plugin and finds local images.
    docker.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", tag, "--file"]).arg(dockerfile);
    for arg in args {
        docker.args(["--build-arg", arg]);
    }
    output(docker.arg(context)).map(drop)
}

/// `docker run` with a read-only root, without a network, without capabilities. The container is removed at its end.
pub(crate) fn hardened() -> Command {
    let mut docker = command("docker");
    docker.args(["run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
    docker
}

/// Removes an image.
pub(crate) fn remove(tag: &str) -> Result<()> {
    output(command("docker").args(["rmi", "--force", tag])).map(drop)
}
