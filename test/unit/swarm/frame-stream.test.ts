import { describe, expect, test } from 'vitest'
import type { RowanError } from '../../../src/errors.ts'
import { type FrameCarrier, FrameStream } from '../../../src/swarm/frame-stream.ts'
import { encodeFrame, FRAME, type Frame, type Role } from '../../../src/swarm/frames.ts'

/** A stream whose muxer takes nothing until it is told to: the state that a real one reaches after megabytes. */
class Carrier extends EventTarget {
  writableNeedsDrain = false
  writeBufferLength = 0
  maxReadBufferLength = 0
  readStatus = 'readable'
  writeStatus = 'writable'
  takes = true
  sent: Uint8Array[] = []
  aborted: Error | undefined
  isClosed = false

  send(data: Uint8Array): boolean {
    this.sent.push(data)
    if (this.takes) return true
    this.writableNeedsDrain = true
    this.writeBufferLength += data.byteLength
    return false
  }
  drain(): void {
    this.writableNeedsDrain = false
    this.writeBufferLength = 0
    this.dispatchEvent(new Event('drain'))
  }
  pause(): void {
    this.readStatus = 'paused'
  }
  resume(): void {
    this.readStatus = 'readable'
  }
  abort(error: Error): void {
    this.aborted = error
    this.writeStatus = 'closed'
  }
  async close(): Promise<void> {
    this.isClosed = true
  }
  receive(data: Uint8Array): void {
    this.dispatchEvent(Object.assign(new Event('message'), { data }))
  }
}

const tick = () => new Promise(resolve => setImmediate(resolve))
const ask = encodeFrame(FRAME.want, 1, new Uint8Array(0))
const answer = encodeFrame(FRAME.nodes, 1, new Uint8Array(100_000))

function make(from: Role, onFrame: (frame: Frame) => void | Promise<void>) {
  const carrier = new Carrier()
  const ends: (RowanError | undefined)[] = []
  let writable = 0
  const frames = new FrameStream(carrier as unknown as FrameCarrier, from, {
    onFrame,
    onWritable: () => writable++,
    onEnd: error => ends.push(error)
  })
  return { carrier, frames, ends, writable: () => writable }
}

describe('frame stream', () => {
  test('pauses while a frame is handled, and then goes on with those behind it', async () => {
    const seen: number[] = []
    const first = Promise.withResolvers<void>()
    const { carrier, frames } = make('requester', frame => {
      seen.push(frame.handle)
      return seen.length === 1 ? first.promise : undefined
    })
    carrier.receive(Buffer.concat([1, 2, 3].map(handle => encodeFrame(FRAME.want, handle, new Uint8Array(0)))))
    expect(seen).toEqual([1])
    expect([frames.paused, carrier.readStatus]).toEqual([true, 'paused'])
    first.resolve()
    await tick()
    expect(seen).toEqual([1, 2, 3])
    expect([frames.paused, carrier.readStatus]).toEqual([false, 'readable'])
  })

  test('gives others a turn in the middle of a heap of frames', async () => {
    const seen: number[] = []
    const { carrier, frames } = make('server', frame => void seen.push(frame.handle))
    const handles = Array.from({ length: 40 }, (_, n) => n + 1)
    carrier.receive(Buffer.concat(handles.map(handle => encodeFrame(FRAME.nodes, handle, new Uint8Array(0)))))
    expect(seen).toHaveLength(16)
    // More that comes meanwhile waits behind what is there.
    carrier.receive(encodeFrame(FRAME.nodes, 41, new Uint8Array(0)))
    expect([seen.length, frames.paused]).toEqual([16, true])
    while (frames.paused) await tick()
    expect(seen).toEqual([...handles, 41])
  })

  test('does not read a requester that does not read its answers', async () => {
    let handled = 0
    const { carrier, frames, writable } = make('requester', () => {
      handled++
      frames.send(answer)
    })
    carrier.takes = false
    for (let n = 0; n < 10; n++) carrier.receive(ask)
    expect(handled).toBe(3)
    expect(carrier.readStatus).toBe('paused')
    expect(frames.writable).toBe(false)
    carrier.takes = true
    carrier.drain()
    await tick()
    expect(handled).toBe(10)
    expect(carrier.readStatus).toBe('readable')
    expect(writable()).toBe(1)
  })

  test('goes on reading a server whose requests pile up, or both could wait for ever', () => {
    let handled = 0
    const { carrier, frames } = make('server', () => {
      handled++
      frames.send(answer)
    })
    carrier.takes = false
    for (let n = 0; n < 10; n++) carrier.receive(encodeFrame(FRAME.missing, 1, new Uint8Array(0)))
    expect(handled).toBe(10)
  })

  test('ends a stream on which too much has piled up', () => {
    const { carrier, frames, ends } = make('requester', () => {})
    carrier.takes = false
    for (let n = 0; n < 100; n++) frames.send(answer)
    expect(ends).toEqual([expect.objectContaining({ code: 'LIMIT_EXCEEDED' })])
    expect(carrier.aborted).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect(carrier.writeBufferLength).toBeLessThan(4 * 1024 * 1024 + 200_000)
  })

  test('says why it ends a stream, and ends it once', async () => {
    const { carrier, ends } = make('requester', () => {})
    carrier.receive(Buffer.alloc(12, 0xee))
    carrier.receive(ask)
    carrier.dispatchEvent(new Event('remoteCloseWrite'))
    expect(ends).toEqual([expect.objectContaining({ code: 'WIRE_INVALID' })])
    expect(carrier.sent.map(frame => frame[0])).toEqual([FRAME.problem])
  })

  test('a handler that fails ends the stream with its error', async () => {
    const { ends, carrier } = make('requester', async () => {
      throw new Error('disk on fire')
    })
    carrier.receive(ask)
    await tick()
    expect(ends).toEqual([expect.objectContaining({ code: 'INTERNAL' })])
  })

  test('an orderly end closes this side too', () => {
    const { ends, carrier } = make('requester', () => {})
    carrier.dispatchEvent(new Event('remoteCloseWrite'))
    expect(ends).toEqual([undefined])
    expect(carrier.isClosed).toBe(true)
  })
})
