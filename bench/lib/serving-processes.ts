/**
 * The processes of bench/serving.ts: a peer with a machine, and peers that download from it.
 *
 *     host MODE MAX_UPLOAD MB FOLDER     MODE: thread or main; MAX_UPLOAD in bytes a second, 0 for unlimited
 *     download PEERS {image, hint}       downloads over and over, and keeps nothing
 */
import { rm } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { sha256 } from '../../src/image/hash.ts'
import { DiskThread } from '../../src/machine/disk-thread.ts'
import { ServedDisk } from '../../src/machine/served-disk.ts'
import { startDiskThread } from '../../src/node/disk-thread.ts'
import { lineLog, readBootId, systemClock } from '../../src/node/system.ts'
import type { ReplicaHint } from '../../src/swarm/swarm.ts'
import { keepImage, makeImage, startPeer } from '../../test/unit/swarm/support.ts'

export interface Hosted {
  image: string
  hint: ReplicaHint
  socketPath: string
}

export interface Downloaded {
  bytesPerSecond: number
}

export interface HostOrder {
  /** Hashes for 50 ms, and again 50 ms later. */
  bursts?: boolean
  stop?: boolean
}

const SEED = 1
const BURST_MS = 50
/** Blocks that one downloader waits for at a time. */
const IN_FLIGHT = 32
const LOWEST_PRIORITY = 19

async function host(mode: string, maxUpload: number, megabytes: number, folder: string): Promise<void> {
  const peer = await startPeer({
    ...(maxUpload > 0 ? { maxUploadBytesPerSecond: maxUpload } : {}),
    log: lineLog('warn')
  })
  const image = makeImage(SEED, Math.round((megabytes * 2 ** 20) / BLOCK_SIZE_BYTES), { isZero: () => false })
  await keepImage(peer, image)
  await rm(folder, { recursive: true, force: true })
  const socketPath = `${folder}.sock`
  const { pool, images, swarm } = peer
  const components = {
    ...{ image: (await images.open(image.id))!, pool, source: swarm, clock: systemClock, log: lineLog('warn') },
    ...{ bootId: readBootId(), startThread: startDiskThread, touches: { touched: () => undefined } }
  }
  const settings = {
    disk: { folder: join(folder, 'layers'), machine: 'bench', readOnly: true },
    ...{ socketPath, name: 'disk', description: 'bench' }
  }
  const disk = await (mode === 'thread' ? DiskThread : ServedDisk).open(components, settings)
  await disk.serve()
  let bursts = false
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  setInterval(() => {
    const until = performance.now() + BURST_MS
    while (bursts && performance.now() < until) sha256(block)
  }, 2 * BURST_MS).unref()
  process.on('message', async (order: HostOrder) => {
    bursts = order.bursts === true
    if (order.stop !== true) return
    await disk.close()
    await peer.stop()
    process.disconnect()
  })
  process.send?.({ image: image.id, hint: peer.hint(), socketPath } satisfies Hosted)
}

async function download(peers: number, from: Pick<Hosted, 'image' | 'hint'>): Promise<void> {
  setPriority(LOWEST_PRIORITY)
  // A pool of one block: what comes is verified, and finds no place.
  const all = await Promise.all(Array.from({ length: peers }, () => startPeer({ quotaBytes: BLOCK_SIZE_BYTES })))
  const before = all.map(() => 0)
  let isOver = false
  await Promise.all(
    all.map(async ({ swarm }, index) => {
      const { blocks } = (await swarm.openImage(from.image, [from.hint])).root
      let next = Math.floor((index * blocks) / peers)
      const on = async () => {
        while (!isOver) {
          next = (next + 1) % blocks
          await swarm.want(from.image, next, 'fill').catch(() => undefined)
        }
      }
      for (let count = 0; count < IN_FLIGHT; count++) void on()
      while (swarm.transfers(from.image).blocks === 0) await new Promise(resolve => setTimeout(resolve, 10))
      before[index] = swarm.transfers(from.image).wireBytes
    })
  )
  const startMs = performance.now()
  process.send?.('downloading')
  process.once('message', async () => {
    isOver = true
    const bytes = all.reduce((sum, { swarm }, index) => sum + swarm.transfers(from.image).wireBytes - before[index]!, 0)
    const bytesPerSecond = bytes / ((performance.now() - startMs) / 1000)
    process.send?.({ bytesPerSecond } satisfies Downloaded)
    process.once('message', () => process.exit())
  })
}

const [role, ...args] = process.argv.slice(2)
if (role === 'host') await host(args[0]!, Number(args[1]), Number(args[2]), args[3]!)
else if (role === 'download') await download(Number(args[0]), JSON.parse(args[1]!))
