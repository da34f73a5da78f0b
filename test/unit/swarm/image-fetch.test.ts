import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/node/system.ts'
import type { LocalImage } from '../../../src/store/images.ts'
import { BlockBuffers } from '../../../src/swarm/block-buffers.ts'
import { BlockStore } from '../../../src/swarm/block-store.ts'
import { ImageFetch } from '../../../src/swarm/image-fetch.ts'
import type { Rank } from '../../../src/swarm/messages.ts'
import { Scheduler } from '../../../src/swarm/scheduler.ts'
import { Timeline } from '../../../src/timeline.ts'
import { keepImage, makeImage, obtainedBytes, openStore, type Store, silentLog, until } from './support.ts'

const DEMAND: Rank = 0
const FILL: Rank = 3
const IMAGE = 1
const BLOCK = 3
const REPLICA = 'replica'
const WIRE_BYTES = 65_548

/** The real scheduler and the real pool, which takes what it is given when the test says so. */
describe('a block that came', () => {
  const image = makeImage(40, 10, { isZero: () => false })
  let disk: Store
  let local: LocalImage
  let scheduler: Scheduler
  let fetch: ImageFetch
  let nowMs: number
  /** Batches that wait to be stored. */
  let storing: { go(error?: RowanError): void }[]

  beforeEach(async () => {
    nowMs = 0
    storing = []
    disk = await openStore()
    await keepImage(disk, image, () => false)
    local = (await disk.images.open(image.id))!
    scheduler = new Scheduler()
    const pool = {
      putMany: async (entries: Parameters<typeof disk.pool.putMany>[0]) => {
        const gate = Promise.withResolvers<void>()
        storing.push({ go: error => (error === undefined ? gate.resolve() : gate.reject(error)) })
        await gate.promise
        return await disk.pool.putMany(entries)
      }
    }
    const clock = systemClock
    fetch = new ImageFetch({
      number: IMAGE,
      image: local,
      driver: {
        get wanted() {
          return scheduler.wanted
        },
        event: event => scheduler.apply(event, nowMs),
        accuse: (_peer, error) => expect.fail(error.message)
      },
      store: new BlockStore({ pool, buffers: new BlockBuffers(), log: silentLog, clock }),
      line: new Timeline(clock),
      clock,
      onStored() {}
    })
    scheduler.apply({ type: 'joined', peer: REPLICA, rttMs: 10 }, nowMs)
    scheduler.apply({ type: 'has', peer: REPLICA, image: IMAGE, complete: true, pages: [] }, nowMs)
  })
  afterEach(() => disk.close())

  /** How often blocks are asked of the replica now. */
  function asked(): number {
    nowMs += 20
    return scheduler.decide(nowMs).filter(({ type }) => type === 'send').length
  }

  const come = () => void fetch.blockCame(REPLICA, BLOCK, Buffer.from(image.block(BLOCK)), false, WIRE_BYTES)

  /** Asked for, called off, and sent all the same. */
  async function comeUnwanted(): Promise<void> {
    const abort = new AbortController()
    const given = fetch.want(BLOCK, FILL, abort.signal)
    expect(asked()).toBe(1)
    abort.abort()
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' })
    expect(asked()).toBe(0)
    come()
    await until(() => storing.length === 1, 'the pool to be given the block')
    expect(fetch.waiting).toEqual([0, 0, 0, 0])
  }

  test('although it was called off is given to a guest at once, and not asked for again', async () => {
    await comeUnwanted()
    const later = { slot: Number.NaN }
    const obtained = await Promise.race([
      fetch.want(BLOCK, DEMAND),
      new Promise<typeof later>(resolve => setImmediate(resolve, later))
    ])
    expect(obtained).not.toBe(later)
    expect(Buffer.compare(obtainedBytes(disk, obtained), image.block(BLOCK))).toBe(0)
    expect(asked()).toBe(0)
    storing[0]!.go()
    await until(() => local.locate(BLOCK) >= 0, 'the block to be stored')
    expect(scheduler.wanted).toBe(0)
    expect(asked()).toBe(0)
    expect(fetch.isBusy).toBe(false)
  })

  test('although it was called off is given to whoever wants it kept when it is', async () => {
    await comeUnwanted()
    const kept = fetch.want(BLOCK, FILL)
    expect(asked()).toBe(0)
    storing[0]!.go()
    expect(await kept).toEqual({ slot: local.locate(BLOCK) })
    expect(scheduler.wanted).toBe(0)
  })

  test('is given to each guest in memory of its own', async () => {
    const own = async (guests: Promise<{ slot: number } | { bytes: Uint8Array }>[]) => {
      const given = (await Promise.all(guests)).map(obtained => obtainedBytes(disk, obtained))
      for (const bytes of given) expect(Buffer.compare(bytes, image.block(BLOCK))).toBe(0)
      return new Set(given.map(({ buffer }) => buffer)).size
    }
    const guests = [fetch.want(BLOCK, DEMAND), fetch.want(BLOCK, DEMAND)]
    asked()
    come()
    expect(await own([...guests, fetch.want(BLOCK, DEMAND)])).toBe(3)
    await until(() => storing.length === 1, 'the pool to be given the block')
    storing[0]!.go(new RowanError('POOL_FULL', 'full'))
  })

  test('and cannot be kept is not wanted any more, and can be wanted anew', async () => {
    await comeUnwanted()
    const kept = fetch.want(BLOCK, FILL)
    storing[0]!.go(new RowanError('POOL_FULL', 'full'))
    await expect(kept).rejects.toMatchObject({ code: 'POOL_FULL' })
    expect(scheduler.wanted).toBe(0)
    expect(fetch.isBusy).toBe(false)
    const again = fetch.want(BLOCK, DEMAND)
    expect(asked()).toBe(1)
    come()
    expect(await again).toHaveProperty('bytes')
  })
})

test('a block that turns out to be zero is given to each of those who wait for it in memory of its own', async () => {
  const image = makeImage(41, 10, { isZero: n => n === BLOCK })
  const disk = await openStore()
  try {
    const local = await disk.images.create(image.rootBytes)
    const driver = { wanted: 0, event: () => {}, accuse: (_peer: string, error: Error) => expect.fail(error.message) }
    const clock = systemClock
    const store = new BlockStore({ pool: disk.pool, buffers: new BlockBuffers(), log: silentLog, clock })
    const fetch = new ImageFetch({
      number: IMAGE,
      image: local,
      driver,
      store,
      line: new Timeline(clock),
      clock,
      onStored() {}
    })
    // Two machines of one image; the thread of each takes the memory that it is given.
    const guests = [fetch.want(BLOCK, DEMAND), fetch.want(BLOCK, DEMAND)]
    const [missing] = local.missingNodes(BLOCK)
    const node = image.nodes.find(([hash]) => Buffer.compare(hash, missing!.hash!) === 0)!
    await fetch.nodesCame(REPLICA, [{ level: missing!.level, position: missing!.position, bytes: node[1] }], [])
    const given = (await Promise.all(guests)).map(obtained => obtainedBytes(disk, obtained))
    for (const bytes of given) expect(Buffer.compare(bytes, image.block(BLOCK))).toBe(0)
    expect(new Set(given.map(({ buffer }) => buffer)).size).toBe(2)
  } finally {
    await disk.close()
  }
})
