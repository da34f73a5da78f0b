import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { openLatest, sealLatest } from '../../../src/image/release.ts'
import { chooseRelease } from '../../../src/image/rollout.ts'
import { DELEGATION_LIFETIME_MS, PublisherKeys } from '../../../src/release/publisher-keys.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { describeWithTools } from '../../tools/need.ts'
import { waitUntil } from '../../tools/wait.ts'
import { ManualClock } from './support/clock.ts'
import { plainImageId, writeImage } from './support/images.ts'
import { MemoryDirectory, openPeer, type TestPeer, WEEK_MS } from './support/store.ts'

const run = promisify(execFile)
const DAY_MS = WEEK_MS / 7

let folder: string
let directory: MemoryDirectory
let clock: ManualClock
let peer: TestPeer
const peers: TestPeer[] = []

beforeEach(async () => {
  folder = await temporaryFolder()
  directory = new MemoryDirectory()
  clock = new ManualClock()
  peer = await open('home')
  await writeImage(path('v1.raw'), [1, 2, 0, 3])
  await writeImage(path('v2.raw'), [1, 2, 4, 3])
})

afterEach(async () => {
  for (const open of peers.splice(0)) await open.close()
  await removeFolders()
})

const path = (name: string) => join(folder, name)

async function open(home: string, changes: Parameters<typeof openPeer>[3] = {}): Promise<TestPeer> {
  await mkdir(path(home), { recursive: true })
  const opened = await openPeer(path(home), directory, clock, changes)
  peers.push(opened)
  return opened
}

async function restart(home: string, changes: Parameters<typeof openPeer>[3] = {}): Promise<TestPeer> {
  await peers.splice(peers.indexOf(peer), 1)[0]!.close()
  peer = await open(home, changes)
  return peer
}

interface More {
  channel?: string
  rollout?: number
  labels?: Record<string, string>
  record?: boolean
  webSeeds?: string[]
}
const publish = (file: string, version: string, more: More = {}, by = peer) =>
  by.publisher.publish({ path: path(file), name: 'grid', version, ...more })
const grid = (by = peer) => `${by.keys.publisher}/grid`
const record = () => directory.records.get(grid())!

test('a release: stored, signed, told, announced', async () => {
  const answer = await publish('v1.raw', 'v1')
  expect(answer).toMatchObject({
    appliance: grid(),
    version: 'v1',
    image: await plainImageId(path('v1.raw')),
    size: 4 * 65536,
    blocks: 4,
    zeroBlocks: 1,
    newBlocks: 3,
    channels: ['stable'],
    sequence: 1,
    unchanged: false,
    announced: { asked: 3, kept: 2 }
  })
  expect(answer.seconds).toBeGreaterThanOrEqual(0)
  expect(record()).toMatchObject({
    sequence: 1,
    issuedMs: clock.now(),
    expiresMs: clock.now() + WEEK_MS,
    channels: [{ name: 'stable', version: 'v1', rolloutPercent: 100 }],
    releases: [{ version: 'v1', image: answer.image, sizeBytes: 4 * 65536, blocks: 4, zeroBlocks: 1, labels: {} }]
  })
  expect(record().releases[0]).not.toHaveProperty('parent')
  await waitUntil('the announcement', () => directory.announced.length > 0)
  expect(directory.announced).toEqual([{ image: answer.image, appliance: grid(), complete: true }])
  // And known to this very peer.
  expect(peer.memory.get(grid())!.latest.digest).toBe(record().digest)
})

test('a second version has the first as its parent, and stores only what is new', async () => {
  await publish('v1.raw', 'v1')
  const answer = await publish('v2.raw', 'v2', { labels: { os: 'debian' } })
  expect(answer).toMatchObject({ newBlocks: 1, sequence: 2 })
  expect(record().releases).toMatchObject([
    { version: 'v1' },
    { version: 'v2', parent: 'v1', labels: { os: 'debian' } }
  ])
  expect(record().channels).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 100 }])
})

test('a rollout keeps the version before for the others', async () => {
  await publish('v1.raw', 'v1')
  await publish('v2.raw', 'v2', { rollout: 30 })
  expect(record().channels).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 30, previous: 'v1' }])
  const drawn = Array.from({ length: 300 }, (_, index) => chooseRelease(record(), {}, `peer ${index}`).version)
  const share = drawn.filter(version => version === 'v2').length / drawn.length
  expect(share).toBeGreaterThan(0.2)
  expect(share).toBeLessThan(0.4)
  // More of it by publishing it again.
  expect(await publish('v2.raw', 'v2', { rollout: 100 })).toMatchObject({ unchanged: false, newBlocks: 0 })
  expect(record().channels).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 100 }])
})

test('the same version with the same content is no change; a channel can be added to it', async () => {
  const first = await publish('v1.raw', 'v1')
  await publish('v2.raw', 'v2')
  const again = await publish('v1.raw', 'v1')
  expect(again).toMatchObject({ image: first.image, newBlocks: 0, unchanged: true, sequence: 2, channels: [] })
  // Nor did it move the default channel back.
  expect(record().channels).toMatchObject([{ name: 'stable', version: 'v2' }])
  const old = await publish('v1.raw', 'v1', { channel: 'old' })
  expect(old).toMatchObject({ unchanged: false, sequence: 3, channels: ['old'] })
  expect(await publish('v1.raw', 'v1', { channel: 'old' })).toMatchObject({ unchanged: true, sequence: 3 })
  expect(record().releases).toHaveLength(2)
})

test('the release names its web seeds; one that exists can get others, and keeps them', async () => {
  const webSeeds = ['https://example.org/images/']
  const seeds = () => record().releases.map(release => release.webSeeds)
  await publish('v1.raw', 'v1')
  expect(await publish('v1.raw', 'v1', { webSeeds })).toMatchObject({ unchanged: false })
  expect(seeds()).toEqual([webSeeds])
  expect(await publish('v1.raw', 'v1')).toMatchObject({ unchanged: true })
  expect(await publish('v1.raw', 'v1', { webSeeds })).toMatchObject({ unchanged: true })
  expect(seeds()).toEqual([webSeeds])
  await expect(publish('v1.raw', 'v1', { webSeeds: ['ftp://x/'] })).rejects.toMatchObject({
    code: 'WEB_SEED_URL_INVALID'
  })
  expect((await openLatest(record().bytes)).releases[0]!.webSeeds).toEqual(webSeeds)
})

describe('with --record', () => {
  const hash = 'ab'.repeat(32)
  const recorded: string[] = []
  const recording = (says: () => Promise<string>) => ({
    components: {
      recordBoot: async (image: string) => {
        recorded.push(image)
        return says()
      }
    }
  })

  test('the release names the profile of its boot; one that exists can get it, and keeps it', async () => {
    await publish('v1.raw', 'v1')
    peer = await restart(
      'home',
      recording(async () => hash)
    )
    const answer = await publish('v2.raw', 'v2', { record: true })
    expect(answer.profile).toBe(true)
    expect(recorded).toEqual([answer.image])
    expect(record().releases.map(({ profile }) => profile)).toEqual([undefined, hash])
    expect(await publish('v1.raw', 'v1', { record: true })).toMatchObject({ unchanged: false, profile: true })
    expect(record().releases.map(({ profile }) => profile)).toEqual([hash, hash])
    expect(record().channels).toMatchObject([{ name: 'stable', version: 'v2' }])
    expect(await publish('v1.raw', 'v1')).toMatchObject({ unchanged: true, profile: true })
    // It is in what is signed.
    expect((await openLatest(record().bytes)).releases[0]!.profile).toBe(hash)
  })

  test('nothing is released when the boot fails', async () => {
    peer = await restart(
      'home',
      recording(() => Promise.reject(new RowanError('BOOT_FAILED', 'no boot')))
    )
    await expect(publish('v1.raw', 'v1', { record: true })).rejects.toMatchObject({ code: 'BOOT_FAILED' })
    expect(directory.records.size).toBe(0)
    expect(await publish('v1.raw', 'v1')).toMatchObject({ profile: false, sequence: 1 })
  })
})

test('a version that exists with other content is refused', async () => {
  await publish('v1.raw', 'v1')
  await expect(publish('v2.raw', 'v1')).rejects.toMatchObject({
    code: 'RELEASE_EXISTS',
    message: expect.stringContaining('grid@v1')
  })
  await writeImage(path('longer.raw'), [1, 2, 0, 3, 4])
  await expect(publish('longer.raw', 'v1')).rejects.toMatchObject({ code: 'RELEASE_EXISTS' })
  expect(record().sequence).toBe(1)
})

test.each([
  [{ name: 'Grid' }, 'NAME_INVALID'],
  [{ name: '../grid' }, 'NAME_INVALID'],
  [{ version: '' }, 'NAME_INVALID'],
  [{ version: 'v'.repeat(65) }, 'NAME_INVALID'],
  [{ channel: 'a b' }, 'NAME_INVALID'],
  [{ rollout: 0 }, 'CHANNEL_INVALID'],
  [{ rollout: 50 }, 'CHANNEL_INVALID'],
  [{ path: '/nowhere/at.all' }, 'IMAGE_NOT_FOUND'],
  [{ labels: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`l${index}`, ''])) }, 'LIMIT_EXCEEDED'],
  [{ labels: { [`${'ü'.repeat(128)}x`]: '' } }, 'LIMIT_EXCEEDED'],
  // Told before anything is read: there is no such image.
  [{ labels: { note: 'x'.repeat(257) }, path: '/nowhere/at.all' }, 'LIMIT_EXCEEDED']
])('%o is refused with %s, and nothing is published', async (change, code) => {
  const request = { path: path('v1.raw'), name: 'grid', version: 'v1', ...change }
  await expect(peer.publisher.publish(request)).rejects.toMatchObject({ code })
  expect(peer.publisher.own()).toEqual([])
  expect(directory.puts).toBe(0)
})

test('without any peer it is published all the same, and told later', async () => {
  directory.isReachable = false
  const answer = await publish('v1.raw', 'v1')
  expect(answer.announced).toEqual({ asked: 0, kept: 0 })
  expect(peer.log.warnings.join()).toContain('put again later')
  directory.isReachable = true
  clock.advance(DAY_MS)
  expect(await peer.publisher.renewDue(clock.now())).toBe(1)
  expect(record()).toMatchObject({ sequence: 2, releases: [{ version: 'v1' }] })
})

test('what was released is there after a restart, and goes on from there', async () => {
  const { image } = await publish('v1.raw', 'v1')
  const before = peer.publisher.own()
  directory.isReachable = false
  await restart('home')
  expect(peer.publisher.own().map(({ digest }) => digest)).toEqual(before.map(({ digest }) => digest))
  expect((await peer.images.open(image))!.complete).toBe(true)
  expect(await publish('v2.raw', 'v2')).toMatchObject({ sequence: 2, newBlocks: 1 })
})

test('a start announces what was released', async () => {
  const first = await publish('v1.raw', 'v1')
  const second = await publish('v2.raw', 'v2')
  directory.announced.length = 0
  await restart('home')
  peer.publisher.start()
  await waitUntil('two announcements', () => directory.announced.length === 2)
  expect(directory.announced).toEqual([
    { image: first.image, appliance: undefined, complete: true },
    { image: second.image, appliance: grid(), complete: true }
  ])
})

describe('one publisher on two hosts', () => {
  let other: TestPeer

  /** Another host with the root key, and so with a release key of its own; or with a copy of all keys. */
  async function openOther(how: 'imported' | 'copied'): Promise<void> {
    await mkdir(path('other'))
    clock.advance(1000)
    if (how === 'copied') await cp(path('home/keys'), path('other/keys'), { recursive: true })
    else {
      await peer.keys.exportRoot(path('root-copy'))
      await PublisherKeys.import(path('other/keys'), path('root-copy'), { clock, log: peer.log })
    }
    other = await open('other')
  }

  test.each(['imported', 'copied'] as const)(
    'with keys %s the second goes on from what the directory has',
    async how => {
      await openOther(how)
      await publish('v1.raw', 'v1')
      // A delegation of its own counts from one.
      expect(await publish('v2.raw', 'v2', {}, other)).toMatchObject({ sequence: how === 'copied' ? 2 : 1 })
      expect(record().releases.map(({ version }) => version)).toEqual(['v1', 'v2'])
      await expect(publish('v2.raw', 'v1', {}, other)).rejects.toMatchObject({ code: 'RELEASE_EXISTS' })
    }
  )

  test('a renewal takes over what the other host has released, and no number comes twice', async () => {
    await openOther('copied')
    await publish('v1.raw', 'v1')
    await publish('v2.raw', 'v2', {}, other)
    clock.advance(DAY_MS)
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record()).toMatchObject({ sequence: 3, releases: [{ version: 'v1' }, { version: 'v2' }] })
    expect(peer.publisher.own()).toMatchObject([{ sequence: 3 }])
    expect(peer.log.warnings.join()).toContain('another host has signed for this publisher')
    // The other host finds that there is nothing to do but to follow.
    expect(await other.publisher.renewDue(clock.now())).toBe(1)
    expect(other.publisher.own().map(({ digest }) => digest)).toEqual([record().digest])
    expect(record().sequence).toBe(3)
  })

  test('a release key that was replaced on the other host signs no more, until it is rotated here', async () => {
    await openOther('imported')
    await publish('v1.raw', 'v1')
    await publish('v2.raw', 'v2', {}, other)
    clock.advance(DAY_MS)
    expect(await peer.publisher.renewDue(clock.now())).toBe(0)
    expect(peer.log.warnings.join()).toContain('SIGNATURE_INVALID')
    await expect(publish('v2.raw', 'v3')).rejects.toMatchObject({
      code: 'SIGNATURE_INVALID',
      message: expect.stringContaining('rowan key rotate')
    })
    expect(peer.publisher.own()).toMatchObject([{ sequence: 1 }])
    await peer.keys.rotate()
    expect(await publish('v2.raw', 'v3')).toMatchObject({ sequence: 1 })
    expect(record().releases.map(({ version }) => version)).toEqual(['v1', 'v2', 'v3'])
  })

  test('a release key that was replaced on a host whose clock is ahead can be replaced here too', async () => {
    clock.advance(365 * DAY_MS)
    await openOther('imported')
    await publish('v1.raw', 'v1', {}, other)
    clock.advance(-366 * DAY_MS)
    await expect(publish('v2.raw', 'v2')).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
    await peer.keys.rotate(peer.memory.delegationOf(peer.keys.publisher))
    expect(await publish('v2.raw', 'v2')).toMatchObject({ sequence: 1 })
    expect(record().releases.map(({ version }) => version)).toEqual(['v1', 'v2'])
  })

  test('two records with one number, made out of each other’s sight, end with the next one', async () => {
    await openOther('copied')
    await publish('v1.raw', 'v1')
    directory.isReachable = false
    await publish('v2.raw', 'v2', {}, other)
    directory.isReachable = true
    expect(other.publisher.own()).toMatchObject([{ sequence: 1 }])
    await expect(other.memory.accept(record(), clock.now())).rejects.toMatchObject({ code: 'LATEST_CONFLICT' })
    expect(await publish('v2.raw', 'v3', {}, other)).toMatchObject({ sequence: 2 })
  })
})

describe('renewal', () => {
  test('after a day, or a third of the time to live, with a new number and a new expiry', async () => {
    await publish('v1.raw', 'v1')
    clock.advance(DAY_MS - 1)
    expect(await peer.publisher.renewDue(clock.now())).toBe(0)
    clock.advance(1)
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record()).toMatchObject({ sequence: 2, expiresMs: clock.now() + WEEK_MS })
    expect(await peer.publisher.renewDue(clock.now())).toBe(0)
    await restart('home', { settings: { latestTtlMs: 3000 } })
    clock.advance(1000)
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record()).toMatchObject({ sequence: 3, expiresMs: clock.now() + 3000 })
  })

  test('goes on by itself while the publisher runs, and at once after a long stop', async () => {
    await publish('v1.raw', 'v1')
    await restart('home')
    clock.advance(3 * WEEK_MS)
    peer.publisher.start()
    await waitUntil('the first renewal', () => record().sequence === 2)
    for (let day = 0; day < 8 && record().sequence < 3; day++) {
      await waitUntil('the next check', () => clock.waiting > 0)
      clock.advance(DAY_MS / 4)
      await new Promise(resolve => setImmediate(resolve))
    }
    await waitUntil('the second renewal', () => record().sequence === 3)
    await peer.publisher.stop()
    await waitUntil('no timers', () => clock.waiting === 0)
  })

  test('follows a new release key at once', async () => {
    await publish('v1.raw', 'v1')
    await peer.keys.rotate()
    const before = record().delegationSequence
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record().sequence).toBe(1)
    // Whoever has seen it refuses what the old key signed.
    expect(record().delegationSequence).toBeGreaterThan(before)
  })

  test('a thief who signed the last number there is, and other releases, is shut out by a new release key', async () => {
    await publish('v1.raw', 'v1')
    const { releaseKey, delegation } = await peer.keys.signing()
    const theft = { ...record(), delegation, sequence: Number.MAX_SAFE_INTEGER }
    theft.releases = [{ ...theft.releases[0]!, image: 'e'.repeat(64) }]
    directory.records.set(grid(), await openLatest(await sealLatest(theft, releaseKey)))
    await expect(publish('v2.raw', 'v2')).rejects.toMatchObject({
      code: 'RECORD_INVALID',
      message: expect.stringContaining('rowan key rotate')
    })
    await peer.keys.rotate()
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    // Signed anew is what was released here.
    expect(record()).toMatchObject({ sequence: 1, releases: [{ image: await plainImageId(path('v1.raw')) }] })
    expect(peer.memory.get(grid())?.latest.digest).toBe(record().digest)
    expect(await publish('v2.raw', 'v2')).toMatchObject({ sequence: 2 })
  })

  test('a record that was signed while the clock was ahead is replaced once it is right', async () => {
    clock.advance(10 * DAY_MS)
    await publish('v1.raw', 'v1')
    clock.advance(-10 * DAY_MS)
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record()).toMatchObject({ sequence: 2, issuedMs: clock.now(), expiresMs: clock.now() + WEEK_MS })
    expect(await peer.publisher.renewDue(clock.now())).toBe(0)
  })

  test('never outlives the delegation, and ends with it', async () => {
    await publish('v1.raw', 'v1')
    await rm(path('home/keys/root.key'))
    await restart('home')
    clock.advance(DELEGATION_LIFETIME_MS - DAY_MS)
    expect(await peer.publisher.renewDue(clock.now())).toBe(1)
    expect(record().expiresMs).toBe(clock.now() + DAY_MS)
    clock.advance(DAY_MS)
    expect(await peer.publisher.renewDue(clock.now())).toBe(0)
    expect(peer.log.warnings.join()).toContain('DELEGATION_EXPIRED')
    await expect(publish('v2.raw', 'v2')).rejects.toMatchObject({ code: 'DELEGATION_EXPIRED' })
    expect(peer.pool.usage.blocks).toBe(3) // refused before any work was done
  })
})

describe('what goes wrong', () => {
  test.each([
    ['shrinks', (file: string) => truncate(file, 65536)],
    ['is written to', (file: string) => utimes(file, 1, 1)]
  ])('a file that %s while it is read: nothing is published, the store works on', async (_what, change) => {
    await writeImage(
      path('big.raw'),
      Array.from({ length: 400 }, (_, index) => index + 1)
    )
    let changing: Promise<void> | undefined
    const publishing = peer.publisher.publish({
      path: path('big.raw'),
      name: 'grid',
      version: 'v1',
      onProgress: ({ phase }) => {
        if (phase === 'hash') changing ??= change(path('big.raw'))
      }
    })
    await expect(publishing).rejects.toMatchObject({ code: 'IMAGE_CHANGED' })
    await changing
    expect(peer.publisher.own()).toEqual([])
    expect(await publish('v1.raw', 'v1')).toMatchObject({ sequence: 1 })
  })

  test('being called off', async () => {
    const controller = new AbortController()
    const request = { path: path('v1.raw'), name: 'grid', version: 'v1', signal: controller.signal }
    const onProgress = () => controller.abort()
    await expect(peer.publisher.publish({ ...request, onProgress })).rejects.toMatchObject({ code: 'ABORTED' })
    expect(peer.publisher.own()).toEqual([])
  })

  test('several at a time are done one after the other, and none is lost', async () => {
    const versions = Array.from({ length: 8 }, (_, index) => `v${index}`)
    const answers = await Promise.all(
      versions.map((version, index) => publish(index % 2 === 0 ? 'v1.raw' : 'v2.raw', version))
    )
    expect(answers.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(record().releases.map(({ version }) => version)).toEqual(versions)
    const failing = publish('v1.raw', 'v1', { rollout: -1 })
    const next = publish('v1.raw', 'v9')
    await expect(failing).rejects.toMatchObject({ code: 'CHANNEL_INVALID' })
    expect(await next).toMatchObject({ sequence: 9 })
  })

  test('two that publish one version with different content: the second is refused', async () => {
    const outcomes = await Promise.allSettled([publish('v1.raw', 'v1'), publish('v2.raw', 'v1')])
    expect(outcomes).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: { code: 'RELEASE_EXISTS' } }
    ])
  })

  test.skipIf(process.getuid!() !== 0)('a disk that is full in the middle', async () => {
    await mkdir(path('small'))
    await run('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'none', path('small')])
    let small: TestPeer | undefined
    try {
      small = await openPeer(path('small'), directory, clock)
      await writeImage(
        path('big.raw'),
        Array.from({ length: 400 }, (_, index) => index + 1)
      )
      await expect(publish('big.raw', 'v1', {}, small)).rejects.toMatchObject({ code: 'DISK_FULL' })
      expect(small.publisher.own()).toEqual([])
      // The store is usable: a small image still fits, and is whole.
      await run('mount', ['-o', 'remount,size=64m', path('small')])
      const { image } = await publish('v1.raw', 'v1', {}, small)
      expect((await small.images.open(image))!.complete).toBe(true)
      expect(await publish('big.raw', 'v2', {}, small)).toMatchObject({ blocks: 400 })
    } finally {
      await small?.close()
      await run('umount', [path('small')])
    }
  })

  test('a record that cannot be written down is not issued', async () => {
    await publish('v1.raw', 'v1')
    const { memory } = peer
    await restart('home', {
      components: {
        memory: {
          get: appliance => memory.get(appliance),
          state: appliance => memory.state(appliance),
          accept: async () => {
            throw new Error('no room')
          }
        }
      }
    })
    await expect(publish('v2.raw', 'v2')).rejects.toMatchObject({ message: expect.stringContaining('no room') })
    expect(peer.publisher.own()).toMatchObject([{ sequence: 1 }])
    await restart('home')
    expect(peer.publisher.own()).toMatchObject([{ sequence: 1 }])
  })

  test('leftovers of a conversion are gone after the next start', async () => {
    await writeFile(path('home/tmp/publish-01234567-89ab-cdef-0123-456789abcdef.raw'), 'x')
    await restart('home')
    expect(await readdir(path('home/tmp'))).toEqual([])
  })
})

describeWithTools('qcow2', ['qemu-img'], () => {
  test('is the same image as the raw disk in it', async () => {
    const raw = await publish('v1.raw', 'v1')
    await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', path('v1.raw'), path('v1.qcow2')])
    const phases = new Set<string>()
    const answer = await peer.publisher.publish({
      path: path('v1.qcow2'),
      name: 'grid',
      version: 'v1q',
      onProgress: ({ phase }) => phases.add(phase)
    })
    expect(answer).toMatchObject({ image: raw.image, newBlocks: 0 })
    expect([...phases]).toEqual(['convert', 'hash', 'announce'])
    expect(await readdir(path('home/tmp'))).toEqual([])
  })
})
