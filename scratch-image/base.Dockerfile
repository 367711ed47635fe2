# A base image for programs that need no distribution: user and group names, /tmp, certificates. The container starts emissary, which runs the program.
# Context: a folder with `emissary`, `ca-certificates.crt` (of a Linux system, from /etc/ssl/certs) and `rootfs` (from this folder, with an empty folder `tmp`
# of mode 1777 in it). `cargo xtask image --base` makes the context and builds the image.
FROM scratch
COPY rootfs /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY emissary /emissary
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/emissary"]
