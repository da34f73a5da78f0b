import { describe, expect, test } from 'vitest'
import { LayerSyncs } from '../../../src/disk/layer-syncs.ts'
import { RowanError } from '../../../src/errors.ts'

/** Three files whose syncs a test ends, and what was logged. */
function setUp() {
  const begun: string[] = []
  const ends = new Map<string, (error?: Error) => void>()
  const file = (name: string) => ({
    sync: () => {
      begun.push(name)
      return new Promise<void>((resolve, reject) =>
        ends.set(name, error => (error === undefined ? resolve() : reject(error)))
      )
    }
  })
  let marked = 0
  const warnings: string[] = []
  const syncs = new LayerSyncs({
    folder: '/layers/0001',
    data: file('data') as never,
    mapFile: file('map') as never,
    pending: { ...file('log'), markFailed: () => marked++ } as never,
    log: { debug: () => {}, info: () => {}, warn: message => warnings.push(message) },
    syncPlace: undefined
  })
  const turn = () => new Promise(resolve => setImmediate(resolve))
  return { syncs, begun, ends, warnings, turn, marked: () => marked }
}

describe('LayerSyncs', () => {
  test('one sync of a file at a time: who comes meanwhile waits for the next, of which there is one for all', async () => {
    const { syncs, begun, ends, turn } = setUp()
    const order: string[] = []
    syncs.data().then(() => order.push('first'))
    syncs.data().then(() => order.push('second'))
    syncs.data().then(() => order.push('third'))
    await turn()
    expect(begun).toEqual(['data'])
    ends.get('data')!()
    await turn()
    expect(order).toEqual(['first'])
    expect(begun).toEqual(['data', 'data'])
    ends.get('data')!()
    await turn()
    expect(order).toEqual(['first', 'second', 'third'])
  })

  test('what was written while the data was synced is not synced', async () => {
    const { syncs, ends, turn } = setUp()
    syncs.wrote(1000)
    const done = syncs.data()
    await turn()
    syncs.wrote(24)
    ends.get('data')!()
    await done
    expect(syncs.unsyncedBytes).toBe(24)
  })

  test('syncs of different files go side by side', async () => {
    const { syncs, begun, ends, turn } = setUp()
    const all = Promise.all([syncs.data(), syncs.log(), syncs.map()])
    await turn()
    expect([...begun].sort()).toEqual(['data', 'log', 'map'])
    for (const end of ends.values()) end()
    await all
  })

  test('after one failed the layer has failed: it is marked and said once, and nothing is synced any more', async () => {
    const { syncs, begun, ends, warnings, turn, marked } = setUp()
    const failing = syncs.data()
    await turn()
    ends.get('data')!(new RowanError('STORE_IO', 'the disk is broken'))
    await expect(failing).rejects.toMatchObject({ code: 'LAYER_FAILED' })
    expect(syncs.failure).toMatchObject({ code: 'LAYER_FAILED', message: expect.stringContaining('/layers/0001') })
    expect(marked()).toBe(1)
    expect(warnings).toHaveLength(1)
    const before = begun.length
    for (const sync of [syncs.data(), syncs.log(), syncs.map()]) {
      await expect(sync).rejects.toMatchObject({ code: 'LAYER_FAILED' })
    }
    expect(begun).toHaveLength(before)
  })
})
