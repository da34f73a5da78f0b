/**
 * The disk of a machine as the daemon serves it, by a thread of its own: `node machine-serve.ts SOCKET NAME FILE`
 *
 * FILE is its image; store and layer lie in FILE.machine. Prints `ready MILLISECONDS`, the time from the opened store to
 * the served disk, and runs until SIGTERM.
 */
import { DiskThread } from '../../src/machine/disk-thread.ts'
import { startDiskThread } from '../../src/node/disk-thread.ts'
import { lineLog, readBootId, systemClock } from '../../src/node/system.ts'
import { localSettings, NOBODY, openLocalStore } from './local-machine.ts'

const [socketPath, name, file] = process.argv.slice(2)
if (socketPath === undefined || name === undefined || file === undefined) {
  throw new Error('usage: machine-serve.ts SOCKET NAME FILE')
}
const log = lineLog('info')
const folder = `${file}.machine`
const { image, pool, close } = await openLocalStore(log, folder, file)
const startMs = performance.now()
const disk = await DiskThread.open(
  {
    ...{ image, pool, source: NOBODY, log, clock: systemClock, bootId: readBootId(), startThread: startDiskThread },
    touches: { touched: () => undefined }
  },
  { disk: localSettings(folder), socketPath, name, description: file }
)
await disk.serve()
process.once('SIGTERM', async () => {
  await disk.close()
  await close()
})
process.stdout.write(`ready ${(performance.now() - startMs).toFixed(0)}\n`)
