import { expect, test } from 'vitest'
import type { FrameStream } from '../../../src/swarm/frame-stream.ts'
import { Greeting } from '../../../src/swarm/greeting.ts'
import { MAX_RECORDS_PER_GREETING } from '../../../src/swarm/limits.ts'
import { recordingLog } from '../directory/support.ts'

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
