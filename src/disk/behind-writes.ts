/**
 * What a guest may read at its next start although it has never read it: what lies behind its longest writes.
 *
 * A file system that was not closed in order (a power cut, a guest that was ended) reads its journal from the front, some 128 KiB at a
 * time, until what it finds is not of this journal any more. That is behind what was written, where the image still shows through.
 * Measured: the second boot of a Debian guest that was ended without a word fetched nothing but 8 to 12 blocks of ext4's journal, and
 * without a network it would have hung there. So these blocks are fetched when the guest leaves. No file system is known here: a
 * journal is a long run of writes like others.
 *
 * Bounded: MAX_RUNS × BEHIND_BYTES, 4 MiB; and others have their turn between looks, which read where the map is not in memory.
 */
import type { SectorStates } from './disk-extents.ts'
import { SECTOR_ABSENT, SECTOR_BYTES } from './layer-map.ts'

/** Shorter runs are no journal. */
export const MIN_RUN_BYTES = 128 * 1024
export const BEHIND_BYTES = 256 * 1024
export const MAX_RUNS = 16
/** Changes of state that are looked at. */
const MAX_LOOKS = 65_536
/** Between two turns: some milliseconds where each of them is a read. */
export const LOOKS_PER_TURN = 128

export interface Range {
  offset: number
  lengthBytes: number
}

/**
 * Behind the longest runs of the disk's own sectors, those of the longest first.
 *
 * @param turn - lets others have their turn; what it rejects with ends the search
 * @throws RowanError LAYER_CORRUPT, STORE_IO, of a map that is read
 */
export async function behindWrites(map: SectorStates, sizeBytes: number, turn: () => Promise<void>): Promise<Range[]> {
  const end = Math.floor(sizeBytes / SECTOR_BYTES)
  const runs: { from: number; to: number }[] = []
  let from: number | undefined
  let sector = 0
  for (let looks = 0; sector < end && looks < MAX_LOOKS; looks++) {
    const isOwn = map.stateAt(sector) !== SECTOR_ABSENT
    if (isOwn) from ??= sector
    else if (from !== undefined) {
      runs.push({ from, to: sector })
      from = undefined
    }
    sector = map.runEnd(sector, end)
    if ((looks + 1) % LOOKS_PER_TURN === 0) await turn()
  }
  return runs
    .filter(run => (run.to - run.from) * SECTOR_BYTES >= MIN_RUN_BYTES)
    .sort((a, b) => b.to - b.from - (a.to - a.from))
    .slice(0, MAX_RUNS)
    .map(({ to }) => ({
      offset: to * SECTOR_BYTES,
      lengthBytes: Math.min(BEHIND_BYTES, sizeBytes - to * SECTOR_BYTES)
    }))
}
