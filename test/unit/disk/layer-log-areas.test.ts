import { describe, expect, test } from 'vitest'
import { LogAreas } from '../../../src/disk/layer-log-areas.ts'
import { FRAME_HEADER_BYTES } from '../../../src/disk/layer-log-frames.ts'
import { RecordingFiles } from './support/recording-files.ts'

const AREA_BYTES = 4096
const HEADERS = [4096, 4096 + 4096 + AREA_BYTES]

function setUp() {
  const files = new RecordingFiles()
  const file = files.create('log', LogAreas.sizeBytes(AREA_BYTES))
  const open = (identitySeed = 7) => new LogAreas(file, identitySeed, 'boot', AREA_BYTES)
  /** Lengths of the frames of the newest generation, and where they end. */
  const found = (areas = open()) => {
    const reader = areas.frames(areas.newest!)
    const lengths: number[] = []
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) lengths.push(frame.bytes.length)
    return { lengths, end: reader.position }
  }
  return { file, open, found }
}

const append = (areas: LogAreas, contentBytes: number) =>
  areas.append(Buffer.alloc(FRAME_HEADER_BYTES + contentBytes, 1), 0)

describe('LogAreas', () => {
  test('take turns, and the newest generation is found again, with where the one before it ended', () => {
    const { open, found } = setUp()
    const areas = open()
    expect(areas.newest).toBeUndefined()
    areas.begin({ needsOlder: false })
    append(areas, 16)
    append(areas, 100)
    expect(found()).toEqual({ lengths: [32, 116], end: 148 })
    areas.begin({ needsOlder: true })
    const again = open()
    expect(again.newest).toMatchObject({ generation: 2, oldestNeeded: 1, previousEnd: 148, bootId: 'boot' })
    expect(again.older).toMatchObject({ generation: 1, oldestNeeded: 1 })
    expect(again.newest?.place).not.toBe(again.older?.place)
    again.begin({ needsOlder: false })
    expect(open().newest).toMatchObject({ generation: 3, oldestNeeded: 3, place: again.newest?.place })
  })

  test('frames of an older generation in the same area do not pass, wherever the new ones end', () => {
    const { open, found } = setUp()
    const areas = open()
    areas.begin({ needsOlder: false })
    for (let frame = 0; frame < 3; frame++) append(areas, 16)
    areas.begin({ needsOlder: false })
    areas.begin({ needsOlder: false })
    append(areas, 16)
    expect(found()).toEqual({ lengths: [32], end: 32 })
  })

  test('a header that was torn, or is of another identity, is none', () => {
    const { file, open } = setUp()
    const areas = open()
    areas.begin({ needsOlder: false })
    areas.begin({ needsOlder: true })
    expect(open(8).newest).toBeUndefined()
    file.writeSync(Buffer.of(255), 0, 1, HEADERS[areas.newest!.place]! + 20)
    expect(open().newest).toMatchObject({ generation: 1 })
    expect(open().older).toBeUndefined()
  })

  test('the mark of a failed layer is of one generation', () => {
    const { open } = setUp()
    const areas = open()
    areas.begin({ needsOlder: false })
    areas.markFailed()
    expect(open().newest?.failed).toBe(true)
    areas.begin({ needsOlder: false })
    areas.begin({ needsOlder: false })
    expect([open().newest?.failed, open().older?.failed]).toEqual([false, false])
  })

  test('an area is never overrun', () => {
    const { open, found } = setUp()
    const areas = open()
    areas.begin({ needsOlder: false })
    append(areas, 3000)
    expect(() => append(areas, 1100)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
    append(areas, 1000)
    expect(found()).toEqual({ lengths: [3016, 1016], end: 4032 })
    areas.begin({ needsOlder: true })
    expect(found(areas).lengths).toEqual([])
  })
})
