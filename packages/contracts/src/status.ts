/**
 * The states of a job and the only ways between them. Nothing else decides what a state may become:
 * the store refuses every change that this file does not list.
 */
export const jobStates = ['queued', 'running', 'cancelling', 'succeeded', 'gate_failed', 'failed', 'cancelled'] as const;
export type JobState = (typeof jobStates)[number];

/**
 * From each state, where a job may go.
 * - `queued → failed`: waited longer than `limits.queueSeconds`.
 * - `running → queued`: the worker was lost and the job is tried again.
 * - `cancelling` only ends in `cancelled`: whatever the job process did after the request is thrown away.
 */
export const transitions = {
  queued: ['running', 'cancelled', 'failed'],
  running: ['succeeded', 'gate_failed', 'failed', 'cancelling', 'queued'],
  cancelling: ['cancelled'],
  succeeded: [],
  gate_failed: [],
  failed: [],
  cancelled: [],
} as const satisfies Record<JobState, readonly JobState[]>;

export type TerminalState = { [S in JobState]: (typeof transitions)[S] extends readonly [] ? S : never }[JobState];

/** The state is final; a job in it never changes again. */
export function isTerminal(state: JobState): state is TerminalState {
  return transitions[state].length === 0;
}

/** The job has a model and a report to give. */
export function hasResult(state: JobState): boolean {
  return state === 'succeeded' || state === 'gate_failed';
}

export function mayBecome(from: JobState, to: JobState): boolean {
  return (transitions[from] as readonly JobState[]).includes(to);
}

/** Every state that may become `to`. */
export function statesBefore(to: JobState): JobState[] {
  return jobStates.filter((from) => mayBecome(from, to));
}

/** What a request to cancel does in each state; null where there is nothing left to cancel. */
export const cancelLeadsTo = {
  queued: 'cancelled',
  running: 'cancelling',
  cancelling: 'cancelling',
  succeeded: null,
  gate_failed: null,
  failed: null,
  cancelled: 'cancelled',
} as const satisfies Record<JobState, JobState | null>;
