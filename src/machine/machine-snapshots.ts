/**
 * What `rowan snapshots` says of a machine: its chain, and what its layers take on this host's disk.
 */
import { join } from 'node:path'
import { type Chain, disksOf, pathTo } from '../disk/chain.ts'
import { systemFiles } from '../disk/layer-files.ts'

export interface SnapshotState {
  snapshot: string
  note: string
  /** ISO 8601. */
  taken: string
  /** What was written between the snapshot below and this one takes on this host's disk. */
  bytes: number
  /** The machine as it is now goes on from it. */
  current: boolean
}

/** In the order in which they were taken. */
export function snapshotStates(folder: string, chain: Chain): SnapshotState[] {
  const shown = new Set(disksOf(chain).flatMap(([, disk]) => pathTo(disk, disk.top).map(({ name }) => name)))
  return chain.snapshots.map(({ name, note, taken, at }) => {
    const places = Object.values(at).filter(place => place !== null)
    return {
      snapshot: name,
      note,
      taken,
      bytes: places.reduce((sum, place) => sum + systemFiles.allocatedBytes(join(folder, place, 'data')), 0),
      current: places.every(place => shown.has(place))
    }
  })
}
