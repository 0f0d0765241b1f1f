-- Starts that ended through a fault of their worker, and when the job may be started again.
ALTER TABLE "job" ADD COLUMN     "avoid_worker" TEXT,
ADD COLUMN     "failed_starts" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "not_before" TIMESTAMPTZ(3);

-- The request that answers for a key, while it is being answered.
ALTER TABLE "idempotency_key" ADD COLUMN     "holder" TEXT;
