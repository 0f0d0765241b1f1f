import { constants } from 'node:os';
import { Interrupted } from './errors.js';

/** Longer than a job process takes to be stopped by force. Nothing is waited for longer: the first SIGTERM ends the process within 10 s. */
const graceMs = 9_000;
/** npm hands Ctrl-C on to a process that the terminal has told already; what comes so soon is not a second wish. */
const sameWishMs = 700;

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Exit code that a shell gives to a process ended by this signal. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/**
 * Runs work that Ctrl-C, SIGTERM and SIGHUP can stop: the first fires the signal and the work cleans up, the second ends the process at once,
 * and so does a clean-up that does not end.
 * @throws Interrupted when the work ended because it was stopped, whatever it threw itself
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  let interrupted: Interrupted | undefined;
  let since = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    if (interrupted !== undefined) {
      if (performance.now() - since > sameWishMs) process.exit(exitCodeOf(signal));
      return;
    }
    interrupted = new Interrupted(signal);
    since = performance.now();
    process.stderr.write('\nStopping; once more forces it.\n');
    setTimeout(() => process.exit(exitCodeOf(signal)), graceMs).unref();
    abort.abort(interrupted);
  };
  for (const signal of signals) process.on(signal, onSignal);
  try {
    return await work(abort.signal);
  } catch (error) {
    throw interrupted ?? error;
  } finally {
    if (interrupted === undefined) for (const signal of signals) process.off(signal, onSignal);
  }
}
