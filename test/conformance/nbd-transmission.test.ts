/**
 * Transmission, rule by rule of the specification (doc/proto.md), by a raw client against a real server.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../src/errors.ts'
import { COMMAND, COMMAND_FLAG, ERRNO, INFO } from '../../src/nbd/protocol.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { NbdClient, requestBytes } from '../tools/nbd-client.ts'
import { expectGoodService, serve, stopServers } from '../tools/nbd-fixture.ts'
import { waitUntil } from '../tools/wait.ts'

const MIB = 1024 * 1024
const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, DISC } = COMMAND
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN } = COMMAND_FLAG

afterEach(stopServers)

/** Every sector differs, and so does every byte of a sector from its neighbour. */
function pattern(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes)
  for (let index = 0; index < sizeBytes; index++) bytes[index] = (index + (index >> 9) * 31) & 0xff
  return bytes
}

async function openDisk(device: MemoryDevice, infos: number[] = []) {
  const served = await serve(device)
  const client = await NbdClient.open(served.path, '', infos)
  return { ...served, client, device }
}

describe('READ', () => {
  test('gives the bytes of the range', async () => {
    const content = pattern(MIB)
    const { client } = await openDisk(new MemoryDevice(content))
    for (const [offset, length] of [
      [0, 512],
      [4096, 65536],
      [MIB - 512, 512],
      [0, MIB],
      [3, 5],
      [MIB - 1, 1]
    ] as const) {
      expect((await client.bytes(offset, length)).equals(content.subarray(offset, offset + length))).toBe(true)
    }
  })

  test('of 32 MiB is possible, of one byte more is EINVAL and the connection lives', async () => {
    const content = pattern(33 * MIB)
    const { client } = await openDisk(new MemoryDevice(content))
    expect((await client.bytes(4096, 32 * MIB)).equals(content.subarray(4096, 4096 + 32 * MIB))).toBe(true)
    expect(await client.request(READ, { length: 32 * MIB + 1 })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(await client.request(READ, { length: 0xffffffff })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(await client.bytes(0, 512)).toEqual(content.subarray(0, 512))
  })

  test('of nothing succeeds without troubling the disk', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(READ, { offset: MIB, length: 0 })).toMatchObject({ errno: 0 })
    expect(device.calls).toEqual([])
  })

  test.each([
    ['past the end', { offset: MIB - 512, length: 1024 }],
    ['behind the end', { offset: MIB, length: 512 }],
    ['far behind the end', { offset: 2n ** 53n + 1n, length: 512 }],
    ['at the end of 64 bits', { offset: 2n ** 64n - 1n, length: 512 }]
  ])('%s is EINVAL, sends no data, and the connection lives', async (_what, spec) => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(READ, spec)).toEqual({ errno: ERRNO.EINVAL, data: Buffer.alloc(0) })
    expect(device.calls).toEqual([])
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })
})

describe('WRITE', () => {
  test.each([512, 4096, 65536, 65536 + 512, MIB, 5])('of %i bytes arrives', async length => {
    const { client, device } = await openDisk(new MemoryDevice(3 * MIB))
    const data = pattern(length)
    expect(await client.request(WRITE, { offset: MIB, data })).toMatchObject({ errno: 0 })
    expect(device.bytes.subarray(MIB, MIB + length).equals(data)).toBe(true)
    expect(device.bytes.subarray(0, MIB).equals(Buffer.alloc(MIB))).toBe(true)
    expect(await client.bytes(MIB, length)).toEqual(data)
  })

  test('of 32 MiB is possible', async () => {
    const data = pattern(32 * MIB)
    const { client, device } = await openDisk(new MemoryDevice(33 * MIB))
    expect(await client.request(WRITE, { offset: 512, data })).toMatchObject({ errno: 0 })
    expect(device.bytes.subarray(512, 512 + data.length).equals(data)).toBe(true)
  })

  test('of more is EINVAL, its payload is passed over, and the connection lives', async () => {
    const { client, device } = await openDisk(new MemoryDevice(64 * MIB))
    expect(await client.request(WRITE, { data: Buffer.alloc(32 * MIB + 512, 1) })).toMatchObject({
      errno: ERRNO.EINVAL
    })
    expect(device.calls).toEqual([])
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('of a payload not worth passing over ends the connection', async () => {
    const { client, path } = await openDisk(new MemoryDevice(MIB))
    client.send(requestBytes(WRITE, 1n, { length: 64 * MIB + 1 }))
    await client.closed
    await expectGoodService(path)
  })

  test('is settled before its reply leaves, with all that came with it', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    let settles = 0
    device.failSettle = () => {
      settles++
      return undefined
    }
    const requests = Array.from({ length: 8 }, (_, index) =>
      client.request(WRITE, { offset: index * 512, data: pattern(512) })
    )
    for (const reply of await Promise.all(requests)) expect(reply).toMatchObject({ errno: 0 })
    expect(device.settled).toBe(8)
    expect(settles).toBeLessThanOrEqual(8)
    device.hold = () => true
    const late = client.request(WRITE, { offset: 0, data: pattern(512) })
    await waitUntil('the disk to be asked', () => device.held.length === 1)
    device.releaseAll()
    await late
    expect(device.settled).toBe(9)
  })

  test('that cannot be settled is never acknowledged: the connection ends', async () => {
    const { client, device, path, log } = await openDisk(new MemoryDevice(MIB))
    device.failSettle = () => new RowanError('STORE_IO', 'so the test wishes')
    await expect(client.request(WRITE, { offset: 0, data: pattern(512) })).rejects.toThrow('closed the connection')
    await client.closed
    expect(log.some(({ values }) => values.code === 'STORE_IO')).toBe(true)
    device.failSettle = () => undefined
    await expectGoodService(path)
  })

  test('past the end is ENOSPC, writes nothing, and the connection lives', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    const data = Buffer.alloc(1024, 7)
    expect(await client.request(WRITE, { offset: MIB - 512, data })).toMatchObject({ errno: ERRNO.ENOSPC })
    expect(await client.request(WRITE, { offset: 2n ** 63n, data })).toMatchObject({ errno: ERRNO.ENOSPC })
    expect(device.calls).toEqual([])
    expect(await client.bytes(MIB - 512, 512)).toEqual(Buffer.alloc(512))
  })

  test('of nothing succeeds without troubling the disk', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(WRITE, { length: 0 })).toMatchObject({ errno: 0 })
    expect(device.calls).toEqual([])
  })

  test('hands FUA on to the disk, and only where it was set', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    await client.request(WRITE, { data: Buffer.alloc(512), flags: FUA })
    await client.request(WRITE, { data: Buffer.alloc(512) })
    expect(device.calls.map(call => call.options?.fua ?? false)).toEqual([true, false])
  })

  test('tells the disk whether anything else of the client waits behind what is to be durable', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    const alone = () => device.calls.splice(0).map(call => call.options?.alone)
    const data = Buffer.alloc(512)
    await client.request(WRITE, { data, flags: FUA })
    await client.request(FLUSH)
    expect(alone()).toEqual([true, true])
    client.send(Buffer.concat([requestBytes(WRITE, 1n, { data, flags: FUA }), requestBytes(FLUSH, 2n)]))
    await waitUntil('both requests', () => device.calls.length === 2)
    expect(alone()).toEqual([false, true])
    device.hold = ({ operation }) => operation === 'write'
    client.send(requestBytes(WRITE, 3n, { data, flags: FUA }))
    await waitUntil('the write', () => device.held.length === 1)
    client.send(requestBytes(FLUSH, 4n))
    await waitUntil('both requests', () => device.calls.length === 2)
    expect(alone()).toEqual([true, false])
    device.releaseAll()
  })
})

describe('TRIM and WRITE_ZEROES', () => {
  test('go to the disk with their flags', async () => {
    const { client, device } = await openDisk(new MemoryDevice(pattern(MIB)))
    await client.request(TRIM, { offset: 512, length: 1024 })
    await client.request(TRIM, { offset: 0, length: 512, flags: FUA })
    await client.request(WRITE_ZEROES, { offset: 4096, length: 4096 })
    await client.request(WRITE_ZEROES, { offset: 8192, length: 4096, flags: FUA | NO_HOLE })
    expect(device.calls).toEqual([
      { operation: 'trim', offset: 512, length: 1024, options: { fua: false } },
      { operation: 'trim', offset: 0, length: 512, options: { fua: true } },
      { operation: 'writeZeroes', offset: 4096, length: 4096, options: { fua: false, noHole: false, fast: false } },
      { operation: 'writeZeroes', offset: 8192, length: 4096, options: { fua: true, noHole: true, fast: false } }
    ])
    expect(await client.bytes(4096, 8192)).toEqual(Buffer.alloc(8192))
  })

  test('may be longer than any payload', async () => {
    const { client } = await openDisk(new MemoryDevice(Buffer.alloc(40 * MIB, 1)))
    expect(await client.request(WRITE_ZEROES, { length: 40 * MIB })).toMatchObject({ errno: 0 })
    expect(await client.bytes(40 * MIB - 512, 512)).toEqual(Buffer.alloc(512))
    expect(await client.request(TRIM, { length: 40 * MIB })).toMatchObject({ errno: 0 })
  })

  test('of nothing succeed without troubling the disk', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    for (const command of [TRIM, WRITE_ZEROES]) {
      expect(await client.request(command, { offset: 0, length: 0 })).toMatchObject({ errno: 0 })
    }
    expect(device.calls).toEqual([])
  })

  test('past the end are EINVAL and ENOSPC', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB))
    const spec = { offset: MIB - 512, length: 1024 }
    expect(await client.request(TRIM, spec)).toMatchObject({ errno: ERRNO.EINVAL })
    expect(await client.request(WRITE_ZEROES, spec)).toMatchObject({ errno: ERRNO.ENOSPC })
  })
})

describe('FAST_ZERO', () => {
  test('zeros where the disk is fast, and is ENOTSUP at once where it is not, with nothing changed', async () => {
    const { client, device, log } = await openDisk(new MemoryDevice(pattern(MIB)))
    expect(await client.request(WRITE_ZEROES, { length: 4096, flags: FAST_ZERO })).toMatchObject({ errno: 0 })
    expect(device.calls.at(-1)?.options).toEqual({ fua: false, noHole: false, fast: true })
    expect(await client.bytes(0, 4096)).toEqual(Buffer.alloc(4096))
    device.zeroesFast = false
    const spec = { offset: 8192, length: 4096, flags: FAST_ZERO | NO_HOLE | FUA }
    expect(await client.request(WRITE_ZEROES, spec)).toMatchObject({ errno: ERRNO.ENOTSUP })
    expect(await client.bytes(8192, 4096)).toEqual(pattern(MIB).subarray(8192, 12_288))
    expect(await client.request(WRITE_ZEROES, { ...spec, flags: 0 })).toMatchObject({ errno: 0 })
    // It is an answer, not a failure.
    expect(log).toEqual([])
  })
})

describe('CACHE', () => {
  test('goes to the disk, and is answered when that has fetched', async () => {
    const device = new MemoryDevice(MIB)
    device.hold = call => call.operation === 'cache'
    const { client } = await openDisk(device)
    let answered = false
    const cached = client.request(CACHE, { offset: 4096, length: 65_536 }).finally(() => {
      answered = true
    })
    await waitUntil('the request', () => device.held.length === 1)
    expect(device.calls).toEqual([{ operation: 'cache', offset: 4096, length: 65_536, options: undefined }])
    await client.bytes(0, 512)
    expect(answered).toBe(false)
    device.releaseAll()
    expect(await cached).toMatchObject({ errno: 0 })
  })

  test('is called off when its client has gone', async () => {
    const device = new MemoryDevice(MIB)
    const signals: AbortSignal[] = []
    device.cache = (_offset, _length, options) => {
      const { signal } = options!
      signals.push(signal!)
      return new Promise(resolve => signal!.addEventListener('abort', () => resolve()))
    }
    const { client, server } = await openDisk(device)
    const other = await openDisk(device)
    for (const asker of [client, other.client]) asker.request(CACHE, { length: MIB }).catch(() => undefined)
    await waitUntil('the requests', () => signals.length === 2)
    client.destroy()
    await waitUntil('the client to be gone', () => server.clients('disk') === 0)
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
  })

  test('past the end is EINVAL, of a part that cannot be had EIO, and a read-only disk takes it', async () => {
    const device = new MemoryDevice(MIB, { readOnly: true })
    const { client } = await openDisk(device)
    expect(await client.request(CACHE, { offset: MIB, length: 512 })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(await client.request(CACHE, { length: 0 })).toMatchObject({ errno: 0 })
    expect(device.calls).toEqual([])
    expect(await client.request(CACHE, { length: MIB })).toMatchObject({ errno: 0 })
    device.fail = () => new RowanError('STORE_IO', 'no')
    expect(await client.request(CACHE, { length: MIB })).toMatchObject({ errno: ERRNO.EIO })
  })
})

describe('FLUSH', () => {
  test('is answered when the disk has done it, not before', async () => {
    const device = new MemoryDevice(MIB)
    device.hold = call => call.operation === 'flush'
    const { client } = await openDisk(device)
    let answered = false
    const flushed = client.request(FLUSH).then(reply => {
      answered = true
      return reply
    })
    await waitUntil('the flush', () => device.held.length === 1)
    await client.bytes(0, 512)
    expect(answered).toBe(false)
    device.releaseAll()
    expect(await flushed).toMatchObject({ errno: 0 })
  })

  test('reaches the disk behind the writes that were sent before it', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    const writes = [0, 512, 1024].map(offset => client.request(WRITE, { offset, data: Buffer.alloc(512, 1) }))
    await Promise.all([...writes, client.request(FLUSH)])
    expect(device.calls.map(call => call.operation)).toEqual(['write', 'write', 'write', 'flush'])
  })

  test('on one connection covers what was acknowledged on another: there is one disk behind both', async () => {
    const { client, device, path } = await openDisk(new MemoryDevice(MIB))
    const other = await NbdClient.open(path)
    await client.request(WRITE, { data: Buffer.alloc(512, 9) })
    expect(await other.bytes(0, 512)).toEqual(Buffer.alloc(512, 9))
    await other.request(FLUSH)
    expect(device.calls.at(-1)?.operation).toBe('flush')
  })

  test.each([{ offset: 512 }, { length: 512 }])('with %o is EINVAL', async spec => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(FLUSH, spec)).toMatchObject({ errno: ERRNO.EINVAL })
    expect(device.calls).toEqual([])
  })
})

describe('flags and commands', () => {
  test('FUA is taken with every command', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB))
    for (const command of [READ, TRIM, WRITE_ZEROES]) {
      expect(await client.request(command, { length: 512, flags: FUA })).toMatchObject({ errno: 0 })
    }
    expect(await client.request(FLUSH, { flags: FUA })).toMatchObject({ errno: 0 })
  })

  test.each([
    ['READ with DF, which only chunks make sense of', READ, DF],
    ['READ with NO_HOLE', READ, NO_HOLE],
    ['TRIM with NO_HOLE', TRIM, NO_HOLE],
    ['TRIM with FAST_ZERO', TRIM, FAST_ZERO],
    ['FLUSH with FAST_ZERO', FLUSH, FAST_ZERO],
    ['CACHE with NO_HOLE', CACHE, NO_HOLE],
    ['READ with PAYLOAD_LEN, which only extended headers have', READ, PAYLOAD_LEN],
    ['TRIM with REQ_ONE', TRIM, REQ_ONE],
    ['READ with a flag that does not exist', READ, 0x8000],
    ['BLOCK_STATUS, which was not negotiated', 7, 0],
    ['RESIZE', 8, 0],
    ['a command that does not exist', 0xffff, 0]
  ])('%s is EINVAL, and the connection lives', async (_what, command, flags) => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(command, { length: 512, flags })).toEqual({
      errno: ERRNO.EINVAL,
      data: Buffer.alloc(0)
    })
    expect(device.calls).toEqual([])
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('a WRITE with a wrong flag is EINVAL, its payload is passed over, and the connection lives', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    const data = Buffer.alloc(100_000, 1)
    expect(await client.request(WRITE, { data, flags: NO_HOLE })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(device.calls).toEqual([])
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('whoever asked for the block sizes is held to them', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB), [INFO.BLOCK_SIZE])
    for (const spec of [
      { offset: 1, length: 512 },
      { offset: 0, length: 511 }
    ]) {
      expect(await client.request(READ, spec)).toMatchObject({ errno: ERRNO.EINVAL })
      expect(await client.request(TRIM, spec)).toMatchObject({ errno: ERRNO.EINVAL })
    }
    expect(await client.request(WRITE, { offset: 1, data: Buffer.alloc(512) })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(device.calls).toEqual([])
    expect(await client.bytes(512, 512)).toEqual(Buffer.alloc(512))
  })

  test('whoever did not ask may read and write single bytes', async () => {
    const { client, device } = await openDisk(new MemoryDevice(MIB))
    expect(await client.request(WRITE, { offset: 3, data: Buffer.from('rowan') })).toMatchObject({ errno: 0 })
    expect(device.bytes.subarray(0, 10).toString()).toBe('\0\0\0rowan\0\0')
    expect((await client.bytes(4, 3)).toString()).toBe('owa')
  })

  test('a read-only disk refuses what writes with EPERM, and still flushes', async () => {
    const { client, device } = await openDisk(new MemoryDevice(pattern(MIB), { readOnly: true }))
    expect(await client.request(WRITE, { data: Buffer.alloc(512) })).toMatchObject({ errno: ERRNO.EPERM })
    expect(await client.request(TRIM, { length: 512 })).toMatchObject({ errno: ERRNO.EPERM })
    expect(await client.request(WRITE_ZEROES, { length: 512 })).toMatchObject({ errno: ERRNO.EPERM })
    expect(await client.request(FLUSH)).toMatchObject({ errno: 0 })
    expect(await client.bytes(0, 512)).toEqual(pattern(512))
    expect(device.calls.map(call => call.operation)).toEqual(['flush', 'read'])
  })
})

describe('failures of the disk', () => {
  const failures: [string, Error, number][] = [
    ['a full disk', new RowanError('DISK_FULL', 'full'), ERRNO.ENOSPC],
    ['a failed layer', new RowanError('LAYER_FAILED', 'no'), ERRNO.EIO],
    ['a closed disk', new RowanError('DISK_CLOSED', 'no'), ERRNO.ESHUTDOWN],
    ['ENOSPC of the system', Object.assign(new Error('no space left'), { code: 'ENOSPC' }), ERRNO.ENOSPC],
    ['anything else', new TypeError('oops'), ERRNO.EIO]
  ]

  test.each(failures)(
    '%s is answered with its errno, at once or later, and the connection lives',
    async (_w, error, errno) => {
      for (const later of [false, true]) {
        const device = new MemoryDevice(MIB)
        const { client } = await openDisk(device)
        device.fail = () => error
        device.hold = () => later
        const replies = Promise.all([
          client.request(READ, { length: 4096 }),
          client.request(WRITE, { data: Buffer.alloc(4096) }),
          client.request(TRIM, { length: 512 }),
          client.request(WRITE_ZEROES, { length: 512 }),
          client.request(FLUSH)
        ])
        if (later) await waitUntil('five requests', () => device.held.length === 5)
        device.releaseAll()
        expect((await replies).map(reply => reply.errno)).toEqual([errno, errno, errno, errno, errno])
        device.fail = () => undefined
        device.hold = () => false
        expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
      }
    }
  )

  test('are logged once for each code, not once for each request', async () => {
    const device = new MemoryDevice(MIB)
    const { client, log } = await openDisk(device)
    device.fail = call => new RowanError(call.offset === 0 ? 'DISK_FULL' : 'LAYER_FAILED', 'broken')
    for (const offset of [0, 512, 0, 1024, 0]) await client.request(READ, { offset, length: 512 })
    expect(log.filter(line => line.level === 'warn').map(line => line.values.code)).toEqual([
      'DISK_FULL',
      'LAYER_FAILED'
    ])
  })

  test('a range that only the disk knows to be out of its bounds is ENOSPC for a write, EINVAL for a read', async () => {
    const device = new MemoryDevice(MIB)
    const { client } = await openDisk(device)
    device.fail = () => new RowanError('OUT_OF_RANGE', 'no')
    expect(await client.request(READ, { length: 512 })).toMatchObject({ errno: ERRNO.EINVAL })
    expect(await client.request(WRITE, { data: Buffer.alloc(512) })).toMatchObject({ errno: ERRNO.ENOSPC })
  })
})

describe('order', () => {
  test('a slow request does not hold up the ones behind it, and every reply has its own data', async () => {
    const content = pattern(MIB)
    const device = new MemoryDevice(content)
    device.hold = call => call.operation === 'read' && call.offset % 8192 === 0
    const { client } = await openDisk(device)
    const order: number[] = []
    const reads = Array.from({ length: 32 }, (_, index) =>
      client.request(READ, { offset: index * 4096, length: 4096 }).then(({ errno, data }) => {
        expect(errno).toBe(0)
        expect(data.equals(content.subarray(index * 4096, (index + 1) * 4096))).toBe(true)
        order.push(index)
      })
    )
    await waitUntil('the fast half', () => order.length === 16)
    expect(order.every(index => index % 2 === 1)).toBe(true)
    for (const held of device.held.splice(0).reverse()) held.release()
    await Promise.all(reads)
    expect(order.slice(16)).toEqual(order.slice(16).sort((one, other) => other - one))
  })

  test('a cookie is returned as it came, whatever it is, and may be used again', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB))
    for (const cookie of [0n, 2n ** 64n - 1n, 0x0123456789abcdefn, 0x8000000000000000n, 0n]) {
      expect(await client.request(READ, { cookie, length: 512 })).toMatchObject({ errno: 0 })
    }
  })

  test('any cut of the bytes into packets makes no difference', async () => {
    const content = pattern(MIB)
    const { client, device } = await openDisk(new MemoryDevice(content))
    const data = pattern(3000)
    const bytes = Buffer.concat([
      requestBytes(READ, 1n, { offset: 512, length: 512 }),
      requestBytes(WRITE, 2n, { offset: 8192, data }),
      requestBytes(WRITE, 3n, { offset: MIB, data }),
      requestBytes(FLUSH, 4n),
      requestBytes(READ, 5n, { offset: 8192, length: 3000 })
    ])
    for (const size of [1, 27, 28, 29, 100, 1000, bytes.length]) {
      device.bytes.fill(0, 8192, 8192 + 3000)
      const replies = [512, 0, 0, 0, 3000].map((length, index) => client.expect(BigInt(index + 1), length))
      for (let at = 0; at < bytes.length; at += size) {
        client.send(bytes.subarray(at, at + size))
        if (size < 100) await new Promise(resolve => setImmediate(resolve))
      }
      const answered = await Promise.all(replies)
      expect(answered.map(reply => reply.errno)).toEqual([0, 0, ERRNO.ENOSPC, 0, 0])
      expect(answered[0]?.data.equals(content.subarray(512, 1024))).toBe(true)
      expect(answered[4]?.data.equals(data)).toBe(true)
    }
  })
})

describe('the end', () => {
  test('DISC is answered by closing, after all that was outstanding', async () => {
    const device = new MemoryDevice(pattern(MIB))
    device.hold = () => true
    const { client } = await openDisk(device)
    const read = client.request(READ, { length: 4096 })
    const write = client.request(WRITE, { offset: 4096, data: Buffer.alloc(4096, 5) })
    await waitUntil('both requests', () => device.held.length === 2)
    client.send(requestBytes(DISC, 9n))
    client.send(requestBytes(READ, 10n, { length: 512 }))
    device.releaseAll()
    expect((await read).data).toEqual(pattern(4096))
    expect(await write).toMatchObject({ errno: 0 })
    await client.closed
    expect(device.calls).toHaveLength(2)
  })

  test('a client that closes its half gets the replies to what it sent', async () => {
    const device = new MemoryDevice(pattern(MIB))
    device.hold = () => true
    const { client } = await openDisk(device)
    const read = client.request(READ, { length: 4096 })
    client.socket.end()
    await waitUntil('the request', () => device.held.length === 1)
    device.releaseAll()
    expect((await read).data).toEqual(pattern(4096))
    await client.closed
  })

  test('a request without its magic number ends the connection, and nobody else’s', async () => {
    const { client, path, log } = await openDisk(new MemoryDevice(MIB))
    const other = await NbdClient.open(path)
    client.send(requestBytes(READ, 1n, { length: 512, magic: 0x25609514 }))
    await client.closed
    expect(log.at(-1)?.values).toMatchObject({ code: 'NBD_PROTOCOL', broken: 'a request without its magic number' })
    expect(await other.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('what was answered before a broken rule is still sent', async () => {
    const { client } = await openDisk(new MemoryDevice(MIB))
    const read = client.expect(1n, 512)
    client.send(Buffer.concat([requestBytes(READ, 1n, { length: 512 }), requestBytes(READ, 2n, { magic: 1 })]))
    expect(await read).toMatchObject({ errno: 0 })
    await client.closed
  })

  test('a client that leaves in the middle of a payload writes nothing', async () => {
    const { client, device, path, server } = await openDisk(new MemoryDevice(MIB))
    client.send(requestBytes(WRITE, 1n, { data: Buffer.alloc(200_000, 1) }).subarray(0, 150_000))
    client.destroy()
    await waitUntil('the connection to go', () => server.clients('disk') === 0)
    expect(device.calls).toEqual([])
    expect(server.bufferBytes.lent).toBe(0)
    await expectGoodService(path)
  })
})
