import { expect, test } from 'vitest'
import { FrozenLayer } from '../../../src/disk/frozen-layer.ts'
import { DEFAULT_LAYER_LIMITS, Layer } from '../../../src/disk/layer.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { mergeLayers } from '../../../src/disk/layer-merge.ts'
import { SimulatedFiles } from './support/simulated-files.ts'
import { components, TestImage } from './support/test-image.ts'

const PAGES = 65_536
const SIZE_BYTES = PAGES * SECTORS_PER_PAGE * 512
const { log } = components(new TestImage(0))

/** One layer with a sector, and one that is zero but for its first pages; frozen, in memory. */
async function twoLayers() {
  const files = new SimulatedFiles()
  const folder = '/merge/layers'
  files.makeFolder(folder)
  const identity = (layer: string) => ({ machine: 'm', layer, image: 'i', sizeBytes: SIZE_BYTES })
  for (const layer of ['0001', '0002']) {
    await Layer.create(`${folder}/${layer}`, identity(layer), files)
    const open = await Layer.open({ log, bootId: 'b', files }, `${folder}/${layer}`, identity(layer), {
      ...DEFAULT_LAYER_LIMITS,
      maxChangedPages: 2 * PAGES
    })
    if (layer === '0001') {
      open.writeSync(0, new Uint8Array(512).fill(1))
      open.writeSync(3 * SECTORS_PER_PAGE * 512, new Uint8Array(512).fill(1))
    } else open.zeroSync(2 * SECTORS_PER_PAGE, PAGES * SECTORS_PER_PAGE)
    await open.close()
  }
  const [lower, upper] = ['0001', '0002'].map(name => FrozenLayer.open(files, `${folder}/${name}`, identity(name)))
  files.events.length = 0
  return { files, lower: lower!, upper: upper! }
}

const states = ({ mapFile }: FrozenLayer, page: number) => {
  const words = mapFile.readPage(page)
  return [words[0]! & 3, words.at(-1)! >>> 30]
}

test.each(['down', 'up'] as const)(
  'pages that are all zero need no sync each, merged %s, and others have their turn meanwhile',
  async direction => {
    const { files, lower, upper } = await twoLayers()
    const [from, into] = direction === 'down' ? [upper, lower] : [lower, upper]
    let turns = 0
    const breathe = async () => {
      turns++
    }
    const holes: [number, number][] = []
    const isMerged = await mergeLayers(
      from,
      into,
      direction,
      SIZE_BYTES,
      { signal: new AbortController().signal, breathe },
      ({ start, end }) => holes.push([start, end])
    )
    expect(isMerged).toBe(true)
    expect(files.events.filter(({ kind }) => kind === 'sync-begin').length).toBeLessThan(12)
    if (direction === 'down') expect(turns).toBeGreaterThan(10)
    expect([0, 1, 2, 3, PAGES - 1].map(page => states(into, page))).toEqual([
      [SECTOR_DATA, SECTOR_ABSENT],
      [SECTOR_ABSENT, SECTOR_ABSENT],
      [SECTOR_ZERO, SECTOR_ZERO],
      [SECTOR_ZERO, SECTOR_ZERO],
      [SECTOR_ZERO, SECTOR_ZERO]
    ])
    // Only there the lower one had data that nobody sees any more.
    if (direction === 'down') expect(holes).toEqual([[3 * SECTORS_PER_PAGE, 4 * SECTORS_PER_PAGE]])
  }
)
