/**
 * What a machine needs of the other rooms, and nothing more.
 */
import type { Share } from '../directory/directory.ts'
import type { ReplicaRecord } from '../directory/replica-record.ts'
import type { Clock, Log, Random } from '../environment.ts'
import type { ApplianceRef } from '../image/names.ts'
import type { BlockSource } from '../store/block-source.ts'
import type { LocalImage } from '../store/images.ts'
import type { PartFiles } from '../store/part-files.ts'
import type { Pool } from '../store/pool.ts'
import type { BootAhead } from '../swarm/boot-ahead.ts'
import type { Mark } from '../timeline.ts'
import type { ProfileKeeper } from './boot-watch.ts'
import type { StartThread } from './disk-thread.ts'

export interface MachineComponents {
  appliances: {
    /** PUBLISHER/NAME; needs no network. */
    resolveName(ref: ApplianceRef): string
    resolve(
      text: string,
      options: { allowExpired?: boolean; signal?: AbortSignal }
    ): Promise<{
      appliance: string
      release: { version: string; image: string; sizeBytes: number; profile?: string }
      /** Images of other versions, the likest first. */
      similar: string[]
      replicas: ReplicaRecord[]
    }>
  }
  images: { open(id: string): Promise<LocalImage | undefined> }
  pool: Pick<Pool, 'directory' | 'readers' | 'readSync' | 'warm'>
  profiles: ProfileKeeper & {
    /** What a release says of its image's profile. */
    expect(image: string, release: { hash?: string | undefined; similar?: readonly string[] }): Promise<void>
  }
  /** For what is exported. */
  parts: Pick<PartFiles, 'begin'>
  /** Each machine's disk has a thread of its own. */
  startThread: StartThread
  swarm: BlockSource & {
    /** The image, its root and upper index nodes fetched and verified if they are not here. */
    openImage(id: string, hints: ReplicaRecord[], options: { signal?: AbortSignal }): Promise<LocalImage>
    /** Since the daemon started. */
    transfers(image: string): { blocks: number; bytes: number; wireBytes: number }
    /** How the first blocks of an image came here, from the last `restartLine` on. */
    line(image: string): readonly Mark[]
    restartLine(image: string): void
    /** Fetches ahead of one guest. */
    ahead(image: string): Promise<BootAhead>
  }
  directory: {
    announceReplica(image: string, appliance: string | undefined, complete: boolean): void
    /** All releases that machines of this peer are of, so that their publishers know. */
    shareReleases(shares: readonly Share[]): void
  }
  clock: Clock
  random: Random
  log: Log
}

export interface MachineSettings {
  /** HOME/machines. */
  folder: string
  /** Of the sockets at which disks are served: HOME/nbd, which must exist and be its owner's alone. */
  socketFolder: string
  /** What the layers of one machine may take on the disk; Infinity: no limit. */
  layerQuotaBytes: number
  /** What a disk needs that is served over TCP (tls-folder.ts of nbd). */
  tlsFolder: string
  /** Tells whether the kernel's page cache is still that of the daemon before. */
  bootId: string
}
