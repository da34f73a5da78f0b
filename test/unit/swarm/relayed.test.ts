/**
 * What a replica gives through a relay; the fetching side of it is dialer.test.ts.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { systemClock } from '../../../src/node/system.ts'
import { BlockServer } from '../../../src/swarm/block-server.ts'
import { carriesBlocks, MIN_RELAYED_BYTES } from '../../../src/swarm/relayed.ts'
import { silentLog } from './support.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'

test.each([
  ['a direct connection', undefined, true],
  ['a relay that passes a hello on', { bytes: 128n * 1024n, seconds: 120 }, false],
  ['a relay that passes nearly enough', { bytes: BigInt(MIN_RELAYED_BYTES) - 1n }, false],
  ['a relay that passes blocks', { bytes: BigInt(MIN_RELAYED_BYTES), seconds: 120 }, true],
  ['a relay that counts no bytes', { seconds: 120 }, true]
])('blocks over %s', (_what, limits, carries) => {
  expect(carriesBlocks({ limits } as Connection)).toBe(carries)
})

test('whoever asks for blocks through a relay that does not carry them gets none', async () => {
  let accept: (stream: Stream, connection: Connection) => void = () => undefined
  const server = new BlockServer(
    {
      libp2p: {
        handle: async (_protocol, handler) => {
          accept = handler
        },
        unhandle: async () => undefined
      },
      images: { open: async () => undefined },
      ...{ pool: undefined as never, records: undefined, clock: systemClock, log: silentLog },
      ...{
        profileOf: () => undefined,
        others: () => [],
        isNear: () => false,
        rttMs: () => undefined,
        openedImage: () => undefined,
        helperOf: () => undefined,
        isDonated: () => false
      }
    },
    { maxPeers: 4 }
  )
  await server.start()
  let refusal: Error | undefined
  const stream = {
    abort: (error: Error) => {
      refusal = error
    }
  }
  const connection = { remotePeer: PEER, remoteAddr: multiaddr('/ip4/9.9.9.9/tcp/1'), limits: { bytes: 131_072n } }
  accept(stream as unknown as Stream, connection as unknown as Connection)
  expect(refusal).toMatchObject({ code: 'LIMIT_EXCEEDED' })
  expect(server.view()).toEqual([])
})
