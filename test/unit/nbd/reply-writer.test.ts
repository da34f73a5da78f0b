import { describe, expect, test } from 'vitest'
import { BufferPool, SMALL_BUFFER_BYTES } from '../../../src/nbd/buffer-pool.ts'
import { MAX_STATUS_BYTES, REPLY_FORMATS } from '../../../src/nbd/reply-format.ts'
import { ReplyWriter } from '../../../src/nbd/reply-writer.ts'

const endOfTurn = () => new Promise<void>(resolve => setImmediate(resolve))

/** The other end of the writer: what was written, and when the system takes it. */
function makeWriter() {
  const buffers = new BufferPool({
    maxBufferBytes: 2 ** 26,
    maxAllBufferBytes: 2 ** 40,
    maxIdleBufferBytes: 2 ** 22,
    guaranteedBufferBytes: 2 ** 20
  })
  const writes: { bytes: Buffer; taken: () => void }[] = []
  let takenCalls = 0
  const socket = {
    write(bytes: Uint8Array, taken: () => void) {
      writes.push({ bytes: Buffer.from(bytes), taken })
      return true
    },
    cork: () => undefined,
    uncork: () => undefined
  }
  const writer = new ReplyWriter({
    format: REPLY_FORMATS.simple,
    socket,
    buffers,
    onTaken: () => {
      takenCalls += 1
    }
  })
  const takeAll = () => {
    for (const { taken } of writes.splice(0)) taken()
  }
  return { writer, buffers, writes, takeAll, takenCalls: () => takenCalls }
}

const header = (errno: number, cookie: number) => {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32BE(0x67446698, 0)
  bytes.writeUInt32BE(errno, 4)
  bytes.writeUInt32BE(cookie, 12)
  return bytes
}

/** A request by its number. */
const id = (cookie: number) => ({ command: 0, cookieHigh: 0, cookieLow: cookie, offsetHigh: 0, offsetLow: 0 })
const failure = (errno: number) => ({ errno, text: 'no' })

function read(writer: ReplyWriter, cookie: number, data: string): void {
  writer.place(data.length).write(data)
  writer.commit(id(cookie), 0, data.length, true)
}

describe('ReplyWriter', () => {
  test('sends many replies with one write', () => {
    const { writer, writes } = makeWriter()
    read(writer, 1, 'one')
    writer.fail(id(2), failure(22))
    read(writer, 3, 'three')
    expect(writes).toEqual([])
    writer.flush()
    expect(writes).toHaveLength(1)
    expect(writes[0]?.bytes).toEqual(
      Buffer.concat([header(0, 1), Buffer.from('one'), header(22, 2), header(0, 3), Buffer.from('three')])
    )
    writer.flush()
    expect(writes).toHaveLength(1)
  })

  test('takes the same place again for a reply after data that failed', () => {
    const { writer, writes } = makeWriter()
    writer.place(1000).fill(1)
    writer.fail(id(1), failure(5))
    writer.flush()
    expect(writes[0]?.bytes).toEqual(header(5, 1))
  })

  test('a gap lets its neighbours go, and follows when it is filled', async () => {
    const { writer, writes } = makeWriter()
    read(writer, 1, 'one')
    const place = writer.place(3)
    const gap = writer.open(3)
    read(writer, 3, 'three')
    writer.flush()
    expect(Buffer.concat(writes.splice(0).map(write => write.bytes))).toEqual(
      Buffer.concat([header(0, 1), Buffer.from('one'), header(0, 3), Buffer.from('three')])
    )
    place.write('two')
    writer.fill(gap, id(2), 0, true)
    expect(writes).toEqual([])
    await endOfTurn()
    expect(writes.map(write => write.bytes)).toEqual([Buffer.concat([header(0, 2), Buffer.from('two')])])
  })

  test('a gap that failed sends its errno and no data', async () => {
    const { writer, writes, takeAll } = makeWriter()
    writer.place(300)
    const gap = writer.open(300)
    expect(writer.queuedBytes).toBe(316)
    writer.failGap(gap, id(2), failure(5), true)
    expect(writer.queuedBytes).toBe(16)
    await endOfTurn()
    expect(writes[0]?.bytes).toEqual(header(5, 2))
    takeAll()
    expect(writer.queuedBytes).toBe(0)
  })

  test('a gap keeps room for an error, however little data was to be in it', async () => {
    const { writer, writes } = makeWriter()
    writer.place(1)
    const gap = writer.open(1)
    expect(writer.queuedBytes).toBe(MAX_STATUS_BYTES)
    read(writer, 3, 'three')
    writer.failGap(gap, id(2), { errno: 5, text: 'x'.repeat(10_000) }, true)
    await endOfTurn()
    expect(Buffer.concat(writes.map(write => write.bytes)).subarray(0, 21)).toEqual(
      Buffer.concat([header(0, 3), Buffer.from('three')])
    )
  })

  test('sends a long run before it is asked to', () => {
    const { writer, writes } = makeWriter()
    for (let cookie = 0; cookie < 20; cookie++) read(writer, cookie, 'x'.repeat(4096))
    expect(writes).toHaveLength(1)
  })

  test('counts what was not taken yet, and tells when it was', () => {
    const { writer, takeAll, takenCalls } = makeWriter()
    read(writer, 1, 'one')
    expect(writer.queuedBytes).toBe(19)
    writer.flush()
    expect(writer.queuedBytes).toBe(19)
    expect(takenCalls()).toBe(0)
    takeAll()
    expect(writer.queuedBytes).toBe(0)
    expect(takenCalls()).toBe(1)
  })

  test('holds no memory when everything was taken', () => {
    const { writer, buffers, takeAll } = makeWriter()
    for (let cookie = 0; cookie < 200; cookie++) read(writer, cookie, 'x'.repeat(4096))
    writer.flush()
    expect(buffers.lentBytes).toBeGreaterThan(3 * SMALL_BUFFER_BYTES)
    takeAll()
    expect(buffers.lentBytes).toBe(0)
  })

  test('keeps a buffer that the disk still writes into, however long it takes', async () => {
    const { writer, buffers, takeAll } = makeWriter()
    writer.place(100)
    const gap = writer.open(100)
    for (let cookie = 0; cookie < 100; cookie++) read(writer, cookie, 'x'.repeat(4096))
    writer.flush()
    takeAll()
    expect(buffers.lentBytes).toBe(SMALL_BUFFER_BYTES)
    writer.fill(gap, id(1), 0, true)
    await endOfTurn()
    takeAll()
    expect(buffers.lentBytes).toBe(0)
  })

  test('a reply larger than a sheet gets a buffer of its own size', () => {
    const { writer, buffers, writes, takeAll } = makeWriter()
    read(writer, 1, 'one')
    writer.place(1024 * 1024).fill(7)
    writer.commit(id(2), 0, 1024 * 1024, true)
    expect(writes.map(write => write.bytes.length)).toEqual([19, 16 + 1024 * 1024])
    takeAll()
    expect(buffers.lentBytes).toBe(0)
  })
})
