/** Polls, verdicts and removal together, with a real publisher and store; the network's answers are given. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { Witness } from '../../../src/directory/sharer-count.ts'
import { RowanError } from '../../../src/errors.ts'
import { isNeeded, stayReasons } from '../../../src/node/stay-reasons.ts'
import { CollectionPolls } from '../../../src/release/collection-polls.ts'
import { Collector } from '../../../src/release/collector.ts'
import { Trash } from '../../../src/release/trash.ts'
import { Sweeper } from '../../../src/store/sweeper.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import { ManualClock } from './support/clock.ts'
import { writeImage } from './support/images.ts'
import { MemoryDirectory, openPeer, type TestPeer } from './support/store.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const TTL_MS = 30 * MINUTE_MS
const GRACE_MS = 2 * HOUR_MS
const POLL_MS = 10 * MINUTE_MS

/** Wall time apart from the time that passes. */
class JumpyClock extends ManualClock {
  jumpMs = 0
  override now(): number {
    return super.now() + this.jumpMs
  }
}

let folder: string
let clock: JumpyClock
let directory: MemoryDirectory
/** What the holders of each version say. */
let usedFor: Map<string, number>
let answering: number
let asked: string[]
let machines: { name: string; appliance: string; version: string; image: string }[]
let world: Awaited<ReturnType<typeof open>>

async function open(settings: { automatic?: boolean } = {}) {
  const home = join(folder, 'home')
  await mkdir(home, { recursive: true })
  const peer: TestPeer = await openPeer(home, directory, clock)
  const { catalog, pool, images, publisher, memory, log } = peer
  const rooms = {
    machines: { descriptions: () => machines, images: () => new Set(machines.map(({ image }) => image)) },
    replication: { list: () => [] as { appliance: string; version: string; image: string }[] },
    publisher
  }
  const sweeper: Sweeper = new Sweeper({
    pool,
    images,
    stay: { reasons: () => stayReasons({ ...rooms, trash }, memory, () => false) },
    log
  })
  const network = {
    announceReplica() {},
    withdrawReplica() {},
    findReplicas: async () => [],
    async countSharers(name: string) {
      const version = name.split('@')[1]!
      asked.push(version)
      if (answering < 0) throw new RowanError('NO_PEERS', 'nobody is there')
      const inUseForMs = usedFor.get(version) ?? 0
      const witnesses: Witness[] = Array.from({ length: answering }, (_, i) => ({
        peer: `h${i}`,
        role: 'holder' as const,
        tenureMs: 30 * DAY_MS,
        inUseForMs,
        inUseUntilMs: 0
      }))
      const count = answering > 10 ? Math.sign(inUseForMs) : null
      return { count, exact: count !== null, holders: { asked: 20, answered: answering }, witnesses }
    }
  }
  const trash: Trash = await Trash.open(
    {
      ...{ catalog, images, sweeper, directory: network, clock, log },
      swarm: { forget: () => true },
      isNeeded: image => isNeeded(image, rooms, memory)
    },
    { keepMs: TTL_MS }
  )
  const collection = { graceMs: GRACE_MS, runningTtlMs: TTL_MS }
  const random = { unit: () => 0.5, bytes: () => new Uint8Array() }
  const polls = await CollectionPolls.open({ catalog, directory: network, publisher, clock, random, log }, collection)
  const collector = new Collector(
    {
      ...{ polls, trash, sweeper, publisher, log },
      ...{ machines: rooms.machines, replication: rooms.replication },
      publisherId: () => peer.keys.publisher,
      isNeeded: (image, going) => isNeeded(image, rooms, memory, going)
    },
    { ...collection, automatic: settings.automatic ?? false }
  )
  return { ...peer, trash, polls, collector, grid: `${peer.keys.publisher}/grid` }
}

beforeEach(async () => {
  folder = await temporaryFolder()
  clock = new JumpyClock()
  directory = new MemoryDirectory()
  usedFor = new Map()
  answering = 20
  asked = []
  machines = []
  world = await open()
  await publish('v1', [1, 2, 3])
  await publish('v2', [1, 2, 4, 5])
})

afterEach(async () => {
  await close()
  await removeFolders()
})

async function close(): Promise<void> {
  await world.collector.stop()
  await world.trash.stop()
  await world.close()
}

async function restart(settings: { automatic?: boolean } = {}): Promise<void> {
  await close()
  world = await open(settings)
}

async function publish(version: string, blocks: number[], name = 'grid', channel?: string): Promise<void> {
  const path = join(folder, `${name}-${version}.raw`)
  await writeImage(path, blocks)
  await world.publisher.publish({ path, name, version, ...(channel === undefined ? {} : { channel }) })
}

async function poll(times = 1): Promise<void> {
  for (let i = 0; i < times; i++) {
    clock.advance(POLL_MS)
    await world.polls.pollAll()
  }
}

const keptWhy = async (version: string) => {
  const { kept } = await world.collector.collect({ dryRun: true })
  return kept.find(each => each.version === version)?.reasons.map(({ code }) => code)
}
const versions = () => world.publisher.own()[0]!.releases.map(({ version }) => version)

test('one poll is never enough; after those of a whole window the version goes, and its own blocks a TTL later', async () => {
  expect(await keptWhy('v1')).toEqual(['unused-too-short', 'superseded-too-short'])
  expect(await keptWhy('v2')).toContain('channel')
  await poll(11)
  expect(await keptWhy('v1')).toEqual(['unused-too-short', 'superseded-too-short'])
  clock.advance(POLL_MS)
  const plan = await world.collector.collect({ dryRun: true })
  expect(plan.removed).toMatchObject([{ version: 'v1', freedBytes: BLOCK_SIZE_BYTES, forced: false }])
  expect(versions()).toEqual(['v1', 'v2'])

  const before = directory.records.get(world.grid)!.sequence
  const done = await world.collector.collect()
  expect(done.removed).toEqual(plan.removed)
  expect(done.freedBytes).toBe(plan.freedBytes)
  expect(directory.records.get(world.grid)).toMatchObject({ sequence: before + 1, releases: [{ version: 'v2' }] })
  expect(done.trash).toMatchObject([{ version: 'v1', leftSeconds: TTL_MS / 1000 }])
  expect(world.pool.usage.blocks).toBe(5)
  clock.advance(TTL_MS)
  await world.trash.tick()
  expect(world.pool.usage.blocks).toBe(4)
  expect(await world.images.open(done.removed[0]!.image)).toBeUndefined()
})

test('a use keeps a version, and the window begins anew when it is over', async () => {
  await poll(11)
  usedFor.set('v1', HOUR_MS)
  await poll()
  expect(await keptWhy('v1')).toContain('in-use')
  usedFor.delete('v1')
  await poll()
  expect(await keptWhy('v1')).toEqual(['unused-too-short'])
  await poll(12)
  expect((await world.collector.collect()).removed).toHaveLength(1)
})

test.each([
  ['too few answer', 10, 'no-majority'],
  ['the question fails', -1, 'poll-failed']
])('when %s nothing goes', async (_, count, code) => {
  await poll(20)
  answering = count
  clock.advance(POLL_MS)
  const { removed, kept } = await world.collector.collect()
  expect(removed).toEqual([])
  expect(kept.find(({ version }) => version === 'v1')!.reasons).toMatchObject([{ code }])
})

test('a clock that jumps a day, back or forth, changes nothing', async () => {
  await poll(6)
  clock.jumpMs = DAY_MS
  await poll(3)
  clock.jumpMs = -DAY_MS
  await poll(3)
  expect((await world.collector.collect({ dryRun: true })).removed).toEqual([])
  await poll()
  expect((await world.collector.collect({ dryRun: true })).removed).toHaveLength(1)
})

describe('a restart', () => {
  test('goes on where it was, and its pause does not count', async () => {
    await poll(10)
    clock.advance(50 * MINUTE_MS)
    await restart()
    await world.polls.pollAll()
    expect((await world.collector.collect({ dryRun: true })).removed).toEqual([])
    await poll(3)
    expect((await world.collector.collect({ dryRun: true })).removed).toHaveLength(1)
  })

  test.each([
    ['a long one', 2 * HOUR_MS, 0],
    ['one with a clock that was set back', MINUTE_MS, -DAY_MS]
  ])('%s ends the run', async (_, ms, jumpMs) => {
    await poll(12)
    clock.advance(ms)
    clock.jumpMs = jumpMs
    await restart()
    // With what there was before it would be enough.
    await poll(3)
    expect((await world.collector.collect({ dryRun: true })).removed).toEqual([])
  })

  test('does not forget the longest use that was told', async () => {
    usedFor.set('v1', 30 * DAY_MS)
    await poll()
    usedFor.delete('v1')
    answering = 0
    await restart()
    await poll()
    expect(await keptWhy('v1')).toContain('forgotten-use')
  })

  test('with an entry that cannot be read watches anew', async () => {
    await poll(20)
    const table = world.catalog.table('collection', { encode: (text: string) => Buffer.from(text), decode: String })
    await table.put(`${world.grid}@v1`, '{"state":{"polls":-1}}')
    await restart()
    await poll()
    expect((await world.collector.collect({ dryRun: true })).removed).toEqual([])
  })
})

describe('--force', () => {
  test('removes what is in use, and nothing else that is', async () => {
    await publish('v3', [7])
    for (const version of ['v1', 'v2']) usedFor.set(version, DAY_MS)
    const { removed } = await world.collector.collect({ force: 'v1' })
    expect(removed).toMatchObject([{ version: 'v1', forced: true }])
    expect(versions()).toEqual(['v2', 'v3'])
  })

  test('refuses the release of a channel, what a machine here is of, and what there is not', async () => {
    const force = (version: string) => world.collector.collect({ force: version })
    await expect(force('v2')).rejects.toThrow(withCode('RELEASE_NEEDED'))
    machines = [{ name: 'desk', appliance: world.grid, version: 'v1', image: 'x' }]
    await expect(force('v1')).rejects.toThrow(withCode('RELEASE_NEEDED'))
    await expect(force('v9')).rejects.toThrow(withCode('VERSION_UNKNOWN'))
    await expect(force('tree@v1')).rejects.toThrow(withCode('VERSION_UNKNOWN'))
    expect(asked).toEqual([])
    expect(versions()).toEqual(['v1', 'v2'])
  })

  test('wants to know which, where several appliances have the version', async () => {
    await publish('v1', [8], 'tree')
    await publish('v2', [9], 'tree')
    await expect(world.collector.collect({ force: 'v1' })).rejects.toThrow(withCode('VERSION_AMBIGUOUS'))
    const { removed } = await world.collector.collect({ force: 'tree@v1' })
    expect(removed).toMatchObject([{ appliance: `${world.keys.publisher}/tree`, version: 'v1' }])
  })
})

test('what a local machine is of stays, with the reason', async () => {
  machines = [{ name: 'desk', appliance: world.grid, version: 'v1', image: 'x' }]
  await poll(20)
  const { removed, kept } = await world.collector.collect()
  expect(removed).toEqual([])
  expect(kept.find(({ version }) => version === 'v1')!.why).toBe('the machine desk here is of it')
})

test('a machine that is made while its version is about to go keeps it', async () => {
  await poll(20)
  const findLatest = directory.findLatest.bind(directory)
  directory.findLatest = async appliance => {
    machines = [{ name: 'desk', appliance: world.grid, version: 'v1', image: 'x' }]
    return findLatest(appliance)
  }
  await expect(world.collector.collect()).rejects.toThrow(withCode('RELEASE_NEEDED'))
  expect(versions()).toEqual(['v1', 'v2'])
})

test('an appliance without channels keeps its newest release', async () => {
  const { releases, channels } = world.publisher.own()[0]!
  expect(releases).toHaveLength(2)
  expect(channels).toHaveLength(1)
  // The channel of another appliance’s only release never lets that go either.
  await publish('w1', [11], 'tree')
  await poll(20)
  const { removed } = await world.collector.collect()
  expect(removed).toMatchObject([{ version: 'v1' }])
  expect(world.publisher.own().every(latest => latest.releases.length === 1)).toBe(true)
})

test('an image that another release has frees nothing, and stays', async () => {
  await publish('v3', [1, 2, 3])
  await poll(30)
  const { removed } = await world.collector.collect()
  expect(removed).toMatchObject([
    { version: 'v1', freedBytes: 0 },
    { version: 'v2', freedBytes: 2 * BLOCK_SIZE_BYTES }
  ])
  clock.advance(TTL_MS)
  await world.trash.tick()
  const image = world.publisher.own()[0]!.releases[0]!.image
  expect((await world.images.open(image))!.complete).toBe(true)
  expect(world.trash.list()).toEqual([])
})

test('blocks of no image go at once', async () => {
  const { pool } = world
  const [block] = [Buffer.alloc(BLOCK_SIZE_BYTES, 'nobody’s')]
  const { sha256 } = await import('../../../src/image/hash.ts')
  await pool.put(sha256(block), block)
  const plan = await world.collector.collect({ dryRun: true })
  expect(plan).toMatchObject({ unusedBytes: BLOCK_SIZE_BYTES, freedBytes: BLOCK_SIZE_BYTES })
  expect(await world.collector.collect()).toMatchObject({ unusedBytes: BLOCK_SIZE_BYTES, freedBytes: BLOCK_SIZE_BYTES })
  expect(pool.usage.blocks).toBe(5)
})

test('by itself it only says what could go, unless it is set to collect', async () => {
  await poll(20)
  world.collector.start()
  await expect.poll(() => world.log.lines.join()).toContain('rowan gc')
  expect(versions()).toEqual(['v1', 'v2'])
  await restart({ automatic: true })
  world.collector.start()
  await expect.poll(() => asked.length).toBeGreaterThan(40)
  for (let i = 0; i < 20 && versions().length > 1; i++) {
    clock.advance(1.2 * POLL_MS)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  expect(versions()).toEqual(['v2'])
})

test('one sample of the count is kept for each hour', async () => {
  await poll(13)
  const samples = await world.polls.history.of(`${world.grid}@v1`)
  expect(samples).toHaveLength(3)
  expect(samples[0]).toMatchObject({ count: 0, exact: true })
})

test('what is known of a version goes with it', async () => {
  await poll(14)
  await world.collector.collect()
  await poll()
  expect(await world.polls.history.of(`${world.grid}@v1`)).toEqual([])
  await restart()
  expect(world.polls.state(`${world.grid}@v1`).last.kind).toBe('none')
})
