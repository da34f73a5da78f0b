/**
 * Real peers for the swarm's tests: libp2p over TCP on loopback, a pool and a catalog in a folder of their own.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { Log } from '../../../src/environment.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { IndexBuilder } from '../../../src/image/index-builder.ts'
import { rowanMuxer } from '../../../src/node/peer.ts'
import { rowanNoise } from '../../../src/node/secure.ts'
import { systemClock, systemRandom } from '../../../src/node/system.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { Images } from '../../../src/store/images.ts'
import { Pool } from '../../../src/store/pool.ts'
import { type ReplicaHint, Swarm, type SwarmComponents, type TrafficLimits } from '../../../src/swarm/swarm.ts'
import { waitUntil } from '../../tools/wait.ts'

export const silentLog: Log = { debug() {}, info() {}, warn() {} }

export function recordingLog(): {
  log: Log
  lines: { level: string; message: string; values: Record<string, unknown> }[]
} {
  const lines: { level: string; message: string; values: Record<string, unknown> }[] = []
  const at =
    (level: string) =>
    (message: string, values: Record<string, unknown> = {}) => {
      lines.push({ level, message, values })
    }
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn') }, lines }
}

export interface Store {
  folder: string
  catalog: Catalog
  pool: Pool
  images: Images
  close(): Promise<void>
}

export async function openStore(quotaBytes = 4 * 1024 ** 3, log: Log = silentLog): Promise<Store> {
  const folder = await mkdtemp(join(tmpdir(), 'rowan-swarm-'))
  const catalog = await Catalog.open(join(folder, 'catalog'))
  const pool = await Pool.open({ directory: join(folder, 'pool'), catalog, log }, { quotaBytes })
  const images = new Images({ catalog, pool, log })
  return {
    folder,
    catalog,
    pool,
    images,
    async close() {
      images.close()
      await pool.close()
      await catalog.close()
      await rm(folder, { recursive: true, force: true })
    }
  }
}

export async function startLibp2p(listen = true, encrypter: ReturnType<typeof rowanNoise> = rowanNoise()) {
  return createLibp2p({
    addresses: { listen: listen ? ['/ip4/127.0.0.1/tcp/0'] : [] },
    transports: [tcp()],
    connectionEncrypters: [encrypter],
    streamMuxers: [rowanMuxer()],
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    connectionMonitor: { enabled: false }
  })
}
export type TestLibp2p = Awaited<ReturnType<typeof startLibp2p>>

export interface TestPeer extends Store {
  network: TestLibp2p
  swarm: Swarm
  id: string
  hint(complete?: boolean): ReplicaHint
  stop(): Promise<void>
}

export async function startPeer(
  options: Partial<SwarmComponents> &
    Partial<TrafficLimits> & { maxPeers?: number; quotaBytes?: number; listen?: boolean } = {}
): Promise<TestPeer> {
  const {
    maxPeers = 32,
    maxUploadBytesPerSecond,
    maxCourtesyBytesPerSecond,
    maxDownloadBytesPerSecond,
    quiet,
    quotaBytes,
    listen,
    ...components
  } = options
  const store = await openStore(quotaBytes, components.log)
  const network = await startLibp2p(listen)
  const swarm = new Swarm(
    {
      network,
      images: store.images,
      pool: store.pool,
      findReplicas: async () => [],
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      ...components
    },
    {
      maxPeers,
      limits: definedOf({ maxUploadBytesPerSecond, maxCourtesyBytesPerSecond, maxDownloadBytesPerSecond, quiet })
    }
  )
  await swarm.start()
  return {
    ...store,
    network,
    swarm,
    id: network.peerId.toString(),
    hint: (complete = true) => hintOf(network, complete),
    async stop() {
      await swarm.stop()
      await network.stop()
      await store.close()
    }
  }
}

/** Without what is undefined. */
function definedOf<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never
}

export function hintOf(network: TestLibp2p, complete = true): ReplicaHint {
  return {
    peer: network.peerId.toString(),
    addresses: network.getMultiaddrs().map(address => address.toString()),
    complete
  }
}

/** Block `n` of the test image with this seed: incompressible, or the text of a number over and over. */
export function blockBytes(seed: number, n: number, compressible = false): Uint8Array {
  const block = Buffer.alloc(BLOCK_SIZE_BYTES)
  if (compressible) return block.fill(`${seed}/${n} `)
  let state = (seed * 2654435761 + n * 40503 + 1) >>> 0
  const words = new Uint32Array(block.buffer, block.byteOffset, BLOCK_SIZE_BYTES / 4)
  for (let i = 0; i < words.length; i++) {
    // xorshift32
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    words[i] = state
  }
  return block
}

export interface TestImage {
  id: string
  rootBytes: Uint8Array
  nodes: [Uint8Array, Uint8Array][]
  blocks: number
  /** The bytes that block `n` must have. */
  block(n: number): Uint8Array
}

/** An image of `blocks` blocks; every seventh is zero unless told; with `same`, all others are equal. */
export function makeImage(
  seed: number,
  blocks: number,
  options: { compressible?: boolean; isZero?: (n: number) => boolean; same?: boolean } = {}
): TestImage {
  const { compressible = false, isZero = n => n % 7 === 3, same = false } = options
  const nodes: [Uint8Array, Uint8Array][] = []
  const builder = new IndexBuilder((hash, bytes) => void nodes.push([hash, bytes]))
  const block = (n: number) =>
    isZero(n) ? new Uint8Array(BLOCK_SIZE_BYTES) : blockBytes(seed, same ? 0 : n, compressible)
  for (let n = 0; n < blocks; n++) {
    if (isZero(n)) builder.addZero()
    else builder.add(sha256(block(n)))
  }
  const { id, rootBytes } = builder.finish(blocks * BLOCK_SIZE_BYTES)
  return { id, rootBytes, nodes, blocks, block }
}

/** Puts an image's index into a store, and those of its blocks that `has` names (all, unless told). */
export async function keepImage(
  store: Store,
  image: TestImage,
  has: (n: number) => boolean = () => true
): Promise<void> {
  const local = await store.images.keep(image.rootBytes, image.nodes)
  for (let n = 0; n < image.blocks; n++) {
    const hash = local.hashOf(n)
    if (hash === undefined || !has(n)) continue
    local.stored(n, await store.pool.put(hash, image.block(n)))
  }
}

/** Reads what a want gave. */
export function obtainedBytes(store: Store, obtained: { slot: number } | { bytes: Uint8Array }): Uint8Array {
  if ('bytes' in obtained) return obtained.bytes
  const target = new Uint8Array(BLOCK_SIZE_BYTES)
  store.pool.readSync(obtained.slot, 0, target)
  return target
}

/** Waits until `condition` holds, looking often. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  await waitUntil(what, condition, { pollMs: 5 })
}
