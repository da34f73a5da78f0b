import { describe, expect, test, vi } from 'vitest'
import type { Chain, ChainLayer, MergePair } from '../../../src/disk/chain.ts'
import { FrozenLayer } from '../../../src/disk/frozen-layer.ts'
import { FrozenMap } from '../../../src/disk/frozen-map.ts'
import { Layer } from '../../../src/disk/layer.ts'
import { LayerMap, SECTOR_DATA } from '../../../src/disk/layer-map.ts'
import { identityOf, LayerStack } from '../../../src/disk/layer-stack.ts'
import { OpenPair } from '../../../src/disk/open-pair.ts'
import { RowanError } from '../../../src/errors.ts'
import { SimulatedFiles } from './support/simulated-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 64 * 512
const PACE = { signal: new AbortController().signal, breathe: async () => {} }
const PAIR: MergePair = { disk: 'system', lower: '0001', upper: '0002' }
const { log } = components(new TestImage(0))
let folders = 0

const layer = (name: string, parent: string | null): ChainLayer => ({ name, parent, revision: 0 })
const chain: Chain = {
  machine: 'm',
  disks: {
    system: {
      image: 'i',
      sizeBytes: SIZE_BYTES,
      layers: [layer('0001', null), layer('0002', '0001'), layer('0003', '0002')],
      top: '0003',
      next: 4
    }
  },
  snapshots: [],
  nextSnapshot: 1
}

/** Two frozen layers, of which each has some sectors of its own, under an empty top. */
async function setUp({
  shown,
  lowerSectors,
  upperSectors
}: {
  shown: boolean
  lowerSectors: number
  upperSectors: number
}) {
  const files = new SimulatedFiles()
  const folder = `/pair-${folders++}/layers`
  files.makeFolder(folder)
  const disk = chain.disks.system
  const path = (name: string) => `${folder}/${name}`
  for (const [name, value, start, count] of [
    ['0001', 1, 0, lowerSectors],
    ['0002', 2, 4, upperSectors],
    ['0003', 3, 0, 0]
  ] as const) {
    await Layer.create(path(name), identityOf(chain, disk, name), files)
    const made = await Layer.open({ log, bootId: 'b', files }, path(name), identityOf(chain, disk, name))
    if (count > 0) made.writeSync(start * 512, new Uint8Array(count * 512).fill(value))
    await made.close()
  }
  const top = await Layer.open({ log, bootId: 'b', files }, path('0003'), identityOf(chain, disk, '0003'))
  const frozen = new FrozenMap(SIZE_BYTES / 512, log)
  const layers = ['0001', '0002'].map(name => FrozenLayer.open(files, path(name), identityOf(chain, disk, name)))
  frozen.load(layers, undefined)
  const stack = new LayerStack('system', top, shown ? frozen : undefined)
  return { files, folder, stack, layers }
}

function mapOf({ mapFile }: FrozenLayer): LayerMap {
  const map = new LayerMap(SIZE_BYTES / 512)
  mapFile.load(map)
  return map
}

describe('OpenPair', () => {
  test('takes the layers that the disk shows, and leaves them open', async () => {
    const { files, folder, stack, layers } = await setUp({ shown: true, lowerSectors: 16, upperSectors: 2 })
    const pair = OpenPair.open(files, folder, chain, PAIR, stack)
    expect(pair.areShown).toBe(true)
    expect([pair.lower, pair.upper]).toEqual(layers)
    const closed = vi.spyOn(layers[0]!, 'close')
    pair.close()
    expect(closed).not.toHaveBeenCalled()
  })

  test('opens those of a branch that is not shown, and puts the smaller into the larger, down or up', async () => {
    for (const [lowerSectors, upperSectors, into] of [
      [16, 2, '0001'],
      [2, 16, '0002']
    ] as const) {
      const { files, folder, stack } = await setUp({ shown: false, lowerSectors, upperSectors })
      const pair = OpenPair.open(files, folder, chain, PAIR, stack)
      expect(pair.areShown).toBe(false)
      expect(pair.into.name).toBe(into)
      expect(pair.from).not.toBe(pair.into)
      expect(await pair.merge(SIZE_BYTES, PACE)).toBe(true)
      const byte = (sector: number) => {
        const target = new Uint8Array(1)
        pair.into.data.readSync(target, 0, 1, sector * 512)
        return target[0]
      }
      // What both have is the upper one's; what only one has is there, too.
      expect([byte(0), byte(4), byte(5)]).toEqual([1, 2, 2])
      pair.close()
    }
  })

  test('says so where what the system keeps of a merge that failed could not be forgotten', async () => {
    const { files, folder, stack } = await setUp({ shown: false, lowerSectors: 16, upperSectors: 2 })
    files.fault = operation => {
      if (operation === 'sync') throw new RowanError('STORE_IO', 'the disk is broken')
    }
    files.forget = async () => {
      throw new RowanError('TOOL_MISSING', 'the cache cannot be forgotten')
    }
    const pair = OpenPair.open(files, folder, chain, PAIR, stack)
    await expect(pair.merge(SIZE_BYTES, PACE)).rejects.toMatchObject({
      code: 'STORE_IO',
      message: expect.stringContaining('the disk is broken; the cache cannot be forgotten')
    })
    pair.close()
  })

  test('a merge after one whose sync failed is on the disk when it is done', async () => {
    for (const [lowerSectors, upperSectors, into] of [
      [16, 2, '0001'],
      [2, 16, '0002']
    ] as const) {
      let failed = 0
      for (let failing = 0; ; failing++) {
        const { files, folder, stack } = await setUp({ shown: false, lowerSectors, upperSectors })
        let syncs = 0
        files.fault = operation => {
          if (operation === 'sync' && syncs++ === failing) throw new RowanError('STORE_IO', 'injected')
        }
        const first = OpenPair.open(files, folder, chain, PAIR, stack)
        const isMerged = await first.merge(SIZE_BYTES, PACE).catch(() => false)
        first.close()
        if (isMerged) break
        failed++
        const second = OpenPair.open(files, folder, chain, PAIR, stack)
        expect(await second.merge(SIZE_BYTES, PACE)).toBe(true)
        // The power fails, and of all that no sync has covered nothing is there.
        const left = new SimulatedFiles(files.tree.clone())
        left.tree.disk = left.tree.disk.afterPowerLoss(() => 0)
        const merged = FrozenLayer.open(left, `${folder}/${into}`, identityOf(chain, chain.disks.system, into))
        const states = mapOf(merged)
        const byte = (sector: number) => {
          const target = new Uint8Array(1)
          merged.data.readSync(target, 0, 1, sector * 512)
          return states.stateAt(sector) === SECTOR_DATA ? target[0] : undefined
        }
        expect([byte(0), byte(1), byte(4), byte(5)], `sync ${failing} of merging into ${into}`).toEqual([1, 1, 2, 2])
      }
      expect(failed).toBeGreaterThan(1)
    }
  })

  test('where one of the two is missing nothing stays open', async () => {
    const { files, folder, stack } = await setUp({ shown: false, lowerSectors: 1, upperSectors: 1 })
    files.removeFolder(`${folder}/0002`)
    expect(() => OpenPair.open(files, folder, chain, PAIR, stack)).toThrow(
      expect.objectContaining({ code: 'LAYER_CORRUPT' })
    )
  })
})
