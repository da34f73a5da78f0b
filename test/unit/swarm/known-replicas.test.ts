import { beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { systemRandom } from '../../../src/node/system.ts'
import type { FetchEngine } from '../../../src/swarm/fetch-engine.ts'
import { KnownReplicas } from '../../../src/swarm/known-replicas.ts'
import { MAX_BUSY_HINTS, MAX_KNOWN_REPLICAS } from '../../../src/swarm/limits.ts'
import { ReplicaLinks } from '../../../src/swarm/replica-links.ts'
import { Timeline } from '../../../src/timeline.ts'
import { ManualClock } from '../release/support/clock.ts'
import { silentLog } from './support.ts'

const HONEST = { peer: 'honest', addresses: ['/ip4/192.0.2.1/tcp/1'], complete: true }
const SERVER = { peer: 'server', addresses: ['/ip4/192.0.2.2/tcp/1'], complete: true }

describe('the replicas that a server names which has no room', () => {
  const clock = new ManualClock()
  let known: KnownReplicas
  let links: ReplicaLinks

  beforeEach(() => {
    known = new KnownReplicas(systemRandom)
    known.add(HONEST)
    known.add(SERVER)
    links = new ReplicaLinks(
      {
        dialer: { open: () => expect.fail('nobody is to be called') },
        engine: {} as FetchEngine,
        findReplicas: async () => [],
        neighbours: () => [],
        events: () => expect.fail('nobody is connected'),
        ...{ self: 'self', clock, log: silentLog }
      } as unknown as ConstructorParameters<typeof ReplicaLinks>[0],
      { maxPeers: 8 }
    )
    const line = new Timeline(clock)
    links.add({ number: 0, id: 'image', known, line, isNeeded: () => false, wantsIndexFrom: () => false })
  })

  test('are remembered', () => {
    const other = { peer: 'other', addresses: ['/ip4/192.0.2.3/tcp/1'], complete: false }
    links.busy(SERVER.peer, [other], 1_000)
    expect(known.get('other')).toMatchObject(other)
  })

  test('do not change what is known of others from better sources', () => {
    links.busy(SERVER.peer, [{ peer: HONEST.peer, addresses: ['/ip4/203.0.113.9/tcp/9'], complete: false }], 1_000)
    expect(known.get(HONEST.peer)).toMatchObject(HONEST)
  })

  test('do not push others out, however many are named', () => {
    known.failed(HONEST.peer, new RowanError('NO_REPLICA', 'away for a moment'), clock.monotonicMs())
    for (let i = 0; i < MAX_KNOWN_REPLICAS; i++) {
      const named = Array.from({ length: MAX_BUSY_HINTS }, (_, n) => ({ ...HONEST, peer: `invented ${i} ${n}` }))
      links.busy(SERVER.peer, named, 1_000)
    }
    expect(known.size).toBe(MAX_KNOWN_REPLICAS)
    expect(known.get(HONEST.peer)).toBeDefined()
  })
})
