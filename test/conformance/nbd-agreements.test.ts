/**
 * What a client may agree on before transmission, rule by rule of the specification: STRUCTURED_REPLY, EXTENDED_HEADERS,
 * LIST_META_CONTEXT and SET_META_CONTEXT.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { COMMAND, ERRNO, OPTION, REPLY, TRANSMISSION_FLAG } from '../../src/nbd/protocol.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { contextData, infoData, NbdClient, optionBytes, uint32 } from '../tools/nbd-client.ts'
import { serve, stopServers } from '../tools/nbd-fixture.ts'

const { STRUCTURED_REPLY, EXTENDED_HEADERS, LIST_META_CONTEXT, SET_META_CONTEXT, INFO, GO, EXPORT_NAME, STARTTLS } =
  OPTION
const { SEND_DF, BLOCK_STATUS_PAYLOAD } = TRANSMISSION_FLAG

afterEach(stopServers)

async function connect(...before: number[]) {
  const { path } = await serve({ one: new MemoryDevice(4096), two: new MemoryDevice(4096, { readOnly: true }) })
  const client = await NbdClient.connect(path)
  for (const option of before) await client.agree(option)
  return client
}

const flagsOf = async (client: NbdClient, name = 'one') =>
  (await client.option(INFO, infoData(name, [])))[0]!.data.readUInt16BE(10)

const contextsIn = (replies: { type: number; data: Buffer }[]) =>
  replies.slice(0, -1).map(({ type, data }) => {
    expect(type).toBe(REPLY.META_CONTEXT)
    return [data.readUInt32BE(0), data.subarray(4).toString()]
  })

describe('STRUCTURED_REPLY and EXTENDED_HEADERS', () => {
  test('each brings the flags that make sense with it, and nobody else sees them', async () => {
    const plain = await connect()
    expect((await flagsOf(plain)) & (SEND_DF | BLOCK_STATUS_PAYLOAD)).toBe(0)
    const structured = await connect(STRUCTURED_REPLY)
    await structured.agree(SET_META_CONTEXT, contextData('one', ['base:allocation']))
    expect((await flagsOf(structured)) & (SEND_DF | BLOCK_STATUS_PAYLOAD)).toBe(SEND_DF)
    const extended = await connect(EXTENDED_HEADERS)
    expect((await flagsOf(extended)) & (SEND_DF | BLOCK_STATUS_PAYLOAD)).toBe(SEND_DF)
    await extended.agree(SET_META_CONTEXT, contextData('one', ['base:allocation']))
    expect((await flagsOf(extended)) & BLOCK_STATUS_PAYLOAD).toBe(BLOCK_STATUS_PAYLOAD)
    expect((await flagsOf(extended, 'two')) & BLOCK_STATUS_PAYLOAD).toBe(0)
  })

  test('a read-only disk offers neither FAST_ZERO nor what it would be for, but CACHE', async () => {
    const flags = await flagsOf(await connect(), 'two')
    expect(flags & (TRANSMISSION_FLAG.SEND_FAST_ZERO | TRANSMISSION_FLAG.SEND_WRITE_ZEROES)).toBe(0)
    expect(flags & TRANSMISSION_FLAG.SEND_CACHE).toBeTruthy()
  })

  test.each([
    ['STRUCTURED_REPLY', STRUCTURED_REPLY],
    ['EXTENDED_HEADERS', EXTENDED_HEADERS]
  ])('%s with data is INVALID, and changes nothing', async (_name, option) => {
    const client = await connect()
    expect(await client.option(option, Buffer.from('x'))).toMatchObject([{ option, type: REPLY.ERR_INVALID }])
    expect((await flagsOf(client)) & SEND_DF).toBe(0)
    expect(await client.option(option, Buffer.alloc(20_000))).toMatchObject([{ option, type: REPLY.ERR_TOO_BIG }])
  })

  test('said twice they are acknowledged twice', async () => {
    await connect(STRUCTURED_REPLY, STRUCTURED_REPLY, EXTENDED_HEADERS, EXTENDED_HEADERS)
  })

  test('extended headers take precedence, and there is no way back', async () => {
    const client = await connect(STRUCTURED_REPLY, EXTENDED_HEADERS)
    expect(await client.option(STRUCTURED_REPLY)).toMatchObject([{ type: REPLY.ERR_EXT_HEADER_REQD }])
    await client.agree(GO, infoData('one'))
    client.mode = 'extended'
    expect(await client.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('EXPORT_NAME goes with structured replies, and not with extended headers', async () => {
    const structured = await connect(STRUCTURED_REPLY)
    structured.send(optionBytes(EXPORT_NAME, Buffer.from('one')))
    expect((await structured.read(10)).readUInt16BE(8) & SEND_DF).toBe(SEND_DF)
    structured.mode = 'structured'
    expect(await structured.bytes(0, 512)).toEqual(Buffer.alloc(512))
    const extended = await connect(EXTENDED_HEADERS)
    extended.send(optionBytes(EXPORT_NAME, Buffer.from('one')))
    await extended.closed
  })

  test('a client that cannot read replies to options is cut off', async () => {
    const { path } = await serve(new MemoryDevice(512))
    const client = await NbdClient.connect(path, 0)
    client.send(optionBytes(STRUCTURED_REPLY))
    await client.closed
  })
})

describe('LIST_META_CONTEXT', () => {
  test.each([
    ['no query: all', [], ['base:allocation', 'rowan:local']],
    ['a name', ['rowan:local'], ['rowan:local']],
    ['a namespace: all that is in it', ['base:'], ['base:allocation']],
    ['our namespace', ['rowan:'], ['rowan:local']],
    ['names twice: each once', ['base:allocation', 'base:', 'base:allocation'], ['base:allocation']],
    ['an unknown name of a known namespace', ['base:nothing'], []],
    ['an unknown namespace', ['qemu:dirty-bitmap:x', 'x-mine:'], []],
    ['part of a name', ['base:alloc', 'bas:'], []]
  ])('%s', async (_what, queries, found) => {
    const client = await connect(STRUCTURED_REPLY)
    const replies = await client.option(LIST_META_CONTEXT, contextData('one', queries))
    expect(replies.at(-1)).toMatchObject({ type: REPLY.ACK })
    // The number is reserved in a list.
    expect(contextsIn(replies)).toEqual(found.map(name => [0, name]))
  })

  test('selects nothing', async () => {
    const client = await connect(STRUCTURED_REPLY)
    await client.agree(LIST_META_CONTEXT, contextData('one', ['base:allocation']))
    await client.agree(GO, infoData('one'))
    client.mode = 'structured'
    expect(await client.request(COMMAND.BLOCK_STATUS, { length: 512 })).toMatchObject({ errno: ERRNO.EINVAL })
  })
})

describe('SET_META_CONTEXT', () => {
  const selected = async (client: NbdClient, name = 'one', mode: 'structured' | 'extended' = 'structured') => {
    await client.agree(GO, infoData(name, []))
    client.mode = mode
    const { errno, chunks = [] } = await client.request(COMMAND.BLOCK_STATUS, { length: 512 })
    return errno === 0 ? chunks.map(chunk => chunk.payload.readUInt32BE(0)) : errno
  }

  test('selects what is named in full, each under a number of its own', async () => {
    const client = await connect(STRUCTURED_REPLY)
    const data = contextData('one', ['rowan:local', 'base:allocation', 'base:allocation', 'base:other', 'x-y:z'])
    expect(contextsIn(await client.option(SET_META_CONTEXT, data))).toEqual([
      [1, 'base:allocation'],
      [2, 'rowan:local']
    ])
    expect(await selected(client)).toEqual([1, 2])
  })

  test.each([
    ['a namespace alone', ['base:', 'rowan:']],
    ['no query', []]
  ])('%s selects nothing, and replaces what was selected', async (_what, queries) => {
    const client = await connect(STRUCTURED_REPLY)
    await client.agree(SET_META_CONTEXT, contextData('one', ['base:allocation']))
    expect(contextsIn(await client.option(SET_META_CONTEXT, contextData('one', queries)))).toEqual([])
    expect(await selected(client)).toBe(ERRNO.EINVAL)
  })

  test('holds for the export that it names, by whichever of its names', async () => {
    const other = await connect(STRUCTURED_REPLY)
    await other.agree(SET_META_CONTEXT, contextData('one', ['base:allocation']))
    expect(await selected(other, 'two')).toBe(ERRNO.EINVAL)
    const same = await connect(STRUCTURED_REPLY)
    await same.agree(SET_META_CONTEXT, contextData('', ['base:allocation']))
    expect(await selected(same, 'one')).toEqual([1])
  })

  test('goes with extended headers alone', async () => {
    const client = await connect(EXTENDED_HEADERS)
    await client.agree(SET_META_CONTEXT, contextData('one', ['rowan:local']))
    expect(await selected(client, 'one', 'extended')).toEqual([2])
  })

  test('outlives a change of the replies’ form', async () => {
    const client = await connect(STRUCTURED_REPLY)
    await client.agree(SET_META_CONTEXT, contextData('one', ['rowan:local']))
    await client.agree(EXTENDED_HEADERS)
    expect(await selected(client, 'one', 'extended')).toEqual([2])
  })

  test('before replies have chunks is INVALID', async () => {
    const client = await connect()
    const [refusal] = await client.option(SET_META_CONTEXT, contextData('one', ['base:allocation']))
    expect(refusal?.type).toBe(REPLY.ERR_INVALID)
  })

  test.each([
    ['an unknown export', contextData('three', ['base:allocation']), REPLY.ERR_UNKNOWN],
    ['no data', Buffer.alloc(0), REPLY.ERR_INVALID],
    ['no number of queries', Buffer.concat([uint32(3), Buffer.from('one')]), REPLY.ERR_INVALID],
    ['a name longer than the option', Buffer.concat([uint32(300), Buffer.from('one'), uint32(0)]), REPLY.ERR_INVALID],
    ['more queries than there are', Buffer.concat([uint32(0), uint32(0xffffffff)]), REPLY.ERR_INVALID],
    ['a query longer than the option', Buffer.concat([uint32(0), uint32(1), uint32(9)]), REPLY.ERR_INVALID],
    ['bytes left over', Buffer.concat([contextData('one', ['base:']), Buffer.alloc(1)]), REPLY.ERR_INVALID],
    ['a query without a colon', contextData('one', ['base']), REPLY.ERR_INVALID],
    ['a query without a namespace', contextData('one', [':allocation']), REPLY.ERR_INVALID],
    ['a query that is not UTF-8', contextData('one', [Buffer.from([0xff])]), REPLY.ERR_INVALID],
    ['a query with NUL', contextData('one', ['base:\0']), REPLY.ERR_INVALID],
    ['a query beyond 4,096 bytes', contextData('one', [`base:${'x'.repeat(4096)}`]), REPLY.ERR_INVALID],
    ['more data than an option may have', Buffer.alloc(8193), REPLY.ERR_TOO_BIG]
  ])('%s is refused, unselects what was selected, and the next option is answered', async (_what, data, type) => {
    const client = await connect(STRUCTURED_REPLY)
    for (const option of [LIST_META_CONTEXT, SET_META_CONTEXT]) {
      await client.agree(SET_META_CONTEXT, contextData('one', ['base:allocation']))
      expect(await client.option(option, data)).toMatchObject([{ option, type }])
    }
    expect(await selected(client)).toBe(ERRNO.EINVAL)
  })
})

describe('STARTTLS', () => {
  test('on a local socket is refused by policy', async () => {
    const client = await connect()
    expect(await client.option(STARTTLS)).toMatchObject([{ option: STARTTLS, type: REPLY.ERR_POLICY }])
    await client.agree(GO, infoData('one'))
  })
})
