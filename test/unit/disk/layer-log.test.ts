import { describe, expect, test } from 'vitest'
import { LayerLog, type LogRecord } from '../../../src/disk/layer-log.ts'
import { RecordingFiles } from './support/recording-files.ts'

const identity = { machine: 'm', layer: '0001', image: 'i', sizeBytes: 1 << 20 }
const AREA_RECORDS = 4

function setUp() {
  const files = new RecordingFiles()
  LayerLog.create(files.create('log', LayerLog.sizeBytes(AREA_RECORDS)), identity)
  const open = (bootId = 'boot', from = files) => LayerLog.open(from.open('log'), identity, bootId, AREA_RECORDS)
  const fresh = () => {
    const log = open()
    log.discard()
    return log
  }
  const replayed = (log: LayerLog) => {
    const starts: number[] = []
    log.replay(record => starts.push(record.start))
    return starts
  }
  return { files, open, fresh, replayed }
}

describe('LayerLog', () => {
  test('gives back what was appended, and goes on behind it', () => {
    const { open, fresh } = setUp()
    const records: LogRecord[] = [
      { start: 2 ** 34 - 1, count: 1, state: 1 },
      { start: 7, count: 2 ** 23, state: 2 }
    ]
    const log = fresh()
    for (const { start, count, state } of records) log.append(start, count, state)
    const again = open()
    expect(again.condition).toBe('same-boot')
    const found: LogRecord[] = []
    again.replay(record => found.push(record))
    expect(found).toEqual(records)
    again.append(9, 1, 1)
    const starts: number[] = []
    open().replay(record => starts.push(record.start))
    expect(starts).toEqual([2 ** 34 - 1, 7, 9])
  })

  test('says when it is of another boot, and forgets it then', () => {
    const { open, fresh, replayed } = setUp()
    fresh().append(1, 1, 1)
    const other = open('another boot')
    expect(other.condition).toBe('other-boot')
    other.discard()
    expect(replayed(open('another boot'))).toEqual([])
    expect(open('boot').condition).toBe('other-boot')
  })

  test('cuts a torn tail', () => {
    const { files, open, fresh, replayed } = setUp()
    const log = fresh()
    log.append(1, 1, 1)
    log.append(2, 1, 1)
    const last = files.events.at(-1)!
    if (last.kind !== 'write') throw new Error('the last event is the record')
    files.record({ ...last, bytes: new Uint8Array(10).fill(0xff) })
    const again = open()
    expect(replayed(again)).toEqual([1])
    again.append(3, 1, 1)
    expect(replayed(open())).toEqual([1, 3])
  })

  test('during a flush records go to a new generation, and both are replayed in order until the next', () => {
    const { open, fresh, replayed } = setUp()
    const log = fresh()
    log.append(1, 1, 1)
    log.beginFlush()
    log.append(2, 1, 1)
    expect(replayed(open())).toEqual([1, 2])
    log.endFlush()
    log.beginFlush()
    log.append(3, 1, 1)
    expect(replayed(open())).toEqual([2, 3])
  })

  test('never overwrites records that no flush has made durable', () => {
    const { open, fresh, replayed } = setUp()
    const log = fresh()
    log.append(1, 1, 1)
    log.beginFlush()
    log.append(2, 1, 1)
    // The flush did not end well: the next one finds no free area.
    log.beginFlush()
    log.append(3, 1, 1)
    expect(replayed(open())).toEqual([1, 2, 3])
    const again = open()
    again.replay(() => {})
    again.beginFlush()
    again.append(4, 1, 1)
    expect(replayed(open())).toEqual([1, 2, 3, 4])
  })

  test('stale records behind a torn header or a shorter generation are not believed', () => {
    const { open, fresh, replayed } = setUp()
    const log = fresh()
    for (const start of [1, 2, 3]) log.append(start, 1, 1)
    for (let flush = 0; flush < 2; flush++) {
      log.beginFlush()
      log.append(10 + flush, 1, 1)
      log.endFlush()
    }
    // The first area holds its second generation: one record, and two of the first generation behind it.
    expect(replayed(open())).toEqual([10, 11])
  })

  test('a failed layer is remembered, also by the next process, until it is discarded', () => {
    const { open, fresh, replayed } = setUp()
    const log = fresh()
    log.append(1, 1, 1)
    log.beginFlush()
    log.append(2, 1, 1)
    log.markFailed()
    expect(open().condition).toBe('failed')
    expect(open('another boot').condition).toBe('failed')
    const again = open()
    again.discard()
    again.append(3, 1, 1)
    expect(replayed(open())).toEqual([3])
  })

  test('has a bound', () => {
    const log = setUp().fresh()
    for (let record = 0; record < AREA_RECORDS; record++) log.append(record, 1, 1)
    expect(() => log.append(9, 1, 1)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  })

  test('a record that could not be written was not appended', () => {
    const { files, open, fresh, replayed } = setUp()
    const log = fresh()
    log.append(1, 1, 1)
    files.fault = () => {
      throw new Error('full')
    }
    expect(() => log.append(2, 1, 1)).toThrow('full')
    files.fault = () => {}
    expect(replayed(open())).toEqual([1])
    log.append(3, 1, 1)
    expect(replayed(open())).toEqual([1, 3])
  })
})
