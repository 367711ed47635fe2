# An image of an application without a shell. The container starts emissary, which runs the application.
# Context: a folder with `worker`. --build-arg EMISSARY=IMAGE names the image of scratch-image/Dockerfile.
ARG EMISSARY=emissary
FROM ${EMISSARY} AS emissary

FROM scratch
COPY --from=emissary /emissary /emissary
COPY worker /worker
USER 65534:65534
ENTRYPOINT ["/emissary", "--"]
CMD ["/worker", "/var/run/argo/work", "0"]
