import { testWrapper } from '../contract/chunk-source.ts';

testWrapper('memory source', source => source);
