/**
 * Compaction: what makes the frozen layers of a machine fewer and smaller, and quick to open, while nobody sees a difference.
 *
 * - A pair that nobody needs apart is **merged** (open-pair.ts, layer-merge.ts).
 * - **Holes** are punched where a trim came just before its layer was frozen (frozen-holes.ts).
 * - The **merged map** is saved when the saved one is too old (frozen-map-file.ts).
 * - A top that holds much twice is **folded** before: the layers do that, as a command; when it is worth it is seen here.
 *
 * All this is long, and goes on beside the guest and beside commands; so whatever it looked at may be another when it ends. What
 * becomes of that is not decided here: the end of a merge is a change of the chain, and takes its turn with the others
 * (`CompactedLayers.merged`). `run` does one thing after the other; when, and how fast, is layer-upkeep.ts's business.
 *
 * Owns: the holes that wait. Does not own the chain or the open layers (machine-layers.ts).
 */
import type { Log } from '../environment.ts'
import { type Chain, type DiskName, disksOf, layerOf, type MergePair, mergeable, pathTo } from './chain.ts'
import type { Hold } from './disk-changes.ts'
import { FrozenHoles } from './frozen-holes.ts'
import type { FrozenMap } from './frozen-map.ts'
import { FrozenMapFile } from './frozen-map-file.ts'
import type { LayerFiles } from './layer-files.ts'
import { SECTOR_BYTES } from './layer-map.ts'
import type { MergePace } from './layer-merge.ts'
import type { LayerSpace } from './layer-space.ts'
import { type LayerStack, savedIdentity } from './layer-stack.ts'
import { layerNames } from './layers-folder.ts'
import { OpenPair } from './open-pair.ts'
import type { PunchHoles } from './punch-tool.ts'

/** The layers of a machine, as they are at the moment. */
export interface CompactedLayers {
  readonly folder: string
  readonly chain: Chain
  stack(disk: DiskName): LayerStack | undefined
  /** Disks whose top can be put together with the layer below, and has something. */
  readonly toFold: ReadonlySet<DiskName>
  fold(hold?: Hold): Promise<void>
  /** One of the pair has all of both by now. False if it is no pair any more. */
  merged(pair: MergePair, open: OpenPair): Promise<boolean>
}

export interface LayerCompactionComponents {
  layers: CompactedLayers
  space: LayerSpace
  files: LayerFiles
  /** Without it space stays allocated. */
  punch?: PunchHoles | undefined
  log: Log
}

const DEFAULT_MAX_UNSAVED_LAYERS = 8

export class LayerCompaction {
  readonly #components: LayerCompactionComponents
  readonly #maxUnsavedLayers: number
  readonly #holes: FrozenHoles
  /** Called when there is something to do that no command has brought. */
  onDue: () => void = () => undefined

  /** @param maxUnsavedLayers - see MachineLayersSettings */
  constructor(components: LayerCompactionComponents, maxUnsavedLayers = DEFAULT_MAX_UNSAVED_LAYERS) {
    this.#components = components
    this.#maxUnsavedLayers = maxUnsavedLayers
    this.#holes = new FrozenHoles(components.punch, components.log)
  }

  /** Whether there is something to do for `run`. LAYER_CORRUPT, STORE_IO. */
  get isDue(): boolean {
    const { chain } = this.#components.layers
    return !this.#holes.isEmpty || this.#isFoldDue || mergeable(chain).length > 0 || this.#mapsToSave.length > 0
  }

  /** Does all there is to do, one thing after the other: a merge must not write where holes are punched. Errors as `merge`. */
  async run(pace: MergePace, hold?: Hold): Promise<void> {
    const { layers, space } = this.#components
    await this.giveBack(() => pace.breathe(0), pace.signal)
    if (this.#isFoldDue) {
      space.folded()
      await layers.fold(hold)
    }
    for (let pair = mergeable(layers.chain)[0]; pair !== undefined; pair = mergeable(layers.chain)[0]) {
      if (!(await this.merge(pair, pace)) && pace.signal.aborted) return
    }
    for (const disk of this.#mapsToSave) await this.saveMap(disk, pace)
  }

  /**
   * Makes one of two neighbours that nobody needs apart.
   *
   * @returns false if `pace.signal` fired, or the pair is no pair any more
   * @throws RowanError LAYER_CORRUPT, DISK_FULL, STORE_IO; nothing is lost
   */
  async merge(pair: MergePair, pace: MergePace): Promise<boolean> {
    const { layers, space, files, punch, log } = this.#components
    const { disk } = pair
    const { sizeBytes } = layers.chain.disks[disk]!
    const open = OpenPair.open(files, layers.folder, layers.chain, pair, layers.stack(disk)!)
    const { into } = open
    const holes = new FrozenHoles(punch, log)
    try {
      if (!(await open.merge(sizeBytes, pace, zero => holes.add(disk, into.name, zero)))) return false
      const isMerged = await layers.merged(pair, open)
      // What the upper one had trimmed may still have its space in the lower one.
      const frozen = { layer: into, sectors: Math.ceil(sizeBytes / SECTOR_BYTES) }
      const find = () => (layerNames(layers.chain).includes(into.name) ? frozen : undefined)
      if (isMerged) await holes.giveBack(find, () => pace.breathe(0), pace.signal)
      if (isMerged) space.measure()
      return isMerged
    } finally {
      open.close()
    }
  }

  /**
   * Saves the merged map of a disk's frozen layers, if enough has changed since it was saved.
   *
   * @returns false if the layers changed meanwhile, or `pace.signal` fired
   */
  async saveMap(disk: DiskName, pace: MergePace): Promise<boolean> {
    const { layers, files, log } = this.#components
    const { folder, chain } = layers
    const map = layers.stack(disk)?.frozen
    if (map === undefined || !this.#isWorthSaving(map)) return true
    const state = chain.disks[disk]!
    const identity = savedIdentity(chain, disk, pathTo(state, layerOf(state, state.top).parent))
    if (!(await FrozenMapFile.save(files, folder, map, identity, pace))) return false
    const saved = FrozenMapFile.open(files, folder, identity, map.pageCount)
    if (saved === undefined) log.warn('a map that was just saved does not fit', { folder, disk })
    map.load(map.path, saved)
    return true
  }

  /** These sectors of a layer were trimmed just before it was frozen, and have their space still. */
  leaveHoles(disk: DiskName, layer: string, start: number, end: number): void {
    this.#holes.add(disk, layer, { start, end })
    this.onDue()
  }

  /** Punches the holes that wait; nothing may be merged meanwhile. As `FrozenHoles.giveBack`. */
  async giveBack(breathe: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const find = (disk: DiskName, name: string) => {
      const stack = this.#components.layers.stack(disk)
      const layer = stack?.find(name)
      return layer === undefined ? undefined : { layer, sectors: stack!.top.map.sectors }
    }
    await this.#holes.giveBack(find, breathe, signal)
  }

  get #isFoldDue(): boolean {
    const { layers, space } = this.#components
    return space.isWorthFolding([...layers.toFold].map(disk => layers.stack(disk)!.top))
  }

  get #mapsToSave(): DiskName[] {
    const { layers } = this.#components
    return disksOf(layers.chain).flatMap(([disk]) => {
      const map = layers.stack(disk)?.frozen
      return map !== undefined && this.#isWorthSaving(map) ? [disk] : []
    })
  }

  #isWorthSaving(map: FrozenMap): boolean {
    return map.isOutdated || map.unsavedLayers > this.#maxUnsavedLayers
  }
}
