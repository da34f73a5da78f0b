import { describe, expect, test } from 'vitest'
import { LayerMap, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { LayerMapFile } from '../../../src/disk/layer-map-file.ts'
import { PIECE_BYTES } from '../../../src/disk/layer-map-pieces.ts'
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
    await file.prepare(pages)
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

  test('what is read while another thread writes it is read again, and is no damage', async () => {
    const { files, load, save } = setUp()
    const { map, file } = load()
    map.set(0, SECTORS_PER_PAGE - 1, SECTOR_DATA)
    await save(map, file)
    // Half of a piece as it was, half as it becomes: what ext4 gives to whoever reads beside a write.
    let torn = 0
    const open = files.open.bind(files)
    files.open = path => {
      const file = open(path)
      const readSync = file.readSync.bind(file)
      file.readSync = (target, offset, length, position) => {
        readSync(target, offset, length, position)
        if (position >= PAGES_AT && torn-- > 0) target.fill(0x55, offset + 256, offset + PIECE_BYTES)
      }
      return file
    }
    torn = 2
    const again = LayerMapFile.open(files.open('map'), identity)
    torn = 2
    expect(again.readPage(0)).toEqual(file.readPage(0))
    torn = Number.POSITIVE_INFINITY
    expect(() => again.readPage(0)).toThrow(expect.objectContaining({ code: 'LAYER_CORRUPT' }))
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

  test('syncs before it writes only where a page gets a record that had none', async () => {
    const { load } = setUp()
    const { map, file } = load()
    let syncs = 0
    const sync = async () => {
      syncs++
    }
    const saveWith = async (expected: number) => {
      const pages = map.freeze()
      syncs = 0
      await file.prepare(pages, sync)
      await file.write(pages)
      map.thaw()
      expect(syncs).toBe(expected)
    }
    map.set(5, 6, SECTOR_DATA)
    await saveWith(1)
    map.set(5, 9, SECTOR_DATA)
    await saveWith(0)
    map.set(0, 4 * SECTORS_PER_PAGE, SECTOR_ZERO)
    await saveWith(0)
    map.set(7, 8, SECTOR_DATA)
    await saveWith(1)
    // The directory, the identity, and nothing of pages that have their record.
    file.markAllChanged(map)
    expect(map.changedPages).toBe(4)
    await saveWith(2)
  })

  test('pages of one state are two bits of the directory, and no record', async () => {
    const { files, load, save } = setUp()
    const { map, file } = load()
    map.set(0, sectors, SECTOR_ZERO)
    map.set(SECTORS_PER_PAGE, 3 * SECTORS_PER_PAGE, SECTOR_DATA)
    files.events.length = 0
    await save(map, file)
    const writes = files.events.flatMap(event => (event.kind === 'write' ? [event] : []))
    expect(writes.map(({ bytes }) => bytes.length)).toEqual([PIECE_BYTES])
    // Nor is one read.
    files.fault = (operation, where) => {
      if (operation === 'read' && where === 'map') reads++
    }
    let reads = 0
    const again = load()
    expect(reads).toBe(3)
    expect([0, 1, 2, 3].map(page => again.file.uniformState(page))).toEqual([2, 1, 1, 2])
    expect(again.map.runEnd(0, sectors)).toBe(SECTORS_PER_PAGE)
    expect(again.map.allAre(SECTOR_DATA, SECTORS_PER_PAGE, 3 * SECTORS_PER_PAGE)).toBe(true)
    expect(again.map.allAre(SECTOR_ZERO, 3 * SECTORS_PER_PAGE, sectors)).toBe(true)
    expect(again.file.readPage(4)[7]).toBe(again.file.readPage(199)[0])
    expect([...again.file.pages()]).toHaveLength(200)
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
