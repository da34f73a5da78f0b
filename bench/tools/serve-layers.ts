/**
 * Serves two disks with the same data, one with a single layer and one with several: `node serve-layers.ts SOCKET FOLDER
 * SIZE_BYTES LAYERS
 * PIECE_BYTES`. Their exports are named by their number of layers. Prints `ready` and runs until SIGTERM.
 *
 * Both were written in the same order, every 16th piece, and so again from the next piece;
 * of the one, snapshots were taken between the rounds. So each piece is in another layer than its neighbours, nothing is
 * left of the image below, and the host's files were filled alike.
 */
import { join } from 'node:path'
import { EmptyImage } from '../../src/disk/empty-image.ts'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { NbdServer } from '../../src/nbd/server.ts'
import { lineLog, systemClock } from '../../src/node/system.ts'

const IMAGE = '0'.repeat(64)

const [socketPath, folder, size, layers, piece] = process.argv.slice(2)
const pieceBytes = Number(piece)
const sizeBytes = Number(size)
const log = lineLog('warn')
const nobody = {
  want: () => Promise.reject(new Error('nobody is asked')),
  readSync: () => {},
  warm: (_slot: number, _offset: number, _length: number, done: () => void) => done()
}

const rounds = Number(layers)

async function open(count: number): Promise<RowanDisk> {
  // Without `after`: nothing is merged beside the measurement.
  const clock = { monotonicMs: () => systemClock.monotonicMs() }
  const disk = await RowanDisk.open(
    { image: new EmptyImage(sizeBytes, IMAGE), pool: nobody, source: nobody, clock, log, bootId: 'bench' },
    { folder: join(folder!, `layers-${count}`), machine: 'bench', readOnly: false, create: true }
  )
  const bytes = Buffer.alloc(pieceBytes)
  for (let round = 0; round < rounds; round++) {
    if (round > 0 && count > 1) await disk.snapshot({ note: '', taken: new Date(systemClock.now()).toISOString() })
    for (let number = round; number * pieceBytes < sizeBytes; number += rounds) {
      await disk.write(number * pieceBytes, bytes.fill(number))
    }
  }
  await disk.flush()
  return disk
}

const disks = new Map<string, RowanDisk>()
for (const count of [1, rounds]) disks.set(String(count), await open(count))
const exports = {
  list: () => [...disks.keys()],
  open: (name: string) => {
    const device = disks.get(name)
    return device === undefined ? undefined : { device, name }
  }
}
const server = new NbdServer({ exports, clock: systemClock, log }, { listeners: [{ kind: 'unix', path: socketPath! }] })
await server.start()
process.once('SIGTERM', async () => {
  await server.stop()
  for (const disk of disks.values()) await disk.close()
})
process.stdout.write('ready\n')
