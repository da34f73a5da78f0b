/**
 * The map file of a layer at every moment at which the power can go: while it is prepared it says what it said, while it is
 * written each sector is old or new, and once it is synced it says all that is new. Also where it was of the first format.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LayerMap, SECTORS_PER_PAGE, type SectorState, WORDS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { LayerMapFile } from '../../../src/disk/layer-map-file.ts'
import { writeFirstFormatMap } from './support/first-format-map.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { SimulatedDisk } from './support/simulated-disk.ts'

const PAGES = 4
/** The last page has but a few sectors, so it is often all of one state. */
const SECTORS = (PAGES - 1) * SECTORS_PER_PAGE + 40
const identity = { machine: 'm', layer: '0001', image: 'i', sizeBytes: SECTORS * 512 }

/** Two bits a sector, as in a page. */
type Model = Int32Array

function setAll(model: Model, start: number, end: number, state: SectorState): void {
  for (let at = start; at < end; at++) {
    const shift = (at & 15) << 1
    model[at >>> 4] = (model[at >>> 4]! & ~(3 << shift)) | (state << shift)
  }
}

/** What a file says; damage is an error. */
function statesIn(disk: SimulatedDisk): Model {
  const file = LayerMapFile.open(new RecordingFiles(disk).open('map'), identity)
  const found = new Int32Array(PAGES * WORDS_PER_PAGE)
  for (let page = 0; page < PAGES; page++) found.set(file.readPage(page), page * WORDS_PER_PAGE)
  setAll(found, SECTORS, PAGES * SECTORS_PER_PAGE, 0)
  return found
}

/** How many sectors are neither as in the one nor as in the other. */
function strangers(found: Model, one: Model, other: Model): number {
  let count = 0
  for (let index = 0; index < found.length; index++) {
    const differs = (model: Model) => {
      const bits = found[index]! ^ model[index]!
      return (bits | (bits >>> 1)) & 0x55555555
    }
    for (let both = differs(one) & differs(other); both !== 0; both &= both - 1) count++
  }
  return count
}

function load(files: RecordingFiles): { map: LayerMap; file: LayerMapFile } {
  const file = LayerMapFile.open(files.open('map'), identity)
  const map = new LayerMap(SECTORS, file)
  file.load(map)
  return { map, file }
}

const change = fc.record({
  page: fc.nat(PAGES - 1),
  from: fc.oneof(fc.constant(0), fc.nat(SECTORS_PER_PAGE - 1)),
  count: fc.oneof(fc.constant(SECTORS_PER_PAGE), fc.constant(2 * SECTORS_PER_PAGE), fc.integer({ min: 1, max: 9000 })),
  state: fc.constantFrom<SectorState>(1, 2)
})
const round = fc.record({
  changes: fc.array(change, { minLength: 1, maxLength: 4 }),
  /** The next round goes on from what a power loss in this one left. */
  loses: fc.boolean(),
  seed: fc.nat()
})

for (const isFirstFormat of [false, true]) {
  test(`a map file ${isFirstFormat ? 'of the first format ' : ''}is old, then old or new, then new`, async () => {
    let moments = 0
    const property = fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 6 }), async rounds => {
      let disk = new SimulatedDisk()
      // As long as it is once it is taken over; that it grows is another test's.
      disk.create('map', LayerMapFile.sizeBytes(identity.sizeBytes))
      const empty = new RecordingFiles(disk).open('map')
      if (isFirstFormat) {
        const page = (fill: number) => new Int32Array(WORDS_PER_PAGE).fill(fill)
        const mixed = page(0x55555555)
        mixed[500] = 2
        writeFirstFormatMap(
          empty,
          identity,
          new Map([
            [0, mixed],
            [1, page(0xaaaaaaaa | 0)],
            [2, undefined]
          ])
        )
      } else {
        LayerMapFile.create(empty, identity)
      }
      for (const { changes, loses, seed } of rounds) {
        let random = seed
        const choose = (count: number) => {
          random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0
          return (random >>> 8) % count
        }
        const settled = disk.afterPowerLoss(count => count - 1)
        const files = new RecordingFiles(settled.clone())
        const { map, file } = load(files)
        const before = statesIn(settled)
        const after = before.slice()
        for (const { page, from, count, state } of changes) {
          const start = Math.min(page * SECTORS_PER_PAGE + from, SECTORS - 1)
          const end = Math.min(start + count, SECTORS)
          map.set(start, end, state)
          setAll(after, start, end, state)
        }
        const pages = map.freeze()
        await file.prepare(pages)
        const prepared = files.events.length
        await file.write(pages)
        await file.sync()
        map.thaw()
        const replayed = settled.clone()
        const left: SimulatedDisk[] = []
        for (const [index, event] of files.events.entries()) {
          replayed.apply(event)
          const isLast = index === files.events.length - 1
          const allowed = isLast ? [after, after] : index < prepared ? [before, before] : [before, after]
          for (const choice of [() => 0, (count: number) => count - 1, choose, choose]) {
            const lost = replayed.afterPowerLoss(choice)
            expect(strangers(statesIn(lost), allowed[0]!, allowed[1]!)).toBe(0)
            left.push(lost)
            moments++
          }
        }
        expect(load(files).map.changedPages).toBe(0)
        disk = loses ? left[choose(left.length)]! : files.disk
      }
    })
    await fc.assert(property, { seed: 31_415, numRuns: 150 })
    expect(moments).toBeGreaterThan(5_000)
  })
}
