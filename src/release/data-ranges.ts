/**
 * From the extents of a sparse file to the blocks that must be read.
 *
 * Apart from holes.ts because it runs in the hashing thread: parsing megabytes of JSON would hold up the main one.
 */

/** Blocks `from` to `to`, without `to`. */
export interface BlockRange {
  from: number
  to: number
}

/**
 * The blocks that have data somewhere in them, ascending, apart from each other.
 *
 * @param json - from mapExtents
 * @returns undefined when the list is not one of ascending extents that cover `sizeBytes`: then nothing can be skipped
 */
export function dataRanges(json: string, sizeBytes: number, blockSizeBytes: number): BlockRange[] | undefined {
  let extents: unknown
  try {
    extents = JSON.parse(json)
  } catch {
    return undefined // said in the return value: the whole file is read
  }
  if (!Array.isArray(extents)) return undefined
  const ranges: BlockRange[] = []
  let covered = 0
  for (const extent of extents as (Record<string, unknown> | null)[]) {
    if (covered >= sizeBytes) break // sizes are rounded up to sectors
    const { start, length, zero, data } = extent ?? {}
    if (start !== covered || typeof length !== 'number' || !Number.isSafeInteger(length) || length <= 0)
      return undefined
    const from = Math.floor(covered / blockSizeBytes)
    covered += length
    if (zero === true && data === false) continue
    const to = Math.ceil(Math.min(covered, sizeBytes) / blockSizeBytes)
    const last = ranges.at(-1)
    if (last !== undefined && last.to >= from) last.to = to
    else ranges.push({ from, to })
  }
  return covered >= sizeBytes ? ranges : undefined
}
