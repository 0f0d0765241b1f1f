import type { Graph } from '../../packages/quant-core/src/ir/graph.js';
import { mlp } from './mlp.js';
import { mobilenetv2 } from './mobilenetv2.js';
import { resnet20 } from './resnet20.js';
import { vit } from './vit.js';

/** Classes of every network here. */
export const classes = 10;

export interface Network {
  title: string;
  /** Shape of one sample. */
  sample: readonly number[];
  build(): Graph;
}

const networks = {
  resnet20: { title: 'ResNet-20', sample: [3, 32, 32], build: resnet20 },
  mobilenetv2: { title: 'MobileNetV2-like', sample: [3, 32, 32], build: mobilenetv2 },
  mlp: { title: 'MLP', sample: [784], build: mlp },
  vit: { title: 'small ViT', sample: [3, 32, 32], build: vit },
} as const satisfies Record<string, Network>;

export type NetworkName = keyof typeof networks;

const isName = (name: string): name is NetworkName => Object.hasOwn(networks, name);

/** The network of that name. Throws where there is none. */
export function networkOf(name: string): Network {
  if (!isName(name)) throw new Error(`There is no network "${name}": say ${Object.keys(networks).join(', ')}.`);
  return networks[name];
}

/** Names in a list as `--network` takes it: "all", or names with commas between. */
export function networkNames(list: string): NetworkName[] {
  const names = list === 'all' ? Object.keys(networks) : list.split(',');
  return names.map((name) => {
    networkOf(name);
    return name as NetworkName;
  });
}
