import { basename, join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type LayerFile, type LayerFiles, systemFiles } from '../../../src/disk/layer-files.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { MUCH_BYTES, STILL_MS, StillFlush } from '../../../src/disk/still-flush.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { HeldClock } from './support/held-clock.ts'
import { components, TestImage } from './support/test-image.ts'

afterEach(removeFolders)

/** @param flush - what the layer says to it */
function setUp(flush: () => Promise<void> = async () => undefined) {
  const clock = new HeldClock()
  let flushes = 0
  const layer = {
    unsyncedBytes: 0,
    flush: () => {
      flushes++
      return flush()
    }
  }
  const guest = { requests: 0 }
  const warnings: string[] = []
  const log = { ...components(new TestImage(0)).log, warn: (message: string) => void warnings.push(message) }
  const still = new StillFlush({ top: () => layer, requests: () => guest.requests, clock, log })
  const write = (bytes: number) => {
    guest.requests++
    layer.unsyncedBytes += bytes
    still.changed()
  }
  return { clock, layer, guest, still, write, warnings, flushed: () => flushes }
}

test('much is flushed once the guest has been still, and not before', async () => {
  const { clock, write, guest, flushed } = setUp()
  for (let turn = 0; turn < 20; turn++) {
    write(MUCH_BYTES)
    await clock.pass(STILL_MS * 0.9)
  }
  // A read is a request, too.
  guest.requests++
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(0)
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(1)
  await clock.pass(10 * STILL_MS)
  expect(flushed()).toBe(1)
})

test('little is left alone, and counts with what comes later', async () => {
  const { clock, write, flushed } = setUp()
  write(MUCH_BYTES - 512)
  await clock.pass(STILL_MS)
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(0)
  write(512)
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(1)
})

test('one that is stopped begins none', async () => {
  const { clock, write, still, flushed } = setUp()
  write(MUCH_BYTES)
  still.stop()
  await clock.pass(STILL_MS)
  still.changed()
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(0)
})

test('an error is logged, and the next change begins anew', async () => {
  const { clock, write, warnings, flushed } = setUp(() => Promise.reject(new Error('no')))
  write(MUCH_BYTES)
  await clock.pass(STILL_MS)
  expect(warnings).toHaveLength(1)
  write(512)
  await clock.pass(STILL_MS)
  expect(flushed()).toBe(2)
})

test('a disk syncs what its guest left, so that there is nothing to do for the next flush', async () => {
  const syncs: string[] = []
  const clock = new HeldClock()
  const folder = join(await temporaryFolder(), 'layers')
  const warnings: string[] = []
  const parts = components(new TestImage(2 * MUCH_BYTES))
  const log = { ...parts.log, warn: (message: string) => void warnings.push(message) }
  const disk = await RowanDisk.open(
    { ...parts, log, clock, files: toldOfSyncs(syncs) },
    { folder, machine: 'm', readOnly: false, create: true }
  )
  try {
    const { top } = disk.layers!.stack('system')!
    syncs.length = 0
    const chunk = new Uint8Array(MUCH_BYTES / 16).fill(1)
    for (let at = 0; at < MUCH_BYTES; at += chunk.length) await disk.write(at, chunk)
    disk.settle()
    expect(top.unsyncedBytes).toBe(MUCH_BYTES)
    await clock.pass(STILL_MS)
    while (top.unsyncedBytes > 0 || !syncs.includes('log')) await clock.pass(1)
    await disk.flush()
    expect(syncs).toEqual(['data', 'log'])
    for (let at = 0; at < MUCH_BYTES; at += chunk.length) await disk.write(at, chunk)
  } finally {
    await disk.close()
  }
  await clock.pass(STILL_MS)
  expect(warnings).toEqual([])
})

/** The real files; `syncs` gets the name of each that is synced. */
function toldOfSyncs(syncs: string[]): LayerFiles {
  const told = (file: LayerFile) => {
    const { sync, syncSync } = file
    const noting =
      <Result>(work: () => Result) =>
      () => {
        syncs.push(basename(file.path))
        return work.call(file)
      }
    return Object.assign(file, { sync: noting(sync), syncSync: noting(syncSync) })
  }
  return {
    ...systemFiles,
    create: (path, sizeBytes) => told(systemFiles.create(path, sizeBytes)),
    open: path => told(systemFiles.open(path))
  }
}
