import type { Pass } from '../ir/pass.js';
import { deadCode } from './deadCode.js';
import { dropExpand } from './dropExpand.js';
import { dropIdentities } from './dropIdentities.js';
import { inlineConstants } from './foldConstants.js';
import { foldShapeArithmetic } from './foldShapeArithmetic.js';
import { inlineIf } from './inlineIf.js';
import { mergeMoves } from './mergeMoves.js';
import { toInference } from './toInference.js';

/** What brings a graph as it was read to inference form, with nothing in it that computes nothing; needs no engine. */
export const tidy: readonly Pass[] = [
  inlineConstants,
  toInference,
  dropIdentities,
  foldShapeArithmetic,
  inlineIf,
  dropExpand,
  mergeMoves,
  deadCode,
];
