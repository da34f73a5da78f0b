/**
 * What of a layer's data file is not needed: whole blocks of the file system that the map says to be zero.
 */
import type { SectorStates } from './disk-extents.ts'
import { SECTOR_BYTES, SECTOR_ZERO } from './layer-map.ts'
import type { FileRange } from './punch-tool.ts'

/** A file system gives back whole blocks of its own, mostly of this size. */
const SECTORS_PER_BLOCK = 8
/** Punched by one process, about a millisecond each. */
export const MAX_HOLES = 64
/** Runs of sectors that are looked at for them; each may be a read of the map. */
const MAX_RUNS = 2048

export interface Sectors {
  start: number
  end: number
}

/**
 * The holes that can be made in some ranges, as many as one process makes.
 *
 * @returns `rest`: the ranges, or the part of one, that were not looked at
 */
export function zeroBlocks(
  map: SectorStates & { sectors: number },
  ranges: readonly Sectors[]
): { found: FileRange[]; rest: Sectors[] } {
  const found: FileRange[] = []
  let runs = 0
  for (const [index, { start, end }] of ranges.entries()) {
    const stop = Math.min(end, map.sectors)
    for (let at = start; at < stop; ) {
      if (found.length === MAX_HOLES || runs++ === MAX_RUNS) {
        return { found, rest: [{ start: at, end }, ...ranges.slice(index + 1)] }
      }
      const runEnd = map.runEnd(at, stop)
      if (map.stateAt(at) === SECTOR_ZERO) {
        const first = Math.ceil(at / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
        const last = runEnd === map.sectors ? runEnd : Math.floor(runEnd / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
        if (last > first) found.push({ startBytes: first * SECTOR_BYTES, lengthBytes: (last - first) * SECTOR_BYTES })
      }
      at = runEnd
    }
  }
  return { found, rest: [] }
}

/** Ranges that do not touch, each made larger to whole blocks: those at its ends may be zero as a whole by now. */
export function wholeBlocks(ranges: readonly Sectors[]): Sectors[] {
  const whole = ranges.map(({ start, end }) => ({
    start: Math.floor(start / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK,
    end: Math.ceil(end / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
  }))
  const apart: Sectors[] = []
  for (const range of whole.sort((a, b) => a.start - b.start)) {
    const last = apart.at(-1)
    if (last !== undefined && range.start <= last.end) last.end = Math.max(last.end, range.end)
    else apart.push({ ...range })
  }
  return apart
}
