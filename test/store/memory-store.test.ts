import { testCopyingStore, testObjectStore } from '../contract/object-store.ts';
import { MemoryStore } from '../support/memory-store.ts';

testObjectStore('memory store', () => new MemoryStore());
testCopyingStore('memory store', async () => new MemoryStore());
