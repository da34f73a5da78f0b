/**
 * Transmission without a socket, so that very many cases are cheap: any requests, in every form of header and reply, cut
 * anywhere, on a disk that answers at once or in any order, against a model of the specification.
 *
 *     ROWAN_FUZZ_RUNS=700000 vitest run --project fuzz test/fuzz/nbd-machine.test.ts --testTimeout=3600000
 *
 * runs a million cases (half as many again of damaged bytes); a failure names its seed and path, which fast-check runs
 * again. Without the variable it is a few seconds.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BufferPool } from '../../src/nbd/buffer-pool.ts'
import { NBD_LIMITS } from '../../src/nbd/limits.ts'
import { META_CONTEXTS } from '../../src/nbd/meta-context.ts'
import { CHUNK, CHUNK_DONE, COMMAND, COMMAND_FLAG, ERRNO } from '../../src/nbd/protocol.ts'
import type { ReplyMode } from '../../src/nbd/session.ts'
import { Transmission } from '../../src/nbd/transmission.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { extendedRequestBytes, requestBytes, uint32, uint64 } from '../tools/nbd-client.ts'

const SEED = Number(process.env.ROWAN_FUZZ_SEED ?? 20_261_121)
const RUNS = Number(process.env.ROWAN_FUZZ_RUNS ?? 3_000)
const SIZE_BYTES = 16 * 1024
const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = COMMAND
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN } = COMMAND_FLAG
const COMMANDS = [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS]
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined }

interface Request {
  command: number
  flags: number
  offset: number
  length: number
  fill: number
  /** Of BLOCK_STATUS with a payload: the contexts that it names. */
  ids: number[]
}

/** What a client agreed on, and what the disk is like. */
interface Setting {
  mode: ReplyMode
  selected: number
  blockBytes: number
  readOnly: boolean
  zeroesFast: boolean
  late: number
}

const setting: fc.Arbitrary<Setting> = fc.record({
  mode: fc.constantFrom<ReplyMode>('simple', 'structured', 'extended'),
  selected: fc.nat(2),
  blockBytes: fc.constantFrom(1, 512),
  readOnly: fc.boolean(),
  zeroesFast: fc.boolean(),
  late: fc.nat(4)
})
const offset = fc.oneof(
  { weight: 6, arbitrary: fc.nat(SIZE_BYTES / 512).map(sector => sector * 512) },
  { weight: 3, arbitrary: fc.nat(SIZE_BYTES) },
  { weight: 1, arbitrary: fc.constantFrom(SIZE_BYTES - 1, SIZE_BYTES + 1, 2 ** 40, 2 ** 53) }
)
const length = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(0, 1, 511, 512, 1024, 4096, 8192) },
  { weight: 3, arbitrary: fc.nat(3000) },
  { weight: 1, arbitrary: fc.constantFrom(SIZE_BYTES, SIZE_BYTES + 1) }
)
const request: fc.Arbitrary<Request> = fc.record({
  command: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...COMMANDS) },
    { weight: 1, arbitrary: fc.constantFrom(8, 9, 0xffff) }
  ),
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(0, PAYLOAD_LEN) },
    { weight: 4, arbitrary: fc.constantFrom(FUA, NO_HOLE, FUA | NO_HOLE, DF, REQ_ONE, FAST_ZERO, NO_HOLE | FAST_ZERO) },
    { weight: 1, arbitrary: fc.nat(0xffff) }
  ),
  offset,
  length,
  fill: fc.oneof(fc.constant(0), fc.nat(255)),
  ids: fc.array(fc.constantFrom(1, 2, 3), { maxLength: 3 })
})
const requests = fc.array(request, { minLength: 1, maxLength: 12 })
const cuts = fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1, maxLength: 8 })

/** The request with the flag and the payload that it must or may have in its form. */
function shaped(item: Request, { mode }: Setting): Request & { payload: Buffer } {
  const isExtended = mode === 'extended'
  const isWrite = item.command === WRITE
  // Most writes have what they need; the flag that only extended headers know is there with others now and then.
  let { flags } = item
  if (isExtended && isWrite && item.fill % 8 !== 0) flags |= PAYLOAD_LEN
  if (!isExtended && item.fill % 8 !== 0) flags &= ~PAYLOAD_LEN
  const hasPayload = isExtended ? (flags & PAYLOAD_LEN) !== 0 : isWrite
  if (!hasPayload) return { ...item, flags, payload: Buffer.alloc(0) }
  const payload =
    item.command === BLOCK_STATUS && item.fill % 4 !== 0
      ? Buffer.concat([uint64(item.length), ...item.ids.map(uint32)])
      : Buffer.alloc(item.length, item.fill)
  return { ...item, flags, payload }
}

function encode(item: Request, cookie: number, setting: Setting): Buffer {
  const { command, flags, offset, length, payload } = shaped(item, setting)
  const isExtended = setting.mode === 'extended'
  const announced = isExtended && (flags & PAYLOAD_LEN) !== 0 ? payload.length : length
  const bytes = isExtended ? extendedRequestBytes : requestBytes
  return bytes(command, BigInt(cookie), { flags, offset, data: payload, length: announced })
}

interface Answer {
  errno: number
  data?: Buffer
  contexts?: number[]
}

/** What the specification says to a request, written down independently of the server; applies it to the disk. */
function model(disk: Buffer, item: Request, setting: Setting): Answer {
  const { command, flags, offset, length, fill, ids, payload } = shaped(item, setting)
  const { mode, selected, blockBytes, readOnly, zeroesFast } = setting
  const invalid = { errno: ERRNO.EINVAL }
  const contexts = mode === 'simple' ? [] : [1, 2].slice(0, selected)
  if (!COMMANDS.includes(command as never)) return invalid
  let allowed: number = FUA
  if (command === WRITE_ZEROES) allowed |= NO_HOLE | FAST_ZERO
  if (command === READ && mode !== 'simple') allowed |= DF
  if (command === BLOCK_STATUS && mode !== 'simple') allowed |= REQ_ONE
  if (mode === 'extended' && (command === WRITE || command === BLOCK_STATUS)) allowed |= PAYLOAD_LEN
  if ((flags | allowed) !== allowed) return invalid
  const announced = (flags & PAYLOAD_LEN) !== 0
  if (mode === 'extended' && command === WRITE && !announced) return invalid
  if (command === FLUSH) return offset === 0 && length === 0 ? { errno: 0 } : invalid
  let asked = contexts
  let effect = length
  if (command === BLOCK_STATUS) {
    if (contexts.length === 0) return invalid
    if (announced) {
      const [named, bytes] = item.fill % 4 !== 0 ? [ids, length] : plainStatusPayload(payload)
      if (named.length === 0 || new Set(named).size !== named.length) return invalid
      if (named.some(id => !contexts.includes(id))) return invalid
      asked = named
      effect = bytes
    }
    if (effect === 0) return invalid
  }
  const modifies = command === WRITE || command === TRIM || command === WRITE_ZEROES
  if (modifies && readOnly) return { errno: ERRNO.EPERM }
  if (offset + effect > disk.length) {
    return { errno: command === WRITE || command === WRITE_ZEROES ? ERRNO.ENOSPC : ERRNO.EINVAL }
  }
  if (offset % blockBytes !== 0 || effect % blockBytes !== 0) return invalid
  if (command === READ) return { errno: 0, data: Buffer.from(disk.subarray(offset, offset + effect)) }
  if (command === BLOCK_STATUS) return { errno: 0, contexts: asked }
  if (command === CACHE) return { errno: 0 }
  if (command === WRITE_ZEROES && (flags & FAST_ZERO) !== 0 && !zeroesFast && effect > 0) {
    return { errno: ERRNO.ENOTSUP }
  }
  disk.fill(command === WRITE ? fill : 0, offset, offset + effect)
  return { errno: 0 }
}

/** What a payload of equal bytes says as one of BLOCK_STATUS. */
function plainStatusPayload(payload: Buffer): [ids: number[], lengthBytes: number] {
  const count = (payload.length - 8) / 4
  if (!Number.isInteger(count) || count < 1) return [[], 0]
  const ids = Array.from({ length: count }, (_, index) => payload.readUInt32BE(8 + 4 * index))
  return [ids, Number(payload.readBigUInt64BE(0))]
}

/** Runs bytes through a transmission, and returns what it says; `over` is why it ended by itself. */
async function converse(device: MemoryDevice, setting: Setting, bytes: Buffer, sizes: number[], picks: number[]) {
  const buffers = new BufferPool(NBD_LIMITS)
  const out: Buffer[] = []
  let paused = false
  let over: string | undefined
  const socket = {
    write(piece: Uint8Array, done: () => void) {
      out.push(Buffer.from(piece))
      queueMicrotask(done)
      return true
    },
    cork: () => undefined,
    uncork: () => undefined,
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
    }
  }
  const { mode, selected, blockBytes } = setting
  const contexts = mode === 'simple' ? [] : META_CONTEXTS.slice(0, selected)
  const transmission = new Transmission(
    { device, session: { mode, contexts }, blockBytes },
    {
      ...{ socket, buffers, log, onIdle: () => undefined },
      onOver: broken => {
        over = broken
      }
    },
    { maxRequestsInFlight: 6, maxQueuedBytes: 12_000, maxRequestsPerTurn: 5, maxBytesPerTurn: 10_000 }
  )
  let turn = 0
  const breathe = async () => {
    const pick = picks[turn++ % picks.length]! % Math.max(1, device.held.length)
    device.held.splice(pick, 1)[0]?.release()
    if (paused || device.held.length > 0) await new Promise(resolve => setImmediate(resolve))
    else await Promise.resolve()
  }
  for (let at = 0, index = 0; at < bytes.length && over === undefined; index++) {
    const size = sizes[index % sizes.length]!
    transmission.receive(bytes.subarray(at, at + size))
    at += size
    while (paused && over === undefined) await breathe()
  }
  while (device.held.length > 0 || transmission.inFlight > 0) await breathe()
  transmission.stopReading()
  await Promise.resolve()
  await Promise.resolve()
  transmission.flush()
  await Promise.resolve()
  expect(buffers.lentBytes).toBe(0)
  return { said: Buffer.concat(out), over }
}

interface Decoded extends Answer {
  isOver: boolean
  holes: number
  contents: number
}

/** Cuts what the server said into replies; throws where that cannot be done. */
function decode(said: Buffer, mode: ReplyMode, items: Request[]): Map<number, Decoded> {
  const replies = new Map<number, Decoded>()
  const of = (cookie: number) => {
    let reply = replies.get(cookie)
    if (reply === undefined) {
      reply = { errno: 0, isOver: false, holes: 0, contents: 0 }
      replies.set(cookie, reply)
    }
    if (reply.isOver) throw new Error(`${cookie} is answered twice`)
    return reply
  }
  for (let at = 0; at < said.length; ) {
    const magic = said.readUInt32BE(at)
    if (magic === 0x67446698) {
      const errno = said.readUInt32BE(at + 4)
      const cookie = Number(said.readBigUInt64BE(at + 8))
      const { command, length } = items[cookie]!
      if (mode === 'extended' || (mode === 'structured' && (command === READ || errno !== 0))) {
        throw new Error('a simple reply where there must be a chunk')
      }
      const dataBytes = command === READ && errno === 0 ? length : 0
      Object.assign(of(cookie), { errno, data: said.subarray(at + 16, at + 16 + dataBytes), isOver: true })
      at += 16 + dataBytes
      continue
    }
    const isExtended = magic === 0x6e8a278c
    if (isExtended !== (mode === 'extended') || (!isExtended && (mode !== 'structured' || magic !== 0x668e33ef))) {
      throw new Error(`not a reply: ${magic.toString(16)}`)
    }
    const cookie = Number(said.readBigUInt64BE(at + 8))
    const type = said.readUInt16BE(at + 6)
    const reply = of(cookie)
    const item = items[cookie]!
    if (isExtended && Number(said.readBigUInt64BE(at + 16)) !== item.offset) throw new Error('another offset')
    reply.isOver = (said.readUInt16BE(at + 4) & CHUNK_DONE) !== 0
    const payloadBytes = isExtended ? Number(said.readBigUInt64BE(at + 24)) : said.readUInt32BE(at + 16)
    at += isExtended ? 32 : 20
    const payload = said.subarray(at, at + payloadBytes)
    if (payload.length !== payloadBytes) throw new Error('a chunk that is cut short')
    at += payloadBytes
    take(reply, type, payload, item)
  }
  return replies
}

function take(reply: Decoded, type: number, payload: Buffer, item: Request): void {
  if (type === CHUNK.OFFSET_DATA || type === CHUNK.OFFSET_HOLE) {
    reply.data ??= Buffer.alloc(item.length, 0xee)
    const start = Number(payload.readBigUInt64BE(0)) - item.offset
    const bytes = type === CHUNK.OFFSET_DATA ? payload.length - 8 : payload.readUInt32BE(8)
    if (bytes === 0 || start < 0 || start + bytes > item.length) throw new Error('content outside of the request')
    if (type === CHUNK.OFFSET_DATA) payload.copy(reply.data, start, 8)
    else reply.data.fill(0, start, start + bytes)
    reply.contents++
  } else if (type === CHUNK.ERROR || type === CHUNK.ERROR_OFFSET) {
    reply.errno = payload.readUInt32BE(0)
    const rest = payload.length - 6 - payload.readUInt16BE(4)
    if (rest !== (type === CHUNK.ERROR ? 0 : 8)) throw new Error(`${rest} bytes behind the text of an error`)
  } else if (type === CHUNK.BLOCK_STATUS || type === CHUNK.BLOCK_STATUS_EXT) {
    reply.contexts = [...(reply.contexts ?? []), payload.readUInt32BE(0)]
  } else if (type !== CHUNK.NONE) {
    throw new Error(`a chunk of type ${type}`)
  }
}

function makeDevice(setting: Setting): MemoryDevice {
  const content = Buffer.alloc(SIZE_BYTES, 7)
  content.fill(0, 4096, 9000)
  const device = new MemoryDevice(content, { readOnly: setting.readOnly })
  device.zeroesFast = setting.zeroesFast
  return device
}

test('every reply is what the model says, in every form', async () => {
  await fc.assert(
    fc.asyncProperty(setting, requests, cuts, async (settings, items, sizes) => {
      const device = makeDevice(settings)
      // A disk that is late answers requests that change nothing in any order: the model knows no order of changes.
      if (settings.late > 0) {
        device.hold = ({ operation, offset }) =>
          (operation === 'read' || operation === 'cache' || operation === 'flush') &&
          !items.some(({ command }) => command === WRITE || command === TRIM || command === WRITE_ZEROES) &&
          (offset + settings.late) % 3 !== 0
      }
      const disk = Buffer.from(device.bytes)
      const bytes = Buffer.concat(items.map((item, index) => encode(item, index, settings)))
      const { said, over } = await converse(device, settings, bytes, sizes, sizes)
      expect(over).toBeUndefined()
      const replies = decode(said, settings.mode, items)
      expect(replies.size).toBe(items.length)
      for (const [index, item] of items.entries()) {
        const wanted = model(disk, item, settings)
        const got = replies.get(index)!
        // Not `expect`: it takes longer than all the rest.
        const check = (isRight: boolean, says: string) => {
          if (!isRight) throw new Error(`${index}, ${says}: ${JSON.stringify([settings, item, got, wanted])}`)
        }
        check(got.isOver, 'the reply has an end')
        check(got.errno === wanted.errno, 'the errno')
        if (wanted.data !== undefined && wanted.data.length > 0) {
          check(got.data?.equals(wanted.data) === true, 'the data')
          check((item.flags & DF) === 0 || settings.mode === 'simple' || got.contents === 1, 'one part')
        }
        check(wanted.contexts === undefined || `${got.contexts}` === `${wanted.contexts}`, 'the contexts')
      }
      expect(device.bytes.equals(disk)).toBe(true)
    }),
    { seed: SEED, numRuns: RUNS }
  )
})

test('damaged requests are answered or end the connection, and no memory is kept', async () => {
  const damage = fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 1, max: 255 }), cut: fc.nat(40) }), {
    minLength: 1,
    maxLength: 3
  })
  await fc.assert(
    fc.asyncProperty(setting, requests, damage, cuts, async (settings, items, edits, sizes) => {
      const device = makeDevice(settings)
      device.hold = ({ offset }) => (offset + settings.late) % 3 === 1
      let bytes = Buffer.concat(items.map((item, index) => encode(item, index, settings)))
      for (const { at, value, cut } of edits) {
        const place = at % Math.max(1, bytes.length)
        if (bytes.length > 0) bytes[place]! ^= value
        if (cut > 30) bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + cut)])
      }
      const { said } = await converse(device, settings, bytes, sizes, sizes)
      expect(said.length).toBeLessThan((items.length + 100) * (SIZE_BYTES + 300))
    }),
    { seed: SEED, numRuns: Math.ceil(RUNS / 2) }
  )
})
