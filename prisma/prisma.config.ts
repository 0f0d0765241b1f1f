import { defineConfig } from 'prisma/config';

/** Read by the Prisma CLI only; the service applies prisma/migrations itself when it starts. */
export default defineConfig({
  schema: 'schema.prisma',
  migrations: { path: 'migrations' },
  datasource: { url: process.env.DATABASE_URL ?? '' },
});
