/**
 * Snapshots, rollbacks, discards and merges against every moment at which a daemon can die or the power go.
 *
 * See support/chain-history.ts for the model and support/simulated-files.ts for what a power loss does to names.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { REGION_SECTORS, REGIONS } from '../unit/disk/support/chain-contents.ts'
import { ChainHistory, type ChainStep, type FailingStep } from '../unit/disk/support/chain-history.ts'

const change = fc.record({
  do: fc.constantFrom('write' as const, 'write' as const, 'trim' as const),
  region: fc.nat(REGIONS.length - 1),
  from: fc.nat(REGION_SECTORS - 1),
  length: fc.integer({ min: 1, max: REGION_SECTORS })
})
const step: fc.Arbitrary<ChainStep> = fc.oneof(
  { weight: 8, arbitrary: change },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('flush' as const, 'reopen' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('merge' as const, 'merge' as const, 'fold' as const, 'save-map' as const)
    })
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('snapshot' as const), meanwhile: fc.nat(3) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('rollback' as const, 'discard' as const, 'discard' as const, 'discard' as const),
      which: fc.nat(20)
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      how: fc.constantFrom('death' as const, 'power-loss' as const)
    })
  }
)

test('a crash at any moment leaves the machine and its snapshots as before the command or as after it', async () => {
  const sum = await tryHistories(step, 20_261_124)
  expect(sum.moments).toBeGreaterThan(3_000)
  expect(sum.snapshots).toBeGreaterThan(100)
  expect(sum.merges).toBeGreaterThan(20)
}, 240_000)

/** One of five steps fails, if it syncs so often, and more of those that are seldom. */
const failing: fc.Arbitrary<FailingStep> = fc.tuple(step, fc.nat(20)).map(([each, fails]) => {
  const often = each.do === 'merge' ? 12 : 4
  return fails < often ? { ...each, fails: fails % 6 } : each
})

test('after a sync that fails in any command, all that is found then and flushed stays', async () => {
  const sum = await tryHistories(failing, 20_261_128)
  expect(sum.moments).toBeGreaterThan(3_000)
  expect(sum.failures).toBeGreaterThan(10)
}, 240_000)

/** Runs histories of such steps, and says what was in all of them together. */
async function tryHistories(steps: fc.Arbitrary<FailingStep>, seed: number) {
  const sum = { moments: 0, snapshots: 0, merges: 0, failures: 0 }
  const rows = fc.array(steps, { minLength: 10, maxLength: 40, size: 'max' })
  const property = fc.asyncProperty(rows, fc.nat(), async (row, choices) => {
    const history = new ChainHistory({ random: randomRow(choices), momentsTried: 6 })
    await history.run(row)
    sum.moments += history.moments
    sum.snapshots += history.snapshotsTaken
    sum.merges += history.merges
    sum.failures += history.failures
  })
  await fc.assert(property, { seed, numRuns: 30 })
  return sum
}

/** A linear congruential generator (Numerical Recipes); good enough to choose. */
function randomRow(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
