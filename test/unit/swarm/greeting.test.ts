import { describe, expect, test } from 'vitest'
import type { FrameStream } from '../../../src/swarm/frame-stream.ts'
import { bodyOf, FRAME, type Frame, type FrameType } from '../../../src/swarm/frames.ts'
import { Greeting } from '../../../src/swarm/greeting.ts'
import { MAX_GREETING_BYTES, MAX_RECORDS_PER_GREETING } from '../../../src/swarm/limits.ts'
import { helloFrame } from '../../../src/swarm/messages.ts'
import { recordingLog } from '../directory/support.ts'
import { withCode } from '../image/with-code.ts'

test('what is offered depends on what the other end is wanted for, and is bounded', () => {
  const asked: (readonly string[])[] = []
  const records = {
    offer(images: readonly string[]) {
      asked.push(images)
      return Array.from({ length: MAX_RECORDS_PER_GREETING + 5 }, () => new Uint8Array(10))
    },
    receive: async () => {}
  }
  const sent: Uint8Array[] = []
  const frames = { send: (frame: Uint8Array) => sent.push(frame) } as unknown as FrameStream
  new Greeting('replica', records, recordingLog()).send(frames, ['image'])
  expect(sent).toHaveLength(1 + MAX_RECORDS_PER_GREETING)
  new Greeting('requester', records, recordingLog()).send(frames)
  expect(asked).toEqual([['image'], []])
})

describe('records that come', () => {
  const received: number[] = []
  const frameOf = (type: FrameType, body: Uint8Array): Frame => {
    return { type, flags: 0, handle: 0, number: 0, lengthBytes: body.byteLength, body }
  }
  const greeting = (announced: number) => {
    received.length = 0
    const records = {
      offer: () => [],
      receive: async (_: string, { byteLength }: Uint8Array) => void received.push(byteLength)
    }
    const one = new Greeting('peer', records, recordingLog())
    one.hello(frameOf(FRAME.hello, bodyOf(helloFrame('test', announced))))
    return one
  }

  test('are no more than were announced', async () => {
    const one = greeting(2)
    for (const bytes of [1, 2]) one.record(frameOf(FRAME.record, new Uint8Array(bytes)))
    expect(() => one.record(frameOf(FRAME.record, new Uint8Array(3)))).toThrow(withCode('WIRE_INVALID'))
    await expect.poll(() => received).toEqual([1, 2])
  })

  test('and no more bytes than a greeting holds', () => {
    const one = greeting(MAX_RECORDS_PER_GREETING)
    const half = new Uint8Array(MAX_GREETING_BYTES / 2)
    for (let i = 0; i < 2; i++) one.record(frameOf(FRAME.record, half))
    expect(() => one.record(frameOf(FRAME.record, new Uint8Array(1)))).toThrow(withCode('WIRE_INVALID'))
  })
})
