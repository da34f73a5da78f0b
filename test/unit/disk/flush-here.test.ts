import { beforeEach, describe, expect, test } from 'vitest'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { withCode } from '../image/with-code.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SECTOR = new Uint8Array(512).fill(7)

let lives = 0

describe('what is to be durable for somebody who waits alone', () => {
  let files: RecordingFiles
  let disk: RowanDisk
  let nowMs: number

  const lone = (sector: number) => disk.write(sector * 512, SECTOR, { fua: true, alone: true })
  /** What was synced since the last call. */
  const synced = () => files.events.splice(0).flatMap(event => (event.kind === 'sync-end' ? [event.file] : []))

  beforeEach(async () => {
    files = new RecordingFiles()
    nowMs = 0
    disk = await RowanDisk.open(
      { ...components(new TestImage(1024 * 1024)), files, clock: { monotonicMs: () => nowMs } },
      { folder: `/here-${lives++}/layers`, machine: 'm', readOnly: false, create: true }
    )
    // Until it is known that syncs are quick, they are made aside.
    for (let sector = 0; sector < 10; sector++) await lone(sector)
    synced()
  })

  test('is durable when the call returns, a write as a flush', () => {
    expect(lone(20)).toBeUndefined()
    expect(synced()).toEqual(['log'])
    disk.write(21 * 512, SECTOR)
    expect(disk.flush({ alone: true })).toBeUndefined()
    expect(synced()).toEqual(['log'])
    // There is nothing left to do.
    expect(disk.flush({ alone: true })).toBeUndefined()
    expect(synced()).toEqual([])
  })

  test('is logged as it was written, and not read again; what begins inside a sector has that as it is now', async () => {
    const { fault } = files
    files.fault = operation => {
      if (operation === 'read') throw new RowanError('STORE_IO', 'the cache has lost it')
    }
    const long = new Uint8Array(3 * 512).map((_, at) => at)
    files.events.length = 0
    expect(disk.write(20 * 512, long, { fua: true, alone: true })).toBeUndefined()
    const logged = files.events.flatMap(event => (event.kind === 'write' && event.file === 'log' ? [event.bytes] : []))
    expect(Buffer.from(logged.at(-1)!).subarray(-long.length)).toEqual(Buffer.from(long))
    files.fault = fault
    await disk.write(20 * 512 + 10, new Uint8Array(100).fill(9), { fua: true, alone: true })
    const sector = long.slice(0, 512).fill(9, 10, 110)
    const last = files.events.findLast(event => event.kind === 'write' && event.file === 'log')
    expect(last?.kind === 'write' && Buffer.from(last.bytes).subarray(-512)).toEqual(Buffer.from(sector))
  })

  test('is waited for where he is not alone, or nobody said so', async () => {
    const writes = [20, 21].map(sector => disk.write(sector * 512, SECTOR, { fua: true }))
    for (const done of writes) expect(done).toBeInstanceOf(Promise)
    await Promise.all(writes)
    expect(synced()).toEqual(['log'])
  })

  test('is waited for while another sync runs, and where the store is slow', async () => {
    files.gated = true
    nowMs = 100
    const many = disk.write(0, new Uint8Array(256 * 1024), {})
    expect(many).toBeUndefined()
    const running = disk.flush() as Promise<void>
    const second = disk.flush({ alone: true })
    expect(second).toBeInstanceOf(Promise)
    await files.finish(running)
    await files.finish(second as Promise<void>)
    // Two syncs of one file must not overlap. One of several requests is made aside.
    for (let sector = 0; sector < 5; sector++) disk.write(sector * 512, SECTOR)
    const aside = disk.write(20 * 512, SECTOR, { fua: true })
    await new Promise(resolve => setImmediate(resolve))
    const third = lone(21)
    expect(third).toBeInstanceOf(Promise)
    await files.finish(Promise.all([aside, third]))
    files.gated = false
    const { fault } = files
    files.fault = operation => {
      if (operation === 'sync') nowMs += 100
    }
    await lone(30)
    expect(lone(31)).toBeInstanceOf(Promise)
    files.fault = fault
  })

  test('is a sync of the data where it is much', async () => {
    synced()
    disk.write(0, new Uint8Array(256 * 1024))
    const done = disk.flush({ alone: true })
    expect(done).toBeInstanceOf(Promise)
    await done
    expect(synced()).toEqual(['data', 'log'])
  })

  test.each([
    ['a write', () => void lone(20)],
    [
      'a flush',
      () => {
        disk.write(20 * 512, SECTOR)
        disk.flush({ alone: true })
      }
    ]
  ])('fails the layer if its sync fails: %s', (_, ask) => {
    files.fault = operation => {
      if (operation === 'sync') throw new RowanError('STORE_IO', 'the disk is broken')
    }
    expect(ask).toThrow(withCode('LAYER_FAILED'))
    files.fault = () => {}
    expect(() => disk.write(0, SECTOR)).toThrow(withCode('LAYER_FAILED'))
    synced()
    // What cannot be made durable is never called durable.
    return expect((async () => disk.flush({ alone: true }))()).rejects.toThrow(withCode('LAYER_FAILED'))
  })

  test('is refused once the layer has failed, also where nothing of it is left to be done', async () => {
    disk.write(20 * 512, SECTOR)
    expect(disk.flush({ alone: true })).toBeUndefined()
    // As a checkpoint does whose sync of the data fails.
    disk.layers!.stack('system')!.top.fail(new RowanError('STORE_IO', 'the disk is broken'))
    await expect((async () => disk.flush({ alone: true }))()).rejects.toThrow(withCode('LAYER_FAILED'))
    expect(() => lone(21)).toThrow(withCode('LAYER_FAILED'))
  })
})
