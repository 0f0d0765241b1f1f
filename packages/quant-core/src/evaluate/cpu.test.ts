import { expect, it } from 'vitest';
import { hasInt8Dot, parseCpuInfo, parseSysctl, readCpu } from './cpu.js';

it('reads x86 from /proc/cpuinfo', () => {
  const cpu = parseCpuInfo(
    'processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6338\nflags\t\t: fpu sse4_2 avx2 avx512f avx512bw avx512_vnni amx_int8 avx_vnni\nbugs\t: none\n',
  );
  expect(cpu).toEqual({
    model: 'Intel(R) Xeon(R) Gold 6338',
    features: ['amx_int8', 'avx2', 'avx512_vnni', 'avx512bw', 'avx512f', 'avx_vnni'],
  });
  expect(hasInt8Dot(cpu)).toBe(true);
});

it('reads ARM from /proc/cpuinfo, which names no model', () => {
  const cpu = parseCpuInfo('processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimddp i8mm\nCPU implementer\t: 0x41\n');
  expect(cpu).toEqual({ model: '', features: ['dotprod', 'i8mm', 'neon'] });
});

it('reads macOS', () => {
  expect(
    parseSysctl(
      'machdep.cpu.brand_string: Apple M2\nhw.optional.arm64: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n',
    ),
  ).toEqual({
    model: 'Apple M2',
    features: ['dotprod', 'neon'],
  });
  expect(
    parseSysctl('machdep.cpu.brand_string: Intel(R) Core(TM) i7\nmachdep.cpu.leaf7_features: RDWRFSGS AVX2 AVX512F AVX512VNNI\n').features,
  ).toEqual(['avx2', 'avx512_vnni', 'avx512f']);
});

it('no 8-bit dot product, and nothing known, are told apart', () => {
  expect(hasInt8Dot({ model: '', features: ['avx2'] })).toBe(false);
  expect(hasInt8Dot(parseCpuInfo(''))).toBeNull();
});

it('reads this machine without throwing', () => {
  const { model, features } = readCpu();
  expect(typeof model).toBe('string');
  expect(Array.isArray(features)).toBe(true);
});
