/**
 * What `rowan snapshots` and `rowan status` say of a machine's layers: the chain, and what they take on this host's disk.
 */
import { join } from 'node:path'
import { type Chain, disksOf, pathTo } from '../disk/chain.ts'
import { systemFiles } from '../disk/layer-files.ts'
import { layerNames } from '../disk/layers-folder.ts'

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

/** What all layers of a machine take on this host's disk, which is what counts against `[machine] layerQuota`. */
export function layerBytes(folder: string, chain: Chain): number {
  const files = layerNames(chain).flatMap(name => [join(folder, name, 'data'), join(folder, name, 'log')])
  return files.reduce((sum, file) => sum + systemFiles.allocatedBytes(file), 0)
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
