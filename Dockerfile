# The coin service: docker build -t aqm-coin-service . (docker-compose.yml runs it, read-only and without capabilities).
# deploy/test/dockerfile.long.test.ts runs these steps as plain processes, because the tests need no container engine.

FROM node:24.21.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json buf.yaml buf.gen.yaml ./
COPY build build
COPY proto proto
COPY services services
# Also generates and compiles, by the script "dependencies" of package.json.
RUN npm ci

FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY services/coin/package.json services/coin/package.json
# Only the run-time dependencies of the service: no tools, no device library, no PostgreSQL.
RUN npm ci --workspace services/coin --omit=dev --omit=optional --ignore-scripts

FROM golang:1.26.8-bookworm AS probe
# Asks for health with 7 ms of processor time, where Node takes 140.
RUN CGO_ENABLED=0 go install -trimpath -ldflags=-s github.com/grpc-ecosystem/grpc-health-probe@v0.4.62

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production AQM_LISTEN=0.0.0.0:50051 AQM_DATA_DIR=/var/lib/aqm
WORKDIR /app
COPY --from=probe /go/bin/grpc-health-probe /usr/local/bin/grpc-health-probe
COPY deploy/health-check.sh /usr/local/bin/aqm-health
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist/gen dist/gen
COPY --from=build /app/dist/services dist/services
COPY package.json package.json
COPY migrations migrations
RUN ln -s /app/dist/services/coin/aqm.js /usr/local/bin/aqm
# The watermark of the restore fence must outlive the container: mount a volume here.
RUN install -d -o node -g node -m 0700 /var/lib/aqm
VOLUME /var/lib/aqm
USER node
EXPOSE 50051 9464
# Healthy if the process is sound. A database that is away or fenced does not make it unhealthy, because a restart would not help.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["aqm-health"]
CMD ["aqm", "serve"]
