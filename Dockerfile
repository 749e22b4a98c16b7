# syntax=docker/dockerfile:1
# The image of codeq: one program, no shell, no root.
#
#   docker build --build-arg REVISION=$(git rev-parse HEAD) -t registry.example.org/codeq:0.1.0 .
#   docker run --rm -p 8080:8080 -e REDIS_URL=redis://host:6379 registry.example.org/codeq:0.1.0
#
# `make test` lints this file, and checks that what it copies is all that the build reads and that
# cargo takes its command line. No container engine has built it there.

# Debian 12, as below: the program is linked against this glibc. The version is that of
# rust-toolchain.toml.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# Without rust-toolchain.toml, which would have rustup fetch rustfmt and clippy. In .cargo are frame
# pointers, by which profiles walk the stack.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY lua lua
# Cargo looks for the file of each target that the manifest names.
COPY tests/it/main.rs tests/it/main.rs
# Not stripped: profiles and panics name functions and lines.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin codeq && cp target/release/codeq /codeq

# glibc, libgcc, certificates of public authorities, time zones; nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="codeq" \
      org.opencontainers.image.description="A task broker over HTTP: stateless nodes in front of Redis." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /codeq /usr/local/bin/codeq
# nonroot, as a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
# Whether it lives: who is not ready waits for Redis, and a restart would not help.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/codeq", "healthcheck", "--live"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/codeq"]
CMD ["serve"]
