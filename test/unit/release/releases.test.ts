import { beforeAll, expect, test } from 'vitest'
import type { ReplicaRecord } from '../../../src/directory/replica-record.ts'
import type { VerifiedLatest } from '../../../src/image/release.ts'
import { listReleases } from '../../../src/release/releases.ts'
import { MemoryLog } from './support/log.ts'
import { imageOf, TestPublisher } from './support/records.ts'

let latest: VerifiedLatest
const log = new MemoryLog()
const clock = { now: () => latest.expiresMs - 1 }

beforeAll(async () => {
  const publisher = await TestPublisher.make()
  latest = await publisher.latest(3, ['v1', 'v2', 'v3'], {
    channels: [
      { name: 'stable', version: 'v2', rolloutPercent: 30, previous: 'v1' },
      { name: 'testing', version: 'v2', rolloutPercent: 100 }
    ]
  })
})

const replica = (image: string, peer: string, complete: boolean): ReplicaRecord => ({
  image,
  peer,
  complete,
  addresses: [],
  sequence: 1,
  expiresMs: 1
})

const nobody = () => undefined

test('this peer counts as a replica too', async () => {
  const ownReplica = (image: string) => (image === imageOf('v3') ? { complete: false } : undefined)
  const findReplicas = async (image: string) => [replica(image, 'a', true)]
  const countSharers = async () => ({ count: 0, exact: true })
  const list = await listReleases(latest, { findReplicas, ownReplica, countSharers, clock, log })
  expect(list.map(({ replicas, complete }) => [replicas, complete])).toEqual([
    [2, 1],
    [1, 1],
    [1, 1]
  ])
})

test('versions are listed newest first, with channels and replicas', async () => {
  const findReplicas = async (image: string) =>
    image === imageOf('v2') ? [replica(image, 'a', true), replica(image, 'b', false)] : []
  const asked: Record<string, string[]> = {}
  const countSharers = async (release: string, { replicas }: { replicas: ReplicaRecord[] }) => {
    asked[release] = replicas.map(({ peer }) => peer)
    if (release.endsWith('@v1')) return { count: 1_043_217, exact: false, error: 0.03126 }
    return { count: 3, exact: true }
  }
  const list = await listReleases(latest, { findReplicas, ownReplica: nobody, countSharers, clock, log })
  expect(asked[`${latest.appliance}@v2`]).toEqual(['a', 'b'])
  expect(list.map(({ version }) => version)).toEqual(['v3', 'v2', 'v1'])
  expect(list[1]).toEqual({
    appliance: latest.appliance,
    version: 'v2',
    image: imageOf('v2'),
    size: 655_360,
    blocks: 10,
    zeroBlocks: 1,
    channels: ['stable', 'testing'],
    rollout: { stable: 30 },
    published: '2026-11-01T00:00:00.001Z',
    labels: {},
    expires: new Date(latest.expiresMs).toISOString(),
    expired: false,
    sharers: { count: 3, exact: true },
    replicas: 2,
    complete: 1
  })
  expect(list[2]).toMatchObject({ channels: [], replicas: 0 })
  expect(list[2]!.sharers).toEqual({ count: 1_040_000, exact: false, error: 0.03 })
})

test('a search that fails is said in the log, and the list comes all the same', async () => {
  const findReplicas = async () => {
    throw new Error('nobody')
  }
  const unknown = { replicas: 0, sharers: { count: null, exact: false } }
  expect(
    await listReleases(latest, { findReplicas, ownReplica: nobody, countSharers: findReplicas, clock, log })
  ).toMatchObject([unknown, unknown, unknown])
  expect(log.warnings.join()).toContain('nobody')
})

test('being called off', async () => {
  const findReplicas = async () => []
  const countSharers = async () => ({ count: 0, exact: true })
  const options = { signal: AbortSignal.abort() }
  await expect(
    listReleases(latest, { findReplicas, ownReplica: nobody, countSharers, clock, log }, options)
  ).rejects.toMatchObject({
    code: 'ABORTED'
  })
})

test('whether the record has ended is said of each version', async () => {
  const components = { findReplicas: async () => [], ownReplica: nobody, log }
  const countSharers = async () => ({ count: 0, exact: true })
  const at = (nowMs: number) => listReleases(latest, { ...components, countSharers, clock: { now: () => nowMs } })
  expect((await at(latest.expiresMs - 1)).map(({ expired }) => expired)).toEqual([false, false, false])
  expect((await at(latest.expiresMs)).map(({ expired }) => expired)).toEqual([true, true, true])
})
