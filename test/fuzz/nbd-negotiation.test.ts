/**
 * Whatever a client says in the negotiation: bounded answers, no crash, and the next client is served.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { NBD_LIMITS } from '../../src/nbd/limits.ts'
import { Negotiation } from '../../src/nbd/negotiation.ts'
import { OPTION } from '../../src/nbd/protocol.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { contextData, infoData, NbdClient, optionBytes, uint32 } from '../tools/nbd-client.ts'
import { expectGoodService, type Served, serve, stopServers } from '../tools/nbd-fixture.ts'
import { waitUntil } from '../tools/wait.ts'

const SEED = 20_261_121
const RUNS = Number(process.env.ROWAN_FUZZ_RUNS ?? 300)

const name = fc.oneof(fc.constantFrom('disk', '', 'other'), fc.string({ maxLength: 20 }))
const query = fc.oneof(
  fc.constantFrom('base:', 'base:allocation', 'rowan:', 'rowan:local', 'qemu:x', 'base', ':', ''),
  fc.string({ maxLength: 20 }),
  fc.uint8Array({ maxLength: 20 })
)
const anyOption = fc.oneof(
  fc.constantFrom(...Object.values(OPTION)),
  fc.nat(20),
  fc.integer({ min: 0, max: 2 ** 32 - 1 })
)
const data = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  fc.tuple(name, fc.array(fc.nat(0xffff), { maxLength: 6 })).map(([text, infos]) => infoData(text, infos)),
  name.map(text => Buffer.from(text)),
  fc.tuple(name, fc.array(query, { maxLength: 5 })).map(([text, queries]) => contextData(text, queries)),
  fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes)),
  fc.nat(20_000).map(length => Buffer.alloc(length, 1))
)
/** An option whose length may lie. */
const option = fc
  .tuple(
    anyOption,
    data,
    fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat() })
  )
  .map(([type, bytes, length]) => optionBytes(type, bytes, length))
const flags = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(3, 1) }, { weight: 1, arbitrary: fc.nat() }).map(uint32)
const anyBytes = fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes))
const pieces = fc.tuple(
  flags,
  fc.array(fc.oneof({ weight: 9, arbitrary: option }, { weight: 1, arbitrary: anyBytes }), { maxLength: 12 })
)
const speech = pieces.map(([head, rest]) => Buffer.concat([head, ...rest]))
const cuts = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 20 })

/** What the machine says to `bytes`, cut into chunks of these sizes, again and again. */
function converse(bytes: Buffer, sizes: number[], tls = false) {
  const exports = {
    list: () => ['disk'],
    open: (asked: string) => (asked === 'disk' || asked === '' ? { device: new MemoryDevice(512) } : undefined)
  }
  const negotiation = new Negotiation({ exports }, NBD_LIMITS, { tls })
  const replies: Buffer[] = []
  let begunTls = false
  let used = 0
  for (let index = 0; used < bytes.length; index++) {
    const chunk = bytes.subarray(used, used + sizes[index % sizes.length]!)
    for (let position = 0; position < chunk.length; ) {
      const step = negotiation.step(chunk, position)
      if (step.taken < 1 || step.taken > chunk.length - position) throw new Error(`took ${step.taken} bytes`)
      position += step.taken
      used += step.taken
      replies.push(...step.replies)
      if (step.close !== undefined || step.serve !== undefined) {
        const { name: serve, mode, contexts } = step.serve ?? { contexts: [] }
        const ids = contexts.map(context => context.id)
        return { replies: Buffer.concat(replies), used, close: step.close, serve, mode, ids }
      }
      // What comes behind it comes out of TLS; for the machine it is one conversation.
      if (step.startTls === true) begunTls = true
      if (tls && !begunTls) expectRefused(step.replies)
    }
  }
  return { replies: Buffer.concat(replies), used, close: undefined, serve: undefined }
}

/** Before TLS nothing is told of any export. */
function expectRefused(replies: Buffer[]): void {
  for (const reply of replies) {
    const [option, type] = [reply.readUInt32BE(8), reply.readUInt32BE(12)]
    const allowed = option === OPTION.STARTTLS || option === OPTION.ABORT || type >= 2 ** 31
    if (!allowed) throw new Error(`option ${option} is answered with ${type} before TLS`)
  }
}

test('the machine says the same however the bytes are cut, and never much', () => {
  fc.assert(
    fc.property(speech, cuts, fc.boolean(), (bytes, sizes, tls) => {
      const whole = converse(bytes, [bytes.length], tls)
      expect(converse(bytes, sizes, tls)).toEqual(whole)
      expect(whole.replies.length).toBeLessThan(64 * 5000)
    }),
    { seed: SEED, numRuns: RUNS * 10 }
  )
})

let served: Served

beforeAll(async () => {
  served = await serve(new MemoryDevice(4096))
})
afterAll(stopServers)

test('a server lives through anything, and serves the next client', async () => {
  await fc.assert(
    fc.asyncProperty(speech, cuts, fc.boolean(), async (bytes, sizes, waits) => {
      const client = await NbdClient.dial(served.path)
      for (let at = 0, index = 0; at < bytes.length; index++) {
        const size = sizes[index % sizes.length]!
        client.send(bytes.subarray(at, at + size))
        at += size
        if (waits) await new Promise(resolve => setImmediate(resolve))
      }
      client.destroy()
      await expectGoodService(served.path)
    }),
    { seed: SEED, numRuns: RUNS }
  )
  await waitUntil('all to be gone', () => served.server.clients('disk') === 0)
  expect(served.server.bufferBytes.lent).toBe(0)
  expect(served.log.filter(line => line.level === 'warn')).toEqual([])
})
