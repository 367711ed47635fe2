# An application image without a shell, with emissary in front of its program.
# `cargo xtask demo --docker` builds it: context with `worker`, and the image of scratch-image/Dockerfile as emissary:demo.
FROM scratch
COPY --from=emissary:demo /emissary /emissary
COPY worker /worker
USER 65534:65534
ENTRYPOINT ["/emissary", "--"]
CMD ["/worker", "/var/run/argo/work", "0"]
