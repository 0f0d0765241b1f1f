import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

/** The processor, and those of its features that decide how fast int8 is. */
export interface Cpu {
  /** Model name; '' when unknown. */
  model: string;
  features: string[];
}

/** Flag as the kernel names it → name in reports. Linux says `avx512_vnni`, macOS `AVX512VNNI`; ARM `asimddp` is the dot product. */
const features: Record<string, string> = {
  avx2: 'avx2',
  avx512f: 'avx512f',
  avx512bw: 'avx512bw',
  avx512_vnni: 'avx512_vnni',
  avx512vnni: 'avx512_vnni',
  avx_vnni: 'avx_vnni',
  avxvnni: 'avx_vnni',
  amx_tile: 'amx_tile',
  amx_int8: 'amx_int8',
  neon: 'neon',
  asimd: 'neon',
  asimddp: 'dotprod',
  i8mm: 'i8mm',
  sve: 'sve',
};

/** Read the text of Linux's /proc/cpuinfo (x86 `flags`, ARM `Features`). */
export function parseCpuInfo(text: string): Cpu {
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.+)$`, 'mi').exec(text)?.[1]?.trim() ?? '';
  return { model: field('model name') || field('hardware') || '', features: named((field('flags') || field('features')).split(/\s+/)) };
}

/** Read the answer of macOS's `sysctl machdep.cpu hw.optional` (lines `key: value`). */
export function parseSysctl(text: string): Cpu {
  const values = new Map(text.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
  const flags = `${values.get('machdep.cpu.features') ?? ''} ${values.get('machdep.cpu.leaf7_features') ?? ''}`.split(/\s+/);
  if (values.get('hw.optional.arm64') === '1') flags.push('neon');
  if (values.get('hw.optional.arm.FEAT_DotProd') === '1') flags.push('asimddp');
  if (values.get('hw.optional.arm.FEAT_I8MM') === '1') flags.push('i8mm');
  return { model: values.get('machdep.cpu.brand_string') ?? '', features: named(flags) };
}

function named(flags: readonly string[]): string[] {
  return [...new Set(flags.flatMap((flag) => features[flag.toLowerCase()] ?? []))].sort();
}

/** The processor of this machine; empty fields where it cannot be told. */
export function readCpu(): Cpu {
  const fallback = os.cpus()[0]?.model.trim() ?? '';
  try {
    const cpu =
      process.platform === 'darwin'
        ? parseSysctl(
            execFileSync('/usr/sbin/sysctl', ['machdep.cpu', 'hw.optional'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
          )
        : parseCpuInfo(readFileSync('/proc/cpuinfo', 'utf8'));
    return { model: cpu.model || (fallback === 'unknown' ? '' : fallback), features: cpu.features };
  } catch {
    return { model: fallback === 'unknown' ? '' : fallback, features: [] };
  }
}

/** Whether 8-bit products are summed by instructions made for it (VNNI or AMX on x86, dot product or i8mm on ARM); null when unknown. */
export function hasInt8Dot(cpu: Cpu): boolean | null {
  if (cpu.features.length === 0) return null;
  return ['avx512_vnni', 'avx_vnni', 'amx_int8', 'dotprod', 'i8mm'].some((feature) => cpu.features.includes(feature));
}
