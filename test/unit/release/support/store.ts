/** A peer's store, keys and publisher in a folder, and a directory in memory in the place of the network's. */
import { join } from 'node:path'
import { ApplianceMemory } from '../../../../src/directory/appliance-memory.ts'
import { openLatest, type VerifiedLatest } from '../../../../src/image/release.ts'
import type { LatestPlace } from '../../../../src/release/latest-issuer.ts'
import { Publisher, type PublisherComponents, type PublisherSettings } from '../../../../src/release/publisher.ts'
import { PublisherKeys } from '../../../../src/release/publisher-keys.ts'
import { Catalog } from '../../../../src/store/catalog.ts'
import { Images } from '../../../../src/store/images.ts'
import { Pool } from '../../../../src/store/pool.ts'
import type { ManualClock } from './clock.ts'
import { MemoryLog } from './log.ts'

export const WEEK_MS = 7 * 24 * 60 * 60 * 1000

/** What several hosts of one publisher see of the network. */
export class MemoryDirectory implements LatestPlace {
  readonly records = new Map<string, VerifiedLatest>()
  readonly announced: { image: string; appliance: string | undefined; complete: boolean }[] = []
  puts = 0
  isReachable = true

  async findLatest(appliance: string): Promise<{ latest?: VerifiedLatest | undefined }> {
    if (!this.isReachable) throw new Error('nobody is there')
    return { latest: this.records.get(appliance) }
  }

  async putLatest(bytes: Uint8Array): Promise<{ asked: number; kept: number }> {
    if (!this.isReachable) throw new Error('nobody is there')
    const latest = await openLatest(bytes)
    this.records.set(latest.appliance, latest)
    this.puts++
    return { asked: 3, kept: 2 }
  }

  announceReplica(image: string, appliance: string | undefined, complete: boolean): void {
    this.announced.push({ image, appliance, complete })
  }
}

export interface TestPeer {
  keys: PublisherKeys
  catalog: Catalog
  pool: Pool
  images: Images
  memory: ApplianceMemory
  publisher: Publisher
  log: MemoryLog
  close(): Promise<void>
}

/** Opens the store in `home` as the daemon does; `close` it before it is opened again. */
export async function openPeer(
  home: string,
  directory: LatestPlace,
  clock: ManualClock,
  changes: { settings?: Partial<PublisherSettings>; components?: Partial<PublisherComponents> } = {}
): Promise<TestPeer> {
  const log = new MemoryLog()
  const catalog = await Catalog.open(join(home, 'catalog'))
  const pool = await Pool.open(
    { directory: join(home, 'pool'), catalog, log },
    { quotaBytes: 1024 ** 3, minFreeBytes: 1024 ** 2 }
  )
  const images = new Images({ catalog, pool, log })
  const memory = await ApplianceMemory.open({ catalog, log })
  const keys = await PublisherKeys.open(join(home, 'keys'), { clock, log })
  const publisher = await Publisher.open(
    { keys, catalog, pool, images, directory, memory, clock, log, ...changes.components },
    { latestTtlMs: WEEK_MS, temporaryFolder: join(home, 'tmp'), ...changes.settings }
  )
  const close = async () => {
    await publisher.stop()
    images.close()
    try {
      await pool.close()
    } finally {
      await catalog.close()
    }
  }
  return { keys, catalog, pool, images, memory, publisher, log, close }
}
