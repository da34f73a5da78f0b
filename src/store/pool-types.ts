/**
 * What the pool is made from, and the shapes that it shares with those around it.
 */
import type { Log } from '../environment.ts'
import type { Hash } from '../image/hash.ts'
import type { Catalog } from './catalog.ts'

export interface PoolComponents {
  /** Folder of the segment files. */
  directory: string
  catalog: Catalog
  log: Log
}

export interface PoolSettings {
  quotaBytes: number
  minFreeBytes?: number
}

/** Who evicts: told when slots were taken, and asked when blocks do not fit. */
export interface RoomMaker {
  slotsTaken(): void
  /** Resolves to whether it is worth trying again. */
  makeRoom(blocks: number): Promise<boolean>
}

/** Blocks that were dropped, by the slots that they were in. */
export type DroppedBlocks = ReadonlyMap<number, Hash>
