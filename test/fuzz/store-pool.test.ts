/**
 * The pool against a Map, through random puts, drops, restarts, crashes and rot.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { blockOf, copyAsAfterCrash, entryOf, hashOf, openStore, type TestStore } from '../unit/store/tools.ts'

const SEED = 20_261_121
/** Different blocks that a run uses. */
const BLOCKS = 24

afterEach(removeFolders)

const number = fc.nat(BLOCKS - 1)
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('put' as const), numbers: fc.array(number, { maxLength: 8 }) })
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('put apart' as const), numbers: fc.array(number, { maxLength: 8 }) })
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('drop' as const), number, isReclaimed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('crash' as const), rotten: fc.array(number, { maxLength: 3 }) })
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('sync' as const) }) }
)

test('a pool keeps what it was given, through restarts and crashes, and never gives a wrong byte', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async steps => {
      let store = await openStore(await temporaryFolder())
      const kept = new Set<number>()
      /** Whose bytes were changed on disk: they must not be found once they were looked at. */
      const rotten = new Set<number>()
      try {
        for (const action of steps) {
          if (action.kind === 'put') {
            const slots = await store.pool.putMany(action.numbers.map(entryOf))
            expect(slots.every((slot, index) => slot === store.pool.find(hashOf(action.numbers[index]!)))).toBe(true)
            for (const each of action.numbers) kept.add(each)
          } else if (action.kind === 'put apart') {
            await Promise.all(action.numbers.map(each => store.pool.put(hashOf(each), blockOf(each))))
            for (const each of action.numbers) kept.add(each)
          } else if (action.kind === 'drop') {
            const slot = await store.pool.drop(hashOf(action.number))
            expect(slot !== -1).toBe(kept.delete(action.number))
            rotten.delete(action.number)
            if (slot !== -1 && action.isReclaimed) store.pool.reclaim(slot)
          } else if (action.kind === 'restart') {
            await store.close()
            store = await openStore(store.folder)
          } else if (action.kind === 'crash') {
            store = await crash(
              store,
              action.rotten.filter(each => kept.has(each))
            )
            for (const each of action.rotten) if (kept.has(each)) rotten.add(each)
          } else {
            await store.pool.sync()
          }
          expect(store.pool.usage.blocks).toBe(kept.size)
        }
        await check(store, kept, rotten)
      } finally {
        await store.close()
      }
    }),
    { numRuns: 60, seed: SEED }
  )
})

/** The store as it is found after its process died, with some blocks damaged meanwhile. */
async function crash(store: TestStore, rotten: number[]): Promise<TestStore> {
  const folder = await temporaryFolder()
  const slots = rotten.map(each => store.pool.find(hashOf(each)))
  await copyAsAfterCrash(store, folder)
  await store.close()
  for (const slot of slots) {
    const file = await open(join(folder, 'pool', '00000.seg'), 'r+')
    await file.write(Buffer.of(0x80), 0, 1, slot * BLOCK_SIZE_BYTES + 30_000)
    await file.close()
  }
  return openStore(folder)
}

/** Every block is either right or not found, once its slot was confirmed. */
async function check(store: TestStore, kept: ReadonlySet<number>, rotten: ReadonlySet<number>): Promise<void> {
  const slots = new Set<number>()
  for (let each = 0; each < BLOCKS; each++) {
    const slot = store.pool.find(hashOf(each))
    expect(slot !== -1, `block ${each}`).toBe(kept.has(each))
    if (slot === -1) continue
    slots.add(slot)
    if (store.pool.isSuspect(slot)) {
      expect(store.pool.confirm(slot, hashOf(each)), `block ${each}`).toBe(!rotten.has(each))
      if (rotten.has(each)) continue
    }
    const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
    store.pool.readSync(slot, 0, bytes)
    expect(bytes.equals(blockOf(each)), `block ${each}`).toBe(true)
  }
  expect(slots.size).toBe(kept.size)
}
