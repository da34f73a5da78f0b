/**
 * What the sectors of a machine hold, and what a guest was told that they hold: the values of chain-history.ts.
 */
export const SECTOR_BYTES = 512
/** Three pages of the map, the last a short one; the disk ends inside a sector. */
export const DISK_BYTES = (2 * 16_384 + 40) * SECTOR_BYTES + 200
const LAST = Math.floor(DISK_BYTES / SECTOR_BYTES)
/** Where requests go: the ends of the disk and the edges of pages and cells. */
export const REGIONS = [0, 16_384 - 10, 2 * 16_384 - 6, LAST - 15] as const
export const REGION_SECTORS = 16
export const SECTORS = REGIONS.flatMap(start => Array.from({ length: REGION_SECTORS }, (_, index) => start + index))

/** The content of a sector: a number that fills it, 0 for zeros, or the image's. */
export type Content = number
export const IMAGE: Content = -1
export type Contents = ReadonlyMap<number, Content>

/** What may be found. */
export interface Told {
  /** Each sector, as the guest was told last; several where a write is under way. */
  now: ReadonlyMap<number, ReadonlySet<Content>>
  /** Each sector after a power loss. */
  durable: ReadonlyMap<number, ReadonlySet<Content>>
  snapshots: ReadonlyMap<string, Contents>
}

/** Whether what was found, now and in the snapshots, is what was told. */
export function fits(
  now: ReadonlyMap<number, ReadonlySet<Content>>,
  told: Told,
  found: Contents,
  snapshots: ReadonlyMap<string, Contents>
): boolean {
  return (
    SECTORS.every(sector => now.get(sector)!.has(found.get(sector)!)) &&
    snapshots.size === told.snapshots.size &&
    [...snapshots].every(([name, content]) => told.snapshots.has(name) && equal(content, told.snapshots.get(name)!))
  )
}

/** After a failure: of what was not flushed, each sector is old or new. */
export function widened({ now, durable }: Told): Map<number, ReadonlySet<Content>> {
  return new Map([...now].map(([sector, contents]) => [sector, union(contents, durable.get(sector)!)]))
}

export function filled(content: Content, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(content, at)
  return bytes
}

export function single(state: ReadonlyMap<number, ReadonlySet<Content>>): Contents {
  return new Map([...state].map(([sector, contents]) => [sector, [...contents][0]!]))
}

export function multiple(contents: Contents): Map<number, ReadonlySet<Content>> {
  return new Map([...contents].map(([sector, content]) => [sector, new Set([content])]))
}

export function union(a: ReadonlySet<Content>, b: ReadonlySet<Content>): ReadonlySet<Content> {
  return new Set([...a, ...b])
}

export function equal(a: Contents, b: Contents): boolean {
  return a.size === b.size && [...a].every(([sector, content]) => b.get(sector) === content)
}
