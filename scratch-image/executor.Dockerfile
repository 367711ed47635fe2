# Argo's executor image with this project's binary as `argoexec`. The init container copies the binary to the pod's volume, and main containers run it. The full
# executor stays in the image as `argoexec-full`; the binary hands subcommands over to it that are not for main containers (see docs/argo.md).
# Context: a folder with `emissary`. --build-arg UPSTREAM=IMAGE names the executor image of your Argo release, whose program is /bin/argoexec.
ARG UPSTREAM
FROM ${UPSTREAM} AS upstream

FROM ${UPSTREAM}
COPY --from=upstream /bin/argoexec /bin/argoexec-full
COPY emissary /bin/argoexec
