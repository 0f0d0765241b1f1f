/** Exit codes of every command; one stopped by a signal gives 128 and its number. */
export const exitCodes = { ok: 0, error: 1, gateFailed: 2 } as const;
