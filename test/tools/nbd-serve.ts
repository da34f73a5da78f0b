/**
 * A server process for clients that nobody here wrote: `node nbd-serve.ts SOCKET KIND:NAME=FILE…`
 *
 *   file:NAME=FILE      the file itself (writes go into it)
 *   readonly:NAME=FILE  the file, read-only
 *   machine:NAME=FILE   a machine of rowan with FILE as its image; its store and layer lie in FILE.machine
 *   tls:HOST:PORT=FOLDER  no export: listens there, too, with what TLS needs in FOLDER
 *
 * The first export is also the default one. Prints `tcp HOST:PORT` where it listens there, and `ready`; runs until SIGTERM; on SIGUSR2 it prints its memory.
 */
import type { BlockDevice } from '../../src/disk/block-device.ts'
import type { ListenerSettings } from '../../src/nbd/listener.ts'
import { NbdServer } from '../../src/nbd/server.ts'
import { readTlsFolder } from '../../src/nbd/tls-folder.ts'
import { lineLog, systemClock } from '../../src/node/system.ts'
import { FileDevice } from './file-device.ts'
import { openLocalMachine } from './local-machine.ts'

const [socketPath, ...files] = process.argv.slice(2)
if (socketPath === undefined || files.length === 0) throw new Error('usage: nbd-serve.ts SOCKET KIND:NAME=FILE…')

const log = lineLog('info')
const devices = new Map<string, BlockDevice>()
const closers: (() => void | Promise<void>)[] = []
const listeners: ListenerSettings[] = [{ kind: 'unix', path: socketPath }]

for (const argument of files) {
  const [, host, port, folder] = /^tls:(.*):(\d+)=(.*)$/.exec(argument) ?? []
  if (host !== undefined && folder !== undefined) {
    listeners.push({ kind: 'tcp', host, port: Number(port), tls: await readTlsFolder(folder) })
    continue
  }
  const [, kind, name, path] = /^(file|readonly|machine):([^=]+)=(.*)$/.exec(argument) ?? []
  if (name === undefined || path === undefined) throw new Error(`not KIND:NAME=FILE: ${argument}`)
  if (kind === 'machine') {
    const { disk, close } = await openLocalMachine({ clock: systemClock, log }, `${path}.machine`, path)
    devices.set(name, disk)
    closers.push(close)
  } else {
    const device = new FileDevice(path, { readOnly: kind === 'readonly' })
    devices.set(name, device)
    closers.push(() => device.close())
  }
}

const server = new NbdServer(
  {
    exports: {
      list: () => [...devices.keys()],
      open: asked => {
        const name = asked === '' ? [...devices.keys()][0] : asked
        const device = name === undefined ? undefined : devices.get(name)
        return name === undefined || device === undefined ? undefined : { device, name, description: `disk ${name}` }
      }
    },
    clock: systemClock,
    log
  },
  { listeners }
)
await server.start()
for (const address of server.addresses.slice(1)) process.stdout.write(`tcp ${address}\n`)
process.once('SIGTERM', async () => {
  await server.stop()
  for (const close of closers) await close()
})
process.on('SIGUSR2', () => {
  process.stdout.write(`memory ${JSON.stringify({ ...process.memoryUsage(), buffers: server.bufferBytes })}\n`)
})
process.stdout.write('ready\n')
