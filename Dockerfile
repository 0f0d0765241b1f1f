# One image for the API and the worker; docker-compose.yml says which of the two a container runs.
FROM node:22-bookworm-slim AS build
WORKDIR /octet
COPY package.json package-lock.json .npmrc ./
COPY packages/quant-core/package.json packages/quant-core/
COPY packages/contracts/package.json packages/contracts/
COPY packages/store/package.json packages/store/
COPY packages/runner/package.json packages/runner/
COPY apps/api/package.json apps/api/
COPY apps/worker/package.json apps/worker/
COPY apps/cli/package.json apps/cli/
ENV PRISMA_SCHEMA_ENGINE_BINARY=/bin/true
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund
COPY . .
RUN sh scripts/build.sh && npm prune --omit=dev && rm -rf packages/*/src apps/*/src

FROM node:22-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080
WORKDIR /octet
COPY --from=build /octet/package.json ./
COPY --from=build /octet/node_modules node_modules
COPY --from=build /octet/prisma prisma
COPY --from=build /octet/packages packages
COPY --from=build /octet/apps apps
USER node
EXPOSE 8080
CMD ["node", "apps/api/dist/main.js"]
