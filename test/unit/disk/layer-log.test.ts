import { describe, expect, test } from 'vitest'
import { LayerLog, type LogRecord } from '../../../src/disk/layer-log.ts'
import { RecordingFiles } from './support/recording-files.ts'

const identity = { machine: 'm', layer: '0001', image: 'i', sizeBytes: (1 << 20) + 100 }
const AREA_BYTES = 4096
const DATA = 1
const ZERO = 2

function setUp() {
  const files = new RecordingFiles()
  LayerLog.create(files.create('log', LayerLog.sizeBytes(AREA_BYTES)), identity)
  const open = (bootId = 'boot', from = files) => LayerLog.open(from.open('log'), identity, bootId, AREA_BYTES)
  const fresh = () => {
    const log = open()
    log.begin()
    return log
  }
  /** First sectors of what a daemon under the same boot finds. */
  const replayed = (log = open()) => {
    const starts: number[] = []
    log.replay(record => starts.push(record.start))
    return starts
  }
  /** First sectors of what counts after a power loss that lost nothing, and which of them are put back. */
  const recovered = (log = open('another boot')) => {
    const starts: number[] = []
    const restored: string[] = []
    const found = log.recover(
      record => starts.push(record.start),
      (position, bytes) => restored.push(`${bytes.length} of ${bytes[0]} at ${position}`)
    )
    return { starts, restored, found }
  }
  return { files, open, fresh, replayed, recovered }
}

const append = (log: LayerLog, start: number, state: 1 | 2 = DATA) => {
  log.add(start, 1, state)
  log.settle()
}
const appendContent = (log: LayerLog, start: number, count: number, value: number) =>
  log.appendContent([{ start, count }], (target, offset, length) => target.fill(value, offset, offset + length))

describe('LayerLog: under the same boot', () => {
  test('gives back what was settled, and goes on behind it', () => {
    const { open, fresh, replayed } = setUp()
    const records: LogRecord[] = [
      { start: 2 ** 34 - 1, count: 1, state: DATA },
      { start: 7, count: 2 ** 23, state: ZERO }
    ]
    const log = fresh()
    for (const { start, count, state } of records) log.add(start, count, state)
    expect(replayed()).toEqual([])
    log.settle()
    const again = open()
    expect(again.condition).toBe('same-boot')
    const found: LogRecord[] = []
    again.replay(record => found.push(record))
    expect(found).toEqual(records)
    append(again, 9)
    expect(replayed()).toEqual([2 ** 34 - 1, 7, 9])
  })

  test('many changes are one write, and changes in a row are one entry', () => {
    const { files, fresh, open } = setUp()
    const log = fresh()
    append(log, 1)
    files.events.length = 0
    for (const start of [10, 11, 12, 20, 21]) log.add(start, 1, DATA)
    log.add(22, 1, ZERO)
    log.settle()
    log.settle()
    expect(files.events).toHaveLength(1)
    const found: LogRecord[] = []
    open().replay(record => found.push(record))
    expect(found.slice(1)).toEqual([
      { start: 10, count: 3, state: DATA },
      { start: 20, count: 2, state: DATA },
      { start: 22, count: 1, state: ZERO }
    ])
  })

  test('changes in a row are never one entry of more sectors than it can say', () => {
    const { fresh, open } = setUp()
    const log = fresh()
    for (const part of [0, 1, 2]) log.add(part * 2 ** 31, 2 ** 31, ZERO)
    log.settle()
    let sectors = 0
    open().replay(record => {
      sectors += record.count
    })
    expect(sectors).toBe(3 * 2 ** 31)
  })

  test('more than fits into the buffer settles by itself', () => {
    const { files } = setUp()
    const bigAreas = 1 << 20
    LayerLog.create(files.create('big', LayerLog.sizeBytes(bigAreas)), identity)
    const openBig = () => LayerLog.open(files.open('big'), identity, 'boot', bigAreas)
    const log = openBig()
    log.begin()
    for (let start = 0; start < 3000; start++) log.add(2 * start, 1, DATA)
    log.settle()
    let records = 0
    openBig().replay(() => records++)
    expect(records).toBe(3000)
  })

  test('cuts a torn tail', () => {
    const { files, open, fresh, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    append(log, 2)
    const last = files.events.at(-1)!
    if (last.kind !== 'write') throw new Error('the last event is the frame')
    files.record({ ...last, bytes: new Uint8Array(20).fill(0xff) })
    const again = open()
    expect(replayed(again)).toEqual([1])
    append(again, 3)
    expect(replayed()).toEqual([1, 3])
  })

  test('a frame that could not be written is still to be settled', () => {
    const { files, fresh, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    files.fault = () => {
      throw new Error('full')
    }
    log.add(2, 1, DATA)
    expect(() => log.settle()).toThrow('full')
    files.fault = () => {}
    expect(replayed()).toEqual([1])
    log.add(3, 1, DATA)
    log.settle()
    expect(replayed()).toEqual([1, 2])
  })

  test('has a bound, and room for what a checkpoint says in the end', () => {
    const { fresh } = setUp()
    const log = fresh()
    let start = 0
    while (log.roomBytes >= 32) append(log, 2 * start++)
    expect(start).toBeGreaterThan(100)
    log.appendBarrier(log.mark())
    log.appendBarrier(log.mark())
    const control = log.fill
    for (let again = 0; again < 100; again++) log.appendBarrier(log.mark())
    expect(log.fill).toBe(control)
    expect(() => appendContent(log, 0, 8, 1)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  })
})

describe('LayerLog: after a power loss', () => {
  test('data counts before a barrier, zeros and content always', () => {
    const { fresh, open, recovered } = setUp()
    const log = fresh()
    append(log, 1)
    append(log, 2, ZERO)
    appendContent(log, 3, 1, 33)
    const mark = log.mark()
    append(log, 4)
    append(log, 5, ZERO)
    appendContent(log, 6, 2, 66)
    expect(open('another boot').condition).toBe('other-boot')
    expect(recovered().starts).toEqual([2, 3, 5, 6])
    log.appendBarrier(mark)
    expect(recovered()).toEqual({ starts: [1, 2, 3, 5, 6], restored: ['1024 of 66 at 3072'], found: true })
  })

  test('the disk may end inside a sector', () => {
    const { fresh, recovered } = setUp()
    appendContent(fresh(), 2047, 2, 7)
    expect(recovered().restored).toEqual([`612 of 7 at ${2047 * 512}`])
  })

  test('is forgotten with the next generation', () => {
    const { fresh, open, recovered } = setUp()
    append(fresh(), 1, ZERO)
    const other = open('another boot')
    expect(recovered(other).found).toBe(true)
    other.begin()
    expect(recovered(open('a third boot')).found).toBe(false)
  })

  test('what comes after a generation whose end was lost was not flushed', () => {
    const { files, fresh, recovered } = setUp()
    const log = fresh()
    append(log, 1, ZERO)
    append(log, 2, ZERO)
    const last = files.events.at(-1)!
    if (last.kind !== 'write') throw new Error('the last event is the frame')
    log.rotate()
    append(log, 3, ZERO)
    expect(recovered().starts).toEqual([1, 2, 3])
    files.record({ ...last, bytes: new Uint8Array(last.bytes.length) })
    expect(recovered().starts).toEqual([1])
  })
})

describe('LayerLog: generations', () => {
  test('both are replayed in order until the older one is in the map file', () => {
    const { fresh, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    log.rotate()
    append(log, 2)
    expect(replayed()).toEqual([1, 2])
    log.appendObsolete()
    log.freeOlder()
    expect(replayed()).toEqual([2])
    log.rotate()
    append(log, 3)
    expect(replayed()).toEqual([2, 3])
  })

  test('an area is not used again before what is in it is in the map file', () => {
    const { fresh, open, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    log.rotate()
    append(log, 2)
    // The checkpoint did not end well: the next one finds no free area.
    log.rotate()
    append(log, 3)
    expect(replayed()).toEqual([1, 2, 3])
    const again = open()
    again.replay(() => {})
    again.rotate()
    append(again, 4)
    expect(replayed()).toEqual([1, 2, 3, 4])
  })

  test('what a dead daemon called obsolete stays until that is durable', () => {
    const { files, open, fresh, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    log.rotate()
    append(log, 2)
    log.appendObsolete()
    const obsolete = files.events.at(-1)!
    if (obsolete.kind !== 'write') throw new Error('the last event is the frame')
    const again = open()
    again.replay(() => {})
    again.rotate()
    // A power loss that loses the frame: the older generation must be there.
    files.record({ ...obsolete, bytes: new Uint8Array(obsolete.bytes.length) })
    expect(replayed()).toEqual([1, 2])
  })

  test('frames of an older generation in the same area do not pass', () => {
    const { fresh, replayed } = setUp()
    const log = fresh()
    for (const start of [1, 3, 5]) append(log, start)
    for (let checkpoint = 0; checkpoint < 2; checkpoint++) {
      log.rotate()
      append(log, 10 + 2 * checkpoint)
      log.appendObsolete()
      log.freeOlder()
    }
    expect(replayed()).toEqual([12])
  })

  test('a failed layer is remembered, what it had flushed counts, until the next generation', () => {
    const { open, fresh, recovered, replayed } = setUp()
    const log = fresh()
    append(log, 1)
    log.appendBarrier(log.mark())
    append(log, 2)
    log.markFailed()
    expect(open('another boot').condition).toBe('failed')
    const again = open()
    expect(again.condition).toBe('failed')
    expect(recovered(again).starts).toEqual([1])
    again.begin()
    append(again, 3)
    expect(open().condition).toBe('same-boot')
    expect(replayed()).toEqual([3])
  })

  test('knows whether something is to be synced', async () => {
    const { fresh, open } = setUp()
    const log = fresh()
    expect(log.isSynced).toBe(true)
    log.add(1, 1, ZERO)
    expect(log.isSynced).toBe(false)
    log.settle()
    const synced = log.sync()
    append(log, 2)
    await synced
    expect(log.isSynced).toBe(false)
    await log.sync()
    expect(log.isSynced).toBe(true)
    const again = open()
    again.replay(() => {})
    expect(again.isSynced).toBe(false)
  })
})
