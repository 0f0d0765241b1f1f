// A test process whose vitest was ended by a signal of its own would run on, with the servers that it started.
process.once('disconnect', () => process.exit(1));
