import { expect, test } from 'vitest'
import type { Latest } from '../../../src/image/release.ts'
import { LastReplicas } from '../../../src/node/last-replicas.ts'
import { isNeeded, listedImages, pinnedImages, releasesOf, stayReasons } from '../../../src/node/stay-reasons.ts'
import { systemClock } from '../../../src/node/system.ts'
import { REASON } from '../../../src/store/eviction.ts'

const silent = { debug() {}, info() {}, warn() {} }

/** A record whose images are called as `name-version`. */
function latest(name: string, versions: string[], channels: Latest['channels']): Latest {
  return {
    appliance: `publisher/${name}`,
    sequence: 1,
    issuedMs: 0,
    expiresMs: 1,
    channels,
    releases: versions.map(version => ({
      version,
      image: `${name}-${version}`,
      sizeBytes: 65_536,
      blocks: 1,
      zeroBlocks: 0,
      labels: {},
      publishedMs: 0
    })),
    delegation: new Uint8Array()
  }
}

const stable = (version: string, more: object = {}) => ({ name: 'stable', version, rolloutPercent: 100, ...more })
const rooms = (machines: string[], replicated: string[], own: Latest[]) => ({
  machines: { images: () => new Set(machines) },
  replication: { list: () => replicated.map(image => ({ image })) },
  publisher: { own: () => own },
  trash: { list: () => [] as { image: string }[] }
})
const memory = (...records: Latest[]) => ({ all: () => records.map(record => ({ latest: record })) })
const nobody = () => false

test('pinned are the images of machines, replicated ones, and all releases of one’s own', () => {
  const own = latest('mine', ['v1', 'v2'], [stable('v2')])
  const pinned = pinnedImages(rooms(['a'], ['b'], [own]))
  expect([...pinned].toSorted()).toEqual(['a', 'b', 'mine-v1', 'mine-v2'])
  const reasons = stayReasons(rooms(['a'], ['b'], [own]), memory(own), () => true)
  for (const image of pinned) expect(reasons.get(image)).toBe(REASON.pinned)
})

test('current is what channels point at, and what a rollout leaves some on', () => {
  const record = latest(
    'grid',
    ['v1', 'v2', 'v3'],
    [stable('v2', { previous: 'v1' }), { name: 'testing', version: 'v3', rolloutPercent: 10, previous: 'v1' }]
  )
  expect(stayReasons(rooms([], [], []), memory(record), nobody)).toEqual(
    new Map([
      ['grid-v1', REASON.current],
      ['grid-v2', REASON.current],
      ['grid-v3', REASON.current]
    ])
  )
  const rolledOut = latest('grid', ['v1', 'v2'], [stable('v2', { previous: 'v1' })])
  expect(stayReasons(rooms([], [], []), memory(rolledOut), nobody)).toEqual(new Map([['grid-v2', REASON.current]]))
})

test('of a listed release the last replica stays before what is current; an unlisted one does not', () => {
  const record = latest('grid', ['v1', 'v2'], [stable('v2')])
  const reasons = stayReasons(rooms([], [], []), memory(record), image => image !== 'grid-v2')
  expect(reasons.get('grid-v1')).toBe(REASON.lastReplica)
  expect(reasons.get('grid-v2')).toBe(REASON.current)
  expect(reasons.has('removed-v1')).toBe(false)
  expect([...listedImages(rooms(['grid-v1'], [], []), memory(record))]).toEqual(['grid-v2'])
})

/** What others serve, by image; one that throws is not known. */
async function known(
  others: Record<string, (boolean | 'was whole')[] | Error>,
  here: Record<string, boolean>,
  {
    taken = 90,
    uses = {}
  }: { taken?: number; uses?: Record<string, { count: number | null; inUseUntilMs: number }[]> } = {}
) {
  const asked: string[] = []
  const last = new LastReplicas({
    directory: {
      async findReplicas(image) {
        asked.push(image)
        const found = others[image]!
        if (found instanceof Error) throw found
        const now = systemClock.now()
        return found.map(has => ({ complete: has !== false, expiresMs: now + (has === 'was whole' ? -1000 : 60_000) }))
      },
      async countSharers(release) {
        const [image, number] = release.split('@') as [string, string]
        return uses[image]?.[Number(number)] ?? { count: 1, inUseUntilMs: 1 }
      }
    },
    images: {
      async *list() {
        yield* Object.keys(here)
      },
      open: async id => ({ recount: async () => undefined, complete: here[id]! })
    },
    pool: { level: { takenBlocks: taken, maxBlocks: 100 } },
    listed: () => new Set(Object.keys(others)),
    releasesOf: image => (uses[image] ?? [0]).map((_, number) => `${image}@${number}`),
    clock: systemClock,
    log: silent
  })
  await last.start()
  await last.stop()
  return { last, asked }
}

test('a last replica is one that is whole here, and that nobody else has whole', async () => {
  const { last, asked } = await known(
    {
      alone: [],
      partial: [false],
      shared: [false, true],
      left: ['was whole'],
      incomplete: [],
      unknown: new Error('no answer')
    },
    { alone: true, partial: true, shared: true, left: true, incomplete: false, unknown: true, unlisted: true }
  )
  expect(asked.toSorted()).toEqual(['alone', 'left', 'partial', 'shared', 'unknown'])
  const isLast = ['alone', 'partial', 'shared', 'left', 'incomplete', 'unknown', 'unlisted'].filter(image =>
    last.isLast(image)
  )
  expect(isLast).toEqual(['alone', 'partial', 'left'])
})

test('nobody is asked while there is room enough', async () => {
  expect((await known({ alone: [] }, { alone: true }, { taken: 80 })).asked).toEqual([])
})

test('a last replica of what nobody uses is none; where it cannot be said, somebody may', async () => {
  const unused = { count: 0, inUseUntilMs: 0 }
  const uses = {
    unused: [unused, unused],
    used: [unused, { count: 1, inUseUntilMs: 5 }],
    untold: [{ count: null, inUseUntilMs: 0 }],
    // A witness knows of a lease that is not among those counted.
    hidden: [{ count: 0, inUseUntilMs: 5 }],
    many: Array.from({ length: 5 }, () => unused)
  }
  const images = Object.keys(uses)
  const alone = Object.fromEntries(images.map(image => [image, []]))
  const { last } = await known(alone, Object.fromEntries(images.map(image => [image, true])), { uses })
  expect(images.filter(image => last.isLast(image))).toEqual(['used', 'untold', 'hidden', 'many'])
})

test('an image is needed while a machine, a replication or a listed release has it, but for releases that go', () => {
  const record = latest('grid', ['v1', 'v2'], [stable('v2')])
  const nothing = rooms([], [], [record])
  expect(isNeeded('grid-v1', nothing, memory())).toBe(true)
  expect(isNeeded('grid-v1', rooms([], [], []), memory(record))).toBe(true)
  const going = new Set(['publisher/grid@v1'])
  expect(isNeeded('grid-v1', nothing, memory(record), going)).toBe(false)
  expect(isNeeded('grid-v2', nothing, memory(record), going)).toBe(true)
  expect(isNeeded('grid-v1', rooms(['grid-v1'], [], [record]), memory(record), going)).toBe(true)
  expect(isNeeded('grid-v1', rooms([], ['grid-v1'], [record]), memory(record), going)).toBe(true)
  expect(releasesOf('grid-v1', memory(record))).toEqual(['publisher/grid@v1'])
})
