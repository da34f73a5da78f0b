import { describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { FrameParser } from '../../../src/swarm/frame-parser.ts'
import {
  bodyOf,
  decodeHeader,
  emptyBlockFrame,
  encodeBlockFrame,
  encodeFrame,
  FLAG_ZSTD,
  FRAME,
  FRAME_HEADER_BYTES
} from '../../../src/swarm/frames.ts'

describe('frame header', () => {
  test('comes back as it was written', () => {
    const frame = encodeBlockFrame(513, 2 ** 27 - 1, new Uint8Array([1, 2, 3]), true)
    expect(decodeHeader(frame, 'server')).toEqual({
      type: FRAME.block,
      flags: FLAG_ZSTD,
      handle: 513,
      number: 2 ** 27 - 1,
      lengthBytes: 3
    })
  })

  test('an unknown type is refused', () => {
    const frame = encodeFrame(FRAME.hello, 0, new Uint8Array(0))
    frame[0] = 99
    expect(() => decodeHeader(frame, 'server')).toThrow(expect.objectContaining({ code: 'WIRE_INVALID' }))
  })

  test('a type is refused from the side that may not send it', () => {
    const want = encodeFrame(FRAME.want, 1, new Uint8Array(0))
    expect(decodeHeader(want, 'requester').type).toBe(FRAME.want)
    expect(() => decodeHeader(want, 'server')).toThrow('a server may not send WANT')
  })

  test('a body longer than its type allows is refused before it comes', () => {
    const frame = encodeBlockFrame(1, 0, new Uint8Array(0), false)
    new DataView(frame.buffer).setUint32(8, BLOCK_SIZE_BYTES + 1)
    expect(() => decodeHeader(frame, 'server')).toThrow('65536 are allowed')
  })

  test('flags that mean nothing are refused', () => {
    const frame = encodeFrame(FRAME.hello, 0, new Uint8Array(0))
    frame[1] = FLAG_ZSTD
    expect(() => decodeHeader(frame, 'server')).toThrow('unknown flags')
  })

  test('a control frame beyond its limit is not sent', () => {
    expect(() => encodeFrame(FRAME.open, 1, new Uint8Array(65))).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' })
    )
  })

  test('a block frame can be filled in place', () => {
    const frame = emptyBlockFrame(3, 7)
    bodyOf(frame).fill(9)
    expect(Buffer.compare(frame, encodeBlockFrame(3, 7, new Uint8Array(BLOCK_SIZE_BYTES).fill(9), false))).toBe(0)
  })
})

describe('frame parser', () => {
  const frames = [
    encodeFrame(FRAME.hello, 0, new Uint8Array([10, 0])),
    encodeBlockFrame(1, 5, new Uint8Array(1000).fill(1), false),
    encodeFrame(FRAME.missing, 1, new Uint8Array(0)),
    encodeBlockFrame(1, 6, new Uint8Array(70).fill(2), true)
  ]
  const stream = Buffer.concat(frames)

  for (const size of [1, 7, 12, 13, 500, stream.byteLength]) {
    test(`finds the frames in pieces of ${size} bytes`, () => {
      const parser = new FrameParser('server')
      const found: Uint8Array[] = []
      for (let at = 0; at < stream.byteLength; at += size) {
        parser.push(stream.subarray(at, at + size))
        for (let frame = parser.next(); frame !== undefined; frame = parser.next()) found.push(frame.body)
      }
      expect(found.map(body => body.byteLength)).toEqual([2, 1000, 0, 70])
      expect(found[1]!.every(byte => byte === 1)).toBe(true)
      expect(found[3]!.every(byte => byte === 2)).toBe(true)
      expect(parser.pendingBytes).toBe(0)
    })
  }

  test('keeps no more than one body and the piece at hand', () => {
    const parser = new FrameParser('server')
    const half = encodeBlockFrame(1, 5, new Uint8Array(BLOCK_SIZE_BYTES), false).subarray(0, 1000)
    parser.push(half)
    expect(parser.next()).toBeUndefined()
    expect(parser.pendingBytes).toBe(1000 - FRAME_HEADER_BYTES)
  })

  test('is linear: 64 MiB in pieces of 1 KiB take well under a second of work for each', () => {
    const block = encodeBlockFrame(1, 5, new Uint8Array(BLOCK_SIZE_BYTES), false)
    const parser = new FrameParser('server')
    let count = 0
    const before = process.cpuUsage()
    for (let n = 0; n < 1024; n++) {
      for (let at = 0; at < block.byteLength; at += 1024) {
        parser.push(block.subarray(at, at + 1024))
        while (parser.next() !== undefined) count++
      }
    }
    expect(count).toBe(1024)
    // Concatenating each piece to what is there would copy 32 KiB on average for each: 2 GiB.
    expect(process.cpuUsage(before).user / 1e6).toBeLessThan(5)
  })
})
