/**
 * STARTTLS, rule by rule of the specification (doc/proto.md, "TLS support", FORCEDTLS), by a raw client over TCP.
 */
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { COMMAND, OPTION, REPLY } from '../../src/nbd/protocol.ts'
import { readTlsFolder } from '../../src/nbd/tls-folder.ts'
import { TestAuthority, writePskFolder } from '../tools/certificates.ts'
import { temporaryFolder } from '../tools/folders.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { infoData, NbdClient, optionBytes } from '../tools/nbd-client.ts'
import { serve, stopServers } from '../tools/nbd-fixture.ts'

const { STARTTLS, GO, LIST, INFO, ABORT, EXPORT_NAME, STRUCTURED_REPLY, EXTENDED_HEADERS, SET_META_CONTEXT } = OPTION

afterEach(stopServers)

async function serveTls(folder: string, device = new MemoryDevice(4 * 1024 * 1024)) {
  const served = await serve(device, { tlsFolder: folder })
  return { ...served, where: served.tcp! }
}

async function withCertificates() {
  const folder = await temporaryFolder()
  const authority = await TestAuthority.make(join(folder, 'ca'))
  await authority.issue(join(folder, 'server'), 'server')
  await authority.issue(join(folder, 'client'), 'client')
  const served = await serveTls(join(folder, 'server'))
  return { ...served, folder, authority, options: await clientOptions(join(folder, 'client')) }
}

async function clientOptions(folder: string): Promise<ConnectionOptions> {
  return {
    ca: await readFile(join(folder, 'ca-cert.pem')),
    cert: await readFile(join(folder, 'client-cert.pem')),
    key: await readFile(join(folder, 'client-key.pem')),
    servername: 'localhost'
  }
}

async function withKeys(maxVersion: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3') {
  const folder = await temporaryFolder()
  const [user, key] = (await readFile(await writePskFolder(folder), 'utf8')).trim().split(':') as [string, string]
  const optionsWith = (identity: string, secret: string): ConnectionOptions => ({
    pskCallback: () => ({ identity, psk: Buffer.from(secret, 'hex') }),
    checkServerIdentity: () => undefined,
    ciphers: 'PSK:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384',
    maxVersion
  })
  return { ...(await serveTls(folder)), folder, user, key, optionsWith, options: optionsWith(user, key) }
}

describe('before TLS', () => {
  test('every option but STARTTLS and ABORT is TLS_REQD, known or not, well formed or not', async () => {
    const { where } = await withKeys()
    const client = await NbdClient.connect(where)
    for (const option of [LIST, INFO, GO, STRUCTURED_REPLY, EXTENDED_HEADERS, SET_META_CONTEXT, 4, 99]) {
      for (const data of [Buffer.alloc(0), infoData('disk'), Buffer.alloc(20_000, 1)]) {
        expect(await client.option(option, data)).toMatchObject([{ option, type: REPLY.ERR_TLS_REQD }])
      }
    }
    expect(await client.option(ABORT)).toMatchObject([{ type: REPLY.ACK }])
    await client.closed
  })

  test('EXPORT_NAME ends the connection, and so does a client that cannot read replies to options', async () => {
    const { where } = await withKeys()
    for (const flags of [3, 0]) {
      const client = await NbdClient.connect(where, flags)
      client.send(optionBytes(EXPORT_NAME, Buffer.from('disk')))
      await client.closed
      await expect(client.read(1)).rejects.toThrow('closed')
    }
  })

  test('STARTTLS with data is INVALID, and may be said again', async () => {
    const { where, options } = await withKeys()
    const client = await NbdClient.connect(where)
    expect(await client.option(STARTTLS, Buffer.from('x'))).toMatchObject([{ type: REPLY.ERR_INVALID }])
    await client.startTls(options)
    await client.go('disk')
  })

  test('whatever was agreed on in the clear behind STARTTLS ends the connection', async () => {
    const { where, log } = await withKeys()
    const client = await NbdClient.connect(where)
    client.send(Buffer.concat([optionBytes(STARTTLS), optionBytes(GO, infoData('disk'))]))
    await client.closed
    expect(log.at(-1)?.values.broken).toMatch(/in the clear behind STARTTLS/)
  })
})

describe.each([
  ['certificates', withCertificates],
  ['pre-shared keys, TLS 1.3', () => withKeys('TLSv1.3')],
  ['pre-shared keys, TLS 1.2', () => withKeys('TLSv1.2')]
] as const)('with %s', (_what, make) => {
  test('a client is served: options, requests of any size, the end', async () => {
    const { where, options, exports } = await make()
    const device = exports.get('disk')!.device as MemoryDevice
    const client = await NbdClient.connect(where)
    await client.startTls(options)
    expect(await client.option(STARTTLS)).toMatchObject([{ type: REPLY.ERR_INVALID }])
    await client.go('disk', [], { mode: 'structured', contexts: ['base:allocation'] })
    const data = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => 1 + (index % 250)))
    expect(await client.request(COMMAND.WRITE, { offset: 512, data })).toMatchObject({ errno: 0 })
    expect(device.bytes.subarray(512, 512 + data.length).equals(data)).toBe(true)
    expect((await client.bytes(512, data.length)).equals(data)).toBe(true)
    expect(await client.request(COMMAND.FLUSH)).toMatchObject({ errno: 0 })
    expect((await client.status(0, 512)).get(1)).toEqual([[512, 3]])
    await client.disconnect()
  })

  test('ABORT is acknowledged under TLS, too', async () => {
    const { where, options } = await make()
    const client = await NbdClient.connect(where)
    await client.startTls(options)
    expect(await client.option(ABORT)).toMatchObject([{ type: REPLY.ACK }])
    await client.closed
  })
})

describe('who may not talk to this server', () => {
  /** The handshake may seem to succeed to a client of TLS 1.3; what counts is that nothing is answered behind it. */
  const expectRefused = async (where: string, options: ConnectionOptions) => {
    const client = await NbdClient.connect(where)
    await client
      .startTls(options)
      .then(() => client.option(LIST))
      .then(
        replies => expect(replies).toBe('nothing'),
        () => undefined
      )
    await client.closed
  }

  test('a client without a certificate, with another authority’s, or with one that has expired', async () => {
    const { where, folder, authority, options, log } = await withCertificates()
    await expectRefused(where, { ca: options.ca!, servername: 'localhost' })
    const other = await TestAuthority.make(join(folder, 'other-ca'))
    await other.issue(join(folder, 'other'), 'client')
    await expectRefused(where, { ...(await clientOptions(join(folder, 'other'))), ca: options.ca! })
    await authority.issue(join(folder, 'old'), 'client', { days: -1 })
    await expectRefused(where, await clientOptions(join(folder, 'old')))
    // A certificate that is for servers is none for a client.
    await authority.issue(join(folder, 'server'), 'server')
    const cert = await readFile(join(folder, 'server', 'server-cert.pem'))
    const key = await readFile(join(folder, 'server', 'server-key.pem'))
    await expectRefused(where, { ...options, cert, key })
    expect(log.filter(line => /TLS failed/.test(String(line.values.broken))).length).toBeGreaterThan(0)
    const good = await NbdClient.connect(where)
    await good.startTls(options)
    await good.go('disk')
  })

  test('a client with a wrong key, an unknown name, or none', async () => {
    const { where, user, key, optionsWith, options } = await withKeys()
    await expectRefused(where, optionsWith(user, '00'.repeat(32)))
    await expectRefused(where, optionsWith('mallory', key))
    await expectRefused(where, { rejectUnauthorized: false })
    const good = await NbdClient.connect(where)
    await good.startTls(options)
    await good.go('disk')
  })

  test('a client of an older TLS', async () => {
    const { where, options } = await withCertificates()
    await expectRefused(where, { ...options, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' })
  })

  test('a client that says something else than TLS', async () => {
    const { where, options } = await withKeys()
    const client = await NbdClient.connect(where)
    await client.agree(STARTTLS)
    client.send(optionBytes(GO, infoData('disk')))
    await client.closed
    // And one that leaves in the midst of the handshake.
    const other = await NbdClient.connect(where)
    await other.agree(STARTTLS)
    other.send(Buffer.from([0x16, 0x03, 0x01, 0x02]))
    other.destroy()
    const good = await NbdClient.connect(where)
    await good.startTls(options)
    await good.go('disk')
  })

  test('a client that never begins its handshake has its time', async () => {
    const folder = await temporaryFolder()
    await writePskFolder(folder)
    const served = await serve(new MemoryDevice(512), { tlsFolder: folder, limits: { negotiationTimeoutMs: 200 } })
    const client = await NbdClient.connect(served.tcp!)
    await client.agree(STARTTLS)
    await client.closed
    expect(served.server.bufferBytes.lent).toBe(0)
  })

  test('nobody who connects and says nothing keeps the server from stopping', async () => {
    const { where, server } = await withKeys()
    const [host, port] = where.split(':') as [string, string]
    const socket = createConnection({ host, port: Number(port) })
    await new Promise(resolve => socket.once('data', resolve))
    await server.stop()
    socket.destroy()
  })
})

describe('the folder', () => {
  const invalid = (text: string) =>
    expect.objectContaining({ code: 'TLS_INVALID', message: expect.stringContaining(text) })

  test('without what is needed is refused by the name of the file', async () => {
    const folder = await temporaryFolder()
    await expect(readTlsFolder(folder)).rejects.toEqual(invalid('ca-cert.pem is missing'))
    await expect(readTlsFolder(join(folder, 'nowhere'))).rejects.toEqual(invalid('ca-cert.pem is missing'))
    const authority = await TestAuthority.make(join(folder, 'ca'))
    await authority.issue(join(folder, 'server'), 'server')
    await rm(join(folder, 'server', 'server-key.pem'))
    await expect(readTlsFolder(join(folder, 'server'))).rejects.toEqual(invalid('server-key.pem is missing'))
  })

  test('with a secret that others can read is refused', async () => {
    const folder = await temporaryFolder()
    const authority = await TestAuthority.make(join(folder, 'ca'))
    await authority.issue(join(folder, 'server'), 'server')
    await readTlsFolder(join(folder, 'server'))
    await chmod(join(folder, 'server', 'server-key.pem'), 0o640)
    await expect(readTlsFolder(join(folder, 'server'))).rejects.toEqual(invalid('others can read'))
    await chmod(await writePskFolder(folder), 0o604)
    await expect(readTlsFolder(folder)).rejects.toEqual(invalid('others can read'))
  })

  test('with damaged certificates, or a key of another, is refused', async () => {
    const folder = await temporaryFolder()
    const authority = await TestAuthority.make(join(folder, 'ca'))
    for (const name of ['a', 'b']) await authority.issue(join(folder, name), 'server')
    await writeFile(join(folder, 'a', 'server-key.pem'), await readFile(join(folder, 'b', 'server-key.pem')))
    await expect(readTlsFolder(join(folder, 'a'))).rejects.toEqual(invalid('cannot be used'))
    await writeFile(join(folder, 'b', 'server-cert.pem'), 'not a certificate')
    await expect(readTlsFolder(join(folder, 'b'))).rejects.toEqual(invalid('cannot be used'))
  })

  test.each([
    ['no key', '# nothing\n\n', 'has no key'],
    ['a line that is none', 'rowan\n', 'line 1'],
    ['a key that is not hexadecimal', `a:${'12'.repeat(16)}\nb:xyz\n`, 'line 2'],
    ['a short key', 'rowan:1234\n', '128 bits'],
    ['a name twice', `a:${'12'.repeat(16)}\na:${'34'.repeat(16)}\n`, 'already'],
    ['too many keys', Array.from({ length: 1025 }, (_, n) => `u${n}:${'12'.repeat(16)}`).join('\n'), 'more than 1024']
  ])('with %s in keys.psk is refused', async (_what, text, says) => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'keys.psk'), text, { mode: 0o600 })
    await expect(readTlsFolder(folder)).rejects.toEqual(invalid(says))
  })
})
