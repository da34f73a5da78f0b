/**
 * Whatever a client says in transmission: right answers to what is right, the errno of the specification to what is
 * not, no crash, and memory that comes back.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { COMMAND, COMMAND_FLAG, ERRNO } from '../../src/nbd/protocol.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { NbdClient, requestBytes } from '../tools/nbd-client.ts'
import { expectGoodService, type Served, serve, stopServers } from '../tools/nbd-fixture.ts'
import { waitUntil } from '../tools/wait.ts'

const SEED = 20_261_121
const RUNS = Number(process.env.ROWAN_FUZZ_RUNS ?? 300)
const SIZE_BYTES = 512 * 1024
const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, CACHE } = COMMAND
const { FUA, NO_HOLE, FAST_ZERO } = COMMAND_FLAG

interface Request {
  command: number
  flags: number
  offset: number
  length: number
  fill: number
}

const offset = fc.oneof(
  { weight: 6, arbitrary: fc.nat(SIZE_BYTES) },
  { weight: 3, arbitrary: fc.nat(SIZE_BYTES / 512).map(sector => sector * 512) },
  { weight: 1, arbitrary: fc.constantFrom(SIZE_BYTES - 1, SIZE_BYTES, SIZE_BYTES + 1, 2 ** 40, 2 ** 53) }
)
const length = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 1, 511, 512, 4096, 65_536) },
  { weight: 3, arbitrary: fc.nat(5000) },
  { weight: 1, arbitrary: fc.nat(SIZE_BYTES + 1) }
)
const request: fc.Arbitrary<Request> = fc.record({
  command: fc.oneof(
    { weight: 10, arbitrary: fc.constantFrom(READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, CACHE) },
    { weight: 1, arbitrary: fc.constantFrom(7, 8, 9, 0xffff) }
  ),
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.constantFrom(FUA, NO_HOLE, FUA | NO_HOLE, FAST_ZERO) },
    { weight: 1, arbitrary: fc.nat(0xffff) }
  ),
  offset,
  length,
  fill: fc.nat(255)
})
const requests = fc.array(request, { minLength: 1, maxLength: 40 })
const cuts = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 20 })

const payload = ({ command, length, fill }: Request) =>
  command === WRITE ? Buffer.alloc(length, fill) : Buffer.alloc(0)

const encode = (item: Request, index: number) =>
  requestBytes(item.command, BigInt(index), { ...item, data: payload(item) })

/** What the specification says to a request, written down independently of the server; applies it to the disk. */
function model(disk: Buffer, { command, flags, offset, length, fill }: Request): { errno: number; data: Buffer } {
  const refused = (errno: number) => ({ errno, data: Buffer.alloc(0) })
  const known = [READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, CACHE] as number[]
  const allowed = command === WRITE_ZEROES ? FUA | NO_HOLE | FAST_ZERO : FUA
  if (!known.includes(command) || (flags | allowed) !== allowed) return refused(ERRNO.EINVAL)
  if (command === FLUSH) return refused(offset === 0 && length === 0 ? 0 : ERRNO.EINVAL)
  if (offset + length > disk.length) {
    return refused(command === WRITE || command === WRITE_ZEROES ? ERRNO.ENOSPC : ERRNO.EINVAL)
  }
  if (command === READ) return { errno: 0, data: Buffer.from(disk.subarray(offset, offset + length)) }
  if (command === CACHE) return refused(0)
  disk.fill(command === WRITE ? fill : 0, offset, offset + length)
  return refused(0)
}

async function sendCut(client: NbdClient, bytes: Buffer, sizes: number[], waits: boolean): Promise<void> {
  for (let at = 0, index = 0; at < bytes.length; index++) {
    const size = sizes[index % sizes.length]!
    client.send(bytes.subarray(at, at + size))
    at += size
    if (waits && index % 16 === 0) await new Promise(resolve => setImmediate(resolve))
  }
}

let served: Served
let device: MemoryDevice

beforeAll(async () => {
  device = new MemoryDevice(SIZE_BYTES)
  served = await serve(device, {
    limits: { maxQueuedBytes: 128 * 1024, maxRequestsInFlight: 8, maxRequestsPerTurn: 5 }
  })
})
beforeEach(() => {
  device.calls.length = 0
})
afterAll(stopServers)

async function allIsGivenBack(): Promise<void> {
  const isGivenBack = () => served.server.clients('disk') === 0 && served.server.bufferBytes.lent === 0
  await waitUntil('everything to be given back', isGivenBack)
}

test('every reply is what the model says, however the requests are cut into packets', async () => {
  await fc.assert(
    fc.asyncProperty(requests, cuts, fc.boolean(), async (items, sizes, waits) => {
      device.calls.length = 0
      const disk = Buffer.from(device.bytes)
      const client = await NbdClient.open(served.path)
      const replies = items.map((item, index) => client.expect(BigInt(index), item.command === READ ? item.length : 0))
      await sendCut(client, Buffer.concat(items.map(encode)), sizes, waits)
      const wanted = items.map(item => model(disk, item))
      for (const [index, reply] of (await Promise.all(replies)).entries()) {
        expect(reply.errno, `${index}: ${JSON.stringify(items[index])}`).toBe(wanted[index]?.errno)
        expect(reply.data.equals(wanted[index]!.data)).toBe(true)
      }
      expect(device.bytes.equals(disk)).toBe(true)
      await client.disconnect()
    }),
    { seed: SEED, numRuns: RUNS }
  )
  await allIsGivenBack()
})

test('a disk that answers in any order, and sometimes fails, gives every reader its own bytes', async () => {
  for (let at = 0; at < SIZE_BYTES; at += 4) device.bytes.writeUInt32LE((at * 2_654_435_761) >>> 0, at)
  const reads = fc.array(fc.record({ offset: fc.nat(SIZE_BYTES - 70_000), length: fc.nat(70_000), delay: fc.nat(4) }), {
    minLength: 1,
    maxLength: 40
  })
  await fc.assert(
    fc.asyncProperty(reads, cuts, async (items, sizes) => {
      device.calls.length = 0
      device.hold = call => (call.offset + call.length) % 3 !== 0
      device.fail = call => ((call.offset ^ call.length) % 7 === 0 ? new Error('broken') : undefined)
      const client = await NbdClient.open(served.path)
      const replies = Promise.all(items.map((item, index) => client.expect(BigInt(index), item.length)))
      const bytes = Buffer.concat(
        items.map((item, index) => requestBytes(READ, BigInt(index), { offset: item.offset, length: item.length }))
      )
      await sendCut(client, bytes, sizes, true)
      let done = false
      const finished = replies.finally(() => {
        done = true
      })
      for (let turn = 0; !done; turn++) {
        const pick = items[turn % items.length]!.delay % Math.max(1, device.held.length)
        device.held.splice(pick, 1)[0]?.release()
        await new Promise(resolve => setImmediate(resolve))
      }
      for (const [index, reply] of (await finished).entries()) {
        const { offset, length } = items[index]!
        const fails = length > 0 && (offset ^ length) % 7 === 0
        expect(reply.errno).toBe(fails ? ERRNO.EIO : 0)
        if (!fails) expect(reply.data.equals(device.bytes.subarray(offset, offset + length))).toBe(true)
      }
      device.hold = () => false
      device.fail = () => undefined
      await client.disconnect()
    }),
    { seed: SEED, numRuns: RUNS / 2 }
  )
  await allIsGivenBack()
})

test('damaged requests and clients that leave cost nobody else anything', async () => {
  const damage = fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 1, max: 255 }), cut: fc.nat(40) }), {
    maxLength: 3
  })
  await fc.assert(
    fc.asyncProperty(requests, damage, cuts, fc.boolean(), async (items, edits, sizes, deaf) => {
      device.calls.length = 0
      let bytes = Buffer.concat(items.map(encode))
      for (const { at, value, cut } of edits) {
        const place = at % bytes.length
        bytes[place]! ^= value
        if (cut > 30 && bytes.length > 100)
          bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + cut)])
        if (bytes.length === 0) return
      }
      const client = await NbdClient.open(served.path)
      if (deaf) client.socket.pause()
      await sendCut(client, bytes, sizes, true)
      client.destroy()
      await expectGoodService(served.path)
    }),
    { seed: SEED, numRuns: RUNS }
  )
  await allIsGivenBack()
})
