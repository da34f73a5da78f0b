/**
 * A disk in a thread of its own: what it does by itself, what it asks the main thread for, and what happens when it dies.
 */
import { cpSync, existsSync, readdirSync, readlinkSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { MAX_CALLS } from '../../../src/machine/disk-messages.ts'
import { COMMAND, ERRNO } from '../../../src/nbd/protocol.ts'
import { Images } from '../../../src/store/images.ts'
import { removeFolders } from '../../tools/folders.ts'
import { waitUntil } from '../../tools/wait.ts'
import { withCode } from '../image/with-code.ts'
import { blockOf, hashOf } from '../store/tools.ts'
import type { ReadingClientInput } from './threads/reading-client.ts'
import { clientOf, isRight, ServedDisks, threadOf } from './threads/served.ts'

const BLOCKS = 16

let disks: ServedDisks | undefined

afterEach(async () => {
  await disks?.close()
  disks = undefined
  await removeFolders()
})

async function open(options: Parameters<typeof ServedDisks.open>[0]): Promise<ServedDisks> {
  disks = await ServedDisks.open(options)
  return disks
}

describe('what is here', () => {
  test('is read without the main thread, which may be busy with something else', async () => {
    const { socketPath } = await (await open({ blocks: BLOCKS, here: true })).serve()
    const counts = new Int32Array(new SharedArrayBuffer(8))
    const workerData: ReadingClientInput = { socketPath, blocks: BLOCKS, counts: counts.buffer as SharedArrayBuffer }
    const client = new Worker(new URL('./threads/reading-client.ts', import.meta.url), {
      workerData,
      execArgv: ['--disable-warning=ExperimentalWarning']
    })
    const ended = new Promise(resolve => client.once('exit', resolve))
    await waitUntil('the client', () => counts[0]! > 0)
    const before = Atomics.load(counts, 0)
    const until = performance.now() + 60_000
    // As a burst of hashing would be: this thread does nothing else.
    while (performance.now() < until && Atomics.load(counts, 0) < before + 100);
    expect(Atomics.load(counts, 0) - before).toBeGreaterThanOrEqual(100)
    Atomics.store(counts, 1, 1)
    expect(await ended).toBe(0)
    expect(disks!.wanted).toEqual([])
  })

  test('counts as used', async () => {
    const { image, store } = await open({ blocks: BLOCKS, here: true })
    store.images.uses.clock.minute = 77
    const { socketPath } = await disks!.serve()
    const client = await clientOf(socketPath)
    await client.bytes(0, 512)
    expect(store.images.uses.read(image.id, 1)[0]).toBe(77)
    await client.disconnect()
  })

  test('and has not been hashed since an unclean stop is hashed before a guest sees it', async () => {
    const { store, image } = await open({ blocks: BLOCKS })
    const { pool, catalog, log } = store
    // The pool believes that block 0 is where block 1 is, and suspects it: what a power loss may leave.
    const slot = await pool.put(hashOf(0), blockOf(1))
    const isSuspect = pool.isSuspect.bind(pool)
    pool.isSuspect = which => which === slot || isSuspect(which)
    const images = new Images({ catalog, pool, log })
    const { socketPath } = await disks!.serve({ image: (await images.open(image.id))! })
    const client = await clientOf(socketPath)
    expect(isRight(await client.bytes(0, BLOCK_SIZE_BYTES), 0)).toBe(true)
    expect(disks!.wanted).toEqual([0])
    expect(log.lines).toContain('warn a block has rotted, and is dropped')
    await client.disconnect()
    images.close()
  })
})

describe('what is not here', () => {
  test('comes from the source, once for all who wait, and is here then', async () => {
    const { socketPath } = await (await open({ blocks: BLOCKS })).serve()
    const client = await clientOf(socketPath)
    const whole = await client.bytes(0, BLOCKS * BLOCK_SIZE_BYTES)
    expect(isRight(whole, 0)).toBe(true)
    expect([...disks!.wanted].sort((a, b) => a - b)).toEqual([...Array(BLOCKS).keys()].filter(block => block !== 3))
    await client.bytes(0, BLOCKS * BLOCK_SIZE_BYTES)
    expect(disks!.wanted).toHaveLength(BLOCKS - 1)
    await client.disconnect()
  })

  test('is served also when the pool cannot keep it', async () => {
    await open({ blocks: BLOCKS })
    const source = { want: async (_image: string, block: number) => ({ bytes: blockOf(block) }) }
    const { socketPath } = await disks!.serve({ source })
    const client = await clientOf(socketPath)
    expect(isRight(await client.bytes(0, BLOCKS * BLOCK_SIZE_BYTES), 0)).toBe(true)
    expect(disks!.image.local.blocks).toBe(0)
    await client.disconnect()
  })

  test('and comes before it is stored goes to the disk without a copy, once for all that is read of it', async () => {
    await open({ blocks: BLOCKS })
    const whole = new Uint8Array(blockOf(0))
    const part = new Uint8Array(2 * BLOCK_SIZE_BYTES).subarray(BLOCK_SIZE_BYTES)
    part.set(blockOf(1))
    const given = [whole, part]
    const wanted: number[] = []
    const want = async (_image: string, block: number) => {
      wanted.push(block)
      return { bytes: given[block]! }
    }
    const { disk, socketPath } = await disks!.serve({ source: { want } })
    const client = await clientOf(socketPath)
    const read: Buffer[] = []
    for (let at = 0; at < 2 * BLOCK_SIZE_BYTES; at += 4096) read.push(await client.bytes(at, 4096))
    expect(isRight(Buffer.concat(read), 0)).toBe(true)
    expect(wanted.filter(block => block < 2)).toEqual([0, 1])
    expect((await disk.report()).fetchedBlocks).toBe(2)
    expect(whole.buffer.detached).toBe(true)
    // What is a part of something larger stays whose it is.
    expect(part.byteLength).toBe(BLOCK_SIZE_BYTES)
    await client.disconnect()
  })

  test('is asked for before it is told that it was touched, which brings what is read on', async () => {
    await open({ blocks: BLOCKS })
    const heard: string[] = []
    const want = async (_image: string, block: number) => {
      heard.push('want')
      return { bytes: blockOf(block) }
    }
    const { socketPath } = await disks!.serve({
      source: { want },
      touches: { touched: () => void heard.push('touch') }
    })
    const client = await clientOf(socketPath)
    // Of one read, all blocks.
    await client.bytes(0, 3 * BLOCK_SIZE_BYTES)
    await waitUntil('the touches', () => heard.length === 6)
    expect(heard).toEqual(['want', 'want', 'want', 'touch', 'touch', 'touch'])
    await client.disconnect()
  })

  test('was asked for by nobody any more when the disk is closed', async () => {
    await open({ blocks: BLOCKS })
    disks!.isHeld = true
    const { disk, socketPath } = await disks!.serve()
    const client = await clientOf(socketPath)
    const reading = client.bytes(0, 512).catch((error: unknown) => error)
    await waitUntil('the want', () => disks!.wanted.length === 1)
    client.destroy()
    await disk.close()
    await waitUntil('the end of the want', () => disks!.abandoned === 1)
    expect(await reading).toBeInstanceOf(Error)
  })

  test('is fetched again when its slot cannot be read', async () => {
    const { store } = await open({ blocks: BLOCKS, here: true })
    const { socketPath } = await disks!.serve()
    const client = await clientOf(socketPath)
    const last = (BLOCKS - 1) * BLOCK_SIZE_BYTES
    const segment = join(store.pool.directory, '00000.seg')
    // The last slots are cut off.
    truncateSync(segment, 12 * BLOCK_SIZE_BYTES)
    expect(isRight(await client.bytes(last, BLOCK_SIZE_BYTES), last)).toBe(true)
    expect(disks!.wanted).toEqual([BLOCKS - 1])
    await client.disconnect()
  })

  test('and cannot be had is an I/O error, with its code in the log', async () => {
    await open({ blocks: BLOCKS })
    const source = {
      want: () => Promise.reject(Object.assign(new Error('no luck'), { code: 'EIO' }))
    }
    const { socketPath } = await disks!.serve({ source })
    const client = await clientOf(socketPath)
    expect((await client.request(COMMAND.READ, { offset: 0, length: 512 })).errno).toBe(ERRNO.EIO)
    await client.disconnect()
  })
})

test('a segment that goes is closed by the disk before its file is unlinked', async () => {
  const { store, image } = await open({ blocks: BLOCKS, here: true })
  const { socketPath } = await disks!.serve()
  const client = await clientOf(socketPath)
  await client.bytes(0, 512)
  const { pool } = store
  await disks!.evictMost(true)
  await waitUntil('the end of the segment', () => !existsSync(join(pool.directory, '00000.seg')))
  expect(image.local.blocks).toBe(0)
  expect(openFiles().filter(path => path.endsWith('.seg (deleted)'))).toEqual([])
  expect(isRight(await client.bytes(0, BLOCK_SIZE_BYTES), 0)).toBe(true)
  await client.disconnect()
})

/** The files that this process, all its threads, has open. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      // It was closed meanwhile, as the one that listed them was.
      return []
    }
  })
}

describe('errors', () => {
  test('of the opening come with their code, and no thread stays', async () => {
    await open({ blocks: BLOCKS })
    await disks!.serve({ name: 'a' })
    // The layer of another machine.
    cpSync(join(disks!.store.folder, 'a'), join(disks!.store.folder, 'b'), { recursive: true })
    await expect(disks!.serve({ name: 'b' })).rejects.toThrow(withCode('LAYER_CORRUPT'))
  })

  test('of a thread that cannot start is DISK_DIED', async () => {
    await open({ blocks: BLOCKS })
    await expect(disks!.serve({ startThread: threadOf('./no-such-thread.ts') })).rejects.toThrow(withCode('DISK_DIED'))
  })

  test('too many calls at a time are refused; a closed disk says so', async () => {
    await open({ blocks: BLOCKS })
    const { disk } = await disks!.serve()
    const calls = Array.from({ length: MAX_CALLS + 1 }, () => disk.serve().catch((error: unknown) => error))
    expect((await Promise.all(calls)).at(-1)).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    await disk.close()
    await expect(disk.serve()).rejects.toThrow(withCode('DISK_CLOSED'))
  })
})

describe('a thread that dies', () => {
  beforeEach(async () => {
    await open({ blocks: BLOCKS, here: true })
  })

  test.each(['EXPLODE', 'EXHAUST'])('of %s is told of, and lets go of the pool’s slots', async word => {
    const { pool } = disks!.store
    const { disk, socketPath } = await disks!.serve({ startThread: threadOf('./mortal-disk-thread.ts', 16) })
    const died = new Promise(resolve => {
      disk.onDied = resolve
    })
    const client = await clientOf(socketPath)
    const write = { offset: 0, data: Buffer.alloc(512, word) }
    expect((await client.request(COMMAND.WRITE, write)).errno).toBe(0)
    expect(await died).toMatchObject({ code: 'DISK_DIED' })
    await client.closed
    await disks!.evictMost(true)
    expect(pool.level.retiredBlocks).toBe(0)
    // What it had answered is there when the disk is opened again.
    const again = await disks!.serve()
    const next = await clientOf(again.socketPath)
    expect(await next.bytes(0, 512)).toEqual(write.data)
    await next.disconnect()
  })

  test('asks for nothing any more', async () => {
    await disks!.evictMost(true)
    disks!.isHeld = true
    const { disk, socketPath } = await disks!.serve({ startThread: threadOf('./mortal-disk-thread.ts', 16) })
    const died = new Promise(resolve => {
      disk.onDied = resolve
    })
    const client = await clientOf(socketPath)
    const reading = client.bytes(BLOCK_SIZE_BYTES, 512).catch((error: unknown) => error)
    await waitUntil('the want', () => disks!.wanted.length === 1)
    await client.request(COMMAND.WRITE, { offset: 0, data: Buffer.alloc(512, 'EXPLODE') })
    await died
    await waitUntil('the end of the want', () => disks!.abandoned === 1)
    expect(await reading).toBeInstanceOf(Error)
  })
})
