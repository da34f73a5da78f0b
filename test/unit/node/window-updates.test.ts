/**
 * How often a receiver tells how much more it takes, between real peers.
 */
import type { Stream } from '@libp2p/interface'
import { afterEach, expect, test } from 'vitest'
import { INITIAL_STREAM_WINDOW_BYTES } from '../../../src/cluster.ts'
import { startLibp2p, type TestLibp2p } from '../swarm/support.ts'

const PIECE_BYTES = 64 * 1024
const WINDOWS = 4

const peers: TestLibp2p[] = []

afterEach(async () => {
  await Promise.all(peers.splice(0).map(async peer => await peer.stop()))
})

/** A stream on which the other end says as much as several windows hold, once it was asked; and what this end told of its window. */
async function pouring(): Promise<{ stream: Stream; told: number[] }> {
  const [near, far] = await Promise.all([startLibp2p(), startLibp2p()])
  peers.push(near, far)
  await far.handle('/pour', stream => {
    stream.addEventListener('message', () => {
      for (let sent = 0; sent < WINDOWS * INITIAL_STREAM_WINDOW_BYTES; sent += PIECE_BYTES) {
        stream.send(Buffer.alloc(PIECE_BYTES))
      }
    })
  })
  const stream = await near.dialProtocol(far.getMultiaddrs(), '/pour')
  const told: number[] = []
  const yamux = stream as unknown as { sendFrame(header: { length: number }, data?: unknown): boolean }
  const send = yamux.sendFrame
  yamux.sendFrame = (header, data) => {
    if (data === undefined) told.push(header.length)
    return send(header, data)
  }
  return { stream, told }
}

function all(stream: Stream): Promise<void> {
  let left = WINDOWS * INITIAL_STREAM_WINDOW_BYTES
  return new Promise((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => {
      left -= data.byteLength
      if (left <= 0) resolve()
    })
    stream.addEventListener('close', ({ error }) => reject(error ?? new Error('it ended')))
  })
}

test('an eighth of the window comes before the sender is told that there is room', async () => {
  const { stream, told } = await pouring()
  const come = all(stream)
  stream.send(Buffer.from('pour'))
  await come
  for (const bytes of told) expect(bytes).toBeGreaterThanOrEqual(INITIAL_STREAM_WINDOW_BYTES / 8)
  expect(told.length).toBeGreaterThan(0)
  expect(told.length).toBeLessThanOrEqual(WINDOWS * 8)
})

test('a stream that was paused until its window was full goes on', async () => {
  const { stream } = await pouring()
  const come = all(stream)
  stream.pause()
  stream.send(Buffer.from('pour'))
  const window = stream as unknown as { recvWindowCapacity: number }
  while (window.recvWindowCapacity > 0) await new Promise(resolve => setTimeout(resolve, 5))
  stream.resume()
  await come
})
