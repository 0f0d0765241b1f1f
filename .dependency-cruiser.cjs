/** Import directions: between the rooms of quant-core, between packages, and out of tests. Run by `npm run check`. */

/** quant-core's rooms in the order data flows; a room imports itself and the ones before it. */
const rooms = [
  '(errors|choices|recipe|events|version)[.]ts',
  'tensor/',
  'ir/',
  'formats/',
  'data/',
  'tasks/',
  'normalise/',
  'engine/',
  'calibrate/',
  'fakequant/',
  'autodiff/',
  'train/',
  'rounding/',
  'convert/',
  'evaluate/',
  'report/',
  'pipeline/',
  '(quantize|inspect|commands|index)[.]ts',
];
const core = '^packages/quant-core/src/';
const notProduct = '([.]test[.]ts$|/testing/)';
/** The report's types are data that every room may speak of. */
const reportSchema = '^packages/quant-core/src/report/schema[.]ts$';
const name = (room) => room.replace(/\/|\[[.]\]ts|[()]/g, '').replaceAll('|', '-');

const roomRules = rooms.slice(0, -1).map((room, position) => ({
  name: `room-${name(room)}-imports-only-rooms-above`,
  comment: `quant-core: ${name(room)} may import only ${rooms
    .slice(0, position + 1)
    .map(name)
    .join(', ')}.`,
  severity: 'error',
  from: { path: `${core}${room}`, pathNot: notProduct },
  to: { path: rooms.slice(position + 1).map((later) => `${core}${later}`), pathNot: reportSchema },
}));

/** What each workspace may import of the others. */
const directions = {
  'packages/quant-core': [],
  'packages/contracts': ['packages/quant-core'],
  'packages/store': ['packages/contracts'],
  'packages/runner': ['packages/contracts', 'packages/quant-core'],
  'apps/api': ['packages/contracts', 'packages/store', 'packages/runner'],
  'apps/worker': ['packages/contracts', 'packages/store', 'packages/runner'],
  'apps/cli': ['packages/quant-core', 'packages/contracts', 'packages/store', 'packages/runner', 'apps/api', 'apps/worker'],
};
const packageRules = Object.entries(directions).map(([from, allowed]) => ({
  name: `${from.replace('/', '-')}-direction`,
  comment: `${from} may import ${allowed.length === 0 ? 'no other workspace' : `only ${allowed.join(', ')}`}.`,
  severity: 'error',
  from: { path: `^${from}/`, pathNot: notProduct },
  to: { path: '^(packages|apps)/', pathNot: [from, ...allowed].map((workspace) => `^${workspace}/`) },
}));

module.exports = {
  forbidden: [
    ...roomRules,
    ...packageRules,
    {
      name: 'every-folder-of-quant-core-is-a-room',
      comment: 'A new folder in quant-core takes its place in the list of rooms in this file.',
      severity: 'error',
      from: { path: core, pathNot: [notProduct, ...rooms.map((room) => `${core}${room}`)] },
      to: {},
    },
    {
      name: 'no-circular',
      comment: 'Files that import each other in a ring cannot be read one at a time.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'product-imports-no-tests',
      severity: 'error',
      from: { path: '^(packages|apps)/', pathNot: notProduct },
      to: { path: [notProduct, '^(tests|bench|examples|scripts)/'] },
    },
    {
      name: 'dependency-is-declared',
      comment: 'Import only what the package.json of the workspace declares.',
      severity: 'error',
      from: { path: '^(packages|apps)/', pathNot: notProduct },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'] },
    },
    {
      name: 'import-resolves',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '/dist/'] },
    exclude: { path: ['/dist/', 'packages/store/src/generated/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types'],
    },
    reporterOptions: { text: { highlightFocused: true } },
  },
};
