import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { dirname } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { type GuestNetwork, startGuestNetwork } from '../../../src/machine/guest-network.ts'
import { qemuCommand } from '../../../src/machine/qemu.ts'
import { lineLog, systemClock } from '../../../src/node/system.ts'
import { MemoryDevice } from '../../tools/memory-device.ts'
import { serve, stopServers } from '../../tools/nbd-fixture.ts'
import { endProcesses, start } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'
import { arpFrame, framed, ipv4Frame } from './frames.ts'

const log = lineLog('silent')
const closers: (() => void)[] = []

afterEach(async () => {
  for (const close of closers.splice(0)) close()
  await endProcesses()
  await stopServers()
})

async function startNetwork(): Promise<GuestNetwork> {
  const network = await startGuestNetwork({ clock: systemClock, log })
  closers.push(() => network.stop())
  return network
}

/** Somebody who listens on all of the host's addresses, and counts who comes. */
async function listener(): Promise<{ port: number; connections: () => number }> {
  let connections = 0
  const server: Server = createServer(socket => {
    connections++
    socket.destroy()
  })
  await new Promise<void>(resolve => server.listen(0, '0.0.0.0', resolve))
  closers.push(() => server.close())
  return { port: (server.address() as { port: number }).port, connections: () => connections }
}

async function asGuest(path: string): Promise<{ socket: Socket; received: () => number }> {
  let received = 0
  const socket = connect(path)
  socket.on('data', chunk => {
    received += chunk.length
  })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  closers.push(() => socket.destroy())
  return { socket, received: () => received }
}

const ownAddress = Object.values(networkInterfaces())
  .flatMap(each => each ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
/** passt needs a network to stand in for. */
const canRun = spawnSync('passt', ['--version']).status === 0 && ownAddress !== undefined

test('without passt, the error names its package', async () => {
  const path = process.env.PATH
  process.env.PATH = '/nowhere'
  try {
    await expect(startGuestNetwork({ clock: systemClock, log })).rejects.toMatchObject({
      code: 'NETWORK_UNAVAILABLE',
      message: expect.stringContaining('package passt')
    })
  } finally {
    process.env.PATH = path
  }
  expect(leftFolders()).toEqual([])
})

describe.skipIf(!canRun)('a guest with --net user', () => {
  test('does not reach the host, on its loopback or any address of its own', async () => {
    const { port, connections } = await listener()
    const network = await startNetwork()
    const guest = await asGuest(network.socketPath)
    for (const address of ['127.0.0.1', '127.1.2.3', '0.0.0.0', ownAddress!]) {
      guest.socket.write(framed(ipv4Frame(address, port)))
    }
    // passt sees them in order: once it has answered this one, it has had all before it; and so has the listener.
    guest.socket.write(framed(arpFrame()))
    await waitUntil('the answer of passt', () => guest.received() > 0)
    connect(port, '127.0.0.1')
    await waitUntil('our own connection', () => connections() > 0)
    expect(connections()).toBe(1)
  })

  test('would reach it through passt alone: the filter is what keeps it away', async () => {
    const { port, connections } = await listener()
    const network = await startNetwork()
    const passt = await asGuest(`${dirname(network.socketPath)}/p/passt.sock`)
    passt.socket.write(framed(ipv4Frame('127.0.0.1', port)))
    await waitUntil('the connection', () => connections() > 0)
  })

  test('QEMU takes the relay for its network, and all of it ends with the guest', async () => {
    const network = await startNetwork()
    const { path, server } = await serve({ m: new MemoryDevice(1024 * 1024) })
    const { file, args } = qemuCommand({
      machine: 'm',
      socketPath: path,
      readOnly: false,
      network: { mode: 'user', socketPath: network.socketPath },
      kvm: false,
      terminal: false,
      extra: ['-S']
    })
    const qemu = start(file, args)
    expect(pidsOfPasst(network.socketPath)).toHaveLength(1)
    await waitUntil('QEMU', () => server.clients('m') === 1, { details: () => qemu.tail() })
    expect(qemu.exit).toBeUndefined()
    await qemu.stop()
    network.stop()
    await waitUntil('the end of passt', () => pidsOfPasst(network.socketPath).length === 0)
    expect(existsSync(dirname(network.socketPath))).toBe(false)
  })

  test('leaves no passt behind when whoever started it is killed before the guest was connected', async () => {
    const parent = start(process.execPath, ['--input-type=module', '-e', PARENT])
    const [, socketPath] = await parent.waitForOutput(/^AT (.*)$/m)
    try {
      expect(pidsOfPasst(socketPath!)).toHaveLength(1)
      await parent.stop('SIGKILL')
      await waitUntil('the end of passt', () => pidsOfPasst(socketPath!).length === 0)
    } finally {
      rmSync(dirname(socketPath!), { recursive: true })
    }
  })
})

const PARENT = `
  import { startGuestNetwork } from '${new URL('../../../src/machine/guest-network.ts', import.meta.url).href}'
  import { lineLog, systemClock } from '${new URL('../../../src/node/system.ts', import.meta.url).href}'
  const { socketPath } = await startGuestNetwork({ clock: systemClock, log: lineLog('silent') })
  console.log('AT ' + socketPath)
`

function pidsOfPasst(socketPath: string): string[] {
  const found = spawnSync('pgrep', ['-f', `^[^ ]*passt.*${dirname(socketPath)}`], { encoding: 'utf8' })
  return found.stdout.split('\n').filter(line => line !== '')
}

function leftFolders(): string[] {
  return readdirSync(tmpdir()).filter(name => name.startsWith('rowan-net-'))
}
