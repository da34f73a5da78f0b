import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Chain,
  checkNote,
  type DiskName,
  disksOf,
  EMPTY_IMAGE,
  foldable,
  layerOf,
  MAX_LAYERS,
  mergeable,
  newChain,
  newDisk,
  pathTo,
  withMerged,
  withNewTops,
  withoutSnapshot,
  withRollback,
  withSnapshot
} from '../../../src/disk/chain.ts'
import { decodeChain, encodeChain } from '../../../src/disk/chain-file.ts'
import { RowanError } from '../../../src/errors.ts'

const IMAGE = 'ab'.repeat(32)
const taken = '2026-01-02T03:04:05.678Z'
const written = { note: '', taken, emptyTops: new Set<DiskName>() }
const untouched = { note: '', taken, emptyTops: new Set<DiskName>(['system', 'data']) }
const fresh = () => newChain('m', IMAGE, 1024)
const path = (chain: Chain) => pathTo(chain.disks.system, chain.disks.system.top).map(({ name }) => name)

describe('a chain', () => {
  test('grows by a layer with each snapshot of a disk that was written to', () => {
    const first = withSnapshot(fresh(), written)
    expect(first.snapshot).toEqual({ name: 's1', note: '', taken, at: { system: '0001' } })
    const second = withSnapshot(first.chain, { ...written, note: 'before the update' })
    expect(path(second.chain)).toEqual(['0001', '0002', '0003'])
    expect(second.snapshot).toMatchObject({ name: 's2', note: 'before the update', at: { system: '0002' } })
  })

  test('does not grow when nothing was written since', () => {
    const pristine = withSnapshot(fresh(), untouched)
    expect(pristine.snapshot.at).toEqual({ system: null })
    const { chain } = withSnapshot(pristine.chain, written)
    const again = withSnapshot(chain, untouched)
    expect(again.snapshot.at).toEqual({ system: '0001' })
    expect(path(again.chain)).toEqual(['0001', '0002'])
  })

  test('keeps what a rollback leaves, once', () => {
    const { chain } = withSnapshot(fresh(), written)
    const back = withRollback(chain, 's1', { ...written, note: 'left' })
    expect(back.left).toMatchObject({ name: 's2', note: 'left', at: { system: '0002' } })
    expect(path(back.chain)).toEqual(['0001', '0003'])
    const forth = withRollback(back.chain, 's2', untouched)
    expect(forth.left.name).toBe('s1')
    expect(path(forth.chain)).toEqual(['0001', '0002', '0003'])
    expect(forth.chain.snapshots).toHaveLength(2)
  })

  test('can be folded where the top stands on a layer that nobody else needs', () => {
    expect(foldable(fresh())).toEqual([])
    const { chain } = withSnapshot(fresh(), written)
    expect(foldable(chain)).toEqual([])
    const discarded = withoutSnapshot(chain, 's1').chain
    expect(foldable(discarded)).toEqual(['system'])
    // A branch stands there, too.
    const more = withSnapshot(chain, written).chain
    const branched = withoutSnapshot(withRollback(more, 's1', written).chain, 's1').chain
    expect(foldable(branched)).toEqual([])
    const folded = withNewTops(discarded, new Set<DiskName>(['system']))
    expect(path(folded)).toEqual(['0001', '0002', '0003'])
    expect(mergeable(folded)).toEqual([{ disk: 'system', lower: '0001', upper: '0002' }])
    expect(folded.snapshots).toEqual([])
  })

  test('gives up the layers that only a discarded snapshot led to', () => {
    const { chain } = withSnapshot(fresh(), written)
    const back = withRollback(chain, 's1', written)
    expect(withoutSnapshot(back.chain, 's2').unused).toEqual(['0002'])
    expect(withoutSnapshot(back.chain, 's1').unused).toEqual([])
  })

  test('merges only frozen neighbours of which nobody needs the lower one alone', () => {
    let chain = fresh()
    for (let count = 0; count < 3; count++) chain = withSnapshot(chain, written).chain
    expect(mergeable(chain)).toEqual([])
    chain = withoutSnapshot(chain, 's2').chain
    expect(mergeable(chain)).toEqual([{ disk: 'system', lower: '0002', upper: '0003' }])
    const down = withMerged(chain, mergeable(chain)[0]!, '0002')
    expect(path(down)).toEqual(['0001', '0002', '0004'])
    expect(down.snapshots.map(({ at }) => at.system)).toEqual(['0001', '0002'])
    expect(layerOf(down.disks.system, '0002').revision).toBe(1)
    const up = withMerged(chain, mergeable(chain)[0]!, '0003')
    expect(path(up)).toEqual(['0001', '0003', '0004'])
    // The layer below the top waits until the top is frozen; one under two others stays.
    expect(mergeable(withoutSnapshot(chain, 's3').chain)).toHaveLength(1)
    const branched = withRollback(chain, 's1', written).chain
    expect(mergeable(withoutSnapshot(branched, 's1').chain).map(({ lower }) => lower)).not.toContain('0001')
  })

  test('takes both disks back together', () => {
    const chain = { ...fresh(), disks: { ...fresh().disks, data: newDisk('data', EMPTY_IMAGE, 4096) } }
    const first = withSnapshot(chain, { ...written, emptyTops: new Set<DiskName>(['system']) })
    expect(first.snapshot.at).toEqual({ system: null, data: 'd0001' })
    const back = withRollback(first.chain, 's1', written).chain
    expect(disksOf(back).map(([, disk]) => pathTo(disk, disk.top).map(({ name }) => name))).toEqual([
      ['0002'],
      ['d0001', 'd0003']
    ])
  })

  test('has its limits', () => {
    let chain = fresh()
    for (let count = 1; count < MAX_LAYERS; count++) chain = withSnapshot(chain, written).chain
    expect(chain.disks.system.layers).toHaveLength(256)
    expect(() => withSnapshot(chain, written)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
    expect(() => withoutSnapshot(chain, 's999')).toThrow(expect.objectContaining({ code: 'SNAPSHOT_UNKNOWN' }))
    expect(() => checkNote('x'.repeat(201))).toThrow(RowanError)
    expect(() => checkNote('a\nb')).toThrow(expect.objectContaining({ code: 'USAGE' }))
    expect(decodeChain(encodeChain(chain))).toEqual(chain)
  })

  test('is, whatever was done, one that its decoder accepts, with every snapshot in it', () => {
    const step = fc.record({
      do: fc.constantFrom('snap', 'back', 'discard', 'merge'),
      which: fc.nat(30),
      empty: fc.boolean()
    })
    const property = fc.property(fc.array(step, { maxLength: 60, size: 'max' }), steps => {
      let chain: Chain = { ...fresh(), disks: { ...fresh().disks, data: newDisk('data', EMPTY_IMAGE, 4096) } }
      for (const each of steps) {
        const moment = { ...written, emptyTops: new Set<DiskName>(each.empty ? ['system'] : ['data']) }
        const name = chain.snapshots[each.which % Math.max(1, chain.snapshots.length)]?.name
        const pairs = mergeable(chain)
        const pair = pairs[each.which % Math.max(1, pairs.length)]
        if (each.do === 'snap') chain = withSnapshot(chain, moment).chain
        else if (each.do === 'back' && name !== undefined) chain = withRollback(chain, name, moment).chain
        else if (each.do === 'discard' && name !== undefined) chain = withoutSnapshot(chain, name).chain
        else if (each.do === 'merge' && pair !== undefined) {
          chain = withMerged(chain, pair, each.empty ? pair.lower : pair.upper)
        }
        expect(decodeChain(encodeChain(chain))).toEqual(chain)
      }
    })
    fc.assert(property, { seed: 20_261_125, numRuns: 200 })
  })
})
