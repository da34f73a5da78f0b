/**
 * The handshake, rule by rule of the specification (doc/proto.md), by a raw client against a real server.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { INFO, OPTION, REPLY, TRANSMISSION_FLAG } from '../../src/nbd/protocol.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { infoData, NbdClient, optionBytes, uint16, uint32 } from '../tools/nbd-client.ts'
import { expectGoodService, serve, stopServers } from '../tools/nbd-fixture.ts'

const MIB = 1024 * 1024
const WRITABLE_FLAGS =
  TRANSMISSION_FLAG.HAS_FLAGS |
  TRANSMISSION_FLAG.SEND_FLUSH |
  TRANSMISSION_FLAG.SEND_FUA |
  TRANSMISSION_FLAG.SEND_TRIM |
  TRANSMISSION_FLAG.SEND_WRITE_ZEROES |
  TRANSMISSION_FLAG.CAN_MULTI_CONN |
  TRANSMISSION_FLAG.SEND_CACHE |
  TRANSMISSION_FLAG.SEND_FAST_ZERO

afterEach(stopServers)

const serveTwo = () => serve({ one: new MemoryDevice(MIB), two: new MemoryDevice(2 * MIB, { readOnly: true }) })

describe('greeting and client flags', () => {
  test('the server offers fixed newstyle and no zeroes, and no other flag', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.dial(path)
    expect(await client.greeting()).toBe(0b11)
  })

  test('a flag that does not exist ends the connection', async () => {
    const { path, log } = await serveTwo()
    const client = await NbdClient.connect(path, 0b111)
    await client.closed
    expect(log.map(line => line.values.broken)).toContain('unknown client flags 0x7')
  })

  test('a client without fixed newstyle may use EXPORT_NAME', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path, 0)
    client.send(optionBytes(OPTION.EXPORT_NAME, Buffer.from('one')))
    expect((await client.read(10 + 124)).readBigUInt64BE(0)).toBe(BigInt(MIB))
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('a client without fixed newstyle that sends another option is cut off, for it could not read the reply', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path, 0)
    client.send(optionBytes(OPTION.LIST))
    await client.closed
    await expectGoodService(path)
  })
})

describe('EXPORT_NAME', () => {
  test('answers with size, flags and no zeroes where they were declined', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(optionBytes(OPTION.EXPORT_NAME, Buffer.from('one')))
    const answer = await client.read(10)
    expect(answer.readBigUInt64BE(0)).toBe(BigInt(MIB))
    expect(answer.readUInt16BE(8)).toBe(WRITABLE_FLAGS)
    expect(await client.bytes(512, 512)).toEqual(Buffer.alloc(512))
  })

  test('answers with 124 zeroes where they were not declined', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path, 0b01)
    client.send(optionBytes(OPTION.EXPORT_NAME, Buffer.from('one')))
    expect((await client.read(134)).subarray(10)).toEqual(Buffer.alloc(124))
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('requests right behind it, in the same packet, are served', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const request = Buffer.concat([uint32(0x25609513), uint32(0), uint32(0), uint32(7), Buffer.alloc(8), uint32(512)])
    client.send(Buffer.concat([optionBytes(OPTION.EXPORT_NAME, Buffer.from('one')), request]))
    await client.read(10)
    expect((await client.expect(7n, 512)).errno).toBe(0)
  })

  test.each([
    ['an unknown name', Buffer.from('three')],
    ['a name with NUL', Buffer.from('one\0')],
    ['a name that is not UTF-8', Buffer.from([0xff, 0xfe])],
    ['a name beyond 4,096 bytes', Buffer.alloc(4097, 'x')],
    ['a name beyond all bounds', Buffer.alloc(9000, 'x')]
  ])('%s ends the connection, there being no other way to refuse', async (_what, name) => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(optionBytes(OPTION.EXPORT_NAME, name))
    await client.closed
    await expect(client.read(1)).rejects.toThrow('closed')
  })
})

describe('INFO and GO', () => {
  test('GO says size and flags, and transmission begins', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const [info, ack, ...more] = await client.option(OPTION.GO, infoData('one', []))
    expect(info).toMatchObject({ option: OPTION.GO, type: REPLY.INFO })
    expect(info?.data).toEqual(Buffer.concat([uint16(INFO.EXPORT), uint32(0), uint32(MIB), uint16(WRITABLE_FLAGS)]))
    expect(ack).toMatchObject({ option: OPTION.GO, type: REPLY.ACK, data: Buffer.alloc(0) })
    expect(more).toEqual([])
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('a read-only disk says so, and offers no command that writes', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const [info] = await client.option(OPTION.INFO, infoData('two', []))
    const flags = info?.data.readUInt16BE(10) ?? 0
    expect(flags & TRANSMISSION_FLAG.READ_ONLY).toBeTruthy()
    expect(flags & (TRANSMISSION_FLAG.SEND_TRIM | TRANSMISSION_FLAG.SEND_WRITE_ZEROES)).toBe(0)
    expect(flags & TRANSMISSION_FLAG.CAN_MULTI_CONN).toBeTruthy()
  })

  test('block sizes, name and description are said where they are asked for', async () => {
    const { path } = await serve({ one: new MemoryDevice(MIB) }, { description: 'a disk of zeros — ø' })
    const client = await NbdClient.connect(path)
    const requests = [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE]
    const replies = await client.option(OPTION.INFO, infoData('one', requests))
    const infos = new Map(replies.slice(0, -1).map(({ data }) => [data.readUInt16BE(0), data.subarray(2)]))
    expect([...infos.keys()].sort()).toEqual([INFO.EXPORT, ...requests])
    expect(infos.get(INFO.NAME)?.toString()).toBe('one')
    expect(infos.get(INFO.DESCRIPTION)?.toString()).toBe('a disk of zeros — ø')
    expect(infos.get(INFO.BLOCK_SIZE)).toEqual(Buffer.concat([uint32(512), uint32(4096), uint32(32 * MIB)]))
  })

  test('a disk that ends inside a sector has blocks of one byte, so that its end can be read', async () => {
    const { path } = await serve(new MemoryDevice(1000))
    const client = await NbdClient.connect(path)
    const [, sizes] = await client.option(OPTION.GO, infoData('', [INFO.BLOCK_SIZE]))
    expect(sizes?.data.readUInt32BE(2)).toBe(1)
    expect(await client.bytes(999, 1)).toEqual(Buffer.alloc(1))
  })

  test('the empty name is the default export, and NAME tells its own', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const [, name] = await client.option(OPTION.INFO, infoData('', [INFO.NAME]))
    expect(name?.data.subarray(2).toString()).toBe('one')
  })

  test('INFO leaves the negotiation where it was', async () => {
    const { path, server } = await serveTwo()
    const client = await NbdClient.connect(path)
    const before = await client.option(OPTION.INFO, infoData('one'))
    expect(server.clients('one')).toBe(0)
    const after = await client.option(OPTION.GO, infoData('one'))
    expect(after.map(reply => reply.data)).toEqual(before.map(reply => reply.data))
    expect(server.clients('one')).toBe(1)
  })

  test('information that does not exist is ignored', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const replies = await client.option(OPTION.INFO, infoData('one', [77, 0xffff, INFO.NAME, INFO.NAME]))
    expect(replies.map(reply => reply.type)).toEqual([REPLY.INFO, REPLY.INFO, REPLY.ACK])
  })

  test('an unknown export is refused by name, and the next option is answered', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const [refusal] = await client.option(OPTION.GO, infoData('three'))
    expect(refusal?.type).toBe(REPLY.ERR_UNKNOWN)
    expect(refusal?.data.toString()).toContain('"three"')
    expect((await client.option(OPTION.GO, infoData('two'))).at(-1)?.type).toBe(REPLY.ACK)
  })

  test.each([
    ['no data', Buffer.alloc(0)],
    ['no number of requests', Buffer.concat([uint32(3), Buffer.from('one')])],
    ['a name that is longer than the option', Buffer.concat([uint32(300), Buffer.from('one'), uint16(0)])],
    ['a name of nearly 4 GiB', Buffer.concat([uint32(0xffffffff), Buffer.from('one'), uint16(0)])],
    ['more requests than there are', Buffer.concat([uint32(3), Buffer.from('one'), uint16(9), uint16(0)])],
    ['bytes left over', Buffer.concat([uint32(3), Buffer.from('one'), uint16(0), uint16(3)])],
    ['a name that is not UTF-8', infoData(Buffer.from([0xc3, 0x28]), [])],
    ['a name with NUL', infoData('o\0e', [])],
    ['a name beyond 4,096 bytes', infoData('x'.repeat(4097), [])]
  ])('%s is INVALID, and the next option is answered', async (_what, data) => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    for (const option of [OPTION.INFO, OPTION.GO]) {
      const [refusal] = await client.option(option, data)
      expect(refusal).toMatchObject({ option, type: REPLY.ERR_INVALID })
    }
    expect((await client.option(OPTION.GO, infoData('one'))).at(-1)?.type).toBe(REPLY.ACK)
  })
})

describe('LIST', () => {
  test('names every export with its description', async () => {
    const { path } = await serve({ one: new MemoryDevice(512), two: new MemoryDevice(512) }, { description: 'it' })
    const client = await NbdClient.connect(path)
    const replies = await client.option(OPTION.LIST)
    expect(replies.map(reply => reply.type)).toEqual([REPLY.SERVER, REPLY.SERVER, REPLY.ACK])
    expect(replies[1]?.data).toEqual(Buffer.concat([uint32(3), Buffer.from('two'), Buffer.from('it')]))
  })

  test('with data is INVALID', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    expect(await client.option(OPTION.LIST, Buffer.from('x'))).toMatchObject([{ type: REPLY.ERR_INVALID }])
  })

  test('of more exports than the limit is TOO_BIG', async () => {
    const disks = { one: new MemoryDevice(512), two: new MemoryDevice(512) }
    const { path } = await serve(disks, { limits: { maxListedExports: 1 } })
    const client = await NbdClient.connect(path)
    expect(await client.option(OPTION.LIST)).toMatchObject([{ type: REPLY.ERR_TOO_BIG }])
  })
})

describe('ABORT', () => {
  test.each([
    ['plain', Buffer.alloc(0)],
    ['with data, which is ignored', Buffer.from('bye')]
  ])('%s is acknowledged, then the connection is closed', async (_what, data) => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    expect(await client.option(OPTION.ABORT, data)).toMatchObject([{ option: OPTION.ABORT, type: REPLY.ACK }])
    await client.closed
  })

  test('what comes behind it is not looked at', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(Buffer.concat([optionBytes(OPTION.ABORT), optionBytes(OPTION.LIST)]))
    expect(await client.optionReplies()).toHaveLength(1)
    await client.closed
    await expect(client.read(1)).rejects.toThrow('closed')
  })
})

describe('other options', () => {
  test.each([
    ['PEEK_EXPORT', 4],
    ['0', 0],
    ['0xffffffff', 0xffffffff]
  ])('%s is UNSUP, with its data skipped, and GO still works', async (_name, option) => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    for (const data of [Buffer.alloc(0), Buffer.alloc(100, 1), Buffer.alloc(20_000, 1)]) {
      expect(await client.option(option, data)).toMatchObject([{ option, type: REPLY.ERR_UNSUP }])
    }
    expect((await client.option(OPTION.GO, infoData('one'))).at(-1)?.type).toBe(REPLY.ACK)
  })
})

describe('broken rules', () => {
  test('an option without its magic number ends the connection', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(Buffer.alloc(16, 0x49))
    await client.closed
    await expectGoodService(path)
  })

  test('data beyond the limit of a known option is skipped and refused with TOO_BIG', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    const [refusal] = await client.option(OPTION.GO, Buffer.alloc(8 * 1024 + 1))
    expect(refusal).toMatchObject({ option: OPTION.GO, type: REPLY.ERR_TOO_BIG })
    expect((await client.option(OPTION.GO, infoData('one'))).at(-1)?.type).toBe(REPLY.ACK)
  })

  test('data beyond what is worth skipping ends the connection before it is sent', async () => {
    const { path } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(optionBytes(OPTION.GO, Buffer.alloc(0), 0xffffffff))
    await client.closed
    await expectGoodService(path)
  })

  test('more options than the limit end the connection', async () => {
    const { path } = await serve(new MemoryDevice(512), { limits: { maxOptions: 3 } })
    const client = await NbdClient.connect(path)
    for (let count = 0; count < 3; count++) await client.option(OPTION.LIST)
    client.send(optionBytes(OPTION.LIST))
    await client.closed
    await expectGoodService(path)
  })

  test('a client that leaves in the middle of an option leaves nothing behind', async () => {
    const { path, server } = await serveTwo()
    const client = await NbdClient.connect(path)
    client.send(optionBytes(OPTION.GO, infoData('one')).subarray(0, 25))
    client.destroy()
    await expectGoodService(path)
    expect(server.clients('one')).toBe(0)
  })

  test('any cut of the bytes into packets makes no difference', async () => {
    const { path } = await serveTwo()
    const bytes = Buffer.concat([
      uint32(0b11),
      optionBytes(OPTION.STRUCTURED_REPLY),
      optionBytes(99, Buffer.alloc(9000)),
      optionBytes(OPTION.INFO, infoData('one')),
      optionBytes(OPTION.GO, infoData('one'))
    ])
    for (const size of [1, 2, 3, 5, 7, 16, 17, 1000, bytes.length]) {
      const client = await NbdClient.dial(path)
      await client.greeting()
      for (let at = 0; at < bytes.length; at += size) client.send(bytes.subarray(at, at + size))
      const types = []
      for (let option = 0; option < 4; option++) types.push((await client.optionReplies()).at(-1)?.type)
      expect(types).toEqual([REPLY.ACK, REPLY.ERR_UNSUP, REPLY.ACK, REPLY.ACK])
      client.mode = 'structured'
      expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
      client.destroy()
    }
  })
})
