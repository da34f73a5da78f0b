/**
 * Layers whose map is of the first format, on real files: they open with all that is in them, stay as they are as long as nobody
 * writes, and are then taken over.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FrozenLayer } from '../../../src/disk/frozen-layer.ts'
import { Layer } from '../../../src/disk/layer.ts'
import { systemFiles } from '../../../src/disk/layer-files.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { LayerMapFile } from '../../../src/disk/layer-map-file.ts'
import { mergeLayers } from '../../../src/disk/layer-merge.ts'
import { firstFormatMapBytes, writeFirstFormatMap } from './support/first-format-map.ts'
import { components, TestImage } from './support/test-image.ts'

const PAGES = 5
const SIZE_BYTES = PAGES * SECTORS_PER_PAGE * 512
const { log } = components(new TestImage(SIZE_BYTES))
const identityOf = (layer: string) => ({ machine: 'm', layer, image: 'i', sizeBytes: SIZE_BYTES })
const PACE = { signal: new AbortController().signal, breathe: async () => {} }

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-first-map-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Page 1 has a sector of data, page 3 is all zero, the record of page 4 never came to the disk. */
async function makeLayer(name: string): Promise<string> {
  const identity = identityOf(name)
  await Layer.create(join(folder, name), identity)
  const path = join(folder, name, 'map')
  unlinkSync(path)
  const file = systemFiles.create(path, firstFormatMapBytes(identity))
  const mixed = new Int32Array(1024)
  mixed[2] = SECTOR_DATA
  const zeros = new Int32Array(1024).fill(0xaaaaaaaa | 0)
  writeFirstFormatMap(
    file,
    identity,
    new Map([
      [1, mixed],
      [3, zeros],
      [4, undefined]
    ])
  )
  file.close()
  return path
}

const open = (name = '0001') => Layer.open({ log, bootId: 'b' }, join(folder, name), identityOf(name))
const DATA_AT = SECTORS_PER_PAGE + 32

function expectWhatWasThere({ map }: Pick<Layer, 'map'>, from = 0): void {
  expect(map.runEnd(from, map.sectors)).toBe(DATA_AT)
  expect(map.stateAt(DATA_AT)).toBe(SECTOR_DATA)
  expect(map.runEnd(DATA_AT, map.sectors)).toBe(DATA_AT + 1)
  expect(map.allAre(SECTOR_ZERO, 3 * SECTORS_PER_PAGE, 4 * SECTORS_PER_PAGE)).toBe(true)
  expect(map.stateAt(4 * SECTORS_PER_PAGE)).toBe(SECTOR_ABSENT)
}

test('a layer opens with all that is in it, and its map stays as it is until it is written to', async () => {
  const path = await makeLayer('0001')
  const before = readFileSync(path)
  for (const _ of [1, 2]) {
    const layer = await open()
    expectWhatWasThere(layer)
    await layer.close()
  }
  expect(readFileSync(path).equals(before)).toBe(true)
  const layer = await open()
  layer.writeSync(0, new Uint8Array(512).fill(7))
  await layer.close()
  expect(readFileSync(path, 'latin1').slice(0, 60)).toContain('"format":2')
  expect(statSync(path).size).toBe(LayerMapFile.sizeBytes(SIZE_BYTES))
  const again = await open()
  expect(again.map.runEnd(0, 100)).toBe(1)
  expectWhatWasThere(again, 1)
  await again.close()
})

test('one whose taking over was interrupted is as it was; one that is too short or too long is refused', async () => {
  const path = await makeLayer('0001')
  const first = firstFormatMapBytes(identityOf('0001'))
  const now = LayerMapFile.sizeBytes(SIZE_BYTES)
  expect(now).toBeGreaterThan(first)
  for (const size of [first + 1, now - 512, now]) {
    truncateSync(path, size)
    const layer = await open()
    expectWhatWasThere(layer)
    await layer.close()
  }
  truncateSync(path, now + 1)
  await expect(open()).rejects.toThrow(`map: it is too long: ${now + 1} bytes instead of ${now}`)
  truncateSync(path, first - 1)
  await expect(open()).rejects.toThrow(`map: it is cut short: ${first - 1} bytes instead of ${first}`)
})

test('a frozen layer is taken over when another is merged into it', async () => {
  const path = await makeLayer('0001')
  await Layer.create(join(folder, '0002'), identityOf('0002'))
  const upper = await open('0002')
  upper.writeSync(2 * SECTORS_PER_PAGE * 512, new Uint8Array(512).fill(9))
  upper.zeroSync(4 * SECTORS_PER_PAGE, 5 * SECTORS_PER_PAGE)
  await upper.close()
  const [into, from] = ['0001', '0002'].map(name =>
    FrozenLayer.open(systemFiles, join(folder, name), identityOf(name))
  ) as [FrozenLayer, FrozenLayer]
  // Whoever reads it meanwhile has files of their own, and sees what there was.
  const reader = FrozenLayer.open(systemFiles, join(folder, '0001'), identityOf('0001'))
  expect(await mergeLayers(from, into, 'down', SIZE_BYTES, PACE)).toBe(true)
  expect(reader.mapFile.readPage(1)[2]).toBe(SECTOR_DATA)
  for (const layer of [into, from, reader]) layer.close()
  expect(statSync(path).size).toBe(LayerMapFile.sizeBytes(SIZE_BYTES))
  const merged = FrozenLayer.open(systemFiles, join(folder, '0001'), identityOf('0001'))
  expect([...merged.mapFile.pages()]).toEqual([1, 2, 3, 4])
  expect([1, 2, 3, 4].map(page => merged.mapFile.readPage(page)[0]! & 3)).toEqual([0, 1, 2, 2])
  // What was taken over keeps its record until it is written again.
  expect([1, 2, 3, 4].map(page => merged.mapFile.uniformState(page))).toEqual([undefined, undefined, undefined, 2])
  merged.close()
})

test('a map of another layer in the first format is refused', async () => {
  await makeLayer('0001')
  const path = await makeLayer('0002')
  copyFileSync(path, join(folder, '0001', 'map'))
  await expect(open()).rejects.toThrow('map: its layer is "0002", not "0001"')
})
