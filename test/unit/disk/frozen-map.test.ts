import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrozenLayer } from '../../../src/disk/frozen-layer.ts'
import { FrozenMap } from '../../../src/disk/frozen-map.ts'
import { FrozenMapFile, frozenMapPath } from '../../../src/disk/frozen-map-file.ts'
import { DEFAULT_LAYER_LIMITS, Layer } from '../../../src/disk/layer.ts'
import { SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { openFrozen } from '../../../src/disk/layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO, OwnerPage } from '../../../src/disk/owner-page.ts'
import { RowanError } from '../../../src/errors.ts'
import { SimulatedFiles } from './support/simulated-files.ts'
import { components, TestImage } from './support/test-image.ts'

const { log, warnings } = components(new TestImage(0))
const SECTORS = 3 * SECTORS_PER_PAGE + 100
const sizeBytes = SECTORS * 512
const PACE = { signal: new AbortController().signal, breathe: async () => {} }
let folders = 0

interface Change {
  layer: number
  start: number
  count: number
  zero: boolean
}

/** Frozen layers with these changes, and for each sector the layer that has it (-1: none, -2: zero). */
async function frozen(count: number, changes: readonly Change[], files = new SimulatedFiles()) {
  const folder = `/frozen-${folders++}/layers`
  files.makeFolder(folder)
  const layers: FrozenLayer[] = []
  const owners = new Int16Array(SECTORS).fill(-1)
  for (let number = 0; number < count; number++) {
    const identity = { machine: 'm', layer: `000${number + 1}`, image: 'i', sizeBytes }
    const path = `${folder}/${identity.layer}`
    await Layer.create(path, identity, files, DEFAULT_LAYER_LIMITS)
    const layer = await Layer.open({ log, bootId: 'b', files }, path, identity)
    for (const { start, count: length, zero } of changes.filter(each => each.layer === number)) {
      const end = Math.min(SECTORS, start + length)
      if (zero) layer.zeroSync(start, end)
      else layer.writeSync(start * 512, new Uint8Array((end - start) * 512))
      owners.fill(zero ? -2 : number, start, end)
    }
    await layer.close()
    layers.push(FrozenLayer.open(files, path, identity))
  }
  const saved = {
    machine: 'm',
    disk: 'system' as const,
    sizeBytes,
    layers: layers.map(({ name }) => ({ name, revision: 0 }))
  }
  return { files, folder, layers, owners, saved }
}

/** Every sector's owner, by runs as a read finds them. */
function ownersOf(map: FrozenMap, layers: readonly FrozenLayer[]): Int16Array {
  const owners = new Int16Array(SECTORS)
  for (let at = 0; at < SECTORS; ) {
    const code = map.find(at, SECTORS)
    expect(map.end).toBeGreaterThan(at)
    const owner = code === CODE_ABSENT ? -1 : code === CODE_ZERO ? -2 : layers.indexOf(map.layerOf(code))
    owners.fill(owner, at, map.end)
    at = map.end
  }
  return owners
}

const change = fc.record({
  layer: fc.nat(3),
  start: fc.oneof(
    fc.nat(64),
    fc.nat(SECTORS - 1),
    fc.nat(2).map(page => (page + 1) * SECTORS_PER_PAGE - 9)
  ),
  count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(8, 16_384, 40_000)),
  zero: fc.boolean()
})

describe('FrozenMap', () => {
  test('says of each sector which layer has it, with or without a saved map, however few pages fit', async () => {
    const property = fc.asyncProperty(
      fc.array(change, { maxLength: 25 }),
      fc.integer({ min: 0, max: 4 }),
      async (changes, covered) => {
        const { files, folder, layers, owners, saved } = await frozen(4, changes)
        const map = new FrozenMap(SECTORS, log, { maxPageBytes: 1 })
        map.load(layers, undefined)
        expect(ownersOf(map, layers)).toEqual(owners)
        // Saved of the lowest, and put together with the rest.
        const lower = new FrozenMap(SECTORS, log)
        lower.load(layers.slice(0, covered), undefined)
        const part = { ...saved, layers: saved.layers.slice(0, covered) }
        if (covered > 0) expect(await FrozenMapFile.save(files, folder, lower, part, PACE)).toBe(true)
        for (const layer of layers.slice(covered)) lower.push(layer)
        expect(ownersOf(lower, layers)).toEqual(owners)
        const file = FrozenMapFile.open(files, folder, saved, map.pageCount)
        expect(file?.covers).toBe(covered === 0 ? undefined : covered)
        map.load(layers, file)
        expect(ownersOf(map, layers)).toEqual(owners)
        expect(map.unsavedLayers).toBe(4 - covered)
      }
    )
    await fc.assert(property, { seed: 20_261_126, numRuns: 40 })
  })

  test('notices layers that are pushed after a page was looked at', async () => {
    const changes = [0, 1, 2].map(layer => ({ layer, start: 8 * layer, count: 12, zero: false }))
    const { layers, owners } = await frozen(3, changes)
    const map = new FrozenMap(SECTORS, log)
    map.load(layers.slice(0, 1), undefined)
    ownersOf(map, layers)
    for (const layer of layers.slice(1)) map.push(layer)
    expect(ownersOf(map, layers)).toEqual(owners)
  })

  test('keeps no more pages than its limit', async () => {
    const changes = [0, 1, 2, 3].map(page => ({ layer: 0, start: page * SECTORS_PER_PAGE + 3, count: 9, zero: false }))
    const { layers, owners } = await frozen(1, changes)
    const map = new FrozenMap(SECTORS, log, { maxPageBytes: 10_000 })
    map.load(layers, undefined)
    for (let round = 0; round < 3; round++) expect(ownersOf(map, layers)).toEqual(owners)
    expect(map.memoryBytes).toBeLessThan(10_000 + 10 * map.pageCount)
  })

  test('puts a page of a damaged saved map together from the layers', async () => {
    const changes = [
      { layer: 0, start: 0, count: 20, zero: false },
      { layer: 1, start: 5, count: 3, zero: true }
    ]
    const { files, folder, layers, owners, saved } = await frozen(2, changes)
    const map = new FrozenMap(SECTORS, log)
    map.load(layers, undefined)
    await FrozenMapFile.save(files, folder, map, saved, PACE)
    const file = files.open(frozenMapPath(folder, 'system'))
    file.writeSync(Uint8Array.of(7), 0, 1, file.sizeBytes - 600)
    map.load(layers, FrozenMapFile.open(files, folder, saved, map.pageCount))
    expect(ownersOf(map, layers)).toEqual(owners)
    expect(warnings.at(-1)?.message).toMatch(/put together again/)
  })

  test('does not take a saved map of other layers, revisions, machines, or a damaged one', async () => {
    const { files, folder, layers, saved } = await frozen(2, [{ layer: 0, start: 0, count: 3, zero: false }])
    const map = new FrozenMap(SECTORS, log)
    map.load(layers, undefined)
    await FrozenMapFile.save(files, folder, map, saved, PACE)
    const open = (identity = saved) => FrozenMapFile.open(files, folder, identity, map.pageCount)
    expect(open()).toBeDefined()
    expect(open({ ...saved, machine: 'n' })).toBeUndefined()
    expect(open({ ...saved, layers: saved.layers.slice(0, 1) })).toBeUndefined()
    expect(open({ ...saved, layers: [saved.layers[0]!, { name: '0002', revision: 1 }] })).toBeUndefined()
    files.open(frozenMapPath(folder, 'system')).writeSync(Uint8Array.of(7), 0, 1, 4096 + 3)
    expect(open()).toBeUndefined()
  })

  test('is put together from the layers where the saved one cannot be read, which is closed', async () => {
    const { files, folder, layers, owners, saved } = await frozen(2, [{ layer: 0, start: 0, count: 3, zero: false }])
    const map = new FrozenMap(SECTORS, log)
    map.load(layers, undefined)
    await FrozenMapFile.save(files, folder, map, saved, PACE)
    const path = saved.layers.map((layer, index) => ({ ...layer, parent: index === 0 ? null : `000${index}` }))
    const disk = { image: 'i', sizeBytes, top: '0003', next: 4, layers: path }
    const chain = { machine: 'm', disks: { system: disk }, nextSnapshot: 1, snapshots: [] }
    let opened = 0
    let closed = 0
    const damaged = Object.create(files) as SimulatedFiles
    damaged.open = name => {
      const file = files.open(name)
      if (name !== frozenMapPath(folder, 'system')) return file
      opened++
      const readSync = () => {
        throw new RowanError('STORE_IO', 'a bad sector')
      }
      return Object.assign(file, { readSync, close: () => void closed++ })
    }
    const again = openFrozen({ log, files: damaged }, folder, chain, 'system', path)
    expect(ownersOf(again, again.path)).toEqual(owners)
    expect([opened, closed]).toEqual([1, 1])
    expect(warnings.at(-1)).toMatchObject({ message: 'the saved map of layers cannot be read' })
  })

  test('is not saved when the layers change meanwhile', async () => {
    const { files, folder, layers, saved } = await frozen(2, [{ layer: 0, start: 1, count: 3, zero: false }])
    const map = new FrozenMap(SECTORS, log)
    map.load(layers.slice(0, 1), undefined)
    const part = { ...saved, layers: saved.layers.slice(0, 1) }
    const saving = FrozenMapFile.save(files, folder, map, part, PACE)
    map.push(layers[1]!)
    expect(await saving).toBe(false)
    expect(files.list(folder)).not.toContain('frozen-system.map.new')
  })
})

test('any bytes are a saved map or none', async () => {
  const { files, folder, layers, saved } = await frozen(2, [{ layer: 0, start: 1, count: 300, zero: false }])
  const map = new FrozenMap(SECTORS, log)
  map.load(layers, undefined)
  await FrozenMapFile.save(files, folder, map, saved, PACE)
  const { sizeBytes: size } = files.open(frozenMapPath(folder, 'system'))
  const property = fc.property(fc.nat(size - 1), fc.uint8Array({ minLength: 1, maxLength: 64 }), (at, bytes) => {
    const damaged = new SimulatedFiles(files.tree.clone())
    damaged.open(frozenMapPath(folder, 'system')).writeSync(bytes, 0, bytes.length, Math.min(at, size - bytes.length))
    const file = FrozenMapFile.open(damaged, folder, saved, map.pageCount)
    if (file === undefined) return
    map.load(layers, file)
    map.find(0, SECTORS)
  })
  fc.assert(property, { seed: 20_261_127, numRuns: 300 })
})

test('a page counts its fine cells anew before it runs out of them', () => {
  const page = new OwnerPage()
  const words = new Int32Array(1024)
  for (let round = 0; round < 3; round++) {
    page.fold(words.fill(0x00010001), 2 + round)
    page.fold(words.fill(0x55555555), 9)
  }
  expect(page.uniformCode).toBe(9)
  page.fold(words.fill(0x00010001), 3)
  page.compact()
  expect(page.fineCells).toBe(2048)
  expect([page.codeAt(0), page.codeAt(1), page.codeAt(8), page.runEnd(1, 16_384)]).toEqual([3, 9, 3, 8])
})
