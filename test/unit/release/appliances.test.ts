import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import type { ReplicaRecord } from '../../../src/directory/replica-record.ts'
import { RowanError } from '../../../src/errors.ts'
import { Appliances, type FoundLatest, MAX_ALIASES } from '../../../src/release/appliances.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { ManualClock } from './support/clock.ts'
import { MemoryLog } from './support/log.ts'
import { imageOf, TestPublisher } from './support/records.ts'

let folder: string
let catalog: Catalog
let memory: ApplianceMemory
let clock: ManualClock
let log: MemoryLog
let self: TestPublisher
let other: TestPublisher
let appliances: Appliances
/** What the directory answers next, and what it was asked. */
let answer: Partial<FoundLatest> | Error
let asked: string[]

beforeEach(async () => {
  folder = await temporaryFolder()
  catalog = await Catalog.open(join(folder, 'catalog'))
  log = new MemoryLog()
  memory = await ApplianceMemory.open({ catalog, log })
  clock = new ManualClock()
  self = await TestPublisher.make()
  other = await TestPublisher.make()
  answer = {}
  asked = []
  appliances = await openAppliances()
})

afterEach(async () => {
  await catalog.close()
  await removeFolders()
})

function openAppliances(): Promise<Appliances> {
  const findLatest = async (appliance: string): Promise<FoundLatest> => {
    asked.push(appliance)
    if (answer instanceof Error) throw answer
    if (answer.latest !== undefined) await memory.accept(answer.latest, clock.now())
    return { replicas: [], asked: [], answered: 0, elapsedMs: 0, refused: [], ...answer }
  }
  return Appliances.open({
    catalog,
    memory,
    directory: { findLatest },
    publisherId: () => self.id,
    peerId: 'this peer',
    clock,
    log
  })
}

const grid = (publisher: TestPublisher) => `${publisher.id}/grid`
const code = (name: string, ...says: string[]) => ({
  code: name,
  message: expect.stringMatching(new RegExp(says.map(text => `(?=.*${text})`).join('')))
})

describe('names', () => {
  test('in full, an alias, one of one’s own', async () => {
    await appliances.follow(grid(other), 'theirs')
    expect(appliances.resolveName({ publisher: other.id, name: 'x' })).toBe(`${other.id}/x`)
    expect(appliances.resolveName({ name: 'theirs' })).toBe(grid(other))
    expect(appliances.resolveName({ name: 'grid' })).toBe(grid(self))
  })

  test('an appliance of one’s own goes before an alias of its name', async () => {
    await appliances.follow(grid(other), 'grid')
    expect(appliances.resolveName({ name: 'grid' })).toBe(grid(other))
    await memory.accept(await self.latest(1, ['v1']), clock.now())
    expect(appliances.resolveName({ name: 'grid' })).toBe(grid(self))
  })

  test('an alias stays after a restart, and stands for one appliance', async () => {
    expect(await appliances.follow(grid(other), 'theirs')).toEqual({ alias: 'theirs', appliance: grid(other) })
    appliances = await openAppliances()
    expect([...appliances.aliases()]).toEqual([['theirs', grid(other)]])
    await appliances.follow(grid(other), 'theirs')
    await expect(appliances.follow(`${other.id}/another`, 'theirs')).rejects.toMatchObject(
      code('ALIAS_TAKEN', 'theirs', grid(other))
    )
    await memory.accept(await self.latest(1, ['v1']), clock.now())
    await expect(appliances.follow(grid(other), 'grid')).rejects.toMatchObject(code('ALIAS_TAKEN', grid(self)))
    await appliances.follow(grid(self), 'grid')
  })

  test.each([
    ['grid', 'a', 'APPLIANCE_REF_INVALID'],
    ['nonsense/grid', 'a', 'APPLIANCE_REF_INVALID'],
    ['12D3KooWJv7qoB9f97YrdNx1M4U6kb5/grid', 'a', 'APPLIANCE_REF_INVALID'],
    ['QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/grid', 'a', 'APPLIANCE_REF_INVALID'],
    ['OTHER/grid@v1', 'a', 'APPLIANCE_REF_INVALID'],
    ['OTHER/grid', 'A', 'NAME_INVALID']
  ])('following %s as %s is refused with %s', async (appliance, alias, expected) => {
    const text = appliance.replace('OTHER', other.id)
    await expect(appliances.follow(text, alias)).rejects.toMatchObject({ code: expected })
    expect(appliances.aliases().size).toBe(0)
  })

  test('of two who give one name at the same moment, one hears that it is taken', async () => {
    const both = await Promise.allSettled([
      appliances.follow(grid(other), 'theirs'),
      appliances.follow(`${other.id}/another`, 'theirs')
    ])
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    expect([...appliances.aliases()]).toEqual([['theirs', grid(other)]])
  })

  test('there is a limit to aliases', async () => {
    for (let index = 0; index < MAX_ALIASES; index++) await appliances.follow(grid(other), `a${index}`)
    await expect(appliances.follow(grid(other), 'more')).rejects.toMatchObject(code('LIMIT_EXCEEDED', '1024'))
  })
})

describe('resolving', () => {
  test('asks the directory, and passes on the replicas of the very image', async () => {
    const replica = (image: string): ReplicaRecord => ({
      image,
      peer: 'p',
      addresses: [],
      complete: true,
      sequence: 1,
      expiresMs: 1
    })
    answer = {
      latest: await other.latest(3, ['v1', 'v2']),
      replicas: [replica(imageOf('v1')), replica(imageOf('v2'))]
    }
    const found = await appliances.resolve(grid(other))
    expect(found).toMatchObject({ appliance: grid(other), release: { version: 'v2', image: imageOf('v2') } })
    expect(found.replicas.map(({ image }) => image)).toEqual([imageOf('v2')])
    expect((await appliances.resolve(`${grid(other)}@v1`)).release.version).toBe('v1')
    expect((await appliances.resolve(`${grid(other)}:stable`)).release.version).toBe('v2')
    expect(asked).toHaveLength(3)
  })

  test('an own appliance needs no network, however old its record is', async () => {
    await memory.accept(await self.latest(1, ['v1', 'v2'], { expiresMs: clock.now() - 1 }), clock.now())
    answer = new Error('not to be asked')
    expect((await appliances.resolve('grid@v1')).release.version).toBe('v1')
    expect((await appliances.resolve('grid')).release.version).toBe('v2')
    expect(asked).toEqual([])
  })

  test('an own version that is not known here may have been released on another host', async () => {
    await memory.accept(await self.latest(1, ['v1']), clock.now())
    answer = { latest: await self.latest(2, ['v1', 'v2']) }
    expect((await appliances.resolve('grid@v2')).release.version).toBe('v2')
    expect(asked).toEqual([grid(self)])
  })

  test('a version or channel that does not exist: those that do are named', async () => {
    answer = { latest: await other.latest(3, ['v1', 'v2']) }
    await expect(appliances.resolve(`${grid(other)}@v7`)).rejects.toMatchObject(code('VERSION_UNKNOWN', 'v7', 'v1, v2'))
    await expect(appliances.resolve(`${grid(other)}:beta`)).rejects.toMatchObject(
      code('VERSION_UNKNOWN', 'beta', 'stable')
    )
  })

  test('a rollout decides by this peer’s id, the same each time', async () => {
    const channels = [{ name: 'stable', version: 'v2', rolloutPercent: 50, previous: 'v1' }]
    answer = { latest: await other.latest(3, ['v1', 'v2'], { channels }) }
    const first = await appliances.resolve(grid(other))
    for (let again = 0; again < 5; again++) {
      expect((await appliances.resolve(grid(other))).release.version).toBe(first.release.version)
    }
  })

  test('an appliance that nobody knows: how long it looked, and whom it asked', async () => {
    answer = { asked: ['12D3A', '12D3B', '12D3C', '12D3D', '12D3E', '12D3F'], answered: 4, elapsedMs: 2340 }
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(
      code('APPLIANCE_UNKNOWN', grid(other), '6 peers', '12D3A, 12D3B', '2 more', '2\\.3 s', '4 answered')
    )
    answer = { elapsedMs: 100 }
    await expect(appliances.resolve('grid')).rejects.toMatchObject(
      code('APPLIANCE_UNKNOWN', grid(self), '0\\.1 s', 'no other peer', 'alias')
    )
  })

  test('when nobody answers, the remembered record serves until it expires', async () => {
    await memory.accept(await other.latest(3, ['v1'], { expiresMs: clock.now() + 1000 }), clock.now())
    for (const nothing of [{}, new RowanError('NO_PEERS', 'nobody')]) {
      answer = nothing
      expect((await appliances.resolve(grid(other))).release.version).toBe('v1')
    }
    clock.advance(1000)
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('LATEST_EXPIRED', '2026-11-21'))
    expect((await appliances.resolve(grid(other), { allowExpired: true })).release.version).toBe('v1')
  })

  test('an error of the search is passed on when nothing is remembered', async () => {
    answer = new RowanError('NO_PEERS', 'nobody is there')
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('NO_PEERS'))
    answer = new Error('strange')
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('APPLIANCE_UNKNOWN', 'strange'))
  })

  test('an older record that is offered does not take the place of the newer one', async () => {
    await memory.accept(await other.latest(3, ['v1', 'v2'], { expiresMs: clock.now() + 1000 }), clock.now())
    answer = { refused: [{ peer: '12D3A', code: 'LATEST_ROLLBACK' }], asked: ['12D3A'], answered: 1 }
    expect((await appliances.resolve(grid(other))).release.version).toBe('v2')
    clock.advance(1000)
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('LATEST_ROLLBACK', '12D3A'))
  })

  test('what must not be used is not, and it is said why', async () => {
    answer = { refused: [{ peer: '12D3A', code: 'SIGNATURE_INVALID' }], asked: ['12D3A'], answered: 1 }
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('SIGNATURE_INVALID', '12D3A'))
    await memory.accept(await other.latest(3, ['v1']), clock.now())
    await memory.accept(await other.latest(3, ['v2']), clock.now()).catch(() => {})
    answer = {}
    await expect(appliances.resolve(grid(other))).rejects.toMatchObject(code('LATEST_CONFLICT', 'number 3'))
  })

  test('being called off', async () => {
    answer = new Error('aborted')
    await expect(appliances.resolve(grid(other), { signal: AbortSignal.abort() })).rejects.toMatchObject(
      code('ABORTED')
    )
  })

  test.each(['', 'a@b:c', 'A', 'x/y/z', 'grid@'])('%j is no appliance', async text => {
    await expect(appliances.resolve(text)).rejects.toMatchObject(code('APPLIANCE_REF_INVALID'))
  })
})
