import { describe, expect, test } from 'vitest'
import { LayerMap, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { LayerMapFile, PIECE_BYTES } from '../../../src/disk/layer-map-file.ts'
import { RecordingFiles } from './support/recording-files.ts'

const identity = { machine: 'm', layer: '0001', image: 'i', sizeBytes: 200 * SECTORS_PER_PAGE * 512 - 100 }
const sectors = Math.ceil(identity.sizeBytes / 512)

function setUp() {
  const files = new RecordingFiles()
  LayerMapFile.create(files.create('map', LayerMapFile.sizeBytes(identity.sizeBytes)), identity)
  const load = () => {
    const map = new LayerMap(sectors)
    const file = LayerMapFile.open(files.open('map'), identity)
    file.load(map)
    return { map, file }
  }
  const save = async (map: LayerMap, file: LayerMapFile) => {
    const pages = map.freeze()
    await file.writePresence(pages)
    await file.write(pages)
    map.thaw()
  }
  return { files, load, save }
}

/** Where the pieces of the pages begin: behind the identity and one block of presence bits. */
const PAGES_AT = 8192

describe('LayerMapFile', () => {
  test('gives back every page that was written, alone and in rows', async () => {
    const { load, save } = setUp()
    const { map, file } = load()
    const ranges = [
      [3, 5, SECTOR_DATA],
      [10 * SECTORS_PER_PAGE + 9, 90 * SECTORS_PER_PAGE + 11, SECTOR_ZERO],
      [sectors - 3, sectors, SECTOR_DATA]
    ] as const
    for (const [start, end, state] of ranges) map.set(start, end, state)
    await save(map, file)
    const again = load().map
    let at = 0
    for (const [start, end, state] of ranges) {
      expect(again.runEnd(at, sectors)).toBe(start)
      expect(again.allAre(state, start, end)).toBe(true)
      at = end
    }
    expect(again.changedPages).toBe(0)
  })

  test('a piece that was never written reads as absent, one that is damaged is refused by file and place', async () => {
    const { files, load, save } = setUp()
    const { map, file } = load()
    map.set(0, SECTORS_PER_PAGE - 1, SECTOR_DATA)
    await save(map, file)
    files.record({ kind: 'write', file: 'map', position: PAGES_AT + PIECE_BYTES, bytes: new Uint8Array(PIECE_BYTES) })
    const torn = load().map
    expect(torn.runEnd(0, sectors)).toBe(114 * 16)
    expect(torn.runEnd(114 * 16, sectors)).toBe(2 * 114 * 16)
    files.record({ kind: 'write', file: 'map', position: PAGES_AT + PIECE_BYTES + 99, bytes: Uint8Array.of(1) })
    const message = expect.stringContaining(`map: the 512 bytes at ${PAGES_AT + PIECE_BYTES} are damaged`)
    expect(load).toThrow(expect.objectContaining({ code: 'LAYER_CORRUPT', message }))
  })

  test('a piece at another place than its own is refused', async () => {
    const { files, load, save } = setUp()
    const { map, file } = load()
    map.set(5, 6, SECTOR_DATA)
    await save(map, file)
    const piece = new Uint8Array(PIECE_BYTES)
    files.disk.read('map', piece, PAGES_AT)
    files.record({ kind: 'write', file: 'map', position: PAGES_AT + 2 * PIECE_BYTES, bytes: piece })
    expect(load).toThrow(expect.objectContaining({ code: 'LAYER_CORRUPT' }))
  })

  test('says that presence must be synced only when a page is new', async () => {
    const { load } = setUp()
    const { map, file } = load()
    map.set(5, 6, SECTOR_DATA)
    const pages = map.freeze()
    expect(await file.writePresence(pages)).toBe(true)
    expect(await file.writePresence(pages)).toBe(false)
    file.markAllChanged(map)
    expect(await file.writePresence([])).toBe(true)
    expect(map.changedPages).toBe(1)
  })

  test('a file that is cut short, or of another machine, layer, image or size, is refused', () => {
    const { files } = setUp()
    const short = new RecordingFiles()
    LayerMapFile.create(short.create('map', LayerMapFile.sizeBytes(identity.sizeBytes) - 512), identity)
    expect(() => LayerMapFile.open(short.open('map'), identity)).toThrow(/map: it is cut short/)
    const open = (other: object) => () => LayerMapFile.open(files.open('map'), { ...identity, ...other })
    expect(open({ machine: 'other' })).toThrow('map: its machine is "m", not "other"')
    expect(open({ layer: '0002' })).toThrow('map: its layer is "0001", not "0002"')
    expect(open({ image: 'j' })).toThrow('map: its image is "i", not "j"')
    expect(open({ sizeBytes: identity.sizeBytes + 1 })).toThrow(/map: its sizeBytes is/)
  })
})
