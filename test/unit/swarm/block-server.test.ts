import type { Connection, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { beforeEach, describe, expect, test } from 'vitest'
import type { RowanError } from '../../../src/errors.ts'
import { BlockServer, type BlockServerComponents } from '../../../src/swarm/block-server.ts'
import { GREETING_TIMEOUT_MS } from '../../../src/swarm/limits.ts'
import { MIN_RELAYED_BYTES } from '../../../src/swarm/relayed.ts'
import { ManualClock } from '../release/support/clock.ts'
import { silentLog } from './support.ts'

/** A stream whose other end says nothing. */
class SilentStream extends EventTarget {
  readonly writableNeedsDrain = false
  readonly writeBufferLength = 0
  readonly readStatus = 'readable'
  readonly writeStatus = 'writable'
  maxReadBufferLength = 0
  why: RowanError | undefined

  send() {
    return true
  }
  pause() {}
  resume() {}
  async close() {}
  abort(error: RowanError) {
    this.why = error
  }
}

describe('requesters that want to be served', () => {
  let accept: (stream: Stream, connection: Connection) => void
  let clock: ManualClock

  beforeEach(async () => {
    clock = new ManualClock()
    const libp2p = {
      handle: async (_protocol: string, handler: typeof accept) => {
        accept = handler
      },
      unhandle: async () => {}
    }
    const components = {
      ...{ libp2p, clock, log: silentLog, records: undefined, pool: {}, images: {} },
      isNear: () => false
    } as unknown as BlockServerComponents
    await new BlockServer(components, { maxPeers: 8 }).start()
  })

  function come(peer: string, limits?: Connection['limits']): SilentStream {
    const stream = new SilentStream()
    const connection = { remotePeer: { toString: () => peer }, remoteAddr: multiaddr('/ip4/9.9.9.9/tcp/1'), limits }
    accept(stream as unknown as Stream, connection as unknown as Connection)
    return stream
  }

  test('and say nothing are bounded, and sent away after a while', () => {
    const first = Array.from({ length: 64 }, (_, n) => come(`peer ${n}`))
    expect(first.some(({ why }) => why !== undefined)).toBe(false)
    expect(come('one too many').why).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    clock.advance(GREETING_TIMEOUT_MS)
    expect(first.every(({ why }) => why?.code === 'TIMEOUT_RESPONSE')).toBe(true)
    expect(come('a later one').why).toBeUndefined()
  })

  test('through a relay are served only where it carries blocks', () => {
    expect(come('a', { bytes: 128n * 1024n }).why).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect(come('b', { bytes: BigInt(MIN_RELAYED_BYTES) }).why).toBeUndefined()
  })
})
