/**
 * A peer's store and machines as they are, with a small world around: two releases of an appliance, and one
 * replica in this process that has all of their blocks, can be switched off, and counts what it gives.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { Share } from '../../../src/directory/directory.ts'
import type { Clock } from '../../../src/environment.ts'
import { RowanError } from '../../../src/errors.ts'
import { isZero } from '../../../src/image/block.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { IndexBuilder } from '../../../src/image/index-builder.ts'
import { parseApplianceRef } from '../../../src/image/names.ts'
import type { MachineComponents, MachineSettings } from '../../../src/machine/components.ts'
import type { StartThread } from '../../../src/machine/disk-thread.ts'
import { machineSocket } from '../../../src/machine/machine-socket.ts'
import { Machines } from '../../../src/machine/machines.ts'
import { startDiskThread } from '../../../src/node/disk-thread.ts'
import { lineLog, systemClock, systemRandom } from '../../../src/node/system.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { Images, type LocalImage } from '../../../src/store/images.ts'
import { PartFiles } from '../../../src/store/part-files.ts'
import { Pool } from '../../../src/store/pool.ts'
import { Profiles } from '../../../src/store/profiles.ts'
import { type AheadFetch, BootAhead } from '../../../src/swarm/boot-ahead.ts'

export const PUBLISHER = '12D3KooWGRUVh7V7vPBrNLBLoCbcxhFpqNRk8p8d7LJhYfMXRmQM'
export const GRID = `${PUBLISHER}/grid`
export const BLOCKS = 24
const BOOT_ID = 'boot-1'

/** A disk of which every block is full of one number, block 3 of zeros. */
export function diskBytes(seed: number): Buffer {
  const bytes = Buffer.alloc(BLOCKS * BLOCK_SIZE_BYTES)
  for (let block = 0; block < BLOCKS; block++) {
    if (block !== 3) bytes.fill(seed + block, block * BLOCK_SIZE_BYTES, (block + 1) * BLOCK_SIZE_BYTES)
  }
  return bytes
}

/** An image as a replica has it. */
class Published {
  readonly bytes: Buffer
  readonly id: string
  readonly rootBytes: Uint8Array
  readonly node: Uint8Array
  /** What its release says of its size. */
  promisedBytes: number

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.promisedBytes = bytes.length
    const nodes: Uint8Array[] = []
    const index = new IndexBuilder((_hash, node) => nodes.push(Uint8Array.from(node)))
    for (let block = 0; block < BLOCKS; block++) {
      if (isZero(this.block(block))) index.addZero()
      else index.add(sha256(this.block(block)))
    }
    const { id, rootBytes } = index.finish(bytes.length)
    this.id = id
    this.rootBytes = rootBytes
    this.node = nodes[0]!
  }

  block(block: number): Buffer {
    return this.bytes.subarray(block * BLOCK_SIZE_BYTES, (block + 1) * BLOCK_SIZE_BYTES)
  }
}

/** Everything outside the peer. */
export class World {
  /** Whether anybody can be reached. */
  online = true
  /** Set to hold back a resolve. */
  resolving: Promise<void> = Promise.resolve()
  readonly releases = { v1: new Published(diskBytes(10)), v2: new Published(diskBytes(50)) }
  stable: keyof World['releases'] = 'v1'
  readonly asked: string[] = []
  /** The releases in use, as the directory was told last. */
  shared: Share[] | undefined
  /** Whether a machine's blocks are fetched before its guest asks for them. */
  fetchesAhead = false
  /** Blocks that were asked for ahead of a guest. */
  readonly askedAhead: number[] = []
  readonly announced: { image: string; appliance: string | undefined; complete: boolean }[] = []
}

export interface PeerOptions {
  bootId?: string
  quotaBytes?: number
  layerQuotaBytes?: number
  startThread?: StartThread
  clock?: Clock
}

/** One run of a peer on a home; `stop` it, and start another on the same. */
export class Peer {
  readonly machines: Machines
  /** What its machines are made of. */
  readonly parts: { components: MachineComponents; settings: MachineSettings }
  readonly log: string[]
  readonly #socketFolder: string
  readonly #store: { catalog: Catalog; pool: Pool; images: Images; profiles: Profiles }

  private constructor(
    machines: Machines,
    parts: { components: MachineComponents; settings: MachineSettings },
    socketFolder: string,
    log: string[],
    store: { catalog: Catalog; pool: Pool; images: Images; profiles: Profiles }
  ) {
    this.machines = machines
    this.parts = parts
    this.#socketFolder = socketFolder
    this.log = log
    this.#store = store
  }

  static async start(home: string, world: World, options: PeerOptions = {}): Promise<Peer> {
    const lines: string[] = []
    const log = lineLog('debug', line => lines.push(line))
    await mkdir(join(home, 'pool'), { recursive: true })
    const catalog = await Catalog.open(join(home, 'catalog'))
    const pool = await Pool.open(
      { directory: join(home, 'pool'), catalog, log },
      { quotaBytes: options.quotaBytes ?? 2 ** 30 }
    )
    const images = new Images({ catalog, pool, log })
    const profiles = await Profiles.open(catalog)
    const socketFolder = join(home, 'nbd')
    await mkdir(socketFolder, { recursive: true, mode: 0o700 })
    const components: MachineComponents = {
      appliances: appliancesOf(world),
      images,
      pool,
      parts: new PartFiles({ catalog, random: systemRandom, log }),
      profiles,
      startThread: options.startThread ?? startDiskThread,
      swarm: swarmOf(world, images, pool),
      directory: {
        announceReplica: (image, appliance, complete) => world.announced.push({ image, appliance, complete }),
        shareReleases: shares => {
          world.shared = [...shares]
        }
      },
      clock: options.clock ?? systemClock,
      random: systemRandom,
      log
    }
    const settings: MachineSettings = {
      folder: join(home, 'machines'),
      socketFolder,
      tlsFolder: join(home, 'tls'),
      bootId: options.bootId ?? BOOT_ID,
      layerQuotaBytes: options.layerQuotaBytes ?? Number.POSITIVE_INFINITY
    }
    const machines = new Machines(components, settings)
    await machines.restore()
    return new Peer(machines, { components, settings }, socketFolder, lines, { catalog, pool, images, profiles })
  }

  get profiles(): Profiles {
    return this.#store.profiles
  }

  /** Where a machine's disk is served while it is. */
  socket(name: string): string {
    return machineSocket(this.#socketFolder, name)
  }

  async stop(): Promise<void> {
    await this.machines.stop()
    this.#store.images.close()
    await this.#store.pool.close()
    await this.#store.catalog.close()
  }
}

function appliancesOf(world: World): MachineComponents['appliances'] {
  const nameOf = ({ publisher = PUBLISHER, name }: { publisher?: string; name: string }) => `${publisher}/${name}`
  return {
    resolveName: nameOf,
    resolve: async (text, { signal }) => {
      world.asked.push(text)
      await Promise.race([world.resolving, new Promise(resolve => signal?.addEventListener('abort', resolve))])
      signal?.throwIfAborted()
      if (!world.online) throw new RowanError('APPLIANCE_UNKNOWN', 'nobody is there')
      const ref = parseApplianceRef(text)
      const version = ref.version ?? world.stable
      const release = world.releases[version as 'v1']
      if (release === undefined) throw new RowanError('VERSION_UNKNOWN', `no ${version}`)
      return {
        appliance: nameOf(ref),
        release: { version, image: release.id, sizeBytes: release.promisedBytes },
        similar: Object.values(world.releases)
          .map(({ id }) => id)
          .filter(id => id !== release.id),
        replicas: []
      }
    }
  }
}

function swarmOf(world: World, images: Images, pool: Pool): MachineComponents['swarm'] {
  const counts = new Map<string, { blocks: number; bytes: number; wireBytes: number }>()
  const transfers = (image: string) => {
    const count = counts.get(image) ?? { blocks: 0, bytes: 0, wireBytes: 0 }
    counts.set(image, count)
    return count
  }
  const published = (id: string) => Object.values(world.releases).find(release => release.id === id)!
  const swarm: MachineComponents['swarm'] = {
    line: () => [],
    restartLine: () => undefined,
    async ahead(id) {
      if (!world.fetchesAhead) throw new RowanError('ABORTED', 'nothing is fetched ahead')
      const image = (await images.open(id)) as LocalImage
      const fetch: AheadFetch = {
        image,
        index: { page: async () => {} },
        request(block, { resolve, reject }) {
          world.askedAhead.push(block)
          swarm.want(id, block, 'profile').then(resolve, reject)
          return () => undefined
        }
      }
      return new BootAhead(
        fetch,
        lineLog('debug', () => {})
      )
    },
    transfers,
    async openImage(id) {
      const here = await images.open(id)
      if (here !== undefined) return here
      if (!world.online) throw new RowanError('NO_REPLICA', 'nobody is there')
      const image = await images.create(published(id).rootBytes)
      await image.addNode(0, 0, published(id).node)
      return image
    },
    async want(id, block, _priority, { signal } = {}) {
      while (!world.online) {
        if (signal?.aborted) throw new RowanError('ABORTED', 'nobody waits any more')
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      const bytes = published(id).block(block)
      const image = (await images.open(id)) as LocalImage
      const slot = await pool.put(sha256(bytes), bytes)
      image.stored(block, slot)
      const count = transfers(id)
      count.blocks++
      count.bytes += bytes.length
      count.wireBytes += 1000
      return { slot }
    }
  }
  return swarm
}
