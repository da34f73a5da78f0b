/**
 * A machine that is served over TCP, too: always behind TLS, and never at the cost of its socket.
 */
import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseTcpAddress, sameTcp, tcpUri } from '../../../src/machine/tcp-address.ts'
import { COMMAND, OPTION, REPLY } from '../../../src/nbd/protocol.ts'
import { writePskFolder } from '../../tools/certificates.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { freePort } from '../../tools/free-port.ts'
import { NbdClient } from '../../tools/nbd-client.ts'
import { diskBytes, Peer, World } from './world.ts'

let home: string
let world: World
let peer: Peer
let port: number

beforeEach(async () => {
  home = await temporaryFolder()
  world = new World()
  peer = await Peer.start(home, world)
  port = await freePort()
})

afterEach(async () => {
  await peer.stop()
  await removeFolders()
})

async function restart(): Promise<void> {
  await peer.stop()
  peer = await Peer.start(home, world)
}

async function overTls(name = 'm'): Promise<NbdClient> {
  const [identity, key] = (await readFile(join(home, 'tls', 'keys.psk'), 'utf8')).trim().split(':') as [string, string]
  const client = await NbdClient.connect(`127.0.0.1:${port}`)
  await client.startTls({
    pskCallback: () => ({ identity, psk: Buffer.from(key, 'hex') }),
    checkServerIdentity: () => undefined
  })
  await client.go(name)
  return client
}

const bySocket = () => NbdClient.open(peer.socket('m'), 'm')
const attach = (tcp?: string) => peer.machines.attach({ name: 'm', ref: 'grid', ...(tcp === undefined ? {} : { tcp }) })

test('is served there behind TLS and at its socket, also after a restart, until it is told not to', async () => {
  await writePskFolder(join(home, 'tls'))
  const uri = `nbds://127.0.0.1:${port}/m`
  expect(await attach(`${port}`)).toMatchObject({ created: true, tcpUri: uri })
  const client = await overTls()
  expect(await client.bytes(0, 512)).toEqual(diskBytes(10).subarray(0, 512))
  const plain = await NbdClient.connect(`127.0.0.1:${port}`)
  expect(await plain.option(OPTION.LIST)).toMatchObject([{ type: REPLY.ERR_TLS_REQD }])
  for (const each of [client, await bySocket()]) await each.disconnect()
  plain.destroy()

  await restart()
  await (await overTls()).disconnect()
  // Without a word it stays as it is.
  expect(await attach()).toMatchObject({ created: false, tcpUri: uri })
  expect(await attach('none')).toMatchObject({ tcpUri: null })
  await expect(NbdClient.dial(`127.0.0.1:${port}`)).rejects.toThrow('ECONNREFUSED')
  await restart()
  await expect(NbdClient.dial(`127.0.0.1:${port}`)).rejects.toThrow('ECONNREFUSED')
  await (await bySocket()).disconnect()
})

test('without what TLS needs is refused: TLS_INVALID; a machine that is served stays so', async () => {
  await expect(attach(`${port}`)).rejects.toMatchObject({ code: 'TLS_INVALID' })
  expect(await peer.machines.status()).toEqual([])
  await attach()
  const client = await bySocket()
  await client.disconnect()
  await expect(attach(`${port}`)).rejects.toMatchObject({ code: 'TLS_INVALID' })
  await (await bySocket()).disconnect()
  expect(await attach()).toMatchObject({ tcpUri: null })
})

test('at a port that is taken is refused: LISTEN_FAILED; the machine is served as before', async () => {
  await writePskFolder(join(home, 'tls'))
  const other = createServer()
  await new Promise<void>(resolve => other.listen(port, '127.0.0.1', resolve))
  await attach()
  await expect(attach(`${port}`)).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
  await (await bySocket()).disconnect()
  await new Promise(resolve => other.close(resolve))
})

test('is served at its socket alone, with a warning, where TLS or the port is gone after a restart', async () => {
  await writePskFolder(join(home, 'tls'))
  await attach(`${port}`)
  await peer.stop()
  await rm(join(home, 'tls'), { recursive: true })
  peer = await Peer.start(home, world)
  await (await bySocket()).disconnect()
  expect(peer.log.join('')).toMatch(/served at its socket alone.*TLS_INVALID/s)
  // Who attaches it without a word of TCP is answered, also while a client is there.
  const client = await bySocket()
  expect(await attach()).toMatchObject({ tcpUri: null })
  await client.disconnect()
  // It is not forgotten: with the keys back, it is there again.
  await writePskFolder(join(home, 'tls'))
  await restart()
  await (await overTls()).disconnect()
})

/** Takes the machine's port while the daemon restarts. */
async function restartWithoutPort(): Promise<() => Promise<void>> {
  await peer.stop()
  const other = createServer()
  await new Promise<void>(resolve => other.listen(port, '127.0.0.1', resolve))
  peer = await Peer.start(home, world)
  return () => new Promise(resolve => other.close(() => resolve()))
}

test('is served at its socket alone also after a rollback, and when it could not be served otherwise', async () => {
  await writePskFolder(join(home, 'tls'))
  await attach(`${port}`)
  const { name } = await peer.machines.snapshot('m', '')
  const release = await restartWithoutPort()
  try {
    await peer.machines.rollback('m', name)
    await (await bySocket()).disconnect()
    await expect(peer.machines.attach({ name: 'm', readOnly: true })).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
    const client = await bySocket()
    expect((await client.request(COMMAND.WRITE, { offset: 0, data: Buffer.alloc(512) })).errno).toBe(0)
    await client.disconnect()
  } finally {
    await release()
  }
  await restart()
  await (await overTls()).disconnect()
})

test('an attach that is refused leaves a machine detached as it was', async () => {
  await writePskFolder(join(home, 'tls'))
  await attach()
  await peer.machines.detach('m')
  const before = peer.machines.describe('m')
  expect(before).toMatchObject({ attached: false })
  const other = createServer()
  await new Promise<void>(resolve => other.listen(port, '127.0.0.1', resolve))
  await expect(attach(`${port}`)).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
  await new Promise(resolve => other.close(resolve))
  expect(peer.machines.describe('m')).toEqual(before)
  await restart()
  expect(peer.machines.served()).toEqual([])
})

test('is not moved under a client', async () => {
  await writePskFolder(join(home, 'tls'))
  await attach()
  const client = await bySocket()
  await expect(attach(`${port}`)).rejects.toMatchObject({ code: 'MACHINE_RUNNING' })
  expect((await client.bytes(0, 512)).length).toBe(512)
  await client.disconnect()
})

test.each([
  ['10809', '127.0.0.1', 10809],
  ['192.0.2.7:1', '192.0.2.7', 1],
  ['host.example:65535', 'host.example', 65535],
  ['[2001:db8::7]:10809', '2001:db8::7', 10809]
])('the address %s is understood', (text, host, each) => {
  expect(parseTcpAddress(text)).toEqual({ host, port: each })
  expect(sameTcp(parseTcpAddress(text), { host, port: each })).toBe(true)
})

test.each(['', '0', '65536', 'x', ':1', 'a:', 'a:b', '1.2.3.4', '::1:5', '[1.2.3.4]:5', '[::1]', 'a b:1', '1:2:3'])(
  'the address "%s" is refused: TCP_ADDRESS_INVALID',
  text => {
    expect(() => parseTcpAddress(text)).toThrow(expect.objectContaining({ code: 'TCP_ADDRESS_INVALID' }))
  }
)

test('an IPv6 address has its brackets in a URI', () => {
  expect(tcpUri('m', { host: '2001:db8::7', port: 5 })).toBe('nbds://[2001:db8::7]:5/m')
})
