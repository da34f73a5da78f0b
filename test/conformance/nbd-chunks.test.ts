/**
 * Structured replies and extended headers, rule by rule of the specification (doc/proto.md and its branch
 * extension-ext-header), by a raw client against a real server.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../src/errors.ts'
import { CHUNK, COMMAND, COMMAND_FLAG, ERRNO, INFO } from '../../src/nbd/protocol.ts'
import type { ReplyMode } from '../../src/nbd/session.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { extendedRequestBytes, NbdClient, type Reply, requestBytes, uint32, uint64 } from '../tools/nbd-client.ts'
import { expectGoodService, serve, stopServers } from '../tools/nbd-fixture.ts'
import { waitUntil } from '../tools/wait.ts'

const MIB = 1024 * 1024
const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = COMMAND
const { FUA, NO_HOLE, DF, REQ_ONE, PAYLOAD_LEN } = COMMAND_FLAG
const CONTEXTS = ['base:allocation', 'rowan:local']
const BASE = 1
const LOCAL = 2
const HOLE_AND_ZERO = 3

afterEach(stopServers)

/** Data everywhere but in the given ranges of KiB. */
function withHoles(sizeBytes: number, ...holes: [fromKib: number, toKib: number][]): Buffer {
  const bytes = Buffer.alloc(sizeBytes)
  for (let index = 0; index < sizeBytes; index++) bytes[index] = 1 + ((index + (index >> 9) * 31) % 255)
  for (const [from, to] of holes) bytes.fill(0, from * 1024, to * 1024)
  return bytes
}

async function openDisk(device: MemoryDevice, mode: ReplyMode, infos: number[] = [], contexts = CONTEXTS) {
  const served = await serve(device)
  const client = await NbdClient.open(served.path, '', infos, mode === 'simple' ? {} : { mode, contexts })
  return { ...served, client, device }
}

const shapes = ({ chunks = [] }: Reply) => chunks.map(({ type, payload }) => [type, payload.length])
const text = ({ chunks = [] }: Reply) =>
  chunks[0]!.payload.subarray(6, 6 + chunks[0]!.payload.readUInt16BE(4)).toString()

describe.each(['structured', 'extended'] as const)('READ, %s', mode => {
  test('of data is one chunk, which ends the reply', async () => {
    const content = withHoles(MIB)
    const { client } = await openDisk(new MemoryDevice(content), mode)
    for (const [offset, length] of [
      [0, 512],
      [4096, 65_536],
      [0, MIB],
      [MIB - 1, 1]
    ] as const) {
      const reply = await client.request(READ, { offset, length })
      expect(shapes(reply)).toEqual([[CHUNK.OFFSET_DATA, 8 + length]])
      expect(reply.data.equals(content.subarray(offset, offset + length))).toBe(true)
    }
  })

  test('of zeros is a hole, and the disk is not troubled', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB), mode)
    for (const length of [1, 512, 4096, MIB]) {
      const reply = await client.request(READ, { length })
      expect(shapes(reply)).toEqual([[CHUNK.OFFSET_HOLE, 12]])
      expect(reply.data).toEqual(Buffer.alloc(length))
    }
    expect(device.calls).toEqual([])
  })

  test('of both is cut where a hole is worth it, and DONE is on the last chunk alone', async () => {
    const content = withHoles(MIB, [64, 128], [130, 132], [200, 204], [1000, 1024])
    const { client } = await openDisk(new MemoryDevice(content), mode)
    const reply = await client.request(READ, { length: MIB })
    expect(reply.data.equals(content)).toBe(true)
    expect(shapes(reply)).toEqual([
      [CHUNK.OFFSET_DATA, 8 + 64 * 1024],
      [CHUNK.OFFSET_HOLE, 12],
      [CHUNK.OFFSET_DATA, 8 + 72 * 1024],
      [CHUNK.OFFSET_HOLE, 12],
      [CHUNK.OFFSET_DATA, 8 + 796 * 1024],
      [CHUNK.OFFSET_HOLE, 12]
    ])
    expect(reply.chunks?.map(chunk => chunk.isLast)).toEqual([false, false, false, false, false, true])
  })

  test('of a disk in very many parts comes in few chunks', async () => {
    const content = withHoles(MIB, ...Array.from({ length: 64 }, (_, n): [number, number] => [n * 16, n * 16 + 8]))
    const { client } = await openDisk(new MemoryDevice(content), mode)
    const reply = await client.request(READ, { length: MIB })
    expect(reply.data.equals(content)).toBe(true)
    expect(reply.chunks?.length).toBeLessThanOrEqual(17)
  })

  test('with DF is one chunk, whatever is in it', async () => {
    const content = withHoles(MIB, [64, 128])
    const { client } = await openDisk(new MemoryDevice(content), mode)
    const mixed = await client.request(READ, { length: MIB, flags: DF })
    expect(shapes(mixed)).toEqual([[CHUNK.OFFSET_DATA, 8 + MIB]])
    expect(mixed.data.equals(content)).toBe(true)
    const zeros = await client.request(READ, { offset: 65_536, length: 4096, flags: DF })
    expect(shapes(zeros)).toEqual([[CHUNK.OFFSET_HOLE, 12]])
  })

  test('of nothing is a chunk without payload', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB), mode)
    expect(shapes(await client.request(READ, { length: 0 }))).toEqual([[CHUNK.NONE, 0]])
    expect(device.calls).toEqual([])
  })

  test('of more than a payload is EOVERFLOW, past the end EINVAL, each with a sentence', async () => {
    const { client } = await openDisk(new MemoryDevice(64 * MIB), mode)
    const long = await client.request(READ, { length: 32 * MIB + 1 })
    expect(long.errno).toBe(ERRNO.EOVERFLOW)
    expect(text(long)).toContain('33554432')
    for (const offset of [64 * MIB, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
      const past = await client.request(READ, { offset, length: 512 })
      expect(past.errno).toBe(ERRNO.EINVAL)
      expect(shapes(past)[0]?.[0]).toBe(CHUNK.ERROR)
      expect(text(past)).toBe('the request reaches past the end of the disk')
    }
    expect((await client.bytes(0, 512)).length).toBe(512)
  })

  test('that fails is an error chunk that names no file of this host, at once or later', async () => {
    const device = new MemoryDevice(withHoles(MIB))
    device.fail = call => (call.operation === 'read' ? new RowanError('STORE_IO', '/home/me/pool broke') : undefined)
    const { client, log } = await openDisk(device, mode)
    for (const later of [false, true]) {
      device.hold = () => later
      const reading = client.request(READ, { length: 1 })
      if (later) await waitUntil('the request', () => device.held.length === 1)
      device.releaseAll()
      const reply = await reading
      expect(reply.errno).toBe(ERRNO.EIO)
      expect(shapes(reply)[0]?.[0]).toBe(CHUNK.ERROR)
      expect(text(reply)).toMatch(/^STORE_IO: /)
      expect(text(reply)).not.toContain('/home')
    }
    expect(log.map(line => line.values.code)).toEqual(['STORE_IO'])
  })

  test('of which one part fails says where, and the rest comes', async () => {
    const content = withHoles(MIB, [64, 128], [256, 512])
    const device = new MemoryDevice(content)
    device.fail = call => (call.offset === 128 * 1024 ? new RowanError('STORE_IO', 'no') : undefined)
    const { client } = await openDisk(device, mode)
    for (const later of [false, true]) {
      device.hold = () => later
      const reading = client.request(READ, { length: MIB })
      if (later) await waitUntil('the parts', () => device.held.length === 3)
      device.releaseAll()
      const { chunks = [] } = await reading
      const failed = chunks.find(chunk => chunk.type === CHUNK.ERROR_OFFSET)!
      expect(failed.payload.readBigUInt64BE(failed.payload.length - 8)).toBe(BigInt(128 * 1024))
      expect(chunks.filter(chunk => chunk.type === CHUNK.OFFSET_DATA)).toHaveLength(2)
      expect(chunks.filter(chunk => chunk.isLast)).toHaveLength(1)
    }
  })

  test('whose parts come in any order ends with the part that comes last', async () => {
    const content = withHoles(MIB, [64, 128], [256, 512], [600, 700])
    const device = new MemoryDevice(content)
    device.hold = () => true
    const { client } = await openDisk(device, mode)
    const reading = client.request(READ, { length: MIB })
    const other = client.request(READ, { length: 4096 })
    await waitUntil('the parts', () => device.held.length === 5)
    for (const index of [2, 0, 2, 1, 0]) {
      device.held.splice(index, 1)[0]?.release()
      await new Promise(resolve => setImmediate(resolve))
    }
    const reply = await reading
    expect(reply.data.equals(content)).toBe(true)
    expect(reply.chunks?.at(-1)?.isLast).toBe(true)
    expect((await other).data.equals(content.subarray(0, 4096))).toBe(true)
  })
})

describe.each(['structured', 'extended'] as const)('other commands, %s', mode => {
  test('write, trim, zero, cache and flush', async () => {
    const { client, device } = await openDisk(new MemoryDevice(withHoles(MIB)), mode)
    const data = Buffer.alloc(4096, 7)
    expect(await client.request(WRITE, { offset: 8192, data })).toMatchObject({ errno: 0 })
    expect(await client.bytes(8192, 4096)).toEqual(data)
    for (const command of [TRIM, WRITE_ZEROES, CACHE]) {
      expect(await client.request(command, { offset: 8192, length: 512, flags: FUA })).toMatchObject({ errno: 0 })
    }
    expect(await client.request(FLUSH)).toMatchObject({ errno: 0 })
    expect(device.calls.map(call => call.operation)).toEqual(['write', 'read', 'trim', 'writeZeroes', 'cache', 'flush'])
  })

  test('are refused with a sentence, and the connection lives', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB), mode, [INFO.BLOCK_SIZE])
    const refused: [number, object, number, RegExp][] = [
      [TRIM, { flags: NO_HOLE, length: 512 }, ERRNO.EINVAL, /no such flag/],
      [READ, { flags: REQ_ONE, length: 512 }, ERRNO.EINVAL, /no such flag/],
      [8, { length: 512 }, ERRNO.EINVAL, /no such command/],
      [FLUSH, { length: 512 }, ERRNO.EINVAL, /neither offset nor length/],
      [READ, { offset: 1, length: 512 }, ERRNO.EINVAL, /minimum block size/],
      [WRITE_ZEROES, { offset: MIB, length: 512 }, ERRNO.ENOSPC, /past the end/],
      [BLOCK_STATUS, { length: 0 }, ERRNO.EINVAL, /no bytes/],
      [BLOCK_STATUS, { offset: MIB - 512, length: 1024 }, ERRNO.EINVAL, /past the end/],
      [BLOCK_STATUS, { length: 512, flags: NO_HOLE }, ERRNO.EINVAL, /no such flag/]
    ]
    for (const [command, spec, errno, says] of refused) {
      const reply = await client.request(command, spec)
      expect(reply.errno, says.source).toBe(errno)
      expect(text(reply)).toMatch(says)
    }
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('a disk that fails is told of late, too', async () => {
    const device = new MemoryDevice(MIB)
    device.hold = () => true
    device.fail = () => new RowanError('DISK_FULL', 'full')
    const { client } = await openDisk(device, mode)
    const write = client.request(WRITE, { data: Buffer.alloc(512) })
    await waitUntil('the request', () => device.held.length === 1)
    device.releaseAll()
    expect(await write).toMatchObject({ errno: ERRNO.ENOSPC })
  })
})

describe.each(['structured', 'extended'] as const)('BLOCK_STATUS, %s', mode => {
  const disk = () => {
    const device = new MemoryDevice(withHoles(MIB, [64, 128], [512, 1024]))
    device.isLocal = offset => offset < 96 * 1024
    return device
  }

  test('tells each context in its own runs', async () => {
    const { client } = await openDisk(disk(), mode)
    const statuses = await client.status(0, MIB)
    expect(statuses.get(BASE)).toEqual([
      [64 * 1024, 0],
      [64 * 1024, HOLE_AND_ZERO],
      [384 * 1024, 0],
      [512 * 1024, HOLE_AND_ZERO]
    ])
    expect(statuses.get(LOCAL)).toEqual([
      [96 * 1024, 0],
      [928 * 1024, 1]
    ])
  })

  test('with REQ_ONE tells one run of each, within the range', async () => {
    const { client } = await openDisk(disk(), mode)
    const statuses = await client.status(80 * 1024, 512 * 1024, { flags: REQ_ONE })
    expect(statuses.get(BASE)).toEqual([[48 * 1024, HOLE_AND_ZERO]])
    expect(statuses.get(LOCAL)).toEqual([[16 * 1024, 0]])
  })

  test('tells only what was selected', async () => {
    const { client } = await openDisk(disk(), mode, [], ['rowan:local'])
    expect([...(await client.status(0, MIB)).keys()]).toEqual([LOCAL])
  })

  test('of a disk in very many parts ends early, and can be gone on with', async () => {
    const content = Buffer.alloc(4 * MIB)
    for (let at = 0; at < content.length; at += 1024) content.fill(1, at, at + 512)
    const { client } = await openDisk(new MemoryDevice(content), mode)
    let at = 0
    for (let answers = 1; at < content.length; answers++) {
      const runs = (await client.status(at, content.length - at)).get(BASE)!
      expect(runs.length).toBeLessThanOrEqual(2048)
      for (const [length, flags] of runs) {
        expect(flags).toBe((at / 512) % 2 === 0 ? 0 : HOLE_AND_ZERO)
        at += length
      }
      expect(answers).toBeLessThan(10)
    }
    expect(at).toBe(content.length)
  })

  test('where nothing was selected is EINVAL, and the connection lives', async () => {
    const { client } = await openDisk(disk(), mode, [], [])
    expect(await client.request(BLOCK_STATUS, { length: 512 })).toMatchObject({ errno: ERRNO.EINVAL })
    expect((await client.bytes(0, 512)).length).toBe(512)
  })

  test('of a disk that cannot tell is an error', async () => {
    const device = disk()
    device.extents = () => {
      throw new RowanError('STORE_IO', 'no')
    }
    const { client } = await openDisk(device, mode)
    expect(await client.request(BLOCK_STATUS, { length: 512 })).toMatchObject({ errno: ERRNO.EIO })
    // A read needs no extents.
    expect((await client.bytes(0, 512)).length).toBe(512)
  })
})

describe('simple replies', () => {
  test('stay what they were: no chunk, no flag that needs one, and no BLOCK_STATUS', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB), 'simple')
    expect(await client.request(READ, { length: 512 })).toEqual({ errno: 0, data: Buffer.alloc(512) })
    expect(await client.request(BLOCK_STATUS, { length: 512 })).toMatchObject({ errno: ERRNO.EINVAL })
  })
})

describe('extended requests', () => {
  const HUGE = 2 ** 43

  /** A disk of 8 TiB that is all zeros and counts what it is told. */
  class HugeDevice extends MemoryDevice {
    override get sizeBytes() {
      return HUGE
    }
    override writeZeroes(offset: number, length: number) {
      this.calls.push({ operation: 'writeZeroes', offset, length, options: undefined })
    }
    override extents(_offset: number, lengthBytes: number) {
      return [{ lengthBytes, isHole: true, isZero: true, isLocal: true }]
    }
  }

  test('may have effects beyond 32 bits, which reach the disk in parts', async () => {
    const { client, device } = await openDisk(new HugeDevice(512), 'extended')
    const length = 2 ** 35 + 512
    const reply = client.expect(1n, 0, 2n ** 40n)
    client.send(extendedRequestBytes(WRITE_ZEROES, 1n, { offset: 2 ** 40, length }))
    expect(await reply).toMatchObject({ errno: 0 })
    expect(Math.max(...device.calls.map(call => call.length))).toBe(2 ** 30)
    expect(device.calls.reduce((sum, call) => sum + call.length, 0)).toBe(length)
    const status = client.expect(2n, 0, 0)
    client.send(extendedRequestBytes(BLOCK_STATUS, 2n, { length: HUGE }))
    const [base] = (await status).chunks ?? []
    expect(base?.type).toBe(CHUNK.BLOCK_STATUS_EXT)
    expect(base?.payload.readBigUInt64BE(8)).toBe(BigInt(HUGE))
  })

  test('a length at the end of 64 bits is past the end of the disk', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB), 'extended')
    for (const [command, errno] of [
      [TRIM, ERRNO.EINVAL],
      [WRITE_ZEROES, ERRNO.ENOSPC],
      [CACHE, ERRNO.EINVAL],
      [READ, ERRNO.EOVERFLOW]
    ] as const) {
      const reply = client.expect(1n, 0, 0)
      client.send(extendedRequestBytes(command, 1n, { length: 2n ** 64n - 1n }))
      expect(await reply).toMatchObject({ errno })
    }
  })

  test('a WRITE without PAYLOAD_LEN has no payload, and is EINVAL', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB), 'extended')
    expect(await client.request(WRITE, { length: 512, flags: 0 })).toMatchObject({ errno: ERRNO.EINVAL })
    expect((await client.bytes(0, 512)).length).toBe(512)
    expect(device.calls).toEqual([])
  })

  test.each([READ, TRIM, CACHE, FLUSH, WRITE_ZEROES])(
    'command %i with a payload that it does not take is EINVAL, the payload is passed over, and the connection lives',
    async command => {
      const { client, device } = await openDisk(new MemoryDevice(MIB), 'extended')
      const reply = await client.request(command, { data: Buffer.alloc(100_000, 1) })
      expect(reply.errno).toBe(ERRNO.EINVAL)
      expect(text(reply)).toBe('the command takes no payload')
      expect((await client.bytes(0, 512)).length).toBe(512)
      expect(device.calls).toEqual([])
    }
  )

  test('a payload beyond the largest ends the connection', async () => {
    const { client, path } = await openDisk(new MemoryDevice(MIB), 'extended')
    client.send(extendedRequestBytes(WRITE, 1n, { length: 32 * MIB + 1, flags: PAYLOAD_LEN }))
    await client.closed
    await expectGoodService(path)
  })

  test('DISC ends the connection, a compact request too: it has another magic number', async () => {
    const { client, path, log } = await openDisk(new MemoryDevice(MIB), 'extended')
    client.send(extendedRequestBytes(DISC, 1n, {}))
    await client.closed
    const other = await NbdClient.open(path, '', [], { mode: 'extended' })
    other.send(requestBytes(READ, 1n, { length: 512 }), Buffer.alloc(4))
    await other.closed
    expect(log.at(-1)?.values).toMatchObject({ broken: 'a request without its magic number' })
  })

  describe('BLOCK_STATUS with a payload', () => {
    const payload = (length: number | bigint, ...ids: number[]) => Buffer.concat([uint64(length), ...ids.map(uint32)])

    test('tells the contexts that it names, in their order', async () => {
      const { client } = await openDisk(new MemoryDevice(MIB), 'extended')
      expect([...(await client.status(0, 0, { length: undefined, data: payload(MIB, LOCAL) })).keys()]).toEqual([LOCAL])
      const both = await client.status(0, 0, { length: undefined, data: payload(4096, LOCAL, BASE) })
      expect([...both.keys()]).toEqual([LOCAL, BASE])
      expect(both.get(BASE)).toEqual([[4096, HOLE_AND_ZERO]])
    })

    test.each([
      ['an unknown context', payload(512, 9)],
      ['a context twice', payload(512, BASE, BASE)],
      ['no context', payload(512)],
      ['more contexts than there are', payload(512, ...Array.from({ length: 1000 }, () => BASE))],
      ['half a context', Buffer.concat([payload(512), Buffer.alloc(2)])],
      ['too few bytes', Buffer.alloc(3)],
      ['a range past the end', payload(2 * MIB, BASE)],
      ['a range at the end of 64 bits', payload(2n ** 64n - 1n, BASE)],
      ['no range', payload(0, BASE)]
    ])('%s is EINVAL, and the connection lives', async (_what, data) => {
      const { client } = await openDisk(new MemoryDevice(MIB), 'extended')
      expect(await client.request(BLOCK_STATUS, { data })).toMatchObject({ errno: ERRNO.EINVAL })
      expect((await client.bytes(0, 512)).length).toBe(512)
    })

    test('cut into packets anywhere makes no difference', async () => {
      const { client, server } = await openDisk(new MemoryDevice(MIB), 'extended')
      const bytes = extendedRequestBytes(BLOCK_STATUS, 1n, { data: payload(4096, BASE) })
      for (const size of [1, 31, 33, 39]) {
        const reply = client.expect(1n, 0, 0)
        for (let at = 0; at < bytes.length; at += size) {
          client.send(bytes.subarray(at, at + size))
          await new Promise(resolve => setImmediate(resolve))
        }
        expect(await reply).toMatchObject({ errno: 0 })
      }
      await waitUntil('all given back', () => server.bufferBytes.lent === 0)
    })
  })
})
