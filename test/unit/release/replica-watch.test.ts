import { beforeEach, expect, test } from 'vitest'
import { ReplicaWatch } from '../../../src/release/replica-watch.ts'
import { ManualClock } from './support/clock.ts'
import { MemoryLog } from './support/log.ts'
import { imageOf, TestPublisher } from './support/records.ts'

const publisher = await TestPublisher.make()
const APPLIANCE = `${publisher.id}/grid`

let replicated: { appliance: string; version: string; image: string }[]
let latest: Awaited<ReturnType<TestPublisher['latest']>> | undefined
let machines: Set<string>
let happened: string[]
let clock: ManualClock
let log: MemoryLog
let trashFails: boolean
let findFails: boolean

beforeEach(async () => {
  replicated = ['v1', 'v2'].map(version => ({ appliance: APPLIANCE, version, image: imageOf(version) }))
  latest = await publisher.latest(2, ['v2', 'v3'])
  machines = new Set()
  happened = []
  clock = new ManualClock()
  log = new MemoryLog()
  trashFails = false
  findFails = false
})

function watch(): ReplicaWatch {
  return new ReplicaWatch(
    {
      replication: {
        list: () => replicated,
        async forget({ image, version }) {
          happened.push(`forget ${version} ${image}`)
          replicated = replicated.filter(each => each.version !== version)
        }
      },
      directory: {
        async findLatest() {
          if (findFails) throw new Error('nobody')
        }
      },
      memory: { get: () => (latest === undefined ? undefined : { latest }) },
      machines: { images: () => machines },
      trash: {
        async add(images) {
          if (trashFails) throw new Error('full')
          for (const { image } of images) happened.push(`trash ${image}`)
        }
      },
      clock,
      random: { unit: () => 0.5, bytes: () => new Uint8Array() },
      log
    },
    { runningTtlMs: 30_000 }
  )
}

test('what the newest record lists no more goes into the trash, and then the promise ends', async () => {
  await watch().look()
  expect(happened).toEqual([`trash ${imageOf('v1')}`, `forget v1 ${imageOf('v1')}`])
  expect(replicated.map(({ version }) => version)).toEqual(['v2'])
})

test('what a local machine has stays', async () => {
  machines.add(imageOf('v1'))
  await watch().look()
  expect(happened).toEqual([])
})

test('without a record nothing ends, nor when nobody answers and the remembered one lists it', async () => {
  latest = undefined
  await watch().look()
  latest = await publisher.latest(1, ['v1', 'v2'])
  findFails = true
  await watch().look()
  expect(happened).toEqual([])
})

test('the promise stands when the trash does not take the image', async () => {
  trashFails = true
  await watch().look()
  expect(happened).toEqual([])
  expect(replicated).toHaveLength(2)
})

test('it looks by itself, and stops', async () => {
  const watching = watch()
  watching.start()
  clock.advance(10_000)
  await expect.poll(() => happened.length).toBe(2)
  await watching.stop()
  expect(clock.waiting).toBe(0)
})
