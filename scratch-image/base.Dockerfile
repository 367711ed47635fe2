# What a program without a distribution still asks for: users and groups by name, a /tmp, certificates; and emissary in front.
# Context: a folder with `emissary`, `ca-certificates.crt` (a system's, from /etc/ssl/certs) and `rootfs` (of this folder, with an empty `tmp` of mode 1777
# in it).
# `cargo xtask image --base` puts it together and builds it.
FROM scratch
COPY rootfs /
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY emissary /emissary
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/emissary"]
