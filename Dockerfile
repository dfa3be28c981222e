# The program in an image of its own: built here, run as a user without rights.
#
#   docker build -t tidewire .
#   docker run -p 127.0.0.1:7377:7377 -v tidewire:/data tidewire serve --token "$TOKEN"

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package tidewire \
    && cp target/release/tidewire /usr/local/bin/tidewire

FROM debian:bookworm-slim
# Certificates for `--server https://…`; connections to PostgreSQL carry their own roots.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin tidewire
COPY --from=build /usr/local/bin/tidewire /usr/local/bin/tidewire
USER 10001
# A SQLite log, where there is no PostgreSQL, lies in the volume.
WORKDIR /data
VOLUME /data
# Inside a container every address is reachable only as far as its ports are published; the program
# still asks for --token or --insecure, so that the choice is made by whoever publishes them.
ENV TIDEWIRE_ADDRESS=0.0.0.0:7377
EXPOSE 7377
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["tidewire", "health", "http://127.0.0.1:7377"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidewire"]
CMD ["serve"]
