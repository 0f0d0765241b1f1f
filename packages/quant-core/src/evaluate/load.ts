import os from 'node:os';
import { performance } from 'node:perf_hooks';

/** How busy a machine was over some time. */
export interface MachineLoad {
  /** Cores that other processes kept busy, on average. */
  otherCores: number;
  cores: number;
  /** Load average over the last minute, this process included; 0 where the system has none. */
  average: number;
}

/** Seconds that all cores together have been busy since the machine was started. */
const busySeconds = () => os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;

const ownSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Begin to watch what other processes do; call what is returned at the end. Clocks of the system tick every 10 ms: under half a second, nothing is told of others. */
export function watchLoad(): () => MachineLoad {
  const start = { busy: busySeconds(), own: ownSeconds(), at: performance.now() };
  return () => {
    const seconds = (performance.now() - start.at) / 1000;
    const others = busySeconds() - start.busy - (ownSeconds() - start.own);
    return {
      otherCores: seconds < 0.5 ? 0 : Math.max(0, others / seconds),
      cores: os.cpus().length,
      average: os.loadavg()[0] ?? 0,
    };
  };
}
