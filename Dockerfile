# One binary in a small image, run as a user without rights.
#   docker build -t mana-auth .
#   docker run -p 3001:3001 --env-file production.env mana-auth

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY aggregates aggregates
COPY projections projections
COPY migrations migrations
COPY src src
RUN cargo build --release --locked --bin mana-auth && strip target/release/mana-auth

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/mana-auth --shell /usr/sbin/nologin mana-auth
COPY --from=build /build/target/release/mana-auth /usr/local/bin/mana-auth
USER mana-auth
ENV NODE_ENV=production PORT=3001 MANA_AUTH_DATA_DIR=/var/lib/mana-auth
EXPOSE 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["mana-auth", "health"]
STOPSIGNAL SIGTERM
CMD ["mana-auth", "serve"]
