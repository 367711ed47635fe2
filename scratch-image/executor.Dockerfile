# Argo's executor image with ours in the place of `argoexec`: the init container copies it to the pod's volume, and main containers run it. What is not
# a main container's (see docs/argo.md) goes on to the full one, which is kept.
# Context: a folder with `emissary`. --build-arg UPSTREAM=IMAGE names the executor image of your Argo release, whose program is /bin/argoexec.
ARG UPSTREAM
FROM ${UPSTREAM} AS upstream

FROM ${UPSTREAM}
COPY --from=upstream /bin/argoexec /bin/argoexec-full
COPY emissary /bin/argoexec
