import type { Connection, ConnectionLimits } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { DirectoryClient } from '../../../src/directory/directory-client.ts'
import { systemClock } from '../../../src/node/system.ts'

const HOLDER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'

class TestConnection {
  readonly status = 'open'
  readonly limits: ConnectionLimits | undefined
  asked = 0

  constructor(limits?: ConnectionLimits) {
    this.limits = limits
  }

  async newStream(): Promise<never> {
    this.asked++
    throw new Error('enough')
  }
}

test('a holder is asked over a direct connection, although one through a relay is open', async () => {
  const [relayed, direct] = [new TestConnection({ bytes: 131_072n }), new TestConnection()]
  const client = new DirectoryClient({
    network: {
      getConnections: () => [relayed as unknown as Connection],
      dial: async () => direct as unknown as Connection
    },
    clock: systemClock
  })
  await expect(client.ask({ peer: HOLDER, addresses: ['/ip4/9.9.9.9/tcp/1'] }, {})).rejects.toMatchObject({
    code: 'PEER_GONE'
  })
  expect([relayed.asked, direct.asked]).toEqual([0, 1])
})
