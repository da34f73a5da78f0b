/**
 * A server process for clients that nobody here wrote: `node nbd-serve.ts SOCKET NAME=FILE[,ro]…`
 *
 * Serves each file under its name, the first one also as the default export. Prints `ready` and runs until SIGTERM.
 */
import { NbdServer } from '../../src/nbd/server.ts'
import { lineLog, systemClock } from '../../src/node/system.ts'
import { FileDevice } from './file-device.ts'

const [socketPath, ...files] = process.argv.slice(2)
if (socketPath === undefined || files.length === 0) throw new Error('usage: nbd-serve.ts SOCKET NAME=FILE[,ro]…')

const devices = new Map(
  files.map(argument => {
    const [, name, path, readOnly] = /^([^=]+)=(.*?)(,ro)?$/.exec(argument) ?? []
    if (name === undefined || path === undefined) throw new Error(`not NAME=FILE: ${argument}`)
    return [name, new FileDevice(path, { readOnly: readOnly !== undefined })]
  })
)

const server = new NbdServer(
  {
    exports: {
      list: () => [...devices.keys()],
      open: asked => {
        const name = asked === '' ? [...devices.keys()][0] : asked
        const device = name === undefined ? undefined : devices.get(name)
        return name === undefined || device === undefined ? undefined : { device, name, description: `file ${name}` }
      }
    },
    clock: systemClock,
    log: lineLog('info')
  },
  { socketPath }
)
await server.start()
process.once('SIGTERM', () => {
  server.stop().then(() => {
    for (const device of devices.values()) device.close()
  })
})
process.stdout.write('ready\n')
