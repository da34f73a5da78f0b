/**
 * Neighbours behind one line: swarms on one network, a replica beyond a line with a round trip, and what crosses that line.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES, PROTOCOL } from '../../src/cluster.ts'
import { fromHex } from '../../src/image/hash.ts'
import type { Priority } from '../../src/store/block-source.ts'
import { encodeBlockFrame, FRAME, type Frame } from '../../src/swarm/frames.ts'
import {
  haveFrame,
  helloFrame,
  imageFrame,
  missingFrame,
  openFrame,
  readHave,
  readMissing,
  wantFrame
} from '../../src/swarm/messages.ts'
import type { ReplicaHint, SwarmComponents } from '../../src/swarm/swarm.ts'
import { UNLIMITED_TRAFFIC } from '../../src/swarm/traffic-limits.ts'
import { freePort, Line } from '../tools/line.ts'
import { startOwnTime } from '../tools/own-time.ts'
import { endProcesses } from '../tools/processes.ts'
import {
  hintOf,
  keepImage,
  makeImage,
  obtainedBytes,
  startLibp2p,
  startPeer,
  type TestImage,
  type TestPeer,
  until
} from '../unit/swarm/support.ts'
import { startDouble, WireEnd } from '../unit/swarm/wire-double.ts'

const BLOCKS = 150
/** So long that a busy host is not taken for a long way: all peers share one process here. */
const LINE = { rttMs: 250, downMbit: 80, upMbit: 20 }
/** What a guest reads here: one block after the other, a round trip each. */
const READS = 60

const peers: TestPeer[] = []
const doubles: { stop(): Promise<unknown> }[] = []

async function end(): Promise<void> {
  await Promise.all([...peers.splice(0), ...doubles.splice(0)].map(peer => peer.stop()))
  await endProcesses()
}

afterEach(end)

interface Home {
  image: TestImage
  line: Line
  volunteers: TestPeer[]
  /** Bytes that came over the line so far. */
  crossed(): Promise<number>
}

/** A replica behind a line, and volunteers who know it and each other. */
async function home(options: {
  volunteers: number
  seed: number
  components?: Partial<SwarmComponents>[]
}): Promise<Home> {
  const image = makeImage(options.seed, BLOCKS, { isZero: () => false })
  const replica = await startPeer()
  peers.push(replica)
  await keepImage(replica, image)
  const listenPort = await freePort()
  const toPort = Number(replica.network.getMultiaddrs()[0]!.toString().split('/')[4])
  const line = await Line.open(LINE, [{ listenPort, toPort }])
  const far: ReplicaHint = { peer: replica.id, addresses: [`/ip4/127.0.0.1/tcp/${listenPort}`], complete: true }
  const hints: ReplicaHint[] = []
  const volunteers: TestPeer[] = []
  for (let n = 0; n < options.volunteers; n++) {
    const peer = await startPeer({
      isNear: () => true,
      neighbours: () => hints.filter(hint => hint.peer !== volunteers[n]?.id),
      ...options.components?.[n]
    })
    peers.push(peer)
    volunteers.push(peer)
    hints.push(peer.hint(false))
  }
  // As at home, where those who asked their network have met before anybody boots.
  for (const [n, peer] of volunteers.entries()) {
    for (const other of volunteers.slice(n + 1)) await peer.network.dial(other.network.getMultiaddrs())
  }
  const before = (await line.count()).downBytes
  for (const { swarm } of volunteers) swarm.addReplicas(image.id, [far])
  return { image, line, volunteers, crossed: async () => (await line.count()).downBytes - before }
}

/** Opens the image, begins to use it, and wants all of it. */
async function boot(peer: TestPeer, image: TestImage, priority: Priority): Promise<void> {
  await peer.swarm.openImage(image.id)
  const ahead = await peer.swarm.ahead(image.id)
  try {
    await Promise.all(
      Array.from({ length: image.blocks }, async (_, block) => {
        const obtained = await peer.swarm.want(image.id, block, priority)
        expect(Buffer.compare(obtainedBytes(peer, obtained), image.block(block))).toBe(0)
      })
    )
  } finally {
    ahead.stop()
  }
}

const imageBytes = BLOCKS * BLOCK_SIZE_BYTES
/**
 * Together, of what one fetches alone: 2 or more where nothing is shared. In one process, on a busy machine, greetings take as long as the
 * way to the replica, so the first blocks may come twice; the goal itself, 1.1, is held by test/e2e/neighbours.test.ts.
 */
const SHARED = 1.35
/** Beyond a round trip and what computing costs on a busy machine; below any time-out that a test could mistake it for. */
const LONGEST_WAIT_MS = 4_000

/** Reads block after block, as a guest does that nobody foresees. @returns the longest wait */
async function read(peer: TestPeer, image: TestImage): Promise<number> {
  await peer.swarm.openImage(image.id)
  const ahead = await peer.swarm.ahead(image.id)
  let longestMs = 0
  for (let n = 0; n < READS; n++) {
    const block = (n * 77) % BLOCKS
    const waitedMs = startOwnTime()
    const obtained = await peer.swarm.want(image.id, block, 'demand')
    longestMs = Math.max(longestMs, waitedMs())
    expect(Buffer.compare(obtainedBytes(peer, obtained), image.block(block))).toBe(0)
  }
  ahead.stop()
  return longestMs
}

/** What is late, because the machine was busy, is asked for twice: of so many tries the best counts. */
const TRIES = 3

/** @returns what crossed the line at best, as a share of `bytes`: of the first try that is good enough, or the least of all */
async function crossedAtBest(
  bytes: number,
  options: { volunteers: number; seed: number },
  work: (at: Home) => Promise<unknown>
): Promise<number> {
  let share = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < TRIES && share >= SHARED; attempt++) {
    await end()
    const at = await home(options)
    await work(at)
    share = Math.min(share, (await at.crossed()) / bytes)
  }
  return share
}

describe('volunteers in lockstep behind one line', () => {
  for (const volunteers of [2, 4]) {
    test(`${volunteers} along a profile fetch together hardly more than one`, async () => {
      const options = { volunteers, seed: 90 + volunteers }
      const share = await crossedAtBest(imageBytes, options, at =>
        Promise.all(at.volunteers.map(peer => boot(peer, at.image, 'profile')))
      )
      expect(share).toBeLessThan(SHARED)
    })
  }

  test('two guests that nobody foresees wait for hardly more than one', async () => {
    const share = await crossedAtBest(READS * BLOCK_SIZE_BYTES, { volunteers: 2, seed: 95 }, at =>
      Promise.all(at.volunteers.map(peer => read(peer, at.image)))
    )
    expect(share).toBeLessThan(SHARED)
  })

  test('two who complete the image fetch hardly more than one', async () => {
    const share = await crossedAtBest(imageBytes, { volunteers: 2, seed: 96 }, at =>
      Promise.all(at.volunteers.map(({ swarm }) => swarm.fill(at.image.id)))
    )
    expect(share).toBeLessThan(SHARED)
  })

  test('one is killed in the middle: the other hardly notices', async () => {
    const at = await home({ volunteers: 2, seed: 97 })
    const [survivor, victim] = at.volunteers as [TestPeer, TestPeer]
    const killed = read(victim, at.image).catch(() => undefined)
    const reading = read(survivor, at.image)
    await until(() => survivor.swarm.transfers(at.image.id).blocks > READS / 3, 'a third of it')
    peers.splice(peers.indexOf(victim), 1)
    await victim.stop()
    expect(await reading).toBeLessThan(LONGEST_WAIT_MS)
    await killed
  })

  test('one whose bytes are metered fetches nothing for the other, and is given what the other has', async () => {
    const at = await home({ volunteers: 2, seed: 98 })
    const [first, metered] = at.volunteers as [TestPeer, TestPeer]
    metered.swarm.limit({ ...UNLIMITED_TRAFFIC, quiet: true })
    await Promise.all([read(first, at.image), read(metered, at.image)])
    const { perPeer } = first.swarm.transfers(at.image.id)
    const { perPeer: ofMetered } = metered.swarm.transfers(at.image.id)
    expect(ofMetered[first.id]?.blocks).toBeGreaterThan(READS / 8)
    // What it had for itself, not what it was asked to fetch: both read in the same order.
    expect(perPeer[metered.id]?.blocks ?? 0).toBeLessThan(ofMetered[first.id]!.blocks)
  })
})

describe('a neighbour that', () => {
  /** Says that it uses the image, and does what a test wants when it is asked. */
  async function beside(
    image: TestImage,
    has: boolean,
    onWant: (end: WireEnd, handle: number, blocks: number[]) => void
  ) {
    const double = await startDouble(image, onWant, {
      onFrame: (frame, end) => {
        if (frame.type !== FRAME.open) return false
        const pages = [{ page: 0, bitmap: new Uint8Array(128).fill(has ? 255 : 0) }]
        end.send(
          imageFrame(frame.handle, { root: image.rootBytes, top: image.nodes.at(-1)![1], complete: false, follow: 0 }),
          haveFrame(frame.handle, false, pages, true)
        )
        return true
      }
    })
    doubles.push(double)
    return { double, hint: hintOf(double.network, false) }
  }

  const faults: [string, boolean, (image: TestImage) => (end: WireEnd, handle: number, blocks: number[]) => void][] = [
    ['takes every request and answers none', false, () => () => undefined],
    ['refuses every request', false, () => (end, handle, blocks) => end.send(missingFrame(handle, blocks, 'refused'))],
    [
      'says that all was called off',
      true,
      () => (end, handle, blocks) => end.send(missingFrame(handle, blocks, 'cancelled'))
    ],
    ['claims to have everything and answers nothing', true, () => () => undefined],
    [
      'claims to have everything and has nothing',
      true,
      () => (end, handle, blocks) => end.send(missingFrame(handle, blocks, 'absent'))
    ],
    [
      'gives wrong bytes',
      false,
      image => (end, handle, blocks) => {
        for (const block of blocks) end.send(encodeBlockFrame(handle, block, image.block(block).fill(1, 0, 9), false))
      }
    ]
  ]
  for (const [n, [fault, has, onWant]] of faults.entries()) {
    test(`${fault} costs a guest bounded time`, async () => {
      const hints: ReplicaHint[] = []
      const at = await home({ volunteers: 1, seed: 100 + n, components: [{ neighbours: () => hints }] })
      const [volunteer] = at.volunteers as [TestPeer]
      const { double, hint } = await beside(at.image, has, onWant(at.image))
      hints.push(hint)
      expect(await read(volunteer, at.image)).toBeLessThan(LONGEST_WAIT_MS)
      // It was asked, or the test would show nothing.
      expect(double.ends.flatMap(end => end.ofType(FRAME.want)).length).toBeGreaterThan(0)
    })
  }

  test('gets the image later says so, without being asked again', async () => {
    const image = makeImage(110, 20)
    const late = await startPeer({ isNear: () => true })
    const early = await startPeer({ isNear: () => true, neighbours: () => [late.hint(false)] })
    peers.push(early, late)
    const opening = early.swarm.openImage(image.id, [late.hint(false)])
    await until(() => late.swarm.served().length > 0, 'the first question')
    await new Promise(resolve => setTimeout(resolve, 100))
    await keepImage(late, image)
    await late.swarm.openImage(image.id)
    await opening
    expect(obtainedBytes(early, await early.swarm.want(image.id, 0, 'demand'))).toEqual(new Uint8Array(image.block(0)))
  })
})

test('an image that is missing twice ends the connection', async () => {
  const image = makeImage(111, 20)
  const nothing = { root: new Uint8Array(0), top: new Uint8Array(0), complete: false, follow: 0 }
  const double = await startDouble(image, () => undefined, {
    onFrame: (frame, end) => {
      if (frame.type === FRAME.open) end.send(imageFrame(frame.handle, nothing), imageFrame(frame.handle, nothing))
      return frame.type === FRAME.open
    }
  })
  doubles.push(double)
  const hint = hintOf(double.network, false)
  const peer = await startPeer({ isNear: () => true, neighbours: () => [hint] })
  peers.push(peer)
  await expect(peer.swarm.openImage(image.id, [], { timeoutMs: 2000 })).rejects.toMatchObject({ code: 'NO_REPLICA' })
  expect(double.ends[0]!.closed).toBe(true)
})

describe('whoever asks on behalf', () => {
  /** Opens the image at a peer who has nothing of it but its index, and asks for a block. */
  async function answered(options: { isNear: boolean; isUsed: boolean }): Promise<Frame> {
    const image = makeImage(120, 20)
    const peer = await startPeer({ isNear: () => options.isNear })
    peers.push(peer)
    await keepImage(peer, image, () => false)
    await peer.swarm.openImage(image.id)
    if (options.isUsed) await peer.swarm.ahead(image.id)
    const network = await startLibp2p(false)
    doubles.push({ stop: async () => network.stop() })
    const connection = await network.dial(peer.network.getMultiaddrs())
    const end = new WireEnd(await connection.newStream(PROTOCOL.blocks), 'server')
    end.send(helloFrame('test', 0), openFrame(1, fromHex(image.id), 0))
    const have = await end.next(FRAME.have)
    expect(readHave(have).helps).toBe(options.isNear && options.isUsed)
    end.send(wantFrame(1, [0], 0, false, true), wantFrame(1, [1], 0, false))
    return await end.next(FRAME.missing)
  }

  test('is refused where nobody uses the image', async () => {
    expect(readMissing(await answered({ isNear: true, isUsed: false }))).toEqual({ blocks: [0], reason: 'refused' })
  })

  test('is refused by who is not near', async () => {
    expect(readMissing(await answered({ isNear: false, isUsed: true }))).toEqual({ blocks: [0], reason: 'refused' })
  })

  test('waits where it is near and the image is used; what was not asked for on behalf is absent', async () => {
    expect(readMissing(await answered({ isNear: true, isUsed: true }))).toEqual({ blocks: [1], reason: 'absent' })
  })
})
