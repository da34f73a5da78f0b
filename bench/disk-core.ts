/**
 * What the disk costs by itself: 4-KiB requests at random offsets through RowanDisk, without NBD, one thread.
 *
 *     node bench/disk-core.ts [DISK_MIB]
 *
 * Rows: a read of the image's blocks (one file stands for the pool), a first write, a write to sectors that the map
 * knows already, a read of what was written.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../src/cluster.ts'
import { RowanDisk } from '../src/disk/rowan-disk.ts'

const REQUEST_BYTES = 4096
const REQUESTS = 200_000
const diskBytes = Number(process.argv[2] ?? 1024) * 1024 * 1024
const folder = mkdtempSync(join(tmpdir(), 'rowan-bench-'))
const poolFile = openSync(join(folder, 'pool'), 'w+')
ftruncateSync(poolFile, diskBytes)
for (let at = 0; at < diskBytes; at += 1 << 20) writeSync(poolFile, Buffer.alloc(1 << 20, 7), 0, 1 << 20, at)

const disk = await RowanDisk.open(
  {
    image: {
      id: 'bench',
      root: { sizeBytes: diskBytes },
      locate: block => block,
      peek: block => block,
      recheck: () => true
    },
    pool: {
      readSync: (slot, offset, target) => {
        readSync(poolFile, target, 0, target.length, slot * BLOCK_SIZE_BYTES + offset)
      },
      warm: (_slot, _offset, _length, done) => done()
    },
    source: { want: () => Promise.reject(new Error('all blocks are here')) },
    touches: { touched: () => undefined },
    clock: { monotonicMs: () => performance.now() },
    log: { debug: () => {}, info: () => {}, warn: console.warn },
    bootId: 'bench'
  },
  { folder: join(folder, 'layers'), machine: 'bench', readOnly: false, create: true }
)

const buffer = Buffer.alloc(REQUEST_BYTES, 9)
const slots = diskBytes / REQUEST_BYTES

async function measure(row: string, request: (offset: number) => void | Promise<void>): Promise<void> {
  let waited = 0
  let seed = 1
  const start = performance.now()
  for (let count = 0; count < REQUESTS; count++) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    const done = request(Math.floor((seed / 2 ** 32) * slots) * REQUEST_BYTES)
    if (done !== undefined) {
      waited++
      await done
    }
    // As a server would: let flushes that began by themselves go on.
    if (count % 64 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  const seconds = (performance.now() - start) / 1000
  console.log(
    `${row.padEnd(32)} ${Math.round(REQUESTS / seconds)
      .toString()
      .padStart(8)} IOPS, ${waited} waited`
  )
}

try {
  await measure('read, image', offset => disk.read(offset, buffer))
  await measure('read, image', offset => disk.read(offset, buffer))
  await measure('write, first', offset => disk.write(offset, buffer))
  await measure('write, again', offset => disk.write(offset, buffer))
  await measure('read, layer and image mixed', offset => disk.read(offset, buffer))
  const start = performance.now()
  await disk.flush()
  console.log(
    `flush ${Math.round(performance.now() - start)} ms; RSS ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`
  )
} finally {
  await disk.close()
  closeSync(poolFile)
  rmSync(folder, { recursive: true })
}
