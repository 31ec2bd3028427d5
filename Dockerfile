# syntax=docker/dockerfile:1

# Build: nothing but cargo and a C compiler, at the versions of Cargo.lock. For what has to be
# repeatable to the byte, name both base images by digest.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && \
    install -m 0755 target/release/collimator /usr/local/bin/collimator

# Run: the binary, certificates to reach an object store over TLS, Debian's Postgres for the private
# database (unused when COLLIMATOR__DATABASE__URL is set), and curl for the health check.
FROM debian:bookworm-slim
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates curl postgresql && \
    # The package makes a cluster of its own, which nobody here uses.
    rm -rf /var/lib/postgresql/* /etc/postgresql/* /var/lib/apt/lists/* && \
    # A named account: Postgres refuses a user id that passwd does not know.
    useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/collimator \
        --shell /usr/sbin/nologin collimator && \
    install -d -o collimator -g collimator -m 0700 /var/lib/collimator
COPY --from=build /usr/local/bin/collimator /usr/local/bin/collimator
COPY LICENSE /usr/share/doc/collimator/LICENSE

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENV COLLIMATOR__DATA__DIR=/var/lib/collimator \
    COLLIMATOR__LOG__FORMAT=json
VOLUME /var/lib/collimator
EXPOSE 8080
# Ready means: database, migrations and blob store answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8080/health/ready"]
# Long enough for server.drain_timeout: docker run --stop-timeout 45.
STOPSIGNAL SIGTERM
ENTRYPOINT ["collimator"]
# Loopback only, as everywhere while authentication is off: reachable from outside the container
# with `serve --listen 0.0.0.0:8080 --insecure-no-auth`, once something else keeps strangers out.
CMD ["serve"]
