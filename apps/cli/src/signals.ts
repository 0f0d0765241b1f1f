import { constants } from 'node:os';
import closeWithGrace from 'close-with-grace';
import { Interrupted } from './errors.js';

/** Longer than a job process takes to be stopped by force. */
const graceMs = 20_000;

/** Exit code that a shell gives to a process ended by this signal. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/**
 * Runs work that Ctrl-C, SIGTERM and SIGHUP can stop: the first fires the signal and the work cleans up, the second ends the process at once.
 * @throws Interrupted when the work ended because it was stopped, whatever it threw itself
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  let interrupted: Interrupted | undefined;
  const graceful = closeWithGrace(
    {
      delay: graceMs,
      logger: false,
      skip: [
        'beforeExit',
        'uncaughtException',
        'unhandledRejection',
        'SIGQUIT',
        'SIGILL',
        'SIGTRAP',
        'SIGABRT',
        'SIGBUS',
        'SIGFPE',
        'SIGSEGV',
        'SIGUSR2',
      ],
      onSecondSignal: (signal) => process.exit(exitCodeOf(signal)),
    },
    ({ signal = 'SIGTERM' }) => {
      interrupted = new Interrupted(signal);
      process.stderr.write('\nStopping; once more forces it.\n');
      abort.abort(interrupted);
      // The work itself ends the process when it has cleaned up.
      return new Promise(() => undefined);
    },
  );
  try {
    return await work(abort.signal);
  } catch (error) {
    throw interrupted ?? error;
  } finally {
    if (interrupted === undefined) graceful.uninstall();
  }
}
