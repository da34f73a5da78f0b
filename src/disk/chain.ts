/**
 * A machine's chain: its disks, the layers of each, and the snapshots. What it is, and how commands change it.
 *
 * The layers of a disk are a **tree**: each names the layer below it (`parent`; null: the image itself). One of them,
 * the top, takes the guest's writes; all others are frozen. A snapshot names one place in the tree of each disk, so
 * that both disks of a machine go back to one moment. It stays, with all that is below it, until a person discards it.
 *
 * - *snapshot*: the top is frozen, and an empty layer is put on it. Of a top that nothing was written to, the place
 *   below is taken instead, so that snapshots without writes between them make no layers.
 * - *rollback*: an empty top is put on the snapshot's place. What the machine leaves becomes a snapshot itself, unless
 *   there is one of that very place that stays: nothing is ever lost.
 * - *discard*: forgets a snapshot. Layers that nothing leads to any more are given up; one that is only on the way to a
 *   single other frozen one may be merged with it.
 * - *fold*: a top on a layer that nobody else needs is frozen, without a snapshot, so that those two may be merged.
 *
 * Pure functions on plain values; chain-file.ts keeps them, machine-layers.ts carries them out.
 */
import { RowanError } from '../errors.ts'

export type DiskName = 'system' | 'data'
export const DISK_NAMES: readonly DiskName[] = ['system', 'data']

export interface ChainLayer {
  /** As `0001`; of the data disk `d0001`. Never given twice. */
  name: string
  /** The layer below; null for the image. Stands before this one in the list, so there are no cycles. */
  parent: string | null
  /** Grows when another layer was merged into it. */
  revision: number
}

export interface ChainDisk {
  /** The id of the image below the layers; `empty` for a disk that begins with zeros. */
  image: string
  sizeBytes: number
  /** The layer that takes the writes. */
  top: string
  /** Number of the next layer. */
  next: number
  layers: ChainLayer[]
}

export interface Snapshot {
  /** As `s1`. Never given twice. */
  name: string
  note: string
  /** ISO 8601. */
  taken: string
  /** Made only to be read, and forgotten afterwards: nobody may count on it. */
  isTemporary?: true
  /** Places in the trees; a disk that the machine did not have then is missing. */
  at: { [Disk in DiskName]?: string | null }
}

/** What is said of a snapshot that is to be made. */
export type SnapshotRequest = Pick<Snapshot, 'note' | 'taken' | 'isTemporary'>

export interface Chain {
  /** The machine's id. */
  machine: string
  disks: { system: ChainDisk; data?: ChainDisk }
  nextSnapshot: number
  /** In the order in which they were taken. */
  snapshots: Snapshot[]
}

/** A lower layer and the one upon it, to become one. */
export interface MergePair {
  disk: DiskName
  lower: string
  upper: string
}

/** The image of a disk that begins with zeros. */
export const EMPTY_IMAGE = 'empty'
/** Layers of one disk, those of all branches together. */
export const MAX_LAYERS = 256
export const MAX_SNAPSHOTS = 1024
const MAX_NOTE_CHARACTERS = 200

/** A disk with one layer, to which nothing was written. */
export function newDisk(disk: DiskName, image: string, sizeBytes: number): ChainDisk {
  const top = layerName(disk, 1)
  return { image, sizeBytes, top, next: 2, layers: [{ name: top, parent: null, revision: 0 }] }
}

export function newChain(machine: string, image: string, sizeBytes: number): Chain {
  return { machine, disks: { system: newDisk('system', image, sizeBytes) }, nextSnapshot: 1, snapshots: [] }
}

export function disksOf(chain: Chain): [DiskName, ChainDisk][] {
  return DISK_NAMES.flatMap(name => {
    const disk = chain.disks[name]
    return disk === undefined ? [] : [[name, disk] as [DiskName, ChainDisk]]
  })
}

export function layerOf(disk: ChainDisk, name: string): ChainLayer {
  const layer = disk.layers.find(each => each.name === name)
  if (layer === undefined) throw new RowanError('INTERNAL', `the chain has no layer ${name}`)
  return layer
}

/** The layers from the lowest to `place`, both included; none for the image itself. */
export function pathTo(disk: ChainDisk, place: string | null): ChainLayer[] {
  const byName = new Map(disk.layers.map(layer => [layer.name, layer]))
  const path: ChainLayer[] = []
  for (let at = place; at !== null; at = path.at(-1)!.parent) path.push(byName.get(at) ?? layerOf(disk, at))
  return path.reverse()
}

/** SNAPSHOT_UNKNOWN if there is none of this name. */
export function snapshotOf(chain: Chain, name: string): Snapshot {
  const snapshot = chain.snapshots.find(each => each.name === name)
  if (snapshot !== undefined) return snapshot
  const known = chain.snapshots.map(each => each.name).slice(-5)
  const says = known.length === 0 ? 'it has none' : `the latest are ${known.join(', ')}`
  throw new RowanError('SNAPSHOT_UNKNOWN', `the machine has no snapshot "${name}"; ${says}`)
}

/** What both commands that make a snapshot need to know. */
export interface Moment extends SnapshotRequest {
  /** Disks to whose top nothing was written. */
  emptyTops: ReadonlySet<DiskName>
}

/** The chain with a snapshot of now. LIMIT_EXCEEDED. */
export function withSnapshot(chain: Chain, moment: Moment): { chain: Chain; snapshot: Snapshot } {
  checkNote(moment.note)
  if (chain.snapshots.length >= MAX_SNAPSHOTS) {
    throw new RowanError('LIMIT_EXCEEDED', `a machine has at most ${MAX_SNAPSHOTS} snapshots; discard some`)
  }
  const at = placesNow(chain, moment.emptyTops)
  const { note, taken, isTemporary } = moment
  const temporary = isTemporary === true ? { isTemporary } : {}
  const snapshot: Snapshot = { name: `s${chain.nextSnapshot}`, note, taken, ...temporary, at }
  const changed = mapDisks(chain, (disk, name) =>
    moment.emptyTops.has(name) ? disk : withNewTop(disk, name, disk.top)
  )
  return {
    snapshot,
    chain: { ...changed, nextSnapshot: chain.nextSnapshot + 1, snapshots: [...chain.snapshots, snapshot] }
  }
}

/**
 * The chain as it was at a snapshot. `left` is the snapshot of what the machine leaves, which may be an older one.
 * SNAPSHOT_UNKNOWN, LIMIT_EXCEEDED.
 */
export function withRollback(chain: Chain, to: string, moment: Moment): { chain: Chain; left: Snapshot } {
  const { at } = snapshotOf(chain, to)
  const now = placesNow(chain, moment.emptyTops)
  const lasting = chain.snapshots.filter(each => each.isTemporary !== true)
  const same = lasting.find(each => DISK_NAMES.every(name => each.at[name] === now[name]))
  const kept = same === undefined ? withSnapshot(chain, moment) : { chain, snapshot: same }
  const changed = mapDisks(kept.chain, (disk, name) => {
    const place = at[name]
    // A disk that the machine did not have then stays as it is.
    if (place === undefined) return disk
    // By now its top is empty in any case, so it is put there instead of another.
    const top = { ...layerOf(disk, disk.top), parent: place }
    return { ...disk, layers: [...disk.layers.filter(each => each.name !== disk.top), top] }
  })
  return { chain: changed, left: kept.snapshot }
}

/** The chain without a snapshot, and the layers that nothing leads to any more. SNAPSHOT_UNKNOWN. */
export function withoutSnapshot(chain: Chain, name: string): { chain: Chain; unused: string[] } {
  const snapshot = snapshotOf(chain, name)
  const snapshots = chain.snapshots.filter(each => each !== snapshot)
  const unused: string[] = []
  const changed = mapDisks({ ...chain, snapshots }, (disk, diskName) => {
    const used = new Set<string>()
    const use = (place: string | null | undefined) => {
      for (const layer of pathTo(disk, place ?? null)) used.add(layer.name)
    }
    use(disk.top)
    for (const each of snapshots) use(each.at[diskName])
    unused.push(...disk.layers.filter(layer => !used.has(layer.name)).map(layer => layer.name))
    return { ...disk, layers: disk.layers.filter(layer => used.has(layer.name)) }
  })
  return { chain: changed, unused }
}

/** Neighbours of which the lower one is nobody's place and under nobody else; both are frozen. */
export function mergeable(chain: Chain): MergePair[] {
  return disksOf(chain).flatMap(([disk, { layers, top }]) => {
    const places = new Set(chain.snapshots.map(({ at }) => at[disk]))
    const children = new Map<string, string[]>()
    for (const { name, parent } of layers) {
      if (parent !== null) children.set(parent, [...(children.get(parent) ?? []), name])
    }
    return layers.flatMap(({ name: lower }) => {
      const [upper, another] = children.get(lower) ?? []
      if (upper === undefined || another !== undefined || upper === top || places.has(lower)) return []
      return [{ disk, lower, upper }]
    })
  })
}

/** Disks whose top stands on a layer that is nobody's place and under nobody else, and that may have another one. */
export function foldable(chain: Chain): DiskName[] {
  return disksOf(chain).flatMap(([name, disk]) => {
    const below = layerOf(disk, disk.top).parent
    const isNeeded =
      below === null ||
      disk.layers.length >= MAX_LAYERS ||
      chain.snapshots.some(({ at }) => at[name] === below) ||
      disk.layers.some(layer => layer.parent === below && layer.name !== disk.top)
    return isNeeded ? [] : [name]
  })
}

/** The chain with empty tops on those of some disks. LIMIT_EXCEEDED. */
export function withNewTops(chain: Chain, disks: ReadonlySet<DiskName>): Chain {
  return mapDisks(chain, (disk, name) => (disks.has(name) ? withNewTop(disk, name, disk.top) : disk))
}

/** The chain once all of one layer of a pair is in the other; `kept` is the name of that. */
export function withMerged(chain: Chain, pair: MergePair, kept: string): Chain {
  const disk = chain.disks[pair.disk]!
  const merged = { name: kept, parent: layerOf(disk, pair.lower).parent, revision: layerOf(disk, kept).revision + 1 }
  const rename = (name: string) => (name === pair.upper ? kept : name)
  const layers = disk.layers
    .filter(({ name }) => name !== pair.upper)
    .map(layer => {
      if (layer.name === pair.lower) return merged
      return layer.parent === null ? layer : { ...layer, parent: rename(layer.parent) }
    })
  const snapshots = chain.snapshots.map(each => {
    const place = each.at[pair.disk]
    return typeof place === 'string' ? { ...each, at: { ...each.at, [pair.disk]: rename(place) } } : each
  })
  return { ...chain, snapshots, disks: { ...chain.disks, [pair.disk]: { ...disk, layers } } }
}

export function checkNote(note: string): void {
  if (note.length > MAX_NOTE_CHARACTERS) {
    throw new RowanError('LIMIT_EXCEEDED', `a note has at most ${MAX_NOTE_CHARACTERS} characters`)
  }
  // A table shows it on a terminal.
  if (/\p{Cc}/u.test(note)) throw new RowanError('USAGE', 'a note is one line, without control characters')
}

/** The places that the machine shows now. */
function placesNow(chain: Chain, emptyTops: ReadonlySet<DiskName>): Snapshot['at'] {
  const places = disksOf(chain).map(([name, disk]) => [
    name,
    emptyTops.has(name) ? layerOf(disk, disk.top).parent : disk.top
  ])
  return Object.fromEntries(places)
}

function withNewTop(disk: ChainDisk, name: DiskName, parent: string): ChainDisk {
  if (disk.layers.length >= MAX_LAYERS) {
    throw new RowanError('LIMIT_EXCEEDED', `a disk has at most ${MAX_LAYERS} layers; discard snapshots`)
  }
  const top = layerName(name, disk.next)
  return { ...disk, top, next: disk.next + 1, layers: [...disk.layers, { name: top, parent, revision: 0 }] }
}

function mapDisks(chain: Chain, change: (disk: ChainDisk, name: DiskName) => ChainDisk): Chain {
  const { system, data } = chain.disks
  const disks = { system: change(system, 'system'), ...(data === undefined ? {} : { data: change(data, 'data') }) }
  return { ...chain, disks }
}

function layerName(disk: DiskName, number: number): string {
  return `${disk === 'data' ? 'd' : ''}${String(number).padStart(4, '0')}`
}
